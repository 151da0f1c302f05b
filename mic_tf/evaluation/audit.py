"""What is wrong with a data set, decided from labels and measures alone."""

import collections
import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from mic_tf.evaluation import twins
from mic_tf.evaluation.measures import Measures
from mic_tf.pipeline.index import NoteIndex
from mic_tf.taxonomy import NOTE_SAMPLES

THRESHOLDS = {
    "silent_peak": 0.001,
    "clipped_samples": 16,
    "dc_offset": 0.02,
    "dc_offset_of_level": 0.2,
    "noise_flatness": 0.4,
    "noise_family_fence": 3.0,
    "lowest_pitch": 21,
    "highest_pitch": 108,
    "sure_periodicity": 0.9,
    "sure_semitones": 0.5,
    "pitch_semitones": 1.0,
    "periodicity_at_label": 0.6,
    "rate_semitones": 0.25,
    "twin_db": twins.THRESHOLD_DB,
}
"""Every number that a decision depends on; `audit.json` repeats them."""

KINDS = {
    "instrument_in_two_splits": "the instrument stands in more than one split",
    "duplicate": "byte-identical audio under several ids",
    "near_twin": "the same sound at another velocity or under another name",
    "label_conflict": "the same sound with different labels",
    "length": f"not {NOTE_SAMPLES} samples",
    "not_finite": "NaN or infinite samples",
    "silence": "nothing to be heard (peak below -60 dB of full scale)",
    "noise": "noise instead of a note: spectrum flat, far outside its family",
    "clipping": "runs of samples at full scale",
    "dc_offset": "the waveform does not lie around zero",
    "pitch_range": "labelled pitch outside 21-108",
    "pitch": "the sound's pitch is surely another than the label's",
    "rate": "the pitch is off as if recorded at another sample rate",
}
"""Kinds of findings and what each says."""

RATES = (11_025, 22_050, 24_000, 44_100, 48_000)
"""Sample rates that a wrong pitch is compared with, in Hz."""

_UNUSABLE = ("length", "not_finite", "silence", "noise")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
      kind: one of `KINDS`.
      rows: the notes concerned, as rows of the note index; of an instrument in two
        splits one note a split.
      detail: what was measured, in words.
      leave_out: those of the rows that `exclude.txt` names.
      across_splits: whether the notes lie in several splits.
    """

    kind: str
    rows: tuple[int, ...]
    detail: str
    leave_out: tuple[int, ...] = ()
    across_splits: bool = False


def find(index: NoteIndex, measures: Measures) -> list[Finding]:
    """All findings about the measured notes.

    Args:
      index: labels of the data set.
      measures: of its notes, or of some of them.

    Returns:
      Findings in the order of `KINDS`.
    """
    found = [
        *_instruments(index, measures.rows),
        *_same_sounds(index, measures),
        *_faulty_notes(index, measures),
    ]
    order = list(KINDS)
    return sorted(found, key=lambda finding: order.index(finding.kind))


def exclusions(index: NoteIndex, findings: list[Finding]) -> dict[str, str]:
    """Reasons by note id: what `exclude.txt` says.

    Left out is what cannot be learnt from (wrong length, NaN, silence, noise), copies
    but one, every note whose label is in doubt, and of twins across splits those that
    are not in the test part. A pitch or level that is off does not hurt a family.
    """
    reasons: dict[str, list[str]] = collections.defaultdict(list)
    for finding in findings:
        for row in finding.leave_out:
            reasons[str(index.ids[row])].append(f"{finding.kind}: {finding.detail}")
    return {note: "; ".join(parts) for note, parts in sorted(reasons.items())}


def _instruments(index: NoteIndex, rows: np.ndarray) -> Iterator[Finding]:
    splits = index.note_split[rows]
    pairs = np.unique(np.stack([index.instrument[rows], splits]), axis=1)
    labels, counts = np.unique(pairs[0], return_counts=True)
    for label in labels[counts > 1]:
        own = rows[index.instrument[rows] == label]
        names, first = np.unique(index.note_split[own], return_index=True)
        where = ", ".join(index.split_names[i] for i in names)
        detail = f"{index.instruments[label]}: {len(own)} notes in {where}"
        yield Finding(
            "instrument_in_two_splits",
            tuple(own[first].tolist()),
            detail,
            across_splits=True,
        )


def _same_sounds(index: NoteIndex, measures: Measures) -> Iterator[Finding]:
    audible = measures.peak >= THRESHOLDS["silent_peak"]
    place = np.flatnonzero(audible)
    for group in _groups_of(measures.digest[place]):
        yield from _same_sound(index, measures.rows[place[group]], "duplicate")
    # Noises resemble each other without being copies.
    tonal = measures.flatness < THRESHOLDS["noise_flatness"]
    _, first, kind = np.unique(measures.digest, return_index=True, return_inverse=True)
    distinct = np.zeros(len(audible), bool)
    distinct[first] = True
    place = np.flatnonzero(audible & tonal & distinct)
    copies = np.split(
        np.argsort(kind, kind="stable"), np.cumsum(np.bincount(kind))[:-1]
    )
    for group in _groups_of(twins.groups(measures.fingerprint[place])):
        # A twin of a note is one of its copies too, whichever split they are in.
        own = np.concatenate([copies[kind[i]] for i in place[group]])
        yield from _same_sound(index, np.sort(measures.rows[own]), "near_twin")


def _same_sound(index: NoteIndex, rows: np.ndarray, kind: str) -> Iterator[Finding]:
    """The finding about a group of equal notes, and one more where labels disagree."""
    splits = index.note_split[rows]
    across = len(np.unique(splits)) > 1
    count = f"{len(rows)} notes" + (", across splits" if across else "")
    if kind == "duplicate":
        leave_out = tuple(sorted(rows, key=lambda r: _worth(index, r))[1:])
    else:
        # Further velocities within a split are no fault; heard on both sides they are.
        best = min(_worth(index, row)[0] for row in rows)
        leave_out = tuple(r for r in rows if across and _worth(index, r)[0] > best)
    families = sorted({index.families[i] for i in index.family[rows]})
    pitches = sorted({int(p) for p in index.pitch[rows] if p >= 0})
    instruments = {int(i) for i in index.instrument[rows]}
    if len(instruments) > 1:
        count += f", {len(instruments)} instruments"
    if len(pitches) > 1:
        count += f", pitches {pitches[0]} to {pitches[-1]}"
    yield _finding(kind, rows, count, leave_out, across)
    if len(families) > 1:
        detail = f"families {', '.join(families)}"
        yield _finding("label_conflict", rows, detail, tuple(rows), across)
    elif kind == "duplicate" and len(pitches) > 1:
        detail = f"pitches {', '.join(map(str, pitches))}"
        yield _finding("label_conflict", rows, detail, tuple(rows), across)


def _finding(kind, rows, detail, leave_out, across) -> Finding:
    as_ints = (tuple(int(r) for r in part) for part in (rows, leave_out))
    rows, leave_out = as_ints
    return Finding(kind, rows, detail, leave_out, across)


def _worth(index: NoteIndex, row: int) -> tuple[int, str]:
    """Order in which copies are kept: the test part first, then by id."""
    split = index.split_names[index.note_split[row]]
    order = {"test": 0, "valid": 1}
    return order.get(split, 2), str(index.ids[row])


def _groups_of(keys: np.ndarray) -> Iterator[np.ndarray]:
    """Positions of each key that occurs more than once."""
    order = np.argsort(keys, kind="stable")
    borders = np.flatnonzero(np.diff(keys[order])) + 1
    for group in np.split(order, borders):
        if len(group) > 1:
            yield group


def _faulty_notes(index: NoteIndex, m: Measures) -> Iterator[Finding]:
    silent = m.peak < THRESHOLDS["silent_peak"]
    masks: dict[str, tuple[np.ndarray, Callable[[int], str]]] = {
        "length": (m.samples != NOTE_SAMPLES, lambda i: f"{m.samples[i]} samples"),
        "not_finite": (m.not_finite > 0, lambda i: f"{m.not_finite[i]} samples"),
        "silence": (silent, lambda i: f"peak {m.peak[i]:.5f} of full scale"),
        "noise": (
            _noise(index, m) & ~silent,
            lambda i: f"flatness {m.flatness[i]:.2f}",
        ),
        "clipping": (
            m.clipped >= THRESHOLDS["clipped_samples"],
            lambda i: f"{m.clipped[i]} samples at full scale",
        ),
        "dc_offset": (
            (np.abs(m.offset) >= THRESHOLDS["dc_offset"])
            & (np.abs(m.offset) >= THRESHOLDS["dc_offset_of_level"] * m.level),
            lambda i: f"mean {m.offset[i]:+.3f} of full scale",
        ),
    }
    for kind, (mask, detail) in masks.items():
        for i in np.flatnonzero(mask):
            row = int(m.rows[i])
            leave_out = (row,) if kind in _UNUSABLE else ()
            yield Finding(kind, (row,), detail(i), leave_out)
    yield from _pitches(index, m)


def _noise(index: NoteIndex, m: Measures) -> np.ndarray:
    """Notes whose flatness is high and beyond Tukey's far fence of their family."""
    families = index.family[m.rows]
    fence = np.full(len(index.families), THRESHOLDS["noise_flatness"])
    for family in np.unique(families):
        low, high = np.percentile(m.flatness[families == family], [25, 75])
        far = high + THRESHOLDS["noise_family_fence"] * (high - low)
        fence[family] = max(fence[family], far)
    return m.flatness > fence[families]


def _pitches(index: NoteIndex, m: Measures) -> Iterator[Finding]:
    label = index.pitch[m.rows].astype(np.float64)
    lowest, highest = THRESHOLDS["lowest_pitch"], THRESHOLDS["highest_pitch"]
    outside = (label >= 0) & ((label < lowest) | (label > highest))
    for i in np.flatnonzero(outside):
        yield Finding("pitch_range", (int(m.rows[i]),), f"pitch {int(label[i])}")
    sure = (m.periodicity >= THRESHOLDS["sure_periodicity"]).all(axis=1) & (
        np.abs(m.pitch[:, 0] - m.pitch[:, 1]) <= THRESHOLDS["sure_semitones"]
    )
    deviation = m.pitch.mean(axis=1) - label
    # Octaves are left alone: organ stops and synthesisers sound them on purpose.
    folded = np.abs((deviation + 6) % 12 - 6)
    at_label = np.nanmax(np.nan_to_num(m.periodicity_at_label, nan=1.0), axis=1)
    contradicts = sure & (folded > THRESHOLDS["pitch_semitones"])
    contradicts &= at_label < THRESHOLDS["periodicity_at_label"]
    for i in np.flatnonzero(contradicts):
        heard = f"heard {m.pitch[i].mean():.1f}, labelled {int(label[i])}"
        rate = _rate_of(deviation[i])
        if rate:
            yield Finding("rate", (int(m.rows[i]),), f"{heard}: as if {rate} Hz")
        else:
            yield Finding("pitch", (int(m.rows[i]),), heard)


def _rate_of(deviation: float) -> int | None:
    """The sample rate whose samples, read at 16 kHz, are so many semitones off."""
    for rate in RATES:
        off = 12 * np.log2(16_000 / rate)
        if abs(off - deviation) <= THRESHOLDS["rate_semitones"]:
            return rate
    return None
