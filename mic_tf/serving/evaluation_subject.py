"""An exported model as something that can be evaluated."""

import numpy as np
import tensorflow as tf

from mic_tf import bundled
from mic_tf.errors import UserError
from mic_tf.evaluation.evaluator import Subject
from mic_tf.serving import contract as contracts
from mic_tf.serving import models
from mic_tf.training import starting


def of_export(path: str) -> Subject:
    """An exported model, ready to be evaluated.

    Args:
      path: what `models.open_model` takes, or `pretrained` for the bundled one.

    Raises:
      UserError: it cannot be opened, or does not say what it was trained on.
    """
    contract, infer = models.open_model(bundled.resolved(path))
    data = contract.training.get("data")
    if not isinstance(data, dict):
        raise UserError(
            f"{path}: its {contracts.FILE_NAME} does not say what it was trained on"
        )

    def probabilities(waveform: tf.Tensor) -> tf.Tensor:
        windows = waveform.numpy().astype(np.float32) / 32768.0
        return tf.constant(infer(windows)[0])

    def embedding(waveform: tf.Tensor) -> tf.Tensor:
        windows = np.asarray(waveform, np.float32) / 32768.0
        return tf.constant(infer(windows)[1])

    facts = {
        "settings": contract.settings,
        "versions": contract.versions,
        **contract.training,
        "temperature": contract.temperature,
    }
    init_from = contract.settings.get("train", {}).get("init_from", "")
    data = starting.described(data, init_from)
    return Subject(path, contract.labels, probabilities, data, embedding, facts)
