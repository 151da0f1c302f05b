"""What our three TFDS builders have in common."""

import abc
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core import writer as tfds_writer
from tqdm.auto import tqdm

from mic_tf import files
from mic_tf.datasets import schema
from mic_tf.datasets.problems import Problems
from mic_tf.errors import UserError

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

    def __init__(self, *, skip_bad: bool = False, **kwargs: Any):
        """Takes what TFDS builders take.

        Args:
          skip_bad: leave out notes that cannot be used, instead of ending.
          **kwargs: `data_dir`, `config` and so on.
        """
        self.problems = Problems(skip_bad)
        self._writing: tqdm | None = None
        super().__init__(**kwargs)

    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """What the records depend on, as JSON values; cheap to find out.

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
    def _notes(self, split: str) -> Iterator[Example]:
        """Yields key and record of each note of a split."""

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
        self._writing = _bar(f"{split}: writing records", made)

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
