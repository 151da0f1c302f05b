"""Which notes train, which validate and which test, under a named protocol."""

import dataclasses
import hashlib
import re

import numpy as np

from mic_tf import taxonomy
from mic_tf.datasets import schema
from mic_tf.errors import UserError
from mic_tf.pipeline.index import NoteIndex
from mic_tf.settings import DataSettings

PROTOCOL_WORDS = {
    "official": "official split: no instrument of the test was heard in training",
    "instrument": "instrument split: folds of instruments, none of the test was heard "
    "in training",
    "random": "random split: instruments overlap, expect less on new ones",
}

_BY_INSTRUMENT = {
    "official": "the data set's own split",
    "instrument": "instrument split",
}
"""What is said where instruments should not be shared and are."""

_WINDOW = re.compile(r"#\d+(\.\d+)?$")
"""What the id of a window of a longer recording ends with: all go to one part."""

_RANDOM_SHARES = {"train": 0.8, "valid": 0.1, "test": 0.1}


@dataclasses.dataclass(frozen=True)
class Partition:
    """A division of a data set's notes.

    Attributes:
      protocol: the protocol's name.
      parts: `train`, `valid` and `test`, each a bool array [notes]; under the
        official protocol also the data set's further splits.
      heard: bool [notes], those that training hears, whatever part they are in.
    """

    protocol: str
    parts: dict[str, np.ndarray]
    heard: np.ndarray

    def part(self, name: str) -> np.ndarray:
        """The notes of one part.

        Raises:
          UserError: there is no such part, or it is empty.
        """
        if name not in self.parts or not self.parts[name].any():
            present = [k for k, v in self.parts.items() if v.any()]
            raise UserError(
                f"split {name!r}: no such notes under the {self.protocol} protocol; "
                f"there are {', '.join(present) or 'none'}"
            )
        return self.parts[name]


def words(partition: Partition, index: NoteIndex, *, all_known: bool = True) -> str:
    """The protocol in words, as the notes bear it out.

    Args:
      partition: the division.
      index: the notes.
      all_known: whether `partition.heard` has all notes that were heard; if not, it
        is not said that no instrument of the test was.
    """
    usual = PROTOCOL_WORDS[partition.protocol]
    if not all_known:
        usual = _BY_INSTRUMENT.get(partition.protocol, usual)
    parts = partition.parts.items()
    others = [part for name, part in parts if name != "train" and part.any()]
    if partition.protocol not in _BY_INSTRUMENT or not others:
        return usual
    tested = np.unique(index.instrument[np.any(others, axis=0)])
    shared = np.isin(tested, index.instrument[partition.heard]).sum()
    files = _named_after_files(index, tested)
    if not shared and not files:
        return usual
    some = shared or files
    what = (
        "outside training were heard in training"
        if shared
        else "outside training are a single file each, after which they are named; "
        "others of the same may have been heard in training"
    )
    return (
        f"{_BY_INSTRUMENT[partition.protocol]}: {some} of {len(tested)} instruments "
        f"{what}, expect less on new ones"
    )


def _named_after_files(index: NoteIndex, instruments: np.ndarray) -> int:
    """How many of these instruments are one file, after which they are named."""
    rows = np.flatnonzero(np.isin(index.instrument, instruments))
    files: dict[int, set[str]] = {}
    for instrument, name in zip(
        index.instrument[rows].tolist(), index.ids[rows].tolist(), strict=True
    ):
        files.setdefault(instrument, set()).add(_WINDOW.sub("", name))
    return sum(
        len(names) == 1 and schema.is_named_after(index.instruments[instrument], *names)
        for instrument, names in files.items()
    )


def digest(index: NoteIndex, notes: np.ndarray) -> str:
    """Says which notes these are, whatever order they are stored in.

    Args:
      index: the notes.
      notes: some of them, bool [notes].
    """
    ids = "\n".join(sorted(index.ids[notes]))
    return hashlib.blake2b(ids.encode(), digest_size=8).hexdigest()


def stable_hash(text: str, salt: int) -> int:
    """A 64-bit hash that is the same on every machine and in every process."""
    digest = hashlib.blake2b(f"{salt}/{text}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def partition(
    index: NoteIndex, settings: DataSettings, *, hold_out_valid: bool = True
) -> Partition:
    """Divides the notes as the settings say.

    Args:
      index: the notes.
      settings: protocol, pool, folds, salt, largest number of training notes.
      hold_out_valid: whether the instrument and random protocols keep a validation
        part; if not, its notes are trained on.

    Returns:
      The parts; `max_notes` and excluded notes are already taken out.

    Raises:
      UserError: a split or fold that does not exist.
    """
    parts = _PROTOCOLS[settings.protocol](index, settings)
    parts = {name: part & index.usable for name, part in parts.items()}
    if not hold_out_valid and settings.protocol != "official":
        parts["train"] = parts["train"] | parts.pop("valid")
    if settings.max_notes and "train" in parts:
        parts["train"] = _at_most(index, parts["train"], settings)
    heard = parts.get("train", np.zeros(len(index), bool))
    return Partition(settings.protocol, parts, heard)


def excluding(part: Partition, index: NoteIndex, ids: set[str]) -> Partition:
    """The same division without the notes of these ids: neither heard nor tested."""
    without = untested(part, index, ids)
    return dataclasses.replace(without, heard=part.heard & ~named(index, ids))


def untested(part: Partition, index: NoteIndex, ids: set[str]) -> Partition:
    """The same parts without the notes of these ids; what was heard stays heard."""
    keep = ~named(index, ids)
    return dataclasses.replace(
        part, parts={name: notes & keep for name, notes in part.parts.items()}
    )


def named(index: NoteIndex, ids: set[str]) -> np.ndarray:
    """The notes of these ids, bool [notes]."""
    return np.isin(index.ids, sorted(ids)) if ids else np.zeros(len(index), bool)


def _official(index: NoteIndex, settings: DataSettings) -> dict[str, np.ndarray]:
    del settings
    splits = index.note_split
    return {name: splits == i for i, name in enumerate(index.split_names)}


def _random(index: NoteIndex, settings: DataSettings) -> dict[str, np.ndarray]:
    pool = _pool(index, settings)
    salt = settings.split_seed
    recordings = [_WINDOW.sub("", note) for note in index.ids]
    place = np.array([stable_hash(r, salt) / 2.0**64 for r in recordings])
    bounds = np.cumsum(list(_RANDOM_SHARES.values()))[:-1]
    where = np.digitize(place, bounds)
    return {name: pool & (where == i) for i, name in enumerate(_RANDOM_SHARES)}


def _instrument(index: NoteIndex, settings: DataSettings) -> dict[str, np.ndarray]:
    if settings.fold >= settings.folds:
        raise UserError(
            f"fold {settings.fold}: there are {settings.folds} folds, "
            f"0 to {settings.folds - 1}"
        )
    pool = _pool(index, settings)
    fold = instrument_folds(index, pool, settings.folds, settings.split_seed)
    test = fold == settings.fold
    valid = fold == (settings.fold + 1) % settings.folds
    if settings.folds == 2:
        valid = np.zeros_like(test)
    train = pool & ~test & ~valid
    return {"train": train, "valid": valid, "test": test}


def instrument_folds(
    index: NoteIndex, pool: np.ndarray, folds: int, salt: int
) -> np.ndarray:
    """The fold of each note, so that no instrument stands in two.

    Instruments are sorted by a stable hash within each family and dealt round-robin;
    the dealing goes on where the family before stopped, so that the folds stay of
    about one size and none lacks a family that has at least `folds` instruments.

    Args:
      index: the notes.
      pool: bool [notes], the notes to deal.
      folds: number of folds.
      salt: of the hash.

    Returns:
      int64 [notes]; -1 outside the pool.
    """
    fold_of = np.full((len(index.families), len(index.instruments)), -1)
    turn = 0
    for family in range(len(index.families)):
        labels = np.unique(index.instrument[pool & (index.family == family)])
        names = {int(i): index.instruments[i] for i in labels}
        for label in sorted(names, key=lambda i: stable_hash(names[i], salt)):
            fold_of[family, label] = turn % folds
            turn += 1
    return np.where(pool, fold_of[index.family, index.instrument], -1)


def evenly(selected: np.ndarray, most: int) -> np.ndarray:
    """Some of the selected notes, evenly from all of them.

    Args:
      selected: bool [notes].
      most: how many at most; 0: all.

    Returns:
      bool [notes].
    """
    rows = np.flatnonzero(selected)
    some = np.zeros_like(selected)
    some[rows[:: max(1, -(-len(rows) // (most or len(rows) or 1)))]] = True
    return some


def _pool(index: NoteIndex, settings: DataSettings) -> np.ndarray:
    if not settings.pool:
        return np.ones(len(index), bool)
    wanted = [name.strip() for name in settings.pool.split(",")]
    unknown = [name for name in wanted if name not in index.split_names]
    if unknown:
        raise UserError(
            f"--pool: no split {unknown[0]!r}; the data set has "
            f"{', '.join(index.split_names)}"
        )
    return np.isin(index.note_split, [index.split_names.index(n) for n in wanted])


def _at_most(index: NoteIndex, train: np.ndarray, settings: DataSettings) -> np.ndarray:
    rows = np.flatnonzero(train)
    if len(rows) <= settings.max_notes:
        return train
    salt = settings.split_seed
    hashes = np.array([stable_hash(f"keep/{index.ids[r]}", salt) for r in rows])
    kept = np.zeros_like(train)
    kept[rows[np.argsort(hashes, kind="stable")[: settings.max_notes]]] = True
    return kept


_PROTOCOLS = {"official": _official, "instrument": _instrument, "random": _random}

assert set(_RANDOM_SHARES) == set(taxonomy.SPLITS)
