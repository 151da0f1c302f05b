"""Answers as lines of text: a table for people, CSV and JSON for programs."""

import contextlib
import csv
import dataclasses
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mic_tf.errors import UserError
from mic_tf.serving.classifier import Answer
from mic_tf.serving.doubt import NEVER, UNSURE, Doubt

FORMATS = ("table", "csv", "json")

_NO_OBJECT_YET = re.compile(r"\s*(\[\s*(\]\s*|\n\{.*)?)?")
"""A JSON result without rows, or one that breaks off before its first is whole."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the result.

    Attributes:
      file: as given or found.
      family: the answer; empty on an error.
      probability: of the most probable family; none on an error.
      probabilities: of every family; empty on an error.
      error: what is wrong with the file; empty where nothing is.
      channels: of the file; their mean was classified. None on an error, and where an
        earlier result did not say.
      familiarity: how like the notes of training it is; None where the model does not
        tell, and where an earlier result did not say.
    """

    file: str
    family: str = ""
    probability: float | None = None
    probabilities: dict[str, float] = dataclasses.field(default_factory=dict)
    error: str = ""
    channels: int | None = None
    familiarity: float | None = None


def row_of(path: str, answer: Answer | UserError, doubt: Doubt = NEVER) -> Row:
    """The line for one file."""
    if isinstance(answer, UserError):
        return Row(path, error=str(answer).removeprefix(f"{path}: "))
    return Row(
        path,
        doubt.family(answer),
        answer.probability,
        answer.probabilities,
        channels=answer.channels,
        familiarity=answer.familiarity,
    )


class Layout:
    """How rows become text. Each piece of text is one whole line.

    Attributes:
      head: what stands in front of the rows.
      tail: what stands behind them, however they ended.
      says_channels: whether a row tells that channels were averaged.
      for_people: whether it is to be looked at and not to be read by programs.
    """

    head = ""
    tail = ""
    says_channels = False
    for_people = False

    def line(self, row: Any) -> str:
        """One row as text; a row is a frozen dataclass."""
        raise NotImplementedError


class Csv(Layout):
    """`file,family,probability`, a column for each family, `error`."""

    def __init__(self, labels: Sequence[str]):
        self._labels = labels
        self.head = csv_line(["file", "family", "probability", *labels, "error"])

    def line(self, row: Row) -> str:
        numbers = [row.probability, *(row.probabilities.get(n) for n in self._labels)]
        texts = ["" if n is None else f"{n:.6f}" for n in numbers]
        return csv_line([row.file, row.family, *texts, row.error])

    def rows_of(self, text: str) -> list[Row]:
        """The whole rows of a text that may break off anywhere, errors too.

        Raises:
          UserError: the text has other columns, or is not CSV.
        """
        if not (text.startswith(self.head) or self.head.startswith(text)):
            raise UserError(f"other columns than {self.head.strip()}")
        whole = text[: text.rfind("\n") + 1]
        found = []
        try:
            for cells in itertools.islice(csv.reader(io.StringIO(whole)), 1, None):
                # A row that broke off in a quoted name, or was changed by hand.
                with contextlib.suppress(ValueError):
                    found.append(self._row(cells))
        except csv.Error as error:
            raise UserError(f"not CSV: {error}") from error
        return found

    def _row(self, cells: list[str]) -> Row:
        """By place: a family may have the name of another column."""
        file, family, probability, *numbers, error = cells
        if error:
            return Row(file, error=error)
        own = zip(self._labels, map(float, numbers), strict=True)
        return Row(file, family, float(probability), dict(own))


class Json(Layout):
    """One list of objects, one object a line."""

    head = "[\n"
    tail = "\n]\n"
    says_channels = True

    def __init__(self):
        self._between = ""

    def line(self, row: Any) -> str:
        content = _rounded(dataclasses.asdict(row))
        text = json.dumps(content, ensure_ascii=False)
        if not _is_unicode(text):  # Bytes of a file name: JSON has none but as \udcXX.
            text = json.dumps(content)
        text = self._between + text
        self._between = ",\n"
        return text

    def rows_of(self, text: str) -> list[Row]:
        """The whole rows of a text that may break off anywhere, errors too.

        Raises:
          UserError: the text is something else, whole or not.
        """
        try:
            objects = json.loads(text)
        except ValueError:
            objects = list(_objects(text))
        found = []
        for content in objects if isinstance(objects, list) else ():
            with contextlib.suppress(TypeError):
                found.append(Row(**content))
        if not found and (objects or not _NO_OBJECT_YET.fullmatch(text)):
            raise UserError("other content than answers")
        return found


class Table(Layout):
    """For people: the answer and the next best."""

    says_channels = True
    for_people = True

    def __init__(self, labels: Sequence[str], paths: Sequence[str]):
        self._file_width = max([len(path) for path in paths] + [4])
        self._width = max(len(name) for name in (*labels, UNSURE))
        head = f"{'file':<{self._file_width}}  {'family':<{self._width}}"
        self.head = f"{head}  probability  next best\n"

    def line(self, row: Row) -> str:
        start = f"{printable(row.file):<{self._file_width}}  "
        if row.error:
            return f"{start}error: {printable(row.error)}\n"
        ranked = sorted(row.probabilities.items(), key=lambda item: -item[1])
        others = [item for item in ranked if item[0] != row.family and item[1] > 0]
        following = f"{others[0][0]} {others[0][1]:.1%}" if others else ""
        if (row.channels or 1) > 1:
            following = f"{following}  ({channels_in_words(row.channels)})"
        answer = f"{row.family:<{self._width}}  {row.probability:>11.1%}  {following}"
        return f"{start}{answer}".rstrip() + "\n"


def csv_line(cells: Sequence[str]) -> str:
    """One line of CSV."""
    text = io.StringIO()
    # Before Python 3.13 a carriage return is not quoted, and no reader takes it then.
    quoting = csv.QUOTE_ALL if "\r" in "".join(cells) else csv.QUOTE_MINIMAL
    csv.writer(text, lineterminator="\n", quoting=quoting).writerow(cells)
    return text.getvalue()


def _objects(text: str) -> Iterator[Any]:
    """The JSON values that are a line each, with a comma behind or without."""
    for line in text.split("\n"):
        with contextlib.suppress(ValueError):
            yield json.loads(line.strip().rstrip(","))


def _is_unicode(text: str) -> bool:
    """Whether text can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _rounded(value: Any) -> Any:
    """A JSON value with its numbers to six places."""
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return round(value, 6) if isinstance(value, float) else value


def channels_in_words(channels: int) -> str:
    """What was done to a file of several channels."""
    return f"mean of {channels} channels"


def printable(name: str) -> str:
    """A file name that keeps a terminal in order."""
    return "".join(c if c.isprintable() else "?" for c in name)


def layout(name: str, labels: Sequence[str], paths: Sequence[str]) -> Layout:
    """The layout of this name.

    Args:
      name: one of `FORMATS`.
      labels: the model's families.
      paths: all files, for the width of a column.
    """
    makers: dict[str, Callable[[], Layout]] = {
        "table": lambda: Table(labels, paths),
        "csv": lambda: Csv(labels),
        "json": Json,
    }
    return makers[name]()
