"""Folding BatchNorm: the same function with fewer layers."""

import numpy as np
import pytest
import tf_keras as keras

from mic_tf.model.normalising import NormReluPool
from mic_tf.serving.folding import fold_batch_norm

layers = keras.layers


def with_random_weights(model: keras.Model) -> keras.Model:
    random = np.random.default_rng(0)
    for layer in model.layers:
        shapes = [weight.shape for weight in layer.get_weights()]
        layer.set_weights([random.uniform(0.2, 1.0, shape) for shape in shapes])
    return model


def norms(model: keras.Model) -> int:
    return sum(isinstance(layer, layers.BatchNormalization) for layer in model.layers)


@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize(("center", "scale"), [(True, True), (False, False)])
def test_a_folded_network_computes_the_same(use_bias, center, scale):
    image = keras.Input([8, 8, 3])
    x = layers.Conv2D(4, 3, use_bias=use_bias)(image)
    x = layers.BatchNormalization(center=center, scale=scale)(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=use_bias)(x)
    x = layers.BatchNormalization(center=center, scale=scale)(x)
    x = layers.Flatten()(layers.ReLU()(x))
    x = layers.Dense(5, use_bias=use_bias)(x)
    x = layers.BatchNormalization(center=center, scale=scale)(x)
    model = with_random_weights(keras.Model(image, x))
    folded = fold_batch_norm(model)
    assert norms(model) == 3
    assert norms(folded) == 0
    batch = np.random.default_rng(1).normal(size=(4, 8, 8, 3)).astype(np.float32)
    expected = model(batch, training=False)
    np.testing.assert_allclose(folded(batch), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("activation", "left"), [(None, 0), ("relu", 1)])
def test_what_normalises_and_pools_in_one_keeps_relu_and_pooling(activation, left):
    image = keras.Input([8, 9, 3])
    x = layers.Conv2D(4, 3, activation=activation, padding="same", use_bias=False)(
        image
    )
    x = NormReluPool(name="norm")(x)
    model = with_random_weights(keras.Model(image, x))
    folded = fold_batch_norm(model)
    assert norms(folded) == left
    batch = np.random.default_rng(1).normal(size=(4, 8, 9, 3)).astype(np.float32)
    expected = model(batch, training=False).numpy()
    assert expected.min() == 0
    np.testing.assert_allclose(folded(batch), expected, rtol=1e-4, atol=1e-4)


def test_the_trained_model_is_left_as_it_was():
    image = keras.Input([8])
    model = with_random_weights(
        keras.Model(image, layers.BatchNormalization()(layers.Dense(2)(image)))
    )
    before = [weight.copy() for weight in model.get_weights()]
    fold_batch_norm(model)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_batch_norm_that_cannot_be_folded_stays():
    image = keras.Input([8])
    shared = layers.Dense(4, name="shared")(image)
    behind_relu = layers.BatchNormalization()(layers.Dense(4, "relu")(image))
    beside = layers.Add()([shared, layers.BatchNormalization()(shared)])
    first = layers.BatchNormalization()(image)
    x = layers.Concatenate()([behind_relu, beside, first])
    model = with_random_weights(keras.Model(image, x))
    folded = fold_batch_norm(model)
    assert norms(folded) == 3
    batch = np.random.default_rng(1).normal(size=(4, 8)).astype(np.float32)
    np.testing.assert_allclose(folded(batch), model(batch), rtol=1e-5, atol=1e-5)
