"""How much of the test was already heard in training."""

from typing import Any

import numpy as np

from mic_tf.evaluation import measures, twins
from mic_tf.pipeline.batches import Records

MOST_NOTES = 2_000
"""Notes of either side whose sound is compared: a few seconds' work."""


def leakage(
    records: Records,
    train: np.ndarray,
    tested: np.ndarray,
    most_notes: int = MOST_NOTES,
) -> dict[str, Any]:
    """Shares of the test notes with their instrument or a near twin in training.

    Instruments are compared by name, all of them. Sounds are compared for at most
    `most_notes` notes of either side, drawn at random; training notes of the test's
    instruments come first, since twins are likeliest there.

    Args:
      records: the data set.
      train: the notes trained on, bool [notes].
      tested: the notes tested, bool [notes].
      most_notes: see above.

    Returns:
      `instrument_share`, `instruments` (in both), `twin_share`, `twins` (ids of pairs,
      at most 20), `tested_heard` and `train_heard` (notes compared), `train_notes`,
      `threshold_db`.
    """
    index = records.index
    known = np.unique(index.instrument[train])
    shared = np.isin(index.instrument, known) & tested
    random = np.random.default_rng(0)
    test_rows = _some(np.flatnonzero(tested), most_notes, random)
    related = train & np.isin(index.instrument, index.instrument[test_rows])
    train_rows = _some(np.flatnonzero(related), most_notes, random)
    others = np.flatnonzero(train & ~related)
    rest = _some(others, most_notes - len(train_rows), random)
    train_rows = np.concatenate([train_rows, rest])
    pairs = _twins(records, test_rows, train_rows)
    return {
        "instrument_share": float(shared.sum() / tested.sum()),
        "instruments": sorted(
            index.instruments[i] for i in np.unique(index.instrument[shared])
        ),
        "twin_share": len(pairs) / len(test_rows),
        "twins": [
            [str(index.ids[a]), str(index.ids[b])] for a, b in list(pairs.items())[:20]
        ],
        "tested_heard": len(test_rows),
        "train_heard": len(train_rows),
        "train_notes": int(train.sum()),
        "threshold_db": twins.THRESHOLD_DB,
    }


def in_words(found: dict[str, Any]) -> str:
    """One line for the screen and the report."""
    line = (
        f"leakage: {found['instrument_share']:.1%} of the test notes have their "
        f"instrument in training, {found['twin_share']:.1%} a near twin"
    )
    if found["train_heard"] < found["train_notes"]:
        line += (
            f" (heard: {found['train_heard']:,} of {found['train_notes']:,} training "
            "notes)"
        )
    return line


def _some(rows: np.ndarray, most: int, random: np.random.Generator) -> np.ndarray:
    if len(rows) <= most:
        return rows
    return np.sort(random.choice(rows, max(most, 0), replace=False))


def _twins(
    records: Records, test_rows: np.ndarray, train_rows: np.ndarray
) -> dict[int, int]:
    """A training note for each test note that has the same sound."""
    selected = np.zeros(len(records.index), bool)
    selected[test_rows] = selected[train_rows] = True
    found = measures.fingerprints(records, selected)
    groups = twins.groups(found.fingerprint)
    in_training = np.isin(found.rows, train_rows)
    # A fingerprint without any contrast is silence.
    heard = found.fingerprint.max(axis=1) > found.fingerprint.min(axis=1)
    place = np.flatnonzero(in_training & heard)
    by_group = dict(zip(groups[place], found.rows[place], strict=True))
    return {
        int(found.rows[i]): int(by_group[groups[i]])
        for i in np.flatnonzero(np.isin(found.rows, test_rows) & heard)
        if groups[i] in by_group
    }
