"""How a data set's notes are divided for a model that is measured on them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from mic_tf.datasets.names import without_version
from mic_tf.errors import UserError
from mic_tf.pipeline import splits
from mic_tf.pipeline.batches import Records
from mic_tf.pipeline.splits import Partition
from mic_tf.settings import DataSettings
from mic_tf.training import training_data
from mic_tf.training.starting import STARTED_FROM, UNRECORDED
from mic_tf.training.training_data import changed_parts, divide_again

OTHER_DATA = "other_data"
TRAINED_ON = "trained_on"
TRAINED_ON_WORDS = "notes that it was trained on: says nothing about others"
OTHER_DATA_WORDS = "another data set than the one it was trained on"


def partition_for(
    trained: dict[str, Any], records: Records, dataset: str, exclude: str = ""
) -> tuple[Partition, str]:
    """The division of a data set's notes, as a model may be tested on it.

    Args:
      trained: what the model says of its data, `Subject.trained_on`.
      records: the data set's records.
      dataset: its full name, as `soundfont_notes/1.0.0`.
      exclude: a file of note ids to leave out.

    Returns:
      The partition and the protocol in words. For the data set that the model was
      trained on it is the training's own division; for another, its own splits, of
      which it heard all notes or none. What the weights heard that it started from
      was heard too.

    Raises:
      UserError: the notes are not those that it was trained on, so that they cannot
        be divided again.
    """
    before, unknown = _heard_before(trained, records, dataset)
    if is_same_set(dataset, trained["dataset"]):
        partition = divide_again(trained, records)
        changed = changed_parts(trained, partition, records)
        partition = dataclasses.replace(partition, heard=partition.heard | before)
        words = splits.words(partition, records.index, all_known=not unknown)
        if changed:
            _check_own_splits(trained, dataset, changed)
            words += f"; other notes in {', '.join(changed)} than when it was trained"
    else:
        all_heard = _is_extra(trained, records, dataset)
        partition = dataclasses.replace(
            splits.partition(records.index, DataSettings()),
            protocol=TRAINED_ON if all_heard else OTHER_DATA,
            heard=before | (records.index.usable & all_heard),
        )
        words = f"{OTHER_DATA_WORDS} ({trained['dataset']})"
        if all_heard:
            words = TRAINED_ON_WORDS
    if unknown:
        words += f"; what else its weights heard of it is not known ({unknown})"
    # What is left out here was heard all the same.
    excluded = training_data.exclusions(exclude, records)
    return splits.untested(partition, records.index, excluded), words


def of_part(partition: Partition, words: str, split: str) -> tuple[Partition, str]:
    """The division and its words for one part of it, some of which was heard.

    Args:
      partition: as `partition_for` gives it.
      words: the same.
      split: the part that is measured.

    Returns:
      Both; where all of the part was heard the protocol is `TRAINED_ON`.
    """
    tested = partition.part(split)
    heard = int((tested & partition.heard).sum())
    if heard == tested.sum():
        return dataclasses.replace(partition, protocol=TRAINED_ON), TRAINED_ON_WORDS
    if heard:
        words += f"; {heard} of these {int(tested.sum())} notes were trained on"
    return partition, words


def is_same_set(full_name: str, other: str) -> bool:
    """Whether two full names are of one data set, whatever its version."""
    return without_version(full_name) == without_version(other)


def _is_extra(trained: dict[str, Any], records: Records, dataset: str) -> bool:
    """Whether a data set is one that was trained on beside the main one."""
    return any(
        is_same_set(name, dataset)
        and not training_data.is_changed_extra(trained, name, records)
        for name in trained.get("extra_datasets", [])
    )


def _check_own_splits(
    trained: dict[str, Any], dataset: str, changed: Sequence[str]
) -> None:
    """Notes that came or went move others, but not from a data set's own splits."""
    data = trained["settings"]
    free = ("max_notes", "exclude")
    if data.get("protocol", "official") != "official" or any(map(data.get, free)):
        raise UserError(
            f"{dataset}: other notes in {', '.join(changed)} than when the model was "
            "trained, so what it heard is not known; give --data_dir with those (and "
            "the --exclude file as it was), or train again"
        )


def _heard_before(
    trained: dict[str, Any], records: Records, dataset: str
) -> tuple[np.ndarray, str]:
    """Notes that the weights heard from which a run started.

    Returns:
      bool [notes], and why there may be more of them; empty where all are known.
    """
    heard = np.zeros(len(records.index), bool)
    unknown = []
    for earlier in trained.get(STARTED_FROM, []):
        if _is_extra(earlier, records, dataset):
            heard |= records.index.usable
        elif is_same_set(dataset, earlier["dataset"]):
            try:
                division = divide_again(earlier, records)
            except UserError as error:
                unknown.append(str(error))
                continue
            heard |= division.heard
            changed = changed_parts(earlier, division, records)
            if changed:
                unknown.append(f"other notes in {', '.join(changed)} than then")
    for each in (trained, *trained.get(STARTED_FROM, [])):
        unknown += _unknown_of(each, records, dataset)
        if UNRECORDED in each:
            unknown.append(f"started from {each[UNRECORDED]}, which does not say it")
    return heard, "; ".join(dict.fromkeys(unknown))


def _unknown_of(trained: dict[str, Any], records: Records, dataset: str) -> list[str]:
    """Why a training may have heard more of a data set than its names say."""
    names = (trained["dataset"], *trained.get("extra_datasets", []))
    same = [name for name in names if is_same_set(name, dataset)]
    unknown = [
        f"other notes than in {name} then"
        for name in same
        if training_data.is_changed_extra(trained, name, records)
    ]
    # An extra set has no held-out note of the main one.
    if not is_same_set(trained["dataset"], dataset):
        origin = training_data.origin(dataset)
        unknown += [
            f"its notes may be among those of {name}"
            for name in names
            if name not in same and training_data.origin(name) == origin
        ]
    return unknown
