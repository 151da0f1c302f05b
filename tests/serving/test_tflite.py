"""TFLite files: the same answers, in built-in ops."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from mic_tf.errors import UserError
from mic_tf.model.networks import inference_model
from mic_tf.serving import exporter, tflite
from mic_tf.serving.classifier import Classifier
from mic_tf.training import workfolder


@pytest.fixture(scope="module")
def run(tiny_workdir) -> workfolder.TrainedRun:
    return workfolder.load_run(str(tiny_workdir))


@pytest.fixture(scope="module")
def notes() -> np.ndarray:
    """Decaying tones with some noise, float32 [8, 64000]."""
    random = np.random.default_rng(0)
    time = np.arange(64_000) / 16_000
    pitches = random.uniform(100, 2000, [8, 1])
    tones = np.sin(2 * np.pi * pitches * time) * np.exp(-time)
    return (0.5 * tones + 1e-3 * random.normal(size=tones.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(run, notes) -> tuple[np.ndarray, np.ndarray]:
    logits, embedding = inference_model(run.model)(notes, training=False)
    return tf.nn.softmax(logits / run.temperature).numpy(), embedding.numpy()


def answers(content: bytes, notes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    runner = tf.lite.Interpreter(model_content=content).get_signature_runner()
    found = [runner(waveform=note[np.newaxis]) for note in notes]
    probabilities = np.concatenate([answer["probabilities"] for answer in found])
    return probabilities, np.concatenate([answer["embedding"] for answer in found])


@pytest.mark.parametrize(("kind", "tolerance"), [("float32", 1e-5), ("float16", 5e-3)])
def test_float_files_answer_as_the_trained_model(run, notes, expected, kind, tolerance):
    probabilities, _ = answers(tflite.convert(run, kind), notes)
    np.testing.assert_allclose(probabilities, expected[0], atol=tolerance)


def test_int8_keeps_the_front_end_in_float(run, notes, expected):
    content = tflite.convert(run, "int8", notes)
    probabilities, embedding = answers(content, notes)
    error = np.abs(embedding - expected[1]).mean() / np.abs(expected[1]).mean()
    assert error < 0.05
    np.testing.assert_allclose(probabilities, expected[0], atol=0.05)
    interpreter = tf.lite.Interpreter(model_content=content)
    tensors = interpreter.get_tensor_details()
    front_end = {t["dtype"] for t in tensors if t["name"].startswith("log_mel/")}
    convolutions = {t["dtype"] for t in tensors if "conv_" in t["name"]}
    assert np.float32 in front_end and np.int8 not in front_end
    assert np.int8 in convolutions and np.float32 not in convolutions


def test_int8_leaves_the_branch_for_silence_in_float(run, notes):
    late = np.zeros_like(notes)
    late[:, 3_200:] = notes[:, :-3_200]
    # Late notes teach int8 the branch's ranges, too.
    content = tflite.convert(run, "int8", np.concatenate([notes, late[:2]]))
    model = schema.Model.GetRootAsModel(content, 0)
    branches = [model.Subgraphs(i) for i in range(1, model.SubgraphsLength())]
    types = {
        branch.Tensors(i).Type()
        for branch in branches
        for i in range(branch.TensorsLength())
    }
    assert schema.TensorType.FLOAT32 in types and schema.TensorType.INT8 not in types
    found, _ = answers(content, late)
    wanted, _ = answers(tflite.convert(run, "float32"), late)
    np.testing.assert_allclose(found, wanted, atol=0.05)


def test_int8_without_notes_is_refused(run):
    with pytest.raises(UserError, match="int8 needs notes"):
        tflite.convert(run, "int8")


def test_an_export_has_the_files_that_were_asked_and_they_open(run, notes, tmp_path):
    exporter.export(run, str(tmp_path), tflite_kinds=["float16"])
    exporter.export(run, str(tmp_path), tflite_kinds=["float32"])
    assert [path.name for path in tmp_path.glob("*.tflite")] == ["model.tflite"]
    small = Classifier.load(tmp_path / "model.tflite")
    whole = Classifier.load(tmp_path)
    sound = np.concatenate([notes[0], notes[1][:10_000]])
    found, wanted = small(sound, 16_000), whole(sound, 16_000)
    assert found.family == wanted.family
    np.testing.assert_allclose(found.embedding, wanted.embedding, atol=1e-4)


def test_a_file_that_is_no_model_is_refused(tiny_export, tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"text" * 100)
    contract = (tiny_export / "contract.json").read_text()
    (tmp_path / "contract.json").write_text(contract)
    with pytest.raises(UserError, match="model.tflite: not a TFLite model of ours"):
        Classifier.load(tmp_path / "model.tflite")
