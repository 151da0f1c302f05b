"""Batches of int16 waveforms, as tf.data graphs.

The order of the notes is a pure function of (seed, epoch, pass): a run that stopped
goes on with the very notes that would have come next. Which notes a pass takes is
decided for all of them at once from the note index, so nothing is parsed of a record
that is not taken.
"""

import dataclasses

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from mic_tf import taxonomy
from mic_tf.errors import UserError
from mic_tf.pipeline import index as note_index
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
class Place:
    """A place in a run: the epoch, and the steps of it that are done."""

    epoch: int = 0
    step: int = 0


def training_batches(
    records: Records,
    acceptance: np.ndarray,
    *,
    batch_size: int,
    steps_per_epoch: int,
    seed: int,
    start: Place = Place(),
    class_weight: np.ndarray | None = None,
    shuffle_buffer: int = 1024,
    pipeline: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """An endless stream of training batches.

    Each epoch is a repeated stream of passes over the data, cut after
    `steps_per_epoch` batches. A pass draws for each note whether it is taken, so no
    note comes twice in a pass, and goes through files and notes in a new order.

    Args:
      records: the data set.
      acceptance: probability with which a pass takes each note, float [notes]; 0 for
        the notes of other parts.
      batch_size: notes a batch of this pipeline.
      steps_per_epoch: batches an epoch.
      seed: decides, with epoch and pass, all of the order.
      start: where to begin; the notes before it are skipped unparsed.
      class_weight: loss weight of each family, float [families]; None: 1.
      shuffle_buffer: notes held in memory to mix their order.
      pipeline: (number of this input pipeline, how many there are); each reads its
        own files.

    Returns:
      Batches `(waveform, family, weight)`: int16 [batch, 64000], int32 [batch],
      float32 [batch].

    Raises:
      UserError: fewer files than pipelines, or no note would ever be taken.
    """
    dataset = drawn_records(
        records,
        acceptance,
        notes_per_epoch=steps_per_epoch * batch_size,
        seed=seed,
        start_epoch=start.epoch,
        skip=start.step * batch_size,
        shuffle_buffer=shuffle_buffer,
        pipeline=pipeline,
    )
    parse = _parser(records, class_weight)
    dataset = dataset.batch(batch_size, drop_remainder=True)
    dataset = dataset.map(
        lambda serialized, row: parse(serialized, row)[:3],
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(_options())


def drawn_records(
    records: Records,
    acceptance: np.ndarray,
    *,
    notes_per_epoch: int,
    seed: int,
    start_epoch: int = 0,
    skip: int = 0,
    shuffle_buffer: int = 1024,
    pipeline: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """The endless stream of drawn records, nothing parsed yet.

    Args:
      records: the data set.
      acceptance: probability with which a pass takes each note, float [notes].
      notes_per_epoch: an epoch is cut after so many.
      seed: decides, with epoch and pass, all of the order.
      start_epoch: the first epoch.
      skip: records of the first epoch to leave out.
      shuffle_buffer: records held in memory to mix their order.
      pipeline: (number of this input pipeline, how many there are).

    Returns:
      Pairs (serialized record, row of the note index): string and int64 scalars.
    """
    stream = _PassStream(records, acceptance, seed, shuffle_buffer, pipeline)

    def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        passes = tf.data.Dataset.counter()
        drawn = passes.flat_map(lambda number: stream.one_pass(epoch, number))
        skipped = tf.where(epoch == start_epoch, np.int64(skip), np.int64(0))
        return drawn.take(notes_per_epoch).skip(skipped)

    return tf.data.Dataset.counter(start_epoch).flat_map(of_epoch)


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
    """Passes over a data set's records, each in its own order."""

    def __init__(
        self,
        records: Records,
        acceptance: np.ndarray,
        seed: int,
        shuffle_buffer: int,
        pipeline: tuple[int, int],
    ):
        index = records.index
        file_of_note = np.repeat(np.arange(len(index.file_notes)), index.file_notes)
        useful = np.unique(file_of_note[acceptance > 0])
        number, count = pipeline
        if len(useful) < count:
            raise UserError(
                f"{len(useful)} record files for {count} input pipelines: each needs "
                f"one; prepare the data set again with --num_shards={count} or more"
            )
        self._files = tf.constant(useful[number::count], tf.int64)
        self._paths = tf.constant(records.paths)
        self._starts = tf.constant(index.file_starts)
        self._acceptance = tf.constant(acceptance, tf.float32)
        self._seed = seed
        self._shuffle_buffer = shuffle_buffer

    def one_pass(self, epoch: tf.Tensor, number: tf.Tensor) -> tf.data.Dataset:
        """Pairs (serialized record, row) of one pass."""
        root = tf.stack([np.int64(self._seed), epoch])
        seed = tf.random.experimental.stateless_fold_in(root, number)
        draws = tf.random.stateless_uniform(tf.shape(self._acceptance), seed)
        taken = draws < self._acceptance
        order_seed = tf.random.experimental.stateless_fold_in(seed, 1)
        order = tf.argsort(
            tf.random.stateless_uniform(tf.shape(self._files), order_seed)
        )

        def of_file(file: tf.Tensor) -> tf.data.Dataset:
            serialized = tf.data.TFRecordDataset(tf.gather(self._paths, file))
            rows = tf.data.Dataset.counter(tf.gather(self._starts, file))
            return tf.data.Dataset.zip((serialized, rows)).filter(
                lambda _, row: tf.gather(taken, row)
            )

        files_in_order = tf.gather(self._files, order)
        dataset = tf.data.Dataset.from_tensor_slices(files_in_order)
        dataset = dataset.interleave(
            of_file,
            cycle_length=_FILES_AT_ONCE,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        shuffle_seed = tf.random.experimental.stateless_fold_in(seed, 2)[0]
        return dataset.shuffle(
            self._shuffle_buffer,
            seed=tf.cast(shuffle_seed, tf.int64),
            reshuffle_each_iteration=False,
        )


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
