import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from mic_tf.model import compiling, networks, pieces, winograd
from mic_tf.model.winograd import WinogradConv2D
from mic_tf.settings import (
    AugmentSettings,
    FrontEndSettings,
    NetworkSettings,
    RunSettings,
    TrainSettings,
)
from mic_tf.training import workfolder
from mic_tf.training.trainee import Trainee, compile_trainee

pytestmark = pytest.mark.usefixtures("compiling_cpu")

ROUNDING = 2e-4
"""Of a result's standard deviation."""


def random_normal(*shape: int, seed: int = 0) -> tf.Tensor:
    return tf.random.stateless_normal(shape, [seed, 1])


def values_and_gradients(convolution, inputs, kernel, upstream):
    with tf.GradientTape() as tape:
        tape.watch([inputs, kernel])
        outputs = convolution(inputs, kernel)
    return outputs, *tape.gradient(outputs, [inputs, kernel], upstream)


def convolutions_of(model: keras.Model, inputs: tf.Tensor, training: bool) -> int:
    """How many convolutions of TensorFlow's a pass through the model takes."""
    graph = tf.function(lambda x: model(x, training=training))
    operations = graph.get_concrete_function(inputs).graph.get_operations()
    return sum(operation.type == "Conv2D" for operation in operations)


def one_layer(batch: int | None, height: int, width: int, channels: int, **kwargs):
    image = keras.Input([height, width, channels], batch_size=batch)
    layer = WinogradConv2D(8, 3, **{"padding": "same", **kwargs})
    return keras.Model(image, layer(image))


@pytest.mark.parametrize(
    ("batch", "height", "width"),
    [(1, 4, 4), (3, 5, 7), (8, 31, 24), (2, 63, 48), (2, 2, 3), (4, 1, 9)],
)
def test_is_the_convolution_and_its_gradients_but_for_rounding(batch, height, width):
    inputs = random_normal(batch, height, width, 5)
    kernel = random_normal(3, 3, 5, 6, seed=1)
    upstream = random_normal(batch, height, width, 6, seed=2)
    ours = values_and_gradients(winograd.conv2d, inputs, kernel, upstream)
    plain = values_and_gradients(
        lambda x, k: tf.nn.conv2d(x, k, 1, "SAME"), inputs, kernel, upstream
    )
    for one, other in zip(ours, plain, strict=True):
        assert one.shape == other.shape
        assert np.abs(one - other).max() < ROUNDING * np.std(other)


def test_a_batch_in_pieces_gives_what_it_gives_whole(monkeypatch):
    inputs, kernel = random_normal(6, 20, 24, 4), random_normal(3, 3, 4, 4, seed=1)
    upstream = random_normal(6, 20, 24, 4, seed=2)
    results = []
    for together in (20 * 24, 10**9):
        monkeypatch.setattr(winograd, "_PLACES_TOGETHER", together)
        results.append(values_and_gradients(winograd.conv2d, inputs, kernel, upstream))
    for in_pieces, whole in zip(*results, strict=True):
        np.testing.assert_allclose(in_pieces, whole, rtol=1e-4, atol=1e-3)


def test_the_layer_is_conv2d_to_the_last_bit_outside_training():
    inputs = random_normal(2, 16, 16, 32)
    model = one_layer(2, 16, 16, 32)
    plain = keras.layers.Conv2D(8, 3, padding="same")
    plain.build(inputs.shape)
    plain.set_weights(model.get_weights())
    np.testing.assert_array_equal(model(inputs), plain(inputs))
    in_training = model(inputs, training=True)
    assert 0 < np.abs(in_training - plain(inputs)).max() < 1e-4


def test_bias_and_activation_are_those_of_conv2d_in_training_too():
    inputs = random_normal(2, 16, 16, 32)
    model = one_layer(
        2, 16, 16, 32, activation="relu", bias_initializer="random_normal"
    )
    trained = model(inputs, training=True)
    assert np.min(trained) == 0
    assert np.abs(trained - model(inputs)).max() < 1e-4


@pytest.mark.parametrize(
    ("batch", "height", "channels", "layer", "convolutions"),
    [
        (2, 16, 32, {}, 0),
        (None, 16, 32, {}, 1),
        (2, None, 32, {}, 1),
        (2, 16, 8, {}, 1),
        (2, 3, 32, {}, 1),
        (2, 16, 32, {"strides": 2}, 1),
        (2, 16, 32, {"padding": "valid"}, 1),
        (2, 16, 32, {"dilation_rate": 2}, 1),
        (2, 16, 32, {"in_training": False}, 1),
        (2, 16, 32, {"dtype": "mixed_bfloat16"}, 1),
    ],
)
def test_only_convolutions_that_gain_are_done_otherwise(
    batch, height, channels, layer, convolutions
):
    model = one_layer(batch, height, height, channels, **layer)
    inputs = tf.TensorSpec([batch, height, height, channels])
    assert convolutions_of(model, inputs, training=True) == convolutions
    assert convolutions_of(model, inputs, training=False) == 1


def test_an_accelerator_does_its_own_convolutions(monkeypatch):
    monkeypatch.setattr(pieces, "on_accelerator", lambda: True)
    model = one_layer(2, 16, 16, 32)
    assert convolutions_of(model, random_normal(2, 16, 16, 32), training=True) == 1


def test_without_a_compiler_it_is_conv2d(monkeypatch):
    monkeypatch.setattr(compiling, "_works", lambda: False)
    model = one_layer(2, 16, 16, 32)
    assert convolutions_of(model, random_normal(2, 16, 16, 32), training=True) == 1


def settings(**train) -> RunSettings:
    return RunSettings(
        frontend=FrontEndSettings(n_mels=64, hop_length=1000),
        augment=AugmentSettings(),
        network=NetworkSettings(width=32, depth=3, dense_units=16, dropout=0.0),
        train=TrainSettings(batch_size=4, **train),
    )


def step_of(run: RunSettings):
    trainee = Trainee(run, 11)
    random = np.random.default_rng(1)
    for weight in trainee.classifier.trainable_weights:
        if weight.shape.rank > 1:
            inputs = np.prod(weight.shape[:-1])
            weight.assign(random.normal(0.0, inputs**-0.5, weight.shape))
    compile_trainee(trainee, run, total_steps=10)
    random = np.random.default_rng(0)
    waveform = tf.constant(random.integers(-9000, 9000, [4, 64_000]), tf.int16)
    batch = (waveform, tf.constant([0, 3, 5, 7]), tf.ones([4]))
    return trainee, tf.function(lambda: trainee.train_step(batch))


def learned_in_three_steps(step, trainee) -> np.ndarray:
    """By how much the weights changed."""

    def weights() -> np.ndarray:
        parts = trainee.classifier.trainable_weights
        return np.concatenate([part.numpy().ravel() for part in parts])

    before = weights()
    losses = [float(step()["loss"]) for _ in range(3)]
    assert losses[-1] < losses[0]
    return weights() - before


@pytest.fixture
def learned_in_float64():
    with workfolder.numeric_policy("float64"):
        trainee, step = step_of(settings(mixed_precision="float64"))
        return learned_in_three_steps(step, trainee)


def test_a_training_step_learns_the_same_either_way(learned_in_float64):
    plain = {"winograd": False, "fused_norm": False}
    apart, kinds = [], []
    for train in (plain, {"winograd": False}, {"fused_norm": False}, {}):
        trainee, step = step_of(settings(**train))
        operations = step.get_concrete_function().graph.get_operations()
        kinds.append(
            [
                sum(kind in operation.type for operation in operations)
                for kind in ("Conv2DBackpropFilter", "FusedBatchNormGrad")
            ]
        )
        learned = learned_in_three_steps(step, trainee)
        error = np.linalg.norm(learned - learned_in_float64)
        apart.append(error / np.linalg.norm(learned_in_float64))
    assert kinds == [[3, 3], [3, 0], [1, 3], [1, 0]]
    # TensorFlow's own BatchNorm, where oneDNN does it, is the least exact.
    assert max(apart[1], apart[3]) < 1e-3
    assert max(apart) < 0.01


@pytest.mark.parametrize(
    ("train", "in_training"),
    [({}, True), ({"winograd": False}, False), ({"jit": True}, False)],
)
@pytest.mark.parametrize("name", ["deep_cnn", "small_cnn"])
def test_networks_ask_for_what_the_settings_say(name, train, in_training):
    run = RunSettings(network=NetworkSettings(model=name), train=TrainSettings(**train))
    found = [
        layer.in_training
        for layer in networks.build_model(run, 11).layers
        if isinstance(layer, WinogradConv2D)
    ]
    assert len(found) >= 2
    assert set(found) == {in_training}
