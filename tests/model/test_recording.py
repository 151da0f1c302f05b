import numpy as np
import pytest
import tensorflow as tf

from mic_tf.model import recording
from mic_tf.settings import AugmentSettings, FrontEndSettings
from tests.model.test_augment import at_step

TOP_DB = 80.0
FRONT_END = FrontEndSettings(n_mels=64, top_db=TOP_DB)


@pytest.fixture
def decibels():
    """Notes with a sharp attack that fades 40 dB, one loud band each."""
    fall = np.linspace(0.0, -40.0, 64)[np.newaxis, :, np.newaxis]
    bands = np.full([32, 1, 64], -50.0)
    bands[np.arange(32), :, 10 + np.arange(32)] = 0.0
    return tf.constant(np.maximum(fall + bands, -TOP_DB), tf.float32)


def test_bands_below_20_hz_are_cut_of_no_more_notes_than_others(decibels):
    settings = AugmentSettings(band_pass_octaves=1.5)
    hertz = np.geomspace(5.0, 7600.0, 64).astype(np.float32)
    curve = at_step(1, recording.response, decibels, settings, hertz).numpy()
    assert 0.1 < (curve[:, 0, 0] < 0).mean() < 0.6


def test_result_is_relative_to_its_maximum_and_clipped_as_the_front_end_does(decibels):
    settings = AugmentSettings(
        crop_seconds=1.0,
        stretch=0.2,
        loop=0.5,
        pitch_semitones=4.0,
        decay_db=6.0,
        echo=0.5,
        tilt_db=12.0,
        equalise_db=4.0,
        band_pass_octaves=2.0,
        floor_db=40.0,
        low_rate=0.5,
    )
    log_mel = 1.0 + decibels * (2.0 / TOP_DB)
    changed = at_step(1, recording.record_again, log_mel, settings, FRONT_END).numpy()
    assert changed.max(axis=(1, 2)) == pytest.approx(np.ones(32), abs=1e-5)
    assert changed.min() >= -1.0


def test_the_share_that_is_not_recorded_again_stays_as_it_was(decibels):
    settings = AugmentSettings(tilt_db=20.0, record_again=0.5)
    log_mel = 1.0 + decibels * (2.0 / TOP_DB)
    changed = at_step(1, recording.record_again, log_mel, settings, FRONT_END)
    same = (changed == log_mel).numpy().all(axis=(1, 2))
    assert 8 <= same.sum() <= 24


@pytest.mark.parametrize(("fmin", "fmax"), [(20.0, 8000.0), (300.0, 3800.0)])
def test_pitch_moves_the_loudest_band_by_the_same_factor_of_frequency(
    decibels, fmin, fmax
):
    hertz = recording.band_hertz(FrontEndSettings(n_mels=64, fmin=fmin, fmax=fmax))
    changed = at_step(1, recording.change_pitch, decibels, 12.0, TOP_DB, hertz).numpy()
    before = hertz[decibels[:, 0].numpy().argmax(axis=1)]
    after = hertz[changed[:, 0].argmax(axis=1)]
    semitones = 12.0 * np.log2(after / before)
    assert np.abs(semitones).max() <= 12.0 + 2.5
    assert semitones.min() < -3.0
    assert semitones.max() > 3.0


def test_a_looped_note_keeps_its_attack_and_level_and_then_stands_still(decibels):
    beats = 10.0 * np.sin(np.arange(64)[:, np.newaxis] + np.arange(64))
    beating = (decibels + beats.astype(np.float32)).numpy()
    changed = at_step(1, recording.loop, tf.constant(beating), 1.0).numpy()
    attack = int(0.1 * 63 / 4.0)
    assert (changed[:, :attack] == beating[:, :attack]).all()

    def level(values):
        return 10.0 * np.log10(np.sum(10.0 ** (values / 10.0), axis=2, keepdims=True))

    late = slice(int(1.1 * 63 / 4.0), None)
    assert np.ptp((changed - level(changed))[:, late], axis=1).max() < 1e-3
    assert np.ptp((beating - level(beating))[:, late], axis=1).max() > 10.0
    assert np.abs(level(changed) - level(beating)).max() < 1e-3


def test_a_note_that_begins_late_is_looped_from_its_own_sound(decibels):
    late = np.full([32, 64, 64], -TOP_DB, np.float32)
    late[:, 12:] = decibels[:, :-12]
    changed = at_step(1, recording.loop, tf.constant(late), 1.0).numpy()
    # One loud band each, also where the loop is.
    assert (np.ptp(np.sort(changed[:, 12:], axis=2)[:, :, -2:], axis=2) > 20.0).all()


def test_only_the_share_asked_for_is_looped(decibels):
    beats = 10.0 * np.sin(np.arange(64)[:, np.newaxis] + np.arange(64))
    beating = (decibels + beats.astype(np.float32)).numpy()
    changed = at_step(1, recording.loop, tf.constant(beating), 0.5).numpy()
    same = np.abs(changed - beating).max(axis=(1, 2)) == 0.0
    assert 8 <= same.sum() <= 24


def test_an_echo_only_adds_and_only_later(decibels):
    struck = tf.where(tf.range(64)[tf.newaxis, :, tf.newaxis] == 5, decibels, -160.0)
    changed = at_step(1, recording.echo, struck, 1.0).numpy()
    assert (changed >= struck.numpy() - 1e-3).all()
    assert changed[:, :5].max() < -150.0
    assert (changed[:, 6].max(axis=1) > -80.0).all()


def test_cuts_take_the_attack_or_the_end(decibels):
    changed = at_step(1, recording.retime, decibels, 2.0, 0.0, -160.0).numpy()
    loudest = changed.max(axis=(1, 2))
    assert (loudest < -1.0).any()
    assert (loudest > -0.1).any()
    ended = (changed[:, -1] <= -159.0).all(axis=1)
    assert 0 < ended.sum() < 32


def test_a_noise_floor_lies_between_its_bounds(decibels):
    silence = tf.where(tf.range(64)[tf.newaxis, :, tf.newaxis] < 8, decibels, -160.0)
    changed = at_step(1, recording.noise_floor, silence, 40.0, TOP_DB).numpy()
    floor = changed[:, 20:].mean(axis=(1, 2))
    assert (floor < -100.0).any()
    noisy = floor[floor > -100.0]
    assert len(noisy) > 0
    assert noisy.min() > -TOP_DB - 3.0
    assert noisy.max() < -40.0 + 3.0


@pytest.mark.parametrize("fmax", [5000.0, 8000.0])
def test_a_low_rate_leaves_nothing_above_some_frequency_from_3_khz_on(fmax):
    hertz = recording.band_hertz(FrontEndSettings(n_mels=64, fmax=fmax))
    flat = tf.zeros([256, 4, 64])
    changed = at_step(1, recording.limit_band, flat, 0.5, hertz).numpy()
    assert (changed == changed[:, :1]).all()
    limited = (changed < 0.0).any(axis=(1, 2))
    assert 0.4 < limited.mean() < 0.6
    first = (changed[limited, 0] < 0.0).argmax(axis=1)
    assert 2800.0 < hertz[first.min() - 1] <= 3200.0
    assert first.max() >= 60
    kept = np.arange(64) < first[:, np.newaxis]
    assert (changed[limited, 0][kept] == 0.0).all()
    gone = np.arange(64) > first[:, np.newaxis] + 1
    assert (changed[limited, 0][gone] <= -TOP_DB).all()
