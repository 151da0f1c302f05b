from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from mic_tf.errors import UserError
from mic_tf.model import networks, randomness
from mic_tf.settings import MODELS, FrontEndSettings, NetworkSettings, RunSettings


def settings(**network) -> RunSettings:
    network = NetworkSettings(**{"width": 8, "dense_units": 16, **network})
    frontend = FrontEndSettings(n_mels=64, hop_length=1000)
    return RunSettings(frontend=frontend, network=network)


@pytest.fixture
def waveforms():
    return np.random.default_rng(0).integers(-9000, 9000, [4, 64_000]).astype(np.int16)


@pytest.mark.parametrize("name", MODELS)
def test_network_gives_float32_logits_and_a_named_embedding(name, waveforms):
    model = networks.build_model(settings(model=name), 11)
    logits = model(waveforms)
    assert logits.shape == (4, 11)
    assert logits.dtype == tf.float32
    frontend, network = networks.split_model(model)
    again, embedding = network(frontend(waveforms))
    assert np.allclose(again, logits, atol=1e-5)
    assert embedding.shape == (4, 16)


@pytest.mark.parametrize("name", MODELS)
def test_inference_model_has_the_same_weights_behind_a_float_input(name, waveforms):
    model = networks.build_model(settings(model=name), 11)
    logits, _ = networks.inference_model(model)(waveforms / np.float32(32_768))
    assert np.allclose(logits, model(waveforms), atol=1e-5)


def test_width_and_depth_are_what_the_settings_say():
    convolutions = [
        layer.filters
        for layer in networks.build_model(settings(depth=3), 11).layers
        if layer.name.startswith("conv")
    ]
    assert convolutions == [8, 16, 32]


def test_mobile_cnn_has_the_embedding_of_deep_cnn_with_far_fewer_weights():
    deep, mobile = (
        networks.build_model(RunSettings(network=NetworkSettings(model=name)), 11)
        for name in ("deep_cnn", "mobile_cnn")
    )
    pooled = [m.get_layer("mean_and_max").output_shape for m in (deep, mobile)]
    assert pooled[0] == pooled[1]
    assert mobile.count_params() < deep.count_params() / 2


def test_batch_norm_is_synchronised_where_there_is_something_to_synchronise():
    model = networks.build_model(settings(), 11)
    norms = [layer for layer in model.layers if "norm" in layer.name]
    assert len(norms) == 5
    assert not any(layer.synchronized for layer in norms)
    with mock.patch.object(tf.distribute, "get_strategy") as strategy:
        strategy.return_value.num_replicas_in_sync = 2
        assert networks._norm_arguments("norm")["synchronized"]


def test_deep_cnn_of_the_defaults_is_within_the_size_of_the_box():
    model = networks.build_model(RunSettings(), 11)
    assert model.count_params() < 1_100_000


def test_all_but_the_small_network_have_batch_norm_and_dropout():
    for name in MODELS:
        expected = name != "small_cnn"
        layers = networks.build_model(settings(model=name), 11).layers
        kinds = {type(layer).__name__ for layer in layers}
        assert ({"BatchNormalization", "StepDropout"} <= kinds) is expected


def test_dropout_is_the_identity_outside_training(waveforms):
    dropout = networks.StepDropout(0.5)
    values = tf.ones([100, 10])
    assert np.array_equal(dropout(values, training=False), values)


def test_dropout_drops_its_share_and_keeps_the_mean():
    dropout = networks.StepDropout(0.3, name="dropout")
    with randomness.step_randomness(0, tf.constant(1, tf.int64)):
        dropped = dropout(tf.ones([200, 100]), training=True).numpy()
        again = dropout(tf.ones([200, 100]), training=True).numpy()
    assert (dropped == 0).mean() == pytest.approx(0.3, abs=0.02)
    assert dropped.mean() == pytest.approx(1.0, abs=0.03)
    assert np.array_equal(dropped, again)
    with randomness.step_randomness(0, tf.constant(2, tf.int64)):
        assert not np.array_equal(dropout(tf.ones([200, 100]), training=True), dropped)


@pytest.mark.parametrize("name", MODELS)
def test_members_side_by_side_average_their_log_probabilities(name, waveforms):
    shares = (0.7, 0.3)
    both = networks.build_model(settings(model=name, members="0.7,0.3"), 11)
    expected = np.zeros((4, 11))
    for number, share in enumerate(shares):
        one = networks.build_model(settings(model=name), 11)
        for layer in one.layers:
            if layer.weights:
                twin = both.get_layer(networks.member_prefix(number) + layer.name)
                layer.set_weights(twin.get_weights())
        expected += share * tf.nn.log_softmax(one(waveforms)).numpy()
    assert np.allclose(both(waveforms), expected, atol=1e-5)
    _, network = networks.split_model(both)
    assert network.outputs[1].shape[1] == 2 * 16


@pytest.mark.parametrize("text", ["0.5", "0.5,0.6", "a,b", "1,0", "1.5,-0.5"])
def test_shares_of_members_that_do_not_add_up_are_an_error(text):
    with pytest.raises(UserError, match="--members"):
        networks.build_model(settings(members=text), 11)
