"""The exported graph's own rules: length, memory, refusals, WAV bytes."""

import io

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from mic_tf.audio import waveforms
from mic_tf.serving import graph, passing


@pytest.fixture(scope="module")
def signatures(tiny_export):
    loaded = tf.saved_model.load(str(tiny_export / "saved_model"))
    yield loaded.signatures


def classify(signatures, waveform: np.ndarray) -> np.ndarray:
    waveform = tf.constant(waveform, tf.float32)
    return signatures["serving_default"](waveform=waveform)["probabilities"].numpy()


def chirp(samples: int) -> np.ndarray:
    """A sound whose windows differ from each other."""
    time = np.arange(samples) / 16_000
    return (0.5 * np.sin(300 * time**1.5)).astype(np.float32)


@pytest.mark.parametrize("samples", [800, 63_999, 64_000, 64_001, 128_000, 150_000])
def test_the_graph_cuts_windows_as_files_are_cut(samples):
    batch = np.stack([chirp(samples), -chirp(samples)])
    windows = graph.cut_windows(tf.constant(batch)).numpy()
    expected = [window for _, window in waveforms.cut([chirp(samples)])]
    assert windows.shape == (2, len(expected), 64_000)
    for found, negative, window in zip(windows[0], windows[1], expected, strict=True):
        np.testing.assert_array_equal(found[: window.size], window)
        np.testing.assert_array_equal(found[window.size :], 0)
        np.testing.assert_array_equal(negative, -found)


def test_a_short_sound_is_answered_as_if_zeros_followed(signatures):
    padded = np.pad(chirp(5000), [0, 59_000])
    short = classify(signatures, chirp(5000)[np.newaxis])
    np.testing.assert_allclose(short, classify(signatures, padded[None]), atol=1e-6)


def test_how_much_silence_is_before_a_note_does_not_matter(signatures):
    note = np.zeros([64_000], np.float32)
    note[:16_000] = chirp(16_000)
    late = [np.roll(note, samples) for samples in (1_024, 1_700, 20_000, 31_744)]
    found = classify(signatures, np.stack(late))
    np.testing.assert_allclose(found, np.repeat(found[:1], 4, axis=0), atol=1e-5)
    alone = classify(signatures, late[2][np.newaxis])
    np.testing.assert_allclose(alone, found[:1], atol=1e-5)
    a_little_late = classify(signatures, np.roll(note, 256)[np.newaxis])
    assert np.abs(a_little_late - found).max() > 1e-4


def test_a_long_sound_is_the_mean_of_its_windows_by_loudness(signatures):
    sound = chirp(150_000)
    sound[:64_000] *= 0.2
    parts = np.stack([sound[:64_000], sound[64_000:128_000], sound[-64_000:]])
    whole = classify(signatures, sound[np.newaxis])[0]
    single = classify(signatures, parts)
    assert np.ptp(single, axis=0).max() > 1e-3
    expected = np.average(single, axis=0, weights=parts.std(axis=1))
    assert np.abs(expected - single.mean(axis=0)).max() > 1e-4
    np.testing.assert_allclose(whole, expected, atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_silence_around_a_note_changes_nothing(signatures, offset):
    sound = np.full([1, 640_000], offset, np.float32)
    sound[0, 128_000:192_000] += chirp(64_000)
    found = classify(signatures, sound)
    np.testing.assert_allclose(
        found, classify(signatures, sound[:, 128_000:192_000]), atol=1e-6
    )


def test_silence_alone_is_the_mean_of_its_windows(signatures):
    quiet = np.zeros([1, 150_000], np.float32)
    quiet[0, 5_000] = 1e-4
    parts = np.stack([quiet[0, :64_000], quiet[0, 64_000:128_000]])
    first, other = classify(signatures, parts)
    assert np.abs(first - other).max() > 1e-3
    np.testing.assert_allclose(
        classify(signatures, quiet)[0], (first + 2 * other) / 3, atol=1e-6
    )


def test_windows_weigh_in_the_graph_as_they_do_in_python():
    sound = np.stack([chirp(64_000) * level + 0.2 for level in (0, 1e-4, 0.01, 0.7)])
    found = graph.window_weights(tf.constant(sound[np.newaxis]))[0, :, 0].numpy()
    expected = np.array([passing.weight(window) for window in sound])
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-4)


def test_more_windows_than_fit_at_once_keep_their_order(signatures):
    many = np.stack([chirp(64_000) * level for level in np.linspace(0.001, 1, 35)])
    many[34] = chirp(128_000)[64_000:]
    together = classify(signatures, many)
    for row in (0, 31, 32, 34):
        alone = classify(signatures, many[row : row + 1])[0]
        np.testing.assert_allclose(together[row], alone, atol=1e-5)


def test_an_empty_batch_gives_an_empty_answer(signatures):
    assert classify(signatures, np.zeros([0, 64_000])).shape == (0, 11)


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.zeros([1, 799]), r"at least 800 samples at 16 kHz expected, got\] \[799\]"),
        (np.zeros([2, 0]), r"at least 800 samples"),
        (np.full([1, 900], np.nan), "finite samples"),
        (np.full([1, 900], np.inf), "finite samples"),
        (np.append(np.zeros([1, 900]), [[np.inf, -np.inf]], axis=1), "finite samples"),
    ],
)
def test_what_has_no_answer_is_refused_with_the_reason(signatures, waveform, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        classify(signatures, waveform)


def wav_bytes(sound: np.ndarray, rate: int = 16_000) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, sound, rate, format="WAV", subtype="PCM_16")
    return content.getvalue()


def test_wav_bytes_get_the_answer_of_their_waveform(signatures):
    sounds = [chirp(20_000), chirp(100_000)]
    wavs = [wav_bytes(sound) for sound in sounds]
    wavs.append(wav_bytes(np.stack([sounds[0], sounds[0] / 2], axis=1)))
    outputs = signatures["classify_wav"](wav=tf.constant(wavs))
    for row, sound in enumerate([*sounds, sounds[0] * 0.75]):
        expected = classify(signatures, sound[np.newaxis])[0]
        np.testing.assert_allclose(outputs["probabilities"][row], expected, atol=1e-3)
    assert outputs["embedding"].shape == (3, 16)


def test_wav_bytes_of_another_rate_are_refused(signatures):
    wav = wav_bytes(chirp(20_000), 44_100)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"16000 Hz.*44100"):
        signatures["classify_wav"](wav=tf.constant([wav]))
