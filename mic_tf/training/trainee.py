"""The model as `fit` sees it: one training step and one validation step."""

import tensorflow as tf
import tf_keras as keras

from mic_tf.model import augment, networks, randomness
from mic_tf.settings import RunSettings
from mic_tf.tracing import as_written
from mic_tf.training.metrics import Accuracy, MacroF1


class Trainee(keras.Model):
    """A classifier with its training and validation steps.

    Batches are `(waveform, family, weight)`: int16 [batch, 64000], int32 [batch],
    float32 [batch]. The loss is the weighted cross-entropy summed and divided by the
    global batch size, so it does not depend on the number of replicas. A mixed note
    weighs what its families do, in their shares.

    Attributes:
      classifier: the functional model from waveform to logits.
    """

    def __init__(self, settings: RunSettings, num_families: int):
        super().__init__(name="trainee")
        self.classifier = networks.build_model(settings, num_families)
        self._frontend, self._network = networks.split_model(self.classifier)
        self._settings = settings
        self._num_families = num_families
        self.loss_mean = keras.metrics.Mean("loss")
        self.accuracy = Accuracy(num_families, "accuracy")
        self.macro_f1 = MacroF1(num_families, "macro_f1")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self.loss_mean, self.accuracy, self.macro_f1]

    def call(self, waveform: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return self.classifier(waveform, training=training)

    @as_written
    def train_step(self, batch: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        waveform, family, weight = batch
        settings = self._settings
        target = tf.one_hot(family, self._num_families)
        # Each part of a mixed note weighs what its family does; without class weights
        # all weigh the same.
        mixing_weights = (
            settings.data.balance == "class_weight" and settings.augment.mixup_alpha
        )
        if mixing_weights:
            target *= weight[:, tf.newaxis]
        with randomness.step_randomness(settings.train.seed, self.optimizer.iterations):
            waveform, target = augment.augment_waveforms(
                waveform, target, settings.augment
            )
            if mixing_weights:
                weight = tf.reduce_sum(target, axis=1)
                target = tf.math.divide_no_nan(target, weight[:, tf.newaxis])
            log_mel = augment.augment_log_mel(
                self._frontend(waveform, training=True),
                settings.augment,
                settings.frontend,
            )
            with tf.GradientTape() as tape:
                logits, _ = self._network(log_mel, training=True)
                losses = self._note_losses(target, logits, weight)
                loss = tf.reduce_sum(losses) / settings.train.batch_size
        variables = self.classifier.trainable_variables
        self.optimizer.minimize(loss, variables, tape=tape)
        return self._measure(family, logits, losses, weight)

    @as_written
    def test_step(self, batch: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        waveform, family, weight = batch
        logits = self.classifier(waveform, training=False)
        target = tf.one_hot(family, self._num_families)
        losses = self._note_losses(target, logits, weight, smoothing=0.0)
        return self._measure(family, logits, losses, weight)

    def _note_losses(
        self,
        target: tf.Tensor,
        logits: tf.Tensor,
        weight: tf.Tensor,
        smoothing: float | None = None,
    ) -> tf.Tensor:
        """Weighted cross-entropy of each note, [batch]."""
        if smoothing is None:
            smoothing = self._settings.train.label_smoothing
        target = tf.cast(target, logits.dtype)
        target = target * (1.0 - smoothing) + smoothing / self._num_families
        losses = tf.nn.softmax_cross_entropy_with_logits(target, logits)
        return tf.cast(weight, losses.dtype) * losses

    def _measure(
        self,
        family: tf.Tensor,
        logits: tf.Tensor,
        losses: tf.Tensor,
        weight: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Adds a batch to the metrics. `losses` are already weighted."""
        self.loss_mean.update_state(
            tf.math.divide_no_nan(losses, tf.cast(weight, losses.dtype)), weight
        )
        self.accuracy.update_state(family, logits, weight)
        self.macro_f1.update_state(family, logits, weight)
        return {metric.name: metric.result() for metric in self.metrics}


def compile_trainee(trainee: Trainee, settings: RunSettings, total_steps: int) -> None:
    """Gives the trainee its optimiser: AdamW, warm-up, then cosine decay to zero.

    Args:
      trainee: to be compiled.
      settings: of the run.
      total_steps: steps of the whole run.
    """
    train = settings.train
    warmup_steps = int(train.warmup * total_steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=train.learning_rate / 100
        if warmup_steps
        else (train.learning_rate),
        decay_steps=max(total_steps - warmup_steps, 1),
        warmup_target=train.learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )
    optimizer = keras.optimizers.AdamW(
        schedule, weight_decay=train.weight_decay, jit_compile=False
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    if train.mixed_precision == "mixed_float16":
        optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
    trainee.compile(
        optimizer,
        jit_compile=train.jit,
        steps_per_execution=train.steps_per_execution,
    )
    optimizer.build(trainee.classifier.trainable_variables)
