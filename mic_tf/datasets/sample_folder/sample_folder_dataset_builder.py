"""TFDS builder over a person's own recordings, one record for each 4 s window.

Windows in which nothing is to be heard are left out: they are of no class.
"""

import dataclasses
import functools
import hashlib
import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from mic_tf import taxonomy
from mic_tf.audio import reading, waveforms
from mic_tf.datasets import schema
from mic_tf.datasets.note_builder import Example, NoteBuilder
from mic_tf.datasets.problems import Problems
from mic_tf.datasets.sample_folder import dealing
from mic_tf.datasets.sample_folder.recordings import Recording, find
from mic_tf.errors import UserError

_MARK_BYTES = 1 << 16


class Builder(NoteBuilder):
    """Recordings sorted by class, of any format, rate and length."""

    def __init__(self, *, source: str = "", **kwargs: Any):
        """Takes a folder or a CSV file, beside what `NoteBuilder` takes."""
        self._source = source
        super().__init__(**kwargs)

    def settings(self) -> dict[str, Any]:
        listing = hashlib.sha256()
        for r in self._recordings:
            labels = (r.id, r.family, r.instrument, r.pitch, r.velocity, r.split)
            listing.update(repr(labels).encode())
            listing.update(marks_of(r.path))
        return {"files": len(self._recordings), "listing": listing.hexdigest()[:16]}

    def note_counts(self) -> dict[str, int]:
        return {
            split: sum(map(_window_count, members))
            for split, members in self._dealt.items()
        }

    @functools.cached_property
    def _recordings(self) -> list[Recording]:
        return find(self._source, self.problems)

    @functools.cached_property
    def _dealt(self) -> dict[str, list[Recording]]:
        return dealing.deal(self._recordings)

    @functools.cached_property
    def _names(self) -> dict[tuple[str, str], str]:
        return dealing.instrument_names(self._recordings)

    def _name_labels(self) -> None:
        families = {recording.family for recording in self._recordings}
        schema.set_names(
            self.info.features, self._names.values(), taxonomy.label_names(families)
        )

    def _sources(self, split: str) -> list["NotesOfFile"]:
        return [
            NotesOfFile(r, self._names[r.family, r.instrument])
            for r in self._dealt[split]
        ]


@dataclasses.dataclass(frozen=True)
class NotesOfFile:
    """A recording, and its instrument's name in the data set."""

    recording: Recording
    instrument: str

    def notes(self, problems: Problems) -> Iterator[Example]:
        """Yields key and record of each window.

        Where files may be left out each is read to its end first: all of it or nothing.
        """
        path = self.recording.path
        try:
            if problems.skip:
                _read_through(path)
            for example in to_records(self.recording, self.instrument, problems):
                yield example["id"], example
        except UserError as error:
            problems.report(path, str(error).removeprefix(f"{path}: "))


def marks_of(path: str) -> bytes:
    """By what a file is known again: its size, and its beginning, middle and end.

    A recording that was changed in place, as by another level, keeps its size; all of
    a large collection would take minutes to read. Nothing of a file that is not there.
    """
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            found = [str(size).encode()]
            for start in sorted({0, size // 2, max(size - _MARK_BYTES, 0)}):
                file.seek(start)
                found.append(file.read(_MARK_BYTES))
            return b"".join(found)
    except OSError:
        return b"?"


def to_records(
    recording: Recording, instrument: str, problems: Problems
) -> Iterator[dict[str, Any]]:
    """Yields the records of a file: one for each 4 s window that is not silent.

    Args:
      recording: the file.
      instrument: its instrument's name in the data set.
      problems: takes path and start of the other windows.

    Raises:
      UserError: the file cannot be read.
    """
    for suffix, waveform in _windows(recording.path):
        if waveforms.is_silent(waveform):
            problems.leave_out(f"{recording.path}{suffix}", "silence")
        else:
            yield _to_record(recording, instrument, suffix, waveform)


def _windows(path: str) -> Iterator[tuple[str, np.ndarray]]:
    """The windows of a file, each behind what it adds to the file's id."""
    windows = reading.windows(path)
    held = next(windows)
    for following in windows:
        yield f"#{_seconds(held[0])}", held[1]
        held = following
    yield f"#{_seconds(held[0])}" if held[0] else "", held[1]


def to_pcm(waveform: np.ndarray) -> np.ndarray:
    """A float32 waveform [samples] as int16 [64000], zeros behind a shorter one.

    One whose peak is over 1, as of floats in integer units, is scaled down to it; all
    others keep their level.
    """
    peak = waveforms.peak(waveform)
    if peak > 1.0:
        waveform = waveform / peak
    pcm = np.zeros(taxonomy.NOTE_SAMPLES, np.int16)
    pcm[: waveform.size] = np.round(waveform * 32767.0).astype(np.int16)
    return pcm


def _to_record(
    recording: Recording, instrument: str, suffix: str, waveform: np.ndarray
) -> dict[str, Any]:
    return schema.record(
        recording.id + suffix,
        to_pcm(waveform),
        instrument=instrument,
        family=recording.family,
        pitch=recording.pitch,
        velocity=recording.velocity,
    )


def _read_through(path: str) -> None:
    """Meets every fault of a file, and keeps nothing of it."""
    for _ in reading.windows(path):
        pass


def _seconds(start: float) -> str:
    # Windows may begin a sample apart, which is 0.0000625 s.
    return f"{start:.7f}".rstrip("0").rstrip(".")


def _window_count(recording: Recording) -> int:
    """Windows by the file's header; 1 where it cannot be read, which is told later."""
    try:
        seconds = reading.header(recording.path).seconds
    except UserError:
        return 1
    return max(1, math.ceil(seconds * taxonomy.SAMPLE_RATE / taxonomy.NOTE_SAMPLES))
