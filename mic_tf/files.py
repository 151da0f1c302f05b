"""Files that may be local, in memory or in an object store, whole or not at all.

Everything goes through `tf.io.gfile`, so `gs://`, `s3://` and `ram://` paths work
wherever a local one does. Writes go to a temporary name beside the target and are
then renamed: a reader never sees half a file.
"""

import contextlib
import json
import os
import resource
import stat
import sys
import uuid
from typing import Any, BinaryIO

import tensorflow as tf

from mic_tf.errors import UserError

_MOST_LINKS = 40

_NEEDS_TENSORFLOW_IO = ("s3://", "az://", "hdfs://")


def join(*parts: str) -> str:
    """Joins path parts; keeps a URL scheme in front as it is."""
    return os.path.join(*parts)


def is_remote(path: str) -> bool:
    """Whether the path names an object store or another TensorFlow file system."""
    return "://" in path


def register_file_systems(*paths: str) -> None:
    """Loads tensorflow-io where one of the paths needs its file systems.

    Raises:
      UserError: tensorflow-io is not installed (there is none for Python 3.13).
    """
    wanted = [p for p in paths if p and p.startswith(_NEEDS_TENSORFLOW_IO)]
    if not wanted:
        return
    try:
        import tensorflow_io  # noqa: F401  (registers the file systems)
    except ImportError as error:
        raise UserError(
            f"{wanted[0]}: this kind of path needs tensorflow-io, which is not "
            "installed; use Python 3.10-3.12 and `pip install tensorflow-io==0.37.1`"
        ) from error


def exists(path: str) -> bool:
    """Whether there is such a file or folder.

    Raises:
      UserError: nobody knows, as of a bucket without leave to read it.
    """
    try:
        return tf.io.gfile.exists(path)
    except tf.errors.OpError as error:
        raise UserError(f"{path}: cannot be read: {reason(error)}") from error


def make_folder(path: str) -> None:
    """Makes a folder and its parents.

    Raises:
      UserError: it cannot be made.
    """
    try:
        tf.io.gfile.makedirs(path)
    except (tf.errors.OpError, OSError) as error:
        raise UserError(
            f"{path}: the folder cannot be made: {reason(error)}"
        ) from error


def check_writable(folder: str) -> None:
    """Makes a folder and tries to write into it, before long work is begun for it.

    Raises:
      UserError: it cannot be made or written to.
    """
    make_folder(folder)
    trial = temporary_name(join(folder, "trial"))
    try:
        with tf.io.gfile.GFile(trial, "wb") as file:
            file.write(b"trial")
    except (tf.errors.OpError, OSError) as error:
        raise UserError(f"{folder}: cannot be written to: {reason(error)}") from error
    finally:
        remove(trial)


def reason(error: BaseException) -> str:
    """The first line of an error's message, without TensorFlow's decoration."""
    text = getattr(error, "message", None) or getattr(error, "strerror", None)
    return (text or str(error)).strip().split("\n")[0]


def read_bytes(path: str) -> bytes:
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read()


def read_text(path: str) -> str:
    return read_bytes(path).decode("utf-8")


def read_json(path: str) -> Any:
    """Reads a JSON file.

    Raises:
      UserError: it is missing, may not be read or is not JSON.
    """
    try:
        return json.loads(read_bytes(path))
    except tf.errors.NotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (tf.errors.OpError, OSError) as error:
        raise UserError(f"{path}: cannot be read: {reason(error)}") from error
    except ValueError as error:
        raise UserError(f"{path}: not a JSON file: {reason(error)}") from error


def write_bytes(path: str, content: bytes) -> None:
    """Writes a file whole or not at all; into a device or a pipe straight.

    Raises:
      UserError: the disk is full, the folder is read-only, and so on.
    """
    straight = is_stream(path)
    target = path if straight else link_target(path)
    temporary = "" if straight else temporary_name(target)
    try:
        make_folder(os.path.dirname(target) or ".")
        with open_stream(path) if straight else open_new(temporary) as file:
            file.write(content)
        if temporary:
            tf.io.gfile.rename(temporary, target, overwrite=True)
    except (tf.errors.OpError, OSError) as error:
        if temporary:
            remove(temporary)
        raise UserError(f"{path}: cannot be written: {reason(error)}") from error


def is_stream(path: str) -> bool:
    """Whether a path is a device, a pipe or a socket, or `/dev/stdout`.

    Such a one is written into, at its end: renaming a file over it would take it away,
    and what others wrote to standard output, where that leads to a file.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    is_plain = stat.S_ISREG(mode) or stat.S_ISDIR(mode)
    return not is_plain or open_number(path) is not None


def open_stream(path: str) -> BinaryIO:
    """A stream to write into, see `is_stream`; what is open already goes on there."""
    number = open_number(path)
    if number is None:
        return open(path, "ab", buffering=0)
    if sys.stdout:
        sys.stdout.flush()
    return open(os.dup(number), "wb", buffering=0)


def allow_open(count: int) -> None:
    """Room for so many open files and others, as far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(4096, count + 1024)
    wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def open_new(path: str, beginning: bytes = b"") -> BinaryIO:
    """A file to write anew, on any file system; what was there stays until it begins.

    Args:
      path: of the file.
      beginning: what it begins with. A file that was there is replaced by all of it.
    """
    if beginning and not is_remote(path):
        write_bytes(path, beginning)
        return tf.io.gfile.GFile(path, "ab")
    file = tf.io.gfile.GFile(path, "wb")
    file.write(beginning)
    file.flush()  # In an object store it is there from now on.
    return file


def open_number(path: str) -> int | None:
    """The number under which this process has a file open, where a path says that."""
    own = {f"/proc/{os.getpid()}/fd", "/dev/fd"}
    for _ in range(_MOST_LINKS):
        folder, name = os.path.split(path)
        if os.path.realpath(folder or ".") in own and name.isdecimal():
            return int(name)
        if not os.path.islink(path):
            return None
        path = os.path.join(folder, os.readlink(path))
    return None


def link_target(path: str) -> str:
    """Where a symbolic link leads, so that writing keeps the link; else the path."""
    return os.path.realpath(path) if os.path.islink(path) else path


def temporary_name(path: str) -> str:
    """A name beside the path that no other process on any host comes up with."""
    return f"{path}.tmp-{uuid.uuid4().hex[:12]}"


def write_text(path: str, content: str) -> None:
    write_bytes(path, content.encode("utf-8"))


def write_json(path: str, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def remove(path: str) -> None:
    """Removes a file if it is there."""
    with contextlib.suppress(tf.errors.OpError):
        tf.io.gfile.remove(path)


def rename_tree(source: str, target: str) -> None:
    """Moves every file under one folder to another, file by file.

    Renaming a folder loses its files on some of TensorFlow's file systems.
    """
    for folder, _, names in tf.io.gfile.walk(source):
        relative = folder[len(source) :].strip("/")
        for name in names:
            destination = (
                join(target, relative, name) if relative else join(target, name)
            )
            make_folder(os.path.dirname(destination))
            tf.io.gfile.rename(join(folder, name), destination, overwrite=True)
    # In an object store a folder without files is not there any more.
    with contextlib.suppress(tf.errors.NotFoundError):
        tf.io.gfile.rmtree(source)
