"""Notes that a run was trained on, for what an export takes from them."""

import numpy as np
from absl import logging

from mic_tf.datasets import catalogue
from mic_tf.errors import UserError
from mic_tf.evaluation import evaluator, heard, metrics
from mic_tf.evaluation.mistakes import embedded
from mic_tf.pipeline import batches, splits
from mic_tf.pipeline.batches import Records
from mic_tf.pipeline.splits import Partition
from mic_tf.serving.familiarity import Familiarity
from mic_tf.training import training_data, workfolder

_MOST_KNOWN = 1_500
_MOST_MEASURED = 1_000


def representative_notes(
    run: workfolder.TrainedRun, data_dir: str = "", count: int = 200
) -> list[np.ndarray]:
    """Some notes that a run was trained on, evenly from all of them.

    Args:
      run: the trained run.
      data_dir: folder of the prepared data sets; empty: the run's.
      count: how many notes at most.

    Returns:
      Waveforms, float32 [64000] in [-1, 1].

    Raises:
      UserError: the data set is not there.
    """
    records, partition, _ = _opened(run, data_dir)
    selected = splits.evenly(partition.part("train"), count)
    found = batches.evaluation_batches(records, selected, batch_size=1)
    return [
        wave[0].astype(np.float32) / 32768 for wave, *_ in found.as_numpy_iterator()
    ]


def familiarity(
    run: workfolder.TrainedRun, data_dir: str = ""
) -> tuple[Familiarity, float]:
    """What the training notes of a run look like to it.

    Args:
      run: the trained run.
      data_dir: folder of the prepared data sets; empty: the run's.

    Returns:
      Embeddings of at most 1,500 training notes, as many of each data set, and the
      threshold that keeps 95 % of the validation notes.

    Raises:
      UserError: a data set is not there, or there are no validation notes.
    """
    records, partition, name = _opened(run, data_dir)
    valid = np.flatnonzero(partition.parts.get("valid", np.zeros(0)))
    if not len(valid):
        raise UserError(
            f"--familiarity: the run has no validation notes under its "
            f"{partition.protocol} protocol to take the threshold from"
        )
    subject = evaluator.subject_of_run(run)
    folder = data_dir or run.settings.data.data_dir
    training = heard.in_training(
        subject, records, name, partition, [folder], earlier=False
    )
    for missing, reason in training.missing.items():
        raise UserError(f"{missing}: {reason}")
    share = _MOST_KNOWN // len(training.heard)
    known = [
        embedded(each.records, rows, subject.embedding)[1]
        for one in training.heard
        for each, rows in heard.some_heard([one], share)
    ]
    found = Familiarity(np.concatenate(known))
    valid = valid[:: -(-len(valid) // _MOST_MEASURED)]
    _, vectors = embedded(records, valid, subject.embedding)
    threshold = metrics.keeping(found.of(vectors))
    if not threshold:
        raise UserError(
            "--familiarity: validation notes are unlike all training notes to this "
            "model; train it for longer"
        )
    logging.info(
        "familiarity: %d training notes; 95 %% of %d validation notes reach %.3f",
        len(found),
        len(valid),
        threshold,
    )
    return found, threshold


def _opened(
    run: workfolder.TrainedRun, data_dir: str
) -> tuple[Records, Partition, str]:
    """The run's main data set, its division, and its full name."""
    data = run.settings.data
    builder = catalogue.load_builder(data.dataset, data_dir or data.data_dir)
    records = batches.open_records(builder, skip_bad=data.skip_bad)
    divided = training_data.divide(run.settings, records)
    return records, divided, builder.info.full_name
