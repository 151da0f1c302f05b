"""Audio files in folders and behind glob patterns, in a stable order."""

import glob
import os
from collections.abc import Iterable, Iterator

EXTENSIONS = (
    *(".wav", ".wave", ".rf64", ".w64", ".flac", ".aif", ".aiff", ".aifc", ".caf"),
    *(".mp3", ".ogg", ".oga", ".opus", ".au", ".snd"),
)
"""What is taken for audio in a folder; a file given by name may have any other."""


def find_audio(paths: Iterable[str]) -> Iterator[str]:
    """The audio files that these arguments mean.

    Folders are searched recursively, sorted by name, hidden entries left out; links
    to folders are followed, but no folder is visited twice. Patterns (`*`, `?`, `[`,
    `**`) that name no file themselves are expanded.

    Args:
      paths: files, folders and patterns.

    Yields:
      Paths as given or as found below the given folder. A path with nothing behind
      it (no such file, an empty or unreadable folder) comes out as it is, so that
      reading it says what is wrong with it.
    """
    for path in paths:
        if os.path.isdir(path):
            yield from _found_or_itself(path)
        elif not os.path.lexists(path) and glob.has_magic(path):
            yield from _matches(path)
        else:
            yield path


def _matches(pattern: str) -> Iterator[str]:
    matched = sorted(glob.glob(pattern, recursive=True))
    if "**" in pattern:
        # The pattern itself goes into folders; searching them would repeat files.
        matched = [path for path in matched if not os.path.isdir(path)]
    if not matched:
        yield pattern
    for path in matched:
        if os.path.isdir(path):
            yield from _found_or_itself(path)
        else:
            yield path


def _found_or_itself(folder: str) -> Iterator[str]:
    empty = True
    for path in _walk(folder, set()):
        empty = False
        yield path
    if empty:
        yield folder


def _walk(folder: str, visited: set[str]) -> Iterator[str]:
    real = os.path.realpath(folder)
    if real in visited:
        return
    visited.add(real)
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        yield folder
        return
    for name in names:
        path = os.path.join(folder, name)
        if name.startswith("."):
            continue
        if os.path.isdir(path):
            yield from _walk(path, visited)
        elif os.path.splitext(name)[1].lower() in EXTENSIONS:
            yield path
