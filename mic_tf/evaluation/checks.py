"""What an evaluation's figures have to be read with."""

import sys
from typing import Any

import numpy as np

from mic_tf.errors import UserError
from mic_tf.evaluation import comparison, division, evaluator, leakage
from mic_tf.evaluation.evaluator import Answers, Subject
from mic_tf.evaluation.heard import Training
from mic_tf.pipeline.batches import Records
from mic_tf.pipeline.splits import Partition
from mic_tf.training.training_data import read_exclusions


def leakage_of(
    records: Records,
    partition: Partition,
    training: Training,
    found: Answers,
    most_notes: int = leakage.MOST_NOTES,
) -> dict:
    """`leakage` and `leakage_unchecked` of `metrics.json`, where there is any.

    Args:
      records: the data set that is measured.
      partition: its division.
      training: what was trained on.
      found: the answers.
      most_notes: notes of either side whose sounds are compared; 0: all.

    Returns:
      What `leakage.leakage` says, and why which sets could not be looked at.
    """
    tested = np.zeros(len(records.index), bool)
    tested[found.rows] = True
    if not (tested & ~partition.heard).any():
        # The training notes themselves are measured: all of it was heard.
        return {}
    result = {}
    if training.heard:
        result["leakage"] = leakage.leakage(
            records, tested, training.heard, most_notes or sys.maxsize
        )
    if training.missing:
        result["leakage_unchecked"] = training.missing
    return result


def excluded_from(
    subject: Subject, records: Records, dataset: str, exclude: str
) -> dict:
    """`excluded` and `untested` of `metrics.json`: ids left out, and notes they match.

    Args:
      subject: the model. What its training left out is not tested in its own data set
        either: `excluded`.
      records: the data set that is measured.
      dataset: its full name.
      exclude: a file of note ids that are not tested, whatever was trained on:
        `untested`.
    """
    trained, of_training = subject.trained_on, ""
    if division.is_same_set(dataset, trained["dataset"]):
        of_training = trained["settings"].get("exclude", "")
    paths = {"excluded": of_training}
    if exclude != of_training:
        paths["untested"] = exclude
    return {
        key: {"file": path, "notes": _matched(path, records)}
        for key, path in paths.items()
        if path
    }


def _matched(path: str, records: Records) -> int:
    """Notes of a data set that a file of ids names."""
    return int(np.isin(records.index.ids, sorted(read_exclusions(path))).sum())


def check_comparable(
    other: Subject, records: Records, selected: np.ndarray, dataset: str
) -> None:
    """Refuses, before anything is measured, what `comparison_with` could not.

    Raises:
      UserError: notes are of families that the model of `--compare` does not know, or
        nobody knows any more what it was trained on.
    """
    try:
        evaluator.translated(other, records, selected)
        division.partition_for(other.trained_on, records, dataset)
    except UserError as error:
        message = str(error).removeprefix(f"{other.name}: ")
        raise UserError(f"--compare={other.name}: {message}") from error


def comparison_with(
    other: Subject,
    records: Records,
    found: Answers,
    dataset: str,
    batch_size: int = 32,
) -> dict[str, Any]:
    """`comparison` of `metrics.json`: another model on the same notes.

    Args:
      other: the other model.
      records: the data set.
      found: this model's answers.
      dataset: the data set's full name.
      batch_size: notes a batch.

    Returns:
      What `comparison.compare` says, `other`, `heard`: how many of the notes the
      other model is known to have been trained on, and its `protocol_words`.
    """
    selected = np.zeros(len(records.index), bool)
    selected[found.rows] = True
    partition, words = division.partition_for(other.trained_on, records, dataset)
    theirs = evaluator.answers(other, records, selected, batch_size)
    if not np.array_equal(theirs.rows, found.rows):
        raise ValueError("two passes over the same notes differ in their order")
    heard = partition.heard & selected
    instrument = records.index.instrument[found.rows]
    table = comparison.compare(_right(found), _right(theirs), instrument)
    about = {"other": other.name, "heard": int(heard.sum()), "protocol_words": words}
    return {"comparison": {**table, **about}}


def _right(found: Answers) -> np.ndarray:
    return found.probabilities.argmax(axis=1) == found.truth
