"""A generated data set with faults whose place is known."""

import pathlib
from collections import defaultdict
from collections.abc import Callable

import numpy as np

from mic_tf import taxonomy
from mic_tf.pipeline import batches
from tools import planting
from tools.planting import changed, clean_note, labelled
from tools.small_sets import Note, write_dataset

FAMILIES = ("flute", "guitar", "organ", "reed")


def renamed(note: Note, family: str, instrument: int, pitch: int = 60) -> Note:
    """The same sound under another name."""
    return labelled(note["audio"], family, f"{family}_acoustic_{instrument:03d}", pitch)


def at_velocity(note: Note, velocity: int, gain: float) -> Note:
    louder = changed(note, lambda x: x * gain)
    name = f"{note['id'][:-3]}{velocity:03d}"
    return {**louder, "id": name, "velocity": velocity}


def clean_splits() -> dict[str, list[Note]]:
    """96 notes of 12 instruments without any fault."""
    instruments = {"train": (0, 1), "valid": (2,)}
    return planting.clean_splits(FAMILIES, instruments, range(48, 80, 4))


def faulty_splits() -> tuple[dict[str, list[Note]], dict[str, set[frozenset[str]]]]:
    """The clean notes and faults of every kind that 16-bit records can have.

    Returns:
      Notes by split, and by kind what is to be found: sets of ids.
    """
    splits = clean_splits()
    expected: dict[str, set[frozenset[str]]] = defaultdict(set)

    def plant(split: str, note: Note, *kinds: str, like: Note | None = None) -> None:
        splits[split].append(note)
        ids = frozenset({note["id"]} | ({like["id"]} if like else set()))
        for kind in kinds:
            expected[kind].add(ids)

    first, second, third = (splits["train"][i] for i in (0, 9, 20))
    plant("train", renamed(first, "flute", 50, 48), "duplicate", like=first)
    plant("valid", renamed(second, "flute", 51, 52), "duplicate", like=second)
    plant(
        "train",
        renamed(third, "reed", 52, 64),
        "duplicate",
        "label_conflict",
        like=third,
    )
    quiet = at_velocity(splits["train"][30], 25, 0.31)
    plant("train", quiet, "near_twin", like=splits["train"][30])
    like = splits["train"][35]
    twin = changed(renamed(like, "organ", 53, int(like["pitch"])), lambda x: 0.62 * x)
    plant("valid", twin, "near_twin", like=like)
    like = splits["train"][50]
    other = changed(renamed(like, "guitar", 54, int(like["pitch"])), lambda x: 0.8 * x)
    plant("train", other, "near_twin", "label_conflict", like=like)
    stray = clean_note("organ", 0, 81)
    splits["valid"].append(stray)
    expected["instrument_in_two_splits"].add(frozenset({"organ_acoustic_000"}))
    _plant_faulty_notes(plant)
    return splits, dict(expected)


def _plant_faulty_notes(plant: Callable) -> None:
    random = np.random.default_rng(3)
    noise = 3000 * random.standard_normal(taxonomy.NOTE_SAMPLES)
    plant("train", changed(clean_note("reed", 60, 50), lambda x: 0 * x), "silence")
    plant("train", changed(clean_note("reed", 61, 50), lambda x: 6 * x), "clipping")
    plant("train", changed(clean_note("reed", 62, 50), lambda x: x + 3000), "dc_offset")
    plant("valid", changed(clean_note("organ", 63, 50), lambda x: noise), "noise")
    plant("train", clean_note("flute", 64, 110), "pitch_range")
    plant("train", clean_note("flute", 65, 60, sounding=64.0), "pitch")
    off = 12 * np.log2(16_000 / 44_100)
    plant("train", clean_note("guitar", 66, 76, sounding=76 + off), "rate")


def open_planted(
    folder: pathlib.Path, splits: dict[str, list[Note]]
) -> batches.Records:
    return batches.open_records(write_dataset(folder, splits, shards=2))
