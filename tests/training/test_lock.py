import errno
import fcntl
import json
import subprocess
import sys
import time

import pytest

from mic_tf import files
from mic_tf.errors import UserError
from mic_tf.training import lock

HOLD = """
import sys, time
from mic_tf.training import lock
with lock.only_one(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other_process(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_second_training_in_a_folder_is_refused_and_told_who_holds_it(
    other_process, tmp_path
):
    with (
        pytest.raises(UserError, match=f"process {other_process.pid}.*is training"),
        lock.only_one(str(tmp_path)),
    ):
        pass


def test_folder_of_a_killed_training_is_free(other_process, tmp_path):
    other_process.kill()
    other_process.wait()
    with lock.only_one(str(tmp_path)):
        pass


def test_a_folder_that_cannot_be_locked_is_warned_of(tmp_path, monkeypatch, caplog):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with lock.only_one(str(tmp_path)):
        pass
    assert "cannot be locked (No locks available)" in caplog.text


def test_file_in_an_object_store_holds_until_it_is_stale():
    folder = "ram://locked/run"
    with (
        lock.only_one(folder),
        pytest.raises(UserError, match="is training in it"),
        lock.only_one(folder),
    ):
        pass
    assert not files.exists(f"{folder}/{lock.LOCK}")
    left_behind = {"owner": "process 1 on gone", "time": time.time() - 1000}
    files.write_text(f"{folder}/{lock.LOCK}", json.dumps(left_behind))
    with lock.only_one(folder):
        pass
