import numpy as np
import pytest
import tensorflow as tf

from mic_tf.evaluation import measures, twins
from tools.planting import clean_note


def fingerprints(*waveforms):
    stacked = np.stack(waveforms).astype(np.float32) / 32768.0
    return measures.fingerprint(tf.constant(stacked)).numpy()


def distance(first, second):
    both = fingerprints(first, second)
    return twins.distance_db(both[:1], both[1:])[0]


NOTE = clean_note("guitar", 3, 60)["audio"]


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x * 0.05,
        lambda x: -x,
        lambda x: np.concatenate([np.zeros(80), x[:-80]]),
        lambda x: x + np.random.default_rng(0).normal(0, 4, len(x)),
        lambda x: np.round(x / 64) * 64,
    ],
    ids=["quieter", "inverted", "5 ms later", "faint noise", "10 bits"],
)
def test_the_same_sound_stays_within_the_threshold(change):
    assert distance(NOTE, change(NOTE.astype(float))) <= twins.THRESHOLD_DB


@pytest.mark.parametrize(
    ("instrument", "pitch"), [(3, 61), (3, 59), (3, 72), (4, 60), (5, 60)]
)
def test_another_pitch_or_instrument_is_beyond_the_threshold(instrument, pitch):
    other = clean_note("guitar", instrument, pitch)["audio"]
    assert distance(NOTE, other) > 2 * twins.THRESHOLD_DB


def test_groups_agree_with_comparing_all_pairs():
    random = np.random.default_rng(1)
    originals = random.integers(20, 230, [300, 512])
    jitter = random.integers(-3, 4, [300, 512])
    prints = np.concatenate([originals, (originals + jitter)[::3]]).astype(np.uint8)
    found = twins.groups(prints)
    for i, copy in enumerate(range(0, 300, 3)):
        assert found[300 + i] == found[copy] == copy
    assert len(np.unique(found)) == 300


def test_groups_hold_together_when_many_notes_are_the_same():
    prints = np.full([500, 512], 100, np.uint8)
    assert not twins.groups(prints).any()


def test_one_note_is_a_group_of_its_own():
    assert twins.groups(np.zeros([1, 512], np.uint8)).tolist() == [0]
