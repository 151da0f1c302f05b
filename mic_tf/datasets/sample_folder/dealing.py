"""Which recordings go to train, valid and test: whole instruments, by a stable hash."""

import collections
import hashlib
from collections.abc import Iterable, Sequence

from absl import logging

from mic_tf.datasets.sample_folder.recordings import Recording
from mic_tf.errors import UserError
from mic_tf.taxonomy import SPLITS


def deal(recordings: Sequence[Recording]) -> dict[str, list[Recording]]:
    """Recordings by split; splits without any are left out.

    Where the source names splits they are taken as they are. Else the instruments of
    each family are dealt: about a tenth, at least one of two, to valid; about a
    tenth, at least one of three, to test; the rest to train. A family of a single
    instrument with several files is dealt by files, and so are files that nothing
    names an instrument of, with a warning. Where valid or test would get more files of
    a family than train, its largest instruments go to train.

    Args:
      recordings: all with a split, or all without.

    Raises:
      UserError: only some have a split, or none is for train.
    """
    without = [r for r in recordings if not r.split]
    if not without:
        dealt = {split: [r for r in recordings if r.split == split] for split in SPLITS}
        if not dealt["train"]:
            raise UserError(
                "the source names splits, but none of its files is in train"
            )
    elif len(without) < len(recordings):
        raise UserError(
            f"{without[0].id} has no split, but other files have; all or none expected"
        )
    else:
        _warn_of_files(recordings)
        dealt = {split: [] for split in SPLITS}
        by_family = _grouped(recordings, lambda r: r.family)
        for family in sorted(by_family):
            _deal_family(family, by_family[family], dealt)
    return {split: members for split, members in dealt.items() if members}


def instrument_names(recordings: Iterable[Recording]) -> dict[tuple[str, str], str]:
    """A name for each (family, instrument), unique over all families."""
    pairs = sorted({(r.family, r.instrument) for r in recordings})
    uses = collections.Counter(instrument for _, instrument in pairs)
    names = {
        (family, instrument): (
            instrument if uses[instrument] == 1 else f"{family}/{instrument}"
        )
        for family, instrument in pairs
    }
    if len(set(names.values())) < len(pairs):
        return {(family, name): f"{family}/{name}" for family, name in pairs}
    return names


def _warn_of_files(recordings: Sequence[Recording]) -> None:
    alone = [r for r in recordings if not r.named]
    if len(alone) > 1:
        logging.warning(
            "%d of %d files are taken for an instrument each (%s and others): where "
            "some are of the same instrument, results are too good; put them into "
            "FAMILY/INSTRUMENT/, or name it in a CSV file",
            len(alone),
            len(recordings),
            alone[0].id,
        )


def _deal_family(
    family: str, recordings: list[Recording], dealt: dict[str, list[Recording]]
) -> None:
    groups = _grouped(recordings, lambda r: r.instrument)
    if len(groups) == 1 and len(recordings) > 1:
        logging.warning(
            "family %s has one instrument only (%s): its files are dealt to all "
            "splits, so results for it are too good",
            family,
            recordings[0].instrument,
        )
        groups = _grouped(recordings, lambda r: r.id)
    keys = sorted(groups, key=lambda key: _hash(f"{family}/{key}"))
    parts = _parts(keys, groups)
    for largest in sorted(keys, key=lambda key: len(groups[key]), reverse=True):
        if len(parts["train"]) >= max(len(parts["valid"]), len(parts["test"])):
            break
        keys.remove(largest)
        keys.append(largest)
        parts = _parts(keys, groups)
    for split, part in parts.items():
        dealt[split] += part


def _parts(
    keys: list[str], groups: dict[str, list[Recording]]
) -> dict[str, list[Recording]]:
    """The recordings of groups by split: valid has the first, train the last."""
    tenth = max(1, round(len(keys) / 10))
    valids = tenth if len(keys) >= 2 else 0
    tests = tenth if len(keys) >= 3 else 0
    parts = {
        "valid": keys[:valids],
        "test": keys[valids : valids + tests],
        "train": keys[valids + tests :],
    }
    return {
        split: [recording for key in part for recording in groups[key]]
        for split, part in parts.items()
    }


def _grouped(recordings: Iterable[Recording], key) -> dict[str, list[Recording]]:
    groups: dict[str, list[Recording]] = {}
    for recording in recordings:
        groups.setdefault(key(recording), []).append(recording)
    return groups


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
