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

from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from mic_tf import command
from mic_tf.errors import UserError
from mic_tf.taxonomy import SAMPLE_RATE
from tools import training_notes

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
    count = 0
    for note in training_notes.read(values.dataset, values.data_dir, values.max_notes):
        _write(note, note.folder(values.out), values.copies)
        count += 1
    print(f"{count * values.copies} files of {count} notes: {values.out}")


def _write(note: training_notes.Note, folder: pathlib.Path, copies: int) -> None:
    """A note through as many codecs."""
    import soundfile
    import soxr

    folder.mkdir(parents=True, exist_ok=True)
    for copy in range(copies):
        drawn = random.Random(f"{note.name} {copy}").choice(CODECS)
        container, encoding, rate = drawn
        name = f"{training_notes.file_name(note.name)}-{copy}.{container.lower()}"
        resampled = soxr.resample(note.waveform, SAMPLE_RATE, rate)
        soundfile.write(
            folder / name, resampled, rate, format=container, subtype=encoding
        )


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
