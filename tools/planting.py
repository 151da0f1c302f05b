"""Faults put into notes on purpose, so that it is known what an audit has to find."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import soxr

from mic_tf import taxonomy
from mic_tf.datasets import schema
from mic_tf.errors import UserError
from mic_tf.evaluation.audit import RATES, Finding
from mic_tf.pipeline.index import NoteIndex
from tools.small_sets import Note

Found = dict[str, set[frozenset[str]]]
"""By kind of finding the sets of note ids (for an instrument in two splits: of its
name) that it names."""

Change = Callable[[np.ndarray], np.ndarray]
"""Takes samples and gives others, float64 [64000] of 16-bit values."""

_AUDIBLE = 300
_FAINT = 1e-3
_WRONG_SEMITONES = (2, 3, 4, 8, 9, 10)
"""No octave, and none of the differences that the audit's `RATES` make."""


def clean_note(
    family: str, instrument: int, pitch: int, *, sounding: float | None = None
) -> Note:
    """A note whose partials and decay tell instruments of a family apart.

    Args:
      family: of the note.
      instrument: number of the instrument.
      pitch: as labelled.
      sounding: the pitch that is heard; default: the labelled one.
    """
    random = np.random.default_rng([7, taxonomy.FAMILIES.index(family), instrument])
    time = np.arange(taxonomy.NOTE_SAMPLES) / taxonomy.SAMPLE_RATE
    frequency = 440.0 * 2 ** (((sounding or pitch) - 69) / 12)
    amplitudes = random.uniform(0.05, 1.0, 8) ** 2
    amplitudes[0] = 1.0
    partials = sum(
        a * np.sin(2 * np.pi * frequency * k * time + random.uniform(0, 6))
        for k, a in enumerate(amplitudes, start=1)
        if frequency * k < 7000
    )
    waveform = partials * np.exp(-time * random.uniform(0.1, 2.0))
    waveform /= np.abs(waveform).max()
    waveform += 1e-4 * np.random.default_rng(pitch).standard_normal(len(time))
    audio = np.round(12_000 * waveform).astype(np.int16)
    return labelled(audio, family, f"{family}_acoustic_{instrument:03d}", pitch)


def clean_splits(
    families: Iterable[str],
    instruments: Mapping[str, Iterable[int]],
    pitches: Iterable[int],
) -> dict[str, list[Note]]:
    """Notes without any fault.

    Args:
      families: of the notes.
      instruments: by split the numbers of each family's instruments.
      pitches: of each instrument.
    """
    return {
        split: [
            clean_note(family, number, pitch)
            for family, number, pitch in itertools.product(families, numbers, pitches)
        ]
        for split, numbers in instruments.items()
    }


def labelled(
    audio: np.ndarray, family: str, instrument: str, pitch: int, velocity: int = 100
) -> Note:
    """A record of int16 samples, named as NSynth names its notes."""
    return schema.record(
        f"{instrument}-{pitch:03d}-{velocity:03d}",
        audio,
        instrument=instrument,
        family=family,
        source="acoustic",
        pitch=pitch,
        velocity=velocity,
    )


def changed(note: Note, change: Change) -> Note:
    """The note with other samples: float64 [64000] of 16-bit values in and out."""
    samples = np.clip(np.round(change(note["audio"].astype(np.float64))), -32768, 32767)
    return {**note, "audio": samples.astype(np.int16)}


def by_kind(index: NoteIndex, findings: Iterable[Finding]) -> Found:
    """What findings name, to be compared with what was planted."""
    kinds: Found = defaultdict(set)
    for finding in findings:
        rows = list(finding.rows)
        names = index.ids[rows]
        if finding.kind == "instrument_in_two_splits":
            names = [index.instruments[i] for i in index.instrument[rows]]
        kinds[finding.kind].add(frozenset(map(str, names)))
    return dict(kinds)


class Planting:
    """Plants faults of random strength, each into a note that had none.

    Attributes:
      expected: what an audit has to find.
      cut: by id, samples that are left of notes whose records are to be cut short.
      not_finite: ids of notes that are to have NaN.
    """

    NOTES_OF_EACH = 13
    """Notes that one fault of every kind takes."""

    def __init__(self, splits: dict[str, list[Note]], known: Found, seed: int):
        """Takes notes, and what an audit says of them as they are.

        Args:
          splits: notes by split; the lists stay as they are.
          known: findings whose notes are left alone.
          seed: of what is chosen and how strongly it is changed.
        """
        self.expected: Found = defaultdict(set)
        self.cut: dict[str, int] = {}
        self.not_finite: set[str] = set()
        self._notes = {n["id"]: n for notes in splits.values() for n in notes}
        self._split = {n["id"]: name for name, notes in splits.items() for n in notes}
        self._names = list(splits)
        self._families = sorted(
            {note["instrument"]["family"] for note in self._notes.values()}
        )
        self._known = known
        self._random = np.random.default_rng(seed)
        named = set().union(*(ids for sets in known.values() for ids in sets))
        self._free = [
            name
            for name, note in self._notes.items()
            if name not in named
            and note["pitch"] >= 0
            and np.abs(note["audio"]).max() > _AUDIBLE
        ]
        self._random.shuffle(self._free)
        self._copies = 0

    @property
    def splits(self) -> dict[str, list[Note]]:
        """The notes, those with faults among them."""
        return {
            split: [n for name, n in self._notes.items() if self._split[name] == split]
            for split in self._names
        }

    def plant(self, count: int) -> None:
        """Plants so many faults of every kind.

        Raises:
          UserError: all notes are of one family or one split, or there are too few
            with a pitch and without a finding.
        """
        if len(self._families) < 2 or len(self._names) < 2:
            raise UserError("notes of two families and two splits are needed")
        if count * self.NOTES_OF_EACH > len(self._free):
            raise UserError(
                f"{count} faults of every kind need {count * self.NOTES_OF_EACH} "
                f"notes with a pitch and no finding; there are {len(self._free)}"
            )
        # First, as later ones may take the other notes of an instrument.
        for _ in range(count):
            self._move_to_another_split()
        for number in range(count):
            even = number % 2 == 0
            self._duplicate(across=even)
            self._twin(across=even)
            self._disagree("duplicate" if even else "near_twin")
            self._remember_to_cut()
            self._in_place("silence", self._silenced)
            self._in_place("noise", self._as_noise)
            self._in_place("clipping", self._clipped)
            self._in_place("dc_offset", self._off_zero)
            self._in_place("rate", self._at_another_rate)
            self._label_outside()
            self._label_wrong_pitch()
            self.not_finite.add(self._take())

    def _take(self) -> str:
        return self._free.pop()

    def _expect(self, kind: str, *names: str) -> None:
        self.expected[kind].add(frozenset(names))

    def _between(self, low: float, high: float) -> float:
        return float(self._random.uniform(low, high))

    def _other_split(self, split: str) -> str:
        others = [name for name in self._names if name != split]
        return str(self._random.choice(others)) if others else split

    def _move_to_another_split(self) -> None:
        """A note leaves the others of its instrument."""
        kind = "instrument_in_two_splits"
        done = self.expected[kind] | self._known.get(kind, set())
        for place in reversed(range(len(self._free))):
            note = self._notes[self._free[place]]
            split, label = self._split[note["id"]], note["instrument"]["label"]
            beside = [
                name
                for name, other in self._notes.items()
                if other["instrument"]["label"] == label and self._split[name] == split
            ]
            if len(beside) > 1 and frozenset({label}) not in done:
                self._split[self._free.pop(place)] = self._other_split(split)
                self._expect(kind, label)
                return
        raise UserError("no further instrument has two notes without a finding")

    def _add(self, like: Note, split: str, family: str = "") -> str:
        """A copy of a note as that of a new instrument."""
        self._copies += 1
        family = family or like["instrument"]["family"]
        instrument = f"{family}_planted_{self._copies:03d}"
        note = labelled(like["audio"], family, instrument, like["pitch"])
        self._notes[note["id"]] = note
        self._split[note["id"]] = split
        return note["id"]

    def _duplicate(self, *, across: bool) -> None:
        """Byte for byte, as another instrument."""
        name = self._take()
        split = self._split[name]
        goal = self._other_split(split) if across else split
        self._expect("duplicate", name, self._add(self._notes[name], goal))

    def _twin(self, *, across: bool) -> None:
        """Turned down, with faint noise; elsewhere, or as another velocity."""
        name = self._take()
        note, split = self._notes[name], self._split[name]
        softer = changed(note, self._turned_down)
        if across:
            other = self._add(softer, self._other_split(split))
        else:
            other = f"{name}-softer"
            self._notes[other] = {**softer, "id": other, "velocity": 1}
            self._split[other] = split
        self._expect("near_twin", name, other)

    def _disagree(self, kind: str) -> None:
        """The same sound under another family."""
        name = self._take()
        note = self._notes[name]
        own = note["instrument"]["family"]
        family = str(self._random.choice([f for f in self._families if f != own]))
        like = note if kind == "duplicate" else changed(note, self._turned_down)
        other = self._add(like, self._split[name], family=family)
        self._expect(kind, name, other)
        self._expect("label_conflict", name, other)

    def _in_place(self, kind: str, change: Change) -> None:
        name = self._take()
        self._notes[name] = changed(self._notes[name], change)
        self._expect(kind, name)

    def _remember_to_cut(self) -> None:
        name = self._take()
        self.cut[name] = int(self._between(0.1, 0.95) * taxonomy.NOTE_SAMPLES)
        self._expect("length", name)

    def _label_outside(self) -> None:
        """Octaves away, so that the sound itself does not contradict."""
        name = self._take()
        note = self._notes[name]
        tone = note["pitch"] % 12
        outside = [p for p in (*range(9, 21), *range(109, 121)) if p % 12 == tone]
        pitch = int(self._random.choice(outside))
        self._notes[name] = {**note, "pitch": pitch}
        self._expect("pitch_range", name)

    def _label_wrong_pitch(self) -> None:
        name = self._take()
        note = self._notes[name]
        by = int(self._random.choice(_WRONG_SEMITONES) * self._random.choice([-1, 1]))
        pitch = note["pitch"] + by
        pitch -= 2 * by * (not 21 <= pitch <= 108)
        self._notes[name] = {**note, "pitch": pitch}
        self._expect("pitch", name)

    def _turned_down(self, samples: np.ndarray) -> np.ndarray:
        noise = self._random.standard_normal(samples.size)
        softer = self._between(0.1, 0.8) * samples
        return softer + _FAINT * np.abs(softer).max() * noise

    def _silenced(self, samples: np.ndarray) -> np.ndarray:
        return self._between(0.0, 0.0009) * 32768 * samples / np.abs(samples).max()

    def _as_noise(self, samples: np.ndarray) -> np.ndarray:
        """White to pink, as loud as the note was."""
        spectrum = np.fft.rfft(self._random.standard_normal(samples.size))
        frequency = np.maximum(np.fft.rfftfreq(samples.size), 20 / taxonomy.SAMPLE_RATE)
        noise = np.fft.irfft(spectrum * frequency ** -self._between(0, 0.5))
        return noise * np.abs(samples).max() / np.abs(noise).max()

    def _clipped(self, samples: np.ndarray) -> np.ndarray:
        return self._between(1.3, 4.0) * 32768 * samples / np.abs(samples).max()

    def _off_zero(self, samples: np.ndarray) -> np.ndarray:
        offset = self._between(0.06, 0.25) * self._random.choice([-1, 1])
        return 0.5 * samples + 32768 * offset

    def _at_another_rate(self, samples: np.ndarray) -> np.ndarray:
        """As recorded at another rate, read as if at 16 kHz."""
        rate = int(self._random.choice(RATES))
        other = soxr.resample(samples, taxonomy.SAMPLE_RATE, rate)[: samples.size]
        return np.pad(other, (0, samples.size - other.size))
