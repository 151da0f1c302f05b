from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from mic_tf.errors import UserError
from mic_tf.model import frontend, pieces
from mic_tf.model.frontend import LogMel

librosa = pytest.importorskip("librosa", reason="librosa is a development dependency")

SETTINGS = [
    {"n_fft": 1024, "hop_length": 512, "n_mels": 128, "fmin": 0.0},
    {"n_fft": 2048, "hop_length": 800, "n_mels": 80},
    {"n_fft": 1024, "hop_length": 512, "n_mels": 96, "top_db": 60.0},
]


def librosa_decibels(waveform: np.ndarray, layer: LogMel) -> np.ndarray:
    mel = librosa.feature.melspectrogram(
        y=waveform,
        sr=16_000,
        n_fft=layer.n_fft,
        hop_length=layer.hop_length,
        n_mels=layer.n_mels,
        fmin=layer.fmin,
        fmax=layer.fmax,
        htk=True,
        norm=None,
        center=True,
        pad_mode="constant",
        power=2.0,
    )
    return librosa.power_to_db(mel, ref=np.max, top_db=layer.top_db).T


def synthetic_waveforms() -> np.ndarray:
    random = np.random.default_rng(0)
    time = np.arange(64_000) / 16_000
    chirp = np.sin(2 * np.pi * (200 + 800 * time) * time) * np.exp(-time)
    noise = 0.05 * random.standard_normal(64_000)
    click = np.zeros(64_000)
    click[1000] = 1.0
    return np.stack([0.5 * chirp, noise, click, 1e-4 * chirp]).astype(np.float32)


@pytest.mark.parametrize("settings", SETTINGS)
def test_equals_librosa_within_a_hundredth_decibel(settings):
    layer = LogMel(**settings)
    waveforms = synthetic_waveforms()
    ours = layer.decibels(tf.constant(waveforms)).numpy()
    for row, waveform in zip(ours, waveforms, strict=True):
        assert np.abs(row - librosa_decibels(waveform, layer)).max() < 0.01


@pytest.mark.parametrize("settings", SETTINGS)
def test_equals_librosa_on_real_notes(settings, nsynth_mini):
    layer = LogMel(**settings)
    notes = real_notes(nsynth_mini, 24)
    ours = layer.decibels(tf.constant(notes)).numpy()
    for row, note in zip(ours, notes, strict=True):
        difference = np.abs(row - librosa_decibels(note / np.float32(32768), layer))
        assert difference.max() < 0.01


def real_notes(folder, count) -> np.ndarray:
    import tarfile

    notes = []
    with tarfile.open(folder / "nsynth-valid.jsonwav.tar.gz", "r|gz") as archive:
        for member in archive:
            if member.name.endswith(".wav") and len(notes) < count:
                content = archive.extractfile(member).read()
                notes.append(np.frombuffer(content[-128_000:], np.int16))
    return np.stack(notes)


@pytest.mark.parametrize("batch", [7, 8, 9, 32, 36])
def test_a_batch_in_pieces_gives_what_its_notes_give_alone(batch):
    layer = LogMel()
    waveforms = np.resize(synthetic_waveforms()[:, :8000], [batch, 8000])
    whole = layer.decibels(tf.constant(waveforms)).numpy()
    assert whole.shape == (batch, 16, 96)
    alone = [layer.decibels(tf.constant(note[np.newaxis])) for note in waveforms]
    assert np.abs(whole - np.concatenate(alone)).max() < 1e-3
    for jit in (False, True):
        in_graph = tf.function(layer.decibels, jit_compile=jit)(tf.constant(waveforms))
        assert np.abs(whole - in_graph.numpy()).max() < 1e-3


def watched(name: str):
    """A method of `LogMel` that does what it does, and keeps its calls."""
    original = getattr(LogMel, name)
    return mock.patch.object(LogMel, name, autospec=True, side_effect=original)


def test_pieces_of_a_batch_are_traced_once():
    layer = LogMel()
    waveforms = tf.zeros([32, 8000], tf.int16)
    with watched("_decibels") as traced:
        tf.function(layer.decibels).get_concrete_function(waveforms)
    assert [call.args[1].shape for call in traced.call_args_list] == [(4, 8000)]
    with watched("_decibels") as run:
        layer.decibels(waveforms)
    assert run.call_count == 8


@pytest.mark.parametrize(
    ("n_fft", "n_mels"), [(1024, 96), (2048, 80), (512, 10), (64, 128)]
)
def test_groups_of_bands_are_the_whole_matrix(monkeypatch, n_fft, n_mels):
    whole = frontend.mel_weights(n_fft, n_mels, 20.0, 8000.0)
    monkeypatch.setattr(pieces, "on_accelerator", lambda: False)
    groups = frontend._band_groups(whole)
    again = np.zeros_like(whole)
    columns = np.cumsum([0, *(group.weights.shape[1] for group in groups)])
    for group, start, end in zip(groups, columns[:-1], columns[1:], strict=True):
        again[group.bins, start:end] = group.weights
    np.testing.assert_array_equal(again, whole)
    assert sum(group.weights.size for group in groups) <= whole.size
    monkeypatch.setattr(pieces, "on_accelerator", lambda: True)
    assert len(frontend._band_groups(whole)) == 1


def test_most_of_the_mel_matrix_is_not_multiplied():
    whole = frontend.mel_weights(1024, 96, 20.0, 8000.0)
    groups = frontend._band_groups(whole)
    assert sum(group.weights.size for group in groups) < 0.4 * whole.size


def test_int16_and_float_waveforms_give_the_same():
    layer = LogMel()
    waveform = np.round(synthetic_waveforms() * 32_000).astype(np.int16)
    from_int = layer(tf.constant(waveform))
    from_float = layer(tf.constant(waveform / np.float32(32_768)))
    assert np.abs(from_int - from_float).max() < 1e-6


def test_scale_runs_from_minus_one_to_one():
    log_mel = LogMel()(tf.constant(synthetic_waveforms())).numpy()
    assert log_mel.max(axis=(1, 2)) == pytest.approx(np.ones(4))
    assert log_mel.min() == pytest.approx(-1.0)


def test_loudness_of_a_note_does_not_matter():
    waveform = synthetic_waveforms()[:1]
    layer = LogMel()
    assert np.abs(layer(waveform) - layer(waveform * 0.1)).max() < 1e-3


@pytest.mark.parametrize("skip_silence_db", [0.0, 40.0])
@pytest.mark.parametrize("samples", [400, 800, 64_000, 100_000])
def test_any_length_has_one_frame_a_hop_and_one_more(samples, skip_silence_db):
    layer = LogMel(skip_silence_db=skip_silence_db)
    log_mel = layer(tf.ones([2, samples]))
    assert log_mel.shape == (2, 1 + samples // layer.hop_length, layer.n_mels)
    assert layer.compute_output_shape(tf.TensorShape([2, samples])) == log_mel.shape


def test_silence_gives_finite_values():
    assert np.isfinite(LogMel()(tf.zeros([1, 64_000]))).all()


def late(seconds: float, noise: float) -> np.ndarray:
    """A note that begins late, in noise of this amplitude, float32 [1, 64000]."""
    time = np.arange(48_000) / 16_000
    note = 0.5 * np.exp(-time) * np.sin(2 * np.pi * 440 * time)
    random = np.random.default_rng(0)
    waveform = noise * random.standard_normal(64_000)
    start = int(seconds * 16_000)
    waveform[start : start + len(note)] += note[: 64_000 - start]
    return waveform[np.newaxis].astype(np.float32)


@pytest.mark.parametrize("noise", [0.0, 1e-3])
@pytest.mark.parametrize(("n_fft", "hop_length"), [(1024, 512), (1024, 1000)])
@pytest.mark.parametrize("seconds", [0.04, 0.07, 0.11, 0.2, 0.5, 0.53, 1.777, 2.9])
def test_silence_before_a_note_is_moved_behind_it(noise, n_fft, hop_length, seconds):
    layer = LogMel(n_fft, hop_length, skip_silence_db=40.0)
    as_it_is = LogMel(n_fft, hop_length)
    waveform = late(seconds, noise)
    # The sine's first sample is zero, and 2.5 ms are left before it is loud.
    moved = np.roll(waveform, 40 - int(seconds * 16_000) - 1, axis=1)
    expected = as_it_is(moved)
    np.testing.assert_allclose(layer(waveform), expected, atol=1e-4)
    as_int = np.round(waveform * 32_768).astype(np.int16)
    near = as_it_is(np.roll(as_int, 40 - int(seconds * 16_000) - 1, axis=1))
    np.testing.assert_allclose(layer(as_int), near, atol=1e-4)
    plain = as_it_is(waveform)
    assert np.abs(plain - expected).max() > 0.1
    np.testing.assert_array_equal(layer(waveform, training=True), plain)
    off = LogMel(n_fft, hop_length, skip_silence_db=80.0)
    np.testing.assert_array_equal(off(waveform), plain)
    too_loud = late(seconds, 0.5)
    np.testing.assert_array_equal(layer(too_loud), as_it_is(too_loud))


@pytest.mark.parametrize("noise", [0.003, 0.01, 0.05])
@pytest.mark.parametrize(("n_fft", "hop_length"), [(1024, 512), (1024, 1000)])
@pytest.mark.parametrize("seconds", [0.3, 0.53, 1.777, 2.9])
def test_so_is_background_noise(noise, n_fft, hop_length, seconds):
    layer = LogMel(n_fft, hop_length, skip_silence_db=40.0)
    as_it_is = LogMel(n_fft, hop_length)
    at_once = as_it_is(late(0.0, noise)).numpy().max(axis=2)[0]
    waveform = late(seconds, noise)
    level = layer(waveform).numpy().max(axis=2)[0]
    # The note, for as long as it is heard in all of them: within 2 dB of 80.
    frames = slice(1, int(16_000 // hop_length))
    assert np.abs(level - at_once)[frames].max() < 2 * 2 / 80
    plain = as_it_is(waveform)
    assert np.abs(plain.numpy().max(axis=2)[0] - at_once)[frames].max() > 0.2
    np.testing.assert_array_equal(layer(waveform, training=True), plain)


@pytest.mark.parametrize("hop_length", [256, 512, 800, 1000])
def test_noise_alone_and_a_swelling_note_begin_at_once(hop_length):
    layer = LogMel(hop_length=hop_length, skip_silence_db=40.0)
    as_it_is = LogMel(hop_length=hop_length)
    hiss = np.random.default_rng(0).standard_normal([1, 64_000]).astype(np.float32)
    np.testing.assert_array_equal(layer(0.1 * hiss), as_it_is(0.1 * hiss))
    time = np.arange(64_000) / 16_000
    tone = np.sin(2 * np.pi * 440 * time)
    for noise in (0.0, 3e-4):
        for decibels_a_second in (15, 20, 28, 40, 50):
            level = np.minimum(0.0, decibels_a_second * time - 36)
            waveform = (tone * 10 ** (level / 20) + noise * hiss).astype(np.float32)
            np.testing.assert_array_equal(layer(waveform), as_it_is(waveform))
        fading_in = tone * np.minimum(1.0, 0.13 + time / 1.5) ** 2 + noise * hiss
        fading_in = fading_in.astype(np.float32)
        np.testing.assert_array_equal(layer(fading_in), as_it_is(fading_in))


@pytest.mark.parametrize("hop_length", [512, 1000])
def test_a_soft_note_that_dies_away_before_a_loud_one_stays(hop_length):
    layer = LogMel(hop_length=hop_length, skip_silence_db=40.0)
    waveform = late(1.5, 0.0)
    time = np.arange(24_000) / 16_000
    soft = 0.03 * np.exp(-2 * time) * np.sin(2 * np.pi * 330 * time)
    waveform[0, :24_000] += soft.astype(np.float32)
    as_it_is = LogMel(hop_length=hop_length)(waveform)
    np.testing.assert_array_equal(layer(waveform), as_it_is)


def test_a_click_before_a_slow_attack_takes_nothing_of_it():
    layer, as_it_is = LogMel(skip_silence_db=40.0), LogMel()
    waveform = late(1.0, 0.0)
    waveform[0, 16_000:17_600] *= np.linspace(0, 1, 1_600, dtype=np.float32)
    at_once = np.roll(waveform, -16_000, axis=1)
    waveform[0, 1_600] = 0.003
    found = layer(waveform).numpy().max(axis=2)[0, 1:20]
    wanted = as_it_is(at_once).numpy().max(axis=2)[0, 1:20]
    assert np.abs(found - wanted).max() < 2 * 2 / 80


@pytest.mark.parametrize("offset", [-0.005, 0.02])
@pytest.mark.parametrize("seconds", [0.11, 0.2, 0.53, 1.777])
@pytest.mark.parametrize(("n_fft", "hop_length"), [(1024, 256), (1024, 512)])
def test_an_offset_is_no_sound(offset, seconds, n_fft, hop_length):
    layer = LogMel(n_fft, hop_length, skip_silence_db=40.0)
    as_it_is = LogMel(n_fft, hop_length)
    waveform = late(seconds, 0.0) + np.float32(offset)
    expected = as_it_is(np.roll(waveform, 40 - int(seconds * 16_000) - 1, axis=1))
    np.testing.assert_allclose(layer(waveform), expected, atol=1e-4)
    at_once = late(0.0, 0.0) + np.float32(offset)
    np.testing.assert_array_equal(layer(at_once), as_it_is(at_once))
    # A file of two seconds with an offset, and silence that fills the window; and an
    # offset of the note alone.
    begun = late(seconds, 0.0)
    for part in (slice(None, 32_000), slice(int(seconds * 16_000) + 1, None)):
        waveform = begun.copy()
        waveform[0, part] += np.float32(offset)
        expected = as_it_is(np.roll(waveform, 40 - int(seconds * 16_000) - 1, axis=1))
        np.testing.assert_allclose(layer(waveform), expected, atol=1e-4)


@pytest.mark.parametrize("hop_length", [256, 512, 1000])
@pytest.mark.parametrize("place", [63_000, 63_900, 63_999])
def test_a_sound_at_the_very_end_is_one(hop_length, place):
    layer = LogMel(hop_length=hop_length, skip_silence_db=40.0)
    waveform = np.zeros([1, 64_000], np.float32)
    waveform[0, place:] = 0.5
    for batch in (waveform, np.repeat(waveform, 2, axis=0)):
        found = layer(batch).numpy()
        assert np.isfinite(found).all() and found.max() == pytest.approx(1.0)
        # 40 dB below the loudest point is halfway up.
        assert (found.max(axis=2) >= 0).argmax(axis=1).max() == 0


@pytest.mark.parametrize(("n_fft", "hop_length"), [(1024, 512), (1024, 1000)])
def test_some_hundredths_of_a_second_are_silence(n_fft, hop_length):
    layer = LogMel(n_fft, hop_length, skip_silence_db=40.0)
    as_it_is = LogMel(n_fft, hop_length)
    moved = [
        bool(np.any(layer(late(ms / 1000, 0.0)) != as_it_is(late(ms / 1000, 0.0))))
        for ms in (0, 15, 35, 50, 130)
    ]
    assert moved == [False, False, True, True, True]


def test_an_attack_is_no_silence():
    layer, as_it_is = LogMel(skip_silence_db=40.0), LogMel()
    attack = late(0.0, 0.0)
    rising = np.arange(800) / 800  # To its loudest from 60 dB below it, in 50 ms.
    attack[0, :800] *= 1000.0 ** (rising - 1)
    heard = as_it_is.decibels(tf.constant(attack)).numpy().max(axis=2)[0] >= -40
    assert not heard[0] and heard[1]
    np.testing.assert_array_equal(layer(attack), as_it_is(attack))
    nothing = np.zeros([1, 64_000], np.float32)
    np.testing.assert_array_equal(layer(nothing), as_it_is(nothing))


def test_what_keras_asks_the_shape_of_is_not_traced_for_silence():
    waveform = keras.Input([64_000], dtype="float32")
    layer = LogMel(skip_silence_db=40.0)
    with watched("_without_silence_before") as search:
        log_mel = layer(waveform)
    assert log_mel.shape == (None, 126, 96) and not search.called
    note = late(1.0, 0.01)
    with watched("_without_silence_before") as search:
        found = keras.Model(waveform, log_mel)(note).numpy()
    assert search.called
    np.testing.assert_array_equal(found, layer(note))
    assert np.abs(found - LogMel()(note)).max() > 0.1


@pytest.mark.parametrize("on_accelerator", [False, True])
def test_each_note_of_a_batch_is_moved_for_itself(monkeypatch, on_accelerator):
    monkeypatch.setattr(pieces, "on_accelerator", lambda: on_accelerator)
    layer, as_it_is = LogMel(skip_silence_db=40.0), LogMel()
    notes = np.concatenate([late(2.0, 0.0), late(0.0, 0.0), late(1.0, 0.01)])
    for call in (layer, tf.function(layer), tf.function(layer, jit_compile=True)):
        found = call(tf.constant(notes)).numpy()
        np.testing.assert_allclose(found[:1], layer(notes[:1]), atol=1e-5)
        np.testing.assert_allclose(found[1:2], as_it_is(notes[1:2]), atol=1e-5)
        np.testing.assert_allclose(found[2:], layer(notes[2:]), atol=1e-5)
    for late_one in (notes[:1], notes[2:]):
        assert np.abs(layer(late_one) - as_it_is(late_one)).max() > 0.1


@pytest.fixture(scope="module")
def model():
    waveform = keras.Input([64_000], dtype="float32")
    log_mel = LogMel(n_mels=40, skip_silence_db=40.0)(waveform)
    return keras.Model(waveform, log_mel)


def test_survives_saved_model_and_keras_file(model, tmp_path):
    waveforms = np.concatenate([synthetic_waveforms(), late(1.5, 1e-4)])
    expected = model(waveforms).numpy()
    tf.saved_model.save(model, str(tmp_path / "saved"))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    assert np.allclose(loaded(waveforms), expected, atol=1e-5)
    model.save(tmp_path / "model.keras")
    reopened = keras.models.load_model(tmp_path / "model.keras")
    assert np.allclose(reopened(waveforms), expected, atol=1e-5)


def test_converts_to_tflite_with_built_in_ops_only(model):
    waveforms = late(1.5, 1e-4)
    function = tf.function(model).get_concrete_function(tf.TensorSpec([1, 64_000]))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], model)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], waveforms)
    interpreter.invoke()
    output = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    assert np.abs(output - model(waveforms)).max() < 1e-2


@pytest.mark.parametrize(
    "settings", [{"n_fft": 1000}, {"fmin": 9000.0}, {"fmax": 9000.0}]
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UserError, match="expected"):
        LogMel(**settings)
