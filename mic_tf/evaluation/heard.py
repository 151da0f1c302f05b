"""The notes that a model heard in training, in whichever data sets they lie."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from mic_tf.datasets import catalogue
from mic_tf.errors import UserError
from mic_tf.evaluation.division import is_same_set
from mic_tf.evaluation.evaluator import Subject
from mic_tf.pipeline import batches
from mic_tf.pipeline.batches import Records
from mic_tf.pipeline.splits import Partition
from mic_tf.training import training_data
from mic_tf.training.starting import STARTED_FROM
from mic_tf.training.training_data import origin


@dataclasses.dataclass(frozen=True)
class Heard:
    """Notes of one data set that were trained on.

    Attributes:
      dataset: its full name; empty for the set that is measured.
      records: the data set.
      notes: those trained on, bool [notes].
      same_names: whether an instrument's name means the same one as in the measured
        set.
    """

    dataset: str
    records: Records
    notes: np.ndarray
    same_names: bool = True


@dataclasses.dataclass(frozen=True)
class Training:
    """What was trained on, as far as it can be reached.

    Attributes:
      heard: data sets with notes that were heard.
      missing: why a further set cannot be looked at, by its full name.
    """

    heard: tuple[Heard, ...] = ()
    missing: dict[str, str] = dataclasses.field(default_factory=dict)


def in_training(
    subject: Subject,
    records: Records,
    dataset: str,
    partition: Partition,
    data_dirs: Sequence[str],
    *,
    earlier: bool = True,
) -> Training:
    """Opens every data set that a model was trained on.

    Args:
      subject: the model.
      records: the data set that is measured.
      dataset: its full name.
      partition: its division, see `division.partition_for`.
      data_dirs: folders of prepared sets in which to look for the others.
      earlier: whether to look at what the weights heard that it started from, too.
    """
    heard, missing = [], {}
    if partition.heard.any():
        heard.append(Heard("", records, partition.heard))
    trainings = [subject.trained_on]
    if earlier:
        trainings += subject.trained_on.get(STARTED_FROM, [])
    for trained in trainings:
        for name in (trained["dataset"], *trained.get("extra_datasets", [])):
            try:
                if is_same_set(name, dataset):
                    _check_known(name, trained, records)
                else:
                    heard.append(_opened(name, trained, dataset, data_dirs))
            except UserError as error:
                missing[name] = str(error)
    return Training(_joined(heard), missing)


def _joined(heard: Sequence[Heard]) -> tuple[Heard, ...]:
    """One entry for each data set, whichever trainings it was heard in."""
    joined: dict[str, Heard] = {}
    for each in heard:
        known = joined.get(each.dataset)
        if known and len(known.notes) == len(each.notes):
            each = dataclasses.replace(each, notes=known.notes | each.notes)
        joined[each.dataset] = each
    return tuple(joined.values())


def _check_known(name: str, trained: dict[str, Any], records: Records) -> None:
    """Checks that the measured set still says what was heard of it."""
    if name == trained["dataset"]:
        division = training_data.divide_again(trained, records)
        _check_same_notes(division, trained, records, "")


def _opened(
    name: str, trained: dict[str, Any], measured: str, data_dirs: Sequence[str]
) -> Heard:
    """The set from the first folder that has the notes that were trained on."""
    reasons = []
    for folder in dict.fromkeys(data_dirs):
        try:
            return _opened_in(folder, name, trained, measured)
        except UserError as error:
            reasons.append(str(error))
    raise UserError("; ".join(reasons) or "no folder to look in")


def _opened_in(folder: str, name: str, trained: dict[str, Any], measured: str) -> Heard:
    records = _open(folder, name, trained)
    if name == trained["dataset"]:
        division = training_data.divide_again(trained, records)
        _check_same_notes(division, trained, records, folder)
        notes = division.heard
    else:
        notes = records.index.usable
        if training_data.is_changed_extra(trained, name, records):
            raise UserError(f"in {folder} it has other notes than those trained on")
    return Heard(name, records, notes, origin(name) == origin(measured))


def _open(folder: str, name: str, trained: dict[str, Any]) -> Records:
    skip_bad = trained["settings"].get("skip_bad", False)
    base, version = name.rsplit("/", maxsplit=1)
    builder = catalogue.load_builder(f"{base}:{version}", folder)
    return batches.open_records(builder, skip_bad=skip_bad)


def _check_same_notes(
    division: Partition, trained: dict[str, Any], records: Records, folder: str
) -> None:
    changed = training_data.changed_parts(trained, division, records)
    if changed:
        where = f"in {folder} it has" if folder else "it has"
        raise UserError(
            f"{where} other notes than those trained on ({', '.join(changed)})"
        )


def some_heard(
    heard: Sequence[Heard], most: int, random: np.random.Generator | None = None
) -> list[tuple[Heard, np.ndarray]]:
    """Rows of at most so many heard notes, drawn at random from all sets together."""
    random = random or np.random.default_rng(0)
    rows = [np.flatnonzero(each.notes) for each in heard]
    ends = np.cumsum([len(part) for part in rows])
    chosen = np.arange(ends[-1]) if len(rows) else np.empty(0, int)
    if len(chosen) > most:
        chosen = np.sort(random.choice(chosen, max(most, 0), replace=False))
    parts = np.split(chosen, np.searchsorted(chosen, ends[:-1])) if len(rows) else []
    starts = ends - [len(part) for part in rows]
    return [
        (each, own[part - start])
        for each, own, part, start in zip(heard, rows, parts, starts, strict=True)
        if len(part)
    ]
