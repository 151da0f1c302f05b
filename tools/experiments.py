r"""What changes to a recipe are worth, by cross-validation over instruments.

  python tools/experiments.py --data_dir=data --exclude=VALID_IDS.txt \
    --recipe=mic_tf/configs/best_nsynth.cfg --common="--extra_datasets= --epochs=40" \
    --change="no mixup: --mixup_alpha=0" \
    --change="no masks: --time_masks=0 --freq_masks=0"

Trains the recipe as it is and with each change, once for each fold of instruments,
tests every fold and pools the answers: one row for each change, with the figures before
it and after it. --exclude names notes that no fold is to have, as those of a published
valid split that is kept for another look. {fold} in a flag is the fold's number, so a
second stage goes on from the same fold of the first: --init_from=runs/{fold}, seen from
the project's folder as all paths in --common and --change. The figures of every change
go into --results; what stands there is not trained again, what was interrupted goes on.
--print_only shows the table of what is there. p is of a sign-flip test over
instruments, as notes of one instrument are wrong together.
"""

import csv
import io
import pathlib
import re
import shlex
import sys
import zlib
from typing import Any

from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from mic_tf import command
from mic_tf.errors import UserError
from tools import kept_runs

UNCHANGED = "the recipe as it is"
COLUMNS = (
    *("change", "flags", "accuracy before", "after", "notes lost", "notes won", "p"),
    *("folds before", "folds after", "minutes a fold"),
)
KEPT = ("flags", "accuracy", "folds", "minutes", "n", "wrong")
TRAINER = "mic_tf.train"
_GIVEN_HERE = ("--protocol", "--fold", "--folds", "--exclude", "--workdir")


def define_flags() -> None:
    flags.DEFINE_string(
        "data_dir", "~/tensorflow_datasets", "Folder of the prepared data sets."
    )
    flags.DEFINE_string("recipe", "", "Flagfile of the training.")
    flags.DEFINE_string("common", "", "Flags of train behind it, for every change.")
    flags.DEFINE_multi_string("change", [], "NAME: FLAGS of train, once for each.")
    flags.DEFINE_string("exclude", "", "File of note ids that no fold has.")
    flags.DEFINE_integer("folds", 5, "Folds, all of them run.", lower_bound=2)
    flags.DEFINE_string("folder", "experiments", "Folder of the runs.")
    flags.DEFINE_string(
        "results", "", "File of the figures; default: experiments.json in --folder."
    )
    flags.DEFINE_string(
        "trainer", TRAINER, "Module that trains, as tools.train_prototype."
    )
    flags.DEFINE_bool("print_only", False, "Train nothing.")


def main(arguments: list[str]) -> None:
    """Trains what is missing and prints the table."""
    if arguments:
        raise UserError(f"{arguments[0]}: unexpected argument; flags begin with --")
    flag = flags.FLAGS
    changes = _changes()
    for name, path in (("recipe", flag.recipe), ("exclude", flag.exclude)):
        if (path or name == "recipe") and not pathlib.Path(path).is_file():
            raise UserError(f"--{name}={path}: no such file")
    path = pathlib.Path(flag.results or pathlib.Path(flag.folder) / "experiments.json")
    results = kept_runs.read(path, KEPT)
    common, circumstances = _words("common", flag.common, flag.common), _circumstances()
    for name, changed in changes.items():
        made_by = [*circumstances, *common, *changed]
        if name in results and results[name]["flags"] != made_by:
            raise UserError(
                f"{path}: {name} was measured with {shlex.join(results[name]['flags'])}"
                f", not {shlex.join(made_by)}; give another --results and --folder"
            )
    for name, changed in changes.items():
        if name not in results and not flag.print_only:
            wanted = [*common, *changed]
            measured = _measured(name, wanted)
            results[name] = {"flags": [*circumstances, *wanted], **measured}
            kept_runs.write(path, results)
    print(f"| {' | '.join(COLUMNS)} |\n{'| --- ' * len(COLUMNS)}|")
    if UNCHANGED in results:
        for name, changed in changes.items():
            if name in results:
                print(row(name, changed, results))


def _changes() -> dict[str, list[str]]:
    """Flags by the name of the change; none for the recipe as it is."""
    changes, folders = {UNCHANGED: []}, {_folder_name(UNCHANGED)}
    for text in flags.FLAGS.change:
        name, _, rest = text.partition(":")
        name, changed = name.strip(), _words("change", text, rest)
        if not name or not changed:
            raise UserError(f"--change={text}: NAME: --FLAG=VALUE ... expected")
        if _folder_name(name) in folders:
            raise UserError(f"--change={text}: another name expected; that is taken")
        folders.add(_folder_name(name))
        changes[name] = changed
    return changes


def _words(name: str, text: str, line: str) -> list[str]:
    """Flags of `train` out of a line of them."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UserError(f"--{name}={text}: {error}") from None
    for word in words:
        if not word.startswith("--"):
            raise UserError(f"--{name}={text}: {word}: --FLAG=VALUE expected")
        if word.split("=")[0] in _GIVEN_HERE:
            raise UserError(f"--{name}={text}: {word}: not a part of a change")
    return words


def _circumstances() -> list[str]:
    """What decides the figures beside the flags of a change and the notes."""
    flag = flags.FLAGS
    content = pathlib.Path(flag.recipe).read_bytes()
    excluded = pathlib.Path(flag.exclude).read_bytes() if flag.exclude else b""
    return [
        f"--recipe={pathlib.Path(flag.recipe).name}:{zlib.crc32(content):08x}",
        f"--exclude={len(excluded.split())} ids:{zlib.crc32(excluded):08x}",
        f"--folds={flag.folds}",
        *([f"--trainer={flag.trainer}"] if flag.trainer != TRAINER else []),
    ]


def _folder_name(change: str) -> str:
    return re.sub(r"\W+", "_", change)


def _measured(name: str, wanted: list[str]) -> dict[str, Any]:
    """Trains and tests every fold; what is kept of them."""
    from mic_tf import files

    flag = flags.FLAGS
    folder = pathlib.Path(flag.folder).absolute() / _folder_name(name)
    workdirs = [str(folder / str(fold)) for fold in range(flag.folds)]
    exclude = []
    if flag.exclude:
        exclude = [f"--exclude={pathlib.Path(flag.exclude).absolute()}"]
    data_dir = f"--data_dir={kept_runs.absolute(flag.data_dir)}"
    for fold, workdir in enumerate(workdirs):
        print(f"{name}: fold {fold}", flush=True)
        where = [f"--workdir={workdir}", data_dir]
        kept_runs.call(
            flag.trainer,
            f"--flagfile={pathlib.Path(flag.recipe).absolute()}",
            *(word.replace("{fold}", str(fold)) for word in wanted),
            "--protocol=instrument",
            f"--folds={flag.folds}",
            f"--fold={fold}",
            *exclude,
            *where,
        )
        kept_runs.call("mic_tf.evaluate", "--split=test", *where)
    pooled = folder / "pooled"
    together = f"--workdirs={','.join(workdirs)}"
    kept_runs.call("mic_tf.report", "--pool", together, f"--out={pooled}")
    metrics = files.read_json(str(pooled / "metrics.json"))
    minutes = sum(kept_runs.minutes(workdir) for workdir in workdirs)
    return {
        "accuracy": metrics["accuracy"],
        "folds": [fold["accuracy"] for fold in metrics["folds"]],
        "minutes": round(minutes / len(workdirs), 2),
        **answers(files.read_text(str(pooled / "predictions.csv"))),
    }


def answers(predictions: str) -> dict[str, Any]:
    """How many notes were tested and which were answered wrongly.

    Args:
      predictions: content of a predictions.csv.
    """
    rows = list(csv.DictReader(io.StringIO(predictions)))
    wrong = sorted(row["id"] for row in rows if row["answer"] != row["truth"])
    return {"n": len(rows), "wrong": wrong}


def _chance(before: list[str], after: list[str]) -> float:
    """The p-value of two lists of wrong notes.

    Their ids begin with the instrument, as NSynth's and soundfont_notes' do.
    """
    import numpy as np

    from mic_tf.evaluation import comparison

    notes = sorted({*before, *after})
    instrument = np.array([note.rsplit("-", 2)[0] for note in notes])
    right = [~np.isin(notes, wrong) for wrong in (before, after)]
    return comparison.sign_flip_p(comparison.by_instrument(*right, instrument))


def row(name: str, changed: list[str], results: dict[str, dict[str, Any]]) -> str:
    """One line of the table."""
    before, after = results[UNCHANGED], results[name]
    if before["n"] != after["n"]:
        raise UserError(
            f"{name}: measured on {after['n']} notes, {UNCHANGED} on {before['n']}; "
            "measure both on the same"
        )
    cells = [name, f"`{shlex.join(changed)}`" if changed else ""]
    cells += [f"{each['accuracy']:.3f}" for each in (before, after)]
    for some, others in ((after, before), (before, after)):
        cells.append(str(len(set(some["wrong"]) - set(others["wrong"]))))
    cells.append(f"{_chance(before['wrong'], after['wrong']):.2g}")
    for each in (before, after):
        cells.append(", ".join(f"{accuracy:.2f}" for accuracy in each["folds"]))
    cells.append(f"{after['minutes']:.1f}")
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    define_flags()
    command.run(main)
