"""Notes of known family for the programs that measure an exported model.

Their flags `--model --dataset --data_dir --split --count` are defined here.
"""

import dataclasses

import numpy as np
from absl import flags

from mic_tf.errors import UserError
from mic_tf.taxonomy import SAMPLE_RATE

MODEL = flags.DEFINE_string("model", "", "Exported model, or the run it lies in.")
DATASET = flags.DEFINE_string("dataset", "", "Data set; default: the model's.")
DATA_DIR = flags.DEFINE_string(
    "data_dir", "~/tensorflow_datasets", "Folder of the prepared data sets."
)
SPLIT = flags.DEFINE_string("split", "valid", "Part of the model's division of it.")
COUNT = flags.DEFINE_integer(
    "count", 0, "Notes at most, evenly from all of them; 0: all.", lower_bound=0
)

_FADE = SAMPLE_RATE // 20


@dataclasses.dataclass(frozen=True)
class Notes:
    """Notes of known family.

    Attributes:
      waveforms: int16 [notes, 64000] at 16 kHz.
      families: name of each note's family.
      ids: of the notes.
      words: where they are from.
    """

    waveforms: np.ndarray
    families: list[str]
    ids: list[str]
    words: str


def beginning(waveform: np.ndarray, samples: int) -> np.ndarray:
    """The first samples of a note, faded out over the last 50 ms.

    Args:
      waveform: int16 [64000].
      samples: how many, 800 or more.

    Returns:
      float32 [samples] in [-1, 1].
    """
    note = waveform[:samples].astype(np.float32) / 32768
    note[-_FADE:] *= np.linspace(1, 0, _FADE, dtype=np.float32)
    return note


def is_silence(waveform: np.ndarray) -> bool:
    """Whether an int16 waveform would be called silence at half its level."""
    from mic_tf.audio import waveforms

    return waveforms.is_silent(waveform.astype(np.float32) / 65536)


def notes_of_flags() -> Notes:
    """The notes that the flags ask for, but for those that no model is asked about.

    Raises:
      UserError: no model, no such data set, or no notes in the part.
    """
    if not MODEL.value:
        raise UserError("--model: missing; give an exported model")

    from mic_tf.datasets import catalogue
    from mic_tf.evaluation import division
    from mic_tf.pipeline import batches, splits
    from mic_tf.serving import evaluation_subject

    subject = evaluation_subject.of_export(MODEL.value)
    dataset = DATASET.value or subject.trained_on["settings"]["dataset"]
    builder = catalogue.load_builder(dataset, DATA_DIR.value)
    skip_bad = subject.trained_on.get("settings", {}).get("skip_bad", False)
    records = batches.open_records(builder, skip_bad=skip_bad)
    name = builder.info.full_name
    partition, words = division.partition_for(subject.trained_on, records, name)
    partition, words = division.of_part(partition, words, SPLIT.value)
    selected = splits.evenly(partition.part(SPLIT.value), COUNT.value)
    if not selected.any():
        raise UserError(f"--split={SPLIT.value}: no notes of {name} in it")
    waveforms, families, ids, silent = [], [], [], 0
    for waveform, family, _, row in batches.evaluation_batches(
        records, selected, batch_size=1
    ).as_numpy_iterator():
        if is_silence(waveform[0]):
            silent += 1
            continue
        waveforms.append(waveform[0])
        families.append(records.index.families[family[0]])
        ids.append(str(records.index.ids[row[0]]))
    if not waveforms:
        raise UserError(f"--split={SPLIT.value}: no notes of {name} in it but silence")
    words = f"{name} {SPLIT.value} ({words})"
    words += f", {silent} silent ones left out" if silent else ""
    return Notes(np.stack(waveforms), families, ids, words)
