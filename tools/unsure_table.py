r"""How many sounds that are no instrument are called unsure.

  python tools/unsure_table.py --model=runs/phase4 --sounds=FOLDER

Two thresholds, each the highest at which 95 % of the notes of `--split` still get a
family: of `--min_probability`, and of `--min_familiarity` where the model tells it; and
both together, which each leave out as many notes and together 5 %.
Noise, hum, clicks and speech-like sounds are generated; `--sounds` adds recordings, one
kind in each of its folders. Prints one row for each kind.
"""

import collections
import os
import pathlib
import sys
from collections.abc import Callable, Collection, Iterator

import numpy as np
from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from mic_tf import command
from mic_tf.errors import UserError
from mic_tf.taxonomy import NOTE_SAMPLES, SAMPLE_RATE
from tools import measured_notes

flags.adopt_module_key_flags(measured_notes)
_SOUNDS = flags.DEFINE_string("sounds", "", "Folder with a folder of each kind.")
_GENERATED = flags.DEFINE_integer(
    "generated", 100, "Sounds of each generated kind.", lower_bound=0
)

Generate = Callable[[np.random.Generator], np.ndarray]

_TIME = np.arange(NOTE_SAMPLES) / SAMPLE_RATE
_VOWELS = (  # Formants in Hz, Peterson and Barney 1952, men.
    *((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240)),
    *((530, 1840, 2480), (570, 840, 2410), (660, 1720, 2410)),
)


def noise(random: np.random.Generator) -> np.ndarray:
    """Noise whose power falls by 0 (white) to 6 dB (brown) an octave."""
    spectrum = np.fft.rfft(random.normal(size=NOTE_SAMPLES))
    frequency = np.maximum(np.fft.rfftfreq(NOTE_SAMPLES), 20 / SAMPLE_RATE)
    slope = random.choice([0.0, 0.5, 1.0])
    return np.fft.irfft(spectrum * frequency**-slope, NOTE_SAMPLES)


def hum(random: np.random.Generator) -> np.ndarray:
    """Mains hum of 50 or 60 Hz: harmonics of random strength, some hiss."""
    mains = random.choice([50.0, 60.0])
    sound = 0.01 * random.uniform() * random.normal(size=NOTE_SAMPLES)
    for harmonic in range(1, 20):
        strength = random.uniform() / harmonic
        phase = random.uniform(0, 2 * np.pi)
        sound += strength * np.sin(2 * np.pi * harmonic * mains * _TIME + phase)
    return sound


def clicks(random: np.random.Generator) -> np.ndarray:
    """Clicks of a few milliseconds, 1 to 30 a second, at random times."""
    sound = np.zeros(NOTE_SAMPLES)
    for _ in range(int(4 * random.uniform(1, 30))):
        length = int(random.integers(1, 80))
        start = int(random.integers(0, NOTE_SAMPLES - length))
        fade = np.exp(-np.arange(length) / random.uniform(1, 20))
        sound[start : start + length] += fade * random.normal(size=length)
    return sound


def speech_like(random: np.random.Generator) -> np.ndarray:
    """Syllables: a gliding buzz through vowels' formants, hisses, pauses."""
    sound = np.zeros(NOTE_SAMPLES)
    voice, start = random.uniform(85, 255), int(random.integers(0, 4000))
    while True:
        length = int(SAMPLE_RATE * random.uniform(0.08, 0.3))
        if start + length > NOTE_SAMPLES:
            return sound
        hertz = voice * np.linspace(*random.uniform(0.8, 1.25, 2), length)
        buzz = np.diff(np.floor(np.cumsum(hertz) / SAMPLE_RATE), prepend=0.0)
        if random.uniform() < 0.25:
            syllable = 0.2 * np.diff(random.normal(size=length), prepend=0.0)
        else:
            vowel = random.permutation(_VOWELS)[0] * random.uniform(0.9, 1.15)
            syllable = _formants(buzz, vowel)
        envelope = np.sin(np.pi * np.arange(length) / length) ** 0.5
        loudness = random.uniform(0.4, 1.0) / (np.abs(syllable).max() + 1e-9)
        sound[start : start + length] += loudness * envelope * syllable
        pause = 0.02 if random.uniform() < 0.7 else 0.3
        start += length + int(SAMPLE_RATE * random.exponential(pause))


def _formants(source: np.ndarray, formants: np.ndarray) -> np.ndarray:
    """The source through one resonance of 90 Hz width at each formant."""
    frequency = np.fft.rfftfreq(source.size, 1 / SAMPLE_RATE)
    response = sum(
        0.5**place / (1 + 2j * (frequency - formant) / 90.0)
        for place, formant in enumerate(formants)
    )
    return np.fft.irfft(np.fft.rfft(source) * response, source.size)


KINDS: dict[str, Generate] = {
    "noise": noise,
    "hum": hum,
    "clicks": clicks,
    "speech-like": speech_like,
}


def generated(kind: str, count: int) -> Iterator[np.ndarray]:
    """Sounds of a kind, float32 [64000] with peaks of 0.5; the same every time."""
    for number in range(count):
        random = np.random.default_rng([list(KINDS).index(kind), number])
        sound = KINDS[kind](random)
        yield (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def recordings(folder: str) -> dict[str, list[str]]:
    """The audio files below each folder of a folder."""
    from mic_tf.audio import finding

    if not os.path.isdir(folder):
        raise UserError(f"--sounds={folder}: no such folder")
    kinds = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir())
    return {os.path.basename(kind): list(finding.find_audio([kind])) for kind in kinds}


def main(arguments: list[str]) -> None:
    """Prints the table."""
    if arguments:
        raise UserError(f"{arguments[0]}: unexpected argument; flags begin with --")
    notes = measured_notes.notes_of_flags()

    from mic_tf.evaluation import metrics
    from mic_tf.serving.classifier import Classifier
    from mic_tf.serving.doubt import Doubt

    classifier = Classifier.load(measured_notes.MODEL.value)

    def answers_of(sounds) -> list:
        return [classifier(sound, SAMPLE_RATE) for sound in sounds]

    of_notes = answers_of(notes.waveforms)
    table = np.array([list(answer.probabilities.values()) for answer in of_notes])
    threshold = metrics.threshold_keeping(table)
    print(f"notes: {len(of_notes)} of {notes.words}")
    print(f"--min_probability={metrics.rounded_down(threshold)} keeps 95 % of them")
    doubts = {"probability": Doubt(min_probability=threshold)}
    if classifier.contract.min_familiarity is not None:
        familiar = np.array([answer.familiarity for answer in of_notes])
        least = metrics.keeping(familiar)
        print(f"--min_familiarity={metrics.rounded_down(least)} keeps 95 % of them")
        doubts["familiarity"] = Doubt(min_familiarity=least)
        values = np.stack([table.max(axis=1), familiar], axis=1)
        both = doubts["both"] = Doubt(*map(float, metrics.keeping_together(values)))
        probability = metrics.rounded_down(both.min_probability)
        familiarity = metrics.rounded_down(both.min_familiarity)
        print(
            f"--min_probability={probability} and --min_familiarity={familiarity} "
            "together keep 95 % of them"
        )
    columns = [f"unsure or silence by {name} | taken for" for name in doubts]
    print(f"\n| sounds | n | {' | '.join(columns)} |")
    print("| --- | --- |" + " --- | --- |" * len(doubts))
    print(row("notes", of_notes, doubts.values()))
    for kind in KINDS:
        if _GENERATED.value:
            found = answers_of(generated(kind, _GENERATED.value))
            print(row(f"{kind} (generated)", found, doubts.values()))
    for kind, paths in recordings(_SOUNDS.value).items() if _SOUNDS.value else ():
        found = [answer for _, answer in classifier.classify_files(paths)]
        read = [answer for answer in found if not isinstance(answer, UserError)]
        print(row(kind, read, doubts.values()))


def row(kind: str, answers: list, doubts: Collection) -> str:
    """One row: how many get no family, and what the rest is taken for."""
    from mic_tf.serving.classifier import SILENCE
    from mic_tf.serving.doubt import UNSURE

    cells = [kind, str(len(answers))]
    for doubt in doubts:
        taken = collections.Counter(map(doubt.family, answers))
        none = taken.pop(UNSURE, 0) + taken.pop(SILENCE, 0)
        cells.append(f"{none / max(1, len(answers)):.1%}")
        cells.append(", ".join(f"{name} {n}" for name, n in taken.most_common(3)))
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    command.run(main)
