"""Balanced batches from disk, against the naive order and PyTorch's DataLoader."""

import pathlib
import time
from collections.abc import Callable, Iterator
from unittest import mock

import numpy as np
import soundfile
import tensorflow as tf

from mic_tf.pipeline import batches, draws
from mic_tf.pipeline.draws import Draw
from mic_tf.taxonomy import NOTE_SAMPLES, SAMPLE_RATE
from tools.benchmarks import alternatives, machine
from tools.benchmarks.measuring import Aim, Row, in_turn, missing, rate_row, ratio_row
from tools.benchmarks.notes import Notes
from tools.benchmarks.settings import BenchmarkSettings
from tools.benchmarks.trainees import BATCH

SECTION = "input"
REJECTION = "rejection"
STREAMS = "streams"
_NAIVE = "naive order (parse, then rejection_resample)"
_WORKERS = machine.threads()
"""As many as our pipelines have threads for reading."""
_LOADER = f"DataLoader, {_WORKERS} workers, int16"
_LOADER_FLOAT = f"DataLoader, {_WORKERS} workers, float32"
_WARM_UP = 8
PARSES = Aim(1.05, at_most=True)
_NO_SHARDS = "the set has no record files by family: prepare --family_shards"

Consume = Callable[[], float]
"""Takes a round's batches and returns the seconds of those behind the warm-up."""


def measure(settings: BenchmarkSettings, notes: Notes) -> Iterator[Row]:
    """Notes a second of each, and audio parses for each delivered note."""
    count = settings.input_batches
    pipelines = {REJECTION: rejection(notes)}
    if notes.shards is not None:
        pipelines[STREAMS] = streams(notes)
    contenders = {name: _consume(data, count) for name, data in pipelines.items()}
    contenders[_NAIVE] = _consume(naive(notes), count)
    if alternatives.torch():
        folder = _write_waves(notes, settings.folder / "waves")
        for name, dtype in ((_LOADER, "int16"), (_LOADER_FLOAT, "float32")):
            contenders[name] = _loader(notes, folder, dtype, count)
    timings = in_turn(
        contenders, seconds=2 * settings.seconds, least_rounds=settings.least_rounds
    )
    work = count * BATCH
    for name, times in timings.items():
        yield rate_row(SECTION, name, times, work, note=notes.words)
    for ours, other, bound in (
        (REJECTION, _NAIVE, 1.5),
        (STREAMS, _NAIVE, 5.0),
        (STREAMS, _LOADER, 1.5),
        (STREAMS, _LOADER_FLOAT, 1.5),
    ):
        aim = Aim(bound)
        if ours in timings and other in timings:
            yield ratio_row(SECTION, timings, ours, other, work=work, aim=aim)
            continue
        why = _NO_SHARDS if ours not in timings else alternatives.NO_TORCH
        yield missing(SECTION, f"{ours} against {other}", why, aim)
    yield from _parses(notes, count)


def _draw(notes: Notes) -> Draw:
    return Draw(notes_per_epoch=max(int(notes.train.sum()), BATCH), seed=0)


def rejection(notes: Notes, batch_size: int = BATCH) -> tf.data.Dataset:
    """Training batches as `--balance=rejection` makes them, without end."""
    return _batches(notes, _rejected_records(notes), batch_size)


def streams(notes: Notes, batch_size: int = BATCH) -> tf.data.Dataset:
    """Training batches as `--balance=streams` makes them, without end."""
    return _batches(notes, _stream_records(notes), batch_size)


def _rejected_records(notes: Notes) -> tf.data.Dataset:
    return draws.drawn_records(notes.records, notes.acceptance, _draw(notes))


def _stream_records(notes: Notes) -> tf.data.Dataset:
    return draws.drawn_from_families(
        notes.shards, notes.train, notes.balance.target, _draw(notes)
    )


def _batches(
    notes: Notes, drawn: tf.data.Dataset, batch_size: int = BATCH
) -> tf.data.Dataset:
    return batches.training_batches(notes.records, drawn, batch_size=batch_size)


def naive(notes: Notes) -> tf.data.Dataset:
    """What the API suggests: parse every record, then `rejection_resample`."""
    record_files = draws.RecordFiles.of_records(notes.records)
    paths = [notes.records.paths[n] for n in record_files.useful(notes.train)]
    is_float = notes.records.audio_is_float
    audio = tf.io.FixedLenFeature(
        [NOTE_SAMPLES] if is_float else [], tf.float32 if is_float else tf.string
    )
    features = {
        "audio": audio,
        "instrument/family": tf.io.FixedLenFeature([], tf.int64),
    }

    def parse(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        note = tf.io.parse_single_example(serialized, features)
        waveform = note["audio"]
        if not is_float:
            waveform = tf.io.decode_raw(waveform, tf.int16)
            waveform = tf.ensure_shape(waveform, [NOTE_SAMPLES])
        return waveform, tf.cast(note["instrument/family"], tf.int32)

    dataset = tf.data.Dataset.from_tensor_slices(paths).shuffle(len(paths)).repeat()
    dataset = dataset.interleave(
        tf.data.TFRecordDataset, cycle_length=16, num_parallel_calls=tf.data.AUTOTUNE
    )
    dataset = dataset.shuffle(1024).map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.rejection_resample(
        lambda waveform, family: family,
        target_dist=notes.balance.target.astype(np.float32),
        initial_dist=notes.balance.initial.astype(np.float32),
        seed=0,
    )
    dataset = dataset.map(lambda family, note: note)
    return dataset.batch(BATCH, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def _consume(dataset: tf.data.Dataset, count: int) -> Consume:
    def consume() -> float:
        iterator = iter(dataset)
        for _ in range(_WARM_UP):
            next(iterator)
        started = time.perf_counter()
        for _ in range(count):
            next(iterator)
        return time.perf_counter() - started

    return consume


def _write_waves(notes: Notes, folder: pathlib.Path) -> pathlib.Path:
    """The training notes as 16-bit WAV files, numbered, with their families."""
    folder.mkdir(parents=True, exist_ok=True)
    families = []
    for waveform, family in notes.waveforms(int(notes.train.sum())):
        soundfile.write(folder / f"{len(families):06d}.wav", waveform, SAMPLE_RATE)
        families.append(family)
    np.save(folder / "families.npy", np.array(families, np.int64))
    return folder


def _loader(notes: Notes, folder: pathlib.Path, dtype: str, count: int) -> Consume:
    from tools.benchmarks import torch_files

    weights = notes.balance.target / np.maximum(notes.balance.initial, 1e-9)
    loader = torch_files.balanced_loader(
        folder,
        weights,
        dtype,
        batch_size=BATCH,
        batches=_WARM_UP + count,
        workers=_WORKERS,
    )

    def consume() -> float:
        iterator = iter(loader)
        for _ in range(_WARM_UP):
            next(iterator)
        started = time.perf_counter()
        delivered = sum(1 for _ in iterator)
        seconds = time.perf_counter() - started
        if delivered != count:
            raise RuntimeError(f"{delivered} batches of {count} were delivered")
        return seconds

    return consume


def _parses(notes: Notes, count: int) -> Iterator[Row]:
    """Audio parses for each note delivered, counted in the graph."""
    drawn = {REJECTION: _rejected_records}
    if notes.shards is not None:
        drawn[STREAMS] = _stream_records
    for name in (REJECTION, STREAMS):
        label = f"{name}: audio parses a delivered note"
        if name not in drawn:
            yield missing(SECTION, label, _NO_SHARDS, PARSES)
            continue
        with counted_parses() as parsed:
            taken = drawn[name](notes).take(count * BATCH)
            delivered = sum(len(family) for _, family, _ in _batches(notes, taken))
        value = parsed[0] / delivered
        yield Row(SECTION, label, value, "parses", aim=PARSES)


class counted_parses:  # noqa: N801 - used like a function
    """Within it, graphs that are built count the records whose audio they parse."""

    def __enter__(self) -> list[int]:
        self._total = [0]
        self._patches = [
            mock.patch.object(tf.io, name, self._counting(getattr(tf.io, name)))
            for name in ("parse_example", "parse_single_example")
        ]
        for patch in self._patches:
            patch.start()
        return self._total

    def __exit__(self, *error: object) -> None:
        for patch in self._patches:
            patch.stop()

    def _counting(self, parse: Callable) -> Callable:
        def add(number: np.ndarray) -> np.ndarray:
            self._total[0] += int(number)
            return number

        def counting(serialized: tf.Tensor, features: dict) -> dict:
            number = tf.size(serialized) if "audio" in features else tf.constant(0)
            counted = tf.numpy_function(add, [number], tf.int32)
            with tf.control_dependencies([counted]):
                return parse(tf.identity(serialized), features)

        return counting
