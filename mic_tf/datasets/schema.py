"""The one record of all our data sets: TFDS `nsynth`'s features, audio as PCM16."""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mic_tf.taxonomy import NOTE_SAMPLES, QUALITIES, SOURCES, SPLITS

UNKNOWN = -1
"""Pitch or velocity of a recording that does not say."""

RECORD_BYTES = 2 * NOTE_SAMPLES + 400
"""Bytes of one stored note, about."""


def features(families: Sequence[str] | None = None) -> tfds.features.FeaturesDict:
    """The features of a record.

    Args:
      families: label order of `instrument.family`; None where the data decides and
        `set_names` follows.

    Returns:
      TFDS `nsynth`'s structure with these differences: `audio` is int16 [64000]
      kept as bytes, `pitch` and `velocity` are int64 with -1 for unknown, `source`
      has the fourth name `unknown`.
    """
    family_label = tfds.features.ClassLabel(names=list(families) if families else None)
    return tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "audio": tfds.features.Tensor(
                shape=(NOTE_SAMPLES,),
                dtype=np.int16,
                encoding=tfds.features.Encoding.BYTES,
            ),
            "pitch": tfds.features.Scalar(dtype=np.int64),
            "velocity": tfds.features.Scalar(dtype=np.int64),
            "instrument": {
                "label": tfds.features.ClassLabel(),
                "family": family_label,
                "source": tfds.features.ClassLabel(names=list(SOURCES)),
            },
            "qualities": {
                quality: tfds.features.Scalar(dtype=np.bool_) for quality in QUALITIES
            },
        }
    )


def set_names(
    target: tfds.features.FeaturesDict,
    instruments: Iterable[str],
    families: Sequence[str] | None = None,
) -> None:
    """Fills in the label names that are known only when the source has been read.

    Args:
      target: what `features` returned.
      instruments: the instruments found, in any order.
      families: the label order, where `features` was given none.
    """
    target["instrument"]["label"].names = sorted(set(instruments))
    if families is not None:
        target["instrument"]["family"].names = list(families)


def record(
    note_id: str,
    audio: np.ndarray,
    *,
    instrument: str,
    family: str,
    source: str = "unknown",
    pitch: int = UNKNOWN,
    velocity: int = UNKNOWN,
    qualities: Sequence[bool] = (False,) * len(QUALITIES),
) -> dict[str, Any]:
    """One note as TFDS encodes it; `audio` is int16 [64000]."""
    return {
        "id": note_id,
        "audio": audio,
        "pitch": pitch,
        "velocity": velocity,
        "instrument": {"label": instrument, "family": family, "source": source},
        "qualities": dict(zip(QUALITIES, qualities, strict=True)),
    }


def is_named_after(instrument: str, file: str) -> bool:
    """Whether an instrument has its name from a file, as where nothing else names it.

    One that is named as its only file is, in a CSV file, cannot be told from that; a
    folder of the same name can.

    Args:
      instrument: its name.
      file: a recording's path with slashes, as its record's id has it.
    """
    stem = composed(os.path.splitext(file)[0])
    *folders, name = stem.split("/")
    if folders and folders[0] in SPLITS:
        del folders[0]
    if len(folders) > 1 and folders[-1] == name:
        return False
    return f"/{stem}".endswith(f"/{composed(instrument)}")


def composed(name: str) -> str:
    """A name with `ö` as one letter, which macOS and some archives write as two."""
    return unicodedata.normalize("NFC", name)
