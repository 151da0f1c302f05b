"""TFDS builder over NSynth's jsonwav archives or their unpacked folders."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import logging

from mic_tf.datasets import schema
from mic_tf.datasets.note_builder import Example, NoteBuilder
from mic_tf.datasets.nsynth_jsonwav import entries, sources, waves
from mic_tf.datasets.problems import Problems
from mic_tf.errors import UserError
from mic_tf.taxonomy import FAMILIES, NSYNTH_SPLIT_NOTES


class Builder(NoteBuilder):
    """NSynth's notes from its jsonwav archives (Engel et al. 2017, CC BY 4.0)."""

    FAMILIES = FAMILIES

    def __init__(self, *, source: str = "", **kwargs: Any):
        """Takes the folder that holds the archives, beside what `NoteBuilder` takes."""
        self._source = source
        super().__init__(**kwargs)

    def settings(self) -> dict[str, Any]:
        return {source.split: source.signature() for source in self._splits.values()}

    def note_counts(self) -> dict[str, int]:
        return {split: len(table) for split, (table, _) in self._entries.items()}

    @functools.cached_property
    def _splits(self) -> dict[str, sources.Source]:
        if not self._source:
            raise UserError("nsynth_jsonwav needs --source=FOLDER with the archives")
        return {source.split: source for source in sources.find(self._source)}

    @functools.cached_property
    def _entries(self) -> dict[str, "Entries"]:
        """What examples.json has, by split; about 100 MB for all of NSynth."""
        tables = {}
        for split, source in self._splits.items():
            table, refused = _read_entries(source, self.problems)
            if not table:
                raise UserError(f"{_examples(source)}: no usable entry in it")
            tables[split] = table, refused
        return tables

    def _name_labels(self) -> None:
        tables = [table for table, _ in self._entries.values()]
        schema.set_names(
            self.info.features,
            {e.instrument for t in tables for e in t.values()},
        )

    def _sources(self, split: str) -> list["NotesOfSplit"]:
        return [NotesOfSplit(self._splits[split], self._entries[split])]

    def _tell_made(self, split: str, notes: int) -> None:
        published = NSYNTH_SPLIT_NOTES[split]
        level = logging.INFO if notes == published else logging.WARNING
        text = "%s: %s of NSynth's published %s notes"
        path = self._splits[split].path
        logging.log(level, text, path, f"{notes:,}", f"{published:,}")


Entries = tuple[dict[str, entries.Entry], frozenset[str]]
"""The usable entries of an examples.json, and the names of the others."""


class NotesOfSplit:
    """A split's archive or folder, which is read from its beginning to its end."""

    def __init__(self, source: sources.Source, known: Entries | None = None):
        self._source = source
        self._known = known

    def __reduce__(self):
        # Another process reads the entries itself: they are too many to be sent.
        return NotesOfSplit, (self._source,)

    def notes(self, problems: Problems) -> Iterator[Example]:
        """Yields key and record of each note in the order of the source."""
        source = self._source
        table, refused = self._known or _read_entries(source, Problems(skip=True))
        seen: set[str] = set()
        for name, content in source.waves(problems):
            origin = source.origin(f"nsynth-{source.split}/audio/{name}.wav")
            if name in refused:
                continue
            if name in seen:
                problems.report(origin, "is there twice")
            elif name not in table:
                problems.report(origin, "has no entry in examples.json")
            else:
                seen.add(name)
                try:
                    yield name, to_record(name, table[name], waves.decode(content))
                except UserError as error:
                    problems.report(origin, str(error))
        for name in table:
            if name not in seen:
                where = f"{_examples(source)}: {name}"
                problems.report(where, "the entry has no audio file")


def _examples(source: sources.Source) -> str:
    return source.origin(f"nsynth-{source.split}/examples.json")


def _read_entries(source: sources.Source, problems: Problems) -> Entries:
    return entries.parse(source.examples_json(), _examples(source), problems)


def to_record(name: str, entry: entries.Entry, samples: np.ndarray) -> dict[str, Any]:
    """The record of one note; `samples` is int16 [64000]."""
    return schema.record(
        name,
        samples,
        instrument=entry.instrument,
        family=entry.family,
        source=entry.source,
        pitch=entry.pitch,
        velocity=entry.velocity,
        qualities=entry.qualities,
    )
