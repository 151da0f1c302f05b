"""Folds of the instrument protocol as one measurement: every note tested once.

Each run of a cross-validation was tested on the instruments of its own fold. Together
their answers are those of one recipe to every note, by models that never heard the
note's instrument; figures and intervals over all of them are what the recipe is worth.
"""

import csv
import dataclasses
import io
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from mic_tf import files
from mic_tf import settings as run_settings
from mic_tf.errors import UserError
from mic_tf.evaluation import division, evaluator, report, sections
from mic_tf.evaluation.evaluator import Answers
from mic_tf.evaluation.markup import element, page, section, table
from mic_tf.pipeline.batches import Records
from mic_tf.pipeline.index import NoteIndex
from mic_tf.settings import RunSettings
from mic_tf.training import workfolder

_SPLIT = "test"
_MAY_DIFFER = ("fold", "init_from")
_FIGURES = ("n", "accuracy", "balanced_accuracy", "macro_f1")
_COLUMNS = ("id", "instrument", "source", "pitch", "velocity", "truth")


@dataclasses.dataclass(frozen=True)
class Fold:
    """One run of a cross-validation and its answers to its own fold.

    Attributes:
      workdir: its work folder.
      settings: of the run.
      config: its `config.json`.
      result: its `metrics.json`.
      rows: of its `predictions.csv`.
    """

    workdir: str
    settings: RunSettings
    config: dict[str, Any]
    result: dict[str, Any]
    rows: list[dict[str, str]]

    @property
    def number(self) -> int:
        return self.settings.data.fold


@dataclasses.dataclass(frozen=True)
class Pooled:
    """The answers of all folds together.

    Attributes:
      result: what `metrics.json` says of them.
      found: the answers, in the order of `records`.
      records: labels of the notes; no audio.
    """

    result: dict[str, Any]
    found: Answers
    records: Records


def pool(workdirs: Sequence[str]) -> Pooled:
    """The test answers of several folds as one.

    Args:
      workdirs: work folders of one recipe, one for each fold, evaluated on `test`.

    Raises:
      UserError: a folder is no evaluated run of the instrument protocol, or was
        trained on since; the settings or the data differ in more than the fold; or
        notes were tested twice.
    """
    folds = sorted((_read(workdir) for workdir in workdirs), key=lambda f: f.number)
    _check_same_recipe(folds)
    _check_same_notes(folds)
    _check_tested_once(folds)
    labels = tuple(folds[0].config["labels"])
    rows = [row for fold in folds for row in fold.rows]
    records = Records(_index_of(rows, labels), (), audio_is_float=False)
    found = Answers(
        np.arange(len(rows)),
        records.index.family.astype(np.int64),
        np.array([[float(row[name]) for name in labels] for row in rows]),
    )
    subject = evaluator.Subject(
        name=", ".join(fold.workdir for fold in folds),
        labels=labels,
        probabilities=lambda waveform: waveform,
        trained_on=folds[0].config["data"],
        facts=_unfinished(folds),
    )
    result = evaluator.figures(
        found,
        subject,
        dataset=folds[0].result["dataset"],
        split=_SPLIT,
        protocol=_protocol(folds),
        protocol_words=f"{_words(folds)}; {_which(folds)}",
    )
    result |= report.details(found, records, labels)
    result |= _leakage(folds) | _caveats(folds)
    result["folds"] = [
        {"workdir": fold.workdir, "fold": fold.number}
        | {name: fold.result[name] for name in _FIGURES}
        for fold in folds
    ]
    result["remarks"] = sections.remarks(result)
    return Pooled(result, found, records)


def write(folder: str, pooled: Pooled) -> None:
    """Writes `report.html`, `predictions.csv`, `confusion.png`, last `metrics.json`."""
    result = pooled.result
    rows = [
        (f["workdir"], f["fold"], f["n"], *(f"{f[name]:.3f}" for name in _FIGURES[1:]))
        for f in result["folds"]
    ]
    headers = ("run", "fold", "notes", "accuracy", "balanced accuracy", "macro-F1")
    parts = [
        sections.headline(result),
        section("Folds", "folds", table("Each fold for itself", headers, rows)),
        sections.confusion(result),
        sections.families(result),
        sections.parts(result),
        sections.calibration(result),
    ]
    title = f"{len(rows)} folds of {result['dataset']}"
    head = element(
        "header",
        element("h1", title),
        element("p", f"{result['n']:,} notes", class_="quiet"),
    )
    text = page(title, head, element("main", *parts, id="main"))
    files.write_text(files.join(folder, report.FILE_NAME), text)
    evaluator.write(folder, result, pooled.found, pooled.records)


def _read(workdir: str) -> Fold:
    settings = workfolder.load_settings(workdir)
    config = workfolder.read_config(workdir)
    if settings.data.protocol != "instrument":
        raise UserError(
            f"{workdir}: of the {settings.data.protocol} protocol; folds of the "
            "instrument protocol expected"
        )
    name = evaluator.folder_name(config["data"]["dataset"], _SPLIT)
    folder = files.join(workdir, workfolder.EVALUATION, name)
    predictions = files.join(folder, "predictions.csv")
    if not files.exists(predictions):
        raise UserError(
            f"{workdir}: its fold was not tested yet; python -m mic_tf.evaluate "
            f"--workdir={workdir} --split={_SPLIT}"
        )
    rows = list(csv.DictReader(io.StringIO(files.read_text(predictions))))
    taken = sorted(set(_COLUMNS) & set(config["labels"]))
    if taken:
        raise UserError(
            f"{predictions}: family {taken[0]} and another column have one name; folds "
            "of other family names can be pooled"
        )
    missing = {*_COLUMNS, *config["labels"]} - set(rows[0] if rows else ())
    if missing:
        raise UserError(f"{predictions}: no column {min(missing)}; evaluate it again")
    figures = files.join(folder, "metrics.json")
    result = workfolder.read_metrics(figures)
    if not workfolder.is_of(workfolder.model_now(workdir), result):
        raise UserError(f"{figures}: {workfolder.OUTDATED}")
    if result["n"] != len(rows):
        raise UserError(f"{predictions}: {len(rows)} notes, {result['n']} expected")
    for row in rows:
        if not _is_whole(row, config["labels"]):
            raise UserError(f"{predictions}: damaged at {row['id']}; evaluate it again")
    return Fold(workdir, settings, config, result, rows)


def _is_whole(row: dict[str, str], labels: Sequence[str]) -> bool:
    try:
        numbers = [float(row[name]) for name in ("pitch", "velocity", *labels)]
    except (TypeError, ValueError):
        return False
    return row["truth"] in labels and bool(np.isfinite(numbers).all())


def _check_same_recipe(folds: Sequence[Fold]) -> None:
    first = folds[0]
    for fold in folds[1:]:
        different = [
            line
            for line in run_settings.differences(first.settings, fold.settings)
            if line.split(":")[0] not in _MAY_DIFFER
        ]
        for key in ("dataset", "extra_datasets"):
            before, after = (f.config["data"].get(key) for f in (first, fold))
            if before != after:
                different.append(f"{key}: {before} -> {after}")
        if first.config["labels"] != fold.config["labels"]:
            different.append("other families")
        if different:
            raise UserError(
                f"{first.workdir}, {fold.workdir}: not of one recipe "
                f"({'; '.join(different)})"
            )


def _check_same_notes(folds: Sequence[Fold]) -> None:
    """Refuses folds of data sets of one name that had other notes."""
    first = folds[0]
    for fold, following in itertools.pairwise([*folds, first]):
        if not first.settings.data.max_notes:
            counts = [sum(f.config["data"]["notes"].values()) for f in (first, fold)]
            if counts[0] != counts[1]:
                raise UserError(
                    f"{first.workdir}, {fold.workdir}: their data sets had "
                    f"{counts[0]:,} and {counts[1]:,} notes; the same expected"
                )
        # What validates a fold is what tests the next.
        next_fold = (fold.number + 1) % fold.settings.data.folds
        parts = [f.config["data"].get("note_digests", {}) for f in (fold, following)]
        valid, test = parts[0].get("valid"), parts[1].get("test")
        if following.number == next_fold and valid and test and valid != test:
            raise UserError(
                f"{fold.workdir}, {following.workdir}: what validated the first is not "
                "what tests the second, so their data sets had other notes; the same "
                "expected"
            )


def _check_tested_once(folds: Sequence[Fold]) -> None:
    """Refuses a fold given twice, and a note or an instrument in two folds."""
    for key in ("id", "instrument"):
        tested: dict[str, Fold] = {}
        for fold in folds:
            for name in sorted({row[key] for row in fold.rows}):
                other = tested.setdefault(name, fold)
                if other is not fold:
                    raise UserError(
                        f"{other.workdir} and {fold.workdir}: both were tested on "
                        f"{key} {name}; one run for each fold expected"
                    )


def _protocol(folds: Sequence[Fold]) -> str:
    """Of the pooled figures: what a fold was trained on makes all of them no test."""
    named = {fold.result["protocol"] for fold in folds}
    return division.TRAINED_ON if division.TRAINED_ON in named else "instrument"


def _words(folds: Sequence[Fold]) -> str:
    """The protocol in words; where folds differ, as one heard more, each one's."""
    words = [fold.result["protocol_words"] for fold in folds]
    if len(set(words)) == 1:
        return words[0]
    return "; ".join(
        f"fold {fold.number}: {own}" for fold, own in zip(folds, words, strict=True)
    )


def _unfinished(folds: Sequence[Fold]) -> dict[str, str]:
    """`unfinished` of the folds whose training was not; nothing if all were."""
    found = [
        f"fold {fold.number}: {fold.result['unfinished']}"
        for fold in folds
        if "unfinished" in fold.result
    ]
    return {"unfinished": ", ".join(found)} if found else {}


def _which(folds: Sequence[Fold]) -> str:
    numbers = ", ".join(str(fold.number) for fold in folds)
    of = folds[0].settings.data.folds
    if len(folds) == of:
        return f"all {of} folds pooled, each note tested once"
    return f"folds {numbers} of {of} pooled: not all notes were tested"


def _leakage(folds: Sequence[Fold]) -> dict[str, Any]:
    """What the folds heard of their tests; nothing unless each of them says it."""
    if not all("leakage" in fold.result for fold in folds):
        return {}
    parts = [fold.result["leakage"] for fold in folds]
    notes = [fold.result["n"] for fold in folds]
    looked_at = [part["tested_heard"] for part in parts]

    def mean(name: str, weights: Sequence[int]) -> float:
        return float(np.average([part[name] for part in parts], weights=weights))

    pooled = {
        **parts[0],
        "instrument_share": mean("instrument_share", notes),
        "twin_share": mean("twin_share", looked_at),
        "twins": [pair for part in parts for pair in part["twins"]],
        "instruments": sorted({name for part in parts for name in part["instruments"]}),
    }
    for name in ("tested_heard", "tested_notes", "train_heard", "train_notes"):
        pooled[name] = sum(part.get(name, 0) for part in parts)
    return {"leakage": pooled}


def _caveats(folds: Sequence[Fold]) -> dict[str, Any]:
    """Where leakage of some fold was not looked for, and what it left out."""
    found: dict[str, Any] = {}
    unchecked: dict[str, str] = {}
    for fold in folds:
        unchecked = fold.result.get("leakage_unchecked", {}) | unchecked
    if unchecked:
        found["leakage_unchecked"] = unchecked
    for key in ("excluded", "untested"):
        left_out = [f.result[key] for f in folds if key in f.result]
        if left_out:
            # Each fold counts the notes of the whole data set.
            names = dict.fromkeys(part["file"] for part in left_out)
            notes = max(part["notes"] for part in left_out)
            found[key] = {"file": ", ".join(names), "notes": notes}
    return found


def _index_of(rows: Sequence[dict[str, str]], labels: tuple[str, ...]) -> NoteIndex:
    """The labels of predictions as an index, of no record files."""
    instruments = sorted({row["instrument"] for row in rows})
    sources = sorted({row["source"] for row in rows})
    places = {name: i for i, name in enumerate(instruments)}
    nothing = np.zeros(0, np.int64)
    return NoteIndex(
        families=labels,
        instruments=tuple(instruments),
        sources=tuple(sources),
        split_names=(_SPLIT,),
        file_names=(),
        file_sizes=nothing,
        file_notes=nothing,
        file_split=nothing.astype(np.int8),
        file_lost=nothing,
        ids=np.array([row["id"] for row in rows]),
        family=np.array([labels.index(row["truth"]) for row in rows], np.int16),
        instrument=np.array([places[row["instrument"]] for row in rows], np.int32),
        source=np.array([sources.index(row["source"]) for row in rows], np.int8),
        pitch=np.array([int(row["pitch"]) for row in rows], np.int16),
        velocity=np.array([int(row["velocity"]) for row in rows], np.int16),
    )
