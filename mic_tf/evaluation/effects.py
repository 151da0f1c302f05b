"""The same note as it may arrive: in a room, through a codec, beside another one.

Effects are pedalboard's (Spotify's, a development dependency) where it has them. All
of them are functions of the note, its seed and its companion alone. Those whose
strength depends on the level (distortion, bit depth, clipping) are applied to the note
at full scale and turned back, so that they are as strong on a soft note as on a loud
one.
"""

import dataclasses
import io
import types
import zlib
from collections.abc import Callable

import numpy as np
import soundfile

from mic_tf.errors import UserError
from mic_tf.taxonomy import NOTE_SAMPLES, SAMPLE_RATE

_FULL_SCALE = 32767.0 / 32768.0


@dataclasses.dataclass(frozen=True)
class Take:
    """A note on its way through an effect.

    Attributes:
      waveform: float32 [samples] in [-1, 1].
      random: of this note and this effect alone.
      companion: a note of another family, float32 [samples]; None where there is none.
    """

    waveform: np.ndarray
    random: np.random.Generator
    companion: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Effect:
    """One thing that happens to a note.

    Attributes:
      name: as tables have it.
      words: what it does, for people.
      process: from a take to float32 [samples], of any level.
      is_mixture: whether it needs a companion.
      may_clip: whether full scale cuts what is louder; else the whole is turned down.
    """

    name: str
    words: str
    process: Callable[[Take], np.ndarray]
    is_mixture: bool = False
    may_clip: bool = False

    def __call__(
        self, waveform: np.ndarray, seed: int, companion: np.ndarray | None = None
    ) -> np.ndarray:
        """The changed note.

        Args:
          waveform: int16 [64000].
          seed: of the note.
          companion: int16 [64000] of another family, for mixtures.

        Returns:
          int16 [64000].
        """
        random = np.random.default_rng([seed, zlib.crc32(self.name.encode())])
        other = None if companion is None else _to_float(companion)
        changed = self.process(Take(_to_float(waveform), random, other))
        return _to_int16(changed, may_clip=self.may_clip)


def library() -> types.ModuleType:
    """Pedalboard.

    Raises:
      UserError: it is not installed.
    """
    try:
        import pedalboard
    except ImportError as error:
        raise UserError(
            "--effects: needs pedalboard, which is not installed; pip install -c "
            "constraints.txt pedalboard"
        ) from error
    return pedalboard


def _plugins(make: Callable[[types.ModuleType], list], *, full_scale: bool = False):
    """A process that runs pedalboard's plugins, new ones for each note."""

    def process(take: Take) -> np.ndarray:
        # Plugins keep a state, so notes on other threads need their own.
        board = library().Pedalboard(make(library()))
        level = _peak(take.waveform) if full_scale else 1.0
        return level * board(take.waveform / level, SAMPLE_RATE)

    return process


def _noise(snr_db: float) -> Callable[[Take], np.ndarray]:
    """White noise; the ratio is that of the mean powers over the whole note."""

    def process(take: Take) -> np.ndarray:
        noise = take.random.standard_normal(take.waveform.size)
        return take.waveform + _at_level(noise, take.waveform, -snr_db)

    return process


def _mixture(level_db: float) -> Callable[[Take], np.ndarray]:
    """The companion, so many dB against the note, by mean power over both notes."""

    def process(take: Take) -> np.ndarray:
        if take.companion is None:
            raise ValueError("a mixture needs a companion")
        return take.waveform + _at_level(take.companion, take.waveform, level_db)

    return process


def _mp3(kilobits: int) -> Callable[[Take], np.ndarray]:
    """LAME at a constant rate, and back by the reader of `predict`."""

    def process(take: Take) -> np.ndarray:
        library()
        from pedalboard.io import AudioFile

        content = io.BytesIO()
        quality = f"{kilobits} kbps"
        with AudioFile(
            content, "w", SAMPLE_RATE, 1, format="mp3", quality=quality
        ) as file:
            file.write(take.waveform[np.newaxis])
        content.seek(0)
        return soundfile.read(content, dtype="float32")[0]

    return process


def _first(seconds: float) -> Callable[[Take], np.ndarray]:
    return lambda take: take.waveform[: int(seconds * SAMPLE_RATE)]


EFFECTS = (
    Effect(
        "reverb",
        "a large room: size 0.7, wet 0.4, dry 0.6",
        _plugins(lambda p: [p.Reverb(room_size=0.7, wet_level=0.4, dry_level=0.6)]),
    ),
    Effect(
        "chorus",
        "1.5 Hz, depth 0.25, half of the sum",
        _plugins(lambda p: [p.Chorus(rate_hz=1.5, depth=0.25, mix=0.5)]),
    ),
    Effect(
        "distortion",
        "tanh, driven 20 dB above full scale",
        _plugins(lambda p: [p.Distortion(drive_db=20)], full_scale=True),
    ),
    Effect(
        "bit-crush",
        "steps of 1/64 of the note's peak",
        _plugins(lambda p: [p.Bitcrush(bit_depth=6)], full_scale=True),
    ),
    Effect(
        "low-pass",
        "3 kHz, 12 dB an octave",
        _plugins(lambda p: [p.LowpassFilter(3000), p.LowpassFilter(3000)]),
    ),
    Effect("noise 20 dB", "white, 20 dB below the note's mean power", _noise(20)),
    Effect("noise 10 dB", "white, 10 dB below the note's mean power", _noise(10)),
    Effect("mp3 64 kbit/s", "LAME at a constant 64 kbit/s, 16 kHz mono", _mp3(64)),
    Effect(
        "gain +12 dB",
        "12 dB louder; full scale clips",
        _plugins(lambda p: [p.Gain(12)]),
        may_clip=True,
    ),
    Effect("gain -12 dB", "12 dB softer", _plugins(lambda p: [p.Gain(-12)])),
    Effect(
        "+50 cents", "a quarter tone higher", _plugins(lambda p: [p.PitchShift(0.5)])
    ),
    Effect(
        "-50 cents", "a quarter tone lower", _plugins(lambda p: [p.PitchShift(-0.5)])
    ),
    Effect(
        "clipping",
        "cut 12 dB below the note's peak",
        _plugins(lambda p: [p.Clipping(threshold_db=-12)], full_scale=True),
    ),
    Effect("first second", "the first 1 s, silence behind it", _first(1.0)),
    Effect(
        "mixture -6 dB",
        "a second note of another family, 6 dB below",
        _mixture(-6),
        is_mixture=True,
    ),
    Effect(
        "mixture -12 dB",
        "a second note of another family, 12 dB below",
        _mixture(-12),
        is_mixture=True,
    ),
)
"""What `evaluate --effects` measures, in the order of its table."""


def _at_level(sound: np.ndarray, reference: np.ndarray, level_db: float) -> np.ndarray:
    """A sound so many dB against another, by mean power."""
    ratio = _mean_power(reference) / max(_mean_power(sound), 1e-20)
    return sound * np.sqrt(ratio * 10.0 ** (level_db / 10.0))


def _mean_power(sound: np.ndarray) -> float:
    return float(np.mean(np.square(sound, dtype=np.float64)))


def _peak(sound: np.ndarray) -> float:
    return max(float(np.abs(sound).max()), 1e-6)


def _to_float(waveform: np.ndarray) -> np.ndarray:
    return waveform.astype(np.float32) / 32768.0


def _to_int16(sound: np.ndarray, *, may_clip: bool) -> np.ndarray:
    """16 bits, 64,000 samples: zeros behind what is shorter."""
    whole = np.zeros(NOTE_SAMPLES)
    kept = np.asarray(sound, np.float64).reshape(-1)[:NOTE_SAMPLES]
    whole[: kept.size] = kept
    if not may_clip:
        whole *= min(1.0, _FULL_SCALE / _peak(whole))
    return np.clip(np.round(whole * 32768.0), -32768, 32767).astype(np.int16)
