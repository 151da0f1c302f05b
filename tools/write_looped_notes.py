"""Writes training notes as small samplers play them: a short piece, looped.

Usage:
  python tools/write_looped_notes.py --dataset=nsynth_jsonwav --data_dir=data \
    --out=loops
  python -m mic_tf.prepare --dataset=sample_folder/loops --source=loops --data_dir=data

Small SoundFonts keep the attack of a note and some periods behind it, which go round
for as long as a key is held: no vibrato, no bow, no breath between the harmonics. Each
note of the data set's `train` split becomes --copies files FAMILY/INSTRUMENT/name.wav,
looped from a moment and over a length drawn for each. Notes that do not repeat are left
out.
"""

import pathlib
import sys
import zlib
from typing import TYPE_CHECKING

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import flags

from mic_tf import command
from mic_tf.taxonomy import SAMPLE_RATE
from tools import training_notes

if TYPE_CHECKING:
    import numpy as np

_TIMES = 4
"""Times the sample rate at which loops are cut: a period is rarely whole samples."""

_RATE = _TIMES * SAMPLE_RATE

_EARLIEST, _LATEST = 0.05, 0.8
"""Seconds after the onset at which a loop begins."""

_LONGEST = 0.5
"""Seconds of a loop at most."""

_MOST_PERIODS = 32

_ALIKE = 0.9
"""Correlation, at least, of what is before the seam with what is behind it."""

_ONSET_DB = 40.0
"""A note begins where it is within this of its loudest point."""

_FRAME = 0.02
"""Seconds over which a level is taken."""

_LARGEST_GAIN = 4.0


def main(arguments: list[str]) -> None:
    """Writes the files and prints how many."""
    training_notes.write(arguments, _write)


def _write(note: training_notes.Note, copy: int, path: pathlib.Path) -> bool:
    """A note looped in one way."""
    import numpy as np
    import soundfile

    random = np.random.default_rng([copy, zlib.crc32(note.name.encode())])
    sound = looped(note.waveform, note.pitch, random)
    if sound is not None:
        soundfile.write(f"{path}.wav", sound, SAMPLE_RATE)
    return sound is not None


def looped(
    sound: "np.ndarray", pitch: int, random: "np.random.Generator"
) -> "np.ndarray | None":
    """A note whose sound stands still after its attack.

    Args:
      sound: float32 [samples] at 16 kHz.
      pitch: MIDI pitch, near which the periods are looked for.
      random: draws where the loop begins and how long it is.

    Returns:
      float32 [samples] with the level over time that it had; None where no piece of up
      to half a second repeats.
    """
    import numpy as np
    import soxr

    fine = soxr.resample(sound, SAMPLE_RATE, _RATE)
    level = _level(fine)
    loud = np.flatnonzero(level > level.max() * 10.0 ** (-_ONSET_DB / 20.0))
    if not len(loud):
        return None
    start = loud[0] + int(random.uniform(_EARLIEST, _LATEST) * _RATE)
    period = _RATE / (440.0 * 2.0 ** ((pitch - 69) / 12.0))
    periods = 2.0 ** random.uniform(0.0, np.log2(_MOST_PERIODS))
    while (about := round(periods) * period) <= _LONGEST * _RATE:
        length = _seamless(fine, start, about, period)
        if length:
            return _held(fine, level, start, length)[: len(sound)]
        periods *= 2.0
    return None


def _seamless(sound: "np.ndarray", start: int, about: float, period: float) -> int:
    """The length, within half a period of one asked for, after which a sound repeats.

    Returns:
      Samples; 0 where it does not.
    """
    import numpy as np

    seen = int(max(2.0 * period, 0.004 * _RATE))
    first, last = int(about - 0.5 * period), int(about + 0.5 * period) + 1
    first = max(first, int(0.5 * period))
    piece = sound[start : start + seen]
    later = sound[start + first : start + last + seen]
    if len(later) < last - first + seen or not np.any(piece):
        return 0
    products = np.correlate(later, piece)
    energy = np.convolve(later**2, np.ones(seen), "valid")
    alike = products / np.sqrt(np.maximum(energy * np.sum(piece**2), 1e-12))
    best = int(np.argmax(alike))
    return first + best if alike[best] >= _ALIKE else 0


def _held(
    sound: "np.ndarray", level: "np.ndarray", start: int, length: int
) -> "np.ndarray":
    """A loop for the rest of a sound, with its level; at 16 kHz."""
    import numpy as np
    import soxr

    loop = sound[start : start + length].copy()
    fade = min(length // 2, start)
    weight = np.linspace(0.0, 1.0, fade, dtype=np.float32)
    # The end of the loop goes over into what was before its start.
    loop[length - fade :] *= 1.0 - weight
    loop[length - fade :] += weight * sound[start - fade : start]
    held = sound.copy()
    held[start:] = np.resize(loop, len(sound) - start)
    gain = np.minimum(level / np.maximum(_level(held), 1e-6), _LARGEST_GAIN)
    held[start:] *= gain[start:]
    return np.clip(soxr.resample(held, _RATE, SAMPLE_RATE), -1.0, 1.0)


def _level(sound: "np.ndarray") -> "np.ndarray":
    """Root mean square around each sample, float32 [samples]."""
    import numpy as np

    width = int(_FRAME * _RATE)
    sums = np.cumsum(np.pad(np.square(sound, dtype=np.float64), (width, width)))
    power = (sums[2 * width :] - sums[: -2 * width]) / (2.0 * width)
    return np.sqrt(np.maximum(power, 0.0)).astype(np.float32)


if __name__ == "__main__":
    training_notes.define_flags()
    flags.adopt_module_key_flags(training_notes)
    command.run(main)
