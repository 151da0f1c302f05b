"""Waveforms in memory: the same rules as for files."""

import numpy as np
import pytest

from mic_tf.audio import waveforms
from mic_tf.errors import UserError


def only_window(waveform: np.ndarray, rate: float = 16_000) -> np.ndarray:
    [(start, window)] = list(waveforms.windows(waveform, rate))
    assert start == 0
    return window


@pytest.mark.parametrize(
    ("dtype", "half"), [("int16", 2**14), ("int32", 2**30), ("uint8", 192)]
)
def test_integers_are_scaled_by_their_full_range(dtype, half):
    window = only_window(np.full(800, half, dtype))
    np.testing.assert_array_equal(window, np.full(800, 0.5, np.float32))


def test_channels_are_the_second_axis_and_are_averaged():
    window = only_window(np.tile(np.array([0.25, 0.75]), [900, 1]))
    np.testing.assert_array_equal(window, np.full(900, 0.5, np.float32))


def test_swing_and_root_mean_square_do_not_count_an_offset():
    sound = (0.3 * np.sin(np.arange(6_283) / 100)).astype(np.float32)
    for offset in (0.0, 0.5, -100.0):
        moved = sound + np.float32(offset)
        assert waveforms.swing(moved) == pytest.approx(0.3, abs=1e-4)
        assert waveforms.root_mean_square(moved) == pytest.approx(
            0.3 / np.sqrt(2), rel=1e-3
        )
    nothing = np.zeros(0, np.float32)
    assert waveforms.swing(nothing) == waveforms.root_mean_square(nothing) == 0.0


def test_a_rate_is_taken_to_16_khz():
    assert only_window(np.zeros(48_000), 48_000).size == 16_000


@pytest.mark.parametrize("rate", [8_000, 44_100, 192_000])
def test_an_offset_at_another_rate_stays_a_constant(rate):
    noise = 1e-4 * np.random.default_rng(0).standard_normal(2 * rate)
    assert waveforms.is_silent(only_window(0.7 + noise, rate))
    sine = 0.2 * np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate)
    moved, plain = only_window(0.3 + sine, rate), only_window(sine, rate)
    np.testing.assert_allclose(moved - 0.3, plain, atol=1e-4)


def test_integers_of_the_other_byte_order_are_read():
    window = only_window(np.full(800, 2**14).astype(">i2"))
    np.testing.assert_array_equal(window, np.full(800, 0.5, np.float32))


@pytest.mark.parametrize(
    ("waveform", "rate", "message"),
    [
        (np.zeros(16_000), 4_000, "sample rate 4000 Hz; 8000 to 192000"),
        (np.zeros(16_000), float("nan"), "sample rate nan Hz"),
        (np.zeros([2, 16_000]), 16_000, r"shape \[2, 16000\]; \[samples\]"),
        (np.zeros([1, 800, 1]), 16_000, "shape"),
        (np.zeros(0), 16_000, "shape"),
        (np.zeros(799), 16_000, "49.9 ms long .* at least 50 ms"),
        (np.full(800, np.nan), 16_000, "sample 0 is nan"),
        (np.full(800, 1e300), 16_000, "sample 0 is inf"),
        (np.zeros(800, complex), 16_000, "dtype complex128"),
        (np.array(["a"] * 800), 16_000, "dtype <U1"),
    ],
)
def test_what_is_no_sound_is_refused(waveform, rate, message):
    with pytest.raises(UserError, match=message):
        list(waveforms.windows(waveform, rate))
