"""What our three TFDS builders have in common."""

import abc
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core import writer as tfds_writer
from tqdm.auto import tqdm

from mic_tf import files
from mic_tf.datasets import beam_options, schema
from mic_tf.datasets.problems import Problems
from mic_tf.errors import UserError

if TYPE_CHECKING:
    from mic_tf.datasets.beam_writing import NoteSource

LEFT_OUT_FILE = "left_out.csv"

Example = tuple[str, dict[str, Any]]


class NoteBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A builder of notes in our schema.

    The settings that a prepared set was made with are kept in its metadata, and what
    was left out beside it, so that a set is never taken for another one.

    Attributes:
      problems: notes that were left out in this preparation.
    """

    VERSION = tfds.core.Version("1.0.0")
    FAMILIES: tuple[str, ...] | None = None

    def __init__(
        self, *, skip_bad: bool = False, beam: str | None = None, **kwargs: Any
    ):
        """Takes what TFDS builders take.

        Args:
          skip_bad: leave out notes that cannot be used, instead of ending.
          beam: make the records with Apache Beam, under these options.
          **kwargs: `data_dir`, `config` and so on.

        Raises:
          UserError: Beam is asked for and not installed, or an option is wrong.
        """
        self._beam_options = None
        if beam is not None:
            self._beam_options = beam_options.pipeline_options(
                beam, "--beam makes records", instead="leave --beam out"
            )
        self.problems = Problems(skip_bad)
        self._writing: tqdm | None = None
        super().__init__(**kwargs)

    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """What the records depend on, as JSON values; found out without all the audio.

        Raises:
          UserError: the source is missing.
        """

    @abc.abstractmethod
    def note_counts(self) -> dict[str, int]:
        """Notes of each split, before bad ones are left out; may be an estimate.

        Raises:
          UserError: the source cannot be read or lacks something.
        """

    @abc.abstractmethod
    def _name_labels(self) -> None:
        """Fills in the label names of `info.features`."""

    @abc.abstractmethod
    def _sources(self, split: str) -> "list[NoteSource]":
        """The parts of a split, each of which one process can make."""

    def _notes(self, split: str) -> Iterator[Example]:
        """Yields key and record of each note of a split."""
        for source in self._sources(split):
            yield from source.notes(self.problems)

    def _tell_made(self, split: str, notes: int) -> None:
        """Takes note of how many records a split has."""

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=schema.features(self.FAMILIES),
            supervised_keys=None,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[Example]]:
        del dl_manager
        self._name_labels()
        return {
            split: self._generate_examples(split, notes)
            for split, notes in self.note_counts().items()
        }

    def _generate_examples(self, split: str, expected: int) -> Iterator[Example]:
        made = 0
        with _bar(f"{split}: making records", expected) as bar:
            for key, example in self._notes(split):
                made += 1
                bar.update()
                yield key, example
        if not made:
            raise UserError(
                f"{self.name}: no usable note in split {split}"
                f" ({len(self.problems)} left out)"
            )
        self._tell_made(split, made)
        self._writing = _bar(f"{split}: writing records", made)

    def _generate_splits(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig,
    ) -> Sequence[tfds.core.SplitInfo]:
        if self._beam_options is None:
            return super()._generate_splits(dl_manager, download_config)
        from mic_tf.datasets import beam_writing

        self._name_labels()
        splits = [
            beam_writing.Split(
                name,
                self._sources(name),
                self._get_filename_template(split_name=name),
                self.info.file_format,
            )
            for name in self.note_counts()
        ]
        logging.info("making records with Apache Beam")
        found = beam_writing.write(
            splits,
            self.info.features,
            self.problems,
            self._beam_options,
            download_config.get_shard_config(),
        )
        for split in found:
            self._tell_made(split.name, split.num_examples)
        return found

    def _example_writer(self) -> tfds_writer.ExampleWriter:
        return _ShownWriter(self)

    def written(self) -> None:
        """Moves the bar of the split that is being written by one record."""
        if self._writing is not None:
            self._writing.update()
            if self._writing.n == self._writing.total:
                self._writing.close()

    def _create_builder_config(self, builder_config, version):
        # TFDS would warn that a label is no configuration of its list.
        del version
        return builder_config

    def _download_and_prepare(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig,
    ) -> None:
        super()._download_and_prepare(dl_manager, download_config)
        # Here data_dir is still the temporary folder: set, settings and list appear
        # together or not at all.
        self.info.metadata["settings"] = self.settings()
        self.info.metadata["left_out"] = len(self.problems)
        self.problems.write(files.join(str(self.data_dir), LEFT_OUT_FILE))

    def _log_download_bytes(self) -> None:
        """Sizes are said before the builder starts."""

    def _log_download_done(self) -> None:
        """The table of notes follows."""


class _ShownWriter(tfds_writer.ExampleWriter):
    """TFDS's writer, with a bar that has room for itself."""

    def __init__(self, builder: NoteBuilder):
        super().__init__(file_format=builder.info.file_format)
        self._builder = builder

    def write(self, path: Any, examples: Iterable[Any]) -> Any:
        return super().write(path, self._shown(examples))

    def _shown(self, examples: Iterable[Any]) -> Iterator[Any]:
        for example in examples:
            yield example
            self._builder.written()


def _bar(purpose: str, total: int) -> tqdm:
    return tqdm(total=total, desc=purpose, unit="note", mininterval=1.0)
