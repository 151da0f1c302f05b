"""Measures our speed beside what people would use instead.

    python tools/benchmark.py --out=benchmark.json
    python tools/benchmark.py --only=frontend,input --quick

Ours and the alternatives run in turn (A B A B …), in one process tree, on the same
notes. Ratios are medians over the rounds, with their spread; absolute figures stand
beside them. The result goes to --out, and as a Markdown table beside it. What is
compared with is installed by requirements-bench.txt; rows of what is missing say so. A
row that misses its aim says `below`; the exit status is 0 all the same.
"""

import dataclasses
import gc
import importlib
import os
import pathlib
import shlex
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from mic_tf import command
from mic_tf.errors import UserError
from tools.benchmarks import processes
from tools.benchmarks.settings import QUICK, SECTIONS, BenchmarkSettings

_OF_COMMANDS = ("memory", "cold_start", "growth")
"""Sections that make notes and start commands; they time nothing of TensorFlow here."""

_OUT = flags.DEFINE_string("out", "benchmark.json", "File for the result.")
_ONLY = flags.DEFINE_list(
    "only", [], f"Sections, separated by commas: {', '.join(SECTIONS)}; default: all."
)
_DEVICE = flags.DEFINE_enum(
    "device", "cpu", ["cpu", "gpu"], "Where networks run; a GPU adds rows."
)
_QUICK = flags.DEFINE_bool(
    "quick", False, "Very little of everything, in about two minutes; shows it runs."
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", "", "Folder of prepared sets; default: notes made for this run."
)
_DATASET = flags.DEFINE_string("dataset", "soundfont_notes", "The set in --data_dir.")
_SECONDS = flags.DEFINE_float(
    "seconds", 0.0, "For the rounds of one comparison; 0: 30.", lower_bound=0.0
)


def main(arguments: list[str]) -> None:
    """Measures the sections asked for, printing rows as they come."""
    if arguments:
        raise UserError(f"{arguments[0]}: unexpected argument; flags begin with --")
    wanted = _wanted()
    _check_out(pathlib.Path(_OUT.value))
    if _DEVICE.value == "cpu":
        # For the commands that are started from here too.
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    else:
        # Several processes share the GPU; TensorFlow would take all its memory at once.
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    from tools.benchmarks import machine

    said = machine.describe(_DEVICE.value)
    print(machine.words(said), flush=True)
    if _DEVICE.value == "gpu" and not said["gpus"]:
        print("--device=gpu: no GPU here; the CPU rows stand", flush=True)
    with tempfile.TemporaryDirectory(prefix="mic_tf_benchmark_") as folder:
        settings = _settings(pathlib.Path(folder), bool(said["gpus"]))
        found = _Found({name: [] for name in wanted}, {}, {}, _writer(said))
        # As after Ctrl-C, what it started ends with it.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        _measure_all(settings, wanted, found)
        table = found.write(found)
    rows = found.all_rows()
    below = sum(row.verdict == "below" for row in rows)
    print(f"{len(rows)} rows, {below} below; written to {_OUT.value} and {table}")


def _check_out(path: pathlib.Path) -> None:
    """Refuses a result that could not be written, before it is measured.

    Raises:
      UserError: so it is.
    """
    if path.suffix == ".md":
        raise UserError(f"--out={path}: the table goes there; another ending expected")
    if path.is_dir():
        raise UserError(f"--out={path}: is a folder; the name of a file expected")
    folder = path.absolute().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{folder} cannot be made: {error.strerror}"
        raise UserError(f"--out={path}: {reason}") from error
    if not os.access(folder, os.W_OK):
        raise UserError(f"--out={path}: {folder} cannot be written to")


def _writer(said: dict[str, Any]) -> "Callable[[_Found], pathlib.Path]":
    """What writes to --out, beside what is known of the machine."""
    from tools.benchmarks import report

    called = shlex.join(["python", "tools/benchmark.py", *sys.argv[1:]])
    lock = threading.Lock()

    def write(found: _Found) -> pathlib.Path:
        with lock:
            facts = {"quick": _QUICK.value, "seconds": found.seconds, **found.facts}
            content = report.result(found.all_rows(), said, called, facts)
            return report.write(pathlib.Path(_OUT.value), content)

    return write


def _wanted() -> list[str]:
    unknown = sorted(set(_ONLY.value) - set(SECTIONS))
    if unknown:
        raise UserError(
            f"--only={unknown[0]}: no such section; there are {', '.join(SECTIONS)}"
        )
    return [name for name in SECTIONS if not _ONLY.value or name in _ONLY.value]


def _settings(folder: pathlib.Path, gpu_found: bool) -> BenchmarkSettings:
    settings = BenchmarkSettings(
        quick=_QUICK.value,
        device=_DEVICE.value,
        gpu_found=gpu_found,
        folder=folder,
        data_dir=_DATA_DIR.value,
        dataset=_DATASET.value,
        **(QUICK if _QUICK.value else {}),
    )
    if _SECONDS.value:
        settings = dataclasses.replace(settings, seconds=_SECONDS.value)
    return settings


@dataclasses.dataclass(frozen=True)
class _Found:
    """What was measured so far.

    Attributes:
      rows: by section, in the order of the table.
      seconds: that each section took.
      facts: what else the result says.
      write: writes all that; after every row, as the next may not end well.
    """

    rows: dict[str, list]
    seconds: dict[str, float]
    facts: dict[str, Any]
    write: "Callable[[_Found], Any]"

    def all_rows(self) -> list:
        """In the order of the table."""
        return [row for section in self.rows.values() for row in section]


def _measure_all(settings: BenchmarkSettings, wanted: list[str], found: _Found) -> None:
    """All sections, one after the other; those of commands beside them if quick.

    What was measured before a fault is in `found`, and written, whichever side it
    came from.
    """
    beside = [name for name in wanted if settings.quick and name in _OF_COMMANDS]
    with futures.ThreadPoolExecutor(max_workers=1) as pool:
        try:
            others = pool.submit(_measure, settings, beside, found) if beside else None
            _measure(settings, [n for n in wanted if n not in beside], found)
            if others:
                others.result()
        except BaseException:
            processes.stop_all()
            raise


def _measure(settings: BenchmarkSettings, sections: list[str], found: _Found) -> None:
    """Sections one after the other, printing rows as they come."""
    from tools.benchmarks import notes as note_sets
    from tools.benchmarks import report

    notes = None
    for name in sections:
        section = importlib.import_module(f"tools.benchmarks.{name}")
        if name in _OF_COMMANDS:
            arguments = [settings]
        else:
            notes = notes or note_sets.open_notes(settings)
            found.facts["notes"] = notes.words
            arguments = [settings, notes]
        began = time.perf_counter()
        for row in section.measure(*arguments):
            found.rows[name].append(row)
            found.write(found)
            shown = report.cells(row.as_dict())
            print(f"{name}: " + " | ".join(filter(None, shown)), flush=True)
        found.seconds[name] = round(time.perf_counter() - began, 1)
        # The end of a distributed iterator takes the longer the older it is, and would
        # fall into whatever is timed when it is collected.
        gc.collect()


if __name__ == "__main__":
    # Who uses PyTorch has glibc's own settings; with ours it is half as fast.
    command.run(main, small_heap=False)
