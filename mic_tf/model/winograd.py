"""3 x 3 convolutions of a training step by Winograd's minimal filtering, for CPUs.

A tile of 6 x 6 places gives 4 x 4 outputs. Behind a linear transform of tiles and
kernel these take 36 products of each pair of channels, where the sum over the kernel
takes 144 (Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks",
F(4 x 4, 3 x 3)). TensorFlow's CPU kernels do not do so; cuDNN's and the TPU's compiler
choose for themselves.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from mic_tf.model import pieces

_STEP = 4
"""Outputs of a tile along an axis, and places from tile to tile."""
_TILE = 6
"""Places of a tile along an axis."""
_KERNEL = 3
_TO_TILE = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float32,
)
_TO_KERNEL = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    np.float32,
)
_TO_OUTPUT = np.array(
    [
        [1, 1, 1, 1, 1, 0],
        [0, 1, -1, 2, -2, 0],
        [0, 1, 1, 4, 4, 0],
        [0, 1, -1, 8, -8, 1],
    ],
    np.float32,
)
_KERNEL_ON_BOTH_AXES = np.einsum("hi,wj->whij", _TO_KERNEL, _TO_KERNEL).reshape(
    _TILE**2, _KERNEL**2
)
"""From a kernel's rows and columns to a tile's, of which the columns come first."""

_LEAST_CHANNELS = 32
_LEAST_PLACES = 16
"""Of fewer channels or places the transforms cost what the products save."""
_PLACES_TOGETHER = 6000
"""Of a piece, about: what lies between two ops is then some megabytes."""


@keras.saving.register_keras_serializable("mic_tf")
class WinogradConv2D(keras.layers.Conv2D):
    """Conv2D that trains faster on a CPU; kernel, bias and answers are Conv2D's.

    In training, outputs and gradients differ from Conv2D's by rounding: some 5e-5 of
    their standard deviation at most. Outside training it is Conv2D to the last bit, and
    so it is where the other way gains nothing: other kernels than 3 x 3 with stride 1
    and padding "same", few channels or places, another type than float32, a GPU or TPU,
    a size or batch that is not known before it runs.

    Args:
      in_training: False: Conv2D in training, too.
    """

    def __init__(self, *args: Any, in_training: bool = True, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.in_training = in_training

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if not (training and self.in_training and self._gains_from(inputs)):
            return super().call(inputs)
        outputs = conv2d(inputs, tf.convert_to_tensor(self.kernel))
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, self.bias)
        return self.activation(outputs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "in_training": self.in_training}

    def _gains_from(self, inputs: tf.Tensor) -> bool:
        if inputs.shape.rank != 4 or not inputs.shape.is_fully_defined():
            return False
        _, height, width, channels = inputs.shape
        return (
            (self.kernel_size, self.strides) == ((_KERNEL, _KERNEL), (1, 1))
            and (self.padding, self.data_format) == ("same", "channels_last")
            and (self.dilation_rate, self.groups) == ((1, 1), 1)
            and channels >= _LEAST_CHANNELS
            and height * width >= _LEAST_PLACES
            and inputs.dtype == tf.float32
            and not pieces.on_accelerator()
        )


@tf.custom_gradient
def conv2d(
    inputs: tf.Tensor, kernel: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
    """`tf.nn.conv2d(inputs, kernel, strides=1, padding="SAME")` but for rounding.

    Args:
      inputs: float32 [batch, height, width, in], all sizes known.
      kernel: float32 [3, 3, in, out].

    Returns:
      float32 [batch, height, width, out].
    """
    batch, height, width, _ = inputs.shape
    together = max(1, round(_PLACES_TOGETHER / (height * width)))
    parts = pieces.count(batch, together)
    notes = batch // parts
    weights = _weights(kernel)
    tiles = [_tiles(part) for part in tf.split(inputs, parts)]
    outputs = [_outputs(tf.matmul(t, weights), notes, height, width) for t in tiles]

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        to_weights, to_inputs = [], []
        for tile, part in zip(tiles, tf.split(upstream, parts), strict=True):
            product = _outputs_gradient(part)
            to_weights.append(tf.matmul(tile, product, transpose_a=True))
            to_tile = tf.matmul(product, weights, transpose_b=True)
            to_inputs.append(_tiles_gradient(to_tile, notes, height, width))
        to_kernel = _weights_gradient(tf.add_n(to_weights))
        return tf.concat(to_inputs, axis=0), to_kernel

    return tf.concat(outputs, axis=0), gradient


def _weights(kernel: tf.Tensor) -> tf.Tensor:
    """A kernel, [3, 3, in, out], as tiles are multiplied with it, [36, in, out]."""
    rows = tf.reshape(kernel, [_KERNEL**2, -1])
    weights = tf.matmul(_KERNEL_ON_BOTH_AXES, rows)
    return tf.reshape(weights, [_TILE**2, *kernel.shape[2:]])


def _weights_gradient(upstream: tf.Tensor) -> tf.Tensor:
    """From [36, in, out] to the kernel, [3, 3, in, out]."""
    rows = tf.reshape(upstream, [_TILE**2, -1])
    kernel = tf.matmul(_KERNEL_ON_BOTH_AXES, rows, transpose_a=True)
    return tf.reshape(kernel, [_KERNEL, _KERNEL, *upstream.shape[1:]])


def _tiles(inputs: tf.Tensor) -> tf.Tensor:
    """Overlapping tiles of images, transformed: [36, notes * tiles, channels]."""
    notes, height, width, channels = inputs.shape
    down, across = _tiles_along(height), _tiles_along(width)
    padding = [
        [1, (n + 1) * _STEP - 1 - s] for n, s in ((down, height), (across, width))
    ]
    x = tf.pad(inputs, [[0, 0], *padding, [0, 0]])
    x = _cut(tf.reshape(x, [notes, down + 1, _STEP, (across + 1) * _STEP * channels]))
    x = tf.matmul(_TO_TILE, tf.reshape(x, [_TILE, -1]))
    x = _cut(tf.reshape(x, [_TILE * notes * down, across + 1, _STEP, channels]))
    x = tf.matmul(_TO_TILE, tf.reshape(x, [_TILE, -1]))
    return tf.reshape(x, [_TILE**2, notes * down * across, channels])


def _tiles_gradient(
    upstream: tf.Tensor, notes: int, height: int, width: int
) -> tf.Tensor:
    """From transformed tiles to the images, [notes, height, width, channels]."""
    channels = upstream.shape[-1]
    down, across = _tiles_along(height), _tiles_along(width)
    x = tf.matmul(_TO_TILE, tf.reshape(upstream, [_TILE, -1]), transpose_a=True)
    x = _added(tf.reshape(x, [_TILE, _TILE * notes * down, across, channels]))
    x = tf.matmul(_TO_TILE, tf.reshape(x, [_TILE, -1]), transpose_a=True)
    x = _added(tf.reshape(x, [_TILE, notes, down, (across + 1) * _STEP * channels]))
    x = tf.reshape(x, [notes, (down + 1) * _STEP, (across + 1) * _STEP, channels])
    return x[:, 1 : height + 1, 1 : width + 1]


def _outputs(products: tf.Tensor, notes: int, height: int, width: int) -> tf.Tensor:
    """Images of multiplied tiles, [36, notes * tiles, channels]."""
    channels = products.shape[-1]
    down, across = _tiles_along(height), _tiles_along(width)
    x = tf.matmul(_TO_OUTPUT, tf.reshape(products, [_TILE, -1]))
    x = tf.reshape(x, [_STEP, _TILE * notes * down, across, channels])
    x = tf.transpose(x, [1, 2, 0, 3])
    x = tf.matmul(_TO_OUTPUT, tf.reshape(x, [_TILE, -1]))
    x = tf.reshape(x, [_STEP, notes, down, across * _STEP * channels])
    x = tf.transpose(x, [1, 2, 0, 3])
    x = tf.reshape(x, [notes, down * _STEP, across * _STEP, channels])
    return x[:, :height, :width]


def _outputs_gradient(upstream: tf.Tensor) -> tf.Tensor:
    """From images to the multiplied tiles, [36, notes * tiles, channels]."""
    notes, height, width, channels = upstream.shape
    down, across = _tiles_along(height), _tiles_along(width)
    padding = [[0, n * _STEP - s] for n, s in ((down, height), (across, width))]
    x = tf.pad(upstream, [[0, 0], *padding, [0, 0]])
    x = tf.reshape(x, [notes, down, _STEP, across * _STEP * channels])
    x = tf.reshape(tf.transpose(x, [2, 0, 1, 3]), [_STEP, -1])
    x = tf.matmul(_TO_OUTPUT, x, transpose_a=True)
    x = tf.reshape(x, [_TILE * notes * down, across, _STEP, channels])
    x = tf.reshape(tf.transpose(x, [2, 0, 1, 3]), [_STEP, -1])
    x = tf.matmul(_TO_OUTPUT, x, transpose_a=True)
    return tf.reshape(x, [_TILE**2, notes * down * across, channels])


def _tiles_along(places: int) -> int:
    return -(-places // _STEP)


def _cut(x: tf.Tensor) -> tf.Tensor:
    """[rows, tiles + 1, 4, rest] to overlapping tiles, [6, rows, tiles, rest]."""
    first = tf.transpose(x[:, :-1], [2, 0, 1, 3])
    last = tf.transpose(x[:, 1:, : _TILE - _STEP], [2, 0, 1, 3])
    return tf.concat([first, last], axis=0)


def _added(x: tf.Tensor) -> tf.Tensor:
    """[6, rows, tiles, rest] to their sums where they overlap: `_cut`'s gradient."""
    first = tf.transpose(x[:_STEP], [1, 2, 0, 3])
    last = tf.transpose(x[_STEP:], [1, 2, 0, 3])
    rest = 2 * _STEP - _TILE
    first = tf.pad(first, [[0, 0], [0, 1], [0, 0], [0, 0]])
    return first + tf.pad(last, [[0, 0], [1, 0], [0, rest], [0, 0]])
