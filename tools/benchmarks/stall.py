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
from tools.benchmarks.measuring import Aim, Row, in_turn, missing
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
        yield _waiting(settings, name, batches_of(notes))
    if notes.shards is None:
        why = "the set has no record files by family: prepare --family_shards"
        yield missing(SECTION, input_section.STREAMS, why, AIM)
    if settings.on_gpu:
        yield from device_waits(settings, notes, ways)
    elif settings.device == "gpu":
        yield missing(SECTION, _DEVICE_WAITS, NO_GPU)


def _waiting(settings: BenchmarkSettings, name: str, data: tf.data.Dataset) -> Row:
    """Time in `next` of all time, in steps that end before the next batch is asked."""
    run = run_settings(settings.width)
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
        None if settings.on_gpu else AIM,
        note,
    )


def device_waits(
    settings: BenchmarkSettings,
    notes: Notes,
    ways: dict[str, Callable[[Notes, int], tf.data.Dataset]],
) -> Iterator[Row]:
    """How much longer steps from disk take than steps on a batch in memory.

    In 16 bit and by XLA, as the step is quickest.

    Args:
      settings: of the benchmark.
      notes: a prepared set.
      ways: training batches of a size, by the way in which they are balanced.
    """
    size = settings.gpu_batch
    train = dataclasses.replace(
        RunSettings().train,
        batch_size=size,
        mixed_precision="mixed_bfloat16",
        jit=True,
    )
    run = dataclasses.replace(run_settings(settings.width), train=train)
    stepper = Stepper(run, len(FAMILIES), same_batch(*notes.batch(size)))
    in_memory = stepper.next_batch()

    def seconds(next_batch: Callable[[], Any]) -> float:
        began = time.perf_counter()
        for _ in range(settings.stall_steps - 1):
            stepper.launch(next_batch())
        stepper.step(next_batch())
        return time.perf_counter() - began

    for name, batches_of in ways.items():
        data = batches_of(notes, size)
        fed = stepper.batches(lambda context, data=data: data)
        timings = in_turn(
            {
                "memory": lambda: seconds(lambda: in_memory),
                "disk": lambda fed=fed: seconds(lambda: next(fed)),
            },
            seconds=0.0,
            least_rounds=_ROUNDS,
        )
        pairs = zip(timings["memory"], timings["disk"], strict=True)
        shares = [100.0 * max(0.0, 1.0 - memory / disk) for memory, disk in pairs]
        work = size * settings.stall_steps
        rates = {name: work / statistics.median(t) for name, t in timings.items()}
        yield Row(
            SECTION,
            f"{name}: {_DEVICE_WAITS}",
            statistics.median(shares),
            "%",
            min(shares),
            max(shares),
            _ROUNDS,
            note=f"mixed_bfloat16 --jit, batches of {size:,}: {rates['disk']:,.0f} "
            f"notes/s fed from disk, {rates['memory']:,.0f} from a batch in memory",
        )
