"""Random numbers of a training step, as a pure function of (seed, step).

Layers that need chance ask for it by name inside a `step_randomness` block. Nothing
is stored, so a run that stopped and went on draws what it would have drawn. XLA draws
the same numbers, on every device: what TensorFlow and XLA agree on are the integers of
an algorithm that is named, and fractions and normal numbers are made of them here, as
TensorFlow's own kernels make them.
"""

import contextlib
import math
import random
import threading
import zlib
from collections.abc import Iterator, Sequence

import tensorflow as tf
import tf_keras as keras
from tf_keras.src import backend

from mic_tf.model import compiling

_ALGORITHM = "philox"
"""TensorFlow's own on CPUs and GPUs."""
_FRACTION = 0x7FFFFF
_ONE = 0x3F800000
"""Bits of the float32 numbers from 1 to 2: these and the fraction."""
_LEAST = 1e-7
"""What the logarithm of a normal number is taken of, as TensorFlow does."""
_active = threading.local()


class _SeedsOfLayers(random.Random):
    """tf_keras 2.17 asks for `randint(1, 1e9)`: Python 3.12 takes no float there."""

    def randint(self, a: float, b: float) -> int:
        return super().randint(int(a), int(b))


def set_random_seed(seed: int) -> None:
    """Seeds what draws outside a step: initial weights, say.

    As `keras.utils.set_random_seed`, and the same numbers, on every Python. Layers
    take their seeds from it in this thread alone, all others in the whole process.
    """
    keras.utils.set_random_seed(seed)
    backend._SEED_GENERATOR.generator = _SeedsOfLayers(seed)


@contextlib.contextmanager
def step_randomness(seed: int, step: tf.Tensor) -> Iterator[None]:
    """Within this block (of tracing), chance is a function of seed and step.

    Args:
      seed: the run's seed.
      step: the optimiser's step, int64 scalar. Replicas of one step draw different
        numbers.
    """
    replica = tf.distribute.get_replica_context()
    number = replica.replica_id_in_sync_group if replica else 0
    seed_and_step = tf.stack([tf.cast(seed, tf.int64), tf.cast(step, tf.int64)])
    key = _fold_in(seed_and_step, tf.cast(number, tf.int64))
    previous = getattr(_active, "key", None)
    _active.key = key
    try:
        yield
    finally:
        _active.key = previous


def uniform(
    name: str,
    shape: tf.types.experimental.TensorLike,
    minval: float | None = 0,
    maxval: float | None = None,
    dtype: tf.DType = tf.float32,
) -> tf.Tensor:
    """Numbers of one use of chance in this step, as `tf.random.stateless_uniform`.

    Args:
      name: tells the uses of one step apart.
      shape: of the numbers.
      minval: none is less.
      maxval: all are less; None: 1, or every integer where `minval` is None too.
      dtype: of the numbers.

    Raises:
      RuntimeError: outside a `step_randomness` block.
    """
    if dtype.is_integer:
        return _integers(name, shape, minval, maxval, dtype)
    lowest = tf.constant(minval, dtype)
    spread = tf.constant(1 if maxval is None else maxval, dtype) - lowest
    drawn = _fractions(_integers(name, shape, None, None, tf.uint32))
    return tf.cast(drawn, dtype) * spread + lowest


def normal(name: str, shape: Sequence[int | tf.Tensor], stddev: float) -> tf.Tensor:
    """Like `uniform`, of a normal distribution around 0, float32."""
    count = math.prod(shape)
    pairs = _integers(name, [(count + 1) // 2, 2], None, None, tf.uint32)
    numbers = tf.reshape(compiling.fuse(_box_muller, pairs), [-1])[:count]
    return stddev * tf.reshape(numbers, shape)


def _box_muller(pairs: tf.Tensor) -> tf.Tensor:
    """Normal numbers, float32 [pairs, 2], from uint32 [pairs, 2]."""
    drawn = _fractions(pairs)
    radius = tf.sqrt(-2.0 * tf.math.log(tf.maximum(drawn[:, :1], _LEAST)))
    angle = 2.0 * math.pi * drawn[:, 1:]
    return tf.concat([tf.sin(angle), tf.cos(angle)], 1) * radius


def _fractions(integers: tf.Tensor) -> tf.Tensor:
    """From 0 to 1, without it, float32, from uint32."""
    return tf.bitcast(integers & _FRACTION | _ONE, tf.float32) - 1.0


def _integers(
    name: str,
    shape: tf.types.experimental.TensorLike,
    minval: int | None,
    maxval: int | None,
    dtype: tf.DType,
) -> tf.Tensor:
    return tf.random.stateless_uniform(
        shape, _seed_for(name), minval, maxval, dtype, alg=_ALGORITHM
    )


def _seed_for(name: str) -> tf.Tensor:
    """The seed of one use of chance in this step, int64 [2]."""
    key = getattr(_active, "key", None)
    if key is None:
        raise RuntimeError(
            f"{name}: called with training=True outside step_randomness(seed, step)"
        )
    return _fold_in(key, zlib.crc32(name.encode()))


def _fold_in(seed: tf.Tensor, number: tf.Tensor | int) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(seed, number, alg=_ALGORITHM)
