"""Writes a few test notes of a run as WAV files, one of each family in turn.

Usage:
  python tools/write_notes.py --workdir=quickstart/run --out=quickstart/examples
"""

import os
import pathlib
import sys

from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from mic_tf import command
from mic_tf.errors import UserError
from mic_tf.taxonomy import SAMPLE_RATE

_WORKDIR = flags.DEFINE_string("workdir", "", "Work folder of the run.")
_SPLIT = flags.DEFINE_string("split", "test", "Part of the run's division.")
_COUNT = flags.DEFINE_integer("count", 6, "How many notes.", lower_bound=1)
_OUT = flags.DEFINE_string("out", "", "Folder for the files.")


def main(arguments: list[str]) -> None:
    """Writes the notes under their ids and prints where they are."""
    if arguments or not (_OUT.value and _WORKDIR.value):
        raise UserError("--workdir, --out: give both, and flags only")
    import soundfile

    from mic_tf import files
    from mic_tf.datasets import catalogue
    from mic_tf.pipeline import batches
    from mic_tf.training import training_data, workfolder

    data = workfolder.load_settings(_WORKDIR.value)
    builder = catalogue.load_builder(data.data.dataset, data.data.data_dir)
    records = batches.open_records(builder, skip_bad=data.data.skip_bad)
    part = training_data.divide(data, records).part(_SPLIT.value)
    selected = _first_of_each_family(part, records.index.family, _COUNT.value)
    files.make_folder(_OUT.value)
    for waveform, _, _, row in batches.evaluation_batches(
        records, selected, batch_size=1
    ):
        name = records.index.ids[int(row[0])].replace("/", "_").replace("#", "_")
        path = os.path.join(_OUT.value, f"{name}.wav")
        soundfile.write(path, waveform[0].numpy(), SAMPLE_RATE)
    print(f"{selected.sum()} notes of the run's {_SPLIT.value} part: {_OUT.value}")


def _first_of_each_family(part, family, count: int):
    """The first note of each family, then the second, ...; bool [notes]."""
    import numpy as np

    rows = np.flatnonzero(part)
    turn = np.zeros(len(rows), int)
    for each in np.unique(family[rows]):
        own = family[rows] == each
        turn[own] = np.arange(own.sum())
    selected = np.zeros_like(part)
    selected[rows[np.argsort(turn, kind="stable")[:count]]] = True
    return selected


if __name__ == "__main__":
    command.run(main)
