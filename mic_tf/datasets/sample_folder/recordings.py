"""What a person's folder or CSV file says about each recording."""

import csv
import dataclasses
import os
import unicodedata
from collections.abc import Iterator

from absl import logging

from mic_tf.audio.finding import EXTENSIONS, ending_of, find_audio, warn_of_unread
from mic_tf.datasets.problems import Problems, printable
from mic_tf.datasets.schema import UNKNOWN, composed
from mic_tf.errors import UserError
from mic_tf.taxonomy import SPLITS

_MIDI_VALUES = 128
_COLUMNS = ("file", "family", "instrument", "pitch", "velocity", "split")
_LIKE_SPLITS = (*SPLITS, "training", "val", "validation", "testing")
"""Folders so called, in large letters or small, are hardly classes."""


@dataclasses.dataclass(frozen=True)
class Recording:
    """One audio file.

    Attributes:
      id: the path as given or below the source folder, with slashes.
      path: where to read it.
      family: the class, with composed letters.
      instrument: what recordings of the same instrument share, within the family; with
        composed letters too.
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
      problems: takes rows, files and class folders that cannot be used.

    Raises:
      UserError: the source is missing, has no audio file, or splits beside or below
        classes.
    """
    if not source:
        raise UserError("sample_folder needs --source=FOLDER or --source=FILE.csv")
    if os.path.isdir(source):
        warn_of_unread(source)
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
    _warn_of_case({each.family for each in found})
    return found


def _warn_of_case(families: set[str]) -> None:
    by_letters: dict[str, list[str]] = {}
    for family in sorted(families):
        by_letters.setdefault(family.casefold(), []).append(family)
    for alike in by_letters.values():
        if len(alike) > 1:
            logging.warning("classes that differ in case alone: %s", ", ".join(alike))


def _in_folder(source: str, problems: Problems) -> Iterator[Recording]:
    names = _sub_folders(source, problems)
    if names and set(names) <= set(SPLITS):
        found = []
        seen: dict[str, str] = {}
        for split in names:
            folder = os.path.join(source, split)
            families = _sub_folders(folder, problems)
            found += _in_class_folders(folder, families, split, problems, seen)
        yield from _told_apart(found)
        return
    splits = [name for name in names if name.lower() in _LIKE_SPLITS]
    if splits:
        beside = [name for name in names if name not in splits]
        where = ", ".join(f"{name}/" for name in splits)
        where += f" beside {beside[0]}/" if beside else ""
        raise UserError(
            f"--source={source}: {where}; only {', '.join(SPLITS)} expected, or only "
            "classes; a CSV file as --source gives a class such a name"
        )
    yield from _in_class_folders(source, names, "", problems, {})


def _in_class_folders(
    source: str,
    families: list[str],
    split: str,
    problems: Problems,
    seen: dict[str, str],
) -> Iterator[Recording]:
    """The recordings of classes; takes note of their folders, none of which is two."""
    for family in families:
        folder = os.path.join(source, family)
        paths = [path for path in find_audio([folder]) if path != folder]
        name = printable(family)
        label = composed(name)
        fault = _fault_of("class", label)
        if not paths:
            fault = _why_none(folder)
        before = seen.setdefault(os.path.realpath(folder), folder)
        if before != folder:
            fault = f"the same folder as {before}; one of its own expected"
        if fault:
            problems.report(folder, fault)
            continue
        names = [os.path.relpath(path, folder) for path in paths]
        if not split:
            _refuse_splits_below(source, label, names)
        prefix = f"{split}/{name}" if split else name
        for path, below in zip(paths, names, strict=True):
            inside = printable(below.replace(os.sep, "/"))
            first, _, rest = inside.partition("/")
            instrument = first if rest else os.path.splitext(inside)[0].strip()
            instrument = composed(instrument)
            fault = _fault_of("instrument", instrument)
            if fault:
                problems.report(path, fault)
                continue
            yield Recording(
                f"{prefix}/{inside}",
                path,
                label,
                instrument,
                split=split,
                named=bool(rest),
            )


def _why_none(folder: str) -> str:
    """Why no audio file was found in a class folder."""
    try:
        os.listdir(folder)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return f"no audio file in this class folder ({' '.join(EXTENSIONS)})"


def _refuse_splits_below(source: str, family: str, names: list[str]) -> None:
    """Refuses a class whose folders are splits, where they would be instruments."""
    folders = sorted({name.split(os.sep)[0] for name in names if os.sep in name})
    if folders and all(folder.lower() in _LIKE_SPLITS for folder in folders):
        where = ", ".join(f"{family}/{folder}/" for folder in folders)
        raise UserError(
            f"--source={source}: {where}; SPLIT/FAMILY/… expected, not "
            "FAMILY/SPLIT/…; a CSV file as --source gives an instrument such a name"
        )


def _told_apart(found: list[Recording]) -> Iterator[Recording]:
    """Files of one name in several splits, as `000.wav`, are no one instrument."""
    splits: dict[tuple[str, str], set[str]] = {}
    for each in found:
        splits.setdefault((each.family, each.instrument), set()).add(each.split)
    for each in found:
        if not each.named and len(splits[each.family, each.instrument]) > 1:
            name = f"{each.split}/{each.family}/{each.instrument}"
            each = dataclasses.replace(each, instrument=name)
        yield each


def _sub_folders(folder: str, problems: Problems) -> list[str]:
    """The folders in a folder by name; reports what beside them looks lost."""
    names = []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            names.append(entry.name)
        elif not os.path.exists(entry.path):
            problems.report(entry.path, "a link to nothing; a class folder expected")
        elif ending_of(entry.name) in EXTENSIONS:
            problems.report(
                entry.path,
                "lies outside of a class folder; FAMILY/NAME expected, or a CSV file "
                "as --source",
            )
    return names


def _fault_of(kind: str, name: str) -> str:
    """What keeps a name out of a file that lists names, one a line."""
    if len(name.splitlines()) == 1 and name == name.strip():
        return ""
    return f"{kind} {name!r}; one line without white space at its ends expected"


def _in_csv(source: str, problems: Problems) -> Iterator[Recording]:
    read = 0
    try:
        with open(source, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, skipinitialspace=True, strict=True)
            columns = [name.strip() for name in rows.fieldnames or ()]
            rows.fieldnames = columns
            _check_columns(columns, source)
            read = rows.line_num
            seen: dict[str, str] = {}
            for row in rows:
                read = rows.line_num
                try:
                    recording = _from_row(row, source)
                    _note_file(recording, seen)
                except UserError as error:
                    problems.report(f"{source}: line {read}", str(error))
                    continue
                yield recording
    except csv.Error as error:
        raise UserError(
            f"{source}: line {read + 1}: {error}; a quoted cell that ends with its "
            "quote expected"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{source}: not a CSV file in UTF-8: {error}") from error


def _check_columns(columns: list[str], source: str) -> None:
    """Refuses a first line that leaves columns out, or spells them otherwise."""
    expected = "file,family[,instrument,pitch,velocity,split] expected"
    missing = [name for name in ("file", "family") if name not in columns]
    if missing:
        raise UserError(
            f"{source}: no column {missing[0]!r} in its first line; {expected}"
        )
    others = []
    for number, name in enumerate(columns):
        if name in columns[:number] and name:
            raise UserError(
                f"{source}: column {name!r} twice in its first line; {expected}"
            )
        if name not in _COLUMNS and name:
            others.append(name)
            if name.lower().rstrip("s") in _COLUMNS:
                raise UserError(
                    f"{source}: column {name!r} in its first line; {expected}"
                )
    if others:
        logging.warning("%s: not read: column %s", source, ", ".join(others))


def _note_file(recording: Recording, seen: dict[str, str]) -> None:
    """Takes note of a row's file, by what its path leads to; refuses a second row."""
    file = os.path.realpath(recording.path)
    if file in seen:
        before = seen[file]
        spelt = "" if before == recording.id else f", before as {before}"
        raise UserError(f"{recording.id} is listed twice{spelt}")
    seen[file] = recording.id


def _from_row(row: dict[str, str | None], source: str) -> Recording:
    beyond = [cell for cell in row.get(None) or () if cell.strip()]
    if beyond:
        raise UserError(
            f"{beyond[0]!r}: more cells than columns; a cell with a comma in quotes "
            "expected"
        )
    values = {key: (value or "").strip() for key, value in row.items() if key}
    name, family = values["file"], composed(values["family"])
    if not name or not family:
        raise UserError(f"no {'file' if not name else 'family'} in this row")
    folder = os.path.dirname(source)
    forms = [name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))]
    paths = [os.path.join(folder, form) for form in forms]
    path = next(filter(os.path.isfile, paths), "")
    if not path:
        raise UserError(f"{name}: no such file beside the CSV file")
    split = values.get("split", "")
    if split not in ("", *SPLITS):
        raise UserError(f"split {split!r}; one of {', '.join(SPLITS)} expected")
    stem = os.path.splitext(name.replace(os.sep, "/"))[0].strip()
    instrument = composed(values.get("instrument") or stem)
    fault = _fault_of("family", family) or _fault_of("instrument", instrument)
    if fault:
        raise UserError(fault)
    return Recording(
        id=name.replace(os.sep, "/"),
        path=path,
        family=family,
        instrument=instrument,
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
