"""Figures from truths and probabilities; plain NumPy."""

import math
from typing import Any

import numpy as np

_ECE_BINS = 15
_SHARE_KEPT = 0.95
_LOG_TEMPERATURE_SPREAD = 0.5
"""Of temperatures in general, in natural logarithms."""


def confusion_matrix(
    truth: np.ndarray, answer: np.ndarray, num_families: int
) -> np.ndarray:
    """Counts, rows truth, columns answer.

    Args:
      truth: int [notes].
      answer: int [notes].
      num_families: classes.

    Returns:
      int64 [families, families].
    """
    flat = np.bincount(truth * num_families + answer, minlength=num_families**2)
    return flat.reshape(num_families, num_families)


def per_family(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """`n`, `precision`, `recall` and `f1` of each family, each [families].

    A family never answered has precision 0, one that does not occur recall 0.
    """
    hits = np.diag(confusion).astype(np.float64)
    truths, answers = confusion.sum(axis=1), confusion.sum(axis=0)
    return {
        "n": truths,
        "precision": _ratio(hits, answers),
        "recall": _ratio(hits, truths),
        "f1": _ratio(2 * hits, truths + answers),
    }


def headline(confusion: np.ndarray) -> dict[str, float]:
    """Accuracy, and balanced accuracy and macro-F1 over the families present.

    Args:
      confusion: int [families, families], rows truth.

    Returns:
      `accuracy`, `balanced_accuracy` (mean recall) and `macro_f1`.
    """
    family = per_family(confusion)
    present = family["n"] > 0
    return {
        "accuracy": float(np.trace(confusion) / confusion.sum()),
        "balanced_accuracy": float(family["recall"][present].mean()),
        "macro_f1": float(family["f1"][present].mean()),
    }


def calibration_curve(
    probabilities: np.ndarray, truth: np.ndarray, bins: int = _ECE_BINS
) -> dict[str, np.ndarray]:
    """How sure the model was, and how often it was right, in bins of equal width.

    Guo et al. 2017, "On Calibration of Modern Neural Networks".

    Args:
      probabilities: float [notes, families].
      truth: int [notes].
      bins: of the highest probability, over [0, 1].

    Returns:
      `n`, `confidence` and `accuracy` of each bin, each [bins]; 0 in empty ones.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    n = np.bincount(place, minlength=bins)
    return {
        "n": n,
        "confidence": _ratio(np.bincount(place, confidence, bins), n),
        "accuracy": _ratio(np.bincount(place, right, bins), n),
    }


def expected_calibration_error(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance of confidence and accuracy over 15 bins, weighted by notes."""
    curve = calibration_curve(probabilities, truth)
    gap = np.abs(curve["confidence"] - curve["accuracy"])
    return float((gap * curve["n"]).sum() / curve["n"].sum())


def threshold_keeping(probabilities: np.ndarray, share: float = _SHARE_KEPT) -> float:
    """The highest `--min_probability` at which so many notes still get a family.

    Args:
      probabilities: float [notes, families].
      share: of the notes, right or wrong, whose highest probability reaches it.
    """
    return keeping(probabilities.max(axis=1), share)


def keeping(values: np.ndarray, share: float = _SHARE_KEPT) -> float:
    """The highest threshold that so many of the values reach."""
    ordered = np.sort(values)
    # The small number outweighs the rounding of 1 - share.
    return float(ordered[int((1.0 - share) * len(ordered) + 1e-9)])


def keeping_together(values: np.ndarray, share: float = _SHARE_KEPT) -> np.ndarray:
    """Thresholds, one a column, that so many rows reach in all columns.

    Each leaves out as many rows as the others, and where no values are equal they are
    the highest that do.

    Args:
      values: float [rows, columns].
      share: of the rows.

    Returns:
      float [columns].
    """
    ordered = np.sort(values, axis=0)
    columns = zip(ordered.T, values.T, strict=True)
    ranks = [np.searchsorted(smaller, column) for smaller, column in columns]
    return ordered[int(keeping(np.min(ranks, axis=0), share))]


def rounded_down(threshold: float) -> str:
    """Four digits that no note falls below whose value is the threshold."""
    return f"{math.floor(threshold * 1e4) / 1e4:.4f}"


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1, [..., d], so that their products are cosines; 0 stays 0."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(lengths, 1e-12)


def best_temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """The temperature that makes the truth likeliest, by golden section in its log.

    Before any note is seen, 1 is likeliest and a factor of 1.65 either way is one
    standard deviation. Some hundred notes outweigh that; ten that are all right do not
    make the model sure of everything.

    Args:
      logits: float [notes, families].
      truth: int [notes].

    Returns:
      The temperature, between 0.05 and 20.
    """
    low, high = np.log(0.05), np.log(20.0)
    golden = (np.sqrt(5.0) - 1) / 2
    while high - low > 1e-4:
        left, right = high - golden * (high - low), low + golden * (high - low)
        if _unlikely(logits, truth, left) < _unlikely(logits, truth, right):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis."""
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


def summary(
    probabilities: np.ndarray, truth: np.ndarray, labels: tuple[str, ...]
) -> dict[str, Any]:
    """The figures of `metrics.json` that come from the answers alone.

    Args:
      probabilities: float [notes, families].
      truth: int [notes].
      labels: names of the families.
    """
    confusion = confusion_matrix(truth, probabilities.argmax(axis=1), len(labels))
    family = per_family(confusion)
    return {
        "n": len(truth),
        **headline(confusion),
        "min_probability_keeping_95": threshold_keeping(probabilities),
        "ece": expected_calibration_error(probabilities, truth),
        "families_present": [
            name for name, n in zip(labels, family["n"], strict=True) if n
        ],
        "per_family": {
            name: {key: values[i].item() for key, values in family.items()}
            for i, name in enumerate(labels)
        },
        "confusion": confusion.tolist(),
        "labels": list(labels),
    }


def _unlikely(logits: np.ndarray, truth: np.ndarray, log_temperature: float) -> float:
    """The negative logarithm of the temperature's posterior, but for a constant."""
    scaled = logits / np.exp(log_temperature)
    highest = scaled.max(axis=1)
    log_sum = np.log(np.exp(scaled - highest[:, np.newaxis]).sum(axis=1)) + highest
    loss = (log_sum - scaled[np.arange(len(truth)), truth]).sum()
    return float(loss + 0.5 * (log_temperature / _LOG_TEMPERATURE_SPREAD) ** 2)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(
        numerator,
        denominator,
        out=np.zeros(np.shape(numerator), np.float64),
        where=np.asarray(denominator) > 0,
        casting="unsafe",
    )
