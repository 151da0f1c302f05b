"""Commands of the project, run as a person runs them and measured from outside."""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence

from mic_tf.errors import UserError

PROJECT = pathlib.Path(__file__).parents[2]

_LAUNCHER = """
import json, os, sys, time
started = time.monotonic()
pid = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(pid, 0)
seconds = time.monotonic() - started
with os.fdopen(int(sys.argv[1]), "w") as report:
    cpu = usage.ru_utime + usage.ru_stime
    code = os.waitstatus_to_exitcode(status)
    json.dump([code, started, seconds, cpu, usage.ru_maxrss], report)
"""
"""Linux counts to a process the memory of who started it, so a small one does."""

_RUNNING: set[subprocess.Popen] = set()
_STOPPED = threading.Event()


@dataclasses.dataclass(frozen=True)
class Finished:
    """What a command took.

    Attributes:
      started: when it was started, seconds of the monotonic clock.
      seconds: until it ended.
      cpu_seconds: user's and system's, of all its threads.
      peak_bytes: the most memory it held (resident set).
    """

    started: float
    seconds: float
    cpu_seconds: float
    peak_bytes: int


def run_module(module: str, arguments: Sequence[str]) -> Finished:
    """Runs `python -m module` in the project's folder.

    Args:
      module: of a command.
      arguments: its flags.

    Raises:
      UserError: it failed, with the end of what it wrote; or `stop_all` was called.
    """
    command = [sys.executable, "-m", module, *arguments]
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as report:
        descriptor = report.fileno()
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(descriptor), *command],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[descriptor],
            start_new_session=True,
        )
        _RUNNING.add(process)
        try:
            if _STOPPED.is_set():
                _stop(process)
            process.wait()
        except BaseException:
            _stop(process)
            process.wait()
            raise
        finally:
            _RUNNING.discard(process)
        if _STOPPED.is_set():
            raise UserError(f"{module} was stopped")
        report.seek(0)
        status, started, seconds, cpu, peak_kilobytes = json.load(report)
        if status:
            output.seek(0)
            end = " ".join(output.read().strip().splitlines()[-3:])
            raise UserError(f"{module} ended with {status}: {end}")
    return Finished(started, seconds, cpu, peak_kilobytes * 1024)


def stop_all() -> None:
    """Ends the commands that other threads wait for, and those they would start."""
    _STOPPED.set()
    for process in list(_RUNNING):
        _stop(process)


def _stop(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def network_flags(width: int) -> list[str]:
    """Flags for a small network of another width than the default's; none for 0."""
    return [f"--width={width}", "--dense_units=16", "--depth=2"] if width else []
