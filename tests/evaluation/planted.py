"""A generated data set with faults whose place is known."""

import dataclasses
import pathlib
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from mic_tf import taxonomy
from mic_tf.pipeline import batches
from tests.conftest import Note, make_note, write_dataset

FAMILIES = ("flute", "guitar", "organ", "reed")


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
    note = make_note(family, instrument, pitch)
    random = np.random.default_rng([7, FAMILIES.index(family), instrument])
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
    return {**note, "audio": np.round(12_000 * waveform).astype(np.int16)}


def changed(note: Note, change: Callable[[np.ndarray], np.ndarray]) -> Note:
    samples = np.clip(np.round(change(note["audio"].astype(np.float64))), -32768, 32767)
    return {**note, "audio": samples.astype(np.int16)}


def renamed(note: Note, family: str, instrument: int, pitch: int = 60) -> Note:
    """The same sound under another name."""
    return {**make_note(family, instrument, pitch), "audio": note["audio"]}


def at_velocity(note: Note, velocity: int, gain: float) -> Note:
    louder = changed(note, lambda x: x * gain)
    name = f"{note['id'][:-3]}{velocity:03d}"
    return {**louder, "id": name, "velocity": velocity}


def clean_splits() -> dict[str, list[Note]]:
    """96 notes of 12 instruments without any fault."""
    instruments = {"train": (0, 1), "valid": (2,)}
    return {
        split: [
            clean_note(family, i, pitch)
            for family in FAMILIES
            for i in numbers
            for pitch in range(48, 80, 4)
        ]
        for split, numbers in instruments.items()
    }


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


def rewrite(
    records: batches.Records, change: Callable[[tf.train.Example], None]
) -> None:
    """Changes every stored record of a data set."""
    for path in records.paths:
        content = [r.numpy() for r in tf.data.TFRecordDataset(path)]
        with tf.io.TFRecordWriter(path) as writer:
            for serialized in content:
                example = tf.train.Example.FromString(serialized)
                change(example)
                writer.write(example.SerializeToString())


def as_float(records: batches.Records, spoilt: str) -> batches.Records:
    """The data set with float audio, as TFDS's `nsynth` has it, one note with NaN."""

    def change(example: tf.train.Example) -> None:
        feature = example.features.feature["audio"]
        samples = np.frombuffer(feature.bytes_list.value[0], np.int16) / 32768.0
        if example.features.feature["id"].bytes_list.value[0].decode() == spoilt:
            samples[1000:1010] = np.nan
        feature.Clear()
        feature.float_list.value.extend(samples.tolist())

    rewrite(records, change)
    return dataclasses.replace(records, audio_is_float=True)
