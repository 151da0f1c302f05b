"""Writes a few notes of a prepared data set as WAV files, one of each family in turn.

Usage:
  python tools/write_notes.py --data_dir=quickstart/data --out=quickstart/examples
"""

import os
import pathlib
import sys
from collections.abc import Iterator

from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from mic_tf import command
from mic_tf.errors import UserError
from mic_tf.taxonomy import SAMPLE_RATE

_DATASET = flags.DEFINE_string("dataset", "soundfont_notes", "The data set.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", "~/tensorflow_datasets", "Folder of the prepared data sets."
)
_SPLIT = flags.DEFINE_string("split", "test", "The split of the data set.")
_COUNT = flags.DEFINE_integer("count", 6, "How many notes.", lower_bound=1)
_OUT = flags.DEFINE_string("out", "", "Folder for the files.")


def main(arguments: list[str]) -> None:
    """Writes FAMILY-INSTRUMENT-PITCH.wav files and prints where they are."""
    if arguments or not _OUT.value:
        raise UserError("--out: give the folder for the files, and flags only")
    import soundfile

    from mic_tf.datasets import catalogue

    builder = catalogue.load_builder(_DATASET.value, _DATA_DIR.value)
    if _SPLIT.value not in builder.info.splits:
        names = ", ".join(builder.info.splits)
        raise UserError(f"--split={_SPLIT.value}: no such split; there are {names}")
    os.makedirs(_OUT.value, exist_ok=True)
    for name, waveform in _notes(builder, _SPLIT.value, _COUNT.value):
        soundfile.write(os.path.join(_OUT.value, f"{name}.wav"), waveform, SAMPLE_RATE)
    print(f"{_COUNT.value} notes of the {_SPLIT.value} split: {_OUT.value}")


def _notes(builder, split: str, count: int) -> Iterator[tuple]:
    """Names and waveforms: the first note of each family, then the second, ..."""
    import tensorflow as tf

    features = builder.info.features
    seen: dict[int, int] = {}
    waiting = []
    for record in tf.data.TFRecordDataset(builder.info.splits[split].filepaths):
        note = features.deserialize_example_np(record.numpy())
        family = int(note["instrument"]["family"])
        seen[family] = seen.get(family, 0) + 1
        if seen[family] <= count:
            waiting.append((seen[family], len(waiting), note))
    for _, _, note in sorted(waiting, key=lambda item: item[:2])[:count]:
        family = features["instrument"]["family"].int2str(note["instrument"]["family"])
        name = note["id"].decode().replace("/", "_").replace("#", "_")
        yield (name if name.startswith(family) else f"{family}-{name}"), note["audio"]


if __name__ == "__main__":
    command.run(main)
