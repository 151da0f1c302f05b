"""Where result lines go: the screen, or a file that is renamed when it is done."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

import tensorflow as tf

from mic_tf import files
from mic_tf.errors import UserError

PARTIAL = ".partial"

Write = Callable[[str], None]


@contextlib.contextmanager
def lines_to(path: str, beginning: str = "") -> Iterator[Write]:
    """Gives a function that writes whole lines to a file or to the screen.

    A file is written as `PATH.partial` and renamed to PATH at the end, also when the
    user interrupts. After a crash `PATH.partial` has what was written until then. A
    device or a pipe is written into as it is.

    Args:
      path: of any file system of `tf.io.gfile`; empty: standard output.
      beginning: lines in front of all others. On a disk of this machine an earlier
        `PATH.partial` that they were taken from is there until all are written.

    Raises:
      UserError: the file cannot be written.
    """
    with _file(path, beginning) if path else _standard_output(beginning) as write:
        yield write


def check(path: str) -> None:
    """Refuses a file that `lines_to` could not write, before there are lines.

    Raises:
      UserError: it is a folder, or its folder cannot be made or written to.
    """
    if not path or files.is_stream(path):
        return
    if path.endswith("/") or tf.io.gfile.isdir(path):
        raise UserError(f"{path}: cannot be written: it is a folder")
    folder = os.path.dirname(files.link_target(path))
    if folder:
        files.make_folder(folder)
    if not files.is_remote(path) and not os.access(folder or ".", os.W_OK):
        raise UserError(f"{path}: cannot be written: its folder is read-only")


def written(path: str) -> str:
    """What a run left: `PATH.partial` if there is one, else PATH, else nothing.

    Raises:
      UserError: it cannot be read.
    """
    target = files.link_target(path)
    for candidate in (target + PARTIAL, target):
        try:
            if files.exists(candidate) and not files.is_stream(candidate):
                return files.read_bytes(candidate).decode("utf-8", "surrogateescape")
        except (tf.errors.OpError, OSError) as error:
            raise UserError(
                f"{candidate}: cannot be read: {files.reason(error)}"
            ) from error
    return ""


@contextlib.contextmanager
def _file(path: str, beginning: str) -> Iterator[Write]:
    check(path)
    straight = files.is_stream(path)
    target = files.link_target(path)
    partial = path if straight else target + PARTIAL
    with _faults_of(path):
        if straight:
            file = files.open_stream(path)
            file.write(_encoded(beginning))
        else:
            file = files.open_new(partial, _encoded(beginning))

    def write(text: str) -> None:
        with _faults_of(path):
            file.write(_encoded(text))
            file.flush()

    def finish() -> None:
        with _faults_of(path):
            file.close()
            if not straight:
                tf.io.gfile.rename(partial, target, overwrite=True)

    try:
        yield write
    except KeyboardInterrupt:
        finish()
        raise
    finish()


def _encoded(text: str) -> bytes:
    """Text as UTF-8; file names that are not keep their bytes."""
    return text.encode("utf-8", "surrogateescape")


@contextlib.contextmanager
def _faults_of(path: str) -> Iterator[None]:
    try:
        yield
    except (tf.errors.OpError, OSError) as error:
        raise UserError(f"{path}: cannot be written: {files.reason(error)}") from error


@contextlib.contextmanager
def _standard_output(beginning: str) -> Iterator[Write]:
    sys.stdout.reconfigure(errors="surrogateescape")
    ahead = [beginning]

    def write(text: str) -> None:
        try:
            sys.stdout.write("".join([*ahead, text]))
            ahead.clear()
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            _leave_standard_output()
            raise UserError(
                f"standard output: cannot be written: {files.reason(error)}"
            ) from error

    try:
        yield write
    except BrokenPipeError:
        # The reader (`| head`) has all it wanted.
        _leave_standard_output()


def _leave_standard_output() -> None:
    """Lets what can no longer be flushed go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
