import numpy as np
import pytest
import tensorflow as tf

from mic_tf.model import compiling, pieces
from tests import processes

pytestmark = pytest.mark.usefixtures("compiling_cpu")

TALK = """
from mic_tf import command
command.set_environment()
import sys
import tensorflow as tf
from mic_tf.model import compiling
assert compiling.gains()
assert float(compiling.call(lambda x: x + x, tf.constant(2.0))) == 4.0
print("still there", file=sys.stderr)
"""


@pytest.fixture
def afresh():
    compiling._tried.cache_clear()
    yield
    compiling._tried.cache_clear()


def test_a_function_is_traced_once_for_its_shapes_and_sizes():
    traced = []

    def times(x: tf.Tensor, factor: int) -> tf.Tensor:
        traced.append((*x.shape, factor))
        return x * factor

    for factor in (3, 4, 3):
        for length in (1, 2, 1):
            result = compiling.call(times, tf.fill([length], 2.0), factor=factor)
            assert np.array_equal(result, [2.0 * factor] * length)
    assert traced == [(1, 3), (2, 3), (1, 4), (2, 4)]


def test_parts_are_compiled_where_all_sizes_are_known(monkeypatch):
    compiled = []

    def double(x: tf.Tensor) -> tf.Tensor:
        return x + x

    def call(function, *tensors):
        compiled.append([tensor.shape for tensor in tensors])
        return function(*tensors)

    @tf.function(input_signature=[tf.TensorSpec([None])])
    def of_any_size(x: tf.Tensor) -> tf.Tensor:
        return compiling.fuse(double, x)

    monkeypatch.setattr(compiling, "call", call)
    assert np.array_equal(compiling.fuse(double, tf.ones([3])), [2, 2, 2])
    assert np.array_equal(of_any_size(tf.ones([2])), [2, 2])
    assert compiled == [[tf.TensorShape([3])]]
    monkeypatch.setattr(compiling, "gains", lambda: False)
    assert np.array_equal(compiling.fuse(double, tf.ones([3])), [2, 2, 2])
    assert len(compiled) == 1


def test_an_accelerator_needs_no_compiled_parts(monkeypatch):
    assert compiling.gains()
    monkeypatch.setattr(pieces, "on_accelerator", lambda: True)
    assert not compiling.gains()


def test_a_tensorflow_without_xla_is_known(monkeypatch, afresh):
    def no_compiler(*_tensors):
        raise tf.errors.UnimplementedError(None, None, "no XLA here")

    monkeypatch.setattr(compiling.tf, "identity", no_compiler)
    assert not compiling.gains()


def test_a_program_without_standard_error_compiles_too(monkeypatch, afresh):
    def no_file(_descriptor):
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(compiling.os, "dup", no_file)
    assert compiling.gains()


def test_xla_does_not_introduce_itself_on_the_screen():
    done = processes.run("-c", TALK)
    assert done.returncode == 0, done.stderr
    assert "XLA" not in done.stderr
    assert done.stderr.endswith("still there\n")
