"""NSynth's examples.json: what is known about each note, in little memory."""

import json
from typing import Any, NamedTuple

from mic_tf.datasets.problems import Problems
from mic_tf.errors import UserError
from mic_tf.taxonomy import FAMILIES, QUALITIES, SOURCES


class Entry(NamedTuple):
    """One note of examples.json; strings are shared between notes."""

    instrument: str
    family: str
    source: str
    pitch: int
    velocity: int
    qualities: tuple[bool, ...]


_FIELDS = {
    "instrument_str": str,
    "instrument_family_str": str,
    "instrument_source_str": str,
    "pitch": int,
    "velocity": int,
    "qualities": list,
}


class _Compactor:
    """Turns each inner JSON object into an `Entry` as soon as it has been parsed.

    The objects of the full data set would take some gigabytes.
    """

    def __init__(self):
        self._shared: dict[Any, Any] = {}

    def __call__(self, content: dict[str, Any]) -> Any:
        for field, kind in _FIELDS.items():
            if not isinstance(content.get(field), kind):
                return content
        qualities = tuple(bool(value) for value in content["qualities"])
        if len(qualities) != len(QUALITIES):
            return content
        return Entry(
            self._share(content["instrument_str"]),
            self._share(content["instrument_family_str"]),
            self._share(content["instrument_source_str"]),
            content["pitch"],
            content["velocity"],
            self._share(qualities),
        )

    def _share(self, value: Any) -> Any:
        return self._shared.setdefault(value, value)


def parse(
    content: bytes, origin: str, problems: Problems
) -> tuple[dict[str, Entry], frozenset[str]]:
    """The entries of an examples.json by note name.

    Args:
      content: the file.
      origin: archive and member, for messages.
      problems: takes entries that cannot be used.

    Returns:
      The usable entries, and the names of the others.

    Raises:
      UserError: it is not JSON, or not an object of objects.
    """
    try:
        table = json.loads(content, object_hook=_Compactor())
    except ValueError as error:
        raise UserError(f"{origin}: not a JSON file: {error}") from error
    if not isinstance(table, dict):
        raise UserError(f"{origin}: an object with an entry for each note expected")
    good = {}
    for name, entry in table.items():
        fault = _fault(entry)
        if fault:
            problems.report(f"{origin}: {name}", fault)
        else:
            good[name] = entry
    return good, frozenset(table.keys() - good.keys())


def _fault(entry: Any) -> str:
    if not isinstance(entry, Entry):
        content = entry if isinstance(entry, dict) else {}
        for field, kind in _FIELDS.items():
            if not isinstance(content.get(field), kind):
                return f"the entry has no {field} of type {kind.__name__}"
        return f"the entry's qualities are not {len(QUALITIES)} values"
    if entry.family not in FAMILIES:
        return f"unknown family {entry.family!r}; known: {', '.join(FAMILIES)}"
    if entry.source not in SOURCES:
        return f"unknown source {entry.source!r}; known: {', '.join(SOURCES)}"
    return ""
