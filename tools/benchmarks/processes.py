"""Commands of the project, run as a person runs them and measured from outside."""

import dataclasses
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from mic_tf.errors import UserError

PROJECT = pathlib.Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Finished:
    """What a command took.

    Attributes:
      started: when it was started, seconds of the monotonic clock.
      seconds: until it ended.
      peak_bytes: the most memory it held (resident set).
    """

    started: float
    seconds: float
    peak_bytes: int


def run_module(module: str, arguments: Sequence[str]) -> Finished:
    """Runs `python -m module` in the project's folder.

    Args:
      module: of a command.
      arguments: its flags.

    Raises:
      UserError: it failed; with the end of what it wrote.
    """
    with tempfile.TemporaryFile("w+") as output:
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            # The usage of this very child, which subprocess does not give.
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - started
        if process.returncode:
            output.seek(0)
            end = " ".join(output.read().strip().splitlines()[-3:])
            raise UserError(f"{module} ended with {process.returncode}: {end}")
    return Finished(started, seconds, usage.ru_maxrss * 1024)


def network_flags(width: int) -> list[str]:
    """Flags for another width than the default; none for 0."""
    return [f"--width={width}", "--dense_units=16"] if width else []
