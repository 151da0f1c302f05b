"""Parts of a training step that XLA compiles on a CPU, where it can."""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import tensorflow as tf

from mic_tf.model import pieces

_TRIAL = threading.Lock()
"""Of two threads one would take the other's way out for standard error."""


def gains() -> bool:
    """Whether to compile parts: on a CPU for which this TensorFlow has XLA.

    On an accelerator TensorFlow's own kernels are those of its maker.
    """
    return not pieces.on_accelerator() and _works()


def call(function: Callable[..., Any], *tensors: tf.Tensor, **sizes: Hashable) -> Any:
    """`function(*tensors, **sizes)`, compiled.

    XLA makes a loop or two of what would be tens of passes through memory.
    """
    shapes = tuple(tuple(tensor.shape) for tensor in tensors)
    return _compiled(function, shapes, **sizes)(*tensors)


def fuse(function: Callable[..., Any], *tensors: tf.Tensor) -> Any:
    """`function(*tensors)`, compiled where that gains and all sizes are known."""
    known = all(tensor.shape.is_fully_defined() for tensor in tensors)
    return call(function, *tensors) if known and gains() else function(*tensors)


@functools.cache
def _compiled(
    function: Callable[..., Any], _shapes: Hashable, **sizes: Hashable
) -> Callable[..., Any]:
    """One for each shape: TensorFlow warns of a function that it traces often."""
    of_these_sizes = functools.partial(function, **sizes)
    return tf.function(of_these_sizes, jit_compile=True, autograph=False)


def _works() -> bool:
    """Whether XLA compiles for the CPU; not every build of TensorFlow has it."""
    with _TRIAL:
        return _tried()


@functools.cache
def _tried() -> bool:
    try:
        with _without_standard_error(), tf.init_scope(), tf.device("cpu:0"):
            return bool(tf.function(tf.identity, jit_compile=True)(tf.constant(True)))
    except tf.errors.OpError:
        return False


@contextlib.contextmanager
def _without_standard_error() -> Iterator[None]:
    """XLA introduces itself there at its first use, whatever the log level is."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        standard_error = os.dup(2)
    except OSError:  # There is none.
        os.close(nowhere)
        yield
        return
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(standard_error, 2)
        os.close(standard_error)
