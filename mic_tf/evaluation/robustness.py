"""Accuracy on the same notes after each effect: what `evaluate --effects` measures."""

import concurrent.futures
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging
from tqdm.auto import tqdm

from mic_tf.evaluation import effects, metrics
from mic_tf.evaluation.effects import Effect
from mic_tf.evaluation.evaluator import Answers, Subject
from mic_tf.pipeline import batches
from mic_tf.pipeline.batches import Records
from mic_tf.pipeline.index import NoteIndex
from mic_tf.pipeline.splits import stable_hash

COMPANIONS_A_FAMILY = 32
_SILENCE = 33
"""Peak of a companion, in 16-bit steps, up to which it is taken for silence: -60 dB."""


@dataclasses.dataclass(frozen=True)
class Companions:
    """Notes to mix others with.

    Attributes:
      rows: of the note index, int64 [companions].
      family: of each, int64 [companions].
      waveforms: int16 [companions, 64000].
    """

    rows: np.ndarray
    family: np.ndarray
    waveforms: np.ndarray

    def of(self, note_id: str, family: int) -> int:
        """The companion of a note: a family by its hash, then one of its notes.

        Args:
          note_id: the note's id.
          family: its own family, which the companion's never is.

        Returns:
          Its place among the companions; -1: there is no other family.
        """
        others = np.unique(self.family[self.family != family])
        if not others.size:
            return -1
        chosen = others[stable_hash(f"family/{note_id}", 0) % others.size]
        places = np.flatnonzero(self.family == chosen)
        return int(places[stable_hash(f"note/{note_id}", 0) % places.size])


def companions(records: Records, selected: np.ndarray) -> Companions:
    """At most 32 audible notes of each family, those of the smallest hashes.

    Args:
      records: the data set.
      selected: bool [notes], where they come from.
    """
    index = records.index
    chosen = np.zeros_like(selected)
    for family in np.unique(index.family[selected]):
        rows = np.flatnonzero(selected & (index.family == family))
        rows = sorted(rows, key=lambda r: stable_hash(f"companion/{index.ids[r]}", 0))
        chosen[rows[:COMPANIONS_A_FAMILY]] = True
    found = batches.evaluation_batches(records, chosen, batch_size=1)
    with batches.faults_named(records):
        pairs = [
            (int(row[0]), wave[0]) for wave, _, _, row in found.as_numpy_iterator()
        ]
    pairs = [pair for pair in pairs if np.abs(pair[1].astype(int)).max() > _SILENCE]
    rows = np.array([row for row, _ in pairs], np.int64)
    waveforms = np.stack([wave for _, wave in pairs]) if pairs else np.zeros([0, 0])
    return Companions(rows, index.family[rows].astype(np.int64), waveforms)


def measure(
    subject: Subject,
    records: Records,
    clean: Answers,
    *,
    batch_size: int = 32,
    chosen: Sequence[Effect] = effects.EFFECTS,
) -> dict[str, Any]:
    """Runs the model over the notes that it answered, once for each effect.

    Args:
      subject: the model.
      records: the data set.
      clean: the answers to the notes as they are.
      batch_size: notes a batch.
      chosen: the effects.

    Returns:
      `effects` of `metrics.json`: `clean` (accuracy), `rows` (one for each effect:
      `name`, `words`, `n`, `accuracy`, `balanced_accuracy`, `loss` in points of
      accuracy against clean), `mean_loss`, `worst_loss`, `worst`.

    Raises:
      UserError: pedalboard is not installed.
    """
    effects.library()
    selected = np.zeros(len(records.index), bool)
    selected[clean.rows] = True
    others = companions(records, selected)
    possible = [e for e in chosen if not e.is_mixture or _can_mix(others)]
    if len(possible) < len(chosen):
        logging.warning("mixtures left out: the notes are of one family only")
    answers = _answers(subject, records, selected, clean, others, possible, batch_size)
    return _table(answers, clean, possible, len(subject.labels))


def _can_mix(others: Companions) -> bool:
    return len(np.unique(others.family)) > 1


def _answers(
    subject: Subject,
    records: Records,
    selected: np.ndarray,
    clean: Answers,
    others: Companions,
    chosen: Sequence[Effect],
    batch_size: int,
) -> np.ndarray:
    """The model's answers in the order of the notes, int64 [effects, notes]."""
    found: list[list[np.ndarray]] = [[] for _ in chosen]
    total = len(clean.rows) * len(chosen)
    done = 0
    dataset = batches.evaluation_batches(records, selected, batch_size=batch_size)
    with (
        tqdm(total=total, unit="note", desc="effects", disable=None) as bar,
        concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads,
    ):
        for waveform, _, weight, row in dataset.as_numpy_iterator():
            real = weight > 0
            notes = slice(done, done + int(real.sum()))
            if not np.array_equal(row[real], clean.rows[notes]):
                raise ValueError("two passes over the same notes differ in their order")
            done = notes.stop
            takes = list(_takes(waveform, row, records.index, others))
            # All effects are begun at once: the next ones run beside the model.
            begun = [
                [threads.submit(_changed, effect, take) for take in takes]
                for effect in chosen
            ]
            for place, results in enumerate(begun):
                changed = np.stack([result.result() for result in results])
                probabilities = subject.probabilities(tf.constant(changed)).numpy()
                found[place].append(probabilities[real].argmax(axis=1))
                bar.update(int(real.sum()))
    return np.array([np.concatenate(parts) for parts in found])


def _takes(
    waveforms: np.ndarray, rows: np.ndarray, index: NoteIndex, others: Companions
) -> Iterator[Callable[[Effect], np.ndarray]]:
    """A function from an effect to the changed note, for each note of a batch."""
    for waveform, row in zip(waveforms, np.maximum(rows, 0), strict=True):
        note_id = str(index.ids[row])
        place = others.of(note_id, int(index.family[row]))
        companion = others.waveforms[place] if place >= 0 else None
        seed = stable_hash(note_id, 0)
        yield lambda effect, w=waveform, s=seed, c=companion: effect(w, s, c)


def _changed(effect: Effect, take: Callable[[Effect], np.ndarray]) -> np.ndarray:
    return take(effect)


def _table(
    answers: np.ndarray, clean: Answers, chosen: Sequence[Effect], families: int
) -> dict[str, Any]:
    before = np.mean(clean.probabilities.argmax(axis=1) == clean.truth)
    rows = []
    for effect, answer in zip(chosen, answers, strict=True):
        confusion = metrics.confusion_matrix(clean.truth, answer, families)
        figures = metrics.headline(confusion)
        rows.append(
            {
                "name": effect.name,
                "words": effect.words,
                "n": len(answer),
                "accuracy": figures["accuracy"],
                "balanced_accuracy": figures["balanced_accuracy"],
                "loss": float(100.0 * (before - figures["accuracy"])),
            }
        )
    losses = [row["loss"] for row in rows]
    worst = int(np.argmax(losses))
    return {
        "clean": float(before),
        "rows": rows,
        "mean_loss": float(np.mean(losses)),
        "worst_loss": losses[worst],
        "worst": rows[worst]["name"],
    }
