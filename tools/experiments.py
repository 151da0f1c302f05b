r"""What changes to a recipe are worth, by cross-validation over instruments.

  python tools/experiments.py --data_dir=data --exclude=VALID_IDS.txt \
    --recipe=mic_tf/configs/best_nsynth.cfg --common="--extra_datasets= --epochs=40" \
    --change="no mixup: --mixup_alpha=0" \
    --change="no masks: --time_masks=0 --freq_masks=0"

Trains the recipe as it is and with each change, once for each fold of instruments,
tests every fold and pools the answers: one row for each change, with the figures before
it and after it. --exclude names notes that no fold is to have, as those of a published
valid split that is kept for another look. The figures of every change go into
--results; what stands there is not trained again, what was interrupted goes on.
--print_only shows the table of what is there.
"""

import csv
import io
import pathlib
import re
import shlex
import subprocess
import sys
from typing import Any

from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from mic_tf import command
from mic_tf.errors import UserError

PROJECT = pathlib.Path(__file__).parents[1]

UNCHANGED = "the recipe as it is"
COLUMNS = (
    *("change", "flags", "accuracy before", "after", "notes lost", "notes won"),
    *("folds before", "folds after", "minutes a fold"),
)


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
    flags.DEFINE_bool("print_only", False, "Train nothing.")


def main(arguments: list[str]) -> None:
    """Trains what is missing and prints the table."""
    if arguments:
        raise UserError(f"{arguments[0]}: unexpected argument; flags begin with --")
    flag = flags.FLAGS
    changes = {UNCHANGED: [], **dict(_change(text) for text in flag.change)}
    if not flag.print_only and not pathlib.Path(flag.recipe).is_file():
        raise UserError(f"--recipe={flag.recipe}: no such flagfile")
    path = pathlib.Path(flag.results or pathlib.Path(flag.folder) / "experiments.json")
    results = read_results(path)
    for name, changed in changes.items():
        wanted = [*shlex.split(flag.common), *changed]
        if name in results and results[name]["flags"] != wanted:
            raise UserError(
                f"{path}: {name} was measured with {shlex.join(results[name]['flags'])}"
                f", not {shlex.join(wanted)}; name it otherwise"
            )
        if name not in results and not flag.print_only:
            results[name] = _measured(name, wanted)
            write_results(path, results)
    print(f"| {' | '.join(COLUMNS)} |\n{'| --- ' * len(COLUMNS)}|")
    if UNCHANGED in results:
        for name, changed in changes.items():
            if name in results:
                print(row(name, changed, results))


def _change(text: str) -> tuple[str, list[str]]:
    name, colon, rest = text.partition(":")
    changed = shlex.split(rest)
    if not colon or not changed or not all(f.startswith("--") for f in changed):
        raise UserError(f"--change={text}: NAME: --FLAG=VALUE ... expected")
    return name.strip(), changed


def _measured(name: str, wanted: list[str]) -> dict[str, Any]:
    """Trains and tests every fold; what is kept of them."""
    from mic_tf import files
    from mic_tf.training import callbacks

    flag = flags.FLAGS
    folder = pathlib.Path(flag.folder).absolute() / re.sub(r"\W+", "_", name)
    workdirs = [str(folder / str(fold)) for fold in range(flag.folds)]
    exclude = [f"--exclude={pathlib.Path(flag.exclude).absolute()}"]
    for fold, workdir in enumerate(workdirs):
        print(f"{name}: fold {fold}", flush=True)
        where = [f"--workdir={workdir}", f"--data_dir={flag.data_dir}"]
        _call(
            "mic_tf.train",
            f"--flagfile={pathlib.Path(flag.recipe).absolute()}",
            *wanted,
            "--protocol=instrument",
            f"--folds={flag.folds}",
            f"--fold={fold}",
            *(exclude if flag.exclude else []),
            *where,
        )
        _call("mic_tf.evaluate", "--split=test", *where)
    pooled = folder / "pooled"
    _call(
        "mic_tf.report", "--pool", f"--workdirs={','.join(workdirs)}", f"--out={pooled}"
    )
    metrics = files.read_json(str(pooled / "metrics.json"))
    seconds = [
        float(epoch["seconds"])
        for workdir in workdirs
        for epoch in callbacks.read_history(workdir)
    ]
    return {
        "flags": wanted,
        "accuracy": metrics["accuracy"],
        "folds": [fold["accuracy"] for fold in metrics["folds"]],
        "minutes": round(sum(seconds) / 60 / len(workdirs), 2),
        **answers(files.read_text(str(pooled / "predictions.csv"))),
    }


def _call(module: str, *arguments: str) -> None:
    finished = subprocess.run([sys.executable, "-m", module, *arguments], cwd=PROJECT)
    if finished.returncode:
        raise UserError(
            f"python -m {module} {' '.join(arguments)}: it failed, see above"
        )


def answers(predictions: str) -> dict[str, Any]:
    """How many notes were tested and which were answered wrongly.

    Args:
      predictions: content of a predictions.csv.
    """
    rows = list(csv.DictReader(io.StringIO(predictions)))
    wrong = sorted(row["id"] for row in rows if row["answer"] != row["truth"])
    return {"n": len(rows), "wrong": wrong}


def row(name: str, changed: list[str], results: dict[str, dict[str, Any]]) -> str:
    """One line of the table."""
    before, after = results[UNCHANGED], results[name]
    cells = [name, f"`{shlex.join(changed)}`" if changed else ""]
    cells += [f"{each['accuracy']:.3f}" for each in (before, after)]
    for some, others in ((after, before), (before, after)):
        cells.append(str(len(set(some["wrong"]) - set(others["wrong"]))))
    for each in (before, after):
        cells.append(", ".join(f"{accuracy:.2f}" for accuracy in each["folds"]))
    cells.append(f"{after['minutes']:.1f}")
    return f"| {' | '.join(cells)} |"


def read_results(path: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Figures by the name of the change; none where there is no such file."""
    if not path.exists():
        return {}
    from mic_tf import files

    return files.read_json(str(path))


def write_results(path: pathlib.Path, results: dict[str, dict[str, Any]]) -> None:
    """Writes them, in the order in which they were measured."""
    from mic_tf import files

    files.make_folder(str(path.parent))
    files.write_json(str(path), results)


if __name__ == "__main__":
    define_flags()
    command.run(main)
