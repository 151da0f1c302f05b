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
def lines_to(path: str) -> Iterator[Write]:
    """Gives a function that writes whole lines to a file or to the screen.

    A file is written as `PATH.partial` and renamed to PATH at the end, also when the
    user interrupts. After a crash `PATH.partial` has what was written until then. A
    device or a pipe is written into as it is.

    Args:
      path: of any file system of `tf.io.gfile`; empty: standard output.

    Raises:
      UserError: the file cannot be written.
    """
    if path:
        with _file(path) as write:
            yield write
    else:
        with _standard_output() as write:
            yield write


def written(path: str) -> str:
    """What a run left: `PATH.partial` if there is one, else PATH, else nothing."""
    target = files.link_target(path)
    for candidate in (target + PARTIAL, target):
        if files.exists(candidate) and not files.is_stream(candidate):
            return files.read_bytes(candidate).decode("utf-8", "surrogateescape")
    return ""


@contextlib.contextmanager
def _file(path: str) -> Iterator[Write]:
    straight = files.is_stream(path)
    target = files.link_target(path)
    partial = path if straight else target + PARTIAL
    with _faults_of(path):
        if os.path.dirname(path):
            files.make_folder(os.path.dirname(path))
        file = files.open_stream(path) if straight else files.open_new(partial)

    def write(text: str) -> None:
        with _faults_of(path):
            # File names that are not UTF-8 keep their bytes.
            file.write(text.encode("utf-8", "surrogateescape"))
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


@contextlib.contextmanager
def _faults_of(path: str) -> Iterator[None]:
    try:
        yield
    except (tf.errors.OpError, OSError) as error:
        raise UserError(f"{path}: cannot be written: {files.reason(error)}") from error


@contextlib.contextmanager
def _standard_output() -> Iterator[Write]:
    sys.stdout.reconfigure(errors="surrogateescape")

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    try:
        yield write
    except BrokenPipeError:
        # The reader (`| head`) has all it wanted; nothing more can be flushed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
