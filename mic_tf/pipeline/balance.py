"""How families are balanced: acceptance rates, class weights, target shares."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from mic_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class Balance:
    """What balancing does to a training set.

    Attributes:
      initial: share of each family in the data, float64 [families].
      target: share of each family in what comes out, float64 [families].
      acceptance: probability with which a note of each family is taken in a pass,
        float64 [families].
      class_weight: factor of each family's loss, float64 [families].
    """

    initial: np.ndarray
    target: np.ndarray
    acceptance: np.ndarray
    class_weight: np.ndarray

    @property
    def reads_per_note(self) -> float:
        """Expected records read for each one that comes out."""
        return 1.0 / float(self.initial @ self.acceptance)


def balance(
    counts: np.ndarray, method: str, alpha: float, weights: np.ndarray | None = None
) -> Balance:
    """Acceptance rates and weights that lead from the data's shares to the target.

    The rates are those of rejection sampling (von Neumann 1951; the same
    distribution as `tf.data.Dataset.rejection_resample`): proportional to target
    over initial, the largest one 1.

    Args:
      counts: notes of each family, int [families]. A family without notes is left
        out of the target; a target with it would never be reached.
      method: `rejection`, `streams`, `class_weight` or `none`.
      alpha: 0 for the data's own shares, 1 for uniform ones, between them a mixture.
      weights: factor of each family's share of that mixture, float [families];
        nothing: 1.

    Returns:
      The balance; `none` accepts everything, `class_weight` too.
    """
    counts = np.asarray(counts, np.float64)
    present = counts > 0
    initial = counts / counts.sum()
    uniform = present / present.sum()
    mixture = alpha * uniform + (1 - alpha) * initial
    if weights is not None:
        mixture = mixture * weights / (mixture @ weights)
    ratio = np.divide(mixture, initial, out=np.zeros_like(initial), where=present)
    everything = present.astype(np.float64)
    # A family that is not here may come from another set, with full weight.
    alike = np.ones_like(initial)
    if method in ("rejection", "streams"):
        return Balance(initial, mixture, ratio / ratio.max(), alike)
    if method == "class_weight":
        return Balance(initial, initial, everything, ratio)
    return Balance(initial, initial, everything, alike)


def parse_weights(text: str, families: Sequence[str]) -> np.ndarray:
    """Reads `--family_weights`.

    Args:
      text: as `guitar:3,vocal:0.5`.
      families: the names in their order.

    Returns:
      A factor for each family, float64 [families]; 1 where nothing is said.

    Raises:
      UserError: a family that is not there, or a weight that is no positive number.
    """
    weights = np.ones(len(families))
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = part.partition(":")
        if name not in families:
            raise UserError(
                f"--family_weights={text}: {name} is none of {', '.join(families)}"
            )
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not 0 < weight < math.inf:
            raise UserError(
                f"--family_weights={text}: {part}; a positive number expected, as "
                f"{name}:2"
            )
        weights[families.index(name)] = weight
    return weights
