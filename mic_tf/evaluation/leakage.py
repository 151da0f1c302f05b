"""How much of the test was already heard in training."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from mic_tf.evaluation import measures, twins
from mic_tf.evaluation.heard import Heard, some_heard
from mic_tf.pipeline.batches import Records

MOST_NOTES = 2_000
"""Notes of either side whose sound is compared: a few seconds' work."""


def leakage(
    records: Records,
    tested: np.ndarray,
    heard: Sequence[Heard],
    most_notes: int = MOST_NOTES,
) -> dict[str, Any]:
    """Shares of the test notes with their instrument or a near twin in training.

    Instruments are compared by name, all of them, where names of both data sets mean
    the same. Sounds are compared for at most `most_notes` notes of either side, drawn
    at random; training notes of the test's instruments come first, then others of its
    data set, since twins are likeliest there.

    Args:
      records: the data set.
      tested: the notes tested, bool [notes].
      heard: the notes trained on, of one data set or several.
      most_notes: see above.

    Returns:
      `instrument_share` (None where no names can be compared), `instruments` (in
      both), `twin_share`, `twins` (ids of pairs, at most 20), `tested_heard` and
      `train_heard` (notes compared), `tested_notes`, `train_notes`, `threshold_db`.
    """
    index = records.index
    comparable = [each for each in heard if each.same_names]
    known = [_names(each.records)[each.notes] for each in comparable]
    names = _names(records)
    shared = tested & np.isin(names, np.unique(np.concatenate([[""], *known])))
    random = np.random.default_rng(0)
    test_rows = np.flatnonzero(tested)
    if len(test_rows) > most_notes:
        test_rows = np.sort(random.choice(test_rows, most_notes, replace=False))
    train_rows = _candidates(heard, np.unique(names[test_rows]), most_notes, random)
    pairs = _twins(records, test_rows, train_rows)
    return {
        "instrument_share": float(shared.sum() / tested.sum()) if comparable else None,
        "instruments": np.unique(names[shared]).tolist(),
        "twin_share": len(pairs) / len(test_rows),
        "twins": [
            [str(index.ids[row]), twin] for row, twin in list(pairs.items())[:20]
        ],
        "tested_heard": len(test_rows),
        "tested_notes": int(tested.sum()),
        "train_heard": sum(len(rows) for _, rows in train_rows),
        "train_notes": sum(int(each.notes.sum()) for each in heard),
        "threshold_db": twins.THRESHOLD_DB,
    }


def in_words(found: dict[str, Any]) -> str:
    """One line for the screen and the report."""
    share = found["instrument_share"]
    line = (
        f"leakage: {share or 0:.1%} of the test notes have their instrument in "
        f"training, {found['twin_share']:.1%} a near twin"
    )
    if share is None:
        line = (
            f"leakage: {found['twin_share']:.1%} of the test notes have a near twin in "
            "training (instruments are named otherwise there, so not compared)"
        )
    heard = []
    if found["tested_heard"] < found.get("tested_notes", 0):
        heard.append(
            f"{found['tested_heard']:,} of {found['tested_notes']:,} test notes"
        )
    if found["train_heard"] < found["train_notes"]:
        heard.append(
            f"{found['train_heard']:,} of {found['train_notes']:,} training notes"
        )
    return line + (f" (heard: {', '.join(heard)})" if heard else "")


def _names(records: Records) -> np.ndarray:
    """The instrument's name of each note."""
    return np.array(records.index.instruments)[records.index.instrument]


def _candidates(
    heard: Sequence[Heard],
    tested_names: np.ndarray,
    most: int,
    random: np.random.Generator,
) -> list[tuple[Heard, np.ndarray]]:
    """Heard notes to compare: of the tested instruments, of their data set, others."""
    related, same_origin, others = [], [], []
    for each in heard:
        same = np.isin(_names(each.records), tested_names) & each.same_names
        related.append(dataclasses.replace(each, notes=each.notes & same))
        further = same_origin if each.same_names else others
        further.append(dataclasses.replace(each, notes=each.notes & ~same))
    found: list[tuple[Heard, np.ndarray]] = []
    for group in (related, same_origin, others):
        left = most - sum(len(rows) for _, rows in found)
        found += some_heard(group, left, random)
    return found


def _twins(
    records: Records, test_rows: np.ndarray, train_rows: list[tuple[Heard, np.ndarray]]
) -> dict[int, str]:
    """Name of a training note for each test note that has the same sound."""
    found = _fingerprints(records, test_rows)
    fingerprints, names = [found.fingerprint], []
    for each, rows in train_rows:
        own = _fingerprints(each.records, rows)
        fingerprints.append(own.fingerprint)
        where = f" ({each.dataset})" if each.dataset else ""
        names += [f"{note}{where}" for note in each.records.index.ids[own.rows]]
    joined = np.concatenate(fingerprints)
    groups = twins.groups(joined)
    # A fingerprint without any contrast is silence.
    audible = joined.max(axis=1) > joined.min(axis=1)
    first = len(found.rows)
    by_group = {
        groups[first + i]: name for i, name in enumerate(names) if audible[first + i]
    }
    return {
        int(found.rows[i]): by_group[groups[i]]
        for i in range(first)
        if audible[i] and groups[i] in by_group
    }


def _fingerprints(records: Records, rows: np.ndarray) -> measures.Measures:
    selected = np.zeros(len(records.index), bool)
    selected[rows] = True
    return measures.fingerprints(records, selected)
