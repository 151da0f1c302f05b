"""How sure a figure is: intervals from a bootstrap over instruments.

Notes of one instrument are wrong together, so resampling notes would pretend to far
more evidence than there is. What is drawn again, with replacement and within each
family, is whole instruments (the cluster bootstrap: Davison and Hinkley 1997, 3.8).

Of a family's m instruments m - 1 are drawn, each counting m / (m - 1) times (Rao and Wu
1988): m of m would spread by (m - 1) / m of the variance that other instruments have, a
half where there are two. A single family of few instruments would still be promised too
much, as those few may all be alike by chance.
"""

import dataclasses
from typing import Any

import numpy as np

from mic_tf.evaluation import metrics

REPLICATES = 2_000
FEWEST = 5
"""Instruments from which on a family has an interval of its own."""
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

    Where a family has a single instrument, which has no spread to resample, the
    headline figures get no interval; they are then given once more over the other
    families alone. A family of few instruments gets none for itself, and no figure does
    that is the same whichever instruments are drawn.

    Args:
      truth: int [notes].
      answer: int [notes].
      instrument: any int that tells instruments apart, [notes].
      labels: names of the families.
      seed: of the resampling.

    Returns:
      `accuracy`, `balanced_accuracy`, `macro_f1`: `[low, high]` or None; `per_family`:
      `recall` and `f1`, each `[low, high]` or None, of each family of `FEWEST`
      instruments or more;
      `single_instrument_families`; `without_them`: figures and intervals of the other
      families, or None; `instruments`; `method`.
    """
    family, confusions = _by_instrument(truth, answer, instrument, len(labels))
    counts = np.bincount(family, minlength=len(labels))
    single = np.flatnonzero(counts == 1)
    every = counts > 0
    resampled = counts > 1
    samples, of_resampled = _resampled(
        family, confusions, resampled, np.random.default_rng(seed)
    )
    result: dict[str, Any] = {
        "method": f"bootstrap over {len(family)} instruments, stratified by family, "
        f"{REPLICATES} replicates, about 95 %",
        "instruments": len(family),
        "single_instrument_families": [labels[i] for i in single],
        "without_them": None,
    }
    wanted = _headlines(samples, every)
    result |= {
        name: None if len(single) else _interval(wanted[name]) for name in wanted
    }
    if len(single) and resampled.any():
        result["without_them"] = _others(family, confusions, of_resampled, resampled)
    figures = _per_family(samples)
    result["per_family"] = {
        labels[i]: {name: _interval(values[:, i]) for name, values in figures.items()}
        for i in np.flatnonzero(counts >= FEWEST)
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


@dataclasses.dataclass(frozen=True)
class _Counts:
    """What figures need of confusion matrices, float [..., families] each.

    The matrices themselves, one for each replicate, are gigabytes for hundreds of
    families.

    Attributes:
      hits: the diagonal.
      truths: sums of the rows.
      answers: sums of the columns.
    """

    hits: np.ndarray
    truths: np.ndarray
    answers: np.ndarray


def _resampled(
    family: np.ndarray,
    confusions: np.ndarray,
    several: np.ndarray,
    random: np.random.Generator,
) -> tuple[_Counts, _Counts]:
    """Counts of the replicates, and the same without notes of other families.

    Args:
      family: of each instrument.
      confusions: of each instrument, [instruments, families].
      several: families that are in the second, bool [families].
      random: draws the instruments.
    """
    hits, truths, answers, without = np.zeros([4, REPLICATES, confusions.shape[1]])
    for i in np.unique(family):
        own = confusions[family == i]
        drawn = max(len(own) - 1, 1)
        weights = random.multinomial(
            drawn, np.full(len(own), 1 / len(own)), size=REPLICATES
        )
        rows = weights @ own * (len(own) / drawn)
        hits[:, i], truths[:, i] = rows[:, i], rows.sum(axis=1)
        answers += rows
        without += rows * several[i]
    return _Counts(hits, truths, answers), _Counts(hits, truths, without)


def _per_family(counts: _Counts) -> dict[str, np.ndarray]:
    """Recall and F1, each [..., families]."""
    both = counts.truths + counts.answers
    return {
        "recall": counts.hits / np.maximum(counts.truths, 1),
        "f1": 2 * counts.hits / np.maximum(both, 1),
    }


def _headlines(counts: _Counts, families: np.ndarray) -> dict[str, np.ndarray]:
    """Headline figures over these families."""
    figures = _per_family(counts)
    hits, truths = counts.hits[..., families], counts.truths[..., families]
    values = (
        hits.sum(axis=-1) / truths.sum(axis=-1),
        figures["recall"][..., families].mean(axis=-1),
        figures["f1"][..., families].mean(axis=-1),
    )
    return dict(zip(_HEADLINE, values, strict=True))


def _others(
    family: np.ndarray, confusions: np.ndarray, samples: _Counts, families: np.ndarray
) -> dict[str, Any]:
    """Figures with intervals over the families that have several instruments."""
    own = np.where(families[family, np.newaxis], confusions, 0)
    size = len(families)
    whole = _Counts(
        np.bincount(family, own[np.arange(len(own)), family], size),
        np.bincount(family, own.sum(axis=1), size),
        own.sum(axis=0),
    )
    figures, spread = _headlines(whole, families), _headlines(samples, families)
    return {"families": int(families.sum())} | {
        name: {"value": float(figures[name]), "interval": _interval(values)}
        for name, values in spread.items()
    }


def _interval(values: np.ndarray) -> list[float] | None:
    """None where no draw differs: that says nothing of other instruments."""
    if np.ptp(values) < 1e-9:
        return None
    return [float(v) for v in np.percentile(values, _LEVEL)]


assert set(_HEADLINE) == set(metrics.headline(np.eye(1)))
