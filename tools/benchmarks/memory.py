"""The most memory that training holds, on few notes and on many."""

import shutil
from collections.abc import Iterator

from tools.benchmarks import notes as note_sets
from tools.benchmarks import processes
from tools.benchmarks.measuring import Aim, Row
from tools.benchmarks.settings import BenchmarkSettings

SECTION = "memory"
AT_MOST_GB = Aim(3.0, at_most=True)
APART = Aim(1.1, at_most=True)


def measure(settings: BenchmarkSettings) -> Iterator[Row]:
    """Peak resident set of `train`, one epoch, on sets of both sizes."""
    peaks = []
    for count in settings.memory_notes:
        peak = _peak_gb(settings, count)
        peaks.append(peak)
        label = f"train on {count:,} notes: peak resident set"
        note = "made-up notes, one epoch with validation and calibration"
        yield Row(SECTION, label, peak, "GB", aim=AT_MOST_GB, note=note)
    few, many = settings.memory_notes
    label = f"{many:,} notes against {few:,}"
    yield Row(SECTION, label, peaks[1] / peaks[0], "x", aim=APART)


def _peak_gb(settings: BenchmarkSettings, train_notes: int) -> float:
    folder = settings.folder / f"memory-{train_notes}"
    name = note_sets.make(folder / "data", train_notes, rendered=False)
    finished = processes.run_module(
        "mic_tf.train",
        [
            f"--dataset={name}",
            f"--data_dir={folder / 'data'}",
            f"--workdir={folder / 'run'}",
            "--epochs=1",
            *processes.network_flags(settings.width),
        ],
    )
    shutil.rmtree(folder)
    return finished.peak_bytes / 1e9
