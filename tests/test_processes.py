"""Forked processes behave as those of an interpreter of their own."""

import signal
import subprocess
import sys

import pytest

from tests import processes

SAYS = "import os, sys; print('out', *sys.argv[1:], os.environ['SAID'], flush=True);"


@pytest.mark.parametrize(
    "end",
    [
        "sys.exit(3)",
        "sys.exit('gone')",
        "os._exit(4)",
        "pass",
        "os.kill(os.getpid(), 15)",
        "print(sys.stdin.read(), os.getcwd(), file=sys.stderr)",
    ],
)
def test_streams_and_status_are_those_of_an_interpreter(end, tmp_path):
    arguments = ("-c", SAYS + end, "a", "b")
    env = {"SAID": "so", "PATH": ""}
    forked = processes.run(*arguments, listed="x\ny", env=env, cwd=tmp_path)
    real = subprocess.run(
        [sys.executable, *arguments],
        input="x\ny",
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert forked.stdout == real.stdout == "out a b so\n"
    assert forked.stderr == real.stderr
    assert forked.returncode == real.returncode


def test_a_process_can_be_waited_for_and_killed():
    running = processes.start(
        "-c", "import time; print('here', flush=1); time.sleep(99)"
    )
    running.wait_for("here")
    assert running.poll() is None
    running.kill()
    assert running.wait() == -signal.SIGKILL


def test_an_exception_is_status_1_and_said():
    finished = processes.run("-c", "raise ValueError('no such thing')")
    assert finished.returncode == 1
    assert finished.stderr.splitlines()[-1] == "ValueError: no such thing"
