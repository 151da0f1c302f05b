"""Pictures for TensorBoard: graph, log-mels before and after, confusion matrices."""

import numpy as np
import tensorflow as tf
import tf_keras as keras

from mic_tf import files
from mic_tf.model import augment, networks, randomness
from mic_tf.pipeline import batches
from mic_tf.pipeline.batches import Records
from mic_tf.settings import RunSettings
from mic_tf.taxonomy import NOTE_SAMPLES
from mic_tf.tracing import as_written
from mic_tf.training.trainee import Trainee

_NOTES = 4
_CELL_PIXELS = 24
_MOST_PIXELS = 1_000
"""Of the confusion matrix's side, but for one a family."""


class Pictures(keras.callbacks.Callback):
    """Writes the graph and a few notes once, and a confusion matrix each epoch.

    Args:
      logs: folder of the run's logs.
      trainee: what is trained.
      records: the data set.
      train: the notes trained on, bool [notes].
      settings: of the run.
    """

    def __init__(
        self,
        logs: str,
        trainee: Trainee,
        records: Records,
        train: np.ndarray,
        settings: RunSettings,
    ):
        super().__init__()
        self._writer = tf.summary.create_file_writer(files.join(logs, "pictures"))
        self._trainee = trainee
        self._frontend, self._network = networks.split_model(trainee.classifier)
        self._records = records
        self._train = train
        self._settings = settings
        self._begun = False

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if epoch or self._begun:
            return
        self._begun = True
        with self._writer.as_default(step=0):
            # Tracing collectives on the chief alone would put workers out of step.
            if not isinstance(
                tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy
            ):
                tf.summary.graph(self._graph())
            before, after = self._log_mels()
            words = "The same notes: above as they are, below as the network sees them."
            both = tf.concat([before, after], axis=1)
            tf.summary.image("log_mel", both, max_outputs=_NOTES, description=words)
        self._writer.flush()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        counts = self._confusion()
        with self._writer.as_default(step=epoch + 1):
            families = ", ".join(self._records.index.families)
            words = f"Rows truth, columns answer, white is all of a row: {families}"
            tf.summary.image("confusion", _matrix(counts), description=words)
        self._writer.flush()

    def on_train_end(self, logs: dict | None = None) -> None:
        self._writer.flush()

    def _graph(self) -> tf.Graph:
        """The way of one note from waveform to logits, silence before it as it is."""
        spec = tf.TensorSpec([1, NOTE_SAMPLES], tf.int16, "waveform")

        @tf.function
        @as_written
        def whole(waveform: tf.Tensor) -> tf.Tensor:
            log_mel = self._frontend(waveform, training=True)
            logits, _ = self._network(log_mel, training=False)
            return logits

        return whole.get_concrete_function(spec).graph

    def _log_mels(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Log-mels as pictures [notes, bands, frames, 1], before and after."""
        family = np.where(self._train, self._records.index.family, -1)
        _, first = np.unique(family, return_index=True)
        chosen = np.zeros_like(self._train)
        chosen[first[self._train[first]][:_NOTES]] = True
        dataset = batches.evaluation_batches(
            self._records, chosen, batch_size=int(chosen.sum())
        )
        waveform, label, _, _ = next(iter(dataset))
        target = tf.one_hot(label, len(self._records.index.families))
        settings = self._settings
        with randomness.step_randomness(settings.train.seed, tf.constant(0)):
            changed, _ = augment.augment_waveforms(waveform, target, settings.augment)
            log_mel = self._frontend(changed, training=True)
            after = augment.augment_log_mel(
                log_mel, settings.augment, settings.frontend
            )
            before = self._frontend(waveform, training=True)
        return _picture(before), _picture(after)

    def _confusion(self) -> np.ndarray:
        """The epoch's counts on this host: validation's, else training's."""
        # Summing over hosts would be a collective, and only the chief is here.
        local = tf.distribute.get_strategy().experimental_local_results(
            self._trainee.macro_f1.confusion
        )
        return np.sum([part.numpy() for part in local], axis=0)


def _picture(log_mel: tf.Tensor) -> tf.Tensor:
    """Low bands below, time to the right, black to white."""
    upright = tf.reverse(tf.transpose(log_mel, [0, 2, 1]), axis=[1])
    return tf.clip_by_value((upright[..., tf.newaxis] + 1.0) / 2.0, 0.0, 1.0)


def _matrix(counts: np.ndarray) -> np.ndarray:
    """Row shares as a grey picture, float32 [1, height, width, 1]."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cell = max(1, min(_CELL_PIXELS, _MOST_PIXELS // len(counts)))
    large = np.kron(shares.astype(np.float32), np.ones([cell, cell], np.float32))
    return large[np.newaxis, ..., np.newaxis]
