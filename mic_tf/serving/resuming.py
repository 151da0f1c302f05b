"""What made a result: without knowing it a stopped run is not gone on with."""

import collections
import dataclasses
from collections.abc import Callable, Iterable
from typing import TypeVar

from absl import logging

from mic_tf import files
from mic_tf.errors import UserError
from mic_tf.serving import output
from mic_tf.serving.doubt import Doubt
from mic_tf.serving.rows import Row

_WORDS = {
    "model": "another model",
    "min_probability": "another --min_probability",
    "min_familiarity": "another --min_familiarity",
}

Origin = dict[str, str | float]
Item = TypeVar("Item")


def origin(fingerprint: str, doubt: Doubt) -> Origin:
    """What the answers of a result depend on, besides the files.

    Args:
      fingerprint: of the model, as `models.fingerprint` gives it.
      doubt: which answers are called unsure.
    """
    return {"model": fingerprint, **dataclasses.asdict(doubt)}


def earlier(
    out: str, made_by: Origin, rows_of: Callable[[str], list[Row]]
) -> list[Row]:
    """The rows that earlier runs of the same origin left of a result.

    Those of `OUT.partial`, which a run left that was killed: with what OUT has beyond
    them if that run went on with OUT, without if it was to make it anew. Where there is
    no `OUT.partial`, those of OUT.

    Args:
      out: of the result.
      made_by: the origin.
      rows_of: reads rows from text; raises `UserError` where there are none to read.

    Raises:
      UserError: something else made it, or it is not known what did, or it is no such
        text. Said of `OUT.partial` where there is one, else of OUT.
    """
    target = files.link_target(out)
    partial = target + output.PARTIAL
    note = partial + output.MADE_BY
    left = _rows(partial, note, made_by, rows_of)
    # A run that was killed while it put both in place had put the rows first; and a run
    # that went on with OUT found it made by the same.
    own = target + output.MADE_BY
    own = own if files.exists(own) or not files.exists(note) else note
    if left is None:
        return _rows(target, own, made_by, rows_of) or []
    if files.read_json(note).get(output.GOES_ON):
        before = _rows(target, own, made_by, rows_of) or []
        return left + beyond(before, left, lambda row: row.file)
    if files.exists(target):
        logging.warning(
            "%s: its rows are not kept; the run that left %s was to make it anew",
            out,
            partial,
        )
    return left


def _rows(
    path: str, note: str, made_by: Origin, rows_of: Callable[[str], list[Row]]
) -> list[Row] | None:
    """The rows in a file that is made by this; None where it is missing or empty."""
    text = output.written(path)
    if not text:
        return None
    fault = _fault(note, made_by)
    if fault:
        raise UserError(_refusal(path, fault))
    try:
        return rows_of(text)
    except UserError as error:
        raise UserError(_refusal(path, str(error))) from error


def _fault(note: str, made_by: Origin) -> str:
    """What is wrong with a note of what made a result; empty: nothing."""
    if not files.exists(note):
        return f"{note}, which says what made it, is missing"
    found = files.read_json(note)
    for name, expected in made_by.items():
        if not isinstance(found, dict) or found.get(name, 0.0) != expected:
            return f"made with {_WORDS[name]}"
    return ""


def _refusal(path: str, fault: str) -> str:
    remedy = "without --resume it is made anew"
    if path.endswith(output.PARTIAL):
        remedy = (
            f"a run that was killed left it; remove it to go on with "
            f"{path.removesuffix(output.PARTIAL)} alone"
        )
    return f"{path}: cannot be resumed: {fault}; {remedy}"


def beyond(
    items: Iterable[Item], known: Iterable[Row], file_of: Callable[[Item], str]
) -> list[Item]:
    """The items whose files have no row; a file that comes twice has two.

    Args:
      items: what may have rows.
      known: the rows.
      file_of: the file of an item.
    """
    left = collections.Counter(row.file for row in known)
    found = []
    for item in items:
        if left[file_of(item)]:
            left[file_of(item)] -= 1
        else:
            found.append(item)
    return found
