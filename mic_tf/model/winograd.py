"""3 x 3 convolutions of a training step by Winograd's minimal filtering, for CPUs.

A tile of 6 x 6 places gives 4 x 4 outputs. Behind a linear transform of tiles and
kernel these take 36 products of each pair of channels, where the sum over the kernel
takes 144 (Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks",
F(4 x 4, 3 x 3)). TensorFlow's CPU kernels do not do so; cuDNN's and the TPU's compiler
choose for themselves.
"""

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras as keras

from mic_tf.model import compiling, pieces

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
_KERNEL_ON_BOTH_AXES = np.einsum("hi,wj->hwij", _TO_KERNEL, _TO_KERNEL).reshape(
    _TILE**2, _KERNEL**2
)
"""From a kernel's rows and columns to a tile's."""

_LEAST_CHANNELS = 32
_LEAST_PLACES = 16
"""Of fewer channels or places the transforms cost what the products save."""
_PLACES_TOGETHER = 12000
"""Of a piece, about: what lies between two ops is then some megabytes."""


@keras.saving.register_keras_serializable("mic_tf")
class WinogradConv2D(keras.layers.Conv2D):
    """Conv2D that trains faster on a CPU; kernel, bias and answers are Conv2D's.

    In training, outputs and gradients differ from Conv2D's by rounding: some 5e-5 of
    their standard deviation at most. Outside training it is Conv2D to the last bit, and
    so it is where the other way gains nothing: other kernels than 3 x 3 with stride 1
    and padding "same", few channels or places, another type than float32, a GPU or TPU,
    a TensorFlow without XLA, a size or batch that is not known before it runs.

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
            and compiling.gains()
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
    images = _Images(batch // parts, height, width)
    weights = _weights(kernel)
    tiles, outputs = [], []
    for part in tf.split(inputs, parts):
        tiles.append(compiling.call(_tiles, part, images=images))
        products = tf.matmul(tiles[-1], weights)
        outputs.append(compiling.call(_outputs, products, images=images))

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        upstream = tf.ensure_shape(upstream, [batch, height, width, kernel.shape[-1]])
        to_weights, to_inputs = [], []
        for tile, part in zip(tiles, tf.split(upstream, parts), strict=True):
            product = compiling.call(_outputs_gradient, part, images=images)
            to_weights.append(tf.matmul(tile, product, transpose_a=True))
            to_tile = tf.matmul(product, weights, transpose_b=True)
            to_inputs.append(compiling.call(_tiles_gradient, to_tile, images=images))
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


class _Images(NamedTuple):
    """Sizes of images and how many tiles they are cut into."""

    notes: int
    height: int
    width: int

    @property
    def down(self) -> int:
        return -(-self.height // _STEP)

    @property
    def across(self) -> int:
        return -(-self.width // _STEP)


def _tiles(inputs: tf.Tensor, images: _Images) -> tf.Tensor:
    """Overlapping tiles of images, transformed: [36, notes * tiles, channels]."""
    x = _cut(inputs, images, margin=1)
    first, next_ones = x[:, :, :, :-1], x[: _TILE - _STEP, :, :, 1:]
    rows = [*tf.unstack(first), *tf.unstack(next_ones)]
    x = tf.stack(_times(_TO_TILE, rows))
    first, next_ones = x[:, :, :, :, :-1], x[:, : _TILE - _STEP, :, :, 1:]
    columns = [*tf.unstack(first, axis=1), *tf.unstack(next_ones, axis=1)]
    x = tf.stack(_times(_TO_TILE, columns), axis=1)
    return tf.reshape(x, [_TILE**2, -1, inputs.shape[-1]])


def _tiles_gradient(upstream: tf.Tensor, images: _Images) -> tf.Tensor:
    """From transformed tiles to the images, [notes, height, width, channels]."""
    x = _on_two_axes(upstream, images)
    columns = _times(_TO_TILE.T, tf.unstack(x, axis=1))
    x = tf.stack(_added(columns, axis=3), axis=1)
    rows = _times(_TO_TILE.T, tf.unstack(x))
    x = tf.stack(_added(rows, axis=2))
    return _joined(x, images, margin=1)


def _outputs(products: tf.Tensor, images: _Images) -> tf.Tensor:
    """Images of multiplied tiles, [36, notes * tiles, channels]."""
    x = _times_both_axes(_TO_OUTPUT, _on_two_axes(products, images))
    return _joined(x, images, margin=0)


def _outputs_gradient(upstream: tf.Tensor, images: _Images) -> tf.Tensor:
    """From images to the multiplied tiles, [36, notes * tiles, channels]."""
    x = _times_both_axes(_TO_OUTPUT.T, _cut(upstream, images, margin=0))
    return tf.reshape(x, [_TILE**2, -1, upstream.shape[-1]])


def _cut(x: tf.Tensor, images: _Images, margin: int) -> tf.Tensor:
    """Images to steps of 4 x 4 places: [4, 4, notes, down, across, channels].

    Args:
      x: [notes, height, width, channels].
      images: their sizes.
      margin: zeros in front of both axes, and steps more than there are tiles.
    """
    down, across = images.down + margin, images.across + margin
    sizes = [(down, images.height), (across, images.width)]
    padding = [[margin, n * _STEP - margin - size] for n, size in sizes]
    x = tf.pad(x, [[0, 0], *padding, [0, 0]])
    x = tf.reshape(x, [images.notes, down, _STEP, across, _STEP, x.shape[-1]])
    return tf.transpose(x, [2, 4, 0, 1, 3, 5])


def _joined(x: tf.Tensor, images: _Images, margin: int) -> tf.Tensor:
    """What `_cut` made, to images again."""
    notes, height, width = images
    _, _, _, down, across, channels = x.shape
    x = tf.transpose(x, [2, 3, 0, 4, 1, 5])
    x = tf.reshape(x, [notes, down * _STEP, across * _STEP, channels])
    return x[:, margin : height + margin, margin : width + margin]


def _on_two_axes(tiles: tf.Tensor, images: _Images) -> tf.Tensor:
    """[36, notes * tiles, channels] to [6, 6, notes, down, across, channels]."""
    sizes = [images.notes, images.down, images.across, tiles.shape[-1]]
    return tf.reshape(tiles, [_TILE, _TILE, *sizes])


def _times_both_axes(matrix: np.ndarray, x: tf.Tensor) -> tf.Tensor:
    x = tf.stack(_times(matrix, tf.unstack(x)))
    return tf.stack(_times(matrix, tf.unstack(x, axis=1)), axis=1)


def _times(matrix: np.ndarray, parts: list[tf.Tensor]) -> list[tf.Tensor]:
    """A matrix times what is one part a row, written out: XLA makes a loop of it."""
    return [_combined(row, parts) for row in matrix.tolist()]


def _combined(factors: list[float], parts: list[tf.Tensor]) -> tf.Tensor:
    """Their sum, in as few ops as it takes: each costs time to trace."""
    scaled = [
        part if factor == 1 else -part if factor == -1 else factor * part
        for factor, part in zip(factors, parts, strict=True)
        if factor
    ]
    return functools.reduce(operator.add, scaled)


def _added(places: list[tf.Tensor], axis: int) -> list[tf.Tensor]:
    """The 6 places of tiles to 4 of one tile more: the last two are the next one's."""
    behind, ahead = [[0, 0] for _ in places[0].shape], [[0, 0] for _ in places[0].shape]
    behind[axis][1] = ahead[axis][0] = 1
    added = [tf.pad(place, behind) for place in places[:_STEP]]
    for i, place in enumerate(places[_STEP:]):
        added[i] += tf.pad(place, ahead)
    return added
