"""The notes of a run: opened, divided, weighed."""

import dataclasses
from typing import Any

import tensorflow_datasets as tfds
from absl import logging

from mic_tf import files
from mic_tf.errors import UserError
from mic_tf.pipeline import balance as balancing
from mic_tf.pipeline import batches, family_shards, splits
from mic_tf.pipeline.batches import Records
from mic_tf.pipeline.family_shards import FamilyShards
from mic_tf.settings import RunSettings


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """The notes of a run and how they are balanced.

    Attributes:
      records: the data set.
      partition: its division.
      balance: acceptance rates and weights.
      shards: record files by family, for `--balance=streams`.
      description: what `config.json` and the exported contract say of the data.
    """

    records: Records
    partition: splits.Partition
    balance: balancing.Balance
    shards: FamilyShards | None
    description: dict[str, Any]

    @property
    def train_notes(self) -> int:
        return int(self.partition.parts["train"].sum())


def describe_data(
    settings: RunSettings, builder: tfds.core.DatasetBuilder
) -> TrainingData:
    """Divides and weighs the notes as the settings say, with a line for each choice."""
    records = batches.open_records(builder, skip_bad=settings.data.skip_bad)
    partition = divide(settings, records)
    train_part = partition.part("train")
    counts = records.index.counts(train_part)
    balance = balancing.balance(
        counts, settings.data.balance, settings.data.balance_alpha
    )
    streams = settings.data.balance == "streams"
    shards = family_shards.load(builder, records.index) if streams else None
    names = records.index.families
    absent = [name for name, n in zip(names, counts, strict=True) if not n]
    if absent:
        logging.info("no training notes, left out of the target: %s", ", ".join(absent))
    logging.info(
        "%s, %s; %d training notes, balance %s: %.2f records read for each note",
        builder.info.full_name,
        splits.PROTOCOL_WORDS[partition.protocol],
        train_part.sum(),
        settings.data.balance,
        1.0 if streams else balance.reads_per_note,
    )
    data_settings = dataclasses.asdict(settings.data)
    del data_settings["data_dir"]
    description = {
        "dataset": builder.info.full_name,
        "protocol": partition.protocol,
        "settings": data_settings,
        "hold_out_valid": _holds_out_valid(settings),
        "notes": {name: int(part.sum()) for name, part in partition.parts.items()},
        "train_notes_per_family": dict(zip(names, counts.tolist(), strict=True)),
    }
    return TrainingData(records, partition, balance, shards, description)


def divide(settings: RunSettings, records: Records) -> splits.Partition:
    """The run's partition of the notes, without excluded ones."""
    partition = splits.partition(
        records.index, settings.data, hold_out_valid=_holds_out_valid(settings)
    )
    excluded = read_exclusions(settings.data.exclude)
    return splits.excluding(partition, records.index, excluded)


def read_exclusions(path: str) -> set[str]:
    """Note ids of a file that leaves notes out: one a line, a comment behind a tab.

    Raises:
      UserError: there is no such file.
    """
    if not path:
        return set()
    if not files.exists(path):
        raise UserError(f"--exclude={path}: no such file")
    lines = files.read_text(path).splitlines()
    return {line.split("\t")[0].strip() for line in lines} - {""}


def _holds_out_valid(settings: RunSettings) -> bool:
    return settings.train.select == "best"
