r"""Measures a model on one part of a data set.

Usage:
  python -m mic_tf.evaluate --workdir=runs/phase4
  python -m mic_tf.evaluate --model=runs/phase4/export \
      --dataset=nsynth_jsonwav --data_dir=~/tensorflow_datasets --split=valid
  python -m mic_tf.evaluate --workdir=runs/best --compare=runs/phase4
  python -m mic_tf.evaluate --workdir=runs/best --effects

Writes metrics.json, predictions.csv, report.html and its pictures into
WORKDIR/eval/DATASET-SPLIT (or --out), and prints a table. Every figure stands beside
the name of the protocol under which the notes were divided, with an interval over
instruments and the share of the test that was already heard in training.
"""

from absl import flags, logging

from mic_tf import bundled, command
from mic_tf.errors import UserError


def define_flags() -> None:
    flags.DEFINE_string("workdir", "", "Work folder of a trained run.")
    flags.DEFINE_string(
        "model",
        "",
        "Exported model, instead of --workdir (`pretrained`: the bundled one).",
    )
    flags.DEFINE_string("dataset", "", "Data set; default: the one it was trained on.")
    flags.DEFINE_string(
        "data_dir",
        "",
        "Folder of the prepared data sets; default: the run's, else "
        "~/tensorflow_datasets.",
    )
    flags.DEFINE_string(
        "split", "", "Part to measure: test, valid, train; default: test, else valid."
    )
    flags.DEFINE_string("exclude", "", "A file of note ids to leave out, one a line.")
    flags.DEFINE_string(
        "out",
        "",
        "Folder for the files; default: WORKDIR/eval/DATASET-SPLIT, for the bundled "
        "model pretrained/eval/DATASET-SPLIT.",
    )
    flags.DEFINE_string(
        "compare",
        "",
        "Work folder of another run, or another exported model (`pretrained`: the "
        "bundled one), measured on the same notes.",
    )
    flags.DEFINE_bool(
        "leakage", True, "Look for test notes that were heard in training."
    )
    flags.DEFINE_integer(
        "leakage_notes",
        2_000,
        "Notes of test and training at most whose sounds are compared for it; 0: all, "
        "which takes a minute of one core for 30,000.",
        lower_bound=0,
    )
    flags.DEFINE_bool(
        "effects",
        False,
        "Also measure the same notes through reverb, chorus, distortion, noise, mp3, "
        "changes of level and pitch, cuts and mixtures (needs pedalboard).",
    )
    flags.DEFINE_integer("batch_size", 32, "Notes a batch.", lower_bound=1)


def main(arguments: list[str]) -> int:
    if arguments:
        raise UserError(f"{arguments[0]}: unexpected argument; flags begin with --")
    flag = flags.FLAGS
    if bool(flag.workdir) == bool(flag.model):
        raise UserError("--workdir, --model: give one of the two")

    from mic_tf import files
    from mic_tf.datasets import catalogue
    from mic_tf.evaluation import checks, division, evaluator, heard, report, sections
    from mic_tf.pipeline import batches
    from mic_tf.training import callbacks

    _check_effects(flag)
    files.register_file_systems(
        flag.workdir, flag.model, flag.data_dir, flag.out, flag.compare
    )
    subject, data_dir = _subject(flag)
    other = _compared_with(flag.compare) if flag.compare else None
    dataset = flag.dataset or _trained_on(subject)
    builder = catalogue.load_builder(dataset, flag.data_dir or data_dir)
    skip_bad = subject.trained_on["settings"].get("skip_bad", False)
    records = batches.open_records(builder, skip_bad=skip_bad)
    name = builder.info.full_name
    partition, words = division.partition_for(
        subject.trained_on, records, name, flag.exclude
    )
    split = flag.split or evaluator.default_split(partition)
    partition, words = division.of_part(partition, words, split)
    folder = flag.out or files.join(
        flag.workdir.rstrip("/") or _beside(flag.model),
        "eval",
        evaluator.folder_name(name, split),
    )
    files.check_writable(folder)
    if other is not None:
        checks.check_comparable(other, records, partition.part(split), name)
    found = evaluator.answers(
        subject, records, partition.part(split), batch_size=flag.batch_size
    )
    result = evaluator.figures(
        found,
        subject,
        dataset=name,
        split=split,
        protocol=partition.protocol,
        protocol_words=words,
    )
    result |= report.details(found, records, subject.labels)
    folders = [folder for folder in (data_dir, flag.data_dir) if folder]
    training = heard.in_training(subject, records, name, partition, folders)
    result |= _checks(flag, subject, other, records, partition, training, found, name)
    result["remarks"] = sections.remarks(result)
    history = callbacks.read_history(flag.workdir) if flag.workdir else []
    try:
        report.write(folder, result, found, records, subject, training, history)
        # Last: metrics.json says that all of it is there.
        evaluator.write(folder, result, found, records)
    finally:
        command.say(evaluator.table(result))
        _print_effects(result)
    logging.info("written to %s", folder)
    return command.EXIT_OK


def _checks(flag, subject, other, records, partition, training, found, dataset) -> dict:
    """What the figures have to be read with: leakage, another run, effects."""
    from mic_tf.evaluation import checks, robustness

    result = {}
    if flag.leakage:
        result |= checks.leakage_of(
            records, partition, training, found, flag.leakage_notes
        )
    result |= checks.excluded_from(subject, records, dataset, flag.exclude)
    if other is not None:
        result |= checks.comparison_with(
            other, records, found, dataset, flag.batch_size
        )
    if flag.effects:
        result["effects"] = robustness.measure(
            subject, records, found, batch_size=flag.batch_size
        )
    return result


def _check_effects(flag) -> None:
    """Says at once that a library is missing, not after the first measurement."""
    if flag.effects:
        from mic_tf.evaluation import effects

        effects.library()


def _print_effects(result: dict) -> None:
    if "effects" in result:
        from mic_tf.evaluation import robustness_report

        command.say("\n".join(["", *robustness_report.lines(result["effects"])]))


def _beside(model: str) -> str:
    """The folder of an export, whatever names it: a part, or the work folder."""
    from mic_tf.serving import models

    return models.parts(model)[0]


def _subject(flag: flags.FlagValues) -> tuple:
    """What is evaluated, and the data folder that its training used."""
    from mic_tf.evaluation import evaluator
    from mic_tf.training import workfolder

    if flag.model:
        from mic_tf.serving import evaluation_subject

        subject = evaluation_subject.of_export(flag.model)
        settings = subject.facts.get("settings", {}).get("data", {})
        return subject, settings.get("data_dir", "~/tensorflow_datasets")
    run = workfolder.load_run(flag.workdir.rstrip("/"))
    return evaluator.subject_of_run(run), run.settings.data.data_dir


def _compared_with(source: str):
    """The other model of `--compare`: a run's or an exported one."""
    from mic_tf import files
    from mic_tf.evaluation import evaluator
    from mic_tf.training import workfolder

    folder = bundled.resolved(source.rstrip("/"))
    if files.exists(files.join(folder, workfolder.CONFIG)):
        return evaluator.subject_of_run(workfolder.load_run(folder))
    from mic_tf.serving import evaluation_subject

    try:
        return evaluation_subject.of_export(source)
    except UserError as error:
        raise UserError(f"--compare={source}: {error}") from error


def _trained_on(subject) -> str:
    """The data set's name as the catalogue takes it."""
    return subject.trained_on["settings"]["dataset"]


def cli() -> None:
    define_flags()
    command.run(main)


if __name__ == "__main__":
    cli()
