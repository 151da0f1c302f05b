"""How every command starts and ends.

`run(main)` parses flags with absl, keeps TensorFlow quiet, shows a `UserError` as
one line, and turns outcomes into exit statuses: 0 success, 2 a mistake that the
person can correct, 130 interrupted from the keyboard.
"""

import contextlib
import ctypes
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from logging import WARNING, LogRecord
from types import ModuleType
from typing import Any, NoReturn

from absl import app, flags, logging

from mic_tf.errors import UserError

EXIT_OK = 0
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
_READ_BY_PYTHON = {"source", "soundfont"}
"""Flags whose paths may have any bytes."""

_MALLOC = {
    "MALLOC_ARENA_MAX": (-8, 2),
    "MALLOC_MMAP_THRESHOLD_": (-3, 2 << 20),
    "MALLOC_TRIM_THRESHOLD_": (-1, 64 << 20),
}
"""glibc's settings by their variable: number in malloc.h, and our value."""


def set_environment() -> None:
    """Sets what TensorFlow reads at its import; what is set already counts more.

    No chatter; oneDNN's kernels, which it leaves off on some processors; and as its own
    Keras the one that is used here, or it imports Keras 3 too, for one to two seconds.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TFDS_DISABLE_PROGRESS_BAR", "0")


def keep_heap_small() -> None:
    """Lets glibc give memory back to the system, where training would hoard it.

    TensorFlow has dozens of threads, and what each frees stays in its own arena: two
    instead of eight for each core. Tensors of 2 MB and more are mapped for themselves;
    in the arenas they leave gaps that later ones do not fit. Without the third setting
    the second would shrink the heap behind every file that is read. What the
    environment says counts more. Other C libraries have no such settings.
    """
    for variable, (number, value) in _MALLOC.items():
        if variable in os.environ:
            continue
        os.environ[variable] = str(value)  # For processes started from here.
        with contextlib.suppress(OSError, AttributeError, TypeError):
            ctypes.CDLL(None).mallopt(number, value)


def prepare_streams() -> None:
    """Opens what of standard input, output and error is closed (`>&-`) to nowhere.

    Else the next file that is opened gets its number, and what a library prints goes
    into that. `sys.stdin` and `sys.stdout` stay None, for those that need them.
    Standard output that is there says what it has no letters for by their numbers.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # The lowest number that is free.
    if sys.stderr is None:
        sys.stderr = open(  # noqa: SIM115
            2, "w", errors="backslashreplace", closefd=False
        )
    if sys.stdout is not None:
        sys.stdout.reconfigure(errors="backslashreplace")


def _flags_parser(module: ModuleType) -> Callable[[Sequence[str]], list[str]]:
    """A parser of flags whose every complaint is one line and exit status 2."""

    def parse(argv: Sequence[str]) -> list[str]:
        before = itertools.takewhile(lambda a: a != "--", argv[1:])
        if any(a in ("--help", "-help", "-h", "--helpshort") for a in before):
            _, _, flags_help = flags.FLAGS.module_help(module).partition("\n")
            try:
                say(f"{(module.__doc__ or '').strip()}\n\nflags:\n{flags_help}")
            except UserError as error:
                _fail(str(error))
            raise SystemExit(EXIT_OK)
        try:
            arguments = flags.FLAGS(list(argv))
            _expand_home()
            _check_text()
            return arguments
        except flags.Error as error:
            return _fail(str(error).split("\n", maxsplit=1)[0])

    return parse


def _expand_home() -> None:
    """`--workdir=~/runs`: the shell expands ~ only at the start of a word."""
    for name in flags.FLAGS:
        value = flags.FLAGS[name].value
        if isinstance(value, str):
            flags.FLAGS[name].value = _expanded(value)
        elif isinstance(value, list):
            flags.FLAGS[name].value = [_expanded(entry) for entry in value]


def _expanded(value: Any) -> Any:
    is_below_home = isinstance(value, str) and value.startswith("~")
    return os.path.expanduser(value) if is_below_home else value


def _check_text() -> None:
    """Refuses bytes that are not UTF-8 where TensorFlow may have to open the path.

    Raises:
      flags.Error: a flag has some.
    """
    for name in set(flags.FLAGS) - _READ_BY_PYTHON:
        value = flags.FLAGS[name].value
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and not text.isascii():
                try:
                    text.encode()
                except UnicodeEncodeError:
                    raise flags.Error(f"--{name}={text}: UTF-8 expected") from None


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(EXIT_USER_ERROR)


def run(main: Callable[[list[str]], int | None], small_heap: bool = True) -> None:
    """Runs one command to its exit status; never returns.

    Args:
      main: takes the arguments that are not flags (without the program's name) and
        returns the exit status, or None for success.
      small_heap: whether to `keep_heap_small`.
    """
    prepare_streams()
    set_environment()
    if small_heap:
        keep_heap_small()
    logging.set_verbosity(logging.INFO)
    logging.get_absl_handler().setFormatter(_PlainFormatter())
    logging.get_absl_handler().addFilter(_is_worth_showing)

    def guarded(argv: list[str]) -> int:
        try:
            return _end(main(argv[1:]) or EXIT_OK)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return _end(EXIT_USER_ERROR)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return _end(EXIT_INTERRUPTED)

    module = sys.modules[main.__module__]
    app.run(guarded, flags_parser=_flags_parser(module))


def say(text: str) -> None:
    """Prints on standard output, where that is open and still read.

    Raises:
      UserError: it cannot be written.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # The reader (`| head`) has all it wanted.
        leave_standard_output()
    except OSError as error:
        raise unwritable(error) from error


def unwritable(error: OSError) -> UserError:
    """What is said of standard output that failed; nothing more is written there."""
    leave_standard_output()
    reason = os.strerror(error.errno or 0)
    return UserError(f"standard output: cannot be written: {reason}")


def leave_standard_output() -> None:
    """Lets what can no longer be flushed go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end(status: int) -> int:
    """Ends the process at once where tensorflow-io would abort it on the way out.

    Once it has used s3://, its native library aborts the interpreter's own exit
    ("pure virtual method called"), and success would leave with status 134.
    """
    if "tensorflow_io" in sys.modules:
        for stream in (sys.stdout, sys.stderr):
            if stream:
                stream.flush()
        os._exit(status)
    return status


def _is_worth_showing(record: LogRecord) -> bool:
    """Our own messages, and the warnings of libraries."""
    return record.levelno >= WARNING or "mic_tf" in record.pathname


class _PlainFormatter(logging.PythonFormatter):
    """Messages as they are; only warnings and errors say what they are."""

    def format(self, record: LogRecord) -> str:
        text = record.getMessage()
        if record.levelno >= WARNING:
            return f"{record.levelname.lower()}: {text}"
        return text
