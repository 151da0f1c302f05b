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

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import flags

from mic_tf import command
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
    training_notes.write(arguments, _write)


def _write(note: training_notes.Note, copy: int, path: pathlib.Path) -> bool:
    """A note through a codec."""
    import soundfile
    import soxr

    container, encoding, rate = random.Random(f"{note.name} {copy}").choice(CODECS)
    resampled = soxr.resample(note.waveform, SAMPLE_RATE, rate)
    file = f"{path}.{container.lower()}"
    soundfile.write(file, resampled, rate, format=container, subtype=encoding)
    return True


if __name__ == "__main__":
    training_notes.define_flags()
    flags.adopt_module_key_flags(training_notes)
    command.run(main)
