"""A prepared set that is replaced: it stays until the new one is whole."""

import contextlib
import os
import re
import uuid
from collections.abc import Iterator

import tensorflow as tf
from absl import logging

from mic_tf import files
from mic_tf.datasets.names import VERSION
from mic_tf.errors import UserError

INFO_FILE = "dataset_info.json"
"""What a whole set has; it is written last."""

_ASIDE = re.compile(rf"replaced\.[0-9a-f]{{32}}_({VERSION.pattern})")
"""What a set is called meanwhile; that is no version, so nobody takes it for a set."""


@contextlib.contextmanager
def taken_away(folder: str) -> Iterator[None]:
    """Takes a prepared set away while another is made in its place.

    On a disk it waits under another name, and is back if the other does not get whole.
    An object store cannot rename a folder: there it is gone.

    Args:
      folder: of the set.

    Raises:
      UserError: it may not be renamed or removed.
    """
    if files.is_remote(folder):
        discard(folder)
        yield
        return
    parent, version = os.path.split(folder)
    for place in (folder, parent):
        files.check_writable(place)
    try:
        _rename(folder, files.join(parent, f"replaced.{uuid.uuid4().hex}_{version}"))
        yield
    finally:
        settle(parent)


def settle(parent: str) -> None:
    """Removes sets that were replaced, and puts back those that were not.

    A process that was killed could not do so; on a disk the next one does.

    Args:
      parent: folder of the sets' versions.
    """
    if files.is_remote(parent):
        return
    for entry in os.listdir(parent):
        found = _ASIDE.fullmatch(entry)
        if not found:
            continue
        aside, folder = files.join(parent, entry), files.join(parent, found[1])
        if is_whole(folder) or not is_whole(aside):
            try:
                discard(aside)
            except UserError as error:
                logging.warning("%s", error)
            continue
        if os.path.isdir(folder):
            remove_folder(folder)
        _rename(aside, folder)
        logging.info("%s was not replaced; it is as before", folder)


def discard(folder: str) -> None:
    """Removes a prepared set; a half that remains does not look like a whole.

    Raises:
      UserError: it may not be removed.
    """
    files.remove(files.join(folder, INFO_FILE))
    remove_folder(folder)


def remove_folder(folder: str) -> None:
    """Removes a folder with all that is in it.

    Raises:
      UserError: it may not be removed.
    """
    try:
        tf.io.gfile.rmtree(folder)
    except (tf.errors.OpError, OSError) as error:
        reason = files.reason(error)
        raise UserError(f"{folder}: cannot be removed: {reason}") from error


def is_whole(folder: str) -> bool:
    """Whether a prepared set is there with all that belongs to it."""
    return files.exists(files.join(folder, INFO_FILE))


def _rename(source: str, target: str) -> None:
    try:
        os.rename(source, target)
    except OSError as error:
        reason = files.reason(error)
        raise UserError(f"{source}: cannot be renamed to {target}: {reason}") from error
