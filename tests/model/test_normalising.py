import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from mic_tf.model import compiling, networks, pieces
from mic_tf.model.normalising import NormReluPool, ReluPool, norm_relu_pool
from mic_tf.settings import RunSettings, TrainSettings

pytestmark = pytest.mark.usefixtures("compiling_cpu")

EPSILON = 1e-3
GAMMA = [1.5, -0.7, 0.0, 0.2, -2.0]
BETA = [0.1, -0.3, 0.4, -0.01, 0.0]


def images(*shape: int, seed: int = 0, levels: int | None = None) -> np.ndarray:
    """Random values, some away from zero; of a few levels, so that many are equal."""
    values = np.random.default_rng(seed).normal(3.0, 2.0, shape).astype(np.float32)
    return values if levels is None else np.round(values * levels / 4) * 4 / levels


def in_float64(x, gamma, beta, upstream):
    """The three operations one after the other, their moments and gradients."""
    x, gamma, beta = (tf.constant(v, tf.float64) for v in (x, gamma, beta))
    with tf.GradientTape() as tape:
        tape.watch([x, gamma, beta])
        mean, variance = tf.nn.moments(x, [0, 1, 2])
        scaled = tf.nn.batch_normalization(x, mean, variance, beta, gamma, EPSILON)
        outputs = tf.nn.max_pool2d(tf.nn.relu(scaled), 2, 2, "VALID")
    gradients = tape.gradient(
        outputs, [x, gamma, beta], tf.constant(upstream, tf.float64)
    )
    return outputs, mean, variance, *gradients


def in_one(x, gamma, beta, upstream):
    x, gamma, beta = (tf.constant(v, tf.float32) for v in (x, gamma, beta))
    with tf.GradientTape() as tape:
        tape.watch([x, gamma, beta])
        results = norm_relu_pool(x, gamma, beta, tf.constant(EPSILON))
    return *results, *tape.gradient(results[0], [x, gamma, beta], upstream)


@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize(
    ("batch", "height", "width"), [(1, 2, 2), (3, 5, 7), (8, 16, 9), (4, 31, 12)]
)
def test_is_the_three_operations_and_their_gradients(batch, height, width, levels):
    x = images(batch, height, width, 5, levels=levels)
    upstream = images(batch, height // 2, width // 2, 5, seed=1)
    ours = in_one(x, GAMMA, BETA, upstream)
    exact = in_float64(x, GAMMA, BETA, upstream)
    for one, other in zip(ours, exact, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(
            one, other, rtol=1e-4, atol=2e-5 * (1.0 + np.abs(other).max())
        )


def test_values_far_from_zero_lose_nothing():
    x = images(32, 64, 64, 2) * [[[[1.0, 0.01]]]] + [[[[0.0, 100.0]]]]
    x = x.astype(np.float32)
    gamma, beta = [1.0, 1.0], [0.5, 0.5]
    upstream = np.ones([32, 32, 32, 2], np.float32)
    outputs, mean, variance, *_ = in_one(x, gamma, beta, upstream)
    exact = in_float64(x, gamma, beta, upstream)
    np.testing.assert_allclose(mean, exact[1], rtol=1e-6)
    np.testing.assert_allclose(variance, exact[2], rtol=2e-5)
    np.testing.assert_allclose(outputs, exact[0], atol=2e-4)


def test_what_is_not_a_number_is_not_lost():
    x = images(2, 8, 8, 3)
    x[1, 4, 5, 2] = np.nan
    gamma, beta = tf.constant([1.0, -1.0, 1.0]), tf.zeros([3])
    results = norm_relu_pool(tf.constant(x), gamma, beta, tf.constant(EPSILON))
    outputs, mean, variance = results
    assert np.isnan(outputs[..., 2]).all()
    assert np.isfinite(outputs[..., :2]).all()
    for moment in (mean, variance):
        assert np.array_equal(np.isnan(moment), [False, False, True])


def one_layer(batch: int | None, height: int | None, **kwargs) -> keras.Model:
    image = keras.Input([height, 8, 5], batch_size=batch)
    layer = NormReluPool(momentum=0.9, name="norm", **kwargs)
    return keras.Model(image, layer(image))


def three_layers(height: int) -> keras.Model:
    image = keras.Input([height, 8, 5])
    x = keras.layers.BatchNormalization(momentum=0.9, name="norm")(image)
    return keras.Model(image, keras.layers.MaxPooling2D()(keras.layers.ReLU()(x)))


def kinds_in(model: keras.Model, training: bool) -> set[str]:
    graph = tf.function(lambda x: model(x, training=training))
    concrete = graph.get_concrete_function(
        tf.TensorSpec(model.input_shape, model.input.dtype)
    )
    return {operation.type for operation in concrete.graph.get_operations()}


def test_the_layer_learns_moving_statistics_as_batch_norm_does():
    one, three = one_layer(4, 9), three_layers(9)
    three.set_weights(one.get_weights())
    for seed in range(3):
        batch = images(4, 9, 8, 5, seed=seed)
        ours, theirs = (model(batch, training=True) for model in (one, three))
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    for ours, theirs in zip(one.get_weights(), three.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    assert np.abs(one.get_layer("norm").moving_mean).min() > 0.1


def test_outside_training_it_is_the_three_layers_to_the_last_bit():
    one, three = one_layer(4, 9), three_layers(9)
    random = np.random.default_rng(0)
    weights = [random.uniform(0.5, 2.0, w.shape) for w in one.get_weights()]
    for model in (one, three):
        model.set_weights(weights)
    batch = images(4, 9, 8, 5)
    np.testing.assert_array_equal(one(batch), three(batch))
    assert one.output_shape == (4, 4, 4, 5)


@pytest.mark.parametrize("layer", [NormReluPool(name="norm"), ReluPool(name="norm")])
def test_the_layers_are_made_again_from_what_describes_them(layer):
    image = keras.Input([9, 8, 5])
    model = keras.Model(image, layer(image))
    again = keras.models.model_from_json(model.to_json())
    random = np.random.default_rng(0)
    again.set_weights([random.uniform(0.5, 2.0, w.shape) for w in again.get_weights()])
    model.set_weights(again.get_weights())
    batch = images(4, 9, 8, 5)
    np.testing.assert_array_equal(again(batch), model(batch))
    assert type(again.get_layer("norm")) is type(layer)


def test_its_output_shape_may_be_unknown():
    layer = NormReluPool()
    assert layer.compute_output_shape([None, None, 9, 3]).as_list() == [
        None,
        None,
        4,
        3,
    ]


def test_frozen_it_keeps_its_statistics():
    model = one_layer(4, 8)
    model.trainable = False
    before = model.get_weights()
    batch = images(4, 8, 8, 5)
    np.testing.assert_array_equal(model(batch, training=True), model(batch))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("batch", "height", "layer", "in_one"),
    [
        (4, 8, {}, True),
        (None, 8, {}, False),
        (4, None, {}, False),
        (4, 8, {"synchronized": True}, False),
        (4, 8, {"renorm": True}, False),
        (4, 8, {"axis": 2}, False),
        (4, 8, {"scale": False}, False),
        (4, 8, {"center": False}, False),
        (4, 8, {"dtype": "mixed_bfloat16"}, False),
    ],
)
def test_only_where_it_gains_is_it_done_in_one(batch, height, layer, in_one):
    model = one_layer(batch, height, **layer)
    assert ("MaxPool" not in kinds_in(model, training=True)) is in_one
    assert "MaxPool" in kinds_in(model, training=False)


@pytest.mark.parametrize(
    ("module", "name", "answer"),
    [(pieces, "on_accelerator", True), (compiling, "_works", False)],
)
def test_without_a_compiler_for_the_cpu_it_is_three(monkeypatch, module, name, answer):
    monkeypatch.setattr(module, name, lambda: answer)
    assert "MaxPool" in kinds_in(one_layer(4, 8), training=True)


@pytest.mark.parametrize(
    ("train", "in_one"),
    [({}, True), ({"fused_norm": False}, False), ({"jit": True}, False)],
)
def test_the_network_asks_for_what_the_settings_say(train, in_one):
    model = networks.build_model(RunSettings(train=TrainSettings(**train)), 11)
    found = [layer for layer in model.layers if isinstance(layer, NormReluPool)]
    assert len(found) == (4 if in_one else 0)
    assert len(model.get_weights()) == 4 * 5 + 5 + 2
