r"""The phases of the study, trained and measured: one row for each, over several seeds.

  python tools/phases.py --data_dir=data --folder=phases
  python tools/phases.py --only=phase3,phase4 --datasets=nsynth_jsonwav --seeds=0

Trains every phase on `soundfont_notes` and phases 3 and 4 on `nsynth_jsonwav`, by the
random and by the instrument split (fold 0), each with every seed, one after the other,
and evaluates it on its test part. What is done is reused, what was interrupted goes on;
`--print_only` shows the table of what is there. The study's ten epochs are of about
12,000 notes; a smaller set is passed over so often that the steps are as many.
"""

import json
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Iterator

from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from mic_tf import command
from mic_tf.errors import UserError

PROJECT = pathlib.Path(__file__).parents[1]

PHASES = {
    "soundfont_notes": ("phase1", "phase2", "phase3", "phase4"),
    "nsynth_jsonwav": ("phase3", "phase4"),
}
COLUMNS = (
    *("data", "phase", "split", "seeds", "test notes"),
    *("accuracy", "macro-F1", "minutes"),
)
PROTOCOLS = ("random", "instrument")
STEPS = 10 * 12_000 // 32
"""Steps of the study's ten epochs in batches of 32."""


def define_flags() -> None:
    flags.DEFINE_string(
        "data_dir", "~/tensorflow_datasets", "Folder of the prepared data sets."
    )
    flags.DEFINE_string("folder", "phases", "Folder of the runs.")
    flags.DEFINE_list("datasets", list(PHASES), "Data sets.")
    flags.DEFINE_list("protocols", list(PROTOCOLS), "Splits.")
    flags.DEFINE_list("only", [], "Phases; default: all.")
    flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds.")
    flags.DEFINE_bool("print_only", False, "Train nothing.")


def main(arguments: list[str]) -> None:
    """Trains what is missing and prints the table."""
    if arguments:
        raise UserError(f"{arguments[0]}: unexpected argument; flags begin with --")
    flag = flags.FLAGS
    rows = list(_rows_wanted())
    if not flag.print_only:
        for dataset, protocol, phase in rows:
            for seed in flag.seeds:
                run(dataset, protocol, phase, seed)
    print(
        "| data | phase | split | seeds | test notes | accuracy | macro-F1 | minutes |"
    )
    print("| --- " * 8 + "|")
    for dataset, protocol, phase in rows:
        folders = [workdir(dataset, protocol, phase, seed) for seed in flag.seeds]
        done = [folder for folder in folders if metrics_of(folder, dataset).exists()]
        if done:
            print(row(dataset, protocol, phase, done))


def _rows_wanted() -> Iterator[tuple[str, str, str]]:
    flag = flags.FLAGS
    known = sorted({phase for phases in PHASES.values() for phase in phases})
    for name, wanted, names in (
        ("datasets", flag.datasets, list(PHASES)),
        ("protocols", flag.protocols, list(PROTOCOLS)),
        ("only", flag.only, known),
    ):
        for value in wanted:
            if value not in names:
                raise UserError(f"--{name}={value}: one of {', '.join(names)} expected")
    for seed in flag.seeds:
        if not seed.isdigit():
            raise UserError(f"--seeds={seed}: whole numbers expected")
    for dataset in flag.datasets:
        for phase in PHASES[dataset]:
            for protocol in flag.protocols:
                if not flag.only or phase in flag.only:
                    yield dataset, protocol, phase


def workdir(dataset: str, protocol: str, phase: str, seed: str) -> pathlib.Path:
    """Where a run lies."""
    folder = pathlib.Path(flags.FLAGS.folder).expanduser().absolute()
    return folder / dataset / protocol / f"{phase}-{seed}"


def metrics_of(folder: pathlib.Path, dataset: str) -> pathlib.Path:
    """The figures of a run on its test part."""
    return folder / "eval" / f"{dataset}-test" / "metrics.json"


def run(dataset: str, protocol: str, phase: str, seed: str) -> None:
    """Trains and evaluates one run, unless its figures are there."""
    folder = workdir(dataset, protocol, phase, seed)
    if metrics_of(folder, dataset).exists():
        print(f"{folder}: done before", flush=True)
        return
    print(f"{folder}", flush=True)
    where = [f"--workdir={folder}", f"--data_dir={flags.FLAGS.data_dir}"]
    _call(
        "mic_tf.train",
        f"--flagfile={PROJECT / 'mic_tf' / 'configs' / f'{phase}.cfg'}",
        f"--dataset={dataset}",
        f"--protocol={protocol}",
        f"--seed={seed}",
        *_epochs(dataset, protocol),
        *where,
    )
    _call("mic_tf.evaluate", "--split=test", *where)


def _epochs(dataset: str, protocol: str) -> list[str]:
    """Flags that give a set smaller than the study's as many steps."""
    from mic_tf.datasets import catalogue
    from mic_tf.pipeline import batches
    from mic_tf.settings import DataSettings, RunSettings
    from mic_tf.training import training_data

    if dataset == "soundfont_notes":
        return []
    builder = catalogue.load_builder(dataset, flags.FLAGS.data_dir)
    records = batches.open_records(builder)
    settings = RunSettings(data=DataSettings(dataset=dataset, protocol=protocol))
    notes = int(training_data.divide(settings, records).part("train").sum())
    return ["--max_notes=0", f"--epochs={epochs_for(notes)}"]


def epochs_for(notes: int) -> int:
    """Passes over so many training notes that take the study's number of steps."""
    return -(-STEPS // -(-notes // 32))


def _call(module: str, *arguments: str) -> None:
    finished = subprocess.run([sys.executable, "-m", module, *arguments], cwd=PROJECT)
    if finished.returncode:
        raise UserError(
            f"python -m {module} {' '.join(arguments)}: it failed, see above"
        )


def row(dataset: str, protocol: str, phase: str, folders: list[pathlib.Path]) -> str:
    """Means over the seeds, with the lowest and highest."""
    found = [json.loads(metrics_of(f, dataset).read_text()) for f in folders]
    minutes = statistics.mean(_minutes(folder) for folder in folders)
    cells = [dataset, phase, protocol, str(len(found)), f"{found[0]['n']:,}"]
    for name in ("accuracy", "macro_f1"):
        values = [metrics[name] for metrics in found]
        spread = f"{min(values):.3f} to {max(values):.3f}"
        cells.append(f"{statistics.mean(values):.3f} ({spread})")
    return f"| {' | '.join([*cells, f'{minutes:.1f}'])} |"


def _minutes(folder: pathlib.Path) -> float:
    from mic_tf.training import callbacks

    epochs = callbacks.read_history(str(folder))
    return sum(float(epoch["seconds"]) for epoch in epochs) / 60


if __name__ == "__main__":
    define_flags()
    command.run(main)
