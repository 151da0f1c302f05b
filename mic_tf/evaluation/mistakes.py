"""The most confident mistakes, each beside the training note that is nearest to it."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from mic_tf.evaluation import metrics, pictures, sounds
from mic_tf.evaluation.heard import Heard, some_heard
from mic_tf.evaluation.markup import Markup, element, joined, sound
from mic_tf.pipeline.batches import Records, faults_named

MOST_MISTAKES = 24
MOST_TRAINING_NOTES = 2_000
_BATCH = 32

Embedding = Callable[[tf.Tensor], tf.Tensor]
"""From waveforms, int16 [batch, 64000], to vectors, float [batch, d]."""


@dataclasses.dataclass(frozen=True)
class Mistake:
    """One wrong answer.

    Attributes:
      row: of the note index.
      truth: name of the family.
      answer: name of the family answered.
      confidence: its probability.
      nearest: the nearest training note, or None: the data set, and the row in it.
      similarity: cosine of the two embeddings.
    """

    row: int
    truth: str
    answer: str
    confidence: float
    nearest: tuple[Heard, int] | None = None
    similarity: float = 0.0


def most_confident(
    rows: np.ndarray,
    truth: np.ndarray,
    probabilities: np.ndarray,
    labels: tuple[str, ...],
    most: int = MOST_MISTAKES,
) -> list[Mistake]:
    """Wrong answers, the surest first.

    Args:
      rows: of the note index, int [notes].
      truth: int [notes].
      probabilities: float [notes, families].
      labels: names of the families.
      most: how many at most.
    """
    answer = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    wrong = np.flatnonzero(answer != truth)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")][:most]
    return [
        Mistake(int(rows[i]), labels[truth[i]], labels[answer[i]], float(confidence[i]))
        for i in wrong
    ]


def with_nearest(
    mistakes: list[Mistake],
    records: Records,
    heard: Sequence[Heard],
    embedding: Embedding,
    most_notes: int = MOST_TRAINING_NOTES,
) -> tuple[list[Mistake], int]:
    """Finds the nearest training note of each mistake, by cosine of the embeddings.

    Args:
      mistakes: what to find neighbours for.
      records: the data set.
      heard: the notes trained on.
      embedding: the model's.
      most_notes: of the training notes so many are looked at, drawn at random.

    Returns:
      The mistakes with their neighbours, and how many training notes were looked at.
    """
    candidates = some_heard(heard, most_notes) if mistakes else []
    if not candidates:
        return mistakes, 0
    own_rows = np.unique([mistake.row for mistake in mistakes])
    own = dict(zip(*embedded(records, own_rows, embedding), strict=True))
    wrong = np.array([own[mistake.row] for mistake in mistakes])
    cosines = []
    for each, rows in candidates:
        _, vectors = embedded(each.records, rows, embedding)
        cosine = wrong @ vectors.T
        if each.records is records:
            cosine[np.array([[m.row] for m in mistakes]) == rows] = -1.0
        cosines.append(cosine)
    notes = [(each, int(row)) for each, rows in candidates for row in rows]
    found = [
        dataclasses.replace(mistake, nearest=notes[row.argmax()], similarity=row.max())
        for mistake, row in zip(mistakes, np.hstack(cosines), strict=True)
    ]
    return found, len(notes)


def cards(mistakes: list[Mistake], records: Records) -> Markup:
    """A list of what the mistakes look and sound like."""
    tested = _Shown(records, {m.row for m in mistakes})
    neighbours: dict[str, set[int]] = {}
    sets = {}
    for each, row in (m.nearest for m in mistakes if m.nearest):
        neighbours.setdefault(each.dataset, set()).add(row)
        sets[each.dataset] = each.records
    heard = {name: _Shown(sets[name], rows) for name, rows in neighbours.items()}

    items = []
    for mistake in mistakes:
        heading = element(
            "h3", f"{mistake.truth}, taken for ", element("em", mistake.answer)
        )
        about = element("p", f"confidence {mistake.confidence:.0%}", class_="quiet")
        pair = [tested.card(mistake.row, "test note")]
        if mistake.nearest is not None:
            each, row = mistake.nearest
            parts = [
                family_of(each, row),
                f"cosine {mistake.similarity:.2f}",
                *filter(None, [each.dataset]),
            ]
            more = f" ({', '.join(parts)})"
            pair.append(heard[each.dataset].card(row, "nearest in training", more))
        figures = element("div", *pair, class_="pair")
        items.append(element("li", heading, about, figures))
    return element("ul", *items, class_="cards")


class _Shown:
    """Pictures and sounds of a few notes of a data set."""

    def __init__(self, records: Records, rows: set[int]):
        self._ids = records.index.ids
        self._notes = sounds.read_notes(records, rows)

    def card(self, row: int, what: str, more: str = "") -> Markup:
        note = str(self._ids[row])
        image = pictures.log_mel_png(self._notes[row])
        caption = joined([element("b", what), " ", note, more])
        return sound(self._notes[row], image, f"{what} {note}", caption)


def family_of(heard: Heard, row: int) -> str:
    """Name of the family of a note that was trained on."""
    index = heard.records.index
    return index.families[index.family[row]]


def nearest_families(mistakes: list[Mistake]) -> str:
    """Whether the nearest training notes are of the answered or the true family."""
    families = [(m, family_of(*m.nearest)) for m in mistakes if m.nearest]
    as_answer = sum(m.answer == family for m, family in families)
    as_truth = sum(m.truth == family for m, family in families)
    return (
        f"Of {len(families)} nearest training notes {as_answer} are of the family that "
        f"was answered and {as_truth} of the true one."
    )


def embedded(
    records: Records, wanted: np.ndarray, embedding: Embedding
) -> tuple[np.ndarray, np.ndarray]:
    """Rows, sorted, and their embeddings of length 1."""
    selected = np.zeros(len(records.index), bool)
    selected[wanted] = True
    rows, vectors = [], []
    with faults_named(records):
        for batch in sounds.raw_notes(records, selected).batch(_BATCH):
            waveform = sounds.pcm16(batch["waveform"].numpy())
            filled = np.zeros([_BATCH, waveform.shape[1]], np.int16)
            filled[: len(waveform)] = waveform
            vectors.append(np.asarray(embedding(filled), np.float32)[: len(waveform)])
            rows.append(batch["row"].numpy())
    stacked = np.concatenate(vectors)
    order = np.argsort(np.concatenate(rows))
    return np.concatenate(rows)[order], metrics.unit(stacked)[order]
