"""The training step of DeepCNN with its front-end, against the same in PyTorch."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from mic_tf import command
from mic_tf.settings import RunSettings
from mic_tf.taxonomy import FAMILIES
from tools.benchmarks import alternatives, arithmetic
from tools.benchmarks.apart import Apart, Build
from tools.benchmarks.measuring import (
    Aim,
    Row,
    Timings,
    in_turn,
    missing,
    rate_row,
    ratio_row,
)
from tools.benchmarks.notes import Notes
from tools.benchmarks.settings import NO_GPU, BenchmarkSettings
from tools.benchmarks.trainees import BATCH, Stepper, run_settings, same_batch

SECTION = "step"
_OURS = "DeepCNN step"
_EAGER = "PyTorch eager, channels last"
_COMPILED = "PyTorch torch.compile"
_PLAIN = "the same with --nowinograd --nofused_norm"
_STEPS_A_ROUND = 4
"""As in training, one right after the other."""
_STEPS_A_ROUND_ON_GPU = 16
AIM = Aim(1.5)


@dataclasses.dataclass(frozen=True)
class Way:
    """How the step is computed on a GPU.

    Attributes:
      batch: notes.
      policy: `float32`, `mixed_float16` or `mixed_bfloat16`.
    """

    batch: int
    policy: str

    @property
    def dtype(self) -> str:
        return self.policy.removeprefix("mixed_")

    @property
    def words(self) -> str:
        return f"{self.policy}, {self.batch:,} notes"


GPU_WAYS = (
    Way(1024, "mixed_bfloat16"),
    Way(1024, "float32"),
    Way(256, "float32"),
)


@dataclasses.dataclass(frozen=True)
class Ours:
    """What is to be known of our step.

    Attributes:
      weights: `weights_of` it, before the first step.
      logits: of the batch by them, float32 [batch, families].
      parameters: of the network.
      flops: of a training step for one note, without the front-end.
    """

    weights: list[np.ndarray]
    logits: np.ndarray
    parameters: int
    flops: float


def measure(settings: BenchmarkSettings, notes: Notes) -> Iterator[Row]:
    """Notes a second of each; the share of the device's matrix peak of ours."""
    if settings.on_gpu:
        for way in GPU_WAYS:
            yield from gpu_rows(settings, *notes.batch(way.batch), way)
        return
    waveforms, families = notes.batch(BATCH)
    run = training_settings(settings, BATCH)
    plain = _trained(run, winograd=False, fused_norm=False)
    timings, ours, known = _in_turn(
        settings, {_OURS: run, _PLAIN: plain}, waveforms, families
    )
    loss = known.losses[_OURS]
    note = f"batches of {BATCH}, {ours.parameters:,} parameters, {loss}"
    yield rate_row(SECTION, _OURS, timings[_OURS], BATCH, note=note)
    yield ratio_row(SECTION, timings, _OURS, _PLAIN, work=BATCH)
    yield from _against_torch(timings, _OURS, BATCH, known, AIM)
    yield _share_of_peak(settings, ours.flops, run, timings, BATCH)
    if settings.device == "gpu":
        yield from no_gpu_rows()


def no_gpu_rows() -> Iterator[Row]:
    """What `gpu_rows` would have measured."""
    for way in GPU_WAYS:
        yield missing(SECTION, f"{_OURS}, {way.words}", NO_GPU)


def gpu_rows(
    settings: BenchmarkSettings, waveforms: np.ndarray, families: np.ndarray, way: Way
) -> Iterator[Row]:
    """The step on a GPU: as it is and by XLA, against PyTorch in the same type.

    Args:
      settings: of the benchmark.
      waveforms: int16 [batch, 64000].
      families: int32 [batch].
      way: how the step is computed.
    """
    run = _trained(training_settings(settings, way.batch), mixed_precision=way.policy)
    as_it_is, by_xla = f"{_OURS}, {way.words}", f"{_OURS} --jit, {way.words}"
    runs = {as_it_is: run, by_xla: _trained(run, jit=True)}
    timings, ours, known = _in_turn(settings, runs, waveforms, families)
    for name in runs:
        note = known.losses[name]
        yield rate_row(SECTION, name, timings[name], way.batch, note=note)
    yield from _against_torch(timings, by_xla, way.batch, known)
    for name in runs:
        yield _share_of_peak(
            settings, ours.flops, run, timings, way.batch, way.dtype, name
        )


def training_settings(settings: BenchmarkSettings, batch: int) -> RunSettings:
    """The defaults of `train` with this batch size."""
    return _trained(run_settings(settings.width), batch_size=batch)


def _trained(run: RunSettings, **train: Any) -> RunSettings:
    """The run with some settings of its training changed."""
    return dataclasses.replace(run, train=dataclasses.replace(run.train, **train))


@dataclasses.dataclass
class _Known:
    """What is to be known of the steps, by name.

    Attributes:
      losses: of ours, the mean of all steps, in words.
      apart: the most by which the logits of PyTorch's differ from ours.
      reasons: why one of PyTorch's is missing.
    """

    losses: dict[str, str] = dataclasses.field(default_factory=dict)
    apart: dict[str, float] = dataclasses.field(default_factory=dict)
    reasons: dict[str, str] = dataclasses.field(default_factory=dict)


def _in_turn(
    settings: BenchmarkSettings,
    runs: dict[str, RunSettings],
    waveforms: np.ndarray,
    families: np.ndarray,
) -> tuple[Timings, Ours, _Known]:
    """Seconds a step of ours, by name, and of PyTorch's; what is to be known of them.

    PyTorch's does what the first of ours does. On a GPU they are built one after the
    other, as libraries choose kernels by timing them there.
    """
    steps = 1 if settings.quick else _STEPS_A_ROUND
    if settings.on_gpu and not settings.quick:
        steps = _STEPS_A_ROUND_ON_GPU
    known = _Known()
    with contextlib.ExitStack() as stack:

        def apart(build: Build, *arguments: Any) -> Apart:
            process = stack.enter_context(Apart(build, arguments))
            if settings.on_gpu:
                _outcome(process)
            return process

        contenders = {
            name: apart(build_ours, run, waveforms, families, steps)
            for name, run in runs.items()
        }
        ours: Ours = next(iter(contenders.values())).result
        first = next(iter(runs.values()))
        others = {
            name: apart(
                *(build_torch, first, waveforms, families, steps, ours.weights),
                *(name == _COMPILED, "cuda" if settings.on_gpu else "cpu"),
            )
            for name in _torch_names(settings, known.reasons)
        }
        for name, other in others.items():
            reason = _outcome(other)
            if reason:
                known.reasons[name] = f"does not work here: {reason}"
                continue
            known.apart[name] = float(np.abs(other.result - ours.logits).max())
            contenders[name] = other
        timings = in_turn(
            {name: process.run for name, process in contenders.items()},
            seconds=settings.seconds,
            least_rounds=settings.least_rounds,
        )
        for name in runs:
            # A step may be quick because there is nothing left to compute.
            known.losses[name] = f"loss {contenders[name].returned:.3f} in the mean"
    timings = {name: [t / steps for t in times] for name, times in timings.items()}
    return timings, ours, known


def _outcome(process: Apart) -> str:
    """Waits until it is built; the first line of why it failed, empty where not."""
    try:
        process.result  # noqa: B018 - waits
    except RuntimeError as error:
        return str(error).strip().split("\n", maxsplit=1)[0]
    return ""


def _torch_names(settings: BenchmarkSettings, reasons: dict[str, str]) -> list[str]:
    """PyTorch's steps that can be had here; `reasons` says why one is missing."""
    why = alternatives.why_no_torch(settings.on_gpu)
    if why:
        reasons |= dict.fromkeys((_EAGER, _COMPILED), why)
        return []
    if settings.quick:
        reasons[_COMPILED] = "left out by --quick: compiling takes minutes"
        return [_EAGER]
    return [_EAGER, _COMPILED]


def _against_torch(
    timings: Timings, ours: str, batch: int, known: _Known, aim: Aim | None = None
) -> Iterator[Row]:
    for name in (_EAGER, _COMPILED):
        if name not in timings:
            label = f"{ours} against {name}"
            yield missing(SECTION, label, known.reasons[name], aim)
            continue
        note = f"logits of the same weights at most {known.apart[name]:.1e} apart"
        yield ratio_row(SECTION, timings, ours, name, work=batch, aim=aim, note=note)


def build_ours(
    run: RunSettings, waveforms: np.ndarray, families: np.ndarray, steps: int
) -> tuple[Ours, Callable[[], float]]:
    """Our steps on one batch, for a process of its own; run, it gives the mean loss.

    Args:
      run: settings of the training.
      waveforms: int16 [batch, 64000].
      families: int32 [batch].
      steps: one right after the other.
    """
    command.keep_heap_small()  # As `train` does.
    stepper = Stepper(run, len(FAMILIES), same_batch(waveforms, families))
    batch = stepper.next_batch()
    model = stepper.trainee.classifier
    known = Ours(
        weights=weights_of(model),
        logits=model(tf.constant(waveforms), training=False).numpy(),
        parameters=model.count_params(),
        flops=arithmetic.training_flops(model),
    )
    stepper.run(batch)  # Traced and compiled.

    def run() -> float:
        stepper.run(batch, steps)
        return float(stepper.trainee.loss_mean.result())

    return known, run


def build_torch(
    run: RunSettings,
    waveforms: np.ndarray,
    families: np.ndarray,
    steps: int,
    weights: list[np.ndarray],
    compiled: bool,
    device: str,
) -> tuple[np.ndarray, Callable[[], None]]:
    """The same in PyTorch, beginning with our weights; its logits of the batch."""
    alternatives.torch()  # Sets its threads.
    from tools.benchmarks.torch_network import TorchStep

    step = TorchStep(
        run,
        len(FAMILIES),
        waveforms,
        families,
        compiled=compiled,
        device=device,
        dtype=run.train.mixed_precision.removeprefix("mixed_"),
    )
    step.network.take_weights(weights)
    logits = step.logits()
    step.run()  # The compiler does its work in the first, and may fail.
    return logits, lambda: step.run(steps)


def weights_of(model: keras.Model) -> list[np.ndarray]:
    """Kernels of DeepCNN in the order of its layers, and the last bias."""
    kernels = [
        layer.kernel.numpy()
        for layer in model.layers
        if layer.name.startswith(("conv_", "dense")) and hasattr(layer, "kernel")
    ]
    last = model.get_layer("logits")
    return [*kernels, last.kernel.numpy(), last.bias.numpy()]


def _share_of_peak(
    settings: BenchmarkSettings,
    flops: float,
    run: RunSettings,
    timings: Timings,
    batch: int,
    dtype: str = "float32",
    name: str = _OURS,
) -> Row:
    """Arithmetic of the step done a second, as a share of a large matrix product's."""
    peak = arithmetic.matrix_peak(dtype, _peak_size(settings))
    front = arithmetic.frontend_flops(run.frontend)
    rate = rate_row(SECTION, name, timings[name], batch)
    per_second = (rate.value, rate.low, rate.high)
    shares = [100.0 * (flops + front) * each / peak for each in per_second]
    note = (
        f"{flops / 1e9:.2f} + {front / 1e9:.3f} GFLOP a note (network, counted as "
        "direct convolutions, + front-end); "
        f"{dtype} matrix product here: {peak / 1e12:.2f} TFLOP/s"
    )
    label = f"{name}: share of the matrix peak"
    return Row(SECTION, label, *shares[:1], "%", *shares[1:], rate.rounds, note=note)


def _peak_size(settings: BenchmarkSettings) -> int:
    if settings.on_gpu:
        return 8192
    return 256 if settings.quick else 2048
