r"""Accuracy for a second of CPU: the networks beside each other, trained alike.

  python tools/networks_table.py --data_dir=data --folder=networks
  python tools/networks_table.py --models=deep_cnn,mobile_cnn --seeds=0,1,2

Trains each network with every seed by one flagfile, one after the other, and shows its
accuracy on valid, by NSynth's own splits, after so many seconds of CPU (user and system
of the whole command, shared out to the epochs by their duration), in the mean of the
seeds. No epoch is chosen. What is done is reused.
"""

import bisect
import dataclasses
import itertools
import pathlib
import statistics
import sys

from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from mic_tf import command
from mic_tf.errors import UserError
from mic_tf.settings import MODELS
from tools import kept_runs
from tools.benchmarks import processes

FLAGFILE = processes.PROJECT / "mic_tf" / "configs" / "official.cfg"
_TAKEN = "cpu_seconds.json"


def define_flags() -> None:
    flags.DEFINE_string(
        "data_dir", "~/tensorflow_datasets", "Folder of the prepared data sets."
    )
    flags.DEFINE_string("folder", "networks", "Folder of the runs.")
    flags.DEFINE_list("models", list(MODELS), "Networks.")
    flags.DEFINE_list("seeds", ["0"], "Seeds.")
    flags.DEFINE_string("recipe", str(FLAGFILE), "Flagfile of the training.")
    flags.DEFINE_integer("epochs", 0, "Epochs; 0: as the flagfile says.", lower_bound=0)
    flags.DEFINE_list("after", ["60", "120", "240", "480"], "Seconds of CPU to show.")


@dataclasses.dataclass(frozen=True)
class Course:
    """How a training went.

    Attributes:
      parameters: of the network.
      seconds: of CPU until the end of each epoch.
      accuracy: on valid after each epoch.
    """

    parameters: int
    seconds: list[float]
    accuracy: list[float]

    def after(self, seconds: float) -> float | None:
        """The accuracy of the last epoch that was done by then; None: none was."""
        done = bisect.bisect_right(self.seconds, seconds)
        return self.accuracy[done - 1] if done else None


def main(arguments: list[str]) -> None:
    """Trains what is missing and prints the table."""
    if arguments:
        raise UserError(f"{arguments[0]}: unexpected argument; flags begin with --")
    flag = flags.FLAGS
    for name, values in (("after", flag.after), ("seeds", flag.seeds)):
        for value in values:
            if not value.isdigit():
                raise UserError(f"--{name}={value}: whole numbers expected")
    for name, values in (("models", flag.models), ("seeds", flag.seeds)):
        if not values:
            raise UserError(f"--{name}: one at least expected")
    moments = [int(value) for value in flag.after]
    courses = {
        model: [_course(model, seed) for seed in flag.seeds] for model in flag.models
    }
    heads = ["network", "parameters", "epochs", "CPU seconds an epoch"]
    heads += [f"accuracy after {moment} s" for moment in moments]
    heads += ["at the end", "CPU seconds in all"]
    print(f"| {' | '.join(heads)} |\n{'| --- ' * len(heads)}|")
    for model, found in courses.items():
        print(row(model, found, moments))


def row(model: str, courses: list[Course], moments: list[int]) -> str:
    """One network's line: means over its courses, with the lowest and highest."""
    epochs = len(courses[0].seconds)
    in_all = statistics.mean(course.seconds[-1] for course in courses)
    cells = [model, f"{courses[0].parameters:,}", f"{epochs}", f"{in_all / epochs:.1f}"]
    cells += [_mean([course.after(moment) for course in courses]) for moment in moments]
    cells += [_mean([course.accuracy[-1] for course in courses]), f"{in_all:,.0f}"]
    return f"| {' | '.join(cells)} |"


def _mean(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "none yet"
    text = f"{statistics.mean(known):.3f}"
    if len(known) > 1:
        text += f" ({min(known):.3f} to {max(known):.3f})"
    return text


def _course(model: str, seed: str) -> Course:
    from mic_tf import files
    from mic_tf.training import callbacks

    workdir = pathlib.Path(flags.FLAGS.folder).absolute() / f"{model}-{seed}"
    taken = workdir / _TAKEN
    arguments = _arguments(model, seed)
    if not taken.exists():
        seconds = round(_train(arguments, workdir), 1)
        files.write_json(str(taken), {"cpu_seconds": seconds, "arguments": arguments})
    kept = files.read_json(str(taken))
    if not isinstance(kept, dict) or kept.get("arguments") != arguments:
        raise UserError(
            f"{workdir}: of other flags than these; remove it, or choose another "
            "--folder"
        )
    summary = files.read_json(str(workdir / "summary.json"))
    epochs = callbacks.read_history(str(workdir))
    return course_of(epochs, kept["cpu_seconds"], summary["parameters"])


def course_of(
    epochs: list[dict[str, str]], cpu_seconds: float, parameters: int
) -> Course:
    """The course that a history tells.

    Args:
      epochs: rows of `history.csv`.
      cpu_seconds: of the whole command.
      parameters: of the network.
    """
    durations = [float(epoch["seconds"]) for epoch in epochs]
    share = cpu_seconds / sum(durations)
    seconds = [share * passed for passed in itertools.accumulate(durations)]
    accuracy = [float(epoch["val_accuracy"]) for epoch in epochs]
    return Course(parameters, seconds, accuracy)


def _arguments(model: str, seed: str) -> list[str]:
    """Of `train`, but for the work folder."""
    flag = flags.FLAGS
    return [
        f"--flagfile={pathlib.Path(flag.recipe).absolute()}",
        f"--data_dir={kept_runs.absolute(flag.data_dir)}",
        f"--model={model}",
        f"--seed={seed}",
        # The other protocols train on valid where no epoch is chosen.
        "--protocol=official",
        "--select=last",
        *([f"--epochs={flag.epochs}"] if flag.epochs else []),
    ]


def _train(arguments: list[str], workdir: pathlib.Path) -> float:
    """Trains one network; the seconds of CPU that it took."""
    if workdir.exists():
        raise UserError(
            f"{workdir}: begun, but not finished in one go, so its CPU time is not "
            "known; remove it"
        )
    print(workdir, file=sys.stderr, flush=True)
    arguments = [*arguments, f"--workdir={workdir}"]
    return processes.run_module("mic_tf.train", arguments).cpu_seconds


if __name__ == "__main__":
    define_flags()
    command.run(main)
