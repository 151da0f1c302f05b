import dataclasses
import json
import pathlib
import shutil

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
from tests.conftest import make_note, own_lines, write_dataset

SMALL = RunSettings(
    data=DataSettings(dataset="nsynth_jsonwav", balance="none"),
    frontend=FrontEndSettings(n_mels=32, hop_length=2000),
    network=NetworkSettings(width=4, dense_units=16, depth=2),
    train=TrainSettings(epochs=1, batch_size=6, learning_rate=5e-3, fused_norm=False),
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
        trained(
            folder / f"seed{seed}",
            small_dataset,
            train={"seed": seed, "fused_norm": fused},
        )
        for seed, fused in ((0, True), (1, False))
    ]


@pytest.mark.slow
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


@pytest.fixture(scope="module")
def branches(pair, small_dataset, tmp_path_factory) -> list[str]:
    """Two runs that went on from the same weights, as they are and rolled."""
    folder = tmp_path_factory.mktemp("branches")
    train = {"init_from": pair[0]}
    return [
        trained(folder / "clean", small_dataset, train=train),
        trained(
            folder / "rolled", small_dataset, train=train, augment={"roll_bands": 2}
        ),
    ]


def test_runs_from_the_same_start_become_one_network_of_their_mean_weights(
    branches, pair, small_dataset, tmp_path
):
    target = str(tmp_path / "mean")
    combining.average(branches, [0.75, 0.25], target)
    run = workfolder.load_run(target)
    parts = [workfolder.load_run(w).model.get_weights() for w in branches]
    assert any(not np.array_equal(a, b) for a, b in zip(*parts, strict=True))
    for weights, first, second in zip(run.model.get_weights(), *parts, strict=True):
        np.testing.assert_allclose(weights, 0.75 * first + 0.25 * second, atol=1e-6)
    assert [part["workdir"] for part in run.summary["averaged"]] == ["clean", "rolled"]
    start = workfolder.load_run(pair[0])
    assert run.summary["data"]["started_from"] == [start.summary["data"]]
    assert [t["dataset"] for t in starting.find(target).trainings] == [
        "nsynth_jsonwav/1.0.0"
    ] * 2
    assert run.summary["parameters"] == start.summary["parameters"]
    # It stands beside others as any run does, and the summary says what it is.
    both = str(tmp_path / "both")
    combining.combine([target, pair[1]], [0.5, 0.5], both)
    evaluator.calibrate(workfolder.load_run(both), batches.open_records(small_dataset))
    summary = workfolder.load_run(both).summary
    assert [p["workdir"] for p in summary["members"][0]["averaged"]] == [
        "clean",
        "rolled",
    ]


def test_the_command_averages(branches, small_dataset, tmp_path):
    target = tmp_path / "mean"
    data_dir = pathlib.Path(small_dataset.data_dir).parents[1]
    done = processes.run(
        "-m",
        "mic_tf.combine",
        "--average",
        f"--workdirs={','.join(branches)}",
        f"--workdir={target}",
        f"--data_dir={data_dir}",
    )
    assert done.returncode == 0, done.stderr
    assert workfolder.load_run(str(target)).temperature > 0
    assert (target / "calibration.json").exists()


def test_the_command_fits_no_temperature_on_other_notes(pair, tmp_path):
    notes = [make_note("brass", 0, pitch) for pitch in range(40, 52)]
    parts = {"train": notes[:8], "valid": notes[8:]}
    write_dataset(tmp_path / "data", parts)
    done = processes.run(
        "-m",
        "mic_tf.combine",
        f"--workdirs={','.join(pair)}",
        f"--workdir={tmp_path / 'both'}",
        f"--data_dir={tmp_path / 'data'}",
    )
    assert done.returncode == 2
    place = tmp_path / "data" / "nsynth_jsonwav" / "1.0.0"
    expected = f"{place}: other validation notes than those of {pair[0]}; give the"
    assert expected in own_lines(done.stderr)[-1]
    assert not (tmp_path / "both").exists()


def test_the_run_they_began_from_may_be_averaged_with_them(branches, pair, tmp_path):
    target = str(tmp_path / "mean")
    combining.average([pair[0], branches[0]], [0.5, 0.5], target)
    assert len(workfolder.load_run(target).summary["averaged"]) == 2


def test_a_run_may_be_averaged_with_one_that_began_from_it_wherever_it_began(
    branches, small_dataset, tmp_path
):
    child = trained(tmp_path / "c", small_dataset, train={"init_from": branches[0]})
    for number, runs in enumerate(([branches[0], child], [child, branches[0]])):
        target = str(tmp_path / f"mean{number}")
        combining.average(runs, [0.5, 0.5], target)
        assert len(workfolder.load_run(target).summary["averaged"]) == 2
    with pytest.raises(UserError, match="only runs that began from the same weights"):
        combining.average([branches[1], child], [0.5, 0.5], str(tmp_path / "none"))


def test_a_start_that_was_trained_anew_in_between_is_another(
    branches, pair, small_dataset, tmp_path
):
    start = str(tmp_path / "start")
    train = {"init_from": start}
    shutil.copytree(pair[0], start)
    old = trained(tmp_path / "old", small_dataset, train=train)
    shutil.rmtree(start)
    shutil.copytree(pair[1], start)
    new = trained(tmp_path / "new", small_dataset, train=train)
    for runs in ([old, new], [new, old], [start, old]):
        with pytest.raises(UserError, match="the weights in that folder were others"):
            combining.average(runs, [0.5, 0.5], str(tmp_path / "mean"))
    combining.average([start, new], [0.5, 0.5], str(tmp_path / "mean"))
    # Copies of the same weights are the same weights.
    combining.average([pair[0], old], [0.5, 0.5], str(tmp_path / "copies"))
    # A program of before kept no checksum of its start: the folder alone counts.
    config = pathlib.Path(old, "config.json")
    content = json.loads(config.read_text())
    assert content["data"].pop("started_from_weights")
    config.write_text(json.dumps(content))
    combining.average([old, new], [0.5, 0.5], str(tmp_path / "as before"))


def test_what_ends_before_the_temperature_is_fitted_is_no_run(pair, tmp_path):
    target = tmp_path / "both"

    def interrupted(run):
        assert run.summary["data"]["notes"]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        combining.combine(pair, [0.5, 0.5], str(target), interrupted)
    with pytest.raises(UserError, match="no config.json"):
        workfolder.load_run(str(target))
    (target / "calibration.json").write_text('{"temperature": 9.0}')
    combining.combine(pair, [0.5, 0.5], str(target))
    assert workfolder.load_run(str(target)).temperature == 1.0


def test_networks_trained_apart_are_not_averaged(branches, pair, tmp_path):
    with pytest.raises(UserError, match="began from nothing"):
        combining.average([branches[0], pair[1]], [0.5, 0.5], str(tmp_path / "mean"))
    with pytest.raises(UserError, match="began from nothing"):
        combining.average(pair, [0.5, 0.5], str(tmp_path / "mean"))
    assert not (tmp_path / "mean").exists()


def test_runs_from_other_starts_are_not_averaged(
    branches, pair, small_dataset, tmp_path
):
    train = {"init_from": pair[1]}
    other = trained(tmp_path / "other", small_dataset, train=train)
    with pytest.raises(UserError, match=f"began from {pair[1]}, another"):
        combining.average([branches[0], other], [0.5, 0.5], str(tmp_path / "mean"))


@pytest.mark.parametrize("shares", [[0.6, 0.6], [1.5, -0.5]])
def test_shares_that_do_not_add_up_are_refused(shares, branches, tmp_path):
    for make in (combining.combine, combining.average):
        with pytest.raises(UserError, match="--shares=.*add up to 1"):
            make(branches, shares, str(tmp_path / "mean"))


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


@pytest.mark.slow
def test_what_was_heard_is_known_of_the_first_run(pair, small_dataset, tmp_path):
    fewer = trained(tmp_path / "fewer", small_dataset, data={"max_notes": 20})
    combining.combine([pair[0], fewer], [0.5, 0.5], str(tmp_path / "more_first"))
    with pytest.raises(UserError, match="heard notes that .*fewer did not"):
        combining.combine([fewer, pair[0]], [0.5, 0.5], str(tmp_path / "both"))
    # More than there are leave none out.
    most = trained(tmp_path / "most", small_dataset, data={"max_notes": 1_000})
    combining.combine([most, pair[0]], [0.5, 0.5], str(tmp_path / "most_first"))
    other = tmp_path / "other"
    shutil.copytree(pair[1], other)
    config = json.loads((other / "config.json").read_text())
    config["data"]["note_digests"]["test"] = "0"
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="other: other notes in test than in"):
        combining.combine([pair[0], str(other)], [0.5, 0.5], str(tmp_path / "both"))
    (other / "summary.json").unlink()
    with pytest.raises(UserError, match="its training is not finished"):
        combining.combine([pair[0], str(other)], [0.5, 0.5], str(tmp_path / "both"))
    assert not (tmp_path / "both").exists()


def test_a_name_in_which_weights_are_not_found_again_is_refused(pair, tmp_path):
    target = tmp_path / "both[0.7]"
    with pytest.raises(UserError, match="TensorFlow takes them for a pattern"):
        combining.combine(pair, [0.7, 0.3], str(target))
    assert not target.exists()


def test_a_folder_that_has_a_run_is_left_alone(pair):
    with pytest.raises(UserError, match="has a run already"):
        combining.combine(pair, [0.5, 0.5], pair[0])


def test_the_command_says_what_is_missing_in_one_line():
    done = processes.anew("-m", "mic_tf.combine", "--workdir=x")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: --workdirs")
