"""The share of training time that is spent waiting for input."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from mic_tf.settings import RunSettings
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
    ways = {input_section.REJECTION: input_section.rejection}
    if notes.shards is not None:
        ways[input_section.STREAMS] = input_section.streams
    for name, batches_of in ways.items():
        run = run_settings(settings.width)
        yield _waiting(settings, run, name, batches_of(notes))
    if notes.shards is None:
        why = "the set has no record files by family: prepare --family_shards"
        yield missing(SECTION, input_section.STREAMS, why, AIM)
    if settings.on_gpu:
        for name, batches_of in ways.items():
            yield _device_waits(settings, notes, name, batches_of)
    elif settings.device == "gpu":
        yield missing(SECTION, _DEVICE_WAITS, NO_GPU)


def _waiting(
    settings: BenchmarkSettings, run: RunSettings, name: str, data: tf.data.Dataset
) -> Row:
    """Time in `next` of all time, in steps that end before the next batch is asked."""
    stepper = Stepper(run, len(FAMILIES), lambda context: data)
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


def _device_waits(
    settings: BenchmarkSettings,
    notes: Notes,
    name: str,
    batches_of: Callable[[Notes, int], tf.data.Dataset],
) -> Row:
    """How much longer steps from disk take than steps on a batch in memory.

    In 16 bit and by XLA, as the step is quickest.
    """
    size = settings.gpu_batch
    train = dataclasses.replace(
        RunSettings().train,
        batch_size=size,
        mixed_precision="mixed_bfloat16",
        jit=True,
    )
    run = dataclasses.replace(run_settings(settings.width), train=train)
    data = batches_of(notes, size)
    fed = Stepper(run, len(FAMILIES), lambda context: data)
    resident = Stepper(run, len(FAMILIES), same_batch(*notes.batch(size)))
    batch = resident.next_batch()

    def seconds(next_batch: Callable[[], Any], stepper: Stepper) -> float:
        began = time.perf_counter()
        for _ in range(settings.stall_steps - 1):
            stepper.launch(next_batch())
        stepper.step(next_batch())
        return time.perf_counter() - began

    fed.step(fed.next_batch()), resident.step(batch)
    free, from_disk = [], []
    for _ in range(_ROUNDS):
        free.append(seconds(lambda: batch, resident))
        from_disk.append(seconds(fed.next_batch, fed))
    pairs = zip(free, from_disk, strict=True)
    shares = [100.0 * max(0.0, 1.0 - one / other) for one, other in pairs]
    middle, low, high = statistics.median(shares), min(shares), max(shares)
    notes_done = size * settings.stall_steps
    rates = [notes_done / statistics.median(times) for times in (from_disk, free)]
    note = (
        f"mixed_bfloat16 --jit, batches of {size:,}: {rates[0]:,.0f} notes/s fed from "
        f"disk, {rates[1]:,.0f} from a batch in memory"
    )
    label = f"{name}: {_DEVICE_WAITS}"
    return Row(SECTION, label, middle, "%", low, high, _ROUNDS, note=note)
