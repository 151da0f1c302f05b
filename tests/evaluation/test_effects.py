"""Every effect does what its name says, to the sample."""

import sys

import numpy as np
import pytest

from mic_tf.errors import UserError
from mic_tf.evaluation import effects
from mic_tf.taxonomy import SAMPLE_RATE
from tests.conftest import make_note

BY_NAME = {effect.name: effect for effect in effects.EFFECTS}
NEEDS_PEDALBOARD = set(BY_NAME) - {
    *("noise 20 dB", "noise 10 dB", "first second", "mixture -6 dB", "mixture -12 dB")
}

WAVEFORM = make_note("reed", 1, 60)["audio"]
OTHER = make_note("bass", 2, 40)["audio"]


def changed(name: str, waveform=WAVEFORM, seed: int = 7) -> np.ndarray:
    if name in NEEDS_PEDALBOARD:
        pytest.importorskip("pedalboard", reason="a development dependency")
    return BY_NAME[name](waveform, seed, OTHER)


def power(sound: np.ndarray) -> float:
    return float(np.mean(np.square(sound.astype(np.float64))))


def decibels(ratio: float) -> float:
    return 10 * np.log10(ratio)


def pitch(sound: np.ndarray, near: float) -> float:
    """The strongest frequency within a semitone of one, in Hz."""
    spectrum = np.abs(np.fft.rfft(sound[4000:36_000] * np.hanning(32_000), 1 << 19))
    hertz = np.arange(len(spectrum)) * SAMPLE_RATE / (1 << 19)
    inside = np.abs(12 * np.log2(np.maximum(hertz, 1) / near)) < 1
    return float(hertz[np.argmax(np.where(inside, spectrum, 0))])


@pytest.mark.parametrize("name", BY_NAME)
def test_every_effect_changes_the_note_and_keeps_length_and_type(name):
    before = WAVEFORM.copy()
    sound = changed(name)
    assert sound.shape == (64_000,)
    assert sound.dtype == np.int16
    assert not np.array_equal(sound, WAVEFORM)
    assert power(sound) > 0.01 * power(WAVEFORM)
    assert np.array_equal(WAVEFORM, before)


@pytest.mark.parametrize("name", BY_NAME)
def test_the_same_note_is_changed_in_the_same_way(name):
    assert np.array_equal(changed(name), changed(name))


@pytest.mark.parametrize("name", BY_NAME)
def test_nothing_but_gain_clips_a_loud_note(name):
    loud = np.round(WAVEFORM * (32_700 / np.abs(WAVEFORM).max())).astype(np.int16)
    sound = np.abs(changed(name, loud).astype(int))
    at_full_scale = int((sound >= 32_767).sum())
    if name == "gain +12 dB":
        assert at_full_scale > 100
    elif name not in ("distortion", "clipping"):
        assert at_full_scale <= 2


@pytest.mark.parametrize("snr", [20, 10])
def test_noise_has_the_stated_ratio_and_another_seed_gives_other_noise(snr):
    name = f"noise {snr} dB"
    noise = changed(name).astype(float) - WAVEFORM
    assert decibels(power(WAVEFORM) / power(noise)) == pytest.approx(snr, abs=0.1)
    other = changed(name, seed=8).astype(float) - WAVEFORM
    assert abs(np.corrcoef(noise, other)[0, 1]) < 0.02


@pytest.mark.parametrize("level", [-6, -12])
def test_a_mixture_has_its_companion_at_the_stated_level(level):
    added = changed(f"mixture {level} dB").astype(float) - WAVEFORM
    assert decibels(power(added) / power(WAVEFORM)) == pytest.approx(level, abs=0.05)
    assert np.corrcoef(added, OTHER)[0, 1] > 0.999


def test_a_mixture_that_is_too_loud_is_turned_down_whole():
    loud = np.round(WAVEFORM * (32_700 / np.abs(WAVEFORM).max())).astype(np.int16)
    sound = changed("mixture -6 dB", loud).astype(float)
    assert 32_760 <= np.abs(sound).max() <= 32_767
    parts = np.stack([loud, OTHER], axis=1).astype(float)
    shares, *_ = np.linalg.lstsq(parts, sound, rcond=None)
    assert np.abs(sound - parts @ shares).max() <= 1
    ratio = shares[1] ** 2 * power(OTHER) / (shares[0] ** 2 * power(loud))
    assert decibels(ratio) == pytest.approx(-6, abs=0.05)


@pytest.mark.parametrize(("name", "step"), [("gain +12 dB", 12), ("gain -12 dB", -12)])
def test_gain_is_what_it_says(name, step):
    soft = (WAVEFORM // 4).astype(np.int16)
    sound = changed(name, soft)
    assert decibels(power(sound) / power(soft)) == pytest.approx(step, abs=0.02)
    assert np.corrcoef(sound, soft)[0, 1] > 0.9999


@pytest.mark.parametrize(("name", "cents"), [("+50 cents", 50), ("-50 cents", -50)])
def test_pitch_moves_by_a_quarter_tone(name, cents):
    before = pitch(WAVEFORM, 261.63)
    after = pitch(changed(name), before * 2 ** (cents / 1200))
    assert 1200 * np.log2(after / before) == pytest.approx(cents, abs=3)


def test_clipping_cuts_twelve_decibels_below_the_peak():
    sound = changed("clipping")
    height = np.abs(sound).max() / np.abs(WAVEFORM).max()
    assert 20 * np.log10(height) == pytest.approx(-12, abs=0.02)
    untouched = np.abs(WAVEFORM) < 0.9 * np.abs(sound).max()
    assert np.abs(sound[untouched] - WAVEFORM[untouched]).max() <= 1


def test_the_first_second_is_kept_and_silence_is_behind_it():
    sound = changed("first second")
    assert np.array_equal(sound[:16_000], WAVEFORM[:16_000])
    assert not sound[16_000:].any()


def test_low_pass_takes_twelve_decibels_an_octave():
    random = np.random.default_rng(0)
    noise = (3000 * random.standard_normal(64_000)).clip(-32_000, 32_000)
    noise = noise.astype(np.int16)
    loss = np.abs(np.fft.rfft(changed("low-pass", noise))) / np.abs(np.fft.rfft(noise))
    hertz = np.fft.rfftfreq(64_000, 1 / SAMPLE_RATE)

    def at(frequency: float) -> float:
        return 20 * np.log10(np.median(loss[np.abs(hertz - frequency) < 50]))

    assert at(300) == pytest.approx(0, abs=0.3)
    assert at(3000) == pytest.approx(-6, abs=1.0)
    assert at(6000) < -13


def test_bits_are_as_few_as_stated():
    sound = changed("bit-crush").astype(float) / np.abs(WAVEFORM).max()
    steps = 64 * sound
    assert np.abs(steps - np.round(steps)).max() < 0.01
    assert len(np.unique(np.round(steps))) > 20


def test_mp3_keeps_the_sound_where_it_was():
    sound = changed("mp3 64 kbit/s")
    assert np.corrcoef(sound, WAVEFORM)[0, 1] > 0.99


def test_strength_does_not_depend_on_the_level():
    pytest.importorskip("pedalboard", reason="a development dependency")
    soft = (WAVEFORM // 8).astype(np.int16)
    for name in ("distortion", "bit-crush", "clipping"):
        assert np.corrcoef(changed(name, soft), changed(name))[0, 1] > 0.995


def test_silence_stays_finite():
    silence = np.zeros(64_000, np.int16)
    for name in BY_NAME:
        if name in NEEDS_PEDALBOARD:
            pytest.importorskip("pedalboard", reason="a development dependency")
        assert np.abs(BY_NAME[name](silence, 1, OTHER)).max() <= 1, name


def test_a_missing_library_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pedalboard", None)
    with pytest.raises(UserError, match="--effects: needs pedalboard.*pip install"):
        effects.library()
