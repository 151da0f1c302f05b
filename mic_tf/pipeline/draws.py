"""Endless streams of records, drawn so that families come in the wanted shares.

The order of the notes is a pure function of (seed, epoch, pass): a run that stopped
goes on with the very notes that would have come next. Which notes a pass takes is
decided for all of them at once from the note index, so nothing is parsed of a record
that is not taken.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from mic_tf.errors import UserError
from mic_tf.pipeline.batches import Records
from mic_tf.pipeline.family_shards import FamilyShards
from mic_tf.tracing import as_written

_FILES_AT_ONCE = 16
_FILES_OF_A_FAMILY_AT_ONCE = 1
"""An epoch takes a part of a frequent family. Of files that are all begun together it
would be the same part each time; of one after the other in a new order it is others.
"""


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
    shuffle_buffer: int = 256
    pipeline: tuple[int, int] = (0, 1)


@dataclasses.dataclass(frozen=True)
class Side:
    """Notes that are drawn by passes of their own.

    Attributes:
      share: of what comes out, beside the other sides.
      acceptance: probability with which a pass over this side takes each note, float
        [notes]; 0 for the notes of other sides and of other parts.
    """

    share: float
    acceptance: np.ndarray

    @property
    def reads_per_note(self) -> float:
        """Expected records read for each one that comes out of this side."""
        return np.count_nonzero(self.acceptance) / float(self.acceptance.sum())


def drawn_from_sides(
    records: Records, sides: Sequence[Side], draw: Draw
) -> tf.data.Dataset:
    """Notes drawn by rejection from sides whose sizes may differ much.

    Each side has its own endless passes; which side the next note comes from is drawn
    from the shares, so the notes of a small one are not searched for among those of a
    large one.

    Args:
      records: the data set.
      sides: disjoint, and in different files; a single one is `drawn_records`.
      draw: order and length; `shuffle_buffer` is divided among the sides.

    Returns:
      Pairs (serialized record, row of the note index): string and int64 scalars.

    Raises:
      UserError: a side has fewer files than there are pipelines.
    """
    if len(sides) == 1:
        return drawn_records(records, sides[0].acceptance, draw)
    record_files = RecordFiles.of_records(records)
    buffer = max(1, draw.shuffle_buffer // len(sides))
    streams = [
        _taking(
            record_files, side.acceptance, draw.pipeline, draw.seed + number + 1, buffer
        )
        for number, side in enumerate(sides)
    ]
    return _chosen(streams, np.array([side.share for side in sides]), draw)


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
    stream = _taking(
        record_files, acceptance, draw.pipeline, draw.seed, draw.shuffle_buffer
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
            _PassStream(
                record_files,
                numbers,
                selected.astype(float),
                seed,
                buffer,
                files_at_once=_FILES_OF_A_FAMILY_AT_ONCE,
            )
        )
    return _chosen(streams, target[families], draw)


@dataclasses.dataclass(frozen=True)
class RecordFiles:
    """Record files and which notes are in each.

    Attributes:
      paths: full paths.
      starts: where each file's notes begin in `rows`, int64 [files].
      lengths: how many notes of each are read, int64 [files].
      rows: rows of the note index, file after file, int64 [notes].
    """

    paths: tuple[str, ...]
    starts: np.ndarray
    lengths: np.ndarray
    rows: np.ndarray

    @classmethod
    def from_rows(
        cls, paths: Sequence[str], rows: Sequence[np.ndarray]
    ) -> "RecordFiles":
        """From the rows in each file."""
        lengths = np.array([len(r) for r in rows], np.int64)
        flat = np.concatenate([np.empty(0, np.int64), *rows])
        return cls(tuple(paths), np.cumsum(lengths) - lengths, lengths, flat)

    @classmethod
    def of_records(cls, records: Records) -> "RecordFiles":
        """The data set's own files, which the index follows."""
        index = records.index
        rows = np.arange(len(index), dtype=np.int64)
        return cls(records.paths, index.file_starts, index.file_notes, rows)

    def useful(self, wanted: np.ndarray) -> np.ndarray:
        """Numbers of the files with a wanted note; `wanted` is bool [notes]."""
        file_of_row = np.repeat(np.arange(len(self.paths)), self.lengths)
        return np.unique(file_of_row[wanted[self.rows]])


class _PassStream:
    """Passes over record files, each in its own order.

    Args:
      record_files: where the notes are.
      numbers: the files that this stream reads, int [files].
      acceptance: probability with which a pass takes each note, float [notes].
      seed: decides, with epoch and pass, what is taken and in which order.
      shuffle_buffer: records held in memory to mix their order.
      files_at_once: how many are read in turn.
    """

    def __init__(
        self,
        record_files: RecordFiles,
        numbers: np.ndarray,
        acceptance: np.ndarray,
        seed: int,
        shuffle_buffer: int,
        files_at_once: int = _FILES_AT_ONCE,
    ):
        self._numbers = tf.constant(numbers, tf.int64)
        self._paths = tf.constant(record_files.paths)
        self._starts = tf.constant(record_files.starts)
        self._lengths = tf.constant(record_files.lengths)
        self._rows = tf.constant(record_files.rows)
        self._acceptance = tf.constant(acceptance, tf.float32)
        self._seed = seed
        self._shuffle_buffer = shuffle_buffer
        self._files_at_once = files_at_once

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
            start = tf.gather(self._starts, file)
            rows = self._rows[start : start + tf.gather(self._lengths, file)]
            labels = (tf.gather(taken, rows), rows)
            # The end is known, so what lies behind it, damaged perhaps, is not read.
            notes = tf.data.Dataset.zip(
                (tf.data.Dataset.from_tensor_slices(labels), serialized)
            )
            # Functions that only hand on what they get are not run for each record.
            notes = notes.filter(lambda label, _: label[0])
            return notes.map(lambda label, record: (record, label[1]))

        in_order = tf.gather(self._numbers, tf.argsort(shuffled))
        dataset = tf.data.Dataset.from_tensor_slices(in_order).interleave(
            of_file,
            cycle_length=self._files_at_once,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        return dataset.shuffle(
            self._shuffle_buffer,
            seed=tf.cast(fold_in(seed, 2)[0], tf.int64),
            reshuffle_each_iteration=False,
        )


def _taking(
    record_files: RecordFiles,
    acceptance: np.ndarray,
    pipeline: tuple[int, int],
    seed: int,
    shuffle_buffer: int,
) -> _PassStream:
    """Passes of one input pipeline over the files that have an acceptable note."""
    numbers = _own_files(record_files.useful(acceptance > 0), pipeline)
    return _PassStream(record_files, numbers, acceptance, seed, shuffle_buffer)


@as_written
def _chosen(
    streams: Sequence[_PassStream], shares: np.ndarray, draw: Draw
) -> tf.data.Dataset:
    """Notes of the streams, each next one's stream drawn from the shares."""
    log_shares = tf.math.log(tf.constant(shares, tf.float32))[tf.newaxis]

    def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        def choices(block: tf.Tensor) -> tf.data.Dataset:
            seed = tf.stack([np.int64(draw.seed + draw.pipeline[0]), epoch])
            seed = tf.random.experimental.stateless_fold_in(seed, block)
            chosen = tf.random.stateless_categorical(log_shares, 1024, seed)
            return tf.data.Dataset.from_tensor_slices(chosen[0])

        order = tf.data.Dataset.counter().flat_map(choices)
        passes = [stream.passes(epoch) for stream in streams]
        return tf.data.Dataset.choose_from_datasets(passes, order)

    return _in_epochs(of_epoch, draw)


@as_written
def _in_epochs(
    of_epoch: Callable[[tf.Tensor], tf.data.Dataset], draw: Draw
) -> tf.data.Dataset:
    def cut(epoch: tf.Tensor) -> tf.data.Dataset:
        first = epoch == draw.start_epoch
        skipped = tf.where(first, np.int64(draw.skip), np.int64(0))
        return of_epoch(epoch).take(draw.notes_per_epoch).skip(skipped)

    return tf.data.Dataset.counter(draw.start_epoch).flat_map(cut)


def _own_files(numbers: np.ndarray, pipeline: tuple[int, int]) -> np.ndarray:
    """The files of one of several input pipelines."""
    number, count = pipeline
    if len(numbers) < count:
        raise UserError(
            f"{len(numbers)} record files for {count} input pipelines: each needs one; "
            f"prepare the data set again with --overwrite --num_shards={count} or more"
        )
    return numbers[number::count]
