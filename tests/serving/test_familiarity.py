"""How like the notes of training a sound is: what is stored, and what is made of it."""

import dataclasses
import pathlib

import numpy as np
import pytest

from mic_tf import files
from mic_tf.errors import UserError
from mic_tf.evaluation import metrics
from mic_tf.serving import contract as contracts
from mic_tf.serving import exporter, familiarity, output, resuming, rows, training_notes
from mic_tf.serving.classifier import SILENCE, Classifier
from mic_tf.serving.doubt import UNSURE, Doubt
from mic_tf.serving.familiarity import Familiarity
from mic_tf.settings import DataSettings
from mic_tf.training import training_data, workfolder

SECOND = 16_000


def cosines(known: np.ndarray, asked: np.ndarray) -> np.ndarray:
    lengths = np.outer(np.linalg.norm(asked, axis=1), np.linalg.norm(known, axis=1))
    return asked @ known.T / lengths


@pytest.mark.parametrize("notes", [3, 40])
def test_it_is_the_cosine_with_the_fifth_nearest_note(notes):
    random = np.random.default_rng(0)
    known, asked = random.uniform(size=(notes, 8)), random.uniform(size=(6, 8))
    expected = np.sort(cosines(known, asked), axis=1)[:, -min(5, notes)]
    found = Familiarity(known).of(asked)
    assert found.shape == (6,)
    assert found == pytest.approx(expected, abs=1e-6)


def test_what_is_written_is_read_again(tmp_path):
    known = np.random.default_rng(0).normal(size=(20, 8))
    Familiarity(known).write(str(tmp_path))
    asked = known[:4] + 0.1
    found = familiarity.read(str(tmp_path), 8).of(asked)
    assert found == pytest.approx(Familiarity(known).of(asked), abs=2e-3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read"),
        (b"", "cannot be read"),
        (b"no array", "cannot be read"),
        (b"PK\x03\x04 an archive", "cannot be read"),
        (np.full([4, 8], np.nan, np.float16), "finite float16"),
        (
            np.zeros([4, 9], np.float16),
            r"float16 \[4, 9\]; finite float16 \[notes, 8\]",
        ),
        (
            np.zeros([4, 8], np.float64),
            r"float64 \[4, 8\]; finite float16 \[notes, 8\]",
        ),
        (np.zeros([0, 8], np.float16), r"float16 \[0, 8\]"),
    ],
)
def test_a_damaged_file_is_refused_with_the_reason(tmp_path, content, reason):
    path = tmp_path / familiarity.FILE_NAME
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(UserError, match=reason):
        familiarity.read(str(tmp_path), 8)


def test_a_file_with_code_in_it_is_not_opened(tmp_path):
    np.save(tmp_path / familiarity.FILE_NAME, np.array([{}], dtype=object))
    with pytest.raises(UserError, match="cannot be read"):
        familiarity.read(str(tmp_path), 8)


def test_the_threshold_keeps_95_of_100_notes():
    values = np.linspace(0.0, 0.99, 100)
    threshold = metrics.keeping(np.random.default_rng(0).permutation(values))
    assert (values >= threshold).sum() == 95


@pytest.fixture
def classifier() -> Classifier:
    """Its embedding is the mean of the window's two halves; it knows (1, 0)."""

    def infer(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        halves = np.abs(windows).reshape(len(windows), 2, -1).max(axis=2)
        return np.tile([0.9, 0.1], [len(windows), 1]), halves

    contract = contracts.Contract(("bell", "drum"), 2, min_familiarity=0.9)
    known = Familiarity(np.array([[1.0, 0.0]]))
    return Classifier(contract, infer, familiarity=known)


def test_an_answer_is_unsure_where_the_sound_is_strange(classifier):
    first = np.zeros(4 * SECOND, np.float32)
    first[:SECOND] = 0.5
    like, unlike = classifier(first, SECOND), classifier(first[::-1], SECOND)
    assert like.familiarity == pytest.approx(1.0)
    assert unlike.familiarity == pytest.approx(0.0)
    doubt = Doubt(min_familiarity=0.9)
    assert doubt.family(like) == "bell"
    assert doubt.family(unlike) == UNSURE
    assert Doubt().family(unlike) == "bell"
    assert Doubt(min_probability=0.95).family(like) == UNSURE
    silent = classifier(0.0 * first, SECOND)
    assert doubt.family(silent) == SILENCE


def test_a_class_that_is_named_silence_can_be_unsure():
    def infer(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.tile([0.9, 0.1], [len(windows), 1]), np.zeros([len(windows), 2])

    classifier = Classifier(contracts.Contract((SILENCE, "drum"), 2), infer)
    sound = np.tile([0.5, -0.5], SECOND).astype(np.float32)
    doubt = Doubt(min_probability=0.95)
    heard, silent = classifier(sound, SECOND), classifier(0.0 * sound, SECOND)
    assert (heard.family, heard.silent) == (SILENCE, False)
    assert (silent.family, silent.silent) == (SILENCE, True)
    assert (doubt.family(heard), doubt.family(silent)) == (UNSURE, SILENCE)
    found = classifier.classify_windows([(0.0, sound), (2.0, 0.0 * sound)])
    assert list(map(doubt.family, found)) == [UNSURE, SILENCE]


def test_silent_windows_do_not_make_a_sound_strange(classifier):
    sound = np.zeros(12 * SECOND, np.float32)
    sound[:SECOND] = 0.5
    assert classifier(sound, SECOND).familiarity == pytest.approx(1.0)
    assert classifier(0.0 * sound, SECOND).familiarity is None


def test_a_long_sound_has_the_mean_of_its_windows(classifier):
    sound = np.zeros(8 * SECOND, np.float32)
    sound[0] = sound[-1] = 0.5
    assert classifier(sound, SECOND).familiarity == pytest.approx(0.5)


def test_a_model_that_does_not_tell_has_none(tiny_export):
    answer = Classifier.load(tiny_export)(np.ones(SECOND, np.float32) * 0.1, SECOND)
    assert answer.familiarity is None


def test_an_export_knows_its_training_notes(tiny_workdir, small_dataset, tmp_path):
    run = workfolder.load_run(str(tiny_workdir))
    folder = pathlib.Path(small_dataset.data_dir).parents[1]
    data = DataSettings(dataset="nsynth_jsonwav", data_dir="elsewhere")
    run = dataclasses.replace(
        run, settings=dataclasses.replace(run.settings, data=data)
    )
    trained = training_data.describe_data(run.settings, small_dataset).description
    run = dataclasses.replace(run, summary={**run.summary, "data": trained})
    known, threshold = training_notes.familiarity(run, str(folder))
    assert 0 < len(known) <= 1500
    exporter.export(run, str(tmp_path / "export"), familiarity=(known, threshold))
    classifier = Classifier.load(tmp_path / "export")
    assert classifier.contract.min_familiarity == pytest.approx(threshold)
    heard = training_notes.representative_notes(run, str(folder), count=4)
    for note in heard:
        answer = classifier(note, SECOND)
        assert answer.familiarity == pytest.approx(
            known.of(answer.embedding[np.newaxis])[0], abs=2e-3
        )
    known_by = classifier.fingerprint
    Familiarity(known._known[:7]).write(str(tmp_path / "export"))
    assert Classifier.load(tmp_path / "export").fingerprint != known_by
    exporter.export(run, str(tmp_path / "export"))
    assert not (tmp_path / "export" / familiarity.FILE_NAME).exists()
    assert Classifier.load(tmp_path / "export").contract.min_familiarity is None


def test_a_run_without_validation_notes_is_refused_before_the_work(
    tiny_workdir, small_dataset
):
    run = workfolder.load_run(str(tiny_workdir))
    folder = pathlib.Path(small_dataset.data_dir).parents[1]
    data = DataSettings(dataset="nsynth_jsonwav", data_dir="", protocol="random")
    train = dataclasses.replace(run.settings.train, select="last")
    settings = dataclasses.replace(run.settings, data=data, train=train)
    run = dataclasses.replace(run, settings=settings)
    with pytest.raises(UserError, match="no validation notes under its random"):
        training_notes.familiarity(run, str(folder))


def test_a_result_of_another_familiarity_is_not_gone_on_with(tmp_path):
    out = str(tmp_path / "out.csv")

    def earlier(threshold: float = 0.0) -> list[rows.Row]:
        origin = resuming.origin("a", Doubt(min_familiarity=threshold))
        return resuming.earlier(out, origin, lambda text: [rows.Row(text)])

    with output.lines_to(
        out, made_by=resuming.origin("a", Doubt(min_familiarity=0.5))
    ) as write:
        write("file")
    assert earlier(0.5) == [rows.Row("file")]
    with pytest.raises(UserError, match="another --min_familiarity"):
        earlier(0.6)
    # Made before there was such a threshold.
    files.write_json(out + output.MADE_BY, {"model": "a", "min_probability": 0.0})
    assert earlier() == [rows.Row("file")]
