"""The export: what it writes, and that it answers as the trained model does."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from mic_tf import files
from mic_tf.errors import UserError
from mic_tf.model.networks import inference_model
from mic_tf.serving import allowed_ops, exporter, training_notes
from mic_tf.serving import contract as contracts
from mic_tf.settings import DataSettings
from mic_tf.taxonomy import FAMILIES
from mic_tf.training import workfolder

ALONE = """
import sys
import tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
waveform = tf.sin(tf.range(64000, dtype=tf.float32) / 10)[tf.newaxis]
outputs = loaded.signatures["serving_default"](waveform=waveform)
assert not {"tf_keras", "mic_tf", "tensorflow_io"} & set(sys.modules)
print(outputs["probabilities"].numpy()[0].tolist())
print(open(loaded.labels.asset_path.numpy()).read().split())
"""


@pytest.fixture(scope="module")
def run(tiny_workdir) -> workfolder.TrainedRun:
    return workfolder.load_run(str(tiny_workdir))


@pytest.fixture(scope="module")
def signatures(tiny_export):
    loaded = tf.saved_model.load(str(tiny_export / "saved_model"))
    yield loaded.signatures


def trained_answers(run, waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    logits, embedding = inference_model(run.model)(waveform, training=False)
    return tf.nn.softmax(logits / run.temperature).numpy(), embedding.numpy()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, shape).astype(np.float32)


def test_the_exported_model_answers_as_the_trained_one(run, signatures):
    waveform = noise(3, 64_000) * np.array([[1.0], [0.1], [0.01]], np.float32)
    outputs = signatures["serving_default"](waveform=tf.constant(waveform))
    probabilities, embedding = trained_answers(run, waveform)
    np.testing.assert_allclose(outputs["probabilities"], probabilities, atol=1e-5)
    np.testing.assert_allclose(outputs["embedding"], embedding, atol=1e-4)
    assert np.ptp(probabilities, axis=1).min() > 0.01


def test_the_temperature_is_inside(run, signatures):
    waveform = noise(1, 64_000)
    logits, _ = inference_model(run.model)(waveform, training=False)
    outputs = signatures["serving_default"](waveform=tf.constant(waveform))
    without = tf.nn.softmax(logits).numpy()
    assert run.temperature == 1.7
    assert np.abs(outputs["probabilities"] - without).max() > 1e-3


def test_it_runs_where_only_tensorflow_is_imported(run, tiny_export):
    command = [sys.executable, "-c", ALONE, str(tiny_export / "saved_model")]
    # A TensorFlow of nobody's settings; tf_keras is not to be its Keras.
    own = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
    finished = subprocess.run(command, capture_output=True, text=True, cwd="/", env=own)
    assert finished.returncode == 0, finished.stderr
    first, second = finished.stdout.splitlines()
    waveform = np.sin(np.arange(64_000) / 10)[np.newaxis].astype(np.float32)
    expected, _ = trained_answers(run, waveform)
    np.testing.assert_allclose(json.loads(first), expected[0], atol=1e-5)
    assert second == str(list(FAMILIES))


def test_no_training_op_and_no_batch_norm_is_left(tiny_export):
    content = (tiny_export / "saved_model" / "saved_model.pb").read_bytes()
    saved = allowed_ops.saved_model_pb2.SavedModel.FromString(content)
    library = saved.meta_graphs[0].graph_def.library.function
    ops = {node.op for function in library for node in function.node_def}
    assert {"Conv2D", "RFFT", "Softmax"} <= ops
    suspicious = ("Norm", "Grad", "Random", "PyFunc", "Resource", "Dropout")
    assert [op for op in ops if any(word in op for word in suspicious)] == []


def write_figures(folder: pathlib.Path, figures: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(figures))


def test_the_contract_has_no_figures_of_earlier_weights_or_another_temperature(
    tiny_workdir, tmp_path
):
    workdir = tmp_path / "run"
    shutil.copytree(tiny_workdir, workdir)
    run = workfolder.load_run(str(workdir))
    of_run = {"weights": run.checksum, "temperature": run.temperature}
    figures = dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1", "ece"), 0.5)
    figures |= {"dataset": "d", "split": "valid", "protocol": "official", "n": 7}

    def exported(**changes) -> int:
        write_figures(workdir / "eval" / "d-valid", {**figures, **of_run, **changes})
        return len(exporter.export(run, str(tmp_path / "out")).results)

    assert exported() == 1
    assert exported(weights="0badcafe") == 0
    assert exported(temperature=1.0) == 0


def test_the_contract_says_where_the_model_is_from(tiny_workdir, run, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(tiny_workdir, workdir)
    metrics = {"dataset": "d", "split": "valid", "protocol": "official", "n": 7}
    metrics |= {"accuracy": 0.5, "balanced_accuracy": 0.4, "macro_f1": 0.3}
    figures = {**metrics, "ece": 0.1, "confusion": [[1]]}
    write_figures(workdir / "eval" / "d-valid", figures)
    out = tmp_path / "out"
    exporter.export(workfolder.load_run(str(workdir)), str(out))
    contract = contracts.read(str(out))
    assert contract.labels == FAMILIES
    assert contract.temperature == 1.7
    assert contract.results == [metrics]
    assert contract.training["data"]["protocol"] == "official"
    assert contract.settings["network"]["width"] == 8
    assert contract.versions["tensorflow"] == tf.__version__
    assert (out / "labels.txt").read_text().split() == list(FAMILIES)


def test_an_export_works_on_other_file_systems(run):
    exporter.export(run, "ram://exports/model")
    assert contracts.read("ram://exports/model").labels == FAMILIES
    loaded = tf.saved_model.load("ram://exports/model/saved_model")
    outputs = loaded.signatures["serving_default"](waveform=tf.zeros([1, 800]))
    assert outputs["probabilities"].shape == [1, len(FAMILIES)]


@pytest.fixture
def second_export(tiny_export, tmp_path) -> pathlib.Path:
    """A folder with an export in it, to export into again."""
    shutil.copytree(tiny_export, tmp_path / "export")
    return tmp_path / "export"


def test_exporting_again_replaces_the_model_and_leaves_nothing_else(run, second_export):
    def content() -> list[str]:
        paths = (path for path in second_export.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(second_export)) for path in paths)

    before = content()
    (second_export / "labels.txt").write_text("old")
    exporter.export(run, str(second_export))
    assert content() == before
    assert (second_export / "labels.txt").read_text().split() == list(FAMILIES)
    assert "contract.json" in before
    assert not [name for name in before if "tmp" in name]


def test_weights_are_written_on_request_and_listed(run, tmp_path):
    out = tmp_path / "out"
    exporter.export(run, str(out), weights=True)
    assert contracts.read(str(out)).weights == "weights"
    names = {path.name.split(".")[0] for path in (out / "weights").iterdir()}
    assert names == {"config", "state-000000001"}
    stored = sum(path.stat().st_size for path in (out / "weights").glob("*.data-*"))
    assert 4 * run.model.count_params() <= stored < 5 * run.model.count_params() + 9e3
    exporter.export(run, str(out))
    assert contracts.read(str(out)).weights == ""
    assert not (out / "weights").exists()


def test_weights_are_refused_before_anything_is_written(run, tmp_path):
    own = tmp_path / "weights" / "resnet.pt"
    own.parent.mkdir()
    own.write_text("mine")
    message = f"^{tmp_path}/weights: not of an export .it has resnet.pt"
    with pytest.raises(UserError, match=message):
        exporter.export(run, str(tmp_path), weights=True)
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]
    assert own.read_text() == "mine"


def test_an_out_in_which_the_model_is_not_found_again_is_refused(run, tmp_path):
    with pytest.raises(UserError, match="TensorFlow takes them for a pattern"):
        exporter.export(run, str(tmp_path / "out[1]"))
    assert not list(tmp_path.iterdir())


def test_a_folder_of_ones_own_called_weights_is_left_alone(run, tiny_workdir, tmp_path):
    """A run's, too, as `train --workdir=runs/weights` writes it."""
    shutil.copytree(tiny_workdir, tmp_path / "weights")
    (tmp_path / "weights" / "resnet.pt").write_text("mine")
    before = sorted((tmp_path / "weights").rglob("*"))
    exporter.export(run, str(tmp_path))
    assert sorted((tmp_path / "weights").rglob("*")) == before
    assert contracts.read(str(tmp_path)).weights == ""


def test_a_failed_export_leaves_no_contract_that_vouches_for_it(
    run, second_export, monkeypatch
):
    def full_disk(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", full_disk)
    with pytest.raises(UserError, match="saved_model: cannot be written: No space"):
        exporter.export(run, str(second_export))
    with pytest.raises(UserError, match=r"contract.json: no such file"):
        contracts.read(str(second_export))


def test_a_model_that_answers_otherwise_is_not_exported(run, tmp_path, monkeypatch):
    hotter = exporter.serving_module(run.model, 3.0)
    monkeypatch.setattr(exporter, "serving_module", lambda *_: hotter)
    with pytest.raises(RuntimeError, match="differs from the trained model"):
        exporter.export(run, str(tmp_path))
    assert not files.exists(str(tmp_path / "contract.json"))


def test_an_out_that_is_a_file_is_refused(run, tmp_path: pathlib.Path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match="taken"):
        exporter.export(run, str(tmp_path / "taken"))


def test_representative_notes_are_of_the_training_part_only(run, small_dataset):
    folder = pathlib.Path(small_dataset.data_dir).parents[1]
    data = DataSettings(dataset="nsynth_jsonwav", data_dir="elsewhere")
    settings = dataclasses.replace(run.settings, data=data)
    run = dataclasses.replace(run, settings=settings)
    notes = training_notes.representative_notes(run, str(folder), count=10)
    assert len(notes) == 9
    assert all(note.shape == (64_000,) and note.dtype == np.float32 for note in notes)
    assert 0.3 < max(np.abs(note).max() for note in notes) <= 1.0
    everything = training_notes.representative_notes(run, str(folder), count=1000)
    assert len(everything) == 36
