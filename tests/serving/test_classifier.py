"""The Python API: the same answers for files, waveforms, windows in batches."""

import concurrent.futures
import json
import shutil
import threading

import numpy as np
import pytest
import soundfile
import tensorflow as tf

import mic_tf
from mic_tf import bundled
from mic_tf.audio import waveforms
from mic_tf.errors import UserError
from mic_tf.serving import models, tflite
from mic_tf.serving.classifier import SILENCE, Answer, Classifier
from mic_tf.taxonomy import FAMILIES
from mic_tf.training import workfolder


@pytest.fixture(scope="module")
def classifier(tiny_export) -> Classifier:
    return Classifier.load(tiny_export)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sounds of 0.1, 4 and 11 s, silence, and a file that breaks off in the middle."""
    folder = tmp_path_factory.mktemp("sounds")
    random = np.random.default_rng(0)
    for name, seconds in {"short": 0.1, "note": 4.0, "long": 11.0}.items():
        samples = random.uniform(-0.5, 0.5, int(seconds * 16_000))
        soundfile.write(folder / f"{name}.wav", np.cumsum(samples) / 200, 16_000)
    soundfile.write(folder / "quiet.wav", np.full(20_000, 0.0005), 16_000)
    broken = np.zeros(200_000)
    broken[190_000] = np.nan
    soundfile.write(folder / "broken.wav", broken, 16_000, subtype="FLOAT")
    return folder


def test_the_package_offers_the_classifier():
    assert mic_tf.Classifier is Classifier
    with pytest.raises(AttributeError, match="no attribute 'Clasifier'"):
        mic_tf.Clasifier  # noqa: B018


def test_a_work_folder_and_a_saved_model_open_as_their_export(
    tiny_workdir, tiny_export
):
    assert Classifier.load(str(tiny_workdir)).labels == FAMILIES
    assert Classifier.load(tiny_export / "saved_model").labels == FAMILIES


def test_without_a_path_the_bundled_model_is_loaded(tiny_export, monkeypatch):
    monkeypatch.setattr(bundled, "folder", lambda: str(tiny_export))
    assert Classifier.load().labels == FAMILIES


def test_an_answer_is_the_signatures_over_all_windows(classifier, tiny_export, folder):
    sound, _ = soundfile.read(folder / "long.wav", dtype="float32")
    loaded = tf.saved_model.load(str(tiny_export / "saved_model"))
    signature = loaded.signatures["serving_default"]
    outputs = signature(waveform=tf.constant(sound[np.newaxis]))
    answer = classifier(folder / "long.wav")
    expected = outputs["probabilities"].numpy()[0]
    assert list(answer.probabilities) == list(FAMILIES)
    found = list(answer.probabilities.values())
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(answer.embedding, outputs["embedding"][0], atol=1e-4)
    assert answer.family == FAMILIES[int(np.argmax(expected))]
    assert answer.probability == max(found)


def test_a_waveform_gets_the_answer_of_its_file(classifier, folder):
    integers, rate = soundfile.read(folder / "note.wav", dtype="int16")
    from_file = classifier(folder / "note.wav")
    assert classifier(integers, rate).probabilities == from_file.probabilities


def test_an_answer_says_how_many_channels_were_averaged(classifier, tmp_path):
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, [20_000, 2])
    soundfile.write(tmp_path / "stereo.wav", sound, 16_000, subtype="DOUBLE")
    for answer in (classifier(tmp_path / "stereo.wav"), classifier(sound, 16_000)):
        assert answer.channels == 2
        alone = classifier(sound.mean(axis=1), 16_000)
        assert alone.channels == 1
        np.testing.assert_allclose(
            list(answer.probabilities.values()),
            list(alone.probabilities.values()),
            atol=1e-5,
        )


def test_a_fingerprint_is_that_of_the_models_files(tiny_export, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(tiny_export, copy)
    first = Classifier.load(tiny_export).fingerprint
    assert Classifier.load(copy).fingerprint == first
    assert Classifier.load(copy / "saved_model").fingerprint == first
    [weights] = (copy / "saved_model" / "variables").glob("*.data-*")
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    assert models.fingerprint(str(copy)) != first


def test_silence_behind_a_note_does_not_change_its_answer(classifier):
    note = np.sin(np.arange(64_000) / 3).astype(np.float32)
    alone = classifier(note, 16_000)
    for rest in (np.zeros(640_000), np.full(640_000, 5e-4)):
        answer = classifier(np.append(note, rest.astype(np.float32)), 16_000)
        found = list(answer.probabilities.values())
        expected = list(alone.probabilities.values())
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_allclose(answer.embedding, alone.embedding, atol=1e-4)


def test_a_constant_is_silence(classifier):
    assert classifier(np.full(64_000, 0.5), 16_000).family == SILENCE


def test_an_answer_is_printed_without_its_embedding(classifier):
    answer = classifier(np.full(64_000, 0.5), 16_000)
    assert "embedding" not in repr(answer) and "silence" in repr(answer)


def test_one_file_is_embedded_as_a_list_of_one_is(classifier, folder):
    alone = classifier.embed(folder / "note.wav")
    assert alone.shape == (1, classifier.contract.embedding_width)
    np.testing.assert_array_equal(alone, classifier.embed([folder / "note.wav"]))
    np.testing.assert_array_equal(alone, classifier.embed(str(folder / "note.wav")))


def test_a_rate_that_is_no_number_is_refused(classifier):
    with pytest.raises(UserError, match="sample rate '16000'; a number of Hz"):
        classifier(np.zeros(64_000), "16000")
    note = np.sin(np.arange(64_000) / 3)
    expected = classifier(note, 44_100).probabilities
    for rate in (np.array(44_100), np.float32(44_100), tf.constant(44_100)):
        assert classifier(note, rate).probabilities == expected


def test_a_waveform_without_its_rate_is_refused(classifier):
    with pytest.raises(UserError, match="without a sample rate"):
        classifier(np.zeros(64_000))
    with pytest.raises(UserError, match="a file says its own sample rate; 16000"):
        classifier("note.wav", 16_000)


def test_the_rate_of_a_waveform_counts(classifier):
    sound = np.sin(np.arange(64_000) / 3).astype(np.float32)
    resampled = [w for _, w in waveforms.windows(sound, 44_100)][0]
    answer = classifier(sound, 44_100)
    assert answer.probabilities != classifier(sound, 16_000).probabilities
    assert answer.probabilities == classifier(resampled, 16_000).probabilities


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_batches_over_files_change_neither_answers_nor_order(
    classifier, folder, batch_size
):
    names = ["note", "gone", "long", "broken", "short", "long", "note"]
    paths = [str(folder / f"{name}.wav") for name in names]
    found = list(classifier.classify_files(paths, batch_size))
    assert [path for path, _ in found] == paths
    for path, answer in found:
        if "gone" in path or "broken" in path:
            assert isinstance(answer, UserError)
        else:
            alone = classifier(path)
            assert answer.family == alone.family
            np.testing.assert_allclose(answer.embedding, alone.embedding, atol=1e-4)
            np.testing.assert_allclose(
                list(answer.probabilities.values()),
                list(alone.probabilities.values()),
                atol=1e-5,
            )


@pytest.fixture(scope="module")
def of_tflite(tiny_workdir, tiny_export, tmp_path_factory) -> Classifier:
    folder = tmp_path_factory.mktemp("tflite")
    run = workfolder.load_run(str(tiny_workdir))
    (folder / "model.tflite").write_bytes(tflite.convert(run, "float32"))
    shutil.copy(tiny_export / "contract.json", folder)
    return Classifier.load(folder / "model.tflite")


@pytest.mark.parametrize("kind", ["classifier", "of_tflite"])
def test_several_threads_get_the_answers_that_each_gets_alone(kind, request):
    infer = request.getfixturevalue(kind)._infer
    random = np.random.default_rng(0)
    windows = random.uniform(-0.5, 0.5, [8, 1, 64_000]).astype(np.float32)
    alone = [infer(window)[0] for window in windows]
    with concurrent.futures.ThreadPoolExecutor(max_workers=8) as threads:
        for _ in range(3):
            found = [answer[0] for answer in threads.map(infer, windows)]
            np.testing.assert_allclose(found, alone, atol=1e-5)


def test_several_runs_of_one_classifier_do_not_disturb_each_other(classifier, folder):
    forwards = [str(folder / f"{name}.wav") for name in ("long", "note", "short")]
    expected = {path: classifier(path).probabilities for path in forwards}
    left = classifier.classify_files(forwards * 5, 1)
    next(left)
    both = zip(
        classifier.classify_files(forwards, 2),
        classifier.classify_files(reversed(forwards), 1),
        strict=True,
    )
    for one, other in both:
        for path, answer in (one, other):
            assert answer.probabilities == pytest.approx(expected[path], abs=1e-5)
    left.close()


@pytest.mark.parametrize("batch_size", [0, 1025, 2.5])
def test_a_batch_of_nothing_of_too_much_and_of_a_part_is_refused(
    classifier, folder, batch_size
):
    message = f"batch_size={batch_size}: a whole number from 1 to 1024 expected"
    with pytest.raises(UserError, match=message):
        next(classifier.classify_files([str(folder / "note.wav")], batch_size))


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (np.zeros(64_001, np.float32), r"shape \[64001\]; \[800 to 64000\] samples"),
        (np.zeros(799, np.float32), r"shape \[799\]; "),
        (np.zeros([64_000, 1], np.float32), r"shape \[64000, 1\]; "),
        (np.zeros(64_000, np.int16), "dtype int16; float32 expected"),
        (np.full(64_000, np.nan, np.float32), "sample 0 is nan; finite"),
    ],
)
def test_what_is_no_window_is_refused(classifier, window, message):
    good = np.zeros(64_000, np.float32)
    found = classifier.classify_windows([(0.0, good), (4.0, window)])
    assert next(found).silent
    with pytest.raises(UserError, match=f"window at 4 s: {message}"):
        next(found)


def test_rows_of_several_lengths_are_no_waveform(classifier):
    with pytest.raises(UserError, match="waveform: list of rows that are not of one l"):
        classifier([[0.0, 0.1], [0.2]], 16_000)


def test_answers_come_before_the_last_file_is_read(classifier, folder):
    read = []

    def paths():
        for _ in range(10):
            read.append(1)
            yield folder / "note.wav"

    next(classifier.classify_files(paths(), batch_size=2))
    assert len(read) < 5


def made_up(classifier, infer) -> Classifier:
    """A classifier with the contract of another and an `infer` of its own."""
    return Classifier(classifier.contract, infer)


def test_files_are_read_while_the_model_works_on_those_before(classifier, folder):
    next_batch_is_read = threading.Event()
    widths = len(classifier.labels), classifier.contract.embedding_width

    def infer(batch):
        assert next_batch_is_read.wait(timeout=60)
        return tuple(np.zeros([len(batch), width], np.float32) for width in widths)

    def paths():
        for number in range(4):
            if number == 3:
                next_batch_is_read.set()
            yield folder / "note.wav"

    found = made_up(classifier, infer).classify_files(paths(), batch_size=2)
    assert len(list(found)) == 4


def test_what_goes_wrong_in_the_model_is_raised_to_who_asked(classifier, folder):
    def infer(batch):
        raise MemoryError(f"{len(batch)} windows")

    with pytest.raises(MemoryError, match="1 windows"):
        made_up(classifier, infer)(folder / "note.wav")


def test_a_bad_file_raises_where_one_answer_was_asked(classifier, folder):
    with pytest.raises(UserError, match=r"broken.wav: sample 190000 is nan"):
        classifier(folder / "broken.wav")


def test_near_silence_is_no_family(classifier, folder):
    answer = classifier(folder / "quiet.wav")
    assert answer.family == SILENCE and answer.silent
    assert set(answer.probabilities.values()) == {0.0}
    louder = classifier(0.002 * np.sin(np.arange(20_000)), 16_000)
    assert louder.family in FAMILIES and not louder.silent


def test_embeddings_are_rows_in_the_order_of_the_files(classifier, folder):
    vectors = classifier.embed([folder / "note.wav", folder / "long.wav"])
    assert vectors.shape == (2, 16)
    assert vectors.dtype == np.float32
    expected = classifier(folder / "long.wav").embedding
    np.testing.assert_allclose(vectors[1], expected, atol=1e-4)
    assert classifier.embed([]).shape == (0, 16)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("contract.json", r"contract.json: no such file"),
        ("saved_model/saved_model.pb", "saved_model.pb: cannot be read"),
        ("saved_model/variables/variables.index", "saved_model: damaged"),
    ],
)
def test_an_incomplete_export_is_refused(tiny_export, tmp_path, part, message):
    copy = tmp_path / "model"
    shutil.copytree(tiny_export, copy)
    (copy / part).unlink()
    with pytest.raises(UserError, match=message):
        Classifier.load(copy)


def test_a_contract_of_another_model_is_refused(tiny_export, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(tiny_export, copy)
    contract = json.loads((copy / "contract.json").read_text())
    contract["labels"] = contract["labels"][:-1]
    contract["outputs"]["probabilities"]["shape"] = ["batch", 10]
    (copy / "contract.json").write_text(json.dumps(contract))
    with pytest.raises(UserError, match=r"its outputs are .*11.* contract says .*10"):
        Classifier.load(copy)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such file or folder"):
        Classifier.load(tmp_path / "nowhere")


def test_every_recording_at_hand_is_answered(classifier, nsynth_mini):
    folder = nsynth_mini.parent / "wild-dev"
    paths = sorted(p for p in folder.iterdir() if p.suffix != ".csv")
    answers = [answer for _, answer in classifier.classify_files(paths)]
    assert len(answers) == 27
    assert all(isinstance(answer, Answer) for answer in answers)
