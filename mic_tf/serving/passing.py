"""A sound on its way through the batches of a classifier."""

import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from mic_tf.audio import reading, waveforms
from mic_tf.errors import UserError

LEAST_WEIGHT = 1e-9
"""Of a silent window: nothing beside one that is not; all alike where all are."""

Sound = str | os.PathLike | np.ndarray


class SoundInPassing:
    """One sound on its way through the batches.

    Attributes:
      windows_of_it: start in seconds and waveform of each window.
      channels: how many there were before their mean was taken.
      error: what went wrong, if anything did.
      silent: whether all windows classified so far are.
      classified: how many there are.
      weight: the sum of theirs.
      probabilities: their weighted sum.
      embedding: their weighted sum.
      familiarity: the weighted sum over those that are not silent; None where there
        is none, or the model does not tell.
    """

    def __init__(
        self, windows: Iterable[tuple[float, np.ndarray]] = (), channels: int = 1
    ):
        self.windows_of_it = windows
        self.channels = channels
        self.error: UserError | None = None
        self.silent = True
        self.classified = 0
        self.weight = 0.0
        self.probabilities: Any = 0.0
        self.embedding: Any = 0.0
        self.familiarity: float | None = None
        self._read = 0
        self._ended = False

    def windows(self) -> Iterator[tuple[float, np.ndarray]]:
        """The windows; a fault ends them and becomes the sound's error."""
        try:
            for start, waveform in self.windows_of_it:
                self._read += 1
                yield start, waveform
        except UserError as error:
            self.error = error
        self._ended = True

    def heard(self, header: reading.AudioHeader) -> None:
        """Takes what the file's header says."""
        self.channels = header.channels

    def add(
        self,
        probabilities: np.ndarray,
        embedding: np.ndarray,
        familiarity: float | None,
        weight: float,
    ) -> None:
        """Takes what a model says of one window, and the weight that it has."""
        self.classified += 1
        self.silent = self.silent and weight <= LEAST_WEIGHT
        self.weight += weight
        self.probabilities += weight * probabilities.astype(np.float64)
        self.embedding += weight * embedding.astype(np.float64)
        if familiarity is not None and weight > LEAST_WEIGHT:
            self.familiarity = (self.familiarity or 0.0) + weight * familiarity

    def is_done(self) -> bool:
        return self._ended and (self.error is not None or self.classified == self._read)


def weight(window: np.ndarray) -> float:
    """How much a window counts among those of its sound: its root mean square.

    Args:
      window: float32 [samples].

    Returns:
      `LEAST_WEIGHT` where it is silent, else more.
    """
    if waveforms.is_silent(window):
        return LEAST_WEIGHT
    return waveforms.root_mean_square(window)


def in_passing(sound: Sound, sample_rate: float | None) -> SoundInPassing:
    """A file, or a waveform with its rate, ready to be classified."""
    if isinstance(sound, str | os.PathLike):
        if sample_rate is not None:
            raise UserError(
                f"{sound}: a file says its own sample rate; {sample_rate} is not needed"
            )
        from_file = SoundInPassing()
        from_file.windows_of_it = reading.windows(sound, on_header=from_file.heard)
        return from_file
    if sample_rate is None:
        raise UserError(
            "waveform without a sample rate: classifier(waveform, sample_rate) expected"
        )
    try:
        waveform = np.asarray(sound)
    except ValueError as error:
        raise UserError(
            f"waveform: {type(sound).__name__} of rows that are not of one length; "
            "[samples] or [samples, channels] expected"
        ) from error
    channels = waveform.shape[1] if waveform.ndim == 2 else 1
    return SoundInPassing(waveforms.windows(waveform, sample_rate), channels)
