r"""The phases of the study, trained and measured: one row for each, over several seeds.

  python tools/phases.py --data_dir=data --folder=phases
  python tools/phases.py --only=phase3,phase4 --datasets=nsynth_jsonwav --seeds=0

Trains every phase on `soundfont_notes` and phases 3 and 4 on `nsynth_jsonwav`, by the
random and by the instrument split (fold 0), each with every seed, one after the other,
and evaluates it on its test part. The figures of every run go into `--results`; what
stands there is not trained again, what was interrupted goes on. `--print_only` shows
the table of what is there. The study's ten epochs are of about 12,000 notes; a smaller
set is passed over so often that the steps are as many.
"""

import pathlib
import statistics
import sys
from collections.abc import Iterator, Sequence

from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from mic_tf import command
from mic_tf.errors import UserError
from tools import kept_runs
from tools.benchmarks.processes import PROJECT

PHASES = {
    "soundfont_notes": ("phase1", "phase2", "phase3", "phase4"),
    "nsynth_jsonwav": ("phase3", "phase4"),
}
COLUMNS = (
    *("data", "phase", "split", "seeds", "test notes"),
    *("accuracy", "macro-F1", "minutes"),
)
MEASURES = ("n", "accuracy", "macro_f1")
PROTOCOLS = ("random", "instrument")
RESULTS = "phases.json"
STEPS = 10 * 12_000 // 32
"""Steps of the study's ten epochs in batches of 32."""


def define_flags() -> None:
    flags.DEFINE_string(
        "data_dir", "~/tensorflow_datasets", "Folder of the prepared data sets."
    )
    flags.DEFINE_string("folder", "phases", "Folder of the runs.")
    flags.DEFINE_string(
        "results", "", "File of the figures; default: phases.json in --folder."
    )
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
    path = pathlib.Path(flag.results or pathlib.Path(flag.folder) / RESULTS)
    results = kept_runs.read(path, [*MEASURES, "minutes"])
    for dataset, protocol, phase in rows:
        for seed in flag.seeds:
            name = run_name(dataset, protocol, phase, seed)
            there = metrics_of(workdir(name), dataset)
            done = name in results or there.exists()
            if not flag.print_only:
                print(f"{name}: {'done before' if done else 'begins'}", flush=True)
                if not done:
                    run(dataset, protocol, phase, seed)
                    there = metrics_of(workdir(name), dataset)
                    if not there.exists():
                        raise UserError(f"{there}: not written; evaluate the run")
            if name not in results and there.exists():
                results[name] = figures(workdir(name), dataset)
                write_results(path, results)
    print(f"| {' | '.join(COLUMNS)} |\n{'| --- ' * len(COLUMNS)}|")
    for wanted in rows:
        names = [run_name(*wanted, seed) for seed in flag.seeds]
        found = [results[name] for name in names if name in results]
        if found:
            print(row(*wanted, found))


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


def run_name(dataset: str, protocol: str, phase: str, seed: str) -> str:
    """What a run is called, in the results and as a folder."""
    return f"{dataset}/{protocol}/{phase}-{seed}"


def data_dir() -> str:
    """Where the data sets lie, for a command run in another folder."""
    return kept_runs.absolute(flags.FLAGS.data_dir)


def workdir(name: str) -> pathlib.Path:
    """Where a run lies."""
    return pathlib.Path(flags.FLAGS.folder).absolute() / name


def metrics_of(folder: pathlib.Path, dataset: str) -> pathlib.Path:
    """The figures of a run on its test part; the data set may have a label."""
    labelled = sorted(folder.glob(f"eval/{dataset}_*-test/metrics.json"))
    return next(iter(labelled), folder / "eval" / f"{dataset}-test" / "metrics.json")


def run(dataset: str, protocol: str, phase: str, seed: str) -> None:
    """Trains and evaluates one run."""
    folder = workdir(run_name(dataset, protocol, phase, seed))
    where = [f"--workdir={folder}", f"--data_dir={data_dir()}"]
    kept_runs.call(
        "mic_tf.train",
        f"--flagfile={PROJECT / 'mic_tf' / 'configs' / f'{phase}.cfg'}",
        f"--dataset={dataset}",
        f"--protocol={protocol}",
        f"--seed={seed}",
        *_epochs(dataset, protocol),
        *where,
    )
    kept_runs.call("mic_tf.evaluate", "--split=test", *where)


def _epochs(dataset: str, protocol: str) -> list[str]:
    """Flags that give a set smaller than the study's as many steps."""
    from mic_tf.datasets import catalogue
    from mic_tf.pipeline import batches
    from mic_tf.settings import DataSettings, RunSettings
    from mic_tf.training import training_data

    if dataset == "soundfont_notes":
        return []
    builder = catalogue.load_builder(dataset, data_dir())
    records = batches.open_records(builder)
    settings = RunSettings(data=DataSettings(dataset=dataset, protocol=protocol))
    notes = int(training_data.divide(settings, records).part("train").sum())
    return ["--max_notes=0", f"--epochs={epochs_for(notes)}"]


def epochs_for(notes: int) -> int:
    """Passes over so many training notes that take the study's number of steps."""
    return -(-STEPS // -(-notes // 32))


def figures(folder: pathlib.Path, dataset: str) -> dict[str, float]:
    """What is kept of a run: notes measured, figures, minutes of its training."""
    from mic_tf import files

    metrics = files.read_json(str(metrics_of(folder, dataset)))
    kept = {name: metrics[name] for name in MEASURES}
    return {**kept, "minutes": kept_runs.minutes(str(folder))}


def write_results(path: pathlib.Path, results: dict[str, dict[str, float]]) -> None:
    """Writes them in the order of their names."""
    rounded = {
        name: {key: round(value, 6) for key, value in results[name].items()}
        for name in sorted(results)
    }
    kept_runs.write(path, rounded)


def row(
    dataset: str, protocol: str, phase: str, found: Sequence[dict[str, float]]
) -> str:
    """Means over the seeds, with the lowest and highest."""
    minutes = statistics.mean(each["minutes"] for each in found)
    cells = [dataset, phase, protocol, str(len(found)), f"{found[0]['n']:,}"]
    for name in ("accuracy", "macro_f1"):
        values = [each[name] for each in found]
        spread = f"{min(values):.3f} to {max(values):.3f}"
        cells.append(f"{statistics.mean(values):.3f} ({spread})")
    return f"| {' | '.join([*cells, f'{minutes:.1f}'])} |"


if __name__ == "__main__":
    define_flags()
    command.run(main)
