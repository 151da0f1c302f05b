"""The notes of a run: opened, divided, weighed."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging

from mic_tf import files
from mic_tf.datasets.names import without_version
from mic_tf.errors import UserError
from mic_tf.pipeline import balance as balancing
from mic_tf.pipeline import batches, family_shards, joining, splits
from mic_tf.pipeline.batches import Records
from mic_tf.pipeline.draws import Side
from mic_tf.pipeline.family_shards import FamilyShards
from mic_tf.settings import DataSettings, RunSettings

_NSYNTH = ("nsynth", "nsynth_jsonwav")
_MANY_READS = 20
"""Records a delivered note; of full NSynth some 5 are."""


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """The notes of a run and how they are balanced.

    Attributes:
      main: the data set that is divided.
      records: the same, the extra ones behind it.
      partition: its division; notes of extra sets are all in train.
      balance: acceptance rates and weights of the data set's own families.
      sides: how the notes of train are drawn: those of the main set, those of the
        extra ones.
      shards: record files by family, for `--balance=streams`.
      description: what `config.json` and the exported contract say of the data.
    """

    main: Records
    records: Records
    partition: splits.Partition
    balance: balancing.Balance
    sides: tuple[Side, ...]
    shards: FamilyShards | None
    description: dict[str, Any]

    @property
    def train_notes(self) -> int:
        return int(self.partition.parts["train"].sum())


def describe_data(
    settings: RunSettings,
    builder: tfds.core.DatasetBuilder,
    extra_builders: Sequence[tfds.core.DatasetBuilder] = (),
) -> TrainingData:
    """Divides and weighs the notes as the settings say, with a line for each choice.

    Args:
      settings: of the run.
      builder: the data set that is divided.
      extra_builders: data sets whose notes are all trained on.

    Raises:
      UserError: settings that exclude each other, or an extra set with notes that the
        main one keeps for validation and test.
    """
    method = settings.data.balance
    if extra_builders and method in ("streams", "class_weight"):
        raise UserError(
            f"--balance={method}: not with --extra_datasets; use rejection or none"
        )
    if settings.data.family_weights and method == "none":
        raise UserError(
            f"--family_weights={settings.data.family_weights}: not with --balance=none"
        )
    for extra in extra_builders:
        if extra.info.full_name == builder.info.full_name:
            raise UserError(
                f"--extra_datasets: {extra.info.full_name} is the main set too; its "
                "test notes would be trained on"
            )
    named = [extra.info.full_name for extra in extra_builders]
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise UserError(f"--extra_datasets: {twice[0]} twice; each once expected")
    main, *extras = (
        batches.open_records(each, skip_bad=settings.data.skip_bad)
        for each in (builder, *extra_builders)
    )
    divided = divide(settings, main, extras)
    names = [each.info.full_name for each in (builder, *extra_builders)]
    _check_not_held_out(names, divided, main, extras)
    balance = _balance(settings, main, divided.part("train"))
    records = joining.join(main, extras)
    joined = joining.extend(divided, [extra.index for extra in extras])
    excluded = read_exclusions(settings.data.exclude)
    partition = splits.excluding(joined, records.index, excluded)
    train_part = partition.part("train")
    sides = _sides(settings, records, train_part, len(main.index))
    counts = records.index.counts(train_part)
    streams = method == "streams"
    shards = family_shards.load(builder, records.index) if streams else None
    families = records.index.families
    absent = [name for name, n in zip(families, counts, strict=True) if not n]
    if len(families) - len(absent) == 1:
        logging.warning(
            "all training notes are of one family (%s): whatever it hears, the model "
            "will say so",
            *set(families) - set(absent),
        )
    if absent:
        logging.info("no training notes, left out of the target: %s", ", ".join(absent))
    begun = bool(settings.train.init_from)
    logging.info(
        "%s, %s%s; %d training notes, balance %s: %.2f records read for each note",
        " + ".join(names),
        splits.words(divided, main.index, all_known=not begun),
        " (what the weights of --init_from heard of it, evaluate says)"
        if begun
        else "",
        train_part.sum(),
        method,
        1.0 if streams else sum(side.share * side.reads_per_note for side in sides),
    )
    reads = 0.0 if streams else max(side.reads_per_note for side in sides)
    if reads > _MANY_READS:
        notes, rarest = min(
            (n, name) for name, n in zip(families, counts, strict=True) if n
        )
        logging.warning(
            "%.0f records are read for each note that is drawn, as %s has so few "
            "(%d notes): --balance=streams reads each once, by a lower "
            "--balance_alpha they are drawn less often",
            *(reads, rarest, notes),
        )
    data_settings = dataclasses.asdict(settings.data)
    del data_settings["data_dir"]
    description = {
        "dataset": names[0],
        "extra_datasets": names[1:],
        "protocol": partition.protocol,
        "settings": data_settings,
        "hold_out_valid": _holds_out_valid(settings),
        "notes": {name: int(part.sum()) for name, part in partition.parts.items()},
        "note_digests": _digests(divided, main),
        "extra_digests": _extra_digests(train_part, len(main.index), extras),
        "train_notes_per_family": dict(zip(families, counts.tolist(), strict=True)),
    }
    return TrainingData(main, records, partition, balance, sides, shards, description)


def origin(full_name: str) -> str:
    """Of data sets of one origin the same id, or instrument, is the same sound.

    NSynth's notes keep their names whatever the builder, label and version. Elsewhere
    a set shares its names with its other versions alone: two SoundFonts, under two
    labels, call different sounds alike.

    Args:
      full_name: of the data set, as `soundfont_notes/open/1.0.0`.
    """
    base = without_version(full_name)
    return _NSYNTH[0] if base.split("/")[0] in _NSYNTH else base


def _check_not_held_out(
    names: Sequence[str],
    divided: splits.Partition,
    main: Records,
    extras: Sequence[Records],
) -> None:
    """Refuses an extra set that has held-out notes of the main one, see `origin`."""
    parts = [part for name, part in divided.parts.items() if name != "train"]
    held_out = {note for part in parts for note in main.index.ids[part].tolist()}
    for name, extra in zip(names[1:], extras, strict=True):
        if origin(name) != origin(names[0]):
            continue
        both = held_out.intersection(extra.index.ids[extra.index.usable].tolist())
        if both:
            raise UserError(
                f"--extra_datasets: {name} has {len(both)} notes ({min(both)} and "
                f"others) that {names[0]} keeps for validation and test, and that "
                "would be trained on; a set without them expected"
            )


def _balance(
    settings: RunSettings, records: Records, notes: np.ndarray
) -> balancing.Balance:
    data = settings.data
    counts = records.index.counts(notes)
    families = list(records.index.families)
    weights = balancing.parse_weights(data.family_weights, families)
    return balancing.balance(counts, data.balance, data.balance_alpha, weights)


def _sides(
    settings: RunSettings, records: Records, train_part: np.ndarray, main_notes: int
) -> tuple[Side, ...]:
    """Main and extra notes of train, each balanced for itself; none without a share."""
    is_extra = np.arange(len(records.index)) >= main_notes
    share = settings.data.extra_share
    parts = [(1.0 - share, train_part & ~is_extra), (share, train_part & is_extra)]
    if all(notes.any() for _, notes in parts):
        parts = [(share, notes) for share, notes in parts if share > 0.0]
    else:
        parts = [(1.0, notes) for _, notes in parts if notes.any()]
    sides = []
    for share, notes in parts:
        balance = _balance(settings, records, notes)
        acceptance = notes * balance.acceptance[records.index.family]
        sides.append(Side(share, acceptance))
    return tuple(sides)


def divide(
    settings: RunSettings, records: Records, extras: Sequence[Records] = ()
) -> splits.Partition:
    """The run's partition of the notes, without excluded ones.

    Args:
      settings: of the run.
      records: its main data set.
      extras: other sets in which ids to leave out may be.
    """
    excluded = exclusions(settings.data.exclude, records, *extras)
    return _divide(records, settings.data, _holds_out_valid(settings), excluded)


def divide_again(description: dict[str, Any], records: Records) -> splits.Partition:
    """The partition of a run that was trained before.

    Args:
      description: what the run says of its data, see `TrainingData`.
      records: its main data set.
    """
    settings = DataSettings(**description["settings"])
    files.register_file_systems(settings.exclude)
    if settings.exclude and not files.exists(settings.exclude):
        raise UserError(
            f"--exclude={settings.exclude}: no such file; the model was trained "
            "without the notes that it names, and without it nobody knows which"
        )
    excluded = read_exclusions(settings.exclude)
    return _divide(records, settings, description["hold_out_valid"], excluded)


def changed_parts(
    description: dict[str, Any], division: splits.Partition, records: Records
) -> list[str]:
    """Parts of a run's main data set that have other notes than when it was trained.

    Args:
      description: what the run says of its data, see `TrainingData`.
      division: as `divide_again` gives it.
      records: the data set as it is now.
    """
    before = description.get("note_digests")
    now: dict[str, Any] = _digests(division, records)
    if before is None:
        # Only counts are known, those of train together with the extra sets'.
        before = {k: v for k, v in description["notes"].items() if k != "train"}
        parts = division.parts.items()
        now = {name: int(part.sum()) for name, part in parts if name != "train"}
    return [name for name in {**before, **now} if before.get(name) != now.get(name)]


def is_changed_extra(description: dict[str, Any], name: str, records: Records) -> bool:
    """Whether an extra set has other notes than when it was trained on.

    Args:
      description: what a run says of its data, see `TrainingData`.
      name: full name of the set; of one that was no extra set nothing is said.
      records: the set as it is now.

    Returns:
      False, too, where it is not known: earlier programs did not write it down, and
      what a file left out is not known without that file.
    """
    digests = description.get("extra_digests", [])
    before = dict(zip(description.get("extra_datasets", []), digests, strict=False))
    if name not in before:
        return False
    try:
        excluded = read_exclusions(description["settings"].get("exclude", ""))
    except UserError:
        return False
    index = records.index
    heard = index.usable & ~splits.named(index, excluded)
    return before[name] != splits.digest(index, heard)


def _digests(division: splits.Partition, records: Records) -> dict[str, str]:
    return {
        name: splits.digest(records.index, part)
        for name, part in division.parts.items()
    }


def _extra_digests(
    train_part: np.ndarray, main_notes: int, extras: Sequence[Records]
) -> list[str]:
    """Says which notes of each extra set are trained on."""
    digests, start = [], main_notes
    for extra in extras:
        end = start + len(extra.index)
        digests.append(splits.digest(extra.index, train_part[start:end]))
        start = end
    return digests


def _divide(
    records: Records,
    settings: DataSettings,
    hold_out_valid: bool,
    excluded: set[str],
) -> splits.Partition:
    partition = splits.partition(records.index, settings, hold_out_valid=hold_out_valid)
    return splits.excluding(partition, records.index, excluded)


def exclusions(path: str, *records: Records) -> set[str]:
    """The note ids of `read_exclusions`, with a warning where the data has none.

    Raises:
      UserError: there is no such file.
    """
    ids = read_exclusions(path)
    wanted = sorted(ids)
    if ids and not any(np.isin(each.index.ids, wanted).any() for each in records):
        logging.warning(
            "--exclude=%s: none of its %d ids (%s and others) is one of a note here",
            path,
            len(ids),
            min(ids),
        )
    return ids


def read_exclusions(path: str) -> set[str]:
    """Note ids of a file that leaves notes out: one a line, a comment behind a tab.

    Raises:
      UserError: there is no such file.
    """
    if not path:
        return set()
    files.register_file_systems(path)
    try:
        text = files.read_bytes(path).decode("utf-8-sig")
    except tf.errors.NotFoundError as error:
        raise UserError(f"--exclude={path}: no such file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"--exclude={path}: UTF-8 expected") from error
    except tf.errors.OpError as error:
        reason = files.reason(error)
        raise UserError(f"--exclude={path}: cannot be read: {reason}") from error
    lines = text.splitlines()
    return {line.split("\t")[0].strip() for line in lines} - {""}


def _holds_out_valid(settings: RunSettings) -> bool:
    return settings.train.select == "best"
