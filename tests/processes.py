"""Processes for tests, forked from one that has imported TensorFlow already.

`run` and `start` take what an interpreter takes (`-m MODULE …`, `-c CODE …`,
`SCRIPT …`) and save the four seconds of a processor that TensorFlow's import costs
each time. What is about starting or leaving an interpreter (the time of `--help`, what
a person sees on the screen after a mistake, the end of a process that used
tensorflow-io) is to be asked of a real one: `anew`.
"""

import multiprocessing
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[1]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["tensorflow", "tensorflow_datasets", "mic_tf.training.trainer"]
)


class Running:
    """A started process; its methods are those of `subprocess.Popen`."""

    def __init__(
        self,
        *arguments: str,
        listed: str = "",
        env: dict[str, str] | None = None,
        cwd: pathlib.Path | str = ROOT,
    ) -> None:
        self.args = tuple(map(str, arguments))
        self._streams = tempfile.TemporaryDirectory()
        streams = pathlib.Path(self._streams.name)
        self._out, self._errors = streams / "stdout", streams / "stderr"
        (streams / "stdin").write_text(listed)
        self._out.touch()
        self._errors.touch()
        environment = dict(os.environ if env is None else env)
        self._process = _context.Process(
            target=_become,
            args=(self.args, streams, environment, str(cwd)),
            daemon=True,  # None outlives the tests.
        )
        self._process.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits for the end and returns standard output and standard error."""
        self.wait(timeout)
        return self._out.read_text(), self._errors.read_text()

    def wait_for(self, beginning: str | tuple[str, ...], timeout: float = 120) -> None:
        """Waits for a line on standard output or standard error that begins so."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            over = self.poll() is not None
            said = self._out.read_text() + "\n" + self._errors.read_text()
            if any(line.startswith(beginning) for line in said.splitlines()):
                return
            assert not over, said
            time.sleep(0.01)
        raise subprocess.TimeoutExpired(self.args, timeout)


def start(*arguments: str, **options) -> Running:
    """Starts a process; `listed` is its standard input."""
    return Running(*arguments, **options)


def run(*arguments: str, **options) -> subprocess.CompletedProcess:
    """Runs a process to its end and keeps what it wrote."""
    running = Running(*arguments, **options)
    out, errors = running.communicate()
    return subprocess.CompletedProcess(running.args, running.returncode, out, errors)


def anew(
    *arguments: str,
    cwd: pathlib.Path | str = ROOT,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess:
    """Runs a fresh interpreter to its end and keeps what it wrote."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)


def _become(
    arguments: tuple[str, ...],
    streams: pathlib.Path,
    environment: dict[str, str],
    cwd: str,
) -> None:
    """Turns the forked process into `python ARGUMENTS`."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    modes = {
        "stdin": os.O_RDONLY,
        "stdout": os.O_WRONLY | os.O_APPEND,
        "stderr": os.O_WRONLY | os.O_APPEND,
    }
    for number, (name, mode) in enumerate(modes.items()):
        descriptor = os.open(streams / name, mode)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = os.fdopen(0, closefd=False)  # multiprocessing had closed it.
    what, *rest = arguments
    if what == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif what == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = [what, *rest]
        runpy.run_path(what, run_name="__main__")
