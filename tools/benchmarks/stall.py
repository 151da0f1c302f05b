"""The share of training time that is spent waiting for input."""

import statistics
import time
from collections.abc import Callable, Iterator

import tensorflow as tf

from mic_tf.taxonomy import FAMILIES
from tools.benchmarks import input as input_section
from tools.benchmarks.measuring import Aim, Row, missing
from tools.benchmarks.notes import Notes
from tools.benchmarks.settings import NO_GPU, BenchmarkSettings
from tools.benchmarks.trainees import BATCH, Stepper, run_settings, same_batch

SECTION = "stall"
_ROUNDS = 3
_DEVICE_WAITS = "the GPU waits"
_WARM_UP = 3
AIM = Aim(2.0, at_most=True)


def measure(settings: BenchmarkSettings, notes: Notes) -> Iterator[Row]:
    """Of training steps fed from disk, by either way to balance."""
    yield _waiting(settings, input_section.REJECTION, input_section.rejection(notes))
    if notes.shards is None:
        why = "the set has no record files by family: prepare --family_shards"
        yield missing(SECTION, input_section.STREAMS, why, AIM)
    else:
        yield _waiting(settings, input_section.STREAMS, input_section.streams(notes))
    if settings.on_gpu:
        yield _device_waits(settings, notes)
    elif settings.device == "gpu":
        yield missing(SECTION, _DEVICE_WAITS, NO_GPU)


def _stepper(settings: BenchmarkSettings, dataset: Callable) -> Stepper:
    return Stepper(run_settings(settings.width), len(FAMILIES), dataset)


def _waiting(settings: BenchmarkSettings, name: str, data: tf.data.Dataset) -> Row:
    """Time in `next` of all time, in steps that end before the next batch is asked."""
    stepper = _stepper(settings, lambda context: data)
    for _ in range(_WARM_UP):
        stepper.step(stepper.next_batch())
    shares, step_times = [], []
    for _ in range(_ROUNDS):
        waited = 0.0
        began = time.perf_counter()
        for _ in range(settings.stall_steps):
            asked = time.perf_counter()
            batch = stepper.next_batch()
            waited += time.perf_counter() - asked
            stepper.step(batch)
        total = time.perf_counter() - began
        shares.append(100.0 * waited / total)
        step_times.append(total / settings.stall_steps)
    note = (
        f"{settings.stall_steps} steps of {BATCH} notes a round, "
        f"{1000 * statistics.median(step_times):.0f} ms a step"
    )
    return Row(
        SECTION,
        f"{name}: time waiting for input",
        statistics.median(shares),
        "%",
        min(shares),
        max(shares),
        _ROUNDS,
        AIM,
        note,
    )


def _device_waits(settings: BenchmarkSettings, notes: Notes) -> Row:
    """How much longer steps from disk take than steps on a batch in memory."""
    data = input_section.rejection(notes)
    fed = _stepper(settings, lambda context: data)
    resident = _stepper(settings, same_batch(*notes.batch(BATCH)))
    batch = resident.next_batch()

    def seconds(step: Callable[[], float]) -> float:
        began = time.perf_counter()
        for _ in range(settings.stall_steps):
            step()
        return time.perf_counter() - began

    def from_disk() -> float:
        return fed.step(fed.next_batch())

    from_disk(), resident.step(batch)
    shares = []
    for _ in range(_ROUNDS):
        free = seconds(lambda: resident.step(batch))
        shares.append(100.0 * max(0.0, 1.0 - free / seconds(from_disk)))
    middle, low, high = statistics.median(shares), min(shares), max(shares)
    note = "1 - (step on a batch in memory / step fed from disk)"
    return Row(SECTION, _DEVICE_WAITS, middle, "%", low, high, _ROUNDS, note=note)
