"""Several runs in one table, from what their work folders hold."""

import os
from typing import Any

from mic_tf import files
from mic_tf.errors import UserError
from mic_tf.evaluation import division
from mic_tf.evaluation.markup import element, page, table
from mic_tf.training import workfolder

HEADERS = (
    "run",
    "model",
    "measured on",
    "protocol",
    "notes",
    "accuracy",
    "balanced accuracy",
    "macro-F1",
    "ECE",
    "heard in training",
    "training",
)
_TEXT_COLUMNS = (1, 2, 3, 10)


def rows(workdirs: list[str]) -> list[tuple[str, ...]]:
    """One row, as `HEADERS`, for each evaluation of each work folder.

    Raises:
      UserError: a folder is no work folder, or was not evaluated yet.
    """
    found = []
    for name, workdir in zip(_names(workdirs), workdirs, strict=True):
        config = workfolder.read_config(workdir)
        if config is None:
            raise UserError(f"{workdir}: no {workfolder.CONFIG}, so no work folder")
        results = workfolder.evaluations(workdir)
        if not results:
            raise UserError(
                f"{workdir}: not evaluated yet; python -m mic_tf.evaluate "
                f"--workdir={workdir}"
            )
        path = files.join(workdir, workfolder.SUMMARY)
        summary = files.read_json(path) if files.exists(path) else {}
        found += [_row(name, config, summary, result) for result in results]
    return found


def markdown(found: list[tuple[str, ...]]) -> str:
    """The table in Markdown, which reads well as text too."""
    cells = [HEADERS, *found]
    widths = [max(len(row[i]) for row in cells) for i in range(len(HEADERS))]
    lines = [
        "| " + " | ".join(v.ljust(w) for v, w in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)


def html_page(found: list[tuple[str, ...]]) -> str:
    """The table as a page."""
    caption = "Every figure stands beside the protocol it was measured under"
    rows_of_runs = table(
        caption, HEADERS, found, text_columns=_TEXT_COLUMNS, class_="runs"
    )
    main = element("main", rows_of_runs, id="main")
    return page("Runs", element("header", element("h1", "Runs")), main)


def _names(workdirs: list[str]) -> list[str]:
    """A short name for each; of folders of one name, what tells them apart."""
    absolute = [w if files.is_remote(w) else os.path.abspath(w) for w in workdirs]
    names = [os.path.basename(path) for path in absolute]
    if len(set(names)) == len(set(absolute)):
        return names
    if len({files.is_remote(path) for path in absolute}) > 1:
        return absolute
    common = os.path.commonpath(absolute)
    return [os.path.relpath(path, common) for path in absolute]


def _heard_before(result: dict[str, Any]) -> str:
    """The share of the test whose instruments were heard in training, in words.

    And that of notes with a near twin there, where there are any.
    """
    if result["protocol"] == division.TRAINED_ON:
        return "100%"
    found = result.get("leakage", {})
    share, twins = found.get("instrument_share"), found.get("twin_share")
    words = "not known" if share is None else f"{share:.0%}"
    if share is not None and share < 1.0 and "leakage_unchecked" in result:
        # Some of what was heard could not be looked at.
        words = f"at least {words}"
    return f"{words}, near twins of {twins:.1%}" if twins else words


def _protocol(result: dict[str, Any], config: dict[str, Any]) -> str:
    """The protocol, and which of its folds."""
    data = config["settings"]["data"]
    if result["protocol"] != "instrument":
        return result["protocol"]
    seed = f", --split_seed={data['split_seed']}" if data["split_seed"] else ""
    return f"instrument, fold {data['fold']} of {data['folds']}{seed}"


def _row(
    name: str, config: dict[str, Any], summary: dict[str, Any], result: dict
) -> tuple[str, ...]:
    settings = config["settings"]
    balance, notes = (
        settings["data"]["balance"],
        config["data"].get("notes", {}).get("train", 0),
    )
    training = (
        f"{notes:,} notes, balance {balance}, {settings['train']['epochs']} epochs"
    )
    if "train_seconds" in summary:
        training += f", {summary['train_seconds'] / 60:.1f} min"
    if "unfinished" in result:
        training += f", not finished ({result['unfinished']})"
    if "excluded" in result:
        training += f", {result['excluded']['notes']} notes left out"
    return (
        name,
        settings["network"]["model"],
        f"{result['dataset']} {result['split']}",
        _protocol(result, config),
        f"{result['n']:,}",
        *(
            _figure(result, name)
            for name in ("accuracy", "balanced_accuracy", "macro_f1")
        ),
        f"{result['ece']:.3f}",
        _heard_before(result),
        training,
    )


def _figure(result: dict[str, Any], name: str) -> str:
    interval = result.get("intervals", {}).get(name)
    spread = f" ({interval[0]:.3f}-{interval[1]:.3f})" if interval else ""
    return f"{result[name]:.3f}{spread}"
