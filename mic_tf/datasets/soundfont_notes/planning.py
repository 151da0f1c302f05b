"""Which notes are rendered: NSynth's proportions, splits disjoint by instrument."""

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence

from absl import logging

from mic_tf.taxonomy import FAMILIES, NSYNTH_FAMILY_NOTES, SPLITS, VELOCITIES


@dataclasses.dataclass(frozen=True)
class Instrument:
    """One preset of a SoundFont.

    Attributes:
      name: unique, as `guitar_acoustic_024`.
      family: the NSynth family.
      source: acoustic, electronic or synthetic.
      soundfont: path of its file.
      bank: MIDI bank.
      program: MIDI program, from 0.
      low: lowest MIDI pitch.
      high: highest MIDI pitch.
    """

    name: str
    family: str
    source: str
    soundfont: str
    bank: int
    program: int
    low: int
    high: int

    @property
    def capacity(self) -> int:
        """How many notes it can give."""
        return (self.high - self.low + 1) * len(VELOCITIES)


@dataclasses.dataclass(frozen=True)
class PlannedNote:
    """A note to render."""

    instrument: Instrument
    pitch: int
    velocity: int

    @property
    def id(self) -> str:
        return f"{self.instrument.name}-{self.pitch:03d}-{self.velocity:03d}"


def plan(
    instruments: Sequence[Instrument],
    train_notes: int,
    seed: int,
    weights: Mapping[str, float] = NSYNTH_FAMILY_NOTES,
) -> dict[str, list[PlannedNote]]:
    """Chooses the notes of each split.

    Args:
      instruments: all there are.
      train_notes: notes wanted in train; valid and test get an eighth each.
      seed: salt of the hashes that choose.
      weights: proportion of each family; NSynth's unless given.

    Returns:
      Notes by split; fewer than wanted only where all instruments of the split
      together have no more.
    """
    by_split = split_instruments(instruments, seed)
    wanted = {"train": train_notes, "valid": train_notes // 8, "test": train_notes // 8}
    return {
        split: _notes_of_split(
            split, by_split[split], max(1, wanted[split]), seed, weights
        )
        for split in SPLITS
        if by_split[split]
    }


def split_instruments(
    instruments: Sequence[Instrument], seed: int
) -> dict[str, list[Instrument]]:
    """Deals the instruments of each family to the splits, by a stable hash.

    A family of three or more instruments is in every split, with about a tenth of
    them (at least one) in valid and in test; one of two is not in test.
    """
    dealt: dict[str, list[Instrument]] = {split: [] for split in SPLITS}
    for family in FAMILIES:
        members = [i for i in instruments if i.family == family]
        members.sort(key=lambda i: _hash(seed, "split", i.name))
        tenth = max(1, round(len(members) / 10))
        tests = tenth if len(members) >= 3 else 0
        valids = tenth if len(members) >= 2 else 0
        dealt["test"] += members[:tests]
        dealt["valid"] += members[tests : tests + valids]
        dealt["train"] += members[tests + valids :]
    return dealt


def allocate(
    total: int, weights: Mapping[str, float], capacity: Mapping[str, int]
) -> dict[str, int]:
    """Divides a number by weights, no part above its capacity.

    What does not fit in one part goes to the others, by their weights again. Each
    part gets at least one where the total allows it.

    Args:
      total: the number to divide.
      weights: a positive weight for each part.
      capacity: the most a part can take, at least 1.

    Returns:
      The parts; they add up to the total or to the sum of all capacities.
    """
    total = min(total, sum(capacity.values()))
    if total < len(capacity):
        heaviest = sorted(capacity, key=lambda k: -weights[k])[:total]
        return {key: int(key in heaviest) for key in capacity}
    shares = dict.fromkeys(capacity, 1)
    while (rest := total - sum(shares.values())) > 0:
        open_parts = [key for key in capacity if shares[key] < capacity[key]]
        filled = sum(shares[key] for key in open_parts) + rest
        level = filled / sum(weights[key] for key in open_parts)
        gaps = {key: level * weights[key] - shares[key] for key in open_parts}
        for key in sorted(open_parts, key=lambda k: -gaps[k]):
            rest = total - sum(shares.values())
            step = min(math.ceil(gaps[key]), capacity[key] - shares[key], rest)
            shares[key] += max(0, step)
    return shares


def _notes_of_split(
    split: str,
    instruments: Sequence[Instrument],
    total: int,
    seed: int,
    weights: Mapping[str, float],
) -> list[PlannedNote]:
    capacity: dict[str, int] = {}
    for instrument in instruments:
        family = instrument.family
        capacity[family] = capacity.get(family, 0) + instrument.capacity
    shares = allocate(total, weights, capacity)
    _tell_shortage(split, total, shares, capacity, weights)
    notes = []
    for family, share in shares.items():
        members = [i for i in instruments if i.family == family]
        notes += _notes_of_family(members, share, seed)
    return sorted(notes, key=lambda note: note.id)


def _notes_of_family(
    instruments: Sequence[Instrument], total: int, seed: int
) -> list[PlannedNote]:
    """As many notes from each instrument as it has, by a stable hash of the note."""
    shares = allocate(
        total,
        {i.name: 1.0 for i in instruments},
        {i.name: i.capacity for i in instruments},
    )
    notes = []
    for instrument in instruments:
        all_notes = [
            PlannedNote(instrument, pitch, velocity)
            for pitch in range(instrument.low, instrument.high + 1)
            for velocity in VELOCITIES
        ]
        all_notes.sort(key=lambda note: _hash(seed, "note", note.id))
        notes += all_notes[: shares[instrument.name]]
    return notes


def _tell_shortage(
    split: str,
    total: int,
    shares: Mapping[str, int],
    capacity: Mapping[str, int],
    weights: Mapping[str, float],
) -> None:
    planned = sum(shares.values())
    if planned < total:
        logging.warning(
            "%s: %s notes wanted, but its instruments give %s different ones "
            "(pitch and velocity); another --soundfont would add instruments",
            split,
            f"{total:,}",
            f"{planned:,}",
        )
        return
    weight = sum(weights[family] for family in shares)
    for family, share in shares.items():
        proportional = total * weights[family] / weight
        if share == capacity[family] and share < proportional - 1:
            logging.info(
                "%s: %s gives all its %s notes; the proportions would ask for "
                "%s, the rest comes from the other families",
                split,
                family,
                f"{share:,}",
                f"{proportional:,.0f}",
            )


def _hash(seed: int, purpose: str, text: str) -> bytes:
    return hashlib.sha256(f"{seed}:{purpose}:{text}".encode()).digest()
