"""Metrics that follow a training, as sums that replicas can add up."""

from typing import Any

import tensorflow as tf
import tf_keras as keras

from mic_tf.tracing import as_written


class ConfusionMetric(keras.metrics.Metric):
    """A metric read off the confusion matrix of what it has seen.

    Attributes:
      confusion: weighted counts, rows truth, columns prediction, [families, families].
    """

    def __init__(self, num_families: int, name: str, **kwargs: Any):
        super().__init__(name=name, dtype="float32", **kwargs)
        self.num_families = num_families
        self.confusion = self.add_weight(
            "confusion", shape=[num_families, num_families], initializer="zeros"
        )

    @as_written
    def update_state(
        self,
        y_true: tf.Tensor,
        y_pred: tf.Tensor,
        sample_weight: tf.Tensor | None = None,
    ) -> None:
        """Adds a batch.

        Args:
          y_true: families, int [batch].
          y_pred: logits or probabilities [batch, families].
          sample_weight: float [batch]; None: 1.
        """
        truth = tf.one_hot(y_true, self.num_families)
        answer = tf.one_hot(tf.argmax(y_pred, axis=-1), self.num_families)
        if sample_weight is not None:
            truth *= tf.cast(sample_weight, tf.float32)[:, tf.newaxis]
        self.confusion.assign_add(tf.matmul(truth, answer, transpose_a=True))

    def reset_state(self) -> None:
        self.confusion.assign(tf.zeros_like(self.confusion))


class Accuracy(ConfusionMetric):
    """Share of right answers."""

    @as_written
    def result(self) -> tf.Tensor:
        return tf.math.divide_no_nan(
            tf.linalg.trace(self.confusion), tf.reduce_sum(self.confusion)
        )


class MacroF1(ConfusionMetric):
    """Mean F1 over the families that occur."""

    @as_written
    def result(self) -> tf.Tensor:
        hits = tf.linalg.diag_part(self.confusion)
        truth = tf.reduce_sum(self.confusion, axis=1)
        answers = tf.reduce_sum(self.confusion, axis=0)
        f1 = tf.math.divide_no_nan(2.0 * hits, truth + answers)
        present = tf.cast(truth > 0, tf.float32)
        return tf.math.divide_no_nan(
            tf.reduce_sum(f1 * present), tf.reduce_sum(present)
        )
