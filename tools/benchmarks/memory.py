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
    """Peak resident set of `train` on sets of both sizes.

    An epoch of few notes ends before the heap has come to rest, so they are also
    trained on for as many steps as an epoch of many has.
    """
    few, many = settings.memory_notes
    epochs = many // few
    peaks = {}
    for count, passes in ((few, 1), (few, epochs), (many, 1)):
        peak = peaks[count, passes] = _peak_gb(settings, count, passes)
        spoken = f"{passes} epoch{'s' * (passes > 1)}"
        label = f"train on {count:,} notes, {spoken}: peak resident set"
        note = "made-up notes, with validation and calibration"
        yield Row(SECTION, label, peak, "GB", aim=AT_MOST_GB, note=note)
    for passes, words in ((epochs, "as many steps"), (1, "one epoch each")):
        label = f"{many:,} notes against {few:,}, {words}"
        ratio = peaks[many, 1] / peaks[few, passes]
        yield Row(SECTION, label, ratio, "x", aim=APART)


def _peak_gb(settings: BenchmarkSettings, train_notes: int, epochs: int) -> float:
    folder = settings.folder / f"memory-{train_notes}-{epochs}"
    name = note_sets.make(folder / "data", train_notes, rendered=False)
    finished = processes.run_module(
        "mic_tf.train",
        [
            f"--dataset={name}",
            f"--data_dir={folder / 'data'}",
            f"--workdir={folder / 'run'}",
            f"--epochs={epochs}",
            *processes.network_flags(settings.width),
        ],
    )
    shutil.rmtree(folder)
    return finished.peak_bytes / 1e9
