"""The most confident mistakes, each beside the training note that is nearest to it."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from mic_tf.evaluation import pictures, sounds
from mic_tf.evaluation.markup import Markup, element, joined, sound
from mic_tf.pipeline.batches import Records
from mic_tf.pipeline.index import NoteIndex

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
      nearest: row of the nearest training note, or None.
      similarity: cosine of the two embeddings.
    """

    row: int
    truth: str
    answer: str
    confidence: float
    nearest: int | None = None
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
    train: np.ndarray,
    embedding: Embedding,
    most_notes: int = MOST_TRAINING_NOTES,
) -> tuple[list[Mistake], int]:
    """Finds the nearest training note of each mistake, by cosine of the embeddings.

    Args:
      mistakes: what to find neighbours for.
      records: the data set.
      train: the notes trained on, bool [notes].
      embedding: the model's.
      most_notes: of the training notes so many are looked at, drawn at random.

    Returns:
      The mistakes with their neighbours, and how many training notes were looked at.
    """
    candidates = np.flatnonzero(train)
    if len(candidates) > most_notes:
        random = np.random.default_rng(0)
        candidates = np.sort(random.choice(candidates, most_notes, replace=False))
    if not len(candidates) or not mistakes:
        return mistakes, 0
    wrong_rows = np.array([mistake.row for mistake in mistakes])
    selected = np.zeros(len(records.index), bool)
    selected[candidates] = selected[wrong_rows] = True
    rows, vectors = _embedded(records, selected, embedding)
    place = {row: i for i, row in enumerate(rows.tolist())}
    own = vectors[[place[row] for row in wrong_rows]]
    theirs = vectors[[place[row] for row in candidates]]
    cosines = own @ theirs.T
    cosines[wrong_rows[:, np.newaxis] == candidates] = -1.0
    found = [
        dataclasses.replace(
            mistake, nearest=int(candidates[i]), similarity=float(row[i])
        )
        for mistake, row, i in zip(
            mistakes, cosines, cosines.argmax(axis=1), strict=True
        )
    ]
    return found, len(candidates)


def cards(mistakes: list[Mistake], records: Records) -> Markup:
    """A list of what the mistakes look and sound like."""
    rows = {m.row for m in mistakes} | {m.nearest for m in mistakes} - {None}
    notes = sounds.read_notes(records, rows)
    images = {row: pictures.log_mel_png(waveform) for row, waveform in notes.items()}
    index = records.index

    def shown(row: int, what: str, *more: Markup) -> Markup:
        note = str(index.ids[row])
        caption = joined([element("b", what), " ", note, *more])
        return sound(notes[row], images[row], f"{what} {note}", caption)

    items = []
    for mistake in mistakes:
        heading = element(
            "h3", f"{mistake.truth}, taken for ", element("em", mistake.answer)
        )
        about = element("p", f"confidence {mistake.confidence:.0%}", class_="quiet")
        pair = [shown(mistake.row, "test note")]
        if mistake.nearest is not None:
            family = index.families[index.family[mistake.nearest]]
            more = f" ({family}, cosine {mistake.similarity:.2f})"
            pair.append(shown(mistake.nearest, "nearest in training", Markup(more)))
        figures = element("div", *pair, class_="pair")
        items.append(element("li", heading, about, figures))
    return element("ul", *items, class_="cards")


def nearest_families(mistakes: list[Mistake], index: NoteIndex) -> str:
    """Whether the nearest training notes are of the answered or the true family."""
    families = [
        (m, index.families[index.family[m.nearest]])
        for m in mistakes
        if m.nearest is not None
    ]
    as_answer = sum(m.answer == family for m, family in families)
    as_truth = sum(m.truth == family for m, family in families)
    return (
        f"Of {len(families)} nearest training notes {as_answer} are of the family that "
        f"was answered and {as_truth} of the true one."
    )


def _embedded(
    records: Records, selected: np.ndarray, embedding: Embedding
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and embeddings of length 1."""
    rows, vectors = [], []
    for batch in sounds.raw_notes(records, selected).batch(_BATCH):
        waveform = sounds.pcm16(batch["waveform"].numpy())
        filled = np.zeros([_BATCH, waveform.shape[1]], np.int16)
        filled[: len(waveform)] = waveform
        vectors.append(np.asarray(embedding(filled), np.float32)[: len(waveform)])
        rows.append(batch["row"].numpy())
    stacked = np.concatenate(vectors)
    lengths = np.linalg.norm(stacked, axis=1, keepdims=True)
    return np.concatenate(rows), stacked / np.maximum(lengths, 1e-9)
