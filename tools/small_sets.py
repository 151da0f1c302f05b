"""Small prepared data sets of notes that are in memory."""

import dataclasses
import pathlib
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from mic_tf import taxonomy
from mic_tf.datasets import schema
from mic_tf.pipeline import batches

Note = dict
"""A record as `schema.record` makes it."""


def write_dataset(
    folder: pathlib.Path,
    splits: dict[str, Sequence[Note]],
    *,
    name: str = "nsynth_jsonwav",
    shards: int = 3,
    families: Sequence[str] = taxonomy.FAMILIES,
    floats: bool = False,
) -> tfds.core.DatasetBuilder:
    """Writes notes as a prepared data set, dealt to the shards in turn.

    With `floats` audio is float32, as TFDS's own `nsynth` has it.
    """
    features = schema.features(families)
    if floats:
        audio = tfds.features.Tensor(shape=(taxonomy.NOTE_SAMPLES,), dtype=np.float32)
        features = tfds.features.FeaturesDict({**features, "audio": audio})
    notes = [note for part in splits.values() for note in part]
    schema.set_names(features, {note["instrument"]["label"] for note in notes})
    serializer = tfds.core.example_serializer.ExampleSerializer(
        features.get_serialized_info()
    )
    target = folder / name / "1.0.0"
    target.mkdir(parents=True)
    infos = []
    for split, part in splits.items():
        lengths = [0] * shards
        template = tfds.core.ShardedFileTemplate(
            data_dir=target, dataset_name=name, split=split, filetype_suffix="tfrecord"
        )
        paths = template.sharded_filepaths(shards)
        for shard, path in enumerate(paths):
            with tf.io.TFRecordWriter(str(path)) as writer:
                for note in part[shard::shards]:
                    encoded = features.encode_example(note)
                    writer.write(serializer.serialize_example(encoded))
                    lengths[shard] += 1
        infos.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=lengths,
                num_bytes=sum(path.stat().st_size for path in map(pathlib.Path, paths)),
                filename_template=template,
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=target, features=features, split_infos=infos, check_data=False
    )
    return tfds.builder_from_directory(target)


def rewrite(
    records: batches.Records, change: Callable[[tf.train.Example], None]
) -> None:
    """Changes every stored record of a data set."""
    for path in records.paths:
        content = [r.numpy() for r in tf.data.TFRecordDataset(path)]
        with tf.io.TFRecordWriter(path) as writer:
            for serialized in content:
                example = tf.train.Example.FromString(serialized)
                change(example)
                writer.write(example.SerializeToString())


def cut_short(records: batches.Records, left: Mapping[str, int]) -> None:
    """Cuts the audio of some 16-bit records.

    Args:
      records: the data set.
      left: samples that are left, by id.
    """

    def change(example: tf.train.Example) -> None:
        name = example.features.feature["id"].bytes_list.value[0].decode()
        if name in left:
            values = example.features.feature["audio"].bytes_list.value
            values[0] = values[0][: 2 * left[name]]

    rewrite(records, change)


def as_float(records: batches.Records, spoilt: Collection[str]) -> batches.Records:
    """The data set with float audio, as TFDS's `nsynth` has it; some notes have NaN."""

    def change(example: tf.train.Example) -> None:
        feature = example.features.feature["audio"]
        samples = np.frombuffer(feature.bytes_list.value[0], np.int16) / 32768.0
        if example.features.feature["id"].bytes_list.value[0].decode() in spoilt:
            samples[1000:1010] = np.nan
        feature.Clear()
        feature.float_list.value.extend(samples.tolist())

    rewrite(records, change)
    return dataclasses.replace(records, audio_is_float=True)
