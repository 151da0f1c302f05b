"""Notes on disk to measure with: rendered, made up, or a person's own."""

import dataclasses
import functools
import importlib.util
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from mic_tf.datasets import preparation, schema
from mic_tf.datasets.names import parse_name
from mic_tf.datasets.note_builder import Example, NoteBuilder
from mic_tf.datasets.problems import Problems
from mic_tf.datasets.soundfont_notes import planning
from mic_tf.datasets.soundfont_notes.soundfont_notes_dataset_builder import Builder
from mic_tf.errors import UserError
from mic_tf.pipeline import balance as balancing
from mic_tf.pipeline import batches, family_shards
from mic_tf.pipeline.batches import Records
from mic_tf.pipeline.family_shards import FamilyShards
from mic_tf.taxonomy import FAMILIES, NOTE_SAMPLES, NSYNTH_FAMILY_NOTES, SPLITS
from tools.benchmarks.settings import BenchmarkSettings

RENDERED = "soundfont_notes"
MADE_UP = "soundfont_notes/synthetic"
_INSTRUMENTS = 4


def can_render() -> bool:
    """Whether notes of a SoundFont can be rendered here."""
    needed = ("tinysoundfont", "pretty_midi")
    return all(importlib.util.find_spec(name) is not None for name in needed)


@dataclasses.dataclass(frozen=True)
class Notes:
    """A prepared set, as the sections read it.

    Attributes:
      records: the set.
      train: bool [notes], its training part.
      balance: how its families are balanced.
      shards: record files of one family each; None where the set has none.
      words: what it is.
    """

    records: Records
    train: np.ndarray
    balance: balancing.Balance
    shards: FamilyShards | None
    words: str

    @property
    def acceptance(self) -> np.ndarray:
        """Probability with which a pass takes each note, float64 [notes]."""
        return self.train * self.balance.acceptance[self.records.index.family]

    def batch(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The first training notes: int16 [count, 64000], family int32 [count]."""
        found = list(self.waveforms(count))
        waveforms = np.stack([waveform for waveform, _ in found])
        families = np.array([family for _, family in found], np.int32)
        repeats = -(-count // len(found))
        return np.tile(waveforms, (repeats, 1))[:count], np.tile(families, repeats)[
            :count
        ]

    def waveforms(self, count: int) -> Iterator[tuple[np.ndarray, int]]:
        """Up to so many training notes in the order of the files, with families."""
        selected = np.zeros_like(self.train)
        selected[np.flatnonzero(self.train)[:count]] = True
        for waveform, family, _, _ in batches.evaluation_batches(
            self.records, selected, batch_size=1
        ):
            yield waveform[0].numpy(), int(family[0])


def open_notes(settings: BenchmarkSettings) -> Notes:
    """The person's set, or one made in the temporary folder."""
    if settings.data_dir:
        return load(settings.data_dir, settings.dataset)
    name = make(settings.folder / "notes", settings.notes, rendered=can_render())
    return load(str(settings.folder / "notes"), name, shards=True)


def make(folder: pathlib.Path, train_notes: int, *, rendered: bool) -> str:
    """Prepares a set in NSynth's proportions.

    Args:
      folder: of prepared sets.
      train_notes: notes of train; valid and test get an eighth each.
      rendered: from the SoundFont of pretty_midi; else made up.

    Returns:
      Its name.
    """
    name = RENDERED if rendered else MADE_UP
    preparation.prepare(
        Builder if rendered else SyntheticNotes,
        parse_name(name),
        str(folder),
        source_given=True,
        train_notes=train_notes,
    )
    return name


def load(data_dir: str, name: str, *, shards: bool = False) -> Notes:
    """Opens a prepared set.

    Args:
      data_dir: folder of prepared sets.
      name: of the set.
      shards: write record files of one family each where there are none.
    """
    from mic_tf.datasets import catalogue

    builder = catalogue.load_builder(name, data_dir)
    if shards:
        family_shards.write(builder)
    records = batches.open_records(builder)
    index = records.index
    train = index.note_split == index.split_names.index("train")
    counts = index.counts(train)
    try:
        found = family_shards.load(builder, index)
    except UserError:
        found = None
    words = f"{builder.info.full_name}, {train.sum():,} training notes"
    balance = balancing.balance(counts, "rejection", 1.0)
    return Notes(records, train, balance, found, words)


class SyntheticNotes(NoteBuilder, skip_registration=True):
    """Made-up notes in NSynth's families and proportions, in the same record."""

    name = RENDERED
    FAMILIES = FAMILIES

    def __init__(self, *, train_notes: int, **kwargs: Any):
        """Takes what `NoteBuilder` takes, and the number of notes of train."""
        self._train_notes = train_notes
        super().__init__(**kwargs)

    def settings(self) -> dict[str, Any]:
        return {"synthetic": True, "train_notes": self._train_notes}

    def note_counts(self) -> dict[str, int]:
        return {split: sum(self._families(split).values()) for split in SPLITS}

    def _families(self, split: str) -> dict[str, int]:
        wanted = self._train_notes if split == "train" else self._train_notes // 8
        capacity = dict.fromkeys(FAMILIES, wanted)
        return planning.allocate(max(wanted, 11), NSYNTH_FAMILY_NOTES, capacity)

    def _name_labels(self) -> None:
        instruments = {
            _instrument(family, split, number)
            for split in SPLITS
            for family, count in self._families(split).items()
            for number in range(min(count, _INSTRUMENTS))
        }
        schema.set_names(self.info.features, instruments)

    def _sources(self, split: str) -> list["TonesOfSplit"]:
        return [TonesOfSplit(split, self._families(split))]


@dataclasses.dataclass(frozen=True)
class TonesOfSplit:
    """The notes of a split: how many of each family."""

    split: str
    families: dict[str, int]

    def notes(self, problems: Problems) -> Iterator[Example]:
        """Yields key and record of each note."""
        del problems  # nothing made up is damaged
        for family, count in self.families.items():
            for number in range(count):
                instrument = _instrument(family, self.split, number % _INSTRUMENTS)
                note_id = f"{instrument}-{number:06d}"
                audio = tones()[FAMILIES.index(family)] * (0.2 + 0.8 * number / count)
                audio = np.roll(audio, 7 * number)
                yield (
                    note_id,
                    schema.record(
                        note_id,
                        audio.astype(np.int16),
                        instrument=instrument,
                        family=family,
                        source="synthetic",
                    ),
                )


def _instrument(family: str, split: str, number: int) -> str:
    return f"{family}_synthetic_{10 * SPLITS.index(split) + number:03d}"


@functools.cache
def tones() -> np.ndarray:
    """One decaying noisy tone for each family, float32 [families, 64000]."""
    random = np.random.default_rng(0)
    time = np.arange(NOTE_SAMPLES) / 16_000
    frequency = 110.0 * 2 ** (np.arange(len(FAMILIES))[:, np.newaxis] / 3)
    tone = np.sin(2 * np.pi * frequency * time) * np.exp(-time)
    noise = 0.02 * random.standard_normal(tone.shape)
    return (20_000 * (tone + noise)).astype(np.float32)
