"""Waveforms in memory: checked, brought to 16 kHz, cut into windows."""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import soxr

from mic_tf.errors import UserError
from mic_tf.taxonomy import MIN_SAMPLES, NOTE_SAMPLES, SAMPLE_RATE

MIN_RATE, MAX_RATE = 8_000, 192_000
MAX_CHANNELS = 8
SILENCE_PEAK = 1e-3
"""A sound that swings around a constant by this, -60 dB of full scale, is silence."""
_BEGINNING = 1 << 16
"""Samples of which a constant is told, before a sound is resampled."""
MAX_AMPLITUDE = 2.0**31
"""Float files in integer units are as loud as this; more overflows a spectrum."""


def windows(
    waveform: np.ndarray, sample_rate: float, hop_samples: int = NOTE_SAMPLES
) -> Iterator[tuple[float, np.ndarray]]:
    """The windows of a waveform in memory, as `reading.windows` gives them for a file.

    Args:
      waveform: [samples] or [samples, channels]; float in about [-1, 1], or integers
        (8 bits unsigned, 16 or 32 bits signed) that use their full range.
      sample_rate: in Hz.
      hop_samples: distance between windows, at most a window's length.

    Raises:
      UserError: the shape, dtype, rate or a sample is not accepted, or the sound is
        shorter than 50 ms.
    """
    sample_rate = check_rate("waveform", sample_rate)
    if waveform.ndim not in (1, 2) or not 1 <= waveform[:1].size <= MAX_CHANNELS:
        raise UserError(
            f"waveform: shape {list(waveform.shape)}; [samples] or [samples, channels] "
            f"of 1 to {MAX_CHANNELS} channels expected"
        )
    samples = as_float(waveform)
    check_samples("waveform", samples)
    samples = samples.reshape(len(samples), -1)
    mean = ChannelMean("waveform", samples.shape[1])
    blocks = [mean.of(samples)]
    mean.check()
    return timed("waveform", cut(resampled(blocks, sample_rate), hop_samples))


def cut(
    blocks: Iterable[np.ndarray], hop_samples: int = NOTE_SAMPLES
) -> Iterator[tuple[int, np.ndarray]]:
    """Cuts a stream of blocks into windows of 64,000 samples, the last at the end.

    Args:
      blocks: consecutive pieces of one waveform, of any lengths.
      hop_samples: distance between windows, 1 to 64,000 samples.

    Yields:
      First sample and waveform; a waveform of up to 64,000 samples is one window.
    """
    if not 0 < hop_samples <= NOTE_SAMPLES:
        raise UserError(f"hop of {hop_samples} samples; 1 to {NOTE_SAMPLES} expected")
    held, start = np.empty(0, np.float32), 0
    for block in blocks:
        held = np.concatenate([held, block]) if held.size else block
        while held.size >= NOTE_SAMPLES + hop_samples:
            yield start, held[:NOTE_SAMPLES].copy()
            held, start = held[hop_samples:], start + hop_samples
    yield start, held[:NOTE_SAMPLES].copy()
    if held.size > NOTE_SAMPLES:
        yield start + held.size - NOTE_SAMPLES, held[-NOTE_SAMPLES:].copy()


def timed(
    name: str, cut_windows: Iterable[tuple[int, np.ndarray]]
) -> Iterator[tuple[float, np.ndarray]]:
    """Starts in seconds instead of samples; refuses a sound shorter than 50 ms."""
    for start, waveform in cut_windows:
        if waveform.size < MIN_SAMPLES:
            raise UserError(
                f"{name}: {1000 * waveform.size / SAMPLE_RATE:.3g} ms long "
                f"({waveform.size} samples at 16 kHz); at least "
                f"{1000 * MIN_SAMPLES / SAMPLE_RATE:.0f} ms expected"
            )
        yield start / SAMPLE_RATE, waveform


def resampled(blocks: Iterable[np.ndarray], rate: float) -> Iterator[np.ndarray]:
    """Brings a stream of float32 mono blocks from a rate in Hz to 16 kHz.

    Around the mean of its beginning: before and after a sound there is nothing, and a
    constant would become a step at both ends, which rings.
    """
    if rate == SAMPLE_RATE:
        yield from blocks
        return
    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    blocks, beginning = iter(blocks), np.empty(0, np.float32)
    while beginning.size < _BEGINNING and (block := next(blocks, None)) is not None:
        beginning = np.concatenate([beginning, block]) if beginning.size else block
    offset = np.float32(beginning[:_BEGINNING].mean() if beginning.size else 0.0)
    for block in itertools.chain([beginning], blocks):
        out = stream.resample_chunk(block - offset)
        if out.size:
            yield out + offset
    rest = stream.resample_chunk(np.empty(0, np.float32), last=True)
    if rest.size:
        yield rest + offset


def as_float(waveform: np.ndarray) -> np.ndarray:
    """Samples as float32 in about [-1, 1], whatever integers or floats they were.

    Raises:
      UserError: a dtype that is not accepted.
    """
    if np.issubdtype(waveform.dtype, np.floating):
        # Doubles beyond float32 become infinite and are refused as such.
        with np.errstate(over="ignore"):
            return waveform.astype(np.float32)
    if waveform.dtype == np.uint8:
        return waveform.astype(np.float32) / 128.0 - 1.0
    if waveform.dtype.newbyteorder("=") in (np.int16, np.int32):
        samples = waveform.astype(np.float32)
        samples *= np.float32(-1.0 / np.iinfo(waveform.dtype).min)
        return samples
    raise UserError(
        f"waveform: dtype {waveform.dtype}; float, int16, int32 or uint8 expected"
    )


def check_rate(name: str, rate: float) -> float:
    """Refuses a sample rate outside 8 to 192 kHz.

    Returns:
      The rate as a number, also of an array or a tensor of one.

    Raises:
      UserError: with the name of what has that rate.
    """
    try:
        number = None if isinstance(rate, str | bytes) else float(rate)
    except (TypeError, ValueError):
        number = None
    if number is None:
        raise UserError(f"{name}: sample rate {rate!r}; a number of Hz expected")
    if not MIN_RATE <= number <= MAX_RATE:
        raise UserError(
            f"{name}: sample rate {rate} Hz; {MIN_RATE} to {MAX_RATE} Hz expected"
        )
    return number


def check_samples(name: str, samples: np.ndarray, first: int = 0) -> None:
    """Refuses samples that are not finite or absurdly large.

    Args:
      name: of the file, for the message.
      samples: [samples] or [samples, channels] float.
      first: index of the first sample within the file.

    Raises:
      UserError: with the first such value and its place.
    """
    # NaN is its own peak and compares false, so one comparison finds all three faults.
    if peak(samples) <= MAX_AMPLITUDE:
        return
    place = tuple(np.argwhere(~(np.abs(samples) <= MAX_AMPLITUDE))[0])
    raise UserError(
        f"{name}: sample {first + place[0]} is {samples[place]:g}; "
        "finite numbers between -1 and 1 expected"
    )


def check_window(name: str, window: np.ndarray) -> None:
    """Refuses what `windows` would not give.

    Raises:
      UserError: with the name of the window.
    """
    if window.ndim != 1 or not MIN_SAMPLES <= window.size <= NOTE_SAMPLES:
        raise UserError(
            f"{name}: shape {list(window.shape)}; [{MIN_SAMPLES} to {NOTE_SAMPLES}] "
            "samples expected"
        )
    if window.dtype != np.float32:
        raise UserError(f"{name}: dtype {window.dtype}; float32 expected")
    check_samples(name, window)


class ChannelMean:
    """The mean over the channels of a sound, block by block.

    A channel that is another one upside down is heard, and gone in the mean; a sound of
    which nothing else is left is no silence.

    Args:
      name: of the file, for the message.
      channels: how many there are.
    """

    def __init__(self, name: str, channels: int):
        self._name = name
        self._is_heard = channels == 1
        # Of each channel, and of the mean.
        self._lowest = np.full(channels + 1, np.inf, np.float32)
        self._highest = np.full(channels + 1, -np.inf, np.float32)

    def of(self, samples: np.ndarray) -> np.ndarray:
        """One block, not empty: float32 [samples, channels] to [samples]."""
        if samples.shape[1] == 1:
            return samples[:, 0]
        mean = samples.mean(axis=1)
        self._is_heard = self._is_heard or not is_silent(mean)
        if not self._is_heard:
            both = np.concatenate([samples, mean[:, np.newaxis]], axis=1)
            self._lowest = np.minimum(self._lowest, both.min(axis=0))
            self._highest = np.maximum(self._highest, both.max(axis=0))
        return mean

    def check(self) -> None:
        """Refuses the sound behind its last block if its channels cancelled out.

        Raises:
          UserError: the mean is silent, and a channel has more than what it leaves in
            a mean with channels that are silent.
        """
        if self._is_heard:
            return
        *swings, of_mean = (self._highest - self._lowest) / 2
        if of_mean <= SILENCE_PEAK and max(swings) > len(swings) * SILENCE_PEAK:
            raise UserError(
                f"{self._name}: its {len(swings)} channels cancel each other out: "
                f"their mean is silence, one alone reaches {max(swings):.3f}; one "
                "channel of them expected"
            )


def swing(samples: np.ndarray) -> float:
    """Half the way from the lowest to the highest sample: the peak without offset."""
    if not samples.size:
        return 0.0
    return (float(samples.max()) - float(samples.min())) / 2


def is_silent(samples: np.ndarray) -> bool:
    """Whether there is nothing to be heard in float samples."""
    return swing(samples) <= SILENCE_PEAK


def root_mean_square(samples: np.ndarray) -> float:
    """The root mean square of float32 samples around their mean; 0 of none."""
    if not samples.size:
        return 0.0
    # Scalar products take a third of the time of NumPy's own mean.
    mean = np.dot(samples, np.ones_like(samples)) / samples.size
    around = samples - np.float32(mean)
    return float(np.sqrt(np.dot(around, around) / around.size))


def peak(samples: np.ndarray) -> float:
    """The largest amplitude of float samples; NaN where there is one, 0 of none."""
    if not samples.size:
        return 0.0
    return float(np.maximum(samples.max(), -samples.min()))
