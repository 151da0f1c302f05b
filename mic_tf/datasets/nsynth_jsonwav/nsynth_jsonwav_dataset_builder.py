"""TFDS builder over NSynth's jsonwav archives or their unpacked folders."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import logging

from mic_tf.datasets import schema
from mic_tf.datasets.note_builder import Example, NoteBuilder
from mic_tf.datasets.nsynth_jsonwav import entries, sources, waves
from mic_tf.errors import UserError
from mic_tf.taxonomy import FAMILIES, NSYNTH_SPLIT_NOTES


class Builder(NoteBuilder):
    """NSynth's notes from its jsonwav archives (Engel et al. 2017, CC BY 4.0)."""

    FAMILIES = FAMILIES

    def __init__(self, *, source: str = "", **kwargs: Any):
        """Takes the folder that holds the archives, beside what `NoteBuilder` takes."""
        self._source = source
        self._refused: dict[str, frozenset[str]] = {}
        super().__init__(**kwargs)

    def settings(self) -> dict[str, Any]:
        return {source.split: source.signature() for source in self._splits.values()}

    def note_counts(self) -> dict[str, int]:
        return {split: len(table) for split, table in self._entries.items()}

    @functools.cached_property
    def _splits(self) -> dict[str, sources.Source]:
        if not self._source:
            raise UserError("nsynth_jsonwav needs --source=FOLDER with the archives")
        return {source.split: source for source in sources.find(self._source)}

    @functools.cached_property
    def _entries(self) -> dict[str, dict[str, entries.Entry]]:
        """Tables of examples.json by split; about 100 MB for all of NSynth."""
        tables = {}
        for split, source in self._splits.items():
            origin = source.origin(f"nsynth-{split}/examples.json")
            table, refused = entries.parse(
                source.examples_json(), origin, self.problems
            )
            self._refused[split] = refused
            if not table:
                raise UserError(f"{origin}: no usable entry in it")
            logging.info(
                "%s: %s of NSynth's published %s notes",
                source.path,
                f"{len(table):,}",
                f"{NSYNTH_SPLIT_NOTES[split]:,}",
            )
            tables[split] = table
        return tables

    def _split_generators(self, dl_manager):
        schema.set_names(
            self.info.features,
            {e.instrument for table in self._entries.values() for e in table.values()},
        )
        return super()._split_generators(dl_manager)

    def _notes(self, split: str) -> Iterator[Example]:
        source, table = self._splits[split], self._entries[split]
        seen: set[str] = set()
        for name, content in source.waves(self.problems):
            origin = source.origin(f"nsynth-{split}/audio/{name}.wav")
            if name in self._refused[split]:
                continue
            if name in seen:
                self.problems.report(origin, "is there twice")
            elif name not in table:
                self.problems.report(origin, "has no entry in examples.json")
            else:
                seen.add(name)
                try:
                    yield name, to_record(name, table[name], waves.decode(content))
                except UserError as error:
                    self.problems.report(origin, str(error))
        origin = source.origin(f"nsynth-{split}/examples.json")
        for name in table:
            if name not in seen:
                self.problems.report(f"{origin}: {name}", "the entry has no audio file")


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
