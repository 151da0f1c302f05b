"""Names of data sets; importing this imports nothing heavy."""

import dataclasses
import re

from mic_tf.errors import UserError

OWN = ("nsynth_jsonwav", "soundfont_notes", "sample_folder")
NSYNTH_CONFIGS = ("full", "gansynth_subset")

VERSION = re.compile(r"\d+\.\d+\.\d+")
"""What the folder of a version is called."""

_CONFIG = re.compile(r"[\w.-]+")


@dataclasses.dataclass(frozen=True)
class DatasetName:
    """A data set's name as flags give it: `dataset[/config][:version]`.

    Attributes:
      dataset: the builder.
      config: for `nsynth` TFDS's configuration; for our builders a name of one's own
        that keeps several preparations apart, or empty.
      version: as `1.0.0`, or empty for the newest there is.
    """

    dataset: str
    config: str
    version: str

    def __str__(self) -> str:
        config = f"/{self.config}" if self.config else ""
        return f"{self.dataset}{config}" + (f":{self.version}" if self.version else "")


def known_names() -> tuple[str, ...]:
    """The names that can be prepared and loaded."""
    return (*(f"nsynth/{config}" for config in NSYNTH_CONFIGS), *OWN)


def without_version(full_name: str) -> str:
    """TFDS's full name of a data set, as `soundfont_notes/open/1.0.0`, without that."""
    return full_name.rsplit("/", maxsplit=1)[0]


def parse_name(name: str, flag: str = "dataset") -> DatasetName:
    """Takes a name, given by this flag, apart.

    Raises:
      UserError: no such data set; names the known ones.
    """
    path, _, version = name.partition(":")
    dataset, _, config = path.partition("/")
    known = (dataset == "nsynth" and config in NSYNTH_CONFIGS) or (
        dataset in OWN and (not config or _CONFIG.fullmatch(config))
    )
    if not known or path.endswith("/"):
        raise UserError(
            f"--{flag}={name}: not a known data set; known are "
            f"{', '.join(known_names())} (ours also as NAME/LABEL)"
        )
    if not config.strip(".") and config or VERSION.fullmatch(config):
        raise UserError(
            f"--{flag}={name}: no label; a version stands behind a colon, as "
            f"{dataset}:1.0.0"
        )
    if ":" in name and not VERSION.fullmatch(version):
        raise UserError(f"--{flag}={name}: version {version!r} is not like 1.0.0")
    return DatasetName(dataset, config, version)
