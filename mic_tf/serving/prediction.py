"""One run over many files: answers become lines, with progress on the way."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import tqdm
from absl import logging

from mic_tf.errors import UserError
from mic_tf.serving import neighbours, output, resuming, rows, timeline
from mic_tf.serving.classifier import Answer, Classifier
from mic_tf.serving.doubt import NEVER, Doubt

_RESUMABLE = (rows.Csv, rows.Json)


@dataclasses.dataclass(frozen=True)
class Options:
    """How a run is done.

    Attributes:
      layout: one of `rows.FORMATS`; for timelines one of `timeline.LAYOUTS`.
      out: the file to write; empty: standard output.
      batch_size: windows classified at once.
      doubt: which answers are called unsure.
      hop_seconds: distance between the windows of a timeline.
      resume: whether to keep the answers that `out` has already.
      neighbours: how many similar files to name for each file.
    """

    layout: str = "table"
    out: str = ""
    batch_size: int = 32
    doubt: Doubt = NEVER
    hop_seconds: float = 4.0
    resume: bool = False
    neighbours: int = 0


Run = Callable[[Classifier, Sequence[str], Options], int]


def _alone(run: Run) -> Run:
    """Makes sure that a run may write its result, and that no other does meanwhile."""

    @functools.wraps(run)
    def alone(classifier: Classifier, paths: Sequence[str], options: Options) -> int:
        output.check(options.out, paths)
        with output.only_one(options.out):
            return run(classifier, paths, options)

    return alone


@_alone
def predict(classifier: Classifier, paths: Sequence[str], options: Options) -> int:
    """Writes one line for each file.

    Returns:
      How many files could not be answered.

    Raises:
      UserError: the result cannot be written, or not be resumed.
    """
    layout = rows.layout(options.layout, classifier.labels, paths)
    made_by = resuming.origin(classifier.fingerprint, options.doubt)
    kept = _earlier(layout, options.out, made_by, paths) if options.resume else []
    missing = resuming.beyond(paths, kept, str)

    def found() -> Iterator[rows.Row]:
        for path, answer in classifier.classify_files(missing, options.batch_size):
            if isinstance(answer, Answer) and not layout.says_channels:
                _say_channels(path, answer.channels)
            yield rows.row_of(path, answer, options.doubt)

    return _write(
        _with_progress(found(), len(missing), options),
        layout,
        options,
        len(paths),
        kept,
        made_by if isinstance(layout, _RESUMABLE) else None,
    )


def _earlier(
    layout: rows.Layout, out: str, made_by: resuming.Origin, paths: Sequence[str]
) -> list[rows.Row]:
    """What is kept of a result, or of what a stopped run left of one.

    All answers, and the errors of files that are not asked for now.
    """
    if not out or not isinstance(layout, _RESUMABLE):
        raise UserError("--resume: needs --out and --format=csv or --format=json")
    found = resuming.earlier(out, made_by, layout.rows_of)
    asked = set(paths)
    kept = [row for row in found if not row.error or row.file not in asked]
    errors = sum(bool(row.error) for row in kept)
    logging.info("%s: %d answers are kept", out, len(kept) - errors)
    if errors:
        logging.info("%s: so are the errors of %d files not named now", out, errors)
    return kept


@_alone
def predict_timelines(
    classifier: Classifier, paths: Sequence[str], options: Options
) -> int:
    """Writes the segments of each file.

    Returns:
      How many files could not be answered to their end.

    Raises:
      UserError: the result cannot be written, or an Audacity label track was asked
        for several files.
    """
    if options.layout == "audacity" and len(paths) != 1:
        raise UserError(
            f"--format=audacity: {len(paths)} files; one expected, as a label track "
            "belongs to one recording"
        )

    def found() -> Iterator[timeline.Segment]:
        for path in _with_progress(paths, len(paths), options):
            yield from timeline.segments(
                classifier,
                path,
                hop_seconds=options.hop_seconds,
                batch_size=options.batch_size,
                doubt=options.doubt,
                on_channels=lambda channels, path=path: _say_channels(path, channels),
            )

    layout = timeline.LAYOUTS[options.layout]()
    return _write(found(), layout, options, len(paths))


@_alone
def predict_neighbours(
    classifier: Classifier, paths: Sequence[str], options: Options
) -> int:
    """Writes the most similar other files of each file.

    Returns:
      How many files could not be answered.

    Raises:
      UserError: the result cannot be written.
    """
    answers = classifier.classify_files(paths, options.batch_size)
    known = []
    for path, answer in _with_progress(answers, len(paths), options):
        if isinstance(answer, Answer):
            _say_channels(path, answer.channels)
        known.append((path, answer))
    found = neighbours.neighbours(known, options.neighbours)
    layout = neighbours.LAYOUTS[options.layout]()
    return _write(found, layout, options, len(paths))


def _say_channels(path: str, channels: int) -> None:
    """One line on standard error for a file that is not mono."""
    if channels > 1:
        line = f"{rows.printable(path)}: {rows.channels_in_words(channels)}"
        tqdm.tqdm.write(line, file=sys.stderr)


def _write(
    found: Iterable[Any],
    layout: rows.Layout,
    options: Options,
    number_of_files: int,
    kept: Sequence[rows.Row] = (),
    made_by: resuming.Origin | None = None,
) -> int:
    wrong = 0
    with output.lines_to(
        options.out,
        layout.head + "".join(map(layout.line, kept)),
        made_by,
        goes_on=options.resume,
        for_people=layout.for_people,
    ) as write:
        try:
            for row in found:
                write(layout.line(row))
                wrong += bool(row.error)
        finally:
            write(layout.tail)
    if wrong:
        message = f"{wrong} of {number_of_files} files could not be answered"
        print(message, file=sys.stderr)
    return wrong


def _with_progress(items: Iterable[Any], total: int, options: Options) -> Iterator[Any]:
    """A progress bar on the terminal, unless the rows themselves appear there."""
    rows_on_screen = not options.out and sys.stdout.isatty()
    hidden = rows_on_screen or not sys.stderr.isatty()
    yield from tqdm.tqdm(items, total=total, unit="file", disable=hidden)
