r"""Writes recordings of single notes at several pitches, for `sample_folder`.

Usage (npm's package `tonejs-instrument-saxophone-mp3`, unpacked):
  python tools/write_transposed_notes.py --out=recorded/train \
    --instrument=reed:saxophone:package
  python -m mic_tf.prepare --dataset=sample_folder/recorded --source=recorded

--instrument=FAMILY:NAME:FOLDER, once for each instrument. Each recording in a folder
becomes --copies files FAMILY/NAME/recording-N.wav of at most 4 s at 16 kHz: the first
as it is, the others played faster or slower by up to --semitones, as chance will have
it.
"""

import pathlib
import sys
import zlib
from typing import TYPE_CHECKING

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import flags

from mic_tf import command
from mic_tf.errors import UserError
from mic_tf.taxonomy import FAMILIES, NOTE_SAMPLES, SAMPLE_RATE
from tools import training_notes

if TYPE_CHECKING:
    import numpy as np


_MOST_SEMITONES = 24.0


def define_flags() -> None:
    flags.DEFINE_string("out", "", "Folder for the files.")
    flags.DEFINE_multi_string(
        "instrument", [], "FAMILY:NAME:FOLDER, once for each instrument."
    )
    flags.DEFINE_integer("copies", 8, "Files of each recording.", lower_bound=1)
    flags.DEFINE_float("semitones", 2.5, "Largest change of pitch.")


def main(arguments: list[str]) -> None:
    """Writes the files and prints how many."""
    flag = flags.FLAGS
    if arguments or not (flag.out and flag.instrument):
        raise UserError("--out, --instrument: give both, and flags only")
    if not 0.0 <= flag.semitones <= _MOST_SEMITONES:
        raise UserError(
            f"--semitones={flag.semitones:g}: 0 to {_MOST_SEMITONES:g} expected"
        )
    instruments = [_instrument(text) for text in flag.instrument]
    import tqdm

    from mic_tf.audio import finding

    taken: dict[pathlib.Path, str] = {}
    for family, name, folder in instruments:
        target = pathlib.Path(flag.out, family, training_notes.file_name(name))
        found = list(finding.find_audio([folder]))
        for path in tqdm.tqdm(found, desc=name, unit="recording"):
            sound, rate = _read(path)
            inside = pathlib.Path(path).relative_to(folder).with_suffix("")
            note = target / training_notes.file_name(str(inside))
            if note in taken:
                raise UserError(f"{path}: would have the names of {taken[note]}")
            taken[note] = path
            _write(sound, rate, pathlib.Path(path).name, note)
    print(f"{len(taken) * flag.copies} files of {len(taken)} recordings: {flag.out}")


def _instrument(text: str) -> tuple[str, str, str]:
    """Family, name and folder of an instrument."""
    family, _, rest = text.partition(":")
    name, _, folder = rest.partition(":")
    if family not in FAMILIES or name in ("", ".", "..") or not folder:
        raise UserError(
            f"--instrument={text}: FAMILY:NAME:FOLDER expected, with a family of "
            f"{', '.join(FAMILIES)}"
        )
    return family, name, folder


def _read(path: str) -> tuple["np.ndarray", int]:
    """A recording, float32 [samples], the mean of its channels, and its rate in Hz."""
    import soundfile

    try:
        sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise UserError(f"{path}: {error}") from error
    if not sound.size:
        raise UserError(f"{path}: no sound in it")
    return sound.mean(axis=1), rate


def _write(sound: "np.ndarray", rate: int, name: str, note: pathlib.Path) -> None:
    """All copies of a recording; its name decides their pitches."""
    import numpy as np

    flag = flags.FLAGS
    for copy in range(flag.copies):
        random = np.random.default_rng([copy, zlib.crc32(name.encode())])
        most = flag.semitones if copy else 0.0
        changed = transposed(sound, rate, random.uniform(-most, most))
        path = note.with_name(f"{note.name}-{copy}.wav")
        training_notes.write_sound(flag.out, path, changed)


def transposed(sound: "np.ndarray", sample_rate: int, semitones: float) -> "np.ndarray":
    """The first 4 s of a recording played faster or slower.

    Args:
      sound: float32 [samples].
      sample_rate: of it, in Hz.
      semitones: by which it sounds higher.

    Returns:
      float32 [at most 64,000] at 16 kHz within [-1, 1].
    """
    import numpy as np
    import soxr

    played_at = sample_rate * 2.0 ** (semitones / 12.0)
    changed = soxr.resample(sound, played_at, SAMPLE_RATE)[:NOTE_SAMPLES]
    return changed / max(1.0, np.abs(changed).max(initial=0.0))


if __name__ == "__main__":
    define_flags()
    command.run(main)
