"""How much arithmetic a note takes, and how much the device can do."""

import math
import statistics
import time

import tensorflow as tf
import tf_keras as keras

from mic_tf.settings import FrontEndSettings
from mic_tf.taxonomy import NOTE_SAMPLES

layers = keras.layers


def frontend_flops(settings: FrontEndSettings) -> float:
    """Operations of the front-end for one note: FFT of real frames, mel product.

    The product is counted whole; on a CPU most of its zeros are left out.
    """
    frames = 1 + NOTE_SAMPLES // settings.hop_length
    fft = 2.5 * settings.n_fft * math.log2(settings.n_fft)
    mel = 2.0 * (settings.n_fft // 2 + 1) * settings.n_mels
    return frames * (fft + mel)


def forward_flops(model: keras.Model) -> dict[str, float]:
    """Operations of convolutions and dense layers for one note, by layer.

    A multiplication and an addition count as two. What is done by element
    (BatchNorm, ReLU, pooling) is left out: it takes time, but no matrix unit.
    """
    found = {}
    for layer in model.layers:
        if isinstance(layer, layers.DepthwiseConv2D):
            per_output = math.prod(layer.kernel_size)
        elif isinstance(layer, layers.Conv2D):
            per_output = math.prod(layer.kernel_size) * layer.input_shape[-1]
        elif isinstance(layer, layers.Dense):
            per_output = layer.input_shape[-1]
        else:
            continue
        found[layer.name] = 2.0 * per_output * math.prod(layer.output_shape[1:])
    return found


def training_flops(model: keras.Model) -> float:
    """Operations of a training step for one note.

    Forward, the gradient of the weights and that of the input, each as much; the
    first layer needs no gradient of its input.
    """
    by_layer = list(forward_flops(model).values())
    return 3.0 * sum(by_layer) - by_layer[0]


def matrix_peak(dtype: str, size: int) -> float:
    """Operations a second of a large matrix product on the default device.

    Args:
      dtype: of the matrices.
      size: their rows and columns.
    """
    left = tf.cast(tf.random.normal([size, size]), dtype)
    right = tf.cast(tf.random.normal([size, size]), dtype)
    repeats = 8

    @tf.function
    def multiply() -> tf.Tensor:
        product = left
        for _ in range(repeats):
            product = tf.matmul(product, right) * tf.cast(1e-3, dtype)
        return tf.reduce_sum(tf.cast(product, tf.float32))

    float(multiply())
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        float(multiply())
        seconds.append(time.perf_counter() - started)
    return repeats * 2.0 * size**3 / statistics.median(seconds)
