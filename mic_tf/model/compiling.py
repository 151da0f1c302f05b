"""Parts of a training step that XLA compiles on a CPU, where it can."""

import contextlib
import functools
import os
from collections.abc import Callable, Hashable, Iterator

import tensorflow as tf

from mic_tf.model import pieces


def gains() -> bool:
    """Whether to compile parts: on a CPU for which this TensorFlow has XLA.

    On an accelerator TensorFlow's own kernels are those of its maker.
    """
    return not pieces.on_accelerator() and _works()


def call(
    function: Callable[..., tf.Tensor], *tensors: tf.Tensor, **sizes: Hashable
) -> tf.Tensor:
    """`function(*tensors, **sizes)`, compiled.

    XLA makes a loop or two of what would be tens of passes through memory.
    """
    shapes = tuple(tuple(tensor.shape) for tensor in tensors)
    return _compiled(function, shapes, **sizes)(*tensors)


@functools.cache
def _compiled(
    function: Callable[..., tf.Tensor], _shapes: Hashable, **sizes: Hashable
) -> Callable[..., tf.Tensor]:
    """One for each shape: TensorFlow warns of a function that it traces often."""
    of_these_sizes = functools.partial(function, **sizes)
    return tf.function(of_these_sizes, jit_compile=True, autograph=False)


@functools.cache
def _works() -> bool:
    """Whether XLA compiles for the CPU; not every build of TensorFlow has it."""
    try:
        with _standard_error_closed(), tf.init_scope(), tf.device("cpu:0"):
            return bool(call(tf.math.reduce_all, tf.constant([True])))
    except tf.errors.OpError:
        return False


@contextlib.contextmanager
def _standard_error_closed() -> Iterator[None]:
    """XLA introduces itself there at its first use, whatever the log level is."""
    try:
        standard_error = os.dup(2)
    except OSError:  # There is none.
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(standard_error, 2)
        os.close(standard_error)
