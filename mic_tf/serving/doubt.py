"""When an answer is given as `unsure`."""

import dataclasses

from mic_tf.serving.classifier import Answer, Window

UNSURE = "unsure"


@dataclasses.dataclass(frozen=True)
class Doubt:
    """Thresholds below which an answer is called unsure.

    Attributes:
      min_probability: for the probability of the family.
      min_familiarity: for the likeness to training notes, see `familiarity`.
    """

    min_probability: float = 0.0
    min_familiarity: float = 0.0

    def family(self, answer: Answer | Window) -> str:
        """The answer's family, or `unsure`; of silence there is no doubt."""
        if answer.silent:
            return answer.family
        strange = self.min_familiarity > 0 and answer.familiarity < self.min_familiarity
        if strange or answer.probability < self.min_probability:
            return UNSURE
        return answer.family


NEVER = Doubt()
"""Every answer is given as it is."""
