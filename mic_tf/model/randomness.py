"""Random numbers of a training step, as a pure function of (seed, step).

Layers that need chance ask for it by name inside a `step_randomness` block. Nothing
is stored, so a run that stopped and went on draws what it would have drawn.
"""

import contextlib
import random
import threading
import zlib
from collections.abc import Iterator

import tensorflow as tf
import tf_keras as keras
from tf_keras.src import backend

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
    key = tf.random.experimental.stateless_fold_in(
        tf.stack([tf.cast(seed, tf.int64), tf.cast(step, tf.int64)]),
        tf.cast(number, tf.int64),
    )
    previous = getattr(_active, "key", None)
    _active.key = key
    try:
        yield
    finally:
        _active.key = previous


def seed_for(name: str) -> tf.Tensor:
    """The seed of one use of chance in this step, int64 [2].

    Args:
      name: tells the uses of one step apart.

    Raises:
      RuntimeError: outside a `step_randomness` block.
    """
    key = getattr(_active, "key", None)
    if key is None:
        raise RuntimeError(
            f"{name}: called with training=True outside step_randomness(seed, step)"
        )
    return tf.random.experimental.stateless_fold_in(key, zlib.crc32(name.encode()))
