r"""One table of several runs.

Usage:
  python -m mic_tf.report --workdirs=runs/phase1,runs/phase2,runs/best
  python -m mic_tf.report --workdirs=runs/phase1,runs/best --out=runs/table.html

Reads what `evaluate` wrote into each work folder and prints one Markdown row for each
evaluation: figures with their intervals, and the protocol they were measured under.
--out also writes it to a file: a page where its name ends in .html, else Markdown.
"""

from absl import flags, logging

from mic_tf import command
from mic_tf.errors import UserError


def define_flags() -> None:
    flags.DEFINE_list("workdirs", [], "Work folders, separated by commas.")
    flags.DEFINE_string("out", "", "Also write the table here: .html, or Markdown.")


def main(arguments: list[str]) -> int:
    if arguments:
        raise UserError(f"{arguments[0]}: unexpected argument; flags begin with --")
    flag = flags.FLAGS
    if not flag.workdirs:
        raise UserError(
            "--workdirs: missing; work folders separated by commas expected"
        )

    from mic_tf import files
    from mic_tf.evaluation import runs_table

    files.register_file_systems(*flag.workdirs, flag.out)
    rows = runs_table.rows([workdir.rstrip("/") for workdir in flag.workdirs])
    print(runs_table.markdown(rows))
    if flag.out:
        as_page = flag.out.endswith((".html", ".htm"))
        write = runs_table.html_page if as_page else runs_table.markdown
        files.write_text(flag.out, write(rows) + "\n")
        logging.info("written to %s", flag.out)
    return command.EXIT_OK


def cli() -> None:
    define_flags()
    command.run(main)


if __name__ == "__main__":
    cli()
