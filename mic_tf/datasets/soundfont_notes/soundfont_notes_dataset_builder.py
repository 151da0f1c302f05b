"""TFDS builder that renders SoundFonts note by note, as NSynth was made."""

import collections
import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from mic_tf.datasets import schema
from mic_tf.datasets.note_builder import Example, NoteBuilder
from mic_tf.datasets.problems import Problems
from mic_tf.datasets.soundfont_notes import planning, rendering
from mic_tf.errors import UserError
from mic_tf.taxonomy import FAMILIES, NSYNTH_FAMILY_NOTES

DEFAULT_TRAIN_NOTES = 12_000

_SILENT_PEAK = 10
"""int16 value below which a render counts as silent: -70 dB of full scale."""


_NOTES_AT_ONCE = 64
"""Notes that one process renders before it may be another one's turn."""


class Builder(NoteBuilder):
    """Notes rendered from SoundFonts in NSynth's families and proportions."""

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES = {
        "2.0.0": "Without free reeds, timpani and banks that are no variations of GS.",
        "1.0.0": "General MIDI's groups as they are, all banks.",
    }
    FAMILIES = FAMILIES

    def __init__(
        self,
        *,
        soundfonts: Sequence[str] = (),
        train_notes: int = DEFAULT_TRAIN_NOTES,
        seed: int = 0,
        uniform: bool = False,
        **kwargs: Any,
    ):
        """Takes what `NoteBuilder` takes, and what is rendered.

        Args:
          soundfonts: paths of SF2 or SF3 files; none: TimGM6mb.
          train_notes: notes in train; valid and test get an eighth each.
          seed: chooses the notes and deals the instruments to the splits.
          uniform: as many notes of each family, instead of NSynth's proportions.
          **kwargs: for `NoteBuilder`.
        """
        self._soundfont_paths = tuple(soundfonts)
        self._train_notes = train_notes
        self._seed = seed
        self._uniform = uniform
        super().__init__(**kwargs)

    def settings(self) -> dict[str, Any]:
        return {
            "soundfonts": {
                os.path.basename(path): rendering.digest(path) for path in self._paths
            },
            "train_notes": self._train_notes,
            "seed": self._seed,
            "uniform": self._uniform,
        }

    def note_counts(self) -> dict[str, int]:
        return {split: len(notes) for split, notes in self._plan.items()}

    @functools.cached_property
    def _paths(self) -> tuple[str, ...]:
        paths = self._soundfont_paths or (rendering.default_path(),)
        stems = collections.Counter(map(rendering.stem, paths))
        if max(stems.values()) > 1:
            raise UserError("--soundfont: two files of the same name; rename one")
        return paths

    @functools.cached_property
    def _soundfonts(self) -> dict[str, rendering.SoundFont]:
        return {path: _loaded(path) for path in self._paths}

    @functools.cached_property
    def _plan(self) -> dict[str, list[planning.PlannedNote]]:
        instruments = [i for s in self._soundfonts.values() for i in s.instruments]
        if not instruments:
            raise UserError(
                f"--soundfont={','.join(self._paths)}: has none of the General MIDI "
                "programs that belong to NSynth's families"
            )
        weights = dict.fromkeys(FAMILIES, 1.0) if self._uniform else NSYNTH_FAMILY_NOTES
        return planning.plan(instruments, self._train_notes, self._seed, weights)

    def _name_labels(self) -> None:
        notes = [note for notes in self._plan.values() for note in notes]
        schema.set_names(self.info.features, {n.instrument.name for n in notes})

    def _sources(self, split: str) -> list["PlannedNotes"]:
        notes = self._plan[split]
        starts = range(0, len(notes), _NOTES_AT_ONCE)
        return [PlannedNotes(tuple(notes[i : i + _NOTES_AT_ONCE])) for i in starts]

    def _tell_made(self, split: str, notes: int) -> None:
        silent = len(self._plan[split]) - notes
        if silent:
            logging.info("%s: %d silent notes left out", split, silent)


@dataclasses.dataclass(frozen=True)
class PlannedNotes:
    """Notes that one process renders."""

    planned: tuple[planning.PlannedNote, ...]

    def notes(self, problems: Problems) -> Iterator[Example]:
        """Yields key and record of each note that sounds."""
        del problems
        for note in self.planned:
            audio = _loaded(note.instrument.soundfont).render(note)
            if np.abs(audio).max() >= _SILENT_PEAK:
                yield note.id, to_record(note, audio)


@functools.lru_cache(maxsize=8)
def _loaded(path: str) -> rendering.SoundFont:
    """A SoundFont, loaded once in each process."""
    return rendering.SoundFont(path)


def to_record(note: planning.PlannedNote, audio: np.ndarray) -> dict[str, Any]:
    """The record of one rendered note; `audio` is int16 [64000]."""
    return schema.record(
        note.id,
        audio,
        instrument=note.instrument.name,
        family=note.instrument.family,
        source=note.instrument.source,
        pitch=note.pitch,
        velocity=note.velocity,
    )
