"""Where result lines go: the screen, or a file that is renamed when it is done."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tensorflow as tf

from mic_tf import command, files, locking
from mic_tf.audio import finding
from mic_tf.errors import UserError

PARTIAL = ".partial"
MADE_BY = ".model"
"""`OUT.model` stands beside a result that can be resumed, and says what made it."""
GOES_ON = "goes_on"
"""Beside what made a result: whether it began with the rows of an earlier one."""
_LOCK = ".lock"

Write = Callable[[str], None]


@contextlib.contextmanager
def lines_to(
    path: str,
    beginning: str = "",
    made_by: dict[str, Any] | None = None,
    goes_on: bool = False,
    for_people: bool = False,
) -> Iterator[Write]:
    """Gives a function that writes whole lines to a file or to the screen.

    A file is written as `PATH.partial` and renamed to PATH at the end, also when the
    user interrupts. After a crash `PATH.partial` has what was written until then. A
    device or a pipe is written into as it is.

    Args:
      path: of any file system of `tf.io.gfile`; empty: standard output.
      beginning: lines in front of all others.
      made_by: what the lines are made by, for JSON; it stands in `PATH.partial.model`
        as long as they are in `PATH.partial`, then in `PATH.model`. None: nothing.
      goes_on: whether the beginning has the lines of an earlier `PATH.partial` made by
        the same. On a disk of this machine that one is there until all are written.
      for_people: on the screen, what it cannot show is replaced; the bytes of all else
        are UTF-8, as in a file.

    Raises:
      UserError: the file cannot be written.
    """
    if path:
        opened = _file(path, beginning, made_by, goes_on)
    else:
        opened = _standard_output(beginning, for_people)
    with opened as write:
        yield write


def check(path: str, sources: Iterable[str] = ()) -> None:
    """Refuses a file that `lines_to` could not write or should not, before it begins.

    Args:
      path: as for `lines_to`.
      sources: files that must not be written over.

    Raises:
      UserError: it is a folder, a recording or one of the sources, its folder cannot
        be made or written to, or standard output is closed.
    """
    if sys.stdout is None and (not path or files.open_number(path) == 1):
        raise UserError("standard output: closed; --out=FILE expected")
    if not path or files.is_stream(path):
        return
    if path.endswith("/") or tf.io.gfile.isdir(path):
        raise UserError(f"{path}: cannot be written: it is a folder")
    if os.path.splitext(path)[1].lower() in finding.EXTENSIONS:
        raise UserError(
            f"{path}: not written: the name is one of a recording; one as answers.csv "
            "expected"
        )
    if os.path.exists(path):
        place = os.path.realpath(path)
        if any(os.path.realpath(source) == place for source in sources):
            raise UserError(
                f"{path}: not written: it is one of the files to answer; another name "
                "expected"
            )
    folder = os.path.dirname(files.link_target(path))
    if folder:
        files.make_folder(folder)
    if not files.is_remote(path) and not os.access(folder or ".", os.W_OK):
        raise UserError(f"{path}: cannot be written: its folder is read-only")


@contextlib.contextmanager
def only_one(path: str) -> Iterator[None]:
    """Holds a result while it is read and written; not one in an object store.

    Raises:
      UserError: another process is writing it.
    """
    if not path or files.is_stream(path) or files.is_remote(path):
        yield
        return
    with locking.held(
        files.link_target(path) + PARTIAL + _LOCK,
        lambda other: UserError(
            f"{path}: {other} is writing it; wait for it to end, or give another --out"
        ),
        "see to it yourself that nothing else writes there",
        stays=False,
    ):
        yield


def written(path: str) -> str:
    """The text of a result, or of what a stopped run left; empty where it is missing.

    Raises:
      UserError: it cannot be read.
    """
    try:
        if files.exists(path) and not files.is_stream(path):
            return files.read_bytes(path).decode("utf-8", "surrogateescape")
    except (tf.errors.OpError, OSError) as error:
        raise UserError(f"{path}: cannot be read: {files.reason(error)}") from error
    return ""


@contextlib.contextmanager
def _file(
    path: str, beginning: str, made_by: dict[str, Any] | None, goes_on: bool
) -> Iterator[Write]:
    check(path)
    straight = files.is_stream(path)
    target = files.link_target(path)
    partial = path if straight else target + PARTIAL
    with _faults_of(path):
        if straight:
            file = files.open_stream(path)
            file.write(_encoded(beginning))
        else:
            if not goes_on:
                # Beside lines of others our note would be wrong, however short.
                files.remove(partial)
                files.remove(partial + MADE_BY)
            if made_by is not None:
                files.write_json(partial + MADE_BY, {**made_by, GOES_ON: goes_on})
            file = files.open_new(partial, _encoded(beginning))

    def write(text: str) -> None:
        with _faults_of(path):
            file.write(_encoded(text))
            file.flush()

    def finish() -> None:
        with _faults_of(path):
            file.close()
            if not straight:
                _put_in_place(target, made_by is not None)

    try:
        yield write
    except KeyboardInterrupt:
        finish()
        raise
    finish()


def _put_in_place(target: str, has_note: bool) -> None:
    """Renames a partial result; at no time is there a note beside lines of others."""
    if has_note:
        files.remove(target + MADE_BY)
    tf.io.gfile.rename(target + PARTIAL, target, overwrite=True)
    if has_note:
        note = target + PARTIAL + MADE_BY
        tf.io.gfile.rename(note, target + MADE_BY, overwrite=True)


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
def _standard_output(beginning: str, for_people: bool) -> Iterator[Write]:
    check("")
    if for_people:
        sys.stdout.reconfigure(errors="replace")
    else:
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    ahead = [beginning]

    def write(text: str) -> None:
        try:
            sys.stdout.write("".join([*ahead, text]))
            ahead.clear()
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise command.unwritable(error) from error

    try:
        yield write
    except BrokenPipeError:
        # The reader (`| head`) has all it wanted.
        command.leave_standard_output()
