"""What made a result: without knowing it a stopped run is not gone on with."""

import collections
import dataclasses
from collections.abc import Callable

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

    Those of `OUT.partial`, which a run left that was killed, and behind them what OUT
    has beyond them. An OUT of another origin is one that the killed run was to replace.

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
    newest = _rows(partial, made_by, rows_of)
    if newest is None:
        return _rows(target, made_by, rows_of) or []
    try:
        before = _rows(target, made_by, rows_of)
    except _OfAnotherOriginError:
        before = None
    return _together(newest, before or [])


class _OfAnotherOriginError(UserError):
    """A text that something else made, or it is not known what."""


def _rows(
    path: str, made_by: Origin, rows_of: Callable[[str], list[Row]]
) -> list[Row] | None:
    """The rows in a file that is made by this; None where it is missing or empty."""
    text = output.written(path)
    if not text:
        return None
    fault = _fault(path + output.MADE_BY, made_by)
    if fault:
        raise _OfAnotherOriginError(_refusal(path, fault))
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


def _together(first: list[Row], second: list[Row]) -> list[Row]:
    """All rows of the first, and what the second has of a file beyond those."""
    left = collections.Counter(row.file for row in first)
    beyond = []
    for row in second:
        if left[row.file]:
            left[row.file] -= 1
        else:
            beyond.append(row)
    return first + beyond
