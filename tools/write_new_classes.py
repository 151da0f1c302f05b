"""Renders notes of five instruments that are in none of the families, as WAV files.

Usage:
  python tools/write_new_classes.py --out=FOLDER [--soundfont=A.sf2] \
      [--test_soundfont=B.sf2]

FOLDER gets train/ (16 notes a class), valid/ (4) and test/ (20), each as
CLASS/SOUNDFONT/PITCH-VELOCITY.wav. No pitch of a class is in two of them.
"""

import pathlib
import random
import sys

from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from mic_tf import command
from mic_tf.errors import UserError
from mic_tf.taxonomy import SAMPLE_RATE

PROGRAMS = {
    "bagpipe": (109, 55, 84),
    "banjo": (105, 48, 84),
    "kalimba": (108, 48, 84),
    "koto": (107, 43, 79),
    "sitar": (104, 43, 77),
}
"""General MIDI program, lowest and highest pitch of each class."""

COUNTS = {"train": 16, "valid": 4, "test": 20}
_VELOCITIES = (50, 75, 100, 127)


def main(arguments: list[str]) -> None:
    """Writes the notes, and `written.txt` that says what they are."""
    if arguments or not flags.FLAGS.out:
        raise UserError("--out: give the folder, and flags only")
    import soundfile

    from mic_tf import files
    from mic_tf.datasets.soundfont_notes import planning, rendering

    path = flags.FLAGS.soundfont or rendering.default_path()
    test_path = flags.FLAGS.test_soundfont or path
    banks = {each: rendering.SoundFont(each) for each in {path, test_path}}
    for bank in banks.values():
        for name, (program, *_) in PROGRAMS.items():
            if not bank.has(0, program):
                raise UserError(
                    f"{bank.path}: has no General MIDI program {program} ({name}); a "
                    "SoundFont with all of them expected"
                )
    out = pathlib.Path(flags.FLAGS.out)
    for name, (program, low, high) in PROGRAMS.items():
        for split, notes in plan(name, low, high).items():
            bank = banks[test_path if split == "test" else path]
            instrument = planning.Instrument(
                name, name, "unknown", bank.path, 0, program, low, high
            )
            # The folder below the class is the instrument.
            folder = out / split / name / f"{name}_{pathlib.Path(bank.path).stem}"
            files.make_folder(str(folder))
            for pitch, velocity in notes:
                note = planning.PlannedNote(instrument, pitch, velocity)
                target = folder / f"{pitch:03d}-{velocity:03d}.wav"
                soundfile.write(target, bank.render(note), SAMPLE_RATE)
    known = pathlib.Path(path).name
    tested = pathlib.Path(test_path).name
    (out / "written.txt").write_text(
        f"{len(PROGRAMS)} classes; training and validation notes of {known}, "
        f"test notes of {tested} at other pitches\n"
    )
    print(f"{len(PROGRAMS) * sum(COUNTS.values())} notes: {out}")


def plan(name: str, low: int, high: int) -> dict[str, list[tuple[int, int]]]:
    """Pitch and velocity of each note of each split; no pitch is in two of them."""
    dice = random.Random(name)
    pitches = list(range(low, high + 1))
    dice.shuffle(pitches)
    share = len(pitches) / sum(COUNTS.values())
    planned, first = {}, 0
    for split, count in COUNTS.items():
        last = first + max(1, round(count * share))
        own = pitches[first:last]
        pairs = [(pitch, velocity) for velocity in _VELOCITIES for pitch in own]
        # Each pitch once before any comes again.
        planned[split] = pairs[:count]
        first = last
    return planned


def define_flags() -> None:
    flags.DEFINE_string("out", "", "Folder for the notes.")
    flags.DEFINE_string(
        "soundfont", "", "For training and validation notes; default: TimGM6mb."
    )
    flags.DEFINE_string("test_soundfont", "", "For the test notes; default: the same.")


if __name__ == "__main__":
    define_flags()
    command.run(main)
