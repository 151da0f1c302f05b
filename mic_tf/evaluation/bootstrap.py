"""How sure a figure is: intervals from a bootstrap over instruments.

Notes of one instrument are wrong together, so resampling notes would pretend to far
more evidence than there is. What is drawn again, with replacement and within each
family, is whole instruments (the cluster bootstrap: Davison and Hinkley 1997, 3.8).
"""

from typing import Any

import numpy as np

from mic_tf.evaluation import metrics

REPLICATES = 2_000
_LEVEL = (2.5, 97.5)
_HEADLINE = ("accuracy", "balanced_accuracy", "macro_f1")


def intervals(
    truth: np.ndarray,
    answer: np.ndarray,
    instrument: np.ndarray,
    labels: tuple[str, ...],
    seed: int = 0,
) -> dict[str, Any]:
    """95 % intervals of the headline figures and of each family's recall and F1.

    A family with a single instrument has no spread to resample; it gets no interval,
    and where there is one, neither do the headline figures. They are then given once
    more over the other families alone.

    Args:
      truth: int [notes].
      answer: int [notes].
      instrument: any int that tells instruments apart, [notes].
      labels: names of the families.
      seed: of the resampling.

    Returns:
      `accuracy`, `balanced_accuracy`, `macro_f1`: `[low, high]` or None; `per_family`:
      `recall` and `f1` of each family that has an interval;
      `single_instrument_families`; `without_them`: figures and intervals of the other
      families, or None; `instruments`; `method`.
    """
    family, confusions = _by_instrument(truth, answer, instrument, len(labels))
    counts = np.bincount(family, minlength=len(labels))
    single = np.flatnonzero(counts == 1)
    samples = _resampled(family, confusions, np.random.default_rng(seed))
    every = counts > 0
    resampled = counts > 1
    result: dict[str, Any] = {
        "method": f"bootstrap over {len(family)} instruments, stratified by family, "
        f"{REPLICATES} replicates, 95 %",
        "instruments": len(family),
        "single_instrument_families": [labels[i] for i in single],
        "without_them": None,
    }
    wanted = _headlines(samples, every)
    result |= {
        name: None if len(single) else _interval(wanted[name]) for name in wanted
    }
    if len(single) and resampled.any():
        result["without_them"] = _others(family, confusions, samples, resampled)
    figures = _per_family(samples)
    result["per_family"] = {
        labels[i]: {name: _interval(values[:, i]) for name, values in figures.items()}
        for i in np.flatnonzero(resampled)
    }
    return result


def _by_instrument(
    truth: np.ndarray, answer: np.ndarray, instrument: np.ndarray, families: int
) -> tuple[np.ndarray, np.ndarray]:
    """Family and confusion counts of each instrument: [i] and [i, families]."""
    pairs, place = np.unique(np.stack([truth, instrument]), axis=1, return_inverse=True)
    confusions = np.zeros([pairs.shape[1], families])
    np.add.at(confusions, (place.reshape(-1), answer), 1)
    return pairs[0], confusions


def _resampled(
    family: np.ndarray, confusions: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Confusion matrices of the replicates, float [replicates, families, families]."""
    families = confusions.shape[1]
    samples = np.zeros([REPLICATES, families, families])
    for i in np.unique(family):
        own = confusions[family == i]
        weights = random.multinomial(
            len(own), np.full(len(own), 1 / len(own)), size=REPLICATES
        )
        samples[:, i] = weights @ own
    return samples


def _per_family(samples: np.ndarray) -> dict[str, np.ndarray]:
    """Recall and F1 of matrices [..., families, families]: each [..., families]."""
    hits = np.diagonal(samples, axis1=-2, axis2=-1)
    truths, answers = samples.sum(axis=-1), samples.sum(axis=-2)
    return {
        "recall": hits / np.maximum(truths, 1),
        "f1": 2 * hits / np.maximum(truths + answers, 1),
    }


def _headlines(samples: np.ndarray, families: np.ndarray) -> dict[str, np.ndarray]:
    """Headline figures over the notes of these families, for each matrix."""
    samples = samples * families[:, np.newaxis]
    hits = np.diagonal(samples, axis1=-2, axis2=-1)
    figures = _per_family(samples)
    values = (
        hits.sum(axis=-1) / samples.sum(axis=(-2, -1)),
        figures["recall"][..., families].mean(axis=-1),
        figures["f1"][..., families].mean(axis=-1),
    )
    return dict(zip(_HEADLINE, values, strict=True))


def _others(
    family: np.ndarray,
    confusions: np.ndarray,
    samples: np.ndarray,
    families: np.ndarray,
) -> dict[str, Any]:
    """Figures with intervals over the families that have several instruments."""
    whole = np.zeros_like(samples[:1])
    np.add.at(whole[0], family, confusions)
    figures, spread = _headlines(whole, families), _headlines(samples, families)
    return {"families": int(families.sum())} | {
        name: {"value": float(figures[name][0]), "interval": _interval(values)}
        for name, values in spread.items()
    }


def _interval(values: np.ndarray) -> list[float]:
    return [float(v) for v in np.percentile(values, _LEVEL)]


assert set(_HEADLINE) == set(metrics.headline(np.eye(1)))
