import dataclasses
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from mic_tf.errors import UserError
from mic_tf.evaluation import evaluator
from mic_tf.model import networks
from mic_tf.pipeline import batches
from mic_tf.serving import exporter, models
from mic_tf.settings import (
    DataSettings,
    FrontEndSettings,
    NetworkSettings,
    RunSettings,
    TrainSettings,
)
from mic_tf.training import combining, starting, trainer, workfolder
from tests import processes

SMALL = RunSettings(
    data=DataSettings(dataset="nsynth_jsonwav", balance="none"),
    frontend=FrontEndSettings(n_mels=32, hop_length=2000),
    network=NetworkSettings(width=4, dense_units=16, depth=2),
    train=TrainSettings(epochs=1, batch_size=6, learning_rate=5e-3),
)


def trained(folder: pathlib.Path, dataset, **sections) -> str:
    run = SMALL
    for name, values in sections.items():
        part = dataclasses.replace(getattr(run, name), **values)
        run = dataclasses.replace(run, **{name: part})
    trainer.train(run, str(folder), dataset)
    return str(folder)


@pytest.fixture(scope="module")
def pair(small_dataset, tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("pair")
    return [
        trained(folder / f"seed{seed}", small_dataset, train={"seed": seed})
        for seed in (0, 1)
    ]


def test_two_runs_become_one_that_is_evaluated_and_exported(
    pair, small_dataset, tmp_path
):
    target = str(tmp_path / "both")
    combining.combine(pair, [0.75, 0.25], target)
    evaluator.calibrate(
        workfolder.load_run(target), batches.open_records(small_dataset)
    )
    run = workfolder.load_run(target)
    assert run.summary["members"][1]["workdir"] == "seed1"
    waveform = np.random.default_rng(0).integers(-9000, 9000, [3, 64_000], np.int16)
    logits = [workfolder.load_run(w).model(waveform) for w in pair]
    mean = sum(
        s * tf.nn.log_softmax(x) for s, x in zip((0.75, 0.25), logits, strict=True)
    )
    np.testing.assert_allclose(run.model(waveform), mean, atol=1e-5)
    exporter.export(run, str(tmp_path / "export"), tflite_kinds=["float32"])
    for name in ("saved_model", "model.tflite"):
        _, infer = models.open_model(str(tmp_path / "export" / name))
        probabilities, embedding = infer(waveform.astype(np.float32) / 32768)
        expected = tf.nn.softmax(mean / run.temperature)
        np.testing.assert_allclose(probabilities, expected, atol=1e-3)
        assert embedding.shape == (3, 32)


def test_a_run_has_no_say_in_families_that_it_never_heard(pair, tmp_path):
    runs = [workfolder.load_run(workdir) for workdir in pair]
    heard = [r.summary["data"]["train_notes_per_family"] for r in runs]
    silent = next(name for name, n in heard[1].items() if n)
    heard[1][silent] = 0
    weights = combining.family_shares(runs, [0.75, 0.25])
    place = runs[0].labels.index(silent)
    assert weights[:, place].tolist() == [1.0, 0.0]
    assert np.allclose(np.delete(weights, place, axis=1), [[0.75], [0.25]])


def test_families_that_both_know_start_from_the_logits_of_every_member(pair, tmp_path):
    target = str(tmp_path / "both")
    combining.combine(pair, [0.5, 0.5], target)
    origin = starting.find(target)
    labels = (origin.labels[3], "gong")
    model = networks.build_model(origin.settings, len(labels))
    starting.start(model, origin.settings, labels, origin)
    for number, workdir in enumerate(pair):
        name = networks.member_prefix(number) + "logits"
        kernel, _ = workfolder.load_run(workdir).model.get_layer("logits").get_weights()
        started, _ = model.get_layer(name).get_weights()
        assert np.array_equal(started[:, 0], kernel[:, 3])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"frontend": {"n_mels": 40}}, "front-end"),
        ({"network": {"width": 8}}, "network"),
        ({"data": {"protocol": "random"}}, "protocol"),
    ],
)
def test_runs_that_do_not_fit_together_are_refused(
    change, said, pair, small_dataset, tmp_path
):
    other = trained(tmp_path / "other", small_dataset, **change)
    with pytest.raises(UserError, match=said):
        combining.combine([pair[0], other], [0.5, 0.5], str(tmp_path / "both"))
    assert not (tmp_path / "both").exists()


def test_a_folder_that_has_a_run_is_left_alone(pair):
    with pytest.raises(UserError, match="has a run already"):
        combining.combine(pair, [0.5, 0.5], pair[0])


def test_the_command_says_what_is_missing_in_one_line():
    done = processes.anew("-m", "mic_tf.combine", "--workdir=x")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: --workdirs")
