"""Chance outside a training step."""

import random

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from mic_tf.model import randomness


@pytest.fixture(autouse=True)
def chance_as_before():
    states = random.getstate(), np.random.get_state()
    seeds = getattr(randomness.backend._SEED_GENERATOR, "generator", None)
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])
    randomness.backend._SEED_GENERATOR.generator = seeds
    tf.random.set_seed(1)  # TensorFlow does not tell what it was.


@pytest.fixture
def whole_bounds_only(monkeypatch):
    """`randrange` as it is from Python 3.12 on."""
    original = random.Random.randrange

    def strict(self, start, stop=None, *step):
        if any(isinstance(bound, float) for bound in (start, stop)):
            raise TypeError("'float' object cannot be interpreted as an integer")
        return original(self, start, stop, *step)

    monkeypatch.setattr(random.Random, "randrange", strict)


def weights() -> np.ndarray:
    layer = keras.layers.Dense(5)
    layer.build([None, 3])
    return layer.kernel.numpy()


def test_layers_get_weights_where_bounds_must_be_whole(whole_bounds_only):
    randomness.set_random_seed(3)
    assert weights().std() > 0


def test_the_numbers_are_those_of_keras():
    randomness.set_random_seed(3)
    seeds = randomness.backend._SEED_GENERATOR.generator
    reference = random.Random(3)
    assert [seeds.randint(1, 1e9) for _ in range(4)] == [
        reference.randint(1, 10**9) for _ in range(4)
    ]
    drawn = random.random(), np.random.rand(), float(tf.random.uniform([]))
    keras.utils.set_random_seed(3)
    assert drawn == (random.random(), np.random.rand(), float(tf.random.uniform([])))


def test_the_same_seed_gives_the_same_weights_and_another_others():
    found = []
    for seed in (3, 3, 4):
        randomness.set_random_seed(seed)
        found.append(weights())
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def draw(kind: str, shape: list | tf.Tensor) -> tf.Tensor:
    """Numbers of the third step of a run."""
    with randomness.step_randomness(7, tf.constant(3, tf.int64)):
        if kind == "uniform":
            return randomness.uniform("it", shape, -0.3, 0.7)
        if kind == "integers":
            return randomness.uniform("it", shape, -5, 6, tf.int32)
        return randomness.normal("it", shape, stddev=3.0)


def drawn(kind: str, shape: list, jit: bool | None = None) -> np.ndarray:
    """The same, drawn in a graph."""
    return tf.function(lambda: draw(kind, shape), jit_compile=jit)().numpy()


@pytest.mark.parametrize("shape", [[1], [5], [66, 128], [3, 7, 5]])
@pytest.mark.parametrize("kind", ["uniform", "integers", "normal"])
def test_xla_draws_the_same_numbers(kind, shape):
    without, by_xla = drawn(kind, shape), drawn(kind, shape, jit=True)
    assert without.shape == tuple(shape)
    np.testing.assert_allclose(by_xla, without, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [[1], [5], [3, 7, 5]])
@pytest.mark.parametrize("kind", ["uniform", "integers", "normal"])
def test_the_numbers_are_those_of_tensorflow(kind, shape, monkeypatch):
    seed = tf.constant([3, 4], tf.int64)
    monkeypatch.setattr(randomness, "_seed_for", lambda name: seed)
    reference = {
        "uniform": lambda: tf.random.stateless_uniform(shape, seed, -0.3, 0.7),
        "integers": lambda: tf.random.stateless_uniform(shape, seed, -5, 6, tf.int32),
        "normal": lambda: tf.random.stateless_normal(shape, seed, stddev=3.0),
    }
    np.testing.assert_allclose(
        drawn(kind, shape), reference[kind]().numpy(), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("kind", ["uniform", "integers", "normal"])
def test_a_shape_may_be_known_only_when_drawn(kind):
    @tf.function(input_signature=[tf.TensorSpec([None, 5])])
    def like(values: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(values)
        return draw(kind, [shape[0], 5] if kind == "normal" else shape)

    found = like(tf.zeros([3, 5])).numpy()
    np.testing.assert_allclose(found, drawn(kind, [3, 5]), rtol=0, atol=1e-5)


def test_normal_numbers_are_normal():
    numbers = np.sort(drawn("normal", [40_001]) / 3.0)
    assert abs(numbers.mean()) < 0.02
    assert abs(numbers.std() - 1.0) < 0.02
    shares = [(numbers < at).mean() for at in (-2, -1, 0, 1, 2)]
    np.testing.assert_allclose(shares, [0.0228, 0.1587, 0.5, 0.8413, 0.9772], atol=0.01)
