r"""One note in every format, rate and number of channels: the same answer?

  python tools/format_table.py --model=runs/phase4 --count=4 [--out=formats.csv]

Notes are resampled, spread over the channels at different levels (their mean is the
note) and written by libsndfile. The wanted answer is that for the samples themselves.
Prints one row for each format and one column for each rate, over all notes and
channels: how many have the same family, and how far the probability of that family
is off at most; then one row for each note, over all of its files. The lossless
formats, from 16 kHz up, must agree within 0.02, or the exit status is 1.
"""

import dataclasses
import itertools
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterable, Iterator

import numpy as np
from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from mic_tf import command
from mic_tf.errors import UserError
from mic_tf.taxonomy import SAMPLE_RATE
from tools import measured_notes

flags.adopt_module_key_flags(measured_notes)

_OUT = flags.DEFINE_string("out", "", "CSV file for every single answer.")

RATES = (8_000, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000)
CHANNELS = (1, 2, 8)
TOLERANCE = 0.02


@dataclasses.dataclass(frozen=True)
class Format:
    """A container and an encoding, as libsndfile names them.

    Attributes:
      container: its name.
      encoding: its name.
      lossless: whether 16 bits arrive as they were.
      rates: that it can hold; empty: all.
      channels: at most.
    """

    container: str
    encoding: str
    lossless: bool = True
    rates: tuple[int, ...] = ()
    channels: int = 8


_OPUS_RATES = (8_000, 16_000, 48_000)
# libsndfile 1.2.2 writes beyond its memory for 8 channels of ALAC at 192 kHz.
_ALAC_RATES = RATES[:-1]
_MP3_RATES = (8_000, 16_000, 22_050, 44_100, 48_000)
FORMATS = (
    Format("WAV", "PCM_U8", lossless=False),
    *(Format("WAV", f"PCM_{bits}") for bits in (16, 24, 32)),
    Format("WAV", "FLOAT"),
    Format("WAV", "DOUBLE"),
    Format("WAV", "ULAW", lossless=False),
    Format("WAVEX", "PCM_16"),
    Format("AIFF", "PCM_16"),
    Format("AIFF", "FLOAT"),
    Format("FLAC", "PCM_16"),
    Format("FLAC", "PCM_24"),
    Format("CAF", "PCM_16"),
    Format("CAF", "ALAC_16", rates=_ALAC_RATES),
    Format("MP3", "MPEG_LAYER_III", False, _MP3_RATES, 2),
    Format("OGG", "VORBIS", lossless=False),
    Format("OGG", "OPUS", False, _OPUS_RATES),
)


@dataclasses.dataclass(frozen=True)
class Case:
    """One file and its answer.

    Attributes:
      format: of the file.
      rate: in Hz.
      channels: of the file.
      note: number of the note.
      wanted: family of the samples themselves.
      family: of the file.
      difference: of the probability of the wanted family.
    """

    format: Format
    rate: int
    channels: int
    note: int
    wanted: str
    family: str
    difference: float

    @property
    def is_wrong(self) -> bool:
        """Whether a case that must agree does not."""
        agrees = self.family == self.wanted and self.difference <= TOLERANCE
        return self.format.lossless and self.rate >= SAMPLE_RATE and not agrees


def spread(waveform: np.ndarray, rate: int, channels: int) -> np.ndarray:
    """A note at another rate on some channels.

    Args:
      waveform: int16 [samples] at 16 kHz.
      rate: in Hz.
      channels: whose levels go from 0.5 to 1.5 times the note's half.

    Returns:
      float32 [samples, channels]; their mean is half the note.
    """
    import soxr

    half = waveform.astype(np.float32) / 65536
    resampled = soxr.resample(half, SAMPLE_RATE, rate, quality="VHQ")
    levels = np.linspace(0.5, 1.5, channels) if channels > 1 else np.ones(1)
    return resampled[:, np.newaxis] * levels.astype(np.float32)


def files_of(waveform: np.ndarray, path: str) -> Iterator[tuple[Format, int, int]]:
    """Writes a note to a file in each way, and says format, rate and channels."""
    import soundfile

    for rate, channels in itertools.product(RATES, CHANNELS):
        sound = spread(waveform, rate, channels)
        for form in FORMATS:
            if channels > form.channels or (form.rates and rate not in form.rates):
                continue
            names = {"format": form.container, "subtype": form.encoding}
            soundfile.write(path, sound, rate, **names)
            yield form, rate, channels


def cases(classifier, waveforms: np.ndarray) -> Iterator[Case]:
    """The answer for each note in each way."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "note")
        for number, waveform in enumerate(waveforms):
            wanted = classifier(waveform, SAMPLE_RATE)
            for way in files_of(waveform, path):
                found = classifier(path)
                other = found.probabilities[wanted.family]
                difference = abs(other - wanted.probability)
                yield Case(*way, number, wanted.family, found.family, difference)


def table(found: list[Case]) -> Iterator[str]:
    """The lines of the table."""
    yield "| format | " + " | ".join(f"{rate / 1000:g} kHz" for rate in RATES) + " |"
    yield "| --- |" + " --- |" * len(RATES)
    for form in FORMATS:
        cells = []
        for rate in RATES:
            own = [c for c in found if c.format == form and c.rate == rate]
            cells.append(_agreement(own))
        kind = "" if form.lossless else " (lossy)"
        yield f"| {form.container} {form.encoding}{kind} | " + " | ".join(cells) + " |"


def notes_table(found: list[Case], ids: list[str]) -> Iterator[str]:
    """The lines of the table of the notes."""
    columns = ["note", "samples", "lossless 8 kHz", "from 16 kHz", "lossy", "all"]
    yield f"| {' | '.join(columns)} |"
    yield "| --- |" + " --- |" * (len(columns) - 1)
    for number, name in enumerate(ids):
        own = [case for case in found if case.note == number]
        lossless = [case for case in own if case.format.lossless]
        parts = (
            [case for case in lossless if case.rate < SAMPLE_RATE],
            [case for case in lossless if case.rate >= SAMPLE_RATE],
            [case for case in own if not case.format.lossless],
        )
        cells = [_agreement(part) for part in parts]
        everywhere = "yes" if is_the_same_everywhere(own) else "no"
        yield f"| {' | '.join([name, own[0].wanted, *cells, everywhere])} |"


def is_the_same_everywhere(own: list[Case]) -> bool:
    """Whether all files of a note agree: lossless ones in their probability, too."""
    return all(
        case.family == case.wanted
        and (case.difference <= TOLERANCE or not case.format.lossless)
        for case in own
    )


def _agreement(found: list[Case]) -> str:
    """How many have the family of the samples, and the largest difference."""
    same = sum(case.family == case.wanted for case in found)
    worst = max((case.difference for case in found), default=0.0)
    return f"{same}/{len(found)}, {worst:.3f}" if found else ""


def written(path: str, found: Iterable[Case]) -> Iterator[Case]:
    """The cases, each written to a CSV file as it comes.

    Raises:
      UserError: the file cannot be written.
    """
    from mic_tf.serving import output, rows

    names = [field.name for field in dataclasses.fields(Case)]
    with output.lines_to(path, rows.csv_line(names)) as write:
        for case in found:
            form = f"{case.format.container} {case.format.encoding}"
            rest = [str(getattr(case, name)) for name in names[1:]]
            write(rows.csv_line([form, *rest]))
            yield case


def main(arguments: list[str]) -> int:
    """Prints the table; 1 where a lossless file has another answer."""
    if arguments:
        raise UserError(f"{arguments[0]}: unexpected argument; flags begin with --")
    notes = measured_notes.notes_of_flags()

    from mic_tf.serving.classifier import Classifier

    classifier = Classifier.load(measured_notes.MODEL.value)
    found = cases(classifier, notes.waveforms)
    found = list(written(_OUT.value, found) if _OUT.value else found)
    channels = ", ".join(map(str, CHANNELS))
    print(f"{len(notes.families)} notes of {notes.words}; {channels} channels\n")
    print("\n".join(table(found)), end="\n\n")
    print("\n".join(notes_table(found, notes.ids)))
    wrong = sum(case.is_wrong for case in found)
    print(f"\n{len(found)} files; lossless from 16 kHz up and not the same: {wrong}")
    return 1 if wrong else command.EXIT_OK


if __name__ == "__main__":
    command.run(main)
