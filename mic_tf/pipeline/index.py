"""The note index: one row of labels for each record of a prepared data set.

One pass over the records, labels only, gives a table of a few megabytes even at
NSynth's 305,979 notes. With it the splits, the exact proportions of families and the
decision which notes a pass takes are known before a single record is read. It is
stored beside the records (`note_index.npz`, and `label_counts.json` for people), and
made again when the record files are no longer those it was made from.
"""

import contextlib
import dataclasses
import io
import json
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging
from tqdm.auto import tqdm

from mic_tf import files
from mic_tf.errors import UserError
from mic_tf.taxonomy import NOTE_SAMPLES
from mic_tf.tracing import as_written

INDEX_FILE = "note_index.npz"
COUNTS_FILE = "label_counts.json"
_VERSION = 2

_NAMED = 20
"""Faulty notes named in a warning; more are only counted."""

_LABEL_FEATURES = {
    "id": tf.io.FixedLenFeature([], tf.string),
    "instrument/family": tf.io.FixedLenFeature([], tf.int64),
    "instrument/label": tf.io.FixedLenFeature([], tf.int64),
    "instrument/source": tf.io.FixedLenFeature([], tf.int64),
    "pitch": tf.io.FixedLenFeature([], tf.int64),
    "velocity": tf.io.FixedLenFeature([], tf.int64),
}

_AGAIN = "prepare the data set again with --overwrite"


@dataclasses.dataclass(frozen=True)
class NoteIndex:
    """Labels of every record of a data set, in the order of its files.

    Attributes:
      families: names of the families; `family` counts in them.
      instruments: names of the instruments.
      sources: names of the sources.
      split_names: the data set's own splits.
      file_names: record files, relative to the data set's folder.
      file_sizes: their sizes in bytes, int64 [files].
      file_notes: records in each, int64 [files].
      file_split: split of each file, int8 [files].
      file_lost: records of each that could not be read, int64 [files]; not 0 only
        where damage was to be skipped.
      ids: id of each note, str [notes].
      family: int16 [notes].
      instrument: int32 [notes].
      source: int8 [notes].
      pitch: MIDI pitch or -1, int16 [notes].
      velocity: MIDI velocity or -1, int16 [notes].
      faulty: notes with NaN or infinity in their audio, bool [notes]; None where they
        were not looked for, which is done where damage is to be skipped.
    """

    families: tuple[str, ...]
    instruments: tuple[str, ...]
    sources: tuple[str, ...]
    split_names: tuple[str, ...]
    file_names: tuple[str, ...]
    file_sizes: np.ndarray
    file_notes: np.ndarray
    file_split: np.ndarray
    file_lost: np.ndarray
    ids: np.ndarray
    family: np.ndarray
    instrument: np.ndarray
    source: np.ndarray
    pitch: np.ndarray
    velocity: np.ndarray
    faulty: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def note_split(self) -> np.ndarray:
        """Split of each note, int8 [notes]."""
        return np.repeat(self.file_split, self.file_notes)

    @property
    def usable(self) -> np.ndarray:
        """Notes that are not known to be faulty, bool [notes]."""
        return np.ones(len(self), bool) if self.faulty is None else ~self.faulty

    @property
    def file_starts(self) -> np.ndarray:
        """Row of the first note of each file, int64 [files]."""
        return np.concatenate([[0], np.cumsum(self.file_notes)[:-1]]).astype(np.int64)

    def counts(self, selected: np.ndarray) -> np.ndarray:
        """Notes of each family among the selected, int64 [families]."""
        return np.bincount(self.family[selected], minlength=len(self.families))

    def counts_by_split(self) -> dict[str, dict[str, int]]:
        """Notes of each family in each split of the data set."""
        splits = self.note_split
        return {
            name: dict(
                zip(self.families, self.counts(splits == i).tolist(), strict=True)
            )
            for i, name in enumerate(self.split_names)
        }


_TUPLES = ("families", "instruments", "sources", "split_names", "file_names")


def load(builder: tfds.core.DatasetBuilder, *, skip_bad: bool = False) -> NoteIndex:
    """The index of a prepared data set; made when missing or out of date.

    Args:
      builder: a prepared data set with the features of TFDS's `nsynth`.
      skip_bad: read all records again, and leave out damaged ones with a warning.

    Raises:
      UserError: a record file is missing, damaged or of another schema.
    """
    path = files.join(str(builder.data_path), INDEX_FILE)
    if files.exists(path) and not skip_bad:
        index = _read(path)
        if index is not None and _describes(index, builder):
            return index
        logging.info("%s is out of date; reading the labels again", path)
    return build(builder, skip_bad=skip_bad)


def build(builder: tfds.core.DatasetBuilder, *, skip_bad: bool = False) -> NoteIndex:
    """Reads the labels of every record once and stores the index beside them.

    An index with damage left out is not stored: whoever wants it says so each time.
    A folder that cannot be written to is no error: the index is then kept in memory.

    Args:
      builder: a prepared data set with the features of TFDS's `nsynth`.
      skip_bad: leave out damaged records, with a warning that counts them.

    Returns:
      The index.

    Raises:
      UserError: a record file is missing, damaged or of another schema.
    """
    split_names, paths, file_split, lengths = _record_files(builder)
    missing = [path for path in paths if not files.exists(path)]
    if missing and not skip_bad:
        raise UserError(
            f"{missing[0]}: record file is missing ({len(missing)} of {len(paths)}); "
            f"{_AGAIN}, or leave it out with --skip_bad"
        )
    floats = np.dtype(builder.info.features["audio"].np_dtype).kind == "f"
    batches = _readable_labels(paths, floats) if skip_bad else _all_labels(paths)
    columns = _read_labels(batches, paths, sum(lengths))
    features = builder.info.features["instrument"]
    notes = np.bincount(columns["file"], minlength=len(paths)).astype(np.int64)
    index = NoteIndex(
        families=tuple(features["family"].names),
        instruments=tuple(features["label"].names),
        sources=tuple(features["source"].names),
        split_names=tuple(split_names),
        file_names=tuple(path.rsplit("/", maxsplit=1)[-1] for path in paths),
        file_sizes=np.array([size_of(path) for path in paths], np.int64),
        file_notes=notes,
        file_split=np.array(file_split, np.int8),
        file_lost=np.array(lengths, np.int64) - notes,
        ids=columns["id"],
        family=columns["instrument/family"].astype(np.int16),
        instrument=columns["instrument/label"].astype(np.int32),
        source=columns["instrument/source"].astype(np.int8),
        pitch=columns["pitch"].astype(np.int16),
        velocity=columns["velocity"].astype(np.int16),
        faulty=columns.get("faulty"),
    )
    return _checked(index, paths, str(builder.data_path), skip_bad)


def _checked(
    index: NoteIndex, paths: list[str], folder: str, skip_bad: bool
) -> NoteIndex:
    """Reports records that are not there; stores an index that lacks none."""
    for path, lost in zip(paths, index.file_lost, strict=True):
        if not lost:
            continue
        message = f"{path}: {lost} of its records cannot be read"
        if not skip_bad:
            raise UserError(f"{message}; {_AGAIN}, or leave them out with --skip_bad")
        logging.warning("%s: left out", message)
    if index.faulty is not None and index.faulty.any():
        ids = index.ids[index.faulty]
        logging.warning(
            "%s: NaN or infinity in %d note(s), left out: %s%s",
            folder,
            len(ids),
            ", ".join(ids[:_NAMED]),
            ", …" if len(ids) > _NAMED else "",
        )
    if not index.file_lost.any():
        try:
            _write(index, folder)
        except UserError as error:
            logging.warning("%s; the index is kept in memory only", error)
    return index


def file_paths(builder: tfds.core.DatasetBuilder, index: NoteIndex) -> list[str]:
    """Full paths of the index's record files."""
    return [files.join(str(builder.data_path), name) for name in index.file_names]


def _record_files(
    builder: tfds.core.DatasetBuilder,
) -> tuple[list[str], list[str], list[int], list[int]]:
    """Splits, paths, split of each path, and records that each should have."""
    split_names = list(builder.info.splits)
    paths, file_split, lengths = [], [], []
    for i, name in enumerate(split_names):
        split = builder.info.splits[name]
        paths += [str(path) for path in split.filepaths]
        file_split += [i] * len(split.filepaths)
        lengths += split.shard_lengths
    return split_names, paths, file_split, lengths


@as_written
def _all_labels(paths: list[str]) -> Iterator[dict[str, np.ndarray]]:
    """Labels of all records, some at a time, several files at once."""

    def of_file(number: tf.Tensor) -> tf.data.Dataset:
        records = tf.data.TFRecordDataset(tf.gather(paths, number))
        return records.batch(32).map(
            lambda serialized: {
                **tf.io.parse_example(serialized, _LABEL_FEATURES),
                "file": tf.fill([tf.size(serialized)], number),
            }
        )

    dataset = tf.data.Dataset.range(len(paths)).interleave(
        of_file, cycle_length=8, num_parallel_calls=tf.data.AUTOTUNE
    )
    return dataset.as_numpy_iterator()


def _read_labels(
    batches: Iterator[dict[str, np.ndarray]], paths: list[str], total: int
) -> dict[str, np.ndarray]:
    """Label columns of all records, ordered by file and position."""
    parts: dict[str, list[np.ndarray]] = {}
    try:
        with tqdm(total=total, unit="note", desc="labels", disable=None) as bar:
            for batch in batches:
                for key, values in batch.items():
                    parts.setdefault(key, []).append(values)
                bar.update(len(batch["file"]))
    except tf.errors.OpError as error:
        raise UserError(_damage(paths, error)) from error
    if not parts:
        raise UserError(f"{paths[0] if paths else 'data set'}: there are no records")
    columns = {key: np.concatenate(part) for key, part in parts.items()}
    order = np.argsort(columns["file"], kind="stable")
    columns = {key: column[order] for key, column in columns.items()}
    columns["id"] = np.array([i.decode("utf-8") for i in columns["id"]])
    return columns


def _readable_labels(paths: list[str], floats: bool) -> Iterator[dict[str, np.ndarray]]:
    """Labels of the records before the first damage of each file, one by one.

    TensorFlow cannot read on behind a damaged record of a file. Where audio is stored
    as floats, `faulty` says whether some of it is not finite.
    """

    @as_written
    def parse(record: tf.Tensor) -> dict[str, tf.Tensor]:
        if not floats:
            return tf.io.parse_single_example(record, _LABEL_FEATURES)
        audio = tf.io.FixedLenFeature([NOTE_SAMPLES], tf.float32)
        note = tf.io.parse_single_example(record, {**_LABEL_FEATURES, "audio": audio})
        finite = tf.reduce_all(tf.math.is_finite(note.pop("audio")))
        return {**note, "faulty": ~finite}

    for number, path in enumerate(paths):
        records = tf.data.TFRecordDataset(path).map(parse)
        with contextlib.suppress(tf.errors.OpError):
            for labels in records.as_numpy_iterator():
                columns = {key: np.array([value]) for key, value in labels.items()}
                yield {**columns, "file": np.array([number])}


def damaged_file(paths: Sequence[str]) -> str | None:
    """The first file that cannot be read to its end, and why, in one line."""
    for path in paths:
        try:
            for batch in tf.data.TFRecordDataset(path).batch(32):
                tf.io.parse_example(batch, _LABEL_FEATURES)
        except tf.errors.NotFoundError:
            return f"{path}: record file is missing"
        except tf.errors.OpError as damage:
            return f"{path}: damaged or of another schema: {files.reason(damage)}"
    return None


def _damage(paths: list[str], error: tf.errors.OpError) -> str:
    found = damaged_file(paths)
    hint = f"{_AGAIN}, or leave it out with --skip_bad"
    return f"{found or 'records cannot be read: ' + files.reason(error)}; {hint}"


def size_of(path: str) -> int:
    """Bytes of a file; -1 where there is none."""
    return tf.io.gfile.stat(path).length if files.exists(path) else -1


def _describes(index: NoteIndex, builder: tfds.core.DatasetBuilder) -> bool:
    _, paths, _, _ = _record_files(builder)
    names = tuple(path.rsplit("/", maxsplit=1)[-1] for path in paths)
    sizes = [size_of(path) for path in paths]
    return names == index.file_names and sizes == index.file_sizes.tolist()


def _write(index: NoteIndex, folder: str) -> None:
    buffer = io.BytesIO()
    arrays = {f.name: getattr(index, f.name) for f in dataclasses.fields(index)}
    # A stored index is for those as well who want such notes to be an error.
    del arrays["faulty"]
    texts = {name: list(arrays.pop(name)) for name in _TUPLES}
    header = json.dumps({"version": _VERSION, **texts})
    np.savez_compressed(buffer, header=np.array(header), **arrays)
    files.write_bytes(files.join(folder, INDEX_FILE), buffer.getvalue())
    files.write_json(files.join(folder, COUNTS_FILE), index.counts_by_split())


def _read(path: str) -> NoteIndex | None:
    """The stored index, or None where it is damaged or of another version."""
    try:
        with np.load(io.BytesIO(files.read_bytes(path)), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        header = json.loads(str(arrays.pop("header")))
        if header.pop("version") != _VERSION:
            return None
        return NoteIndex(**{k: tuple(v) for k, v in header.items()}, **arrays)
    except Exception:
        # Whatever zipfile, zlib, NumPy and json raise at damaged bytes.
        return None
