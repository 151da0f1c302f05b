"""Accuracy of parts of the test: by source, octave, velocity and instrument."""

from typing import Any

import numpy as np

from mic_tf.pipeline.index import NoteIndex


def breakdown(
    index: NoteIndex, rows: np.ndarray, right: np.ndarray
) -> dict[str, list[dict[str, Any]]]:
    """Notes and accuracy of every part.

    Args:
      index: labels of the data set.
      rows: the notes answered, int [notes].
      right: whether each answer was right, bool [notes].

    Returns:
      `source`, `octave` and `velocity` in their natural order and `instrument`, the
      worst first: lists of `name`, `n`, `instruments`, `accuracy`; instruments also
      have their `family`.
    """
    octaves = np.where(index.pitch[rows] < 0, -9, index.pitch[rows] // 12 - 1)
    families = index.family[rows]
    instruments = index.instrument[rows]
    parts = {
        "source": (index.source[rows], lambda v: index.sources[v]),
        "octave": (octaves, lambda v: _known(v, v > -9)),
        "velocity": (index.velocity[rows], lambda v: _known(v, v >= 0)),
        "instrument": (instruments, lambda v: index.instruments[v]),
    }
    found = {}
    for title, (values, name) in parts.items():
        unique, part = np.unique(values, return_inverse=True)
        notes = np.bincount(part)
        hits = np.bincount(part, right)
        pairs = np.unique(np.stack([part, instruments]), axis=1)
        players = np.bincount(pairs[0])
        found[title] = [
            {
                "name": name(value),
                "n": int(notes[i]),
                "instruments": int(players[i]),
                "accuracy": float(hits[i] / notes[i]),
            }
            for i, value in enumerate(unique)
        ]
    _, first = np.unique(instruments, return_index=True)
    for entry, note in zip(found["instrument"], first, strict=True):
        entry["family"] = index.families[families[note]]
    found["instrument"].sort(key=lambda entry: (entry["accuracy"], -entry["n"]))
    return found


def _known(value: int, is_known: bool) -> str:
    return str(int(value)) if is_known else "unknown"
