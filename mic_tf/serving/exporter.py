"""From a work folder to a model that other programs use."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from mic_tf import files, settings
from mic_tf.errors import UserError
from mic_tf.model import networks
from mic_tf.serving import contract as contracts
from mic_tf.serving import familiarity as familiarities
from mic_tf.serving import tflite
from mic_tf.serving.familiarity import Familiarity
from mic_tf.serving.graph import serving_module
from mic_tf.serving.models import SAVED_MODEL
from mic_tf.taxonomy import NOTE_SAMPLES
from mic_tf.training import snapshots, starting, workfolder

LABELS = "labels.txt"

_LARGEST_DIFFERENCE = 1e-4

_FIGURES = (
    *("dataset", "split", "protocol", "n", "accuracy", "balanced_accuracy"),
    *("macro_f1", "families_present", "min_probability_keeping_95", "unfinished"),
)


def export(
    run: workfolder.TrainedRun,
    out: str,
    *,
    tflite_kinds: Sequence[str] = (),
    notes: Sequence[np.ndarray] = (),
    weights: bool = False,
    familiarity: tuple[Familiarity, float] | None = None,
    results: list[dict[str, Any]] | None = None,
) -> contracts.Contract:
    """Writes the SavedModel, TFLite files, the labels and the contract of a run.

    A reader of `out` never sees half a model: files are written under temporary
    names and renamed, and the contract, without which a model is not used, comes
    last.

    Args:
      run: the trained run.
      out: folder for the export; any file system of `tf.io.gfile`.
      tflite_kinds: which of `tflite.KINDS` to write; files of other kinds are removed.
      notes: float32 [64000] waveforms of the training split; only int8 needs them.
      weights: whether to write the trained weights too, for `train --init_from`;
        else those of an earlier export are removed.
      familiarity: of `training_notes.familiarity`; None: the model does not tell.
      results: figures of evaluations; None: those in the work folder.

    Returns:
      The contract that was written.

    Raises:
      UserError: the folder cannot be written, a model in it could not be opened, or
        something else is where weights would be.
    """
    snapshots.check_name(out)
    if weights:
        starting.check_free(files.join(out, starting.WEIGHTS))
    files.make_folder(out)
    files.remove(files.join(out, contracts.FILE_NAME))
    labels_path = files.join(out, LABELS)
    files.write_text(labels_path, "".join(f"{name}\n" for name in run.labels))
    module = serving_module(run.model, run.temperature)
    module.labels = tf.saved_model.Asset(labels_path)
    _save(module, files.join(out, SAVED_MODEL))
    _check_same_answers(files.join(out, SAVED_MODEL), run)
    for kind, name in tflite.FILE_NAMES.items():
        files.remove(files.join(out, name))
        if kind in tflite_kinds:
            content = tflite.convert(run, kind, notes)
            files.write_bytes(files.join(out, name), content)
            logging.info("%s: %.2f MB", name, len(content) / 1e6)
    run = starting.portable(run)
    _write_weights(run, files.join(out, starting.WEIGHTS), wanted=weights)
    files.remove(files.join(out, familiarities.FILE_NAME))
    if familiarity:
        familiarity[0].write(out)
    contract = contracts.Contract(
        labels=tuple(run.labels),
        embedding_width=networks.embedding(run.model).shape[1],
        temperature=float(run.temperature),
        versions=workfolder.versions(),
        training={**run.summary, "weights": run.checksum},
        results=_results(run.workdir) if results is None else results,
        settings=settings.to_dict(run.settings),
        weights=starting.WEIGHTS if weights else "",
        min_familiarity=familiarity[1] if familiarity else None,
    )
    files.write_json(files.join(out, contracts.FILE_NAME), contract.to_dict())
    return contract


def _write_weights(run: workfolder.TrainedRun, folder: str, *, wanted: bool) -> None:
    if wanted:
        size = starting.write(run, folder)
        logging.info("%s/: %.2f MB", starting.WEIGHTS, size / 1e6)
    else:
        starting.remove(folder)


def _save(module: tf.Module, target: str) -> None:
    temporary = files.temporary_name(target)
    signatures = {
        "serving_default": module.serving_default,
        "classify_wav": module.classify_wav,
    }
    try:
        tf.saved_model.save(module, temporary, signatures)
        files.rename_tree(temporary, target)
    except (tf.errors.OpError, OSError) as error:
        raise UserError(
            f"{target}: cannot be written: {files.reason(error)}"
        ) from error
    finally:
        if files.exists(temporary):
            tf.io.gfile.rmtree(temporary)


def _check_same_answers(saved_model: str, run: workfolder.TrainedRun) -> None:
    """Compares what was saved with the model that was trained, on noise.

    Raises:
      RuntimeError: they differ by more than rounding.
    """
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2, NOTE_SAMPLES))
    waveform = tf.constant(noise, tf.float32)
    with _whole_float32():
        logits, _ = networks.inference_model(run.model)(waveform, training=False)
        trained = tf.nn.softmax(tf.cast(logits, tf.float32) / run.temperature)
        signature = tf.saved_model.load(saved_model).signatures["serving_default"]
        exported = signature(waveform=waveform)["probabilities"]
    difference = float(tf.reduce_max(tf.abs(exported - trained)))
    if not difference < _LARGEST_DIFFERENCE:
        raise RuntimeError(
            f"{saved_model}: differs from the trained model by {difference}; at most "
            f"{_LARGEST_DIFFERENCE} expected"
        )
    logging.info("exported and trained model differ by at most %.1e", difference)


@contextlib.contextmanager
def _whole_float32() -> Iterator[None]:
    """Without TF32, in which a GPU rounds folded and unfolded kernels differently."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def _results(workdir: str) -> list[dict[str, Any]]:
    """The figures of every evaluation in a work folder, by its name."""
    return [
        {k: found[k] for k in _FIGURES if k in found}
        for found in workfolder.evaluations(workdir)
    ]
