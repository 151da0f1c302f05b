"""The largest value of each channel, with a gradient that survives rounding."""

from collections.abc import Callable

import tensorflow as tf
import tf_keras as keras


@keras.saving.register_keras_serializable("mic_tf")
class GlobalMax(keras.layers.GlobalMaxPooling2D):
    """GlobalMaxPooling2D whose gradient goes to one place of each channel.

    Input: [batch, height, width, channels]. Output: [batch, channels]. TensorFlow's own
    gradient looks for the places that equal the largest value and divides by their
    number. XLA may compute a value twice and round it differently, above all in 16 bit:
    then none equals it, and the gradient is 0 / 0.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return largest(inputs) if training else super().call(inputs)


@tf.custom_gradient
def largest(
    inputs: tf.Tensor,
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """The largest value of each channel, [batch, channels].

    Args:
      inputs: float [batch, height, width, channels], height and width known.
    """
    _, height, width, channels = inputs.shape
    places = tf.reshape(inputs, [-1, height * width, channels])

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        chosen = tf.one_hot(
            tf.argmax(places, axis=1), height * width, axis=1, dtype=upstream.dtype
        )
        return tf.reshape(chosen * upstream[:, tf.newaxis], tf.shape(inputs))

    return tf.reduce_max(places, axis=1), gradient
