"""Opens an exported model, SavedModel or TFLite, as one function on windows."""

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from mic_tf import files
from mic_tf.errors import UserError
from mic_tf.serving import allowed_ops, familiarity
from mic_tf.serving import contract as contracts
from mic_tf.taxonomy import NOTE_SAMPLES
from mic_tf.training import snapshots

SAVED_MODEL = "saved_model"
_EXPORT, _BEST = "export", "best"
"""As in a work folder; `workfolder`, which says so too, imports Keras."""
TFLITE_SUFFIX = ".tflite"

Infer = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From windows, float32 [windows, 64000], to probabilities and embedding.

The windows are the caller's memory, which holds others after the call. Several threads
may call it at once."""

_ALIGNMENT = 64
"""Bytes at whose multiples TensorFlow's tensors begin."""


def open_model(path: str) -> tuple[contracts.Contract, Infer]:
    """Opens an exported model after checking its contract and what it is made of.

    Args:
      path: folder of an export, the work folder that it is in, or the SavedModel or
        TFLite file in it.

    Raises:
      UserError: there is no whole export, one that may not be read, or one that this
        program refuses.
    """
    if not files.exists(path):
        raise UserError(f"{path}: no such file or folder; an exported model expected")
    folder, model = parts(path)
    contract = contracts.read(folder)
    _warn_of_its_training(folder, contract)
    if model.endswith(TFLITE_SUFFIX):
        return contract, _tflite(model, contract)
    return contract, _saved_model(model, contract)


def _warn_of_its_training(folder: str, contract: contracts.Contract) -> None:
    """Says of an export that its training was not finished, or went on since."""
    if words := contract.training.get("unfinished"):
        logging.warning("%s: exported before its training was done (%s)", folder, words)
    weights = contract.training.get("weights")  # Earlier programs did not say it.
    workdir, name = os.path.split(os.path.abspath(folder))
    if not weights or files.is_remote(folder) or name != _EXPORT:
        return
    best = None
    with contextlib.suppress(UserError):  # Damaged: not this one's.
        best = snapshots.newest(os.path.join(workdir, _BEST))
    if best and best.checksum != weights:
        logging.warning(
            "%s: its training went on since then, to other weights; export it again",
            folder,
        )


def room_for_windows(count: int) -> np.ndarray:
    """Unfilled memory, float32 [count, 64000], which `Infer` reads without a copy."""
    size = count * NOTE_SAMPLES * np.dtype(np.float32).itemsize
    room = np.empty(size + _ALIGNMENT, np.uint8)
    first = -room.ctypes.data % _ALIGNMENT
    return room[first : first + size].view(np.float32).reshape(count, NOTE_SAMPLES)


def fingerprint(path: str) -> str:
    """A checksum over the files of an exported model.

    Args:
      path: what `open_model` takes.

    Returns:
      SHA-256 in hexadecimal; the same for copies of a model, another after a new
      export.
    """
    folder, model = parts(path)
    names = [model]
    if not model.endswith(TFLITE_SUFFIX):
        walk = tf.io.gfile.walk(model)
        names = sorted(files.join(at, name) for at, _, found in walk for name in found)
    familiar = files.join(folder, familiarity.FILE_NAME)
    names += [familiar] if files.exists(familiar) else []
    digest = hashlib.sha256()
    for name in names:
        digest.update(hashlib.sha256(files.read_bytes(name)).digest())
    return digest.hexdigest()


def parts(path: str) -> tuple[str, str]:
    """The folder of an export's contract, and the model in it.

    Args:
      path: what `open_model` takes.
    """
    path = path.rstrip("/")
    if path.endswith(TFLITE_SUFFIX) or files.exists(files.join(path, "saved_model.pb")):
        return os.path.dirname(path) or ".", path
    inside = files.join(path, _EXPORT)
    here = files.exists(files.join(path, contracts.FILE_NAME))
    folder = inside if not here and files.exists(inside) else path
    return folder, files.join(folder, SAVED_MODEL)


def _saved_model(path: str, contract: contracts.Contract) -> Infer:
    allowed_ops.check(path)
    try:
        loaded = tf.saved_model.load(path)
    except (tf.errors.OpError, OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{path}: damaged: {files.reason(error)}; export it again"
        ) from error
    signature = loaded.signatures.get("serving_default")
    outputs = signature.structured_outputs if signature else {}
    _check_widths(path, {n: spec.shape[-1] for n, spec in outputs.items()}, contract)

    def infer(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        answers = loaded.signatures["serving_default"](waveform=_tensor(windows))
        return answers["probabilities"].numpy(), answers["embedding"].numpy()

    return infer


def _tensor(windows: np.ndarray) -> tf.Tensor:
    """An array as a tensor, which is the same memory where that can be.

    A copy of 32 windows takes a fifth of the time that a small network takes for them.
    """
    flags = windows.flags
    is_fit = flags.c_contiguous and flags.writeable and windows.size > 0
    if is_fit and windows.ctypes.data % _ALIGNMENT == 0:
        return tf.experimental.dlpack.from_dlpack(windows.__dlpack__())
    return tf.constant(windows)


def _tflite(path: str, contract: contracts.Contract) -> Infer:
    try:
        interpreter = tf.lite.Interpreter(model_content=files.read_bytes(path))
        runner = interpreter.get_signature_runner()
        widths = {
            name: int(detail["shape"][-1])
            for name, detail in runner.get_output_details().items()
        }
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{path}: not a TFLite model of ours: {files.reason(error)}"
        ) from error
    _check_widths(path, widths, contract)
    # An interpreter has one place for what goes in and what comes out.
    one_at_a_time = threading.Lock()

    def run(window: np.ndarray) -> dict[str, np.ndarray]:
        with one_at_a_time:
            return runner(waveform=window[np.newaxis])

    def infer(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        answers = [run(window) for window in windows]
        names = ("probabilities", "embedding")
        probabilities, embedding = (
            np.concatenate([answer[name] for answer in answers]) for name in names
        )
        return probabilities, embedding

    return infer


def _check_widths(
    path: str, found: dict[str, Any], contract: contracts.Contract
) -> None:
    """Refuses a model whose outputs are not those that its contract says."""
    expected = {
        "probabilities": len(contract.labels),
        "embedding": contract.embedding_width,
    }
    if found != expected:
        raise UserError(
            f"{path}: its outputs are {found}; its contract says {expected}"
        )
