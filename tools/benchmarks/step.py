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
from tools.benchmarks.apart import Apart
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
_GPU_BATCH = 256
_STEPS_A_ROUND = 4
"""As in training, one right after the other."""
AIM = Aim(1.5)


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
    batch = _GPU_BATCH if settings.on_gpu else BATCH
    waveforms, families = notes.batch(batch)
    run = training_settings(settings, batch)
    with contextlib.ExitStack() as stack:
        steps = 1 if settings.quick else _STEPS_A_ROUND
        arguments = (run, waveforms, families)
        step = stack.enter_context(Apart(build_ours, arguments, steps))
        ours: Ours = step.result
        contenders = {_OURS: step.run}
        if not settings.on_gpu:
            plain_run = _trained(run, winograd=False, fused_norm=False)
            plain = Apart(build_ours, (plain_run, waveforms, families), steps)
            contenders[_PLAIN] = stack.enter_context(plain).run
        apart, reasons = {}, {}
        arguments = (*arguments, ours.weights)
        for name, other in _torch_steps(settings, arguments, steps, reasons, stack):
            contenders[name] = other.run
            apart[name] = float(np.abs(other.result - ours.logits).max())
        timings = in_turn(
            contenders, seconds=settings.seconds, least_rounds=settings.least_rounds
        )
    note = f"batches of {batch}, {ours.parameters:,} parameters"
    timings = {name: [t / steps for t in times] for name, times in timings.items()}
    yield rate_row(SECTION, _OURS, timings[_OURS], batch, note=note)
    if _PLAIN in timings:
        yield ratio_row(SECTION, timings, _OURS, _PLAIN, work=batch)
    yield from _against_torch(timings, batch, reasons, apart)
    yield _share_of_peak(settings, ours.flops, run, timings, batch)
    yield from gpu_rows(settings, run, waveforms, families)


def training_settings(settings: BenchmarkSettings, batch: int) -> RunSettings:
    """The defaults of `train` with this batch size."""
    return _trained(run_settings(settings.width), batch_size=batch)


def _trained(run: RunSettings, **train: Any) -> RunSettings:
    """The run with some settings of its training changed."""
    return dataclasses.replace(run, train=dataclasses.replace(run.train, **train))


def _against_torch(
    timings: Timings, batch: int, reasons: dict[str, str], apart: dict[str, float]
) -> Iterator[Row]:
    for name in (_EAGER, _COMPILED):
        if name not in timings:
            yield missing(SECTION, f"{_OURS} against {name}", reasons[name], AIM)
            continue
        note = f"logits of the same weights at most {apart[name]:.1e} apart"
        yield ratio_row(SECTION, timings, _OURS, name, work=batch, aim=AIM, note=note)


def _torch_steps(
    settings: BenchmarkSettings,
    arguments: tuple,
    steps: int,
    reasons: dict[str, str],
    stack: contextlib.ExitStack,
) -> Iterator[tuple[str, Apart]]:
    """PyTorch's steps by name; `reasons` says why one is missing."""
    torch = alternatives.torch()
    if torch is None:
        reasons |= dict.fromkeys((_EAGER, _COMPILED), alternatives.NO_TORCH)
        return
    if settings.on_gpu and not torch.cuda.is_available():
        why = "this torch has no GPU; a CUDA build is needed"
        reasons |= dict.fromkeys((_EAGER, _COMPILED), why)
        return
    device = "cuda" if settings.on_gpu else "cpu"
    eager = Apart(build_torch, (*arguments, False, device), steps)
    yield _EAGER, stack.enter_context(eager)
    if settings.quick:
        reasons[_COMPILED] = "left out by --quick: compiling takes minutes"
        return
    try:
        compiled = Apart(build_torch, (*arguments, True, device), steps)
    except RuntimeError as error:
        first_line = str(error).strip().split("\n", maxsplit=1)[0]
        reasons[_COMPILED] = f"does not work here: {first_line}"
        return
    yield _COMPILED, stack.enter_context(compiled)


def build_ours(
    run: RunSettings, waveforms: np.ndarray, families: np.ndarray
) -> tuple[Ours, Callable[[], None]]:
    """Our step on one batch, for a process of its own.

    Args:
      run: settings of the training.
      waveforms: int16 [batch, 64000].
      families: int32 [batch].
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
    return known, lambda: stepper.run(batch)


def build_torch(
    run: RunSettings,
    waveforms: np.ndarray,
    families: np.ndarray,
    weights: list[np.ndarray],
    compiled: bool,
    device: str,
) -> tuple[np.ndarray, Callable[[], None]]:
    """The same in PyTorch, beginning with our weights; its logits of the batch."""
    alternatives.torch()  # Sets its threads.
    from tools.benchmarks.torch_network import TorchStep

    step = TorchStep(
        run, len(FAMILIES), waveforms, families, compiled=compiled, device=device
    )
    step.network.take_weights(weights)
    logits = step.logits()
    step.run()  # The compiler does its work in the first, and may fail.
    return logits, step.run


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


GPU_VARIANTS = (
    ("float32, XLA", "float32", True),
    ("mixed_float16", "mixed_float16", False),
    ("mixed_float16, XLA", "mixed_float16", True),
    ("mixed_bfloat16, XLA", "mixed_bfloat16", True),
)
"""Name, numeric policy, and whether the step is compiled by XLA."""


def gpu_rows(
    settings: BenchmarkSettings,
    run: RunSettings,
    waveforms: np.ndarray,
    families: np.ndarray,
) -> Iterator[Row]:
    """The same step in 16 bit and under XLA."""
    if settings.device != "gpu":
        return
    if not settings.gpu_found:
        for name, *_ in GPU_VARIANTS:
            label = f"{_OURS}, {name}"
            yield missing(SECTION, label, NO_GPU)
        return
    for name, policy, jit in GPU_VARIANTS:
        yield from variant_rows(settings, run, (name, policy, jit), waveforms, families)


def variant_rows(
    settings: BenchmarkSettings,
    run: RunSettings,
    variant: tuple[str, str, bool],
    waveforms: np.ndarray,
    families: np.ndarray,
) -> Iterator[Row]:
    """Notes a second and share of the matrix peak of one variant of the step.

    Args:
      settings: of the benchmark.
      run: of the training.
      variant: one of `GPU_VARIANTS`.
      waveforms: int16 [batch, 64000].
      families: int32 [batch].
    """
    name, policy, jit = variant
    label = f"{_OURS}, {name}"
    changed = _trained(run, mixed_precision=policy, jit=jit)
    stepper = Stepper(changed, len(FAMILIES), same_batch(waveforms, families))
    batch = stepper.next_batch()
    timings = in_turn(
        {label: lambda: stepper.run(batch)},
        seconds=settings.seconds / 2,
        least_rounds=settings.least_rounds,
    )
    size = len(waveforms)
    yield rate_row(SECTION, label, timings[label], size, note=f"batches of {size}")
    dtype = policy.removeprefix("mixed_")
    flops = arithmetic.training_flops(stepper.trainee.classifier)
    yield _share_of_peak(settings, flops, changed, timings, size, dtype, label)
