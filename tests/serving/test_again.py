"""An export with weights is all that is needed to export the model again."""

import json
import shutil

import numpy as np
import pytest

from mic_tf import bundled
from mic_tf.errors import UserError
from mic_tf.serving import again, exporter
from mic_tf.serving.classifier import Classifier
from mic_tf.serving.familiarity import Familiarity
from mic_tf.training import workfolder


@pytest.fixture(scope="module")
def with_weights(tiny_workdir, tmp_path_factory):
    """An export with weights, a temperature, familiarity and figures."""
    out = tmp_path_factory.mktemp("again") / "export"
    run = workfolder.load_run(str(tiny_workdir))
    known = Familiarity(np.random.default_rng(0).uniform(0, 1, [8, 16]))
    exporter.export(
        run, str(out), weights=True, familiarity=(known, 0.25), results=[{"n": 3}]
    )
    return out


def test_the_second_export_is_the_first(with_weights, tmp_path):
    exported = again.open_export(str(with_weights))
    exporter.export(
        exported.run,
        str(tmp_path / "second"),
        tflite_kinds=["float32"],
        weights=True,
        familiarity=exported.familiarity,
        results=exported.results,
    )
    contract = json.loads((with_weights / "contract.json").read_text())
    assert json.loads((tmp_path / "second" / "contract.json").read_text()) == contract
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, 64_000)
    first = Classifier.load(with_weights)(noise, 16_000)
    for model in ("second", "second/model.tflite"):
        answer = Classifier.load(tmp_path / model)(noise, 16_000)
        assert answer.probabilities == pytest.approx(first.probabilities, abs=1e-5)
        assert answer.familiarity == pytest.approx(first.familiarity, abs=1e-4)


def test_an_export_of_the_version_before_is_opened(with_weights, tmp_path, caplog):
    shutil.copytree(with_weights, tmp_path / "old")
    path = tmp_path / "old" / "contract.json"
    content = json.loads(path.read_text())
    content["contract_version"] = 1
    del content["settings"]["frontend"]["skip_silence_db"]
    content["windowing"]["combine"] = "mean of the windows' probabilities"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="contract_version 1; 2 expected: export the"):
        Classifier.load(tmp_path / "old")
    exported = again.open_export(str(tmp_path / "old"))
    assert exported.results == [{"n": 3}]
    assert exported.familiarity[1] == 0.25
    assert "figures in its contract are from before --skip_silence_db" in caplog.text


def test_the_bundled_model_has_a_name(with_weights, monkeypatch):
    monkeypatch.setattr(bundled, "folder", lambda: str(with_weights))
    exported = again.open_export("pretrained")
    assert exported.run.labels == Classifier.load().labels


def test_work_folders_are_left_to_others(tiny_workdir, tmp_path):
    assert again.open_export(str(tiny_workdir)) is None
    assert again.open_export(str(tmp_path)) is None


def test_an_export_without_weights_or_of_other_families_is_refused(
    tiny_export, with_weights, tmp_path
):
    with pytest.raises(UserError, match="an export without weights; give the work"):
        again.open_export(str(tiny_export))
    shutil.copytree(with_weights, tmp_path / "gone")
    shutil.rmtree(tmp_path / "gone" / "weights")
    with pytest.raises(UserError, match="names weights/, but no whole weights are"):
        again.open_export(str(tmp_path / "gone"))
    shutil.copytree(with_weights, tmp_path / "mixed")
    path = tmp_path / "mixed" / "weights" / "config.json"
    content = json.loads(path.read_text())
    content["labels"] = content["labels"][::-1]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="its weights are of vocal, .*of bass, "):
        again.open_export(str(tmp_path / "mixed"))
