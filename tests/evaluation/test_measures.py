import numpy as np
import pytest
import tensorflow as tf

from mic_tf.evaluation import measures
from tools.planting import clean_note

TIME = np.arange(64_000) / 16_000


def measured(waveform, label=-1.0):
    batch = tf.constant(np.asarray(waveform, np.float32)[np.newaxis])
    found = measures._measure(batch, tf.constant([label], tf.float32))
    return {name: value.numpy()[0] for name, value in found.items()}


@pytest.mark.parametrize("pitch", [33, 45, 60, 72, 84, 93])
def test_pitch_of_a_note_is_heard_within_a_quarter_tone(pitch):
    audio = clean_note("organ", 1, pitch)["audio"] / 32768.0
    found = measured(audio, pitch)
    assert found["periodicity"].min() > 0.9
    assert np.abs(found["pitch"] - pitch).max() < 0.5
    assert found["periodicity_at_label"].min() > 0.9


def test_a_label_that_is_off_finds_no_period():
    audio = clean_note("organ", 1, 60)["audio"] / 32768.0
    assert measured(audio, 64)["periodicity_at_label"].max() < 0.6


def test_noise_is_flat_and_notes_are_not():
    random = np.random.default_rng(0)
    white = 0.1 * random.standard_normal(64_000)
    brown = np.cumsum(white)
    brown = 0.3 * (brown - brown.mean()) / np.abs(brown).max()
    assert measured(white)["flatness"] > 0.9
    assert measured(brown)["flatness"] > 0.4
    note = clean_note("guitar", 1, 40)["audio"] / 32768.0
    assert measured(note)["flatness"] < 0.05


def test_full_scale_counts_only_in_runs():
    waveform = np.zeros(64_000)
    waveform[::100] = 1.0
    assert measured(waveform)["clipped"] == 0
    waveform[500:510] = 1.0
    assert measured(waveform)["clipped"] == 10
    waveform[700:703] = -1.0
    assert measured(waveform)["clipped"] == 13


def test_level_peak_and_offset_done_by_hand():
    found = measured(0.25 + 0.5 * np.sin(2 * np.pi * 100 * TIME))
    assert found["peak"] == pytest.approx(0.75, abs=1e-4)
    assert found["offset"] == pytest.approx(0.25, abs=1e-4)
    assert found["level"] == pytest.approx(np.sqrt(0.25**2 + 0.5**2 / 2), abs=1e-4)


def test_silence_and_nan_give_finite_measures():
    spoilt = np.zeros(64_000)
    spoilt[10:15] = np.nan
    found = measured(spoilt, 60)
    assert found["not_finite"] == 5
    for name in ("peak", "level", "flatness", "pitch", "periodicity"):
        assert np.isfinite(found[name]).all(), name
