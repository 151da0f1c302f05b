r"""How much the answer for a note depends on where in the 4 s it begins.

  python tools/position_table.py --model=runs/phase4 --count=100

Each note is cut to its first 2 s and stands after 0 to 2 s of silence in a window of
4 s. Prints, for each place, how many notes keep the family that they have at 0, and
how far the probability of that family moves. --noise_db=35 puts the whole window into
noise, --offset=0.01 adds a constant.
"""

import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from mic_tf import command
from mic_tf.errors import UserError
from mic_tf.taxonomy import NOTE_SAMPLES, SAMPLE_RATE
from tools import measured_notes

flags.adopt_module_key_flags(measured_notes)
_NOISE = flags.DEFINE_float(
    "noise_db",
    0.0,
    "White noise in the window, its RMS so far below the note's peak; 0: none.",
    lower_bound=0.0,
)
_OFFSET = flags.DEFINE_float(
    "offset",
    0.0,
    "A constant added to the window, as a share of the note's peak.",
    lower_bound=-1.0,
    upper_bound=1.0,
)

MILLISECONDS = (
    *(1, 2, 5, 10, 15, 20, 30, 50, 100, 200, 500),
    *(530, 1000, 1030, 1777, 1970, 2000),
)
_SOUNDING = 2 * SAMPLE_RATE


def placed(waveform: np.ndarray, milliseconds: float) -> np.ndarray:
    """The first 2 s of a note after some silence.

    Args:
      waveform: int16 [64000].
      milliseconds: of silence, at most 2,000.

    Returns:
      float32 [64000] in [-1, 1].
    """
    note = measured_notes.beginning(waveform, _SOUNDING)
    start = round(milliseconds * SAMPLE_RATE / 1000)
    window = np.zeros(NOTE_SAMPLES, np.float32)
    window[start : start + note.size] = note
    return window


def disturbed(
    window: np.ndarray, noise_db: float, offset: float, seed: int
) -> np.ndarray:
    """A window, float32 [samples], with noise and an offset relative to its peak."""
    peak = np.abs(window).max()
    result = window + np.float32(offset * peak)
    if noise_db:
        noise = np.random.default_rng(seed).standard_normal(window.size, np.float32)
        result += np.float32(peak * 10.0 ** (-noise_db / 20)) * noise
    return result


def moved(
    classifier,
    waveforms: Sequence[np.ndarray],
    milliseconds: float,
    *,
    noise_db: float = 0.0,
    offset: float = 0.0,
) -> np.ndarray:
    """Probabilities of notes that begin late, float64 [notes, families]."""
    windows = (
        disturbed(placed(waveform, milliseconds), noise_db, offset, number)
        for number, waveform in enumerate(waveforms)
    )
    answers = (classifier(window, SAMPLE_RATE) for window in windows)
    return np.array([list(answer.probabilities.values()) for answer in answers])


def row(milliseconds: float, at_start: np.ndarray, later: np.ndarray) -> str:
    """One row of the table, from probabilities [notes, families]."""
    best = at_start.argmax(axis=1)
    same = (later.argmax(axis=1) == best).mean()
    notes = np.arange(len(best))
    change = np.abs(later[notes, best] - at_start[notes, best])
    high = np.quantile(change, 0.95)
    return (
        f"| {milliseconds:g} ms | {same:.1%} | {change.mean():.3f} | {high:.3f} | "
        f"{change.max():.3f} |"
    )


def main(arguments: list[str]) -> None:
    """Prints the table."""
    if arguments:
        raise UserError(f"{arguments[0]}: unexpected argument; flags begin with --")
    notes = measured_notes.notes_of_flags()

    from mic_tf.serving.classifier import Classifier

    classifier = Classifier.load(measured_notes.MODEL.value)
    # What has not begun after 2 s has no family to keep.
    waveforms = [
        w for w in notes.waveforms if not measured_notes.is_silence(w[:_SOUNDING])
    ]
    if not waveforms:
        raise UserError("no note begins within 2 s; more of them expected (--count)")
    around = {"noise_db": _NOISE.value, "offset": _OFFSET.value}
    at_start = moved(classifier, waveforms, 0, **around)
    late = len(notes.waveforms) - len(waveforms)
    words = f", {late} that begin later left out" if late else ""
    print(f"{len(at_start)} notes of {notes.words}{words}\n")
    print("| later by | same family | mean change | 95 % below | largest |")
    print("| --- | --- | --- | --- | --- |")
    for milliseconds in MILLISECONDS:
        later = moved(classifier, waveforms, milliseconds, **around)
        print(row(milliseconds, at_start, later))


if __name__ == "__main__":
    command.run(main)
