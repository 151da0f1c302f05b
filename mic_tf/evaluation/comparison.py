"""Two models on the same notes: who is right where, and whether that is chance."""

from typing import Any

import numpy as np


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Two-sided p-value of McNemar's exact test (McNemar 1947, binomial form).

    Args:
      only_first: notes that only the first model answered rightly.
      only_second: notes that only the second did.

    Returns:
      The probability of a division as uneven as this one between equal models.
    """
    n = only_first + only_second
    smaller = min(only_first, only_second)
    # Each binomial coefficient from the one before; anew they take cubic time.
    coefficient = tail = 1
    for k in range(smaller):
        coefficient = coefficient * (n - k) // (k + 1)
        tail += coefficient
    return min(1.0, 2 * tail / 2**n)


def by_instrument(
    first: np.ndarray, second: np.ndarray, instrument: np.ndarray
) -> np.ndarray:
    """By how many notes of each instrument the first model is ahead.

    Args:
      first: whether each answer of the first model was right, bool [notes].
      second: the same of the second.
      instrument: what tells instruments apart, [notes].

    Returns:
      int64 [instruments].
    """
    _, place = np.unique(instrument, return_inverse=True)
    differences = np.zeros(place.max(initial=-1) + 1, np.int64)
    np.add.at(differences, place, first.astype(np.int64) - second)
    return differences


def sign_flip_p(differences: np.ndarray) -> float:
    """Two-sided p-value of the exact sign-flip test (Fisher 1935, section 21).

    Args:
      differences: as `by_instrument` gives them.

    Returns:
      The probability of a sum as far from 0 as theirs if each were as likely to be of
      the other sign.
    """
    sizes = np.abs(differences[differences != 0])
    most = int(sizes.sum())
    chance = np.zeros(2 * most + 1)  # Of each sum from -most to most.
    chance[most] = 1.0
    for size in sizes:
        chance = (np.roll(chance, size) + np.roll(chance, -size)) / 2
    as_far = np.abs(np.arange(-most, most + 1)) >= abs(int(differences.sum()))
    return min(1.0, float(chance[as_far].sum()))


def compare(
    first: np.ndarray, second: np.ndarray, instrument: np.ndarray
) -> dict[str, Any]:
    """The two-by-two table of two models, with its tests.

    Args:
      first: whether each answer of the first model was right, bool [notes].
      second: the same of the second.
      instrument: what tells instruments apart, [notes].

    Returns:
      `n`, `both`, `only_first`, `only_second`, `neither`, `accuracy` of both,
      `instruments`, `p` of a sign-flip test over them, and `p_notes` of McNemar's test,
      which takes each note for an instrument of its own.
    """
    differences = by_instrument(first, second, instrument)
    only_first = int((first & ~second).sum())
    only_second = int((~first & second).sum())
    return {
        "n": len(first),
        "both": int((first & second).sum()),
        "only_first": only_first,
        "only_second": only_second,
        "neither": int((~first & ~second).sum()),
        "accuracy": [float(first.mean()), float(second.mean())],
        "instruments": len(differences),
        "p": sign_flip_p(differences),
        "p_notes": mcnemar_p(only_first, only_second),
    }
