"""A run that starts from the weights of another, or of an export."""

import dataclasses
import json
import logging
import shutil

import numpy as np
import pytest
import tensorflow as tf

from mic_tf import bundled
from mic_tf.errors import UserError
from mic_tf.serving import exporter
from mic_tf.settings import FrontEndSettings, NetworkSettings, RunSettings
from mic_tf.training import starting, trainer, workfolder
from tests.conftest import make_note, write_dataset
from tests.training.test_trainer import SMALL, changed

CLASSES = ("banjo", "bass", "kalimba", "koto", "sitar")


@pytest.fixture(scope="module")
def export(tiny_workdir, tmp_path_factory):
    """An export with weights, of 11 families."""
    out = tmp_path_factory.mktemp("export")
    exporter.export(workfolder.load_run(str(tiny_workdir)), str(out), weights=True)
    return out


@pytest.fixture(scope="module")
def own_classes(tmp_path_factory):
    """Five classes, one of which the export knows."""
    parts = {
        split: [
            make_note(name, instrument, 50 + i, families=CLASSES)
            for name in CLASSES
            for i in range(count)
        ]
        for split, instrument, count in (("train", 0, 4), ("valid", 1, 1))
    }
    folder = tmp_path_factory.mktemp("own")
    return write_dataset(
        folder, parts, name="sample_folder", shards=1, families=CLASSES
    )


def layers_of(folder) -> dict[str, list[np.ndarray]]:
    model = workfolder.load_run(str(folder)).model
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def fine_tuned(export, builder, workdir, **train) -> dict[str, list[np.ndarray]]:
    run = changed("train", init_from=str(export), epochs=1, **train)
    run = dataclasses.replace(run, frontend=FrontEndSettings())
    run = dataclasses.replace(run, network=NetworkSettings())
    run = starting.take_over(run, str(workdir), given=())
    trainer.train(run, str(workdir), builder)
    return layers_of(workdir)


def test_what_lay_in_a_folder_for_weights_is_left_alone(tiny_workdir, tmp_path):
    """A person's own, a foreign config.json, a run, an export with more in it."""
    run = workfolder.load_run(str(tiny_workdir))
    for name in ("own", "foreign", "more"):
        (tmp_path / name).mkdir()
    (tmp_path / "own" / "resnet.pt").write_text("mine")
    (tmp_path / "foreign" / "config.json").write_text('{"model_type": "bert"}')
    shutil.copytree(tiny_workdir, tmp_path / "run")
    starting.write(run, str(tmp_path / "more"))
    more = ("state-dict.pt", "notes.txt")
    for name in more:
        (tmp_path / "more" / name).write_text("mine")
    for name in ("own", "foreign", "run"):
        folder = tmp_path / name
        before = set(folder.rglob("*"))
        starting.remove(str(folder))
        with pytest.raises(UserError, match=f"^{folder}: not of an export .it has "):
            starting.write(run, str(folder))
        assert set(folder.rglob("*")) == before
    assert starting.write(run, str(tmp_path / "more")) > 4 * run.model.count_params()
    starting.remove(str(tmp_path / "more"))
    assert {path.name for path in (tmp_path / "more").iterdir()} == set(more)
    starting.remove(str(tmp_path / "nowhere"))


def test_weights_that_a_full_disk_cut_short_are_written_anew(
    tiny_workdir, tmp_path, monkeypatch
):
    run = workfolder.load_run(str(tiny_workdir))
    folder = tmp_path / "weights"
    write = tf.train.Checkpoint.write

    def half_written(self, prefix):
        write(self, prefix)
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.train.Checkpoint, "write", half_written)
    with pytest.raises(UserError, match="cannot be written: No space left"):
        starting.write(run, str(folder))
    monkeypatch.undo()
    assert list(folder.glob("state-*"))
    starting.write(run, str(folder))
    assert starting.find(str(folder)).snapshot.number == 1
    starting.remove(str(folder))
    assert not folder.exists()


def test_a_start_from_a_run_that_is_not_finished_is_warned_of(
    tiny_workdir, export, own_classes, tmp_path, caplog
):
    unfinished = tmp_path / "unfinished"
    shutil.copytree(tiny_workdir, unfinished)
    (unfinished / "summary.json").unlink()
    warning = f"{unfinished}: its training is not finished (some of 10 epochs)"
    with caplog.at_level(logging.INFO, logger="absl"):
        fine_tuned(export, own_classes, tmp_path / "a")
        assert f"start from {export}, epoch 1: " in caplog.text
        assert warning not in caplog.text
        fine_tuned(unfinished, own_classes, tmp_path / "b")
    assert caplog.text.count(warning) == 1
    assert f"start from {unfinished}, epoch 1: " in caplog.text


def test_other_classes_start_from_an_export_with_a_new_head(
    export, own_classes, tiny_workdir, tmp_path
):
    before = layers_of(tiny_workdir)
    after = fine_tuned(export, own_classes, tmp_path, learning_rate=0.0)
    run = workfolder.load_run(str(tmp_path))
    assert run.labels == CLASSES
    (heard,) = run.summary["data"]["started_from"]
    assert heard == workfolder.load_run(str(tiny_workdir)).summary["data"]
    assert set(before) == set(after)
    for name in set(before) - {"logits"}:
        # Moving means of BatchNorm follow the batches whatever the learning rate.
        trained = slice(0, 2) if "norm" in name else slice(None)
        for old, new in zip(before[name][trained], after[name][trained], strict=True):
            assert np.array_equal(old, new), name
    kernel, bias = after["logits"]
    assert kernel.shape == (16, 5)
    assert np.array_equal(kernel[:, 1], before["logits"][0][:, 0])
    assert bias[1] == before["logits"][1][0]
    for place in (0, 2, 3, 4):
        distances = np.abs(before["logits"][0] - kernel[:, place : place + 1])
        assert distances.max(axis=0).min() > 1e-3


def test_settings_of_the_weights_are_taken_over_and_said(export, caplog):
    asked = changed("train", init_from=str(export))
    asked = dataclasses.replace(asked, network=NetworkSettings(dropout=0.1))
    asked = dataclasses.replace(asked, frontend=FrontEndSettings())
    with caplog.at_level(logging.INFO, logger="absl"):
        run = starting.take_over(asked, "/nowhere", given={"dropout", "n_mels"})
    assert run.network == NetworkSettings(width=8, dense_units=16, dropout=0.1)
    assert run.frontend == FrontEndSettings()
    assert run.augment == asked.augment
    assert f"taken over from {export}: width 8, dense_units 16" in caplog.text


def test_a_setting_that_the_weights_do_not_have_is_refused(export, small_dataset):
    asked = changed("train", init_from=str(export))
    message = "--n_mels=32: the weights of .* are of n_mels 96; leave --n_mels out"
    with pytest.raises(UserError, match=message):
        starting.take_over(asked, "/nowhere", given={"n_mels"})
    with pytest.raises(UserError, match="--hop_length=2000: the weights of"):
        trainer.train(asked, "ram://clash", small_dataset)


def test_a_run_that_has_begun_goes_on_without_the_export(export, own_classes, tmp_path):
    source = tmp_path / "moved"
    shutil.copytree(export, source)
    before = fine_tuned(source, own_classes, tmp_path / "run")
    shutil.rmtree(source)
    after = fine_tuned(source, own_classes, tmp_path / "run")
    assert np.array_equal(before["logits"][0], after["logits"][0])


def test_a_work_folder_and_its_export_give_the_same_weights(tiny_workdir, export):
    origins = [starting.find(str(path)) for path in (tiny_workdir, export)]
    origins.append(starting.find(f"{export}/weights"))
    models = [
        workfolder.restored_model(o.settings, o.labels, o.snapshot).get_weights()
        for o in origins
    ]
    for other in models[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(models[0], other, strict=True))
    assert origins[0].labels == origins[1].labels


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "no config.json, so no work folder, and no weights/"),
        (["contract.json"], "an export without weights; export it again"),
    ],
)
def test_a_folder_without_weights_is_one_line(tmp_path, content, message):
    for name in content:
        (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=f"--init_from=.*{message}"):
        starting.find(str(tmp_path))


def test_the_bundled_model_is_found_by_its_name(export, monkeypatch):
    monkeypatch.setattr(bundled, "folder", lambda: str(export))
    assert starting.find("pretrained").labels == starting.find(str(export)).labels


def test_written_weights_name_no_place_of_this_machine(tiny_workdir, tmp_path):
    run = workfolder.load_run(str(tiny_workdir))
    data = dataclasses.replace(run.settings.data, data_dir="/home/someone/data")
    train = dataclasses.replace(run.settings.train, init_from="/home/someone/runs/a")
    settings = dataclasses.replace(run.settings, data=data, train=train)
    out = tmp_path / "out"
    exporter.export(dataclasses.replace(run, settings=settings), str(out), weights=True)
    for path in out.rglob("*.json"):
        assert "someone" not in path.read_text(), path.name
    stored = json.loads((out / "weights" / "config.json").read_text())
    assert stored["settings"]["train"]["init_from"] == "a"


def test_a_run_that_starts_from_nothing_is_left_alone():
    assert starting.take_over(SMALL, "/nowhere", given=()) is SMALL
    assert RunSettings().train.init_from == ""
