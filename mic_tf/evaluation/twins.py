"""Which notes are the same sound: groups of near-equal fingerprints, without all pairs.

Fingerprints are hashed by random projections cut into cells (Datar et al. 2004,
"Locality-sensitive hashing scheme based on p-stable distributions"). In each of several
tables only notes that share a cell are compared, each with the few that follow it, so
the work grows with the number of notes and not with its square.
"""

import numpy as np

from mic_tf.evaluation.measures import STEP_DB

THRESHOLD_DB = 1.0
"""Root mean square difference up to which two notes are the same sound."""

_TABLES = 16
_PROJECTIONS = 8
_CELL_WIDTHS = 4.0
_FOLLOWERS = 8
_PORTION = 65_536


def distance_db(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Root mean square difference over the cells where either note is heard.

    Args:
      first: fingerprints, uint8 [pairs, cells].
      second: the same.

    Returns:
      float [pairs], in decibels.
    """
    heard = np.maximum((first > 0) | (second > 0), False).sum(axis=1)
    difference = first.astype(np.int16) - second.astype(np.int16)
    squares = np.square(difference.astype(np.float32)).sum(axis=1)
    return np.sqrt(squares / np.maximum(heard, 1)) * STEP_DB


def groups(fingerprints: np.ndarray, threshold_db: float = THRESHOLD_DB) -> np.ndarray:
    """Numbers the groups of notes that are the same sound.

    A group holds whatever is linked by pairs within the threshold.

    Args:
      fingerprints: uint8 [notes, cells].
      threshold_db: largest difference of a pair.

    Returns:
      int64 [notes]: the smallest position in the note's group; its own where it is
      alone.
    """
    random = np.random.default_rng(0)
    parents = np.arange(len(fingerprints))
    for _ in range(_TABLES):
        order, keys = _sorted_by_cell(fingerprints, threshold_db, random)
        for step in range(1, min(_FOLLOWERS, len(order) - 1) + 1):
            together = np.flatnonzero(keys[step:] == keys[:-step])
            for start in range(0, len(together), _PORTION):
                place = together[start : start + _PORTION]
                a, b = order[place], order[place + step]
                near = distance_db(fingerprints[a], fingerprints[b]) <= threshold_db
                _join(parents, a[near], b[near])
    return np.array([_root(parents, i) for i in range(len(parents))], np.int64)


def _sorted_by_cell(
    fingerprints: np.ndarray, threshold_db: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Notes in the order of their cells, and the key of each one's cell."""
    notes, cells = fingerprints.shape
    directions = random.standard_normal([cells, _PROJECTIONS + 1]).astype(np.float32)
    directions *= STEP_DB / np.sqrt(cells)
    shift = random.uniform(0, 1, _PROJECTIONS)
    factors = random.integers(1, 2**62, _PROJECTIONS, dtype=np.int64) | 1
    keys = np.empty(notes, np.int64)
    along = np.empty(notes, np.float32)
    for start in range(0, notes, _PORTION):
        part = slice(start, start + _PORTION)
        projected = fingerprints[part].astype(np.float32) @ directions
        cell = np.floor(projected[:, :-1] / (_CELL_WIDTHS * threshold_db) + shift)
        keys[part] = (cell.astype(np.int64) * factors).sum(axis=1)
        along[part] = projected[:, -1]
    order = np.lexsort([along, keys])
    return order, keys[order]


def _root(parents: np.ndarray, place: int) -> int:
    while parents[place] != place:
        parents[place] = parents[parents[place]]
        place = parents[place]
    return place


def _join(parents: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
    for a, b in zip(first, second, strict=True):
        low, high = sorted((_root(parents, a), _root(parents, b)))
        parents[high] = low
