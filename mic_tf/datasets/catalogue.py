"""The way from a data set's name to the prepared set."""

import os
from typing import TYPE_CHECKING

import tensorflow as tf
from absl import logging

from mic_tf import files
from mic_tf.datasets.names import VERSION, DatasetName, parse_name
from mic_tf.errors import UserError

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

_INFO_FILE = "dataset_info.json"


def find_prepared(name: DatasetName, data_dir: str) -> str | None:
    """The folder of a prepared set, or None.

    Without a version it is the newest one. A set of ours that was only prepared
    under one label is also found without it.

    Args:
      name: the data set.
      data_dir: local folder, gs:// or s3://.
    """
    parts = [name.dataset, name.config] if name.config else [name.dataset]
    folder = files.join(os.path.expanduser(data_dir), *parts)
    found = _newest(folder, name.version)
    if found or name.config:
        return found
    labelled = [
        path
        for label in _entries(folder)
        if not VERSION.fullmatch(label)
        and (path := _newest(files.join(folder, label), name.version))
    ]
    if len(labelled) > 1:
        raise UserError(
            f"--dataset={name}: prepared under several labels in {folder}; "
            f"say which: {', '.join(f'{name.dataset}/{_label(p)}' for p in labelled)}"
        )
    if labelled:
        logging.info("%s: taking %s", name, labelled[0])
    return labelled[0] if labelled else None


def load_builder(
    name: str, data_dir: str, *, flag: str = "dataset"
) -> "tfds.core.DatasetBuilder":
    """Opens a prepared data set; needs neither its source nor its builder's code.

    Args:
      name: as in `known_names`, with a label or version where wanted.
      data_dir: folder of prepared sets (local, gs://, s3://).
      flag: what the name was given by.

    Returns:
      A builder whose `info` and record files can be read.

    Raises:
      UserError: unknown name, or not prepared there or damaged; says how to prepare it.
    """
    parsed = parse_name(name, flag)
    files.register_file_systems(data_dir)
    try:
        folder = find_prepared(parsed, data_dir)
        if folder:
            return _opened(folder)
    except (tf.errors.OpError, OSError) as error:
        raise UserError(f"--data_dir={data_dir}: {files.reason(error)}") from error
    source = "" if parsed.dataset in ("nsynth", "soundfont_notes") else " --source=…"
    raise UserError(
        f"{name} is not prepared in {data_dir}; prepare it with: python -m "
        f"mic_tf.prepare --dataset={name}{source} --data_dir={data_dir}"
    )


def _opened(folder: str) -> "tfds.core.DatasetBuilder":
    import tensorflow_datasets as tfds
    from google.protobuf import json_format

    try:
        return tfds.builder_from_directory(folder)
    except (json_format.ParseError, ValueError, TypeError) as error:
        raise UserError(
            f"{folder}: its description is damaged ({files.reason(error)}); prepare it "
            "again with --overwrite"
        ) from error


def _newest(folder: str, version: str) -> str | None:
    versions = [
        entry
        for entry in _entries(folder)
        if VERSION.fullmatch(entry) and (not version or entry == version)
    ]
    versions.sort(key=lambda entry: tuple(map(int, entry.split("."))), reverse=True)
    for entry in versions:
        path = files.join(folder, entry)
        if files.exists(files.join(path, _INFO_FILE)):
            return path
    return None


def _entries(folder: str) -> list[str]:
    if not tf.io.gfile.isdir(folder):
        return []
    return sorted(entry.rstrip("/") for entry in tf.io.gfile.listdir(folder))


def _label(path: str) -> str:
    return os.path.basename(os.path.dirname(path))
