"""SoundFonts: where the default one lies, what is in one, and how a note sounds."""

import functools
import hashlib
import importlib.util
import os
import threading

import numpy as np

from mic_tf.datasets.soundfont_notes.general_midi import PROGRAMS
from mic_tf.datasets.soundfont_notes.planning import Instrument, PlannedNote
from mic_tf.errors import UserError
from mic_tf.taxonomy import NOTE_SAMPLES, SAMPLE_RATE

DEFAULT_FILE = "TimGM6mb.sf2"

# The synthesizer interpolates linearly; at 16 kHz that folds partials of the upper
# octaves back (30 dB more of it at a bass's pitch 84), so it runs at a multiple.
_OVERSAMPLING = 3
_HELD_SECONDS = 3
_RELEASE_SECONDS = 1
# A voice that is cut off fades within 10 ms; it must not reach the next note.
_FLUSH_SAMPLES = _OVERSAMPLING * SAMPLE_RATE // 50
_LARGEST_PEAK = 0.99
_BANKS = range(0, 120, 8)
"""Roland GS's capital tones and their variations.

Other banks hold what a SoundFont's author put there: the same sounds again for another
controller, which would be one instrument in two splits, layers of several instruments,
and from 120 on drums.
"""
_PROGRAMS_A_BANK = 128


def default_path() -> str:
    """The SoundFont that comes with the package pretty_midi, found without importing.

    Raises:
      UserError: the package is not installed.
    """
    found = importlib.util.find_spec("pretty_midi")
    for folder in (found and found.submodule_search_locations) or ():
        path = os.path.join(folder, DEFAULT_FILE)
        if os.path.isfile(path):
            return path
    raise UserError(
        f"{DEFAULT_FILE} comes with the package pretty_midi, which is not installed: "
        "`pip install pretty_midi`, or give another with --soundfont=PATH"
    )


def stem(path: str) -> str:
    """A SoundFont's name inside instrument names; empty for the default one."""
    name = os.path.splitext(os.path.basename(path))[0]
    if os.path.basename(path) == DEFAULT_FILE:
        return ""
    return "".join(c if c.isalnum() else "_" for c in name.lower()).strip("_")


def digest(path: str) -> str:
    """The first 16 hexadecimal digits of a file's SHA-256.

    Raises:
      UserError: there is no such file.
    """
    try:
        with open(path, "rb") as file:
            hashed = hashlib.sha256()
            while block := file.read(1 << 20):
                hashed.update(block)
            return hashed.hexdigest()[:16]
    except OSError as error:
        raise UserError(f"--soundfont={path}: {error.strerror}") from error


class SoundFont:
    """A loaded SoundFont (SF2 or SF3) that renders notes the way NSynth was made."""

    def __init__(self, path: str):
        """Loads the file.

        Raises:
          UserError: it is missing or no SoundFont, or tinysoundfont is not installed.
        """
        try:
            import tinysoundfont
        except ImportError as error:
            raise UserError(
                "rendering needs tinysoundfont: `pip install --no-deps tinysoundfont`"
            ) from error
        if not os.path.isfile(path):
            raise UserError(f"--soundfont={path}: no such file")
        self.path = path
        self._rate = _OVERSAMPLING * SAMPLE_RATE
        self._one_at_a_time = threading.Lock()
        self._synth = tinysoundfont.Synth(samplerate=self._rate)
        try:
            self._id = self._synth.sfload(path)
        except Exception as error:
            raise UserError(
                f"--soundfont={path}: not a SoundFont that can be read; "
                "an SF2 or SF3 file expected"
            ) from error

    @functools.cached_property
    def instruments(self) -> tuple[Instrument, ...]:
        """The instruments of NSynth's families: General MIDI's and GS's variations."""
        return tuple(
            Instrument(
                name=_instrument_name(program, bank, stem(self.path)),
                family=program.family,
                source=program.source,
                soundfont=self.path,
                bank=bank,
                program=program.number,
                low=program.low,
                high=program.high,
            )
            for bank in _BANKS
            for program in PROGRAMS
            if self.has(bank, program.number)
        )

    def has(self, bank: int, program: int) -> bool:
        """Whether there is such a preset."""
        return bool(self._synth.sfpreset_name(self._id, bank, program))

    def render(self, note: PlannedNote) -> np.ndarray:
        """A note as int16 [64000] at 16 kHz: 3 s held, 1 s release, never clipped.

        Stereo is averaged. A note whose peak would pass 0.99 is scaled down to it;
        all others keep their level, so that velocities keep their loudness. Threads
        may share a SoundFont; one renders at a time.
        """
        import soxr

        synth, instrument = self._synth, note.instrument
        with self._one_at_a_time:
            synth.sounds_off()
            synth.generate(_FLUSH_SAMPLES)
            synth.program_select(0, self._id, instrument.bank, instrument.program)
            synth.noteon(0, note.pitch, note.velocity)
            held = self._generate(_HELD_SECONDS)
            synth.noteoff(0, note.pitch)
            released = self._generate(_RELEASE_SECONDS)
        stereo = np.concatenate([held, released])
        waveform = soxr.resample(stereo.mean(axis=1), self._rate, SAMPLE_RATE)
        waveform = waveform[:NOTE_SAMPLES]
        peak = float(np.abs(waveform).max())
        if peak > _LARGEST_PEAK:
            waveform = waveform * (_LARGEST_PEAK / peak)
        return np.round(waveform * 32767.0).astype(np.int16)

    def _generate(self, seconds: int) -> np.ndarray:
        buffer = self._synth.generate(seconds * self._rate)
        return np.frombuffer(bytes(buffer), np.float32).reshape(-1, 2)


def _instrument_name(program, bank: int, soundfont: str) -> str:
    number = f"{bank * _PROGRAMS_A_BANK + program.number:03d}"
    parts = [program.family, program.source, soundfont, number]
    return "_".join(part for part in parts if part)
