"""Writes training notes through codecs: OGG Vorbis, Opus and MP3 at several rates.

Usage:
  python tools/write_codec_notes.py --dataset=nsynth_jsonwav --data_dir=data --out=codec
  python -m mic_tf.prepare --dataset=sample_folder/codec --source=codec --data_dir=data

Each note of the data set's `train` split becomes --copies files, each by a codec and a
rate drawn for it, as FAMILY/INSTRUMENT/name.ogg or .mp3.
"""

import pathlib
import random
import sys
import urllib.parse
from typing import TYPE_CHECKING

from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from mic_tf import command
from mic_tf.errors import UserError
from mic_tf.taxonomy import SAMPLE_RATE

if TYPE_CHECKING:
    import numpy as np

    from mic_tf.pipeline.index import NoteIndex

CODECS = (
    ("OGG", "VORBIS", 16_000),
    ("OGG", "VORBIS", 16_000),
    ("OGG", "VORBIS", 22_050),
    ("OGG", "VORBIS", 44_100),
    ("OGG", "OPUS", 16_000),
    ("OGG", "OPUS", 48_000),
    ("MP3", "MPEG_LAYER_III", 16_000),
    ("MP3", "MPEG_LAYER_III", 44_100),
)
"""Container and encoding as libsndfile names them, and rate in Hz; drawn alike."""


def main(arguments: list[str]) -> None:
    """Writes the files and prints how many."""
    values = flags.FLAGS
    if arguments or not (values.out and values.dataset):
        raise UserError("--dataset, --out: give both, and flags only")
    import tqdm

    from mic_tf.audio import waveforms
    from mic_tf.datasets import catalogue
    from mic_tf.pipeline import batches

    builder = catalogue.load_builder(values.dataset, values.data_dir)
    records = batches.open_records(builder)
    index = records.index
    selected = _training_notes(index, values.dataset, values.max_notes)
    notes = batches.evaluation_batches(records, selected, batch_size=1)
    count = int(selected.sum())
    for waveform, _, _, row in tqdm.tqdm(notes, total=count, unit="note"):
        number = int(row[0])
        family = index.families[index.family[number]]
        instrument = index.instruments[index.instrument[number]]
        _write(
            waveforms.as_float(waveform[0].numpy()),
            str(index.ids[number]),
            pathlib.Path(values.out, family, _file_name(instrument)),
            values.copies,
        )
    print(f"{count * values.copies} files of {count} notes: {values.out}")


def _training_notes(index: "NoteIndex", dataset: str, most: int) -> "np.ndarray":
    """Notes of the split `train`, evenly from all of them: bool [notes]."""
    from mic_tf.pipeline import splits

    if "train" not in index.split_names:
        raise UserError(f"--dataset={dataset}: no split named train")
    selected = splits.evenly(index.note_split == index.split_names.index("train"), most)
    if not selected.any():
        raise UserError(f"--dataset={dataset}: no note in its split train")
    return selected


def _write(sound: "np.ndarray", name: str, folder: pathlib.Path, copies: int) -> None:
    """A note, float32 [samples] at 16 kHz, through as many codecs."""
    import soundfile
    import soxr

    folder.mkdir(parents=True, exist_ok=True)
    for copy in range(copies):
        container, encoding, rate = random.Random(f"{name} {copy}").choice(CODECS)
        path = folder / f"{_file_name(name)}-{copy}.{container.lower()}"
        resampled = soxr.resample(sound, SAMPLE_RATE, rate)
        soundfile.write(path, resampled, rate, format=container, subtype=encoding)


def _file_name(name: str) -> str:
    return urllib.parse.quote(name, safe=" +,=")


def define_flags() -> None:
    flags.DEFINE_string("dataset", "", "Prepared data set whose notes are taken.")
    flags.DEFINE_string("data_dir", "~/tensorflow_datasets", "Folder of data sets.")
    flags.DEFINE_string("out", "", "Folder for the files.")
    flags.DEFINE_integer(
        "max_notes", 0, "Notes at most, evenly from all; 0: all.", lower_bound=0
    )
    flags.DEFINE_integer("copies", 1, "Files of each note.", lower_bound=1)


if __name__ == "__main__":
    define_flags()
    command.run(main)
