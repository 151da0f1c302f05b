"""What a person's folder or CSV file says about each recording."""

import csv
import dataclasses
import os
from collections.abc import Iterator

from mic_tf.audio.finding import EXTENSIONS, find_audio
from mic_tf.datasets.problems import Problems, printable
from mic_tf.datasets.schema import UNKNOWN
from mic_tf.errors import UserError
from mic_tf.taxonomy import SPLITS

_MIDI_VALUES = 128


@dataclasses.dataclass(frozen=True)
class Recording:
    """One audio file.

    Attributes:
      id: the path as given or below the source folder, with slashes.
      path: where to read it.
      family: the class.
      instrument: what recordings of the same instrument share, within the family.
      pitch: MIDI pitch or -1.
      velocity: MIDI velocity or -1.
      split: as the source says, or empty.
      named: whether the source names the instrument; else it has the file's name.
    """

    id: str
    path: str
    family: str
    instrument: str
    pitch: int = UNKNOWN
    velocity: int = UNKNOWN
    split: str = ""
    named: bool = True


def find(source: str, problems: Problems) -> list[Recording]:
    """All recordings of a folder or a CSV file.

    Args:
      source: `FAMILY/…/*` or `SPLIT/FAMILY/…/*` or a CSV file.
      problems: takes rows and class folders that cannot be used.

    Raises:
      UserError: the source is missing or has no audio file.
    """
    if not source:
        raise UserError("sample_folder needs --source=FOLDER or --source=FILE.csv")
    if os.path.isdir(source):
        found = list(_in_folder(source, problems))
    elif os.path.isfile(source):
        found = list(_in_csv(source, problems))
    else:
        raise UserError(f"--source={source}: no such folder or CSV file")
    if not found:
        raise UserError(
            f"--source={source}: no audio file found; FAMILY/…/NAME with one of "
            f"{' '.join(EXTENSIONS)} expected"
        )
    return found


def _in_folder(source: str, problems: Problems) -> Iterator[Recording]:
    for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
        if os.path.splitext(entry.name)[1].lower() in EXTENSIONS and entry.is_file():
            problems.report(
                entry.path,
                "lies outside of a class folder; FAMILY/NAME expected, or a CSV file "
                "as --source",
            )
    names = _sub_folders(source)
    if not names or not set(names) <= set(SPLITS):
        yield from _in_class_folders(source, "", "", problems)
        return
    for split in names:
        folder = os.path.join(source, split)
        yield from _in_class_folders(folder, f"{split}/", split, problems)


def _in_class_folders(
    source: str, prefix: str, split: str, problems: Problems
) -> Iterator[Recording]:
    for family in _sub_folders(source):
        folder = os.path.join(source, family)
        paths = [path for path in find_audio([folder]) if path != folder]
        if not paths:
            problems.report(
                folder, f"no audio file in this class folder ({' '.join(EXTENSIONS)})"
            )
        for path in paths:
            inside = printable(os.path.relpath(path, folder).replace(os.sep, "/"))
            first, _, rest = inside.partition("/")
            instrument = first if rest else os.path.splitext(inside)[0]
            label = printable(family)
            yield Recording(
                f"{prefix}{label}/{inside}",
                path,
                label,
                instrument,
                split=split,
                named=bool(rest),
            )


def _sub_folders(folder: str) -> list[str]:
    return sorted(
        entry.name
        for entry in os.scandir(folder)
        if entry.is_dir() and not entry.name.startswith(".")
    )


def _in_csv(source: str, problems: Problems) -> Iterator[Recording]:
    try:
        with open(source, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, skipinitialspace=True)
            columns = [name.strip() for name in rows.fieldnames or ()]
            rows.fieldnames = columns
            missing = [name for name in ("file", "family") if name not in columns]
            if missing:
                raise UserError(
                    f"{source}: no column {missing[0]!r} in its first line; "
                    "file,family[,instrument,pitch,velocity,split] expected"
                )
            seen: set[str] = set()
            for row in rows:
                where = f"{source}: line {rows.line_num}"
                try:
                    recording = _from_row(row, source)
                    if recording.id in seen:
                        raise UserError(f"{recording.id} is listed twice")
                except UserError as error:
                    problems.report(where, str(error))
                    continue
                seen.add(recording.id)
                yield recording
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{source}: not a CSV file in UTF-8: {error}") from error


def _from_row(row: dict[str, str | None], source: str) -> Recording:
    values = {key: (value or "").strip() for key, value in row.items() if key}
    name, family = values["file"], values["family"]
    if not name or not family:
        raise UserError(f"no {'file' if not name else 'family'} in this row")
    path = os.path.join(os.path.dirname(source), name)
    if not os.path.isfile(path):
        raise UserError(f"{name}: no such file beside the CSV file")
    split = values.get("split", "")
    if split not in ("", *SPLITS):
        raise UserError(f"split {split!r}; one of {', '.join(SPLITS)} expected")
    stem = os.path.splitext(name.replace(os.sep, "/"))[0]
    return Recording(
        id=name.replace(os.sep, "/"),
        path=path,
        family=family,
        instrument=values.get("instrument") or stem,
        pitch=_midi(values.get("pitch", ""), "pitch"),
        velocity=_midi(values.get("velocity", ""), "velocity"),
        split=split,
        named=bool(values.get("instrument")),
    )


def _midi(text: str, column: str) -> int:
    if not text or text == str(UNKNOWN):
        return UNKNOWN
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not number.is_integer() or not 0 <= number < _MIDI_VALUES:
        raise UserError(f"{column} {text!r}; a whole number from 0 to 127 expected")
    return int(number)
