r"""Trains a classifier of instrument families.

Usage:
  python -m mic_tf.train --flagfile=mic_tf/configs/phase4.cfg --workdir=runs/phase4 \
      --data_dir=~/tensorflow_datasets

Started again with the same work folder it goes on where it stopped. Exit status: 0
when training is finished, 2 after a mistake that you can correct, 143 after SIGTERM
(the state is saved; start again to go on).
"""

from absl import flags, logging

from mic_tf import command, settings
from mic_tf.errors import UserError

EXIT_PREEMPTED = 143


def define_flags() -> None:
    flags.DEFINE_string(
        "workdir", "", "Folder that holds the whole run (also gs://, s3://)."
    )
    settings.define_flags(
        settings.DataSettings,
        settings.FrontEndSettings,
        settings.AugmentSettings,
        settings.NetworkSettings,
        settings.TrainSettings,
    )
    flags.adopt_module_key_flags(settings)


def main(arguments: list[str]) -> int:
    if arguments:
        raise UserError(f"{arguments[0]}: unexpected argument; flags begin with --")
    workdir = flags.FLAGS.workdir
    if not workdir:
        raise UserError("--workdir: missing; give the folder for this run")
    run = settings.run_from_flags()

    from mic_tf import files
    from mic_tf.datasets import catalogue
    from mic_tf.evaluation import evaluator
    from mic_tf.pipeline.batches import Records
    from mic_tf.training import starting, trainer, workfolder
    from mic_tf.training.callbacks import Preempted

    files.register_file_systems(
        workdir, run.data.data_dir, run.data.exclude, run.train.init_from
    )
    given = settings.given_in_flags()
    _check_given(run, given)
    builder = catalogue.load_builder(run.data.dataset, run.data.data_dir)
    extras = [
        catalogue.load_builder(name, run.data.data_dir, flag="extra_datasets")
        for name in run.data.dataset_names[1:]
    ]
    workdir = workdir.rstrip("/")
    if begun := workfolder.read_config(workdir):
        run = settings.as_it_began(run, begun["settings"], given)
    run = starting.take_over(run, workdir, given)

    def calibrate(records: Records) -> None:
        evaluator.calibrate(workfolder.load_run(workdir, calibrating=True), records)

    try:
        summary = trainer.train(run, workdir, builder, extras, calibrate)
    except Preempted:
        return EXIT_PREEMPTED
    selected = summary["selected"]
    figures = ", ".join(
        f"{name.removeprefix('val_')} {value:.4f}"
        for name, value in selected.items()
        if name.startswith("val_")
    )
    logging.info(
        "done: %s; weights of epoch %d%s",
        workdir,
        selected["epoch"],
        f" (validation, {run.data.protocol} split: {figures})" if figures else "",
    )
    return command.EXIT_OK


def _check_given(run: settings.RunSettings, given: set[str]) -> None:
    """Refuses flags that would do nothing.

    Raises:
      UserError: there is one.
    """
    data = run.data
    if "extra_share" in given and not (
        data.extra_datasets or "extra_datasets" in given
    ):
        raise UserError(
            f"--extra_share={data.extra_share}: does nothing without --extra_datasets"
        )
    if run.train.tpu and "tpu" in given and run.train.strategy not in ("auto", "tpu"):
        raise UserError(
            f"--tpu={run.train.tpu}: does nothing with --strategy="
            f"{run.train.strategy}; --strategy=tpu expected"
        )
    only = {
        "fold": ("instrument",),
        "folds": ("instrument",),
        "pool": ("instrument", "random"),
    }
    for name, protocols in only.items():
        if name in given and data.protocol not in protocols:
            raise UserError(
                f"--{name}={getattr(data, name)}: does nothing with --protocol="
                f"{data.protocol}; --protocol={' or '.join(protocols)} expected"
            )


def cli() -> None:
    define_flags()
    command.run(main)


if __name__ == "__main__":
    cli()
