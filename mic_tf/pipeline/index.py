"""The note index: one row of labels for each record of a prepared data set.

One pass over the records, labels only, gives a table of a few megabytes even at
NSynth's 305,979 notes. With it the splits, the exact proportions of families and the
decision which notes a pass takes are known before a single record is read. It is
stored beside the records (`note_index.npz`, and `label_counts.json` for people), and
made again when the record files are no longer those it was made from.
"""

import dataclasses
import io
import json
import zipfile

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging
from tqdm.auto import tqdm

from mic_tf import files
from mic_tf.errors import UserError

INDEX_FILE = "note_index.npz"
COUNTS_FILE = "label_counts.json"
_VERSION = 1

_LABEL_FEATURES = {
    "id": tf.io.FixedLenFeature([], tf.string),
    "instrument/family": tf.io.FixedLenFeature([], tf.int64),
    "instrument/label": tf.io.FixedLenFeature([], tf.int64),
    "instrument/source": tf.io.FixedLenFeature([], tf.int64),
    "pitch": tf.io.FixedLenFeature([], tf.int64),
    "velocity": tf.io.FixedLenFeature([], tf.int64),
}


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
      ids: id of each note, str [notes].
      family: int16 [notes].
      instrument: int32 [notes].
      source: int8 [notes].
      pitch: MIDI pitch or -1, int16 [notes].
      velocity: MIDI velocity or -1, int16 [notes].
    """

    families: tuple[str, ...]
    instruments: tuple[str, ...]
    sources: tuple[str, ...]
    split_names: tuple[str, ...]
    file_names: tuple[str, ...]
    file_sizes: np.ndarray
    file_notes: np.ndarray
    file_split: np.ndarray
    ids: np.ndarray
    family: np.ndarray
    instrument: np.ndarray
    source: np.ndarray
    pitch: np.ndarray
    velocity: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def note_split(self) -> np.ndarray:
        """Split of each note, int8 [notes]."""
        return np.repeat(self.file_split, self.file_notes)

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


def load(builder: tfds.core.DatasetBuilder) -> NoteIndex:
    """The index of a prepared data set; made when missing or out of date."""
    path = files.join(str(builder.data_path), INDEX_FILE)
    if files.exists(path):
        index = _read(path)
        if index is not None and _describes(index, builder):
            return index
        logging.info("%s is out of date; reading the labels again", path)
    return build(builder)


def build(builder: tfds.core.DatasetBuilder) -> NoteIndex:
    """Reads the labels of every record once and stores the index beside them.

    A folder that cannot be written to is no error: the index is then kept in memory.

    Args:
      builder: a prepared data set with the features of TFDS's `nsynth`.

    Returns:
      The index.

    Raises:
      UserError: a record file is damaged or has records of another schema.
    """
    split_names, paths, file_split = _record_files(builder)
    total = sum(builder.info.splits[name].num_examples for name in split_names)
    columns = _read_labels(paths, total)
    features = builder.info.features["instrument"]
    index = NoteIndex(
        families=tuple(features["family"].names),
        instruments=tuple(features["label"].names),
        sources=tuple(features["source"].names),
        split_names=tuple(split_names),
        file_names=tuple(path.rsplit("/", maxsplit=1)[-1] for path in paths),
        file_sizes=np.array([_size(path) for path in paths], np.int64),
        file_notes=np.bincount(columns["file"], minlength=len(paths)).astype(np.int64),
        file_split=np.array(file_split, np.int8),
        ids=columns["id"],
        family=columns["instrument/family"].astype(np.int16),
        instrument=columns["instrument/label"].astype(np.int32),
        source=columns["instrument/source"].astype(np.int8),
        pitch=columns["pitch"].astype(np.int16),
        velocity=columns["velocity"].astype(np.int16),
    )
    folder = str(builder.data_path)
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
) -> tuple[list[str], list[str], list[int]]:
    split_names = list(builder.info.splits)
    paths, file_split = [], []
    for i, name in enumerate(split_names):
        for path in builder.info.splits[name].filepaths:
            paths.append(str(path))
            file_split.append(i)
    missing = [path for path in paths if not files.exists(path)]
    if missing:
        raise UserError(
            f"{missing[0]}: record file is missing ({len(missing)} of {len(paths)}); "
            "prepare the data set again"
        )
    return split_names, paths, file_split


def _read_labels(paths: list[str], total: int) -> dict[str, np.ndarray]:
    """Label columns of all records, ordered by file and position."""

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
    parts: dict[str, list[np.ndarray]] = {k: [] for k in (*_LABEL_FEATURES, "file")}
    try:
        with tqdm(total=total, unit="note", desc="labels", leave=False) as bar:
            for batch in dataset.as_numpy_iterator():
                for key, part in parts.items():
                    part.append(batch[key])
                bar.update(len(batch["file"]))
    except tf.errors.OpError as error:
        raise UserError(_damage(paths, error)) from error
    if not parts["file"]:
        raise UserError(f"{paths[0] if paths else 'data set'}: there are no records")
    columns = {key: np.concatenate(part) for key, part in parts.items()}
    order = np.argsort(columns["file"], kind="stable")
    columns = {key: column[order] for key, column in columns.items()}
    columns["id"] = np.array([i.decode("utf-8") for i in columns["id"]])
    return columns


def _damage(paths: list[str], error: tf.errors.OpError) -> str:
    """One line that names the damaged file."""
    for path in paths:
        try:
            for batch in tf.data.TFRecordDataset(path).batch(32):
                tf.io.parse_example(batch, _LABEL_FEATURES)
        except tf.errors.OpError as damage:
            return f"{path}: damaged or of another schema: {files.reason(damage)}"
    return f"records cannot be read: {files.reason(error)}"


def _size(path: str) -> int:
    return tf.io.gfile.stat(path).length


def _describes(index: NoteIndex, builder: tfds.core.DatasetBuilder) -> bool:
    _, paths, _ = _record_files(builder)
    names = tuple(path.rsplit("/", maxsplit=1)[-1] for path in paths)
    sizes = [_size(path) for path in paths]
    return names == index.file_names and sizes == index.file_sizes.tolist()


def _write(index: NoteIndex, folder: str) -> None:
    buffer = io.BytesIO()
    arrays = {f.name: getattr(index, f.name) for f in dataclasses.fields(index)}
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
    except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile):
        return None
