r"""Looks for what is wrong with a prepared data set: labels, copies, faulty sounds.

Usage:
  python -m mic_tf.audit --dataset=nsynth_jsonwav --out=audits/nsynth
  python -m mic_tf.train --dataset=nsynth_jsonwav --workdir=runs/clean \
      --exclude=audits/nsynth/exclude.txt

Reads every note once and writes audit.json (every finding, and the thresholds),
audit.html (the same to look at and listen to) and exclude.txt (note ids that `train`
and `evaluate` leave out with --exclude). Nothing in the data set is changed.
"""

from typing import TYPE_CHECKING

from absl import flags, logging

from mic_tf import command
from mic_tf.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from mic_tf.pipeline.index import NoteIndex


def define_flags() -> None:
    flags.DEFINE_string("dataset", "", "The prepared data set.")
    flags.DEFINE_string(
        "data_dir", "~/tensorflow_datasets", "Folder of the prepared data sets."
    )
    flags.DEFINE_string("out", "", "Folder for the files.")
    flags.DEFINE_string("splits", "", "Comma-separated splits to read; default: all.")
    flags.DEFINE_integer(
        "max_notes",
        0,
        "Read at most so many notes, from the first; 0: all.",
        lower_bound=0,
    )


def main(arguments: list[str]) -> int:
    if arguments:
        raise UserError(f"{arguments[0]}: unexpected argument; flags begin with --")
    flag = flags.FLAGS
    for name in ("dataset", "out"):
        if not flag[name].value:
            raise UserError(f"--{name}: missing")

    from mic_tf import files
    from mic_tf.datasets import catalogue
    from mic_tf.evaluation import audit_report
    from mic_tf.pipeline import batches

    files.register_file_systems(flag.data_dir, flag.out)
    builder = catalogue.load_builder(flag.dataset, flag.data_dir)
    records = batches.open_records(builder)
    selected = selected_notes(records.index, flag.splits, flag.max_notes)
    files.check_writable(flag.out)
    result = audit_report.run(records, selected, builder.info.full_name)
    try:
        audit_report.write(flag.out, result, records)
    finally:
        command.say(audit_report.lines(result))
    logging.info("written to %s", flag.out)
    return command.EXIT_OK


def selected_notes(index: "NoteIndex", splits: str, max_notes: int) -> "np.ndarray":
    """The notes to read, bool [notes].

    Args:
      index: labels of the data set.
      splits: names separated by commas; empty for all.
      max_notes: the first so many; 0 for all.

    Raises:
      UserError: there is no such split.
    """
    import numpy as np

    names = [name.strip() for name in splits.split(",") if name.strip()]
    for name in names:
        if name not in index.split_names:
            raise UserError(
                f"--splits: no split {name!r}; the data set has "
                f"{', '.join(index.split_names)}"
            )
    wanted = [
        i for i, name in enumerate(index.split_names) if name in names or not names
    ]
    selected = np.isin(index.note_split, wanted)
    if max_notes:
        selected[np.flatnonzero(selected)[max_notes:]] = False
    if not selected.any():
        raise UserError(f"--splits={splits}: there are no notes in it")
    return selected


def cli() -> None:
    define_flags()
    command.run(main)


if __name__ == "__main__":
    cli()
