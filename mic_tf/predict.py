"""Says which instrument family is in audio files.

  python -m mic_tf.predict note.flac recordings/ 'takes/*.mp3'
  python -m mic_tf.predict --model=runs/phase4 note.flac

Files of any format, rate and length; folders are searched; `-` stands for a list of
files on standard input. One line a file; a file that cannot be answered gets a line
that says why. Exit status 2 if there was one.
"""

import math
import os
import sys
from collections.abc import Iterator

from absl import flags, logging

from mic_tf import bundled, command
from mic_tf.errors import UserError

_FORMATS = ("table", "csv", "json", "audacity")


def define_flags() -> None:
    flags.DEFINE_string(
        "model",
        "",
        "Folder of an exported model, or its work folder; default: the bundled one.",
    )
    flags.DEFINE_enum(
        "format",
        "table",
        _FORMATS,
        "Layout of the result; audacity is a label track, with --timeline.",
    )
    flags.DEFINE_string(
        "out", "", "File for the result; default, and `-`: standard output."
    )
    flags.DEFINE_integer(
        "batch_size",
        32,
        "Windows of 4 s classified at once.",
        lower_bound=1,
        upper_bound=1024,
    )
    flags.DEFINE_float(
        "min_probability",
        0.0,
        "Answers less probable than this are called unsure.",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    flags.DEFINE_string(
        "min_familiarity",
        "0",
        "Sounds less like the notes of training than this are called unsure; `auto`: "
        "what 95 % of the model's validation notes reach. 0: none.",
    )
    flags.DEFINE_bool(
        "resume",
        False,
        "Keep the answers that --out has, as csv or json, and answer what is missing. "
        "Refused where another model, --min_probability or --min_familiarity made it.",
    )
    flags.DEFINE_integer(
        "neighbours",
        0,
        "Name so many files that sound most like each file, instead of its family.",
        lower_bound=0,
    )
    flags.DEFINE_bool(
        "timeline", False, "Say what is heard from when to when instead of one answer."
    )
    flags.DEFINE_float(
        "hop",
        4.0,
        "Seconds between the windows of a timeline.",
        lower_bound=0.1,
        upper_bound=4.0,
    )


def main(arguments: list[str]) -> int:
    if not arguments:
        raise UserError("no files; give audio files, folders or patterns")
    flag = flags.FLAGS
    out = "" if flag.out == "-" else flag.out
    model = bundled.resolved(flag.model) if flag.model else bundled.folder()
    if "://" not in model and not os.path.exists(model):
        raise UserError(f"{model}: no such file or folder; an exported model expected")
    _check_combination(flag)
    asked = _asked_familiarity(flag.min_familiarity)

    from mic_tf import files
    from mic_tf.audio.finding import find_audio, warn_of_unread
    from mic_tf.serving import output, prediction
    from mic_tf.serving.classifier import Classifier
    from mic_tf.serving.doubt import Doubt

    files.register_file_systems(model, out)
    paths = list(find_audio(_with_standard_input(arguments)))
    if not paths:
        raise UserError("-: no files on standard input; a name on each line expected")
    for folder in filter(os.path.isdir, arguments):
        warn_of_unread(folder)
    output.check(out)  # Before the model is read; the files are looked at then.
    classifier = Classifier.load(model)
    least = _min_familiarity(asked, classifier.contract.min_familiarity)
    options = prediction.Options(
        layout=flag.format,
        out=out,
        batch_size=flag.batch_size,
        doubt=Doubt(flag.min_probability, least),
        hop_seconds=flag.hop,
        resume=flag.resume,
        neighbours=flag.neighbours,
    )
    run = prediction.predict
    if flag.timeline:
        run = prediction.predict_timelines
    elif flag.neighbours:
        run = prediction.predict_neighbours
    wrong = run(classifier, paths, options)
    return command.EXIT_USER_ERROR if wrong else command.EXIT_OK


def _check_combination(flag: flags.FlagValues) -> None:
    """Refuses flags that are no number, or say nothing together."""
    for name, bounds in {"hop": "0.1 to 4", "min_probability": "0 to 1"}.items():
        if math.isnan(flag[name].value):  # absl's bounds let it through.
            raise UserError(f"--{name}=nan: a number from {bounds} expected")
    if flag.timeline and flag.neighbours:
        raise UserError("--timeline, --neighbours: give one of the two")
    if flag.format == "audacity" and not flag.timeline:
        raise UserError("--format=audacity: needs --timeline")
    if flag.neighbours and _asks_for_doubt(flag):
        raise UserError(
            "--min_probability, --min_familiarity: say nothing with --neighbours, "
            "which names no family"
        )
    if flag["hop"].present and not flag.timeline:
        raise UserError("--hop: needs --timeline")
    if flag.resume and (flag.timeline or flag.neighbours or flag.out in ("", "-")):
        raise UserError("--resume: needs --out, without --timeline or --neighbours")


def _asks_for_doubt(flag: flags.FlagValues) -> bool:
    return flag["min_probability"].present or flag["min_familiarity"].present


def _asked_familiarity(asked: str) -> float | None:
    """The threshold that is asked for; None: the model's own."""
    if asked == "auto":
        return None
    try:
        value = float(asked)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise UserError(
            f"--min_familiarity={asked}: a number from 0 to 1 or auto expected"
        )
    return value


def _min_familiarity(asked: float | None, of_model: float | None) -> float:
    """The threshold that is meant; 0 where none is."""
    if asked == 0:
        return 0.0
    if of_model is None:
        name = "auto" if asked is None else f"{asked:g}"
        raise UserError(
            f"--min_familiarity={name}: this model does not tell; export it with "
            "--familiarity"
        )
    if asked is None:
        logging.info("--min_familiarity=%.4f", of_model)
    return of_model if asked is None else asked


def _with_standard_input(arguments: list[str]) -> Iterator[str]:
    """The arguments, with the lines of standard input in place of `-`."""
    if "-" in arguments:
        if sys.stdin is None:
            raise UserError("-: standard input is closed; a name on each line expected")
        # A name may hold any byte but that of the end of a line.
        sys.stdin.reconfigure(errors="surrogateescape", newline="\n")
    for argument in arguments:
        if argument != "-":
            yield argument
            continue
        for line in sys.stdin:
            if "\0" in line:
                raise UserError(
                    "-: zero bytes on standard input, as of `find -print0`; a name on "
                    "each line expected"
                )
            if line.strip():
                yield line.rstrip("\r\n")


def cli() -> None:
    define_flags()
    command.run(main)


if __name__ == "__main__":
    cli()
