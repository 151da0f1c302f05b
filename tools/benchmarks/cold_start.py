"""How long a person waits for the first training step."""

import json
import shutil
import statistics
from collections.abc import Iterator

from tools.benchmarks import notes as note_sets
from tools.benchmarks import processes
from tools.benchmarks.measuring import Aim, Row
from tools.benchmarks.settings import BenchmarkSettings

SECTION = "cold_start"
FIRST_STEP = Aim(20.0, at_most=True)
TRACINGS = Aim(0.0, at_most=True)


def measure(settings: BenchmarkSettings) -> Iterator[Row]:
    """`train` from process start to the first step, to the second, and re-tracings."""
    folder = settings.folder / "cold_start"
    name = note_sets.make(folder / "data", settings.start_notes, rendered=False)
    first, second, again = [], [], 0
    rounds = 1 if settings.quick else 3
    for number in range(rounds):
        result = folder / f"{number}.json"
        finished = processes.run_module(
            "tools.benchmarks.timed_train",
            [
                str(result),
                f"--dataset={name}",
                f"--data_dir={folder / 'data'}",
                f"--workdir={folder / f'run-{number}'}",
                "--epochs=2",
                *processes.network_flags(settings.width),
            ],
        )
        noted = json.loads(result.read_text())
        steps = noted["steps"]
        first.append(steps[0] - finished.started)
        second.append(steps[1] - steps[0])
        again = max(again, sum(count - 1 for count in noted["traces"].values()))
    shutil.rmtree(folder)
    note = "the note index is made in the first run and read in the others"
    yield _row("process start to the end of the first step", first, FIRST_STEP, note)
    yield _row("from there to the end of the second step", second, None, "")
    label = "graphs traced again after their first time"
    note = f"training and validation, {len(steps)} steps, 2 epochs"
    yield Row(SECTION, label, float(again), "tracings", aim=TRACINGS, note=note)


def _row(name: str, seconds: list[float], aim: Aim | None, note: str) -> Row:
    return Row(
        SECTION,
        name,
        statistics.median(seconds),
        "s",
        min(seconds),
        max(seconds),
        len(seconds),
        aim,
        note,
    )
