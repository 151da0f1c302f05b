"""Functions that TensorFlow traces as they are written."""

import tensorflow as tf

as_written = tf.autograph.experimental.do_not_convert
"""Decorator: AutoGraph leaves a function alone, and all that is called from it.

AutoGraph translates the source of whatever is traced, so that Python's `if` and `for`
may depend on tensors. Nothing in this package needs that, and it took one to two
seconds of a command's start.
"""
