"""Programs that make files of a data set's training notes, for `sample_folder`."""

import contextlib
import pathlib
import urllib.parse
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from absl import flags

from mic_tf.errors import UserError
from mic_tf.taxonomy import SAMPLE_RATE

if TYPE_CHECKING:
    import numpy as np

    from mic_tf.pipeline.index import NoteIndex


class Note(NamedTuple):
    """One training note.

    Attributes:
      waveform: float32 [samples] in [-1, 1] at 16 kHz.
      name: its id in the data set.
      family: the instrument family.
      instrument: the instrument's name.
      pitch: MIDI pitch.
    """

    waveform: "np.ndarray"
    name: str
    family: str
    instrument: str
    pitch: int


def define_flags() -> None:
    flags.DEFINE_string("dataset", "", "Prepared data set whose notes are taken.")
    flags.DEFINE_string("data_dir", "~/tensorflow_datasets", "Folder of data sets.")
    flags.DEFINE_string("out", "", "Folder for the files.")
    flags.DEFINE_integer(
        "max_notes", 0, "Notes at most, evenly from all; 0: all.", lower_bound=0
    )
    flags.DEFINE_integer("copies", 1, "Files of each note.", lower_bound=1)


def write(
    arguments: list[str], write_copy: Callable[[Note, int, pathlib.Path], bool]
) -> None:
    """What such a program does: all copies of all notes; prints how many files.

    Args:
      arguments: what was given beside flags; nothing is expected.
      write_copy: takes a note, the number of the copy, and the path without an ending
        for its file, in a folder that is there; gives whether it wrote one.

    Raises:
      UserError: a flag is missing, or the data set.
    """
    given = flags.FLAGS
    if arguments or not (given.out and given.dataset):
        raise UserError("--dataset, --out: give both, and flags only")
    written = notes = 0
    for note in _read(given.dataset, given.data_dir, given.max_notes):
        if "/" in note.family or note.family in (".", ".."):
            raise UserError(f"family {note.family}: cannot be the name of a folder")
        folder = pathlib.Path(given.out, note.family, file_name(note.instrument))
        with faults_named(given.out, folder):
            folder.mkdir(parents=True, exist_ok=True)
            for copy in range(given.copies):
                path = folder / f"{file_name(note.name)}-{copy}"
                written += write_copy(note, copy, path)
        notes += 1
    print(f"{written} files of {notes} notes: {given.out}")


@contextlib.contextmanager
def faults_named(out: str, path: pathlib.Path) -> Iterator[None]:
    """Turns what may go wrong with a file below --out into one line.

    Args:
      out: as it was given.
      path: of the file or folder.
    """
    import soundfile

    try:
        yield
    except (OSError, soundfile.LibsndfileError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--out={out}: {path}: {reason}") from error


def write_sound(out: str, path: pathlib.Path, sound: "np.ndarray") -> None:
    """Writes a WAV file at 16 kHz below --out; its folder is made.

    Args:
      out: as it was given.
      path: of the file.
      sound: float32 [samples].
    """
    import soundfile

    with faults_named(out, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound, SAMPLE_RATE)


def _read(dataset: str, data_dir: str, most: int) -> Iterator[Note]:
    """Notes of the split `train`, with a progress bar.

    Args:
      dataset: its name, as the commands take it.
      data_dir: folder of prepared data sets.
      most: notes at most, evenly from all of them; 0: all.

    Raises:
      UserError: it is not there, or has no such notes.
    """
    import tqdm

    from mic_tf.audio import waveforms
    from mic_tf.datasets import catalogue
    from mic_tf.pipeline import batches

    builder = catalogue.load_builder(dataset, data_dir)
    records = batches.open_records(builder)
    index = records.index
    selected = _selected(index, dataset, most)
    notes = batches.evaluation_batches(records, selected, batch_size=1)
    for waveform, _, _, row in tqdm.tqdm(notes, total=int(selected.sum()), unit="note"):
        number = int(row[0])
        yield Note(
            waveforms.as_float(waveform[0].numpy()),
            str(index.ids[number]),
            index.families[index.family[number]],
            index.instruments[index.instrument[number]],
            int(index.pitch[number]),
        )


def file_name(name: str) -> str:
    """A name as one of a file, other names as others."""
    return urllib.parse.quote(name, safe=" +,=")


def _selected(index: "NoteIndex", dataset: str, most: int) -> "np.ndarray":
    """Notes of the split `train`, evenly from all of them: bool [notes]."""
    from mic_tf.pipeline import splits

    if "train" not in index.split_names:
        raise UserError(f"--dataset={dataset}: no split named train")
    selected = splits.evenly(index.note_split == index.split_names.index("train"), most)
    if not selected.any():
        raise UserError(f"--dataset={dataset}: no note in its split train")
    return selected
