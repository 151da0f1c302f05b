"""What can go wrong while training, and what the run makes of it."""

import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import textwrap
import time

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from mic_tf.errors import UserError
from mic_tf.pipeline import index as note_index
from mic_tf.training import snapshots, trainer
from mic_tf.training.trainee import Trainee
from tests import processes
from tests.conftest import own_lines
from tests.training.test_trainer import SMALL, changed, weights_of


@pytest.fixture
def own_dataset(small_dataset, tmp_path):
    """A copy of the small data set that may be damaged."""
    folder = tmp_path / "data" / "nsynth_jsonwav" / "1.0.0"
    shutil.copytree(small_dataset.data_path, folder)
    return tfds.builder_from_directory(folder)


def first_file(builder) -> str:
    return note_index.file_paths(builder, note_index.load(builder))[0]


def flip_a_byte(path: str) -> None:
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def test_record_damaged_after_the_index_was_made_is_named(own_dataset, tmp_path):
    path = first_file(own_dataset)
    flip_a_byte(path)
    with pytest.raises(UserError, match=f"{path}: damaged"):
        trainer.train(SMALL, str(tmp_path / "run"), own_dataset)


def test_skip_bad_trains_on_what_is_whole(own_dataset, tmp_path, caplog):
    path = first_file(own_dataset)
    flip_a_byte(path)
    trainer.train(changed("data", skip_bad=True), str(tmp_path / "run"), own_dataset)
    assert any(path in m and "left out" in m for m in caplog.messages)
    assert all(np.isfinite(w).all() for w in weights_of(tmp_path / "run"))


def test_truncated_checkpoint_falls_back_to_the_one_before(small_dataset, tmp_path):
    run = changed("train", checkpoint_every=1)
    trainer.train(run, str(tmp_path), small_dataset)
    whole = [w.copy() for w in weights_of(tmp_path)]
    newest = snapshots.newest(str(tmp_path / "checkpoints"))
    data = pathlib.Path(newest.prefix + ".data-00000-of-00001")
    data.write_bytes(data.read_bytes()[:-100])
    trainer.train(run, str(tmp_path), small_dataset)
    for before, after in zip(whole, weights_of(tmp_path), strict=True):
        assert np.array_equal(before, after)


def test_no_whole_checkpoint_is_an_error_not_a_silent_start_from_zero(
    small_dataset, tmp_path
):
    run = changed("train", epochs=1)
    trainer.train(run, str(tmp_path), small_dataset)
    for path in (tmp_path / "checkpoints").glob("*.index"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="is whole; delete checkpoints/ and best/"):
        trainer.train(run, str(tmp_path), small_dataset)


def test_weights_of_a_run_begun_anew_are_its_own(small_dataset, tmp_path):
    run = changed("train", epochs=3, select="last")
    trainer.train(run, str(tmp_path), small_dataset)
    old = weights_of(tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")
    with pytest.raises(UserError, match="delete best/ too to train anew"):
        trainer.train(run, str(tmp_path), small_dataset)
    # As where it was killed and all its checkpoints are damaged.
    (tmp_path / "summary.json").unlink()
    (tmp_path / "config.json").unlink()
    figures = tmp_path / "eval" / "notes-test" / "metrics.json"
    figures.parent.mkdir(parents=True)
    figures.write_text("{}")
    again = changed("train", epochs=1, select="last", seed=5)
    trainer.train(again, str(tmp_path), small_dataset)
    assert not figures.exists()
    assert snapshots.newest(str(tmp_path / "best")).number == 1
    new = weights_of(tmp_path)
    assert any(not np.array_equal(a, b) for a, b in zip(old, new, strict=True))


def test_seconds_of_a_run_begun_anew_are_its_own(small_dataset, tmp_path):
    run = changed("train", epochs=1)
    trainer.train(run, str(tmp_path), small_dataset)
    summary = tmp_path / "summary.json"
    content = json.loads(summary.read_text())
    summary.write_text(json.dumps({**content, "train_seconds": 5000.0}))
    for name in ("checkpoints", "best"):
        shutil.rmtree(tmp_path / name)
    assert trainer.train(run, str(tmp_path), small_dataset)["train_seconds"] < 5000


def test_another_run_in_a_folder_named_best_is_left_alone(small_dataset, tmp_path):
    run = changed("train", epochs=1)
    trainer.train(run, str(tmp_path / "best"), small_dataset)
    before = weights_of(tmp_path / "best")
    (tmp_path / "best" / "notes.txt").write_text("mine")
    trainer.train(run, str(tmp_path), small_dataset)
    assert (tmp_path / "best" / "notes.txt").read_text() == "mine"
    for a, b in zip(before, weights_of(tmp_path / "best"), strict=True):
        assert np.array_equal(a, b)


def test_work_folder_that_cannot_be_made_is_one_line(small_dataset, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be made") as caught:
        trainer.train(SMALL, str(tmp_path / "file" / "run"), small_dataset)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "message",
    [
        "Graph execution error:\n\nOOM when allocating tensor with shape[6,4,33,32]",
        "Out of memory while trying to allocate 9 bytes.",
    ],
)
def test_a_batch_that_memory_does_not_hold_is_one_line(
    small_dataset, tmp_path, monkeypatch, message
):
    fails_with(message, monkeypatch)
    with pytest.raises(UserError, match="--batch_size=6: takes more memory") as caught:
        trainer.train(SMALL, str(tmp_path), small_dataset)
    assert "\n" not in str(caught.value)


def test_what_else_runs_out_is_not_called_memory(small_dataset, tmp_path, monkeypatch):
    fails_with("cache; No space left on device", monkeypatch)
    with pytest.raises(tf.errors.ResourceExhaustedError):
        trainer.train(SMALL, str(tmp_path), small_dataset)


def fails_with(message: str, monkeypatch) -> None:
    """Lets a training step end as TensorFlow does where something has run out."""

    def fit(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, message)

    monkeypatch.setattr(Trainee, "fit", fit)


PREAMBLE = """
    import resource, signal, sys
    import tensorflow_datasets as tfds
    from tests.training.test_trainer import SMALL, WHOLE, changed
    from mic_tf.errors import UserError
    from mic_tf.training import trainer
    builder = tfds.builder_from_directory(sys.argv[2])
"""

FULL_DISK = """
    run = changed("train", epochs=1)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, 6_000))
    try:
        trainer.train(run, sys.argv[1], builder)
    except UserError as error:
        sys.exit(str(error))
"""


def process(code: str, workdir, dataset) -> processes.Running:
    program = textwrap.dedent(PREAMBLE) + textwrap.dedent(code)
    return processes.start("-c", program, workdir, dataset.data_path)


def test_full_disk_is_one_line_and_leaves_nothing_that_looks_whole(
    small_dataset, tmp_path
):
    failing = process(FULL_DISK, tmp_path, small_dataset)
    _, errors = failing.communicate(timeout=300)
    assert failing.returncode == 1
    assert "cannot be written" in own_lines(errors)[-1]
    assert snapshots.newest(str(tmp_path / "best")) is None
    trainer.train(changed("train", epochs=1), str(tmp_path), small_dataset)
    assert snapshots.newest(str(tmp_path / "best")) is not None


TRAIN_TO_THE_END = """
    run = changed("train", WHOLE, epochs=6, checkpoint_every=1, deterministic=True)
    trainer.train(run, sys.argv[1], builder)
"""


def fingerprint(workdir) -> str:
    digest = hashlib.sha256()
    for weight in weights_of(workdir):
        digest.update(weight.tobytes())
    return digest.hexdigest()


@pytest.mark.slow
def test_run_killed_ten_times_ends_with_the_weights_of_an_undisturbed_one(
    small_dataset, tmp_path
):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert process(TRAIN_TO_THE_END, whole, small_dataset).wait() == 0
    chance = random.Random(0)
    kills = 0
    for _ in range(60):
        running = process(TRAIN_TO_THE_END, broken, small_dataset)
        steps = chance.randint(1, 4)
        if kills < 10 and wait_for_checkpoints(running, broken, steps, chance):
            running.send_signal(signal.SIGKILL)
            kills += 1
        if running.wait() == 0:
            break
    assert kills >= 10
    assert fingerprint(broken) == fingerprint(whole)


def wait_for_checkpoints(running, workdir, count, chance) -> bool:
    """Waits until the process has written some, then a moment more; False if over."""
    seen = set()
    while len(seen) <= count:
        if running.poll() is not None:
            return False
        seen |= {path.name for path in workdir.glob("checkpoints/*.manifest.json")}
        time.sleep(0.002)
    # The next checkpoint is begun at once, so this often hits the middle of one.
    time.sleep(chance.uniform(0, 0.08))
    return running.poll() is None
