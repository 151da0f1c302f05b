"""Which files of a collection sound most alike."""

import dataclasses
from collections.abc import Iterator, Sequence

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

    Args:
      answers: of the whole collection, as `Classifier.classify_files` gives them.
      count: how many for each file at most.

    Yields:
      For each file in order its neighbours, the most similar first, or its error.
    """
    names = [path for path, answer in answers if isinstance(answer, Answer)]
    vectors = [answer.embedding for _, answer in answers if isinstance(answer, Answer)]
    unit = metrics.unit(np.array(vectors))
    row = 0
    for path, answer in answers:
        if isinstance(answer, UserError):
            yield Neighbour(path, error=str(answer).removeprefix(f"{path}: "))
            continue
        similarity = unit @ unit[row]
        similarity[row] = -np.inf
        order = np.argsort(-similarity, kind="stable")[: min(count, len(names) - 1)]
        for rank, other in enumerate(order, start=1):
            yield Neighbour(path, rank, names[other], float(similarity[other]))
        row += 1


class Csv(rows.Layout):
    """`file,rank,neighbour,similarity,error`."""

    head = rows.csv_line([field.name for field in dataclasses.fields(Neighbour)])

    def line(self, row: Neighbour) -> str:
        similarity = "" if row.similarity is None else f"{row.similarity:.6f}"
        cells = [row.file, str(row.rank), row.neighbour, similarity, row.error]
        return rows.csv_line(cells)


class Table(rows.Layout):
    """For people."""

    def line(self, row: Neighbour) -> str:
        name = rows.printable(row.file)
        if row.error:
            return f"{name}  error: {row.error}\n"
        other = rows.printable(row.neighbour)
        return f"{name}  {row.rank:>3}  {row.similarity:.3f}  {other}\n"


LAYOUTS = {"table": Table, "csv": Csv, "json": rows.Json}
