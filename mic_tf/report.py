r"""One table of several runs, or the folds of a cross-validation as one result.

Usage:
  python -m mic_tf.report --workdirs=runs/phase1,runs/phase2,runs/best
  python -m mic_tf.report --workdirs=runs/phase1,runs/best --out=runs/table.html
  python -m mic_tf.report --pool --workdirs=cv/0,cv/1,cv/2,cv/3,cv/4 --out=cv/pooled

Reads what `evaluate` wrote into each work folder and prints one Markdown row for each
evaluation: figures with their intervals, and the protocol they were measured under.
--out also writes it to a file: a page where its name ends in .html, else Markdown.

--pool takes the runs for folds of the instrument protocol, each tested on its own fold
(`evaluate --split=test`), and writes metrics.json, predictions.csv and report.html of
all their answers together into the folder --out. Runs of different settings, or tested
on the same notes, are refused.
"""

from absl import flags, logging

from mic_tf import command
from mic_tf.errors import UserError


def define_flags() -> None:
    flags.DEFINE_list("workdirs", [], "Work folders, separated by commas.")
    flags.DEFINE_string(
        "out",
        "",
        "Also write the table here: .html, or Markdown. With --pool: the folder for "
        "its files.",
    )
    flags.DEFINE_bool(
        "pool", False, "Pool the test answers of the folds of one cross-validation."
    )


def main(arguments: list[str]) -> int:
    if arguments:
        raise UserError(f"{arguments[0]}: unexpected argument; flags begin with --")
    flag = flags.FLAGS
    if not flag.workdirs:
        raise UserError(
            "--workdirs: missing; work folders separated by commas expected"
        )

    if flag.pool and not flag.out:
        raise UserError("--pool: needs --out, the folder for the result")

    from mic_tf import files
    from mic_tf.evaluation import runs_table

    files.register_file_systems(*flag.workdirs, flag.out)
    workdirs = [workdir.rstrip("/") for workdir in flag.workdirs]
    if flag.pool:
        _pool(workdirs, flag.out)
        return command.EXIT_OK
    rows = runs_table.rows(workdirs)
    if flag.out:
        as_page = flag.out.endswith((".html", ".htm"))
        write = runs_table.html_page if as_page else runs_table.markdown
        files.write_text(flag.out, write(rows) + "\n")
        logging.info("written to %s", flag.out)
    command.say(runs_table.markdown(rows))
    return command.EXIT_OK


def _pool(workdirs: list[str], out: str) -> None:
    from mic_tf.evaluation import evaluator, pooling

    pooled = pooling.pool(workdirs)
    pooling.write(out, pooled)
    command.say(evaluator.table(pooled.result))
    logging.info("written to %s", out)


def cli() -> None:
    define_flags()
    command.run(main)


if __name__ == "__main__":
    cli()
