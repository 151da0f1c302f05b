"""Global max pooling."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from mic_tf.model import pooling


def values_and_gradient(layer, inputs: tf.Tensor, training: bool):
    weights = tf.cast(tf.range(1, 1 + inputs.shape[-1]), inputs.dtype)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        values = layer(inputs, training=training)
        loss = tf.reduce_sum(values * weights)
    return values, tape.gradient(loss, inputs)


@pytest.mark.parametrize("training", [False, True])
def test_values_and_gradient_are_those_of_keras(training):
    inputs = tf.constant(np.random.default_rng(0).normal(size=[3, 4, 5, 6]), tf.float32)
    expected = values_and_gradient(keras.layers.GlobalMaxPooling2D(), inputs, training)
    found = values_and_gradient(pooling.GlobalMax(), inputs, training)
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one, other)


def test_where_several_places_are_the_largest_one_gets_the_gradient():
    _, gradient = values_and_gradient(pooling.GlobalMax(), tf.ones([2, 3, 3, 4]), True)
    assert np.array_equal(tf.reduce_sum(gradient, axis=(1, 2)), [[1, 2, 3, 4]] * 2)
    assert np.count_nonzero(gradient) == 2 * 4


def test_the_gradient_is_finite_where_the_largest_value_was_rounded(monkeypatch):
    original = tf.reduce_max
    monkeypatch.setattr(tf, "reduce_max", lambda x, axis: 1.01 * original(x, axis))
    inputs = tf.constant(np.random.default_rng(0).normal(size=[3, 4, 5, 6]), tf.float32)
    _, gradient = values_and_gradient(pooling.GlobalMax(), inputs, True)
    assert np.array_equal(tf.reduce_sum(gradient, axis=(1, 2)), [range(1, 7)] * 3)


def test_nothing_of_the_gradient_is_in_a_graph_for_inference():
    layer = pooling.GlobalMax()
    graph = tf.function(lambda x: layer(x)).get_concrete_function(
        tf.TensorSpec([None, 4, 5, 6])
    )
    operations = {operation.type for operation in graph.graph.get_operations()}
    assert operations <= {"Placeholder", "Const", "Max", "Identity"}


def test_a_step_in_16_bit_has_a_gradient():
    inputs = tf.constant(np.random.default_rng(0).normal(size=[3, 4, 5, 6]), "bfloat16")
    layer = pooling.GlobalMax(dtype="bfloat16")

    @tf.function(jit_compile=True)
    def step(inputs):
        return values_and_gradient(layer, inputs, True)[1]

    gradient = tf.cast(step(inputs), tf.float32)
    assert np.array_equal(tf.reduce_sum(gradient, axis=(1, 2)), [range(1, 7)] * 3)
