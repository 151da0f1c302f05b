"""Audio files in folders and behind glob patterns, in a stable order."""

import collections
import functools
import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence

from absl import logging

EXTENSIONS = (
    *(".wav", ".wave", ".rf64", ".w64", ".flac", ".aif", ".aiff", ".aifc", ".caf"),
    *(".mp3", ".ogg", ".oga", ".opus", ".au", ".snd"),
)
"""What is taken for audio in a folder; a file given by name may have any other."""

UNREAD = (
    *(".m4a", ".m4b", ".aac", ".ac3", ".wma", ".asf", ".mp2", ".mpc", ".wv", ".ape"),
    *(".tta", ".amr", ".3gp", ".ra", ".dsf", ".dff", ".mka", ".mkv", ".mp4", ".mov"),
    *(".webm", ".avi"),
)
"""Endings of other files with sound, which are not taken."""

_ANY_DEPTH = re.compile(r"(?:^|(?<=/))(?:\*\*/+)*\*\*(?:/+|$)")


def find_unread(folder: str) -> Iterator[str]:
    """The files below a folder whose endings are among `UNREAD`."""
    for path in _walk(folder, set(), UNREAD):
        if ending_of(path) in UNREAD:
            yield path


def warn_of_unread(folder: str) -> None:
    """Says once how many files below a folder are passed over for their endings."""
    endings = collections.Counter(map(ending_of, find_unread(folder)))
    if endings:
        logging.warning(
            "%d files are not read: %s; convert them, as by `ffmpeg -i FILE new.flac`",
            endings.total(),
            ", ".join(sorted(endings)),
        )


def ending_of(path: str) -> str:
    """A file's ending in small letters, as `.wav`."""
    return os.path.splitext(path)[1].lower()


def find_audio(paths: Iterable[str]) -> Iterator[str]:
    """The audio files that these arguments mean.

    Folders are searched recursively, sorted by name, hidden entries left out; links
    to folders are followed, but no folder is visited twice. Patterns (`*`, `?`, `[`,
    `**`) that name no file themselves are expanded, and folders among what they name
    are searched; each file of a pattern comes once.

    Args:
      paths: files, folders and patterns.

    Yields:
      Paths as given or as found below the given folder. A path with nothing behind
      it (no such file, a link to nothing, an empty or unreadable folder) comes out as
      it is, so that reading it says what is wrong with it; not so an empty folder that
      a pattern with `**` names.
    """
    for path in paths:
        if os.path.isdir(path):
            yield from _or_itself(path, _walk(path, set()))
        elif not os.path.lexists(path) and glob.has_magic(path):
            yield from _or_itself(path, _matches(path))
        else:
            yield path


def _or_itself(path: str, found: Iterable[str]) -> Iterator[str]:
    """What is found, or the path where nothing is."""
    empty = True
    for each in found:
        empty = False
        yield each
    if empty:
        yield path


def _matches(pattern: str) -> Iterator[str]:
    """What a pattern names; a file that lies in a folder of it, too, comes by name."""
    real = functools.cache(os.path.realpath)

    def place(path: str) -> tuple[str, str]:
        folder, name = os.path.split(path)
        return real(folder), name

    matched = sorted(set(_expanded(pattern)))
    folders = set(filter(os.path.isdir, matched))
    named: dict[tuple[str, str], str] = {}
    for path in matched:
        if path not in folders:
            named.setdefault(place(path), path)
    visited: set[str] = set()
    for path in matched:
        if path not in folders:
            found = [path] if named[place(path)] == path else []
        else:
            found = _walk(path, visited)
            if real(path) not in visited and not _ANY_DEPTH.search(pattern):
                found = _or_itself(path, found)
            found = (each for each in found if place(each) not in named)
        yield from found


def _expanded(pattern: str) -> Iterator[str]:
    """All paths that a pattern matches; `**` goes into no folder twice."""
    deep = _ANY_DEPTH.search(pattern)
    if not deep:
        yield from glob.glob(pattern)
        return
    before, after = pattern[: deep.start()], pattern[deep.end() :]
    if pattern.endswith("**"):
        after = after or "*"
    visited: set[str] = set()
    for top in sorted(glob.glob(before)) if before else [""]:
        for folder in _folders(top, visited):
            yield from _expanded(os.path.join(glob.escape(folder), after))


def _folders(folder: str, visited: set[str]) -> Iterator[str]:
    """A folder and all below it, as `_walk` goes into them."""
    real = os.path.realpath(folder)
    if real in visited:
        return
    visited.add(real)
    yield folder
    for inner in sorted(glob.glob(os.path.join(glob.escape(folder), "*", ""))):
        yield from _folders(inner, visited)


def _walk(
    folder: str, visited: set[str], endings: Sequence[str] = EXTENSIONS
) -> Iterator[str]:
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
            yield from _walk(path, visited, endings)
            continue
        # A link to nothing that has no ending was probably one to a folder.
        ending = ending_of(name)
        if ending in endings or not (ending or os.path.exists(path)):
            yield path
