"""Several replicas and several workers, each set in processes of its own."""

import json
import os
import pathlib
import shutil
import socket
import textwrap

import numpy as np
import pytest

from mic_tf.training import callbacks, snapshots
from tests import processes

LOSS_CURVE = """
    import dataclasses, json, sys
    import numpy as np
    import tensorflow as tf
    import tf_keras as keras
    from mic_tf.model import compiling, networks, randomness
    from mic_tf.settings import NetworkSettings, RunSettings, TrainSettings
    from mic_tf.training import strategy
    from mic_tf.training.trainee import Trainee, compile_trainee

    replicas, synchronised = int(sys.argv[1]), sys.argv[2] == "synchronised"
    policy, width = sys.argv[3], int(sys.argv[4])
    cpu = tf.config.list_physical_devices("CPU")[0]
    device = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(cpu, [device] * replicas)
    randomness.set_random_seed(1)
    keras.mixed_precision.set_global_policy(policy)
    if not synchronised:
        original = networks._norm_arguments
        networks._norm_arguments = lambda name: original(name) | {"synchronized": False}
    settings = RunSettings(
        network=NetworkSettings(width=width, depth=2, dense_units=8, dropout=0.0),
        train=TrainSettings(batch_size=8, learning_rate=1e-2),
    )
    settings = dataclasses.replace(
        settings,
        frontend=dataclasses.replace(settings.frontend, n_mels=32, hop_length=2000),
    )
    random = np.random.default_rng(0)
    waveform = random.integers(-9000, 9000, [160, 64_000]).astype(np.int16)
    family = random.integers(0, 11, 160).astype(np.int32)
    weight = np.ones(160, np.float32)
    placement = strategy.choose("mirrored")
    assert placement.strategy.num_replicas_in_sync == replicas
    with placement.strategy.scope():
        trainee = Trainee(settings, 11)
        compile_trainee(trainee, settings, 20)
    losses = []

    class Losses(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            losses.append(float(trainee.exact_loss.result()))
            trainee.exact_loss.reset_state()

    trainee.exact_loss = keras.metrics.Mean(dtype="float64")
    original_measure = trainee._measure

    def measure(family, logits, losses, weight):
        trainee.exact_loss.update_state(losses)
        return original_measure(family, logits, losses, weight)

    trainee._measure = measure
    # The front-end is float32: note by note, so that no batch size is in its rounding.
    frontend = trainee._frontend
    trainee._frontend = lambda batch, training: tf.map_fn(
        lambda note: frontend(note[tf.newaxis], training=training)[0],
        batch,
        fn_output_signature=tf.float32,
    )
    data = tf.data.Dataset.from_tensor_slices((waveform, family, weight))
    data = data.batch(8, drop_remainder=True)
    trainee.fit(data, epochs=1, verbose=0, callbacks=[Losses()])
    compiled = compiling._compiled.cache_info().currsize
    print(json.dumps({"losses": losses, "compiled": compiled}))
"""


def loss_curve(
    replicas: int, kind: str, policy: str = "float64", width: int = 4
) -> tuple[np.ndarray, int]:
    """The loss of each step, and how many parts of it were compiled."""
    script = textwrap.dedent(LOSS_CURVE)
    done = processes.run("-c", script, replicas, kind, policy, width)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    return np.array(result["losses"]), result["compiled"]


def test_loss_curve_does_not_depend_on_the_number_of_replicas():
    one, _ = loss_curve(1, "synchronised")
    assert len(one) == 20
    assert np.isfinite(one).all()
    for kind, least, most in (
        ("synchronised", 0.0, 1e-9),
        ("unsynchronised", 1e-4, np.inf),
    ):
        two, compiled = loss_curve(2, kind)
        assert compiled == 0
        assert least <= np.abs(one - two).max() < most


def test_compiled_parts_of_a_step_run_on_several_replicas():
    one, compiled_of_one = loss_curve(1, "synchronised", "float32", 32)
    two, compiled_of_two = loss_curve(2, "synchronised", "float32", 32)
    # Convolutions alone on two, which normalise their batches together.
    assert compiled_of_one > compiled_of_two == 4
    assert len(one) == 20
    np.testing.assert_allclose(one[:5], two[:5], rtol=1e-3)


WORKER = """
    import hashlib, json, os, signal, sys
    import tensorflow_datasets as tfds
    from tests.training.test_trainer import SMALL, changed
    from mic_tf import train
    from mic_tf.evaluation import evaluator
    from mic_tf.training import callbacks, strategy, trainer, trainee, workfolder

    kept, sizes = [], set()
    callbacks._SECONDS_BETWEEN_LOOKS = 0.1
    step_done = callbacks.Saver.on_train_batch_end

    def terminated(self, batch, logs=None):
        if self.place.epoch == 0 and batch == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        step_done(self, batch, logs)

    if "terminated" in sys.argv:
        callbacks.Saver.on_train_batch_end = terminated
    if "gone" in sys.argv:
        callbacks.Saver.end = lambda self: os._exit(0)
    original = trainee.Trainee.__init__

    def remember(self, *arguments):
        original(self, *arguments)
        kept.append(self)

    trainee.Trainee.__init__ = remember
    step = trainee.Trainee.train_step

    def of_known_size(self, data):
        sizes.add(data[0].shape[0])
        return step(self, data)

    trainee.Trainee.train_step = of_known_size

    def calibrate(records):
        evaluator.calibrate(workfolder.load_run(sys.argv[1]), records)

    run = changed("train", strategy="multi_worker", checkpoint_every=2)
    builder = tfds.builder_from_directory(sys.argv[2])
    try:
        summary = trainer.train(run, sys.argv[1], builder, (), calibrate)
    except callbacks.Preempted:
        sys.exit(train.EXIT_PREEMPTED)
    digest = hashlib.sha256()
    placement = strategy.choose("multi_worker")
    for weight in kept[0].classifier.weights:
        # This worker's own values: to read all of them takes all workers.
        own = placement.strategy.experimental_local_results(weight)
        digest.update(own[0].numpy().tobytes())
    said = {"weights": digest.hexdigest(), "sizes": list(sizes)}
    print(json.dumps({**said, **summary}))
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start_workers(workdirs: list, dataset, **asked: int) -> list[processes.Running]:
    """Starts a worker for each work folder; `asked`: what one of them does besides."""
    hosts = [f"127.0.0.1:{port}" for port in free_ports(len(workdirs))]
    workers = []
    for index, workdir in enumerate(workdirs):
        task = {"type": "worker", "index": index}
        config = json.dumps({"cluster": {"worker": hosts}, "task": task})
        arguments = [workdir, dataset.data_path]
        arguments += [what for what, worker in asked.items() if worker == index]
        workers.append(
            processes.start(
                "-c",
                textwrap.dedent(WORKER),
                *arguments,
                env={**os.environ, "TF_CONFIG": config},
            )
        )
    return workers


def results(workers: list[processes.Running]) -> list[dict]:
    found = []
    for worker in workers:
        output, errors = worker.communicate(timeout=300)
        assert worker.returncode == 0, errors[-3000:]
        found.append(json.loads(output.splitlines()[-1]))
    return found


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> pathlib.Path:
    return tmp_path_factory.mktemp("undisturbed") / "run"


@pytest.fixture(scope="module")
def undisturbed(small_dataset, workdir) -> list[dict]:
    return results(start_workers([workdir] * 2, small_dataset))


@pytest.mark.slow
def test_two_workers_end_with_the_same_weights_and_only_the_chief_writes(
    undisturbed, workdir
):
    chief, other = undisturbed
    assert chief["weights"] == other["weights"]
    assert chief["steps_per_epoch"] == other["steps_per_epoch"] == 6
    assert chief["replicas"] == 2
    assert len(callbacks.read_history(str(workdir))) == 2
    assert (workdir / "calibration.json").exists()
    # Half of the batch of 6, and nobody asks whether there is one.
    assert chief["sizes"] == other["sizes"] == [3]


@pytest.mark.slow
def test_two_workers_go_on_after_one_was_killed(undisturbed, small_dataset, tmp_path):
    workers = start_workers([tmp_path / "broken"] * 2, small_dataset)
    manifest = tmp_path / "broken" / "checkpoints"
    while not list(manifest.glob("*.manifest.json")):
        assert workers[0].poll() is None, workers[0].communicate()[1][-3000:]
    workers[1].kill()
    workers[0].kill()
    for worker in workers:
        worker.communicate()
    again = results(start_workers([tmp_path / "broken"] * 2, small_dataset))
    assert again[0]["weights"] == again[1]["weights"]
    assert again[0]["weights"] == undisturbed[0]["weights"]


@pytest.mark.slow
@pytest.mark.parametrize("terminated", [0, 1])
def test_sigterm_to_one_worker_stops_both_after_the_same_step(
    undisturbed, small_dataset, tmp_path, terminated
):
    workers = start_workers([tmp_path] * 2, small_dataset, terminated=terminated)
    for worker in workers:
        _, errors = worker.communicate(timeout=300)
        assert worker.returncode == 143, errors[-3000:]
    facts = snapshots.newest(str(tmp_path / "checkpoints")).facts
    # The workers vote after the third step or later, at the latest after the epoch.
    assert (0, 3) <= (facts["epoch"], facts["step"]) <= (1, 0)
    again = results(start_workers([tmp_path] * 2, small_dataset))
    assert again[0]["weights"] == again[1]["weights"] == undisturbed[0]["weights"]


@pytest.mark.slow
@pytest.mark.parametrize("gone", [0, 1])
def test_a_worker_that_ended_first_does_not_stop_another(
    undisturbed, small_dataset, tmp_path, gone
):
    workers = start_workers([tmp_path] * 2, small_dataset, gone=gone)
    output, errors = workers[gone].communicate(timeout=300)
    assert workers[gone].returncode == 0 and not output, errors[-3000:]
    found = results([workers[1 - gone]])
    assert found[0]["weights"] == undisturbed[0]["weights"]
    assert "another worker ended first" in workers[1 - gone].communicate()[1]


@pytest.mark.slow
@pytest.mark.parametrize("alone", [0, 1])
def test_workers_that_begin_at_different_places_are_told_so(
    undisturbed, workdir, small_dataset, tmp_path, alone
):
    del undisturbed
    folders = [workdir, workdir]
    folders[alone] = tmp_path / "its own"
    for number, worker in enumerate(start_workers(folders, small_dataset)):
        _, errors = worker.communicate(timeout=300)
        assert worker.returncode == 1
        where = f"{folders[number]}/checkpoints: epoch {0 if number == alone else 2}"
        assert where in errors
        assert "a --workdir that all of them see expected" in errors


@pytest.mark.slow
def test_workers_with_a_work_folder_each_do_not_start(small_dataset, tmp_path):
    folders = [tmp_path / "one", tmp_path / "other"]
    workers = start_workers(folders, small_dataset)
    for folder, worker in zip(folders, workers, strict=True):
        _, errors = worker.communicate(timeout=300)
        assert worker.returncode == 1
        assert f"--workdir={folder}: not seen by every worker" in errors
    assert not (folders[0] / "history.csv").exists()


@pytest.mark.slow
def test_a_worker_that_cannot_begin_keeps_no_other_waiting(
    undisturbed, workdir, small_dataset, tmp_path
):
    del undisturbed
    broken = tmp_path / "broken"
    shutil.copytree(workdir, broken)
    for file in (broken / "checkpoints").glob("*.data-*"):
        file.write_bytes(b"")
    first, second = start_workers([workdir, broken], small_dataset)
    _, errors = second.communicate(timeout=300)
    assert second.returncode == 1 and "checkpoint(s) is whole" in errors
    _, errors = first.communicate(timeout=300)
    assert first.returncode == 1 and "and not on every worker" in errors
