import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from mic_tf.settings import AugmentSettings, DataSettings
from mic_tf.training.trainee import Trainee, compile_trainee
from tests.training.test_trainer import SMALL

FAMILY = np.array([0, 3, 5, 3], np.int32)
FAMILY_WEIGHT = np.linspace(0.5, 3.0, 11, dtype=np.float32)


def seen_by_the_loss(monkeypatch, balance: str, mixup_alpha: float, weight):
    """Targets and weights of the notes in one step, float32 [4, 11] and [4]."""
    settings = dataclasses.replace(
        SMALL,
        data=DataSettings(balance=balance),
        augment=AugmentSettings(mixup_alpha=mixup_alpha),
    )
    trainee = Trainee(settings, 11)
    compile_trainee(trainee, settings, total_steps=10)
    original, seen = trainee._note_losses, []

    def remember(target, logits, weight):
        seen.extend([target.numpy(), weight.numpy()])
        return original(target, logits, weight)

    monkeypatch.setattr(trainee, "_note_losses", remember)
    random = np.random.default_rng(0)
    waveform = tf.constant(random.integers(-9000, 9000, [4, 64_000]), tf.int16)
    trainee.train_step((waveform, tf.constant(FAMILY), tf.constant(weight)))
    return seen


def test_each_part_of_a_mixed_note_weighs_what_its_family_does(monkeypatch):
    weight = FAMILY_WEIGHT[FAMILY]
    target, weighed = seen_by_the_loss(monkeypatch, "class_weight", 0.4, weight)
    assert ((target > 0).sum(axis=1) == 2).any()
    assert target.sum(axis=1) == pytest.approx(1.0)
    shares = target * weighed[:, np.newaxis] / FAMILY_WEIGHT
    assert shares.sum(axis=1) == pytest.approx(1.0)
    # The larger share stays with the note itself.
    assert (shares.argmax(axis=1) == FAMILY).all()
    assert not np.allclose(weighed, weight)


@pytest.mark.parametrize(("balance", "mixup"), [("class_weight", 0.0), ("none", 0.4)])
def test_weights_that_nothing_mixes_stay_as_they_are(monkeypatch, balance, mixup):
    weight = (
        FAMILY_WEIGHT[FAMILY] if balance == "class_weight" else np.ones(4, np.float32)
    )
    target, weighed = seen_by_the_loss(monkeypatch, balance, mixup, weight)
    assert target.shape == (4, 11)
    assert np.array_equal(weighed, weight)
