"""Prepares a data set with one of our builders: whole, once, and said in numbers."""

import contextlib
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core.utils import shard_utils

from mic_tf import files
from mic_tf.datasets import replacing, schema
from mic_tf.datasets.names import DatasetName
from mic_tf.datasets.note_builder import LEFT_OUT_FILE, NoteBuilder
from mic_tf.errors import UserError

_METADATA_FILE = "metadata.json"


def prepare(
    builder_class: type[NoteBuilder],
    name: DatasetName,
    data_dir: str,
    *,
    source_given: bool,
    num_shards: int = 0,
    overwrite: bool = False,
    **source: Any,
) -> str:
    """Prepares a set, or finds that it is there already.

    Args:
      builder_class: one of our builders.
      name: the data set; its config is a label of the person's own.
      data_dir: folder of prepared sets.
      source_given: whether the person said what to read; a set that is there is
        then compared with it.
      num_shards: record files of each split; 0: by size.
      overwrite: prepare a set anew that is there, which stays until the new one is
        whole; in an object store, until the new one's notes are counted.
      **source: for the builder.

    Returns:
      The folder of the prepared set.

    Raises:
      UserError: the source has a fault, a set with other settings is there, the disk
        is full, or another process prepares the same set.
    """
    version = str(builder_class.VERSION)
    if name.version not in ("", version):
        raise UserError(f"--dataset={name}: only version {version} can be prepared")
    root = os.path.expanduser(data_dir)
    parts = [part for part in (name.dataset, name.config, version) if part]
    folder = files.join(root, *parts)
    with contextlib.ExitStack() as stack:
        stack.enter_context(one_at_a_time(folder))
        replacing.settle(os.path.dirname(folder))
        if replacing.is_whole(folder):
            # A builder opened on its prepared set restores the names of that set, so
            # the settings asked for come from one that looks elsewhere.
            nowhere = files.join(root, f".none-{uuid.uuid4().hex}")
            asked = builder_class(data_dir=nowhere, **source) if source_given else None
            if overwrite and asked is None:
                raise UserError(
                    f"--overwrite: {folder} is prepared, and no --source is given to "
                    "make it of again"
                )
            if _reusable(folder, asked, overwrite):
                warn_of_shards(folder, num_shards)
                return folder
            logging.info("replacing %s", folder)
            if files.is_remote(folder):
                with _faults_of_source():
                    asked.note_counts()
            stack.enter_context(replacing.taken_away(folder))
        remove_leftovers(folder)
        config = tfds.core.BuilderConfig(name=name.config) if name.config else None
        builder = builder_class(data_dir=root, config=config, **source)
        _generate(builder, root, num_shards)
    return folder


def say_sizes(data_dir: str, needed_bytes: int, what: str) -> None:
    """Says how much will be written and how much is free.

    Raises:
      UserError: there is not enough.
    """
    if files.is_remote(data_dir):
        logging.info("%s: about %s", what, readable(needed_bytes))
        return
    free = shutil.disk_usage(_existing_parent(data_dir)).free
    logging.info(
        "%s: about %s; free in %s: %s",
        what,
        readable(needed_bytes),
        data_dir,
        readable(free),
    )
    if needed_bytes > free:
        raise UserError(
            f"--data_dir={data_dir}: {readable(needed_bytes)} needed, "
            f"{readable(free)} free; free some or choose another --data_dir"
        )


def readable(size: float) -> str:
    """A number of bytes for people, as `1.5 GB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


class _Shards(shard_utils.ShardConfig):
    """Shards small enough that 500 notes fill 8, which several workers can share."""

    # TFDS computes with the class's value, whatever an object's says.
    min_shard_size = 8 << 20

    def get_number_shards(self, total_size: int, num_examples: int, **kwargs) -> int:
        number = super().get_number_shards(total_size, num_examples, **kwargs)
        return min(number, num_examples)


class _DownloadConfig(tfds.download.DownloadConfig):
    def get_shard_config(self) -> shard_utils.ShardConfig:
        return _Shards(num_shards=self.num_shards)


def _generate(builder: NoteBuilder, root: str, num_shards: int) -> None:
    with _faults_of_source():
        counts = builder.note_counts()
    notes = sum(counts.values())
    say_sizes(root, notes * schema.RECORD_BYTES, f"{builder.name}: {notes:,} notes")
    download_config = _DownloadConfig(
        num_shards=num_shards or None, try_download_gcs=False
    )
    # TFDS sorts more than 1 GB in 1,000 files.
    files.allow_open(1000)
    tfds.disable_progress_bar()
    try:
        with faults_of_disk(f"--data_dir={root}"):
            builder.download_and_prepare(download_config=download_config)
    finally:
        tfds.enable_progress_bar()
    if builder.problems:
        logging.warning(
            "%d notes or files were left out; %s lists them",
            len(builder.problems),
            files.join(str(builder.data_dir), LEFT_OUT_FILE),
        )


def _reusable(folder: str, asked: NoteBuilder | None, overwrite: bool) -> bool:
    """Whether the prepared set is the one that is asked for, and not to be made anew.

    Raises:
      UserError: it is another one and must not be replaced, or is damaged.
    """
    if overwrite:
        with _faults_of_source():
            asked.settings()
        return False
    try:
        metadata = files.read_json(files.join(folder, _METADATA_FILE))
    except UserError as error:
        raise UserError(f"{error}; --overwrite makes the set anew") from error
    if not isinstance(metadata, dict):
        raise UserError(
            f"{folder}/{_METADATA_FILE}: damaged; --overwrite makes the set anew"
        )
    left_out = metadata.get("left_out", 0)
    note = f" ({left_out} notes or files were left out of it)" if left_out else ""
    there = metadata.get("settings")
    if asked is None:
        made = f", from {json.dumps(there)}" if there else ""
        logging.info("%s is prepared already%s; using it%s", folder, made, note)
        return True
    with _faults_of_source():
        wanted = json.loads(json.dumps(asked.settings()))
    if there == wanted:
        logging.info(
            "%s is prepared already, with these settings; using it%s", folder, note
        )
        return True
    raise UserError(
        f"{folder} is prepared already, from something else "
        f"({_difference(there, wanted)}); --overwrite replaces it, "
        f"--dataset={asked.name}/LABEL keeps both"
    )


def warn_of_shards(folder: str, num_shards: int) -> None:
    """Says that a prepared set that is used has other record files than wished."""
    if not num_shards:
        return
    info = files.read_json(files.join(folder, replacing.INFO_FILE))
    for split in info.get("splits", []):
        lengths = [int(length) for length in split.get("shardLengths", [])]
        if len(lengths) != min(num_shards, sum(lengths)):
            logging.warning(
                "--num_shards=%d: %s has %d record file(s) of %s; --overwrite makes it "
                "anew",
                *(num_shards, folder, len(lengths), split["name"]),
            )
            return


@contextlib.contextmanager
def _faults_of_source() -> Iterator[None]:
    """One line for what of the source cannot be read."""
    try:
        yield
    except OSError as error:
        name = error.filename or "--source"
        raise UserError(f"{name}: {files.reason(error)}") from error


@contextlib.contextmanager
def faults_of_disk(what: str) -> Iterator[None]:
    """One line, after `what`, for what TFDS cannot read or write."""
    try:
        yield
    except (OSError, tf.errors.OpError, RuntimeError) as error:
        # TFDS raises a RuntimeError from one of TensorFlow's.
        cause = error.__cause__ if isinstance(error, RuntimeError) else error
        if not isinstance(cause, OSError | tf.errors.OpError):
            raise
        raise UserError(f"{what}: {files.reason(cause)}") from error


def _difference(there: dict[str, Any] | None, wanted: dict[str, Any]) -> str:
    there = there or {}
    for key in sorted(there.keys() | wanted.keys()):
        if there.get(key) != wanted.get(key):
            before, now = (json.dumps(side.get(key)) for side in (there, wanted))
            return f"{key}: there {before}, asked for {now}"
    return "no difference"


def remove_leftovers(folder: str) -> None:
    """Removes what interrupted preparations of this set left behind."""
    parent, version = os.path.split(folder)
    if not tf.io.gfile.isdir(parent):
        return
    for entry in tf.io.gfile.listdir(parent):
        entry = entry.rstrip("/")
        if entry.startswith("incomplete.") and entry.endswith(f"_{version}"):
            logging.info("removing an interrupted preparation: %s", entry)
            replacing.remove_folder(files.join(parent, entry))
    if tf.io.gfile.isdir(folder):
        replacing.remove_folder(folder)


@contextlib.contextmanager
def one_at_a_time(folder: str) -> Iterator[None]:
    """Keeps two processes from preparing the same set on this machine.

    Raises:
      UserError: another process does, or the folder cannot be made.
    """
    parent = os.path.dirname(folder)
    files.make_folder(parent)
    if files.is_remote(folder):
        yield
        return
    lock = os.open(parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise UserError(f"{folder}: another process is preparing it") from error
    except OSError as error:
        # Some network file systems have no locks.
        logging.warning("%s: cannot be locked (%s)", parent, error.strerror)
    try:
        yield
    finally:
        os.close(lock)


def _existing_parent(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(os.path.abspath(path))
    return path
