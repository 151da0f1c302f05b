"""Batches of int16 waveforms, as tf.data graphs.

The order of the notes is a pure function of (seed, epoch, pass): a run that stopped
goes on with the very notes that would have come next. Which notes a pass takes is
decided for all of them at once from the note index, so nothing is parsed of a record
that is not taken.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from mic_tf import taxonomy
from mic_tf.errors import UserError
from mic_tf.pipeline import index as note_index
from mic_tf.pipeline.family_shards import FamilyShards
from mic_tf.pipeline.index import NoteIndex

_FILES_AT_ONCE = 16


@dataclasses.dataclass(frozen=True)
class Records:
    """The records of a prepared data set, as the pipeline reads them.

    Attributes:
      index: their labels.
      paths: full paths of the record files, in the index's order.
      audio_is_float: whether audio is stored as 32-bit floats (TFDS's own builder)
        or as 16-bit PCM bytes (ours).
    """

    index: NoteIndex
    paths: tuple[str, ...]
    audio_is_float: bool


def open_records(builder: tfds.core.DatasetBuilder) -> Records:
    """The records of a prepared data set with the features of TFDS's `nsynth`."""
    index = note_index.load(builder)
    audio = builder.info.features["audio"]
    return Records(
        index,
        tuple(note_index.file_paths(builder, index)),
        audio_is_float=np.dtype(audio.np_dtype).kind == "f",
    )


@dataclasses.dataclass(frozen=True)
class RecordFiles:
    """Record files and which notes are in each.

    Attributes:
      paths: full paths.
      starts: where each file's notes begin in `rows`, int64 [files].
      rows: rows of the note index, file after file, int64 [notes].
    """

    paths: tuple[str, ...]
    starts: np.ndarray
    rows: np.ndarray

    @classmethod
    def from_rows(
        cls, paths: Sequence[str], rows: Sequence[np.ndarray]
    ) -> "RecordFiles":
        """From the rows in each file."""
        starts = np.cumsum([0, *map(len, rows)])[:-1].astype(np.int64)
        flat = np.concatenate([np.empty(0, np.int64), *rows])
        return cls(tuple(paths), starts, flat.astype(np.int64))

    @classmethod
    def of_records(cls, records: Records) -> "RecordFiles":
        """The data set's own files, which the index follows."""
        rows = np.arange(len(records.index), dtype=np.int64)
        return cls(records.paths, records.index.file_starts, rows)

    def useful(self, wanted: np.ndarray) -> np.ndarray:
        """Numbers of the files with a wanted note; `wanted` is bool [notes]."""
        lengths = np.diff([*self.starts, len(self.rows)])
        file_of_row = np.repeat(np.arange(len(self.paths)), lengths)
        return np.unique(file_of_row[wanted[self.rows]])


@dataclasses.dataclass(frozen=True)
class Place:
    """A place in a run: the epoch, and the steps of it that are done."""

    epoch: int = 0
    step: int = 0


@dataclasses.dataclass(frozen=True)
class Draw:
    """How an endless stream of notes is drawn.

    Attributes:
      notes_per_epoch: an epoch begins its own passes and is cut after so many notes.
      seed: decides, with epoch and pass, all of the order.
      start_epoch: the first epoch.
      skip: notes of the first epoch to leave out; they are not parsed.
      shuffle_buffer: records held in memory to mix their order.
      pipeline: (number of this input pipeline, how many there are); each reads its
        own files.
    """

    notes_per_epoch: int
    seed: int
    start_epoch: int = 0
    skip: int = 0
    shuffle_buffer: int = 1024
    pipeline: tuple[int, int] = (0, 1)


def drawn_records(
    records: Records, acceptance: np.ndarray, draw: Draw
) -> tf.data.Dataset:
    """Notes drawn by rejection: repeated passes over the data set's own files.

    A pass decides for each note whether it is taken, so no note comes twice in a
    pass, and goes through files and notes in a new order.

    Args:
      records: the data set.
      acceptance: probability with which a pass takes each note, float [notes]; 0 for
        the notes of other parts.
      draw: order and length.

    Returns:
      Pairs (serialized record, row of the note index): string and int64 scalars.

    Raises:
      UserError: fewer files than pipelines.
    """
    record_files = RecordFiles.of_records(records)
    numbers = _own_files(record_files.useful(acceptance > 0), draw.pipeline)
    stream = _PassStream(
        record_files, numbers, acceptance, draw.seed, draw.shuffle_buffer
    )
    return _in_epochs(stream.passes, draw)


def drawn_from_families(
    shards: FamilyShards, selected: np.ndarray, target: np.ndarray, draw: Draw
) -> tf.data.Dataset:
    """Notes drawn family by family: only what comes out is read.

    Each family has its own endless passes; which family comes next is drawn from the
    target.

    Args:
      shards: files of one family each.
      selected: bool [notes], the notes to draw from.
      target: share of each family, float [families].
      draw: order and length; `shuffle_buffer` is divided among the families.

    Returns:
      Pairs (serialized record, row of the note index): string and int64 scalars.
    """
    record_files = RecordFiles.from_rows(shards.paths, shards.rows)
    families = np.flatnonzero(target > 0)
    streams = []
    for family in families:
        numbers = record_files.useful(selected)
        numbers = _own_files(numbers[shards.family[numbers] == family], draw.pipeline)
        buffer = max(1, draw.shuffle_buffer // len(families))
        seed = draw.seed + int(family) + 1
        streams.append(
            _PassStream(record_files, numbers, selected.astype(float), seed, buffer)
        )
    log_target = tf.math.log(tf.constant(target[families], tf.float32))[tf.newaxis]

    def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        def choices(block: tf.Tensor) -> tf.data.Dataset:
            seed = tf.stack([np.int64(draw.seed + draw.pipeline[0]), epoch])
            seed = tf.random.experimental.stateless_fold_in(seed, block)
            chosen = tf.random.stateless_categorical(log_target, 1024, seed)
            return tf.data.Dataset.from_tensor_slices(chosen[0])

        order = tf.data.Dataset.counter().flat_map(choices)
        passes = [stream.passes(epoch) for stream in streams]
        return tf.data.Dataset.choose_from_datasets(passes, order)

    return _in_epochs(of_epoch, draw)


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
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(_options())


def _in_epochs(
    of_epoch: Callable[[tf.Tensor], tf.data.Dataset], draw: Draw
) -> tf.data.Dataset:
    def cut(epoch: tf.Tensor) -> tf.data.Dataset:
        first = epoch == draw.start_epoch
        skipped = tf.where(first, np.int64(draw.skip), np.int64(0))
        return of_epoch(epoch).take(draw.notes_per_epoch).skip(skipped)

    return tf.data.Dataset.counter(draw.start_epoch).flat_map(cut)


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
        rows = tf.data.Dataset.counter(tf.gather(starts, number))
        return tf.data.Dataset.zip((records_of_file, rows)).filter(
            lambda _, row: tf.gather(wanted, row)
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
    return dataset.prefetch(2).with_options(_options())


class _PassStream:
    """Passes over record files, each in its own order.

    Args:
      record_files: where the notes are.
      numbers: the files that this stream reads, int [files].
      acceptance: probability with which a pass takes each note, float [notes].
      seed: decides, with epoch and pass, what is taken and in which order.
      shuffle_buffer: records held in memory to mix their order.
    """

    def __init__(
        self,
        record_files: RecordFiles,
        numbers: np.ndarray,
        acceptance: np.ndarray,
        seed: int,
        shuffle_buffer: int,
    ):
        self._numbers = tf.constant(numbers, tf.int64)
        self._paths = tf.constant(record_files.paths)
        self._starts = tf.constant(record_files.starts)
        self._rows = tf.constant(record_files.rows)
        self._acceptance = tf.constant(acceptance, tf.float32)
        self._seed = seed
        self._shuffle_buffer = shuffle_buffer

    def passes(self, epoch: tf.Tensor) -> tf.data.Dataset:
        """Pairs (serialized record, row), pass after pass without end."""
        numbers = tf.data.Dataset.counter()
        return numbers.flat_map(lambda number: self.one_pass(epoch, number))

    def one_pass(self, epoch: tf.Tensor, number: tf.Tensor) -> tf.data.Dataset:
        """Pairs (serialized record, row) of one pass."""
        fold_in = tf.random.experimental.stateless_fold_in
        seed = fold_in(tf.stack([np.int64(self._seed), epoch]), number)
        draws = tf.random.stateless_uniform(tf.shape(self._acceptance), seed)
        taken = draws < self._acceptance
        shuffled = tf.random.stateless_uniform(
            tf.shape(self._numbers), fold_in(seed, 1)
        )

        def of_file(file: tf.Tensor) -> tf.data.Dataset:
            serialized = tf.data.TFRecordDataset(tf.gather(self._paths, file))
            places = tf.data.Dataset.counter(tf.gather(self._starts, file))
            pairs = tf.data.Dataset.zip((serialized, places)).map(
                lambda record, place: (record, tf.gather(self._rows, place))
            )
            return pairs.filter(lambda _, row: tf.gather(taken, row))

        in_order = tf.gather(self._numbers, tf.argsort(shuffled))
        dataset = tf.data.Dataset.from_tensor_slices(in_order).interleave(
            of_file,
            cycle_length=_FILES_AT_ONCE,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        return dataset.shuffle(
            self._shuffle_buffer,
            seed=tf.cast(fold_in(seed, 2)[0], tf.int64),
            reshuffle_each_iteration=False,
        )


def _own_files(numbers: np.ndarray, pipeline: tuple[int, int]) -> np.ndarray:
    """The files of one of several input pipelines."""
    number, count = pipeline
    if len(numbers) < count:
        raise UserError(
            f"{len(numbers)} record files for {count} input pipelines: each needs one; "
            f"prepare the data set again with --num_shards={count} or more"
        )
    return numbers[number::count]


def _parser(records: Records, class_weight: np.ndarray | None):
    """A function from (serialized [batch], row [batch]) to waveforms and labels."""
    index = records.index
    families = tf.constant(index.family, tf.int64)
    instruments = tf.constant(index.instrument, tf.int64)
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


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = True
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.OFF
    )
    return options
