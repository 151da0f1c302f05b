r"""How much of a recording of known notes a timeline names rightly.

  python tools/timeline_table.py --model=runs/phase4 [--longest=4]

All notes stand in a row in random order, each cut to a random length and followed by a
pause of up to 1 s. Prints, for several distances between windows (`predict --hop`), the
share of the time that has its right name: of all of it, pauses being `silence`, and of
the notes alone.
"""

import pathlib
import sys
import tempfile

import numpy as np
import soundfile
from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from mic_tf import command
from mic_tf.errors import UserError
from mic_tf.taxonomy import SAMPLE_RATE
from tools import measured_notes

flags.adopt_module_key_flags(measured_notes)

_SHORTEST = flags.DEFINE_float("shortest", 1.5, "Seconds of a note at least.", 0.1, 4.0)
_LONGEST = flags.DEFINE_float("longest", 4.0, "Seconds of a note at most.", 0.1, 4.0)

HOPS = (0.25, 0.5, 1.0, 2.0, 4.0)
_PAUSE = 1.0


def recording(
    waveforms: np.ndarray, families: list[str], shortest: float, longest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Notes in a row, and what each sample is of.

    Args:
      waveforms: int16 [notes, 64000].
      families: of each.
      shortest: seconds of a note at least.
      longest: at most.

    Returns:
      float32 [samples] in [-1, 1], and a name for each sample.
    """
    random = np.random.default_rng(0)
    sounds, names = [], []
    for place in random.permutation(len(waveforms)):
        length = round(random.uniform(shortest, longest) * SAMPLE_RATE)
        note = measured_notes.beginning(waveforms[place], length)
        pause = np.zeros(round(random.uniform(0, _PAUSE) * SAMPLE_RATE), np.float32)
        sounds += [note, pause]
        names += [np.repeat(families[place], len(note))]
        names += [np.repeat("silence", len(pause))]
    return np.concatenate(sounds), np.concatenate(names)


def shares(found: list, names: np.ndarray) -> tuple[float, float]:
    """The share of the time that has its name, of all of it and of the notes.

    Args:
      found: segments of a timeline.
      names: of each sample.
    """
    said = np.full(len(names), "", dtype=object)
    for segment in found:
        start, end = (round(t * SAMPLE_RATE) for t in (segment.start, segment.end))
        said[start:end] = segment.family
    right = said == names
    return float(right.mean()), float(right[names != "silence"].mean())


def main(arguments: list[str]) -> None:
    """Prints the table."""
    if arguments:
        raise UserError(f"{arguments[0]}: unexpected argument; flags begin with --")
    shortest, longest = _SHORTEST.value, _LONGEST.value
    if shortest > longest:
        raise UserError(
            f"--shortest={shortest:g}: at most --longest={longest:g} expected"
        )
    notes = measured_notes.notes_of_flags()

    from mic_tf.serving import timeline
    from mic_tf.serving.classifier import Classifier

    classifier = Classifier.load(measured_notes.MODEL.value)
    sound, names = recording(notes.waveforms, notes.families, shortest, longest)
    print(
        f"{len(notes.families)} notes of {shortest:g} to {longest:g} s, "
        f"{len(sound) / SAMPLE_RATE:.0f} s in all, of {notes.words}\n"
    )
    print("| --hop | right, of all | right, of the notes | segments |")
    print("| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder, "recording.wav"))
        soundfile.write(path, sound, SAMPLE_RATE)
        for hop in HOPS:
            found = list(timeline.segments(classifier, path, hop_seconds=hop))
            all_of_it, of_notes = shares(found, names)
            print(f"| {hop:g} s | {all_of_it:.1%} | {of_notes:.1%} | {len(found)} |")


if __name__ == "__main__":
    command.run(main)
