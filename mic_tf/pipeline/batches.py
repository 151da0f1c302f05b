"""Batches of int16 waveforms from drawn or selected records."""

import contextlib
import dataclasses
import re
import socket
import time
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging

from mic_tf import files, taxonomy
from mic_tf.errors import UserError
from mic_tf.pipeline import index as note_index
from mic_tf.pipeline.index import NoteIndex
from mic_tf.tracing import as_written

_BATCHES_AHEAD = 4
"""AUTOTUNE lets the buffer grow as training goes on, by 4 MB for a batch of 32."""

_SERVICE_SECONDS = 60.0
"""A service that is started together with training has so long to answer."""


@dataclasses.dataclass(frozen=True)
class Records:
    """The records of a prepared data set, as the pipeline reads them.

    Attributes:
      index: their labels.
      paths: full paths of the record files, in the index's order.
      audio_is_float: whether audio is stored as 32-bit floats (TFDS's own builder)
        or as 16-bit PCM bytes (ours).
      instrument_offset: index's instrument minus the one stored in the record, int64
        [notes]; None: 0 (only joined sets differ).
    """

    index: NoteIndex
    paths: tuple[str, ...]
    audio_is_float: bool
    instrument_offset: np.ndarray | None = None


def open_records(
    builder: tfds.core.DatasetBuilder, *, skip_bad: bool = False
) -> Records:
    """The records of a prepared data set with the features of TFDS's `nsynth`.

    Args:
      builder: the data set.
      skip_bad: read all records first, and leave out damaged ones with a warning.
    """
    index = note_index.load(builder, skip_bad=skip_bad)
    audio = builder.info.features["audio"]
    return Records(
        index,
        tuple(note_index.file_paths(builder, index)),
        audio_is_float=np.dtype(audio.np_dtype).kind == "f",
    )


@dataclasses.dataclass(frozen=True)
class Place:
    """A place in a run: the epoch, and the steps of it that are done."""

    epoch: int = 0
    step: int = 0


@as_written
def training_batches(
    records: Records,
    drawn: tf.data.Dataset,
    *,
    batch_size: int,
    class_weight: np.ndarray | None = None,
) -> tf.data.Dataset:
    """Batches of an endless stream of drawn notes.

    Args:
      records: the data set.
      drawn: pairs (serialized record, row).
      batch_size: notes a batch of this pipeline.
      class_weight: loss weight of each family, float [families]; None: 1.

    Returns:
      Batches `(waveform, family, weight)`: int16 [batch, 64000], int32 [batch],
      float32 [batch].
    """
    parse = _parser(records, class_weight)
    dataset = drawn.batch(batch_size, drop_remainder=True)
    dataset = dataset.map(
        lambda serialized, row: parse(serialized, row)[:3],
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    return dataset.prefetch(_BATCHES_AHEAD).with_options(options())


def check_service(address: str) -> None:
    """Looks whether a tf.data service answers; TensorFlow itself waits for ever.

    Args:
      address: grpc://HOST:PORT of the dispatcher.

    Raises:
      UserError: it is no such address, or nobody answers there.
    """
    found = re.fullmatch(r"grpc://(\[[^\]]+\]|[^:/\[\]]+):(\d{1,5})", address)
    if not found:
        raise UserError(f"--data_service={address}: grpc://HOST:PORT expected")
    place = (found[1].strip("[]"), int(found[2]))
    end = time.monotonic() + _SERVICE_SECONDS
    said = False
    while True:
        try:
            socket.create_connection(place, timeout=_SERVICE_SECONDS).close()
            return
        except (OSError, OverflowError) as error:
            if time.monotonic() > end:
                raise UserError(
                    f"--data_service={address}: nobody answers there "
                    f"({files.reason(error)}); start python -m mic_tf.data_service "
                    "first, or give its address"
                ) from error
        if not said:
            logging.info("waiting for the tf.data service at %s", address)
            said = True
        time.sleep(min(1.0, _SERVICE_SECONDS))


def on_service(dataset: tf.data.Dataset, address: str) -> tf.data.Dataset:
    """The same stream, made by the workers of a tf.data service.

    The stream begins with the epochs' numbers, which the dispatcher deals to the
    workers: each epoch is made by one of them, so none comes twice.

    Args:
      dataset: an endless stream of training batches.
      address: grpc://HOST:PORT of the dispatcher; empty: the dataset as it is.
    """
    if not address:
        return dataset
    service = tf.data.experimental.service
    return dataset.apply(
        service.distribute(service.ShardingPolicy.DYNAMIC, service=address)
    )


@as_written
def evaluation_batches(
    records: Records,
    selected: np.ndarray,
    *,
    batch_size: int,
    fill_to: int | None = None,
    pipeline: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """The selected notes once, in the order of the files.

    The end is filled up with notes of weight 0, so that every batch has the same
    shape and every input pipeline the same number of batches.

    Args:
      records: the data set.
      selected: bool [notes].
      batch_size: notes a batch.
      fill_to: the number of notes is filled up to a multiple of this; None: of the
        batch size.
      pipeline: (number of this input pipeline, how many there are); each gets every
        so-manieth batch.

    Returns:
      Batches `(waveform, family, weight, row)`: int16 [batch, 64000], int32 [batch],
      float32 [batch] (0 or 1), int64 [batch] (row of the index; -1 where filled up).
    """
    index = records.index
    wanted = tf.constant(selected)
    starts = tf.constant(index.file_starts)
    lengths = tf.constant(index.file_notes)
    paths = tf.constant(records.paths)
    needed = [
        i
        for i, (start, notes) in enumerate(
            zip(index.file_starts, index.file_notes, strict=True)
        )
        if selected[start : start + notes].any()
    ]
    if not needed:
        raise UserError("no note is selected")

    def of_file(number: tf.Tensor) -> tf.data.Dataset:
        records_of_file = tf.data.TFRecordDataset(tf.gather(paths, number))
        start = tf.gather(starts, number)
        rows = tf.data.Dataset.range(start, start + tf.gather(lengths, number))
        pairs = tf.data.Dataset.zip((rows, records_of_file))
        return pairs.filter(lambda row, _: tf.gather(wanted, row)).map(
            lambda row, record: (record, row)
        )

    dataset = tf.data.Dataset.from_tensor_slices(np.array(needed, np.int64))
    dataset = dataset.interleave(
        of_file,
        cycle_length=1,
        num_parallel_calls=1,
        deterministic=True,
    )
    missing = -int(selected.sum()) % (fill_to or batch_size)
    filling = dataset.take(1).map(lambda serialized, _: (serialized, np.int64(-1)))
    dataset = dataset.concatenate(filling.repeat(missing)) if missing else dataset
    dataset = dataset.batch(batch_size, drop_remainder=True)
    dataset = dataset.shard(pipeline[1], pipeline[0])
    dataset = dataset.map(
        _parser(records, None), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    return dataset.prefetch(2).with_options(options())


_FAULTS_OF_DATA = (
    tf.errors.DataLossError,
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
)


@contextlib.contextmanager
def faults_named(
    records: Records, then: str = "", others: Sequence[str] = ()
) -> Iterator[None]:
    """Turns an error out of the input pipeline into one that names file and note.

    Args:
      records: what is read inside.
      then: what else is to be said.
      others: further record files that are read, of the same notes.

    Raises:
      UserError: the records have a fault.
    """
    try:
        yield
    except _FAULTS_OF_DATA as error:
        first_line = str(error).split("\n", maxsplit=1)[0]
        logging.warning("looking for a fault in the records after: %s", first_line)
        fault = note_index.damaged_file(others) or _find_fault(records)
        if fault is None:
            raise
        raise UserError(fault + then) from error


def _find_fault(records: Records) -> str | None:
    """What is wrong with the records, in one line that names the file, or None."""
    damage = note_index.damaged_file(records.paths)
    if damage or not records.audio_is_float:
        return damage
    feature = {"audio": tf.io.FixedLenFeature([taxonomy.NOTE_SAMPLES], tf.float32)}
    for path, start in zip(records.paths, records.index.file_starts, strict=True):
        for place, record in enumerate(tf.data.TFRecordDataset(path)):
            audio = tf.io.parse_single_example(record, feature)["audio"]
            if not tf.reduce_all(tf.math.is_finite(audio)):
                note = records.index.ids[start + place]
                return (
                    f"{path}: note {note}: NaN or infinity in it; prepare the data set "
                    "again, or leave such notes out with --skip_bad"
                )
    return None


def _parser(records: Records, class_weight: np.ndarray | None):
    """A function from (serialized [batch], row [batch]) to waveforms and labels."""
    index = records.index
    families = tf.constant(index.family, tf.int64)
    offset = 0 if records.instrument_offset is None else records.instrument_offset
    instruments = tf.constant(index.instrument - offset, tf.int64)
    weights = tf.constant(
        np.ones(len(index.families)) if class_weight is None else class_weight,
        tf.float32,
    )
    stored = (
        tf.io.FixedLenFeature([taxonomy.NOTE_SAMPLES], tf.float32)
        if records.audio_is_float
        else tf.io.FixedLenFeature([], tf.string)
    )
    features = {
        "audio": stored,
        "instrument/family": tf.io.FixedLenFeature([], tf.int64),
        "instrument/label": tf.io.FixedLenFeature([], tf.int64),
    }

    def parse(serialized: tf.Tensor, row: tf.Tensor) -> tuple[tf.Tensor, ...]:
        note = tf.io.parse_example(serialized, features)
        known = tf.maximum(row, 0)
        filled = row < 0
        same = (note["instrument/family"] == tf.gather(families, known)) & (
            note["instrument/label"] == tf.gather(instruments, known)
        )
        check = tf.debugging.Assert(
            tf.reduce_all(same | filled),
            ["the note index does not describe these records; delete note_index.npz"],
        )
        with tf.control_dependencies([check]):
            waveform = _to_int16(note["audio"], records.audio_is_float)
        family = tf.cast(note["instrument/family"], tf.int32)
        weight = tf.where(filled, 0.0, tf.gather(weights, family))
        return waveform, family, weight, row

    return parse


def _to_int16(audio: tf.Tensor, is_float: bool) -> tf.Tensor:
    if is_float:
        finite = tf.debugging.assert_all_finite(audio, "audio has NaN or infinity")
        scaled = tf.round(finite * 32768.0)
        return tf.cast(tf.clip_by_value(scaled, -32768.0, 32767.0), tf.int16)
    waveform = tf.io.decode_raw(audio, tf.int16)
    return tf.ensure_shape(waveform, [None, taxonomy.NOTE_SAMPLES])


def options() -> tf.data.Options:
    """How every pipeline runs: in a fixed order, without a tuning thread."""
    chosen = tf.data.Options()
    chosen.deterministic = True
    # Under tf.distribute an iterator's end waits until the tuning thread wakes up, up
    # to a minute. Without it AUTOTUNE means as many calls as cores, 16 at most.
    chosen.autotune.enabled = False
    chosen.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.OFF
    )
    return chosen
