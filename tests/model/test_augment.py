import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from mic_tf.model import augment, compiling, randomness
from mic_tf.settings import AugmentSettings, FrontEndSettings

WAVEFORM = {
    "shift_seconds": 0.5,
    "drive_db": 20.0,
    "noise_snr_db": 10.0,
    "mixup_alpha": 0.4,
}
LOG_MEL = {
    "tilt_db": 12.0,
    "band_pass_octaves": 2.0,
    "equalise_db": 4.0,
    "echo": 0.5,
    "floor_db": 40.0,
    "low_rate": 1.0,
    "crop_seconds": 1.0,
    "stretch": 0.2,
    "loop": 1.0,
    "pitch_semitones": 4.0,
    "decay_db": 6.0,
    "roll_bands": 3,
    "time_masks": 2,
    "freq_masks": 2,
}


@pytest.fixture
def waveforms():
    random = np.random.default_rng(0)
    return tf.constant(random.integers(-9000, 9000, [8, 4000]), tf.int16)


@pytest.fixture
def log_mels():
    random = np.random.default_rng(0)
    return tf.constant(random.uniform(-1, 1, [8, 60, 40]), tf.float32)


TARGET = tf.one_hot(tf.range(8), 11)
FRONT_END = FrontEndSettings(n_mels=40)


def at_step(step, function, *arguments):
    with randomness.step_randomness(7, tf.constant(step, tf.int64)):
        return function(*arguments)


def changed_at_step(step, change, waveform, amount):
    parts = at_step(step, lambda: augment.apply(waveform, [change(waveform, amount)]))
    return tf.concat(parts, axis=0).numpy()


@pytest.mark.parametrize("name", WAVEFORM)
def test_waveform_augmentation_changes_the_batch_and_keeps_it_finite(name, waveforms):
    settings = AugmentSettings(**{name: WAVEFORM[name]})
    changed, target = at_step(1, augment.augment_waveforms, waveforms, TARGET, settings)
    assert changed.shape == waveforms.shape
    assert np.isfinite(changed).all()
    assert np.abs(changed - tf.cast(waveforms, tf.float32) / 32768.0).max() > 1e-3
    assert tf.reduce_sum(target, axis=1).numpy() == pytest.approx(np.ones(8))
    assert tf.argmax(target, axis=1).numpy().tolist() == list(range(8))


@pytest.mark.parametrize("name", LOG_MEL)
def test_log_mel_augmentation_changes_the_batch_and_keeps_it_finite(name, log_mels):
    settings = AugmentSettings(**{name: LOG_MEL[name]})
    changed = at_step(1, augment.augment_log_mel, log_mels, settings, FRONT_END)
    assert changed.shape == log_mels.shape
    assert np.isfinite(changed).all()
    assert np.abs(changed - log_mels).max() > 1e-2


def test_every_augmentation_is_off_by_default(waveforms, log_mels):
    off = AugmentSettings()
    same, target = augment.augment_waveforms(waveforms, TARGET, off)
    assert same is waveforms
    assert target is TARGET
    assert augment.augment_log_mel(log_mels, off, FRONT_END) is log_mels
    switches = [f.name for f in dataclasses.fields(off) if not getattr(off, f.name)]
    assert set(switches) == set(WAVEFORM) | set(LOG_MEL)


def test_overdrive_bends_or_cuts_a_third_of_the_notes_below_their_peak():
    notes = 600
    sine = 0.5 * np.sin(np.arange(400) * 0.1).astype(np.float32)
    waveform = tf.constant(np.tile(sine, [notes, 1]))
    driven = changed_at_step(1, augment.overdrive, waveform, 20.0)
    changed = np.abs(driven - sine).max(axis=1) > 1e-6
    assert 0.25 < changed.mean() < 0.42
    assert np.abs(driven).max() <= np.abs(sine).max() + 1e-6
    power = np.mean(driven[changed] ** 2, axis=1)
    # From just below the sine to a square wave.
    assert (power > np.mean(sine**2) * 0.5).all()
    assert (power <= np.abs(sine).max() ** 2 + 1e-6).all()
    flat = np.mean(np.abs(np.abs(driven[changed]) - np.abs(sine).max()) < 1e-6, axis=1)
    # Cut notes lie at their peak for many samples, bent ones hardly ever.
    assert 0.3 < np.mean(flat > 0.05) < 0.7


def test_mixup_mixes_labels_in_the_shares_of_the_sounds():
    waveform = tf.linalg.diag(tf.fill([8], 1000.0)) / 32768.0
    parts = tf.split(waveform, 4)
    parts, target = at_step(1, augment.mixup, parts, TARGET, 0.4)
    mixed = tf.concat(parts, axis=0)
    share = (mixed / tf.reduce_sum(mixed, axis=1, keepdims=True)).numpy()
    assert share == pytest.approx(target.numpy()[:, :8], abs=1e-5)
    assert (np.diag(share) >= 0.5).all()
    assert (np.diag(share) < 1.0).all()


def test_masks_hide_one_stretch_with_the_mean_of_the_note(log_mels):
    changed = at_step(1, augment.mask, log_mels, 1, 20, "time_mask_0").numpy()
    for before, after in zip(log_mels.numpy(), changed, strict=True):
        hidden = np.flatnonzero((before != after).any(axis=1))
        if len(hidden):
            assert len(hidden) <= 20
            assert hidden[-1] - hidden[0] + 1 == len(hidden)
            assert after[hidden] == pytest.approx(
                np.full((len(hidden), 40), before.mean())
            )


def test_roll_shifts_whole_notes_by_a_few_bands(log_mels):
    changed = at_step(1, augment.roll, log_mels, 3).numpy()
    for before, after in zip(log_mels.numpy(), changed, strict=True):
        shifts = [
            s
            for s in range(-3, 4)
            if np.allclose(after[:, 3:-3], np.roll(before, s, axis=1)[:, 3:-3])
        ]
        assert len(shifts) == 1


def test_delay_only_moves_sound_later(waveforms):
    sound = tf.cast(waveforms, tf.float32)
    moved = changed_at_step(1, augment.delay, sound, 0.2)
    amounts = [np.argmax(row != 0) for row in moved]
    assert 0 in amounts
    assert max(amounts) > 0
    for before, after, amount in zip(sound.numpy(), moved, amounts, strict=True):
        assert np.array_equal(after[amount:], before[: len(before) - amount])


def test_a_delay_of_less_than_a_sample_moves_nothing(waveforms):
    sound = tf.cast(waveforms, tf.float32)
    assert np.array_equal(changed_at_step(1, augment.delay, sound, 1e-5), sound)


def test_noise_is_white_and_as_loud_as_asked_for():
    notes, samples = 400, 4096
    level = np.linspace(0.01, 0.5, notes, dtype=np.float32)[:, np.newaxis]
    sound = np.where(np.arange(samples) % 2 < 1, level, -level).astype(np.float32)
    noise = changed_at_step(1, augment.noise, tf.constant(sound), 10.0) - sound
    noisy = np.abs(noise).max(axis=1) > 0
    assert 0.4 < noisy.mean() < 0.6
    noise = noise[noisy] / level[noisy]
    snr_db = -20 * np.log10(noise.std(axis=1))
    assert 9.5 < snr_db.min() < 13
    assert 57 < snr_db.max() < 60.5
    assert abs(np.mean(snr_db) - 35) < 3
    white = noise / noise.std(axis=1, keepdims=True)
    assert np.abs(white.mean(axis=1)).max() < 4.5 / samples**0.5
    assert abs(white.mean()) < 4.5 / white.size**0.5
    power = np.mean(np.abs(np.fft.rfft(white)[:, 1:-1]) ** 2, axis=0) / samples
    # The mean of that many draws from an exponential distribution.
    assert np.abs(power - 1).max() < 5.5 / len(white) ** 0.5
    echoes = [np.mean(white[:, lag:] * white[:, :-lag]) for lag in range(1, 9)]
    assert np.abs(echoes).max() < 4.5 / white.size**0.5


@pytest.mark.usefixtures("compiling_cpu")
def test_compiled_it_is_the_same(waveforms, monkeypatch):
    settings = AugmentSettings(**WAVEFORM)
    call, fused = compiling.call, set()

    def seen(function, *tensors):
        fused.add(function.__name__)
        return call(function, *tensors)

    monkeypatch.setattr(compiling, "call", seen)
    compiled, _ = at_step(2, augment.augment_waveforms, waveforms, TARGET, settings)
    assert fused == {"floats", "_moved", "_bent_or_cut", "_sum_of_both", "_mixed"}
    monkeypatch.setattr(compiling, "gains", lambda: False)
    plain, _ = at_step(2, augment.augment_waveforms, waveforms, TARGET, settings)
    assert np.abs(compiled - plain).max() < 1e-6


def test_a_batch_in_parts_is_changed_as_a_whole_one(waveforms, monkeypatch):
    settings = AugmentSettings(**WAVEFORM)
    parts, _ = at_step(2, augment.augment_waveforms, waveforms, TARGET, settings)
    monkeypatch.setattr(augment.pieces, "count", lambda *_: 1)
    whole, _ = at_step(2, augment.augment_waveforms, waveforms, TARGET, settings)
    assert np.abs(parts - whole).max() < 1e-6


def test_chance_is_a_function_of_seed_and_step(log_mels):
    settings = AugmentSettings(**LOG_MEL)
    first = at_step(5, augment.augment_log_mel, log_mels, settings, FRONT_END)
    again = at_step(5, augment.augment_log_mel, log_mels, settings, FRONT_END)
    later = at_step(6, augment.augment_log_mel, log_mels, settings, FRONT_END)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, later)


def test_chance_outside_a_step_is_an_error(log_mels):
    with pytest.raises(RuntimeError, match="outside step_randomness"):
        augment.roll(log_mels, 3)


def test_all_of_it_compiles_under_xla(waveforms):
    settings = AugmentSettings(**WAVEFORM, **LOG_MEL)

    @tf.function(jit_compile=True)
    def step(waveform, number):
        with randomness.step_randomness(7, number):
            changed, target = augment.augment_waveforms(waveform, TARGET, settings)
            log_mel = tf.reshape(changed[:, :2400], [8, 60, 40])
            return augment.augment_log_mel(log_mel, settings, FRONT_END), target

    log_mel, _ = step(waveforms, tf.constant(3, tf.int64))
    assert np.isfinite(log_mel).all()
