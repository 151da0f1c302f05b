"""Two models on the same notes: McNemar's exact test."""

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


def compare(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """The two-by-two table of two models, with its test.

    Args:
      first: whether each answer of the first model was right, bool [notes].
      second: the same of the second.

    Returns:
      `n`, `both`, `only_first`, `only_second`, `neither`, `accuracy` of both and `p`.
    """
    only_first = int((first & ~second).sum())
    only_second = int((~first & second).sum())
    return {
        "n": len(first),
        "both": int((first & second).sum()),
        "only_first": only_first,
        "only_second": only_second,
        "neither": int((~first & ~second).sum()),
        "accuracy": [float(first.mean()), float(second.mean())],
        "p": mcnemar_p(only_first, only_second),
    }
