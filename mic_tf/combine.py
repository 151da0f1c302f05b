r"""Makes one run of several finished ones: side by side, or their weights averaged.

Usage:
  python -m mic_tf.combine --workdirs=runs/many,runs/nsynth --shares=0.6,0.4 \
      --workdir=runs/both
  python -m mic_tf.combine --average --workdirs=runs/late,runs/late_noise \
      --workdir=runs/late_mean

Side by side, the answer is the mean of the networks' log-probabilities in these shares.
With --average it is one network with the mean of their weights; the runs must have
begun from the same ones (train --init_from), and the run with these may be among them.
The new work folder is like any other: evaluate, export and report take it, and the
temperature is fitted on the validation notes of the first run's data.
"""

from absl import flags, logging

from mic_tf import command
from mic_tf.errors import UserError


def define_flags() -> None:
    flags.DEFINE_list(
        "workdirs", [], "Work folders of the runs, the one that heard most first."
    )
    flags.DEFINE_list(
        "shares", [], "Weight of each run, adding up to 1; default: equal ones."
    )
    flags.DEFINE_bool(
        "average", False, "One network of their mean weights, not all side by side."
    )
    flags.DEFINE_string("workdir", "", "The new work folder.")
    flags.DEFINE_string(
        "data_dir", "", "Folder of the prepared data sets; default: the first run's."
    )


def main(arguments: list[str]) -> int:
    if arguments:
        raise UserError(f"{arguments[0]}: unexpected argument; flags begin with --")
    flag = flags.FLAGS
    if not flag.workdir:
        raise UserError("--workdir: missing; give the folder for the new run")
    if not flag.workdirs:
        raise UserError("--workdirs: missing; work folders of finished runs expected")
    shares = _shares(flag.shares, len(flag.workdirs))

    from mic_tf import files
    from mic_tf.datasets import catalogue
    from mic_tf.evaluation import evaluator
    from mic_tf.pipeline import batches
    from mic_tf.training import combining, training_data, workfolder

    files.register_file_systems(flag.workdir, *flag.workdirs, flag.data_dir)
    workdir = flag.workdir.rstrip("/")
    workdirs = [w.rstrip("/") for w in flag.workdirs]
    first = workfolder.load_run(workdirs[0])
    data = first.settings.data
    builder = catalogue.load_builder(data.dataset, flag.data_dir or data.data_dir)
    records = batches.open_records(builder, skip_bad=data.skip_bad)
    described = first.summary["data"]
    division = training_data.divide_again(described, records)
    if "valid" in training_data.changed_parts(described, division, records):
        # Some may have been trained on, and the temperature is fitted on them.
        raise UserError(
            f"{builder.data_dir}: other validation notes than those of {workdirs[0]}; "
            "give the --data_dir where they are, and its --exclude file as it was"
        )
    make = combining.average if flag.average else combining.combine
    make(workdirs, shares, workdir, lambda run: evaluator.calibrate(run, records))
    logging.info("done: %s", workdir)
    return command.EXIT_OK


def _shares(texts: list[str], count: int) -> list[float]:
    try:
        return [float(text) for text in texts] or [1.0 / count] * count
    except ValueError as error:
        raise UserError(
            f"--shares={','.join(texts)}: numbers expected, as 0.6,0.4"
        ) from error


def cli() -> None:
    define_flags()
    command.run(main)


if __name__ == "__main__":
    cli()
