import dataclasses
import itertools
import json
import os
import pathlib
import shutil
import signal
import textwrap
import types

import numpy as np
import pytest
import tensorflow as tf

from mic_tf import files
from mic_tf.errors import UserError
from mic_tf.evaluation import evaluator
from mic_tf.pipeline import batches, family_shards
from mic_tf.settings import (
    AugmentSettings,
    DataSettings,
    FrontEndSettings,
    NetworkSettings,
    RunSettings,
    TrainSettings,
)
from mic_tf.training import (
    callbacks,
    snapshots,
    starting,
    strategy,
    trainer,
    workfolder,
)
from tests import processes
from tests.conftest import make_note, write_dataset

# Without what takes a second each to trace or to compile, whatever the size.
SMALL = RunSettings(
    data=DataSettings(dataset="nsynth_jsonwav", balance="none"),
    frontend=FrontEndSettings(n_mels=32, hop_length=2000, skip_silence_db=0.0),
    augment=AugmentSettings(roll_bands=2, time_masks=1),
    network=NetworkSettings(width=4, dense_units=16, depth=2),
    train=TrainSettings(epochs=2, batch_size=6, learning_rate=5e-3, fused_norm=False),
)

# With all of it, in the same size.
WHOLE = dataclasses.replace(
    SMALL,
    frontend=FrontEndSettings(n_mels=32, hop_length=2000),
    augment=AugmentSettings(roll_bands=2, time_masks=1, noise_snr_db=20.0),
    train=TrainSettings(epochs=2, batch_size=6, learning_rate=5e-3),
)


def changed(section, run=SMALL, **values) -> RunSettings:
    part = dataclasses.replace(getattr(run, section), **values)
    return dataclasses.replace(run, **{section: part})


def weights_of(workdir) -> list[np.ndarray]:
    return workfolder.load_run(str(workdir)).model.get_weights()


def assert_same_weights(first, second):
    for a, b in zip(weights_of(first), weights_of(second), strict=True):
        assert np.array_equal(a, b)


@pytest.fixture(scope="module")
def finished(small_dataset, tmp_path_factory) -> pathlib.Path:
    """A work folder of a finished run of SMALL, for tests that only read it."""
    workdir = tmp_path_factory.mktemp("finished")
    trainer.train(SMALL, str(workdir), small_dataset)
    return workdir


def test_a_run_leaves_a_whole_work_folder(finished):
    for name in ("config.json", "labels.txt", "history.csv", "summary.json"):
        assert (finished / name).is_file()
    assert list((finished / "logs").rglob("events*"))
    rows = callbacks.read_history(str(finished))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert {"loss", "accuracy", "macro_f1", "val_loss", "val_macro_f1"} <= set(rows[0])
    run = workfolder.load_run(str(finished))
    assert run.settings == SMALL
    assert run.summary["data"]["notes"] == {"train": 36, "valid": 12, "test": 12}


def test_weights_that_are_replaced_while_they_are_opened_give_way_to_the_new_ones(
    finished, tmp_path, monkeypatch
):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    newest = snapshots.newest

    def removed_meanwhile(path, advice=""):
        monkeypatch.setattr(snapshots, "newest", newest)
        return dataclasses.replace(newest(path), prefix=f"{path}/state-000000009")

    monkeypatch.setattr(snapshots, "newest", removed_meanwhile)
    assert_same_weights(folder, finished)


def test_best_weights_are_those_of_the_best_validation_macro_f1(finished):
    rows = callbacks.read_history(str(finished))
    scores = [float(row["val_macro_f1"]) for row in rows]
    selected = workfolder.load_run(str(finished)).summary["selected"]
    assert selected["epoch"] == 1 + int(np.argmax(scores))


def test_last_weights_need_no_validation_notes(tmp_path):
    notes = [make_note(name, i, 50) for name in ("bass", "organ") for i in range(4)]
    dataset = write_dataset(tmp_path / "data", {"train": notes})
    run = changed("train", select="last")
    summary = trainer.train(run, str(tmp_path / "run"), dataset)
    assert summary["selected"]["epoch"] == 2
    rows = callbacks.read_history(str(tmp_path / "run"))
    assert "loss" in rows[-1] and "val_loss" not in rows[-1]
    with pytest.raises(UserError, match="no validation notes under the official"):
        trainer.train(SMALL, str(tmp_path / "best"), dataset)


def test_weights_saved_after_the_last_checkpoint_have_their_own_figures(
    finished, small_dataset, tmp_path
):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    [manifest] = (folder / "best").glob("*.manifest.json")
    content = json.loads(manifest.read_text())
    content["number"] = content["facts"]["epoch"] = 3
    manifest.write_text(json.dumps(content))
    summary = trainer.train(SMALL, str(folder), small_dataset)
    assert summary["selected"] == content["facts"]
    assert workfolder.load_run(str(folder)).summary["selected"] == content["facts"]


@pytest.mark.slow
def test_training_learns(small_dataset, tmp_path):
    run = dataclasses.replace(
        changed("train", epochs=15, learning_rate=1e-2),
        augment=AugmentSettings(),
        network=NetworkSettings(width=8, dense_units=32, depth=3, dropout=0.0),
    )
    trainer.train(run, str(tmp_path), small_dataset)
    rows = callbacks.read_history(str(tmp_path))
    assert float(rows[-1]["accuracy"]) > 0.8
    assert float(rows[-1]["loss"]) < 0.5 * float(rows[0]["loss"])


def test_finished_run_started_again_changes_nothing(finished, small_dataset):
    before = workfolder.load_run(str(finished)).summary["selected"]
    again = trainer.train(SMALL, str(finished), small_dataset)
    assert again["selected"] == before
    assert len(callbacks.read_history(str(finished))) == 2


def test_records_are_opened_once_and_handed_on(small_dataset, tmp_path, monkeypatch):
    opened, handed_on = [], []
    original = batches.open_records

    def remember(builder, **options):
        opened.append(original(builder, **options))
        return opened[-1]

    monkeypatch.setattr(batches, "open_records", remember)
    run = changed("train", epochs=1)
    trainer.train(run, str(tmp_path), small_dataset, (), handed_on.append)
    assert len(opened) == 1
    assert handed_on[0] is opened[0]


def test_a_run_that_ended_before_its_temperature_was_fitted_says_so_and_can_go_on(
    finished, small_dataset, tmp_path, caplog
):
    folder = str(tmp_path / "run")
    shutil.copytree(finished, folder)

    def interrupted(records):
        raise KeyboardInterrupt

    def calibrate(records):
        evaluator.calibrate(workfolder.load_run(folder, calibrating=True), records)

    with pytest.raises(KeyboardInterrupt):
        trainer.train(SMALL, folder, small_dataset, (), interrupted)
    assert workfolder.load_run(folder).temperature == 1.0
    assert f"{folder}: its temperature was not fitted; start" in caplog.text
    caplog.clear()
    trainer.train(SMALL, folder, small_dataset, (), calibrate)
    assert files.exists(f"{folder}/calibration.json")
    assert workfolder.load_run(folder).temperature != 1.0
    assert "its temperature" not in caplog.text


def test_other_settings_are_refused_and_named(finished, small_dataset):
    with pytest.raises(UserError, match="batch_size: 6 -> 12"):
        trainer.train(changed("train", batch_size=12), str(finished), small_dataset)


def test_checkpoints_without_a_description_are_not_gone_on_with(
    finished, small_dataset, tmp_path
):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match="run: has checkpoints but no config.json"):
        trainer.train(SMALL, str(folder), small_dataset)
    assert not (folder / "config.json").exists()


class _Stop(Exception):
    pass


def train_until(reached, run, workdir, dataset):
    """Trains until this is true of the saver after a step, as if the process ended."""
    original = callbacks.Saver.on_train_batch_end

    def stopping(self, batch, logs=None):
        original(self, batch, logs)
        if reached(self):
            raise _Stop

    with pytest.MonkeyPatch.context() as patch, pytest.raises(_Stop):
        patch.setattr(callbacks.Saver, "on_train_batch_end", stopping)
        trainer.train(run, str(workdir), dataset)


@pytest.mark.slow
@pytest.mark.parametrize("stop_after", [3, 8])
def test_interrupted_run_ends_with_the_weights_of_an_undisturbed_one(
    finished, small_dataset, tmp_path, stop_after
):
    run = changed("train", checkpoint_every=1)
    steps = itertools.count(1)
    train_until(lambda _: next(steps) == stop_after, run, tmp_path, small_dataset)
    trainer.train(run, str(tmp_path), small_dataset)

    assert_same_weights(finished, tmp_path)
    rows = [callbacks.read_history(str(folder)) for folder in (finished, tmp_path)]
    for whole, broken in zip(*rows, strict=True):
        del whole["seconds"], broken["seconds"]
        assert whole == broken


def test_sigterm_saves_and_the_next_start_goes_on(
    finished, small_dataset, tmp_path, monkeypatch
):
    original = callbacks.Saver.on_train_batch_end

    def terminated(self, batch, logs=None):
        if batch == 3 and self.place.epoch == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, batch, logs)

    monkeypatch.setattr(callbacks.Saver, "on_train_batch_end", terminated)
    with pytest.raises(callbacks.Preempted):
        trainer.train(SMALL, str(tmp_path), small_dataset)
    monkeypatch.setattr(callbacks.Saver, "on_train_batch_end", original)
    trainer.train(SMALL, str(tmp_path), small_dataset)
    assert_same_weights(finished, tmp_path)


def test_early_stopping_ends_the_run_and_stays_ended(small_dataset, tmp_path):
    run = changed("train", epochs=9, early_stopping=1, learning_rate=0.0)
    trainer.train(run, str(tmp_path), small_dataset)
    rows = callbacks.read_history(str(tmp_path))
    assert len(rows) < 9
    trainer.train(run, str(tmp_path), small_dataset)
    assert callbacks.read_history(str(tmp_path)) == rows


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("train", {"batch_size": 1}, "--batch_size=1: deep_cnn normalises over"),
        ("frontend", {"fmax": 3000.0}, "--low_rate=0.5: takes away what is above 3000"),
    ],
)
def test_settings_that_would_teach_something_else_are_refused(
    small_dataset, tmp_path, section, values, message
):
    augment = dataclasses.replace(SMALL.augment, low_rate=0.5)
    run = dataclasses.replace(changed(section, **values), augment=augment)
    with pytest.raises(UserError, match=message):
        trainer.train(run, str(tmp_path), small_dataset)


def test_early_stopping_needs_notes_to_look_at(small_dataset, tmp_path):
    run = changed("train", early_stopping=3, select="last")
    data = dataclasses.replace(run.data, protocol="random")
    run = dataclasses.replace(run, data=data)
    with pytest.raises(UserError, match="--early_stopping=3: no validation notes"):
        trainer.train(run, str(tmp_path), small_dataset)


def test_seconds_of_a_run_are_those_of_all_its_processes(small_dataset, tmp_path):
    train_until(lambda saver: saver.place.epoch == 1, SMALL, tmp_path, small_dataset)
    history = tmp_path / "history.csv"
    (row,) = callbacks.read_history(str(tmp_path))
    changed_row = history.read_text().replace(f",{row['seconds']}\n", ",1000.0\n")
    history.write_text(changed_row)
    for _ in range(2):
        seconds = trainer.train(SMALL, str(tmp_path), small_dataset)["train_seconds"]
        assert 1000 < seconds < 1900


def test_seconds_of_an_epoch_are_those_of_all_its_processes(small_dataset, tmp_path):
    run = changed("train", checkpoint_every=1)
    train_until(lambda saver: saver.place.step == 2, run, tmp_path, small_dataset)
    path = snapshots.newest(str(tmp_path / "checkpoints")).prefix + ".manifest.json"
    manifest = files.read_json(path)
    assert 0 < manifest["facts"]["begun_seconds"] < 900
    manifest["facts"]["begun_seconds"] = 1000.0
    files.write_json(path, manifest)
    seconds = trainer.train(run, str(tmp_path), small_dataset)["train_seconds"]
    assert 1000 < seconds < 1900
    first, second = callbacks.read_history(str(tmp_path))
    assert 1000 < float(first["seconds"]) < 1900
    assert float(second["seconds"]) < 900


def test_a_loss_that_is_not_finite_is_a_user_error(small_dataset, tmp_path):
    run = changed("train", learning_rate=1e30)
    with pytest.raises(UserError, match="try a lower --learning_rate"):
        trainer.train(run, str(tmp_path), small_dataset)


def test_weights_of_a_diverged_training_are_not_saved(small_dataset, tmp_path):
    """Its loss may stay finite where the validation's is not."""
    run = changed("train", learning_rate=1e6)
    with pytest.raises(UserError, match="in epoch 1: the training diverged"):
        trainer.train(run, str(tmp_path), small_dataset)
    assert not list(tmp_path.glob("best/*"))


def test_a_loss_that_is_not_finite_ends_the_epoch_within_a_few_batches():
    callback = callbacks.StopWhenDiverged()
    callback.model = types.SimpleNamespace(stop_training=False)
    for batch in range(100):
        callback.on_train_batch_end(batch, {"loss": tf.constant(1.0)})
    assert not callback.model.stop_training
    seen = 0
    while not callback.model.stop_training:
        callback.on_train_batch_end(seen, {"loss": tf.constant(np.nan)})
        seen += 1
    assert seen <= 32


@pytest.mark.parametrize("balance", ["rejection", "class_weight"])
def test_balances_train(small_dataset, tmp_path, balance):
    run = dataclasses.replace(
        SMALL, data=dataclasses.replace(SMALL.data, balance=balance)
    )
    trainer.train(run, str(tmp_path), small_dataset)
    assert len(callbacks.read_history(str(tmp_path))) == 2


def test_streams_train_and_a_damaged_file_of_theirs_is_named(tmp_path):
    notes = [make_note(f, i % 3, 40 + i) for f in ("bass", "organ") for i in range(12)]
    dataset = write_dataset(tmp_path / "data", {"train": notes})
    path = family_shards.write(dataset).paths[0]
    run = dataclasses.replace(
        changed("train", select="last"),
        data=dataclasses.replace(SMALL.data, balance="streams"),
    )
    trainer.train(run, str(tmp_path / "run"), dataset)
    assert len(callbacks.read_history(str(tmp_path / "run"))) == 2
    with open(path, "r+b") as file:
        file.seek(1000)
        file.write(b"damaged")
    with pytest.raises(UserError, match=f"{path}: damaged or of another schema"):
        trainer.train(run, str(tmp_path / "again"), dataset)


def test_bands_that_hear_nothing_are_warned_of(caplog):
    for n_mels, words in ((96, ""), (512, "--n_mels=512: 52 of these bands")):
        caplog.clear()
        settings = dataclasses.replace(SMALL, frontend=FrontEndSettings(n_mels=n_mels))
        trainer._check(settings, strategy.choose("auto", ""))
        assert words in caplog.text
        assert bool(words) == ("hear nothing" in caplog.text)


@pytest.mark.parametrize(
    "train",
    [
        {"mixed_precision": "mixed_bfloat16"},
        {"mixed_precision": "float64"},
        {"jit": True},
        {"steps_per_execution": 3},
    ],
    ids=lambda t: "-".join(map(str, *t.items())),
)
def test_options_of_the_step_train(small_dataset, tmp_path, train):
    trainer.train(changed("train", WHOLE, **train), str(tmp_path), small_dataset)
    rows = callbacks.read_history(str(tmp_path))
    assert np.isfinite(float(rows[-1]["loss"]))
    run = workfolder.load_run(str(tmp_path))
    assert run.model.dtype_policy.name == "float32"
    assert {w.dtype for w in run.model.get_weights()} == {np.dtype(np.float32)}
    records = batches.open_records(small_dataset)
    found = evaluator.answers(
        evaluator.subject_of_run(run), records, np.ones(len(records.index), bool)
    )
    assert found.probabilities.sum(axis=1) == pytest.approx(1.0, abs=1e-3)


def test_weights_in_float64_open_and_go_on_as_they_were_trained(
    small_dataset, tmp_path
):
    run = changed("train", mixed_precision="float64", epochs=1)
    trainer.train(run, str(tmp_path / "run"), small_dataset)
    trained = weights_of(tmp_path / "run")
    stored = tf.train.load_checkpoint(str(tmp_path / "run/best/state-000000001"))
    assert tf.float64 in stored.get_variable_to_dtype_map().values()
    still = dataclasses.replace(
        run.train, init_from=str(tmp_path / "run"), learning_rate=0.0
    )
    still = dataclasses.replace(run, train=still)
    trainer.train(still, str(tmp_path / "next"), small_dataset)
    assert np.array_equal(trained[0], weights_of(tmp_path / "next")[0])


def test_profile_leaves_a_trace(small_dataset, tmp_path):
    run = changed("train", profile="2,3", epochs=1)
    trainer.train(run, str(tmp_path), small_dataset)
    assert list((tmp_path / "logs").rglob("*.xplane.pb"))


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("train", {"profile": "3"}, "--profile=3: FROM,TO expected"),
        ("train", {"profile": "20,10"}, "--profile=20,10: FROM,TO expected"),
        ("network", {"depth": 6}, "--depth=6 of deep_cnn: needs a log-mel of 64"),
        ("frontend", {"n_fft": 1000}, "--n_fft=1000: a power of two"),
        ("frontend", {"fmin": 9000.0}, "--fmin=9000.0 --fmax=8000.0: 0 <= fmin"),
        ("data", {"exclude": "/nowhere"}, "--exclude=/nowhere: no such file"),
        ("train", {"init_from": "/nowhere"}, "no config.json"),
    ],
)
def test_impossible_settings_are_user_errors(
    small_dataset, tmp_path, section, values, message
):
    with pytest.raises(UserError, match=message):
        trainer.train(changed(section, **values), str(tmp_path), small_dataset)


def test_start_from_another_run_is_not_forgotten_when_the_first_start_failed(
    finished, small_dataset, tmp_path
):
    wrong = changed("train", init_from=str(tmp_path / "typo"))
    with pytest.raises(UserError, match="typo: no config.json"):
        trainer.train(wrong, str(tmp_path / "run"), small_dataset)
    run = changed("train", init_from=str(finished), learning_rate=0.0, epochs=1)
    trainer.train(run, str(tmp_path / "run"), small_dataset)
    model = workfolder.load_run(str(tmp_path / "run")).model
    first = workfolder.load_run(str(finished)).model
    assert np.array_equal(
        model.get_layer("conv_0").get_weights(),
        first.get_layer("conv_0").get_weights(),
    )


def test_what_a_run_started_from_is_that_of_its_first_checkpoint(
    finished, small_dataset, tmp_path
):
    """A start that ended before it saved anything may have been from other weights."""
    run = changed("train", init_from=str(finished), epochs=1)
    trainer.train(run, str(tmp_path / "run"), small_dataset)
    whole = json.loads((tmp_path / "run" / "config.json").read_text())
    [before] = whole["data"].pop("started_from")
    assert before["dataset"] == whole["data"]["dataset"]
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "config.json").write_text(json.dumps(whole))
    trainer.train(run, str(begun), small_dataset)
    found = json.loads((begun / "config.json").read_text())
    assert found["data"]["started_from"] == [before]


def test_other_notes_than_those_begun_with_are_refused(finished, small_dataset):
    original = (finished / "config.json").read_text()
    changes = (
        ("notes", {"train": 35}, "notes: .*35"),
        ("note_digests", {"train": "0"}, "but not the same"),
        ("extra_datasets", ["soundfont_notes/1.0.0"], "extra_datasets: .*1.0.0"),
        ("extra_digests", ["0"], "but not the same"),
    )
    try:
        for key, value, words in changes:
            config = json.loads(original)
            config["data"][key] = value
            (finished / "config.json").write_text(json.dumps(config))
            with pytest.raises(UserError, match=f"began with other notes.*{words}"):
                trainer.train(SMALL, str(finished), small_dataset)
        # As earlier programs wrote it.
        for key in ("note_digests", "extra_datasets", "extra_digests"):
            del config["data"][key]
        (finished / "config.json").write_text(json.dumps(config))
        trainer.train(SMALL, str(finished), small_dataset)
    finally:
        (finished / "config.json").write_text(original)


def test_work_folder_with_a_patterns_characters_is_refused(
    finished, small_dataset, tmp_path
):
    renamed = str(tmp_path / "deep[lr=1e-3]")
    shutil.copytree(finished, renamed)
    for use in (
        lambda: trainer.train(SMALL, renamed, small_dataset),
        lambda: workfolder.load_run(renamed),
        lambda: starting.find(renamed),
    ):
        with pytest.raises(UserError, match="TensorFlow takes them for a pattern"):
            use()


def test_another_programs_config_is_one_line(small_dataset, tmp_path):
    for content in ('{"model_type": "bert", "labels": ["a"]}', "[1, 2]"):
        (tmp_path / "config.json").write_text(content)
        message = f"^{tmp_path}/config.json: not of a run of mic_tf"
        with pytest.raises(UserError, match=message):
            trainer.train(SMALL, str(tmp_path), small_dataset)
        with pytest.raises(UserError, match=message):
            workfolder.load_run(str(tmp_path))
        with pytest.raises(UserError, match=message):
            starting.find(str(tmp_path))


def test_work_folder_may_be_on_any_of_tensorflows_file_systems(small_dataset):
    workdir = "ram://work/run"
    run = changed("train", epochs=1)
    trainer.train(run, workdir, small_dataset)
    trainer.train(run, workdir, small_dataset)
    assert workfolder.load_run(workdir).settings == run
    assert files.exists("ram://work/run/history.csv")
    assert tf.io.gfile.glob("ram://work/run/logs/train/events*")


TWO_REPLICAS = """
    import sys
    import tensorflow as tf
    import tensorflow_datasets as tfds
    cpu = tf.config.list_physical_devices("CPU")[0]
    device = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(cpu, [device, device])
    from tests.training.test_trainer import WHOLE
    from mic_tf.training import strategy, trainer
    builder = tfds.builder_from_directory(sys.argv[2])
    summary = trainer.train(WHOLE, sys.argv[1], builder)
    assert summary["replicas"] == 2, summary
"""


def test_two_replicas_train(small_dataset, tmp_path):
    program = textwrap.dedent(TWO_REPLICAS)
    done = processes.run("-c", program, tmp_path, small_dataset.data_path)
    assert done.returncode == 0, done.stderr
    rows = callbacks.read_history(str(tmp_path))
    assert len(rows) == 2
    assert all(np.isfinite(float(row["val_loss"])) for row in rows)
    assert workfolder.load_run(str(tmp_path)).labels[0] == "bass"
