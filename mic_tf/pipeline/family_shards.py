"""Record files of one family each, beside a prepared data set.

With them a balanced stream reads only what it delivers: it draws a family, then takes
that family's next record. They cost the size of the data set once more.
"""

import contextlib
import dataclasses
import math
from collections.abc import Sequence
from concurrent import futures

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging
from tqdm.auto import tqdm

from mic_tf import files
from mic_tf.datasets.names import without_version
from mic_tf.datasets.preparation import one_at_a_time
from mic_tf.errors import UserError
from mic_tf.pipeline import index as note_index
from mic_tf.pipeline.index import NoteIndex

FOLDER = "family_shards"
_MANIFEST = "manifest.json"
_BYTES = "bytes"
_NOTES_PER_FILE = 512
_FEWEST_FILES = 8
_MOST_FILES = 16


@dataclasses.dataclass(frozen=True)
class FamilyShards:
    """The files and which notes are in each.

    Attributes:
      paths: full paths.
      family: family of each file, int64 [files].
      rows: rows of the note index in each file, in the file's order.
    """

    paths: tuple[str, ...]
    family: np.ndarray
    rows: tuple[np.ndarray, ...]


def write(builder: tfds.core.DatasetBuilder) -> FamilyShards:
    """Writes the files, with a progress bar; reuses them when they are up to date.

    Raises:
      UserError: they cannot be written, or another process prepares the set or writes
        them.
    """
    index = note_index.load(builder)
    folder = _folder(builder)
    plan = _plan(index)
    manifest = files.join(folder, _MANIFEST)
    shards = _shards(folder, plan)
    with one_at_a_time(folder):
        if files.exists(manifest):
            fault = _fault(files.read_json(manifest), _content(index, plan), shards)
            if not fault:
                logging.info("%s is there already", folder)
                return shards
            logging.info("%s: %s; writing it anew", folder, fault)
        files.remove(manifest)
        files.make_folder(folder)
        place = np.empty(len(index), np.int64)
        for number, (_, _, rows) in enumerate(plan):
            place[rows] = number
        _copy(note_index.file_paths(builder, index), shards.paths, place)
        content = {**_content(index, plan), _BYTES: _sizes(shards.paths)}
        files.write_json(manifest, content)
    return shards


def load(builder: tfds.core.DatasetBuilder, index: NoteIndex) -> FamilyShards:
    """The files of a data set.

    Raises:
      UserError: there are none, they were made from other records, or one is not as
        it was written.
    """
    folder = _folder(builder)
    plan = _plan(index)
    manifest = files.join(folder, _MANIFEST)
    name = without_version(builder.info.full_name)
    command = (
        f"write them with: python -m mic_tf.prepare --dataset={name} --family_shards, "
        "and the --data_dir of before"
    )
    if not files.exists(manifest):
        raise UserError(f"--balance=streams: no {folder}; {command}")
    shards = _shards(folder, plan)
    fault = _fault(files.read_json(manifest), _content(index, plan), shards)
    if fault:
        raise UserError(f"{folder}: {fault}; {command}")
    return shards


def _fault(there: dict, wanted: dict, shards: FamilyShards) -> str:
    """Why files cannot be used, by their manifest; empty where they can.

    Args:
      there: the manifest.
      wanted: what it would say of today's records, but for the sizes.
      shards: the files.
    """
    # Earlier programs did not write the sizes down.
    before = there.pop(_BYTES, {})
    if there != wanted:
        return "made from other records"
    for name, size in _sizes(shards.paths).items():
        if size < 0:
            return f"{name} is missing"
        if before.get(name, size) != size:
            return f"{name} has {size:,} bytes, {before[name]:,} expected"
    return ""


def _sizes(paths: Sequence[str]) -> dict[str, int]:
    """Bytes of each file by its name; -1 where there is none."""
    with futures.ThreadPoolExecutor(16) as pool:  # An object store is asked for each.
        sizes = list(pool.map(note_index.size_of, paths))
    names = [path.rsplit("/", maxsplit=1)[-1] for path in paths]
    return dict(zip(names, sizes, strict=True))


def _folder(builder: tfds.core.DatasetBuilder) -> str:
    return files.join(str(builder.data_path), FOLDER)


def _plan(index: NoteIndex) -> list[tuple[str, int, np.ndarray]]:
    """Name, family and rows of each file: a function of the index alone."""
    plan = []
    splits = index.note_split
    for split, split_name in enumerate(index.split_names):
        for family, family_name in enumerate(index.families):
            rows = np.flatnonzero((splits == split) & (index.family == family))
            count = max(math.ceil(len(rows) / _NOTES_PER_FILE), _FEWEST_FILES)
            count = min(count, _MOST_FILES, len(rows))
            label = family_name.replace("/", "%2F")
            for number in range(count):
                name = f"{split_name}-{label}-{number:02d}-of-{count:02d}.tfrecord"
                plan.append((name, family, rows[number::count]))
    return plan


def _content(index: NoteIndex, plan: list[tuple[str, int, np.ndarray]]) -> dict:
    return {
        "source_files": list(index.file_names),
        "source_bytes": index.file_sizes.tolist(),
        "files": {name: len(rows) for name, _, rows in plan},
    }


def _shards(folder: str, plan: list[tuple[str, int, np.ndarray]]) -> FamilyShards:
    return FamilyShards(
        tuple(files.join(folder, name) for name, _, _ in plan),
        np.array([family for _, family, _ in plan], np.int64),
        tuple(rows for _, _, rows in plan),
    )


def _copy(sources: list[str], targets: tuple[str, ...], place: np.ndarray) -> None:
    """Deals the records of the sources, in order, to the targets."""
    files.allow_open(len(targets))
    try:
        with contextlib.ExitStack() as stack:
            writers = [
                stack.enter_context(tf.io.TFRecordWriter(path)) for path in targets
            ]
            records = tf.data.TFRecordDataset(sources).prefetch(64).as_numpy_iterator()
            for row, record in enumerate(
                tqdm(records, total=len(place), unit="note", desc=FOLDER, disable=None)
            ):
                writers[place[row]].write(record)
    except (tf.errors.OpError, OSError) as error:
        raise UserError(
            f"{FOLDER}: cannot be written: {files.reason(error)}"
        ) from error
