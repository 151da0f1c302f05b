"""Long recordings: what is heard from when to when."""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from mic_tf.audio import reading, waveforms
from mic_tf.errors import UserError
from mic_tf.serving import rows
from mic_tf.serving.classifier import SILENCE, Classifier, Window
from mic_tf.serving.doubt import NEVER, Doubt
from mic_tf.taxonomy import SAMPLE_RATE


@dataclasses.dataclass(frozen=True)
class Segment:
    """A stretch of a recording with one answer.

    Attributes:
      file: as given or found.
      start: in seconds.
      end: in seconds; where the next segment starts.
      family: the answer; empty on an error.
      probability: mean over the stretch; none on an error.
      error: what is wrong with the file from here on; empty where nothing is.
    """

    file: str
    start: float = 0.0
    end: float = 0.0
    family: str = ""
    probability: float | None = None
    error: str = ""


def segments(
    classifier: Classifier,
    path: str,
    *,
    hop_seconds: float = 4.0,
    batch_size: int = 32,
    doubt: Doubt = NEVER,
    on_channels: Callable[[int], None] = lambda channels: None,
) -> Iterator[Segment]:
    """The segments of a recording, neighbouring equal answers joined.

    A window's answer counts around its middle: from the middle of what it shares with
    the window before to the middle of what it shares with the next, which is where the
    one ends and the other begins if they share nothing. Where nothing is to be heard in
    between, that is silence, whatever the rest of the window holds.

    Args:
      classifier: the model.
      path: an audio file.
      hop_seconds: distance between windows, up to 4 s.
      batch_size: windows classified at once.
      doubt: which windows are called unsure.
      on_channels: is told how many channels there are, before the first segment.

    Yields:
      Segments; the last one has the error where the file is not readable to its end.
    """
    hop_samples = round(hop_seconds * SAMPLE_RATE)
    windows = reading.windows(
        path, hop_samples, lambda header: on_channels(header.channels)
    )
    pieces = _pieces(classifier, path, windows, batch_size, doubt)
    current = None
    try:
        for piece in pieces:
            if current and current.family == piece.family:
                current = _joined(current, piece)
            else:
                if current:
                    yield current
                current = piece
    except UserError as error:
        if current:
            yield current
        end = current.end if current else 0.0
        reason = str(error).removeprefix(f"{path}: ")
        current = Segment(path, end, end, error=reason)
    if current:
        yield current


def _pieces(
    classifier: Classifier,
    path: str,
    windows: Iterable,
    batch_size: int,
    doubt: Doubt,
) -> Iterator[Segment]:
    """One segment for each window, see `segments`."""
    held: collections.deque[np.ndarray] = collections.deque()

    def kept() -> Iterator[tuple[float, np.ndarray]]:
        for start, waveform in windows:
            held.append(waveform)
            yield start, waveform

    last, start, fault = None, 0.0, None
    try:
        for window in classifier.classify_windows(kept(), batch_size):
            if last:
                end = (last.end + window.start) / 2
                yield _piece(path, last, held.popleft(), start, end, doubt)
                start = end
            last = window
    except UserError as error:
        fault = error
    if last:
        yield _piece(path, last, held.popleft(), start, last.end, doubt)
    if fault:
        raise fault


def _piece(
    path: str,
    window: Window,
    waveform: np.ndarray,
    start: float,
    end: float,
    doubt: Doubt,
) -> Segment:
    """What a window says of a part of it, from `start` to `end` in seconds."""
    first, after = (
        round((seconds - window.start) * SAMPLE_RATE) for seconds in (start, end)
    )
    if waveforms.is_silent(waveform[first:after]):
        return Segment(path, start, end, SILENCE, 1.0)
    return Segment(path, start, end, doubt.family(window), window.probability)


def _joined(first: Segment, second: Segment) -> Segment:
    seconds = first.end - first.start, second.end - second.start
    weighted = first.probability * seconds[0] + second.probability * seconds[1]
    mean = weighted / sum(seconds)
    return dataclasses.replace(first, end=second.end, probability=mean)


class Csv(rows.Layout):
    """`file,start,end,family,probability,error`."""

    head = rows.csv_line([field.name for field in dataclasses.fields(Segment)])

    def line(self, segment: Segment) -> str:
        times = [f"{segment.start:.3f}", f"{segment.end:.3f}"]
        number = segment.probability
        probability = "" if number is None else f"{number:.6f}"
        answer = [segment.family, probability, segment.error]
        return rows.csv_line([segment.file, *times, *answer])


class Audacity(rows.Layout):
    """A label track, for Audacity's File > Import > Labels."""

    def line(self, segment: Segment) -> str:
        return f"{segment.start:.3f}\t{segment.end:.3f}\t{_label(segment)}\n"


class Table(rows.Layout):
    """For people."""

    for_people = True

    def line(self, segment: Segment) -> str:
        times = f"{segment.start:9.2f} {segment.end:9.2f}"
        return f"{rows.printable(segment.file)}  {times}  {_label(segment)}\n"


LAYOUTS = {"table": Table, "csv": Csv, "json": rows.Json, "audacity": Audacity}


def _label(segment: Segment) -> str:
    if segment.error:
        return f"error: {rows.printable(segment.error)}"
    return f"{segment.family} {segment.probability:.0%}"
