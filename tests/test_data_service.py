"""One dispatcher and two workers on loopback."""

import types

import numpy as np
import pytest
import tensorflow as tf

from mic_tf import data_service, files
from mic_tf.errors import UserError
from mic_tf.pipeline import batches, draws
from mic_tf.pipeline.balance import balance
from mic_tf.pipeline.draws import Draw
from mic_tf.training import callbacks, trainer
from tests import processes
from tests.training.test_distribution import free_ports
from tests.training.test_trainer import SMALL, changed


def start(*arguments: str) -> processes.Running:
    process = processes.start("-m", "mic_tf.data_service", *arguments)
    process.wait_for(("dispatcher", "worker"))
    return process


@pytest.fixture(scope="module")
def service():
    """Address of a running dispatcher with two workers."""
    port = free_ports(1)[0]
    address = f"localhost:{port}"
    running = [start("--role=dispatcher", f"--port={port}")]
    running += [start("--role=worker", f"--dispatcher={address}") for _ in range(2)]
    yield f"grpc://{address}"
    for process in running:
        process.kill()
        process.wait()


def test_class_shares_are_those_without_the_service(service, small_dataset):
    records = batches.open_records(small_dataset)
    index = records.index
    train = index.note_split == 0
    found = balance(index.counts(train), "rejection", 1.0)
    acceptance = train * found.acceptance[index.family]
    drawn = draws.drawn_records(records, acceptance, Draw(notes_per_epoch=40, seed=1))
    dataset = batches.training_batches(records, drawn, batch_size=8)
    target = found.target[found.target > 0]
    for stream in (dataset, batches.on_service(dataset, service)):
        families = np.concatenate([b[1].numpy() for b in stream.take(100)])
        shares = np.bincount(families, minlength=11)[found.target > 0] / len(families)
        error = np.sqrt(target * (1 - target) / len(families))
        assert (np.abs(shares - target) < 3.5 * error).all()


def test_training_on_the_service_ends_like_any_other(service, small_dataset, tmp_path):
    run = changed("data", data_service=service, balance="rejection")
    trainer.train(run, str(tmp_path), small_dataset)
    rows = callbacks.read_history(str(tmp_path))
    assert len(rows) == SMALL.train.epochs
    assert np.isfinite(float(rows[-1]["loss"]))


@pytest.mark.parametrize("installed", [True, False])
def test_a_worker_can_read_from_object_stores_where_it_may(monkeypatch, installed):
    asked = []

    def register(path):
        asked.append(path)
        if not installed:
            raise UserError(f"{path}: this kind of path needs tensorflow-io")

    def start_server(config):
        return config.dispatcher_address, asked

    monkeypatch.setattr(files, "register_file_systems", register)
    monkeypatch.setattr(tf.data.experimental.service, "WorkerServer", start_server)
    flag = types.SimpleNamespace(role="worker", dispatcher="x:1", host="y", port=2)
    assert data_service._start(flag) == ("x:1", ["s3://"])


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("data", {"data_service": "localhost:1"}, "grpc://HOST:PORT expected"),
        ("data", {"data_service": "http://x"}, "grpc://HOST:PORT expected"),
        ("data", {"data_service": "grpc://x"}, "grpc://HOST:PORT expected"),
        ("data", {"data_service": "grpc://localhost:99999"}, "nobody answers there"),
        ("data", {"data_service": "grpc://no.such.host.invalid:1"}, "nobody answers"),
    ],
)
def test_wrong_addresses_are_user_errors(
    small_dataset, tmp_path, section, values, message, monkeypatch
):
    monkeypatch.setattr(batches, "_SERVICE_SECONDS", 0.2)
    with pytest.raises(UserError, match=message):
        trainer.train(changed(section, **values), str(tmp_path), small_dataset)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--role: missing"),
        (["--role=worker"], "--dispatcher: missing"),
        (["--role=king"], "--role=king"),
    ],
)
def test_command_says_what_is_missing(arguments, message):
    done = processes.anew("-m", "mic_tf.data_service", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
