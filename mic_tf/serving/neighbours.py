"""Which files of a collection sound most alike."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mic_tf.errors import UserError
from mic_tf.evaluation import metrics
from mic_tf.serving import rows
from mic_tf.serving.classifier import Answer


@dataclasses.dataclass(frozen=True)
class Neighbour:
    """One of the files most similar to a file.

    Attributes:
      file: the file in question.
      rank: 1 for the most similar one; 0 on an error.
      neighbour: the similar file.
      similarity: cosine of the two embeddings; none on an error.
      error: what is wrong with the file; empty where nothing is.
    """

    file: str
    rank: int = 0
    neighbour: str = ""
    similarity: float | None = None
    error: str = ""


def neighbours(
    answers: Sequence[tuple[str, Answer | UserError]], count: int
) -> Iterator[Neighbour]:
    """The most similar other files of each file.

    Silent files have none and are nobody's.

    Args:
      answers: of the whole collection, as `Classifier.classify_files` gives them.
        A file that is there twice, by whatever links, is one neighbour, and none of
        its own.
      count: how many for each file at most.

    Yields:
      For each file in order its neighbours, the most similar first, or its error or
      why it has none.
    """
    known: dict[Any, tuple[str, np.ndarray]] = {}
    for path, answer in answers:
        if isinstance(answer, Answer) and not answer.silent:
            known.setdefault(_identity(path), (path, answer.embedding))
    row_of = {file: row for row, file in enumerate(known)}
    names = [path for path, _ in known.values()]
    unit = metrics.unit(np.array([embedding for _, embedding in known.values()]))
    most = min(count, len(names) - 1)
    for path, answer in answers:
        if isinstance(answer, UserError):
            yield Neighbour(path, error=str(answer).removeprefix(f"{path}: "))
            continue
        if answer.silent:
            yield Neighbour(path, error="silence, which is like nothing")
            continue
        if not most:
            yield Neighbour(path, error="no other file to compare it with")
            continue
        own = row_of[_identity(path)]
        similarity = unit @ unit[own]
        similarity[own] = -np.inf
        order = np.argsort(-similarity, kind="stable")[:most]
        for rank, other in enumerate(order, start=1):
            yield Neighbour(path, rank, names[other], float(similarity[other]))


def _identity(path: str) -> Any:
    """The same for all names of one file."""
    try:
        found = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    return found.st_dev, found.st_ino


class Csv(rows.Layout):
    """`file,rank,neighbour,similarity,error`."""

    head = rows.csv_line([field.name for field in dataclasses.fields(Neighbour)])

    def line(self, row: Neighbour) -> str:
        similarity = "" if row.similarity is None else f"{row.similarity:.6f}"
        cells = [row.file, str(row.rank), row.neighbour, similarity, row.error]
        return rows.csv_line(cells)


class Table(rows.Layout):
    """For people."""

    for_people = True

    def line(self, row: Neighbour) -> str:
        name = rows.printable(row.file)
        if row.error:
            return f"{name}  error: {rows.printable(row.error)}\n"
        other = rows.printable(row.neighbour)
        return f"{name}  {row.rank:>3}  {row.similarity:.3f}  {other}\n"


LAYOUTS = {"table": Table, "csv": Csv, "json": rows.Json}
