"""A contender in a process of its own.

Each has the settings there that it has in use. Threads of PyTorch and OpenBLAS go on
spinning for a while when their work is done and take the cores from whoever comes next,
so a run waits until they rest.
"""

import functools
import multiprocessing
import time
from collections.abc import Callable, Sequence
from typing import Any

Build = Callable[..., tuple[Any, Callable[[], Any]]]
"""Gives what is to be known of a contender, and what is run to be timed."""
_UNTIL_OTHERS_REST = 0.3
"""Seconds; OpenMP's threads spin for 0.2."""
_UNTIL_IT_ENDS = 5.0
"""Seconds that a process has to end by itself."""


class Apart:
    """A contender that is built there, and run as often as it is asked for here.

    Attributes:
      returned: by the last run; None before there was one.
    """

    def __init__(self, build: Build, arguments: Sequence, times: int = 1):
        """Starts the process; several may be built at the same time.

        Args:
          build: of a module, so that the process can import it.
          arguments: of it.
          times: how often it is run, one right after the other, for `run`.
        """
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(theirs, build, tuple(arguments), times), daemon=True
        )
        process.start()
        theirs.close()
        self._process = process
        self.returned: Any = None

    @property
    def result(self) -> Any:
        """What is to be known of it, as soon as it is built.

        Raises:
          RuntimeError: it failed there.
        """
        value, error = self._built
        if error:
            raise RuntimeError(error)
        return value

    @functools.cached_property
    def _built(self) -> tuple[Any, str]:
        try:
            return self._answer(), ""
        except RuntimeError as error:
            return None, str(error)

    def __enter__(self) -> "Apart":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def run(self) -> float:
        """Runs it so many times more, in peace; the seconds that took there."""
        self.result  # noqa: B018 - it is built
        time.sleep(_UNTIL_OTHERS_REST)
        self._connection.send("run")
        seconds, self.returned = self._answer()
        return seconds

    def close(self) -> None:
        """Ends the process, also while it is being built."""
        self._connection.close()
        self._process.join(_UNTIL_IT_ENDS)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()

    def _answer(self) -> Any:
        try:
            value, error = self._connection.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(f"ended with {self._process.exitcode}") from None
        if error:
            raise RuntimeError(error)
        return value


def _serve(connection, build: Build, arguments: tuple, times: int):
    try:
        result, run = build(*arguments)
        connection.send((result, ""))
        while connection.recv():
            started = time.perf_counter()
            for _ in range(times):
                returned = run()
            connection.send(((time.perf_counter() - started, returned), ""))
    except (EOFError, BrokenPipeError):
        pass  # The other side has closed it.
    except Exception as error:  # noqa: BLE001 - goes to the other side
        connection.send((None, f"{type(error).__name__}: {error}"))
