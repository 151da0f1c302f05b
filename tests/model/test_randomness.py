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
