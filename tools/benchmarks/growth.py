"""How the time of preparing, training and evaluating grows with the notes."""

import csv
import math
import shutil
import time
from collections.abc import Iterator

from tools.benchmarks import notes as note_sets
from tools.benchmarks import processes
from tools.benchmarks.measuring import Aim, Row
from tools.benchmarks.settings import BenchmarkSettings

SECTION = "growth"
LINEAR = Aim(1.1, at_most=True)
"""Linear is 1, and what takes the same time for any number of notes is less; the rest
is room for noise."""


def measure(settings: BenchmarkSettings) -> Iterator[Row]:
    """Seconds of each at every size, and the exponent between the two largest."""
    points = [_point(settings, count) for count in settings.growth_notes]
    for point in points:
        for what, (notes, seconds) in point.items():
            rate = f"{notes / seconds:,.0f} notes/s"
            yield Row(SECTION, f"{what}, {notes:,} notes", seconds, "s", note=rate)
    before, after = points[-2:]
    for what, (few, earlier) in before.items():
        many, later = after[what]
        exponent = math.log(later / earlier) / math.log(many / few)
        label = f"{what}: growth from {few:,} to {many:,} notes"
        note = "the power of the number of notes that the time grows with"
        yield Row(SECTION, label, exponent, "power", aim=LINEAR, note=note)


def _point(settings: BenchmarkSettings, notes: int) -> dict[str, tuple[int, float]]:
    """Notes that each step goes through, and its seconds.

    Preparing and the epoch are without the start of their command; evaluating is the
    whole command, of the training notes, as they are the most.
    """
    folder = settings.folder / f"growth-{notes}"
    data, run = folder / "data", folder / "run"
    began = time.perf_counter()
    name = note_sets.make(data, notes * 4 // 5, rendered=note_sets.can_render())
    prepared = time.perf_counter() - began
    where = [f"--data_dir={data}", f"--workdir={run}"]
    width = processes.network_flags(settings.width)
    processes.run_module(
        "mic_tf.train", [*where, f"--dataset={name}", "--epochs=1", *width]
    )
    with open(run / "history.csv", newline="") as file:
        [row] = csv.DictReader(file)
    evaluated = processes.run_module("mic_tf.evaluate", [*where, "--split=train"])
    index = note_sets.load(str(data), name).records.index
    count = {k: sum(own.values()) for k, own in index.counts_by_split().items()}
    shutil.rmtree(folder)
    return {
        "prepare": (len(index), prepared),
        "epoch with validation": (
            count["train"] + count["valid"],
            float(row["seconds"]),
        ),
        "evaluate": (count["train"], evaluated.seconds),
    }
