"""BatchNorm, ReLU and pooling of a training step together, for CPUs.

One after the other they read and write the output of a convolution some ten times, and
on a CPU such passes through memory take longer than the convolution of few channels.
Pooled first, most is done on a quarter of the places: of four places that are pooled
one alone passes on a gradient of its own, and the others get what the mean and variance
of the batch give to all.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf
import tf_keras as keras

from mic_tf.model import compiling

POOL = 2
_MOST_TOGETHER = 8
"""Of places that are added in one go."""
_MOST_IN_A_ROW = 64
"""Of places that are added one to the other, as rounding grows with their number."""


@keras.saving.register_keras_serializable("mic_tf")
class ReluPool(keras.layers.Layer):
    """ReLU and 2 x 2 max pooling: [batch, height, width, channels] to its half."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return _relu_pool(inputs)


@keras.saving.register_keras_serializable("mic_tf")
class NormReluPool(keras.layers.BatchNormalization):
    """BatchNormalization, ReLU and 2 x 2 max pooling in one layer.

    Input: [batch, height, width, channels]. Output: [batch, height // 2, width // 2,
    channels]. The weights are BatchNormalization's. In a training step in float32 on
    one CPU it takes about half of the three layers' time; outputs, gradients and moving
    statistics differ from theirs by rounding. Everywhere else it is the three layers:
    in 16 bit, on a GPU or TPU, with statistics of several replicas, with a TensorFlow
    without XLA, with a size or batch that is not known before it runs.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if not (training and self.trainable and self._gains_from(inputs)):
            return _relu_pool(super().call(inputs, training=training))
        outputs, mean, variance = norm_relu_pool(
            inputs,
            tf.convert_to_tensor(self.gamma),
            tf.convert_to_tensor(self.beta),
            tf.constant(self.epsilon, tf.float32),
        )
        values = _values_a_channel(inputs)
        variance *= values / max(values - 1, 1)  # As BatchNormalization has it.
        self._assign_moving_average(self.moving_mean, mean, self.momentum, None)
        self._assign_moving_average(self.moving_variance, variance, self.momentum, None)
        return outputs

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tf.TensorShape:
        batch, height, width, channels = input_shape
        pooled = [None if n is None else n // POOL for n in (height, width)]
        return tf.TensorShape([batch, *pooled, channels])

    def _gains_from(self, inputs: tf.Tensor) -> bool:
        return (
            self.fused  # Not of several replicas, not in parts of the batch.
            and self.axis == [3]
            and self.center
            and self.scale
            and inputs.shape.is_fully_defined()
            and inputs.dtype == tf.float32
            and compiling.gains()
        )


@tf.custom_gradient
def norm_relu_pool(
    inputs: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: tf.Tensor
) -> tuple[
    tuple[tf.Tensor, tf.Tensor, tf.Tensor], Callable[..., tuple[tf.Tensor | None, ...]]
]:
    """Batch normalisation of each channel, ReLU and 2 x 2 max pooling.

    Args:
      inputs: float32 [batch, height, width, channels], all sizes known.
      gamma: float32 [channels].
      beta: float32 [channels].
      epsilon: float32 [], added to the variance.

    Returns:
      float32 [batch, height // 2, width // 2, channels], and mean and variance of each
      channel, float32 [channels], through which no gradient goes.
    """
    count = _values_a_channel(inputs)
    mean = _sum(compiling.call(_summed, inputs)) / count
    variance = _sum(compiling.call(_squares, inputs, mean)) / count
    inverse = tf.math.rsqrt(variance + epsilon)
    scale = gamma * inverse
    chosen = compiling.call(_chosen, inputs, scale)
    outputs = compiling.call(_outputs, chosen, mean, scale, beta)

    def gradient(
        upstream: tf.Tensor, _mean: tf.Tensor, _variance: tf.Tensor
    ) -> tuple[tf.Tensor | None, ...]:
        upstream = tf.ensure_shape(upstream, outputs.shape)
        at_output = (upstream, chosen, mean, scale, beta)
        passed, products = compiling.call(_passed, *at_output)
        to_beta, to_gamma = _sum(passed), _sum(products) * inverse
        to_inputs = compiling.call(
            _to_inputs,
            inputs,
            *at_output,
            -scale * to_beta / count,
            -scale * inverse * to_gamma / count,
        )
        return to_inputs, to_gamma, to_beta, None

    return (outputs, mean, variance), gradient


def _relu_pool(x: tf.Tensor) -> tf.Tensor:
    return tf.nn.max_pool2d(tf.nn.relu(x), POOL, POOL, "VALID")


def _sum(rows: tf.Tensor) -> tf.Tensor:
    """[rows, channels] to their sum, [channels], in steps that keep float32 exact.

    A step is a matrix product, which uses all cores. As far as the number of rows has
    divisors: what is left is one sum.
    """
    while (together := _divisor(rows.shape[0], _MOST_IN_A_ROW)) > 1:
        parts = tf.reshape(rows, [together, -1])
        sums = tf.matmul(tf.ones([1, together]), parts)
        rows = tf.reshape(sums, [-1, rows.shape[1]])
    return tf.reduce_sum(rows, axis=0)


def _values_a_channel(x: tf.Tensor) -> int:
    return x.shape.num_elements() // x.shape[-1]


def _divisor(number: int, most: int) -> int:
    return next(n for n in range(most, 0, -1) if number % n == 0)


def _rows(x: tf.Tensor) -> tf.Tensor:
    """[batch, height, width, channels] as what is added in one go, [n, rows, channels].

    XLA has loops of its own for sums, which use neither vectors nor all cores.
    """
    together = _divisor(_values_a_channel(x), _MOST_TOGETHER)
    return tf.reshape(x, [together, -1, x.shape[-1]])


def _added(x: tf.Tensor) -> tf.Tensor:
    """[n, rows, channels] to [rows, channels]."""
    parts = tf.unstack(x)
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=False)
        parts = [a + b for a, b in pairs] + parts[len(parts) // 2 * 2 :]
    return parts[0]


def _summed(x: tf.Tensor) -> tf.Tensor:
    return _added(_rows(x))


def _squares(x: tf.Tensor, mean: tf.Tensor) -> tf.Tensor:
    return _added(tf.square(_rows(x) - mean))


def _outputs(
    chosen: tf.Tensor, mean: tf.Tensor, scale: tf.Tensor, beta: tf.Tensor
) -> tf.Tensor:
    normalised = _normalised(chosen, mean, scale, beta)
    # Under XLA for CPUs, a NaN would be lost in a maximum of it and 0.
    return tf.where(normalised < 0, 0.0, normalised)


def _passed(
    upstream: tf.Tensor,
    chosen: tf.Tensor,
    mean: tf.Tensor,
    scale: tf.Tensor,
    beta: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """What ReLU lets pass of a gradient, and that times the deviation from the mean."""
    chosen = _rows(chosen)
    passed = _behind_relu(_rows(upstream), chosen, mean, scale, beta)
    return _added(passed), _added(passed * (chosen - mean))


def _behind_relu(
    upstream: tf.Tensor,
    chosen: tf.Tensor,
    mean: tf.Tensor,
    scale: tf.Tensor,
    beta: tf.Tensor,
) -> tf.Tensor:
    """What of a gradient ReLU lets pass."""
    return tf.where(_normalised(chosen, mean, scale, beta) <= 0, 0.0, upstream)


def _normalised(
    x: tf.Tensor, mean: tf.Tensor, scale: tf.Tensor, beta: tf.Tensor
) -> tf.Tensor:
    return (x - mean) * scale + beta


def _places(x: tf.Tensor) -> list[tf.Tensor]:
    """The places that are pooled together, four of [batch, half, half, channels]."""
    batch, height, width, channels = x.shape
    down, across = height // POOL, width // POOL
    x = x[:, : down * POOL, : across * POOL]
    x = tf.reshape(x, [batch, down, POOL, across, POOL, channels])
    return [x[:, :, i, :, j] for i in range(POOL) for j in range(POOL)]


def _chosen(x: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """What becomes the largest of four places behind the scale of its channel."""
    places = _places(x)
    largest = tf.maximum(*(tf.maximum(*pair) for pair in (places[:2], places[2:])))
    least = tf.minimum(*(tf.minimum(*pair) for pair in (places[:2], places[2:])))
    return tf.where(scale > 0, largest, tf.where(scale < 0, least, places[0]))


def _to_inputs(
    x: tf.Tensor,
    upstream: tf.Tensor,
    chosen: tf.Tensor,
    mean: tf.Tensor,
    scale: tf.Tensor,
    beta: tf.Tensor,
    to_all: tf.Tensor,
    to_deviation: tf.Tensor,
) -> tf.Tensor:
    """The gradient: what was passed, at its place, and what all get of the moments."""

    def of_moments(values: tf.Tensor) -> tf.Tensor:
        return to_all + (values - mean) * to_deviation

    passed = _behind_relu(upstream, chosen, mean, scale, beta) * scale
    taken, places = tf.zeros(chosen.shape, tf.bool), []
    for place in _places(x):
        # As in TensorFlow's max pooling, the first of equals.
        here = tf.logical_and(place == chosen, tf.logical_not(taken))
        taken = tf.logical_or(taken, here)
        places.append(of_moments(place) + tf.where(here, passed, 0.0))
    rows = [tf.stack(places[i : i + POOL], axis=3) for i in (0, POOL)]
    batch, down, across, channels = chosen.shape
    down, across = down * POOL, across * POOL
    pooled = tf.reshape(tf.stack(rows, axis=2), [batch, down, across, channels])
    right, below = of_moments(x[:, :down, across:]), of_moments(x[:, down:])
    return tf.concat([tf.concat([pooled, right], axis=2), below], axis=1)
