"""The training step of DeepCNN with its front-end, against the same in PyTorch."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from mic_tf.settings import RunSettings
from mic_tf.taxonomy import FAMILIES
from mic_tf.training.trainee import Trainee
from tools.benchmarks import alternatives, arithmetic
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
_GPU_BATCH = 256
AIM = Aim(1.5)


def measure(settings: BenchmarkSettings, notes: Notes) -> Iterator[Row]:
    """Notes a second of each; the share of the device's matrix peak of ours."""
    batch = _GPU_BATCH if settings.on_gpu else BATCH
    waveforms, families = notes.batch(batch)
    run = training_settings(settings, batch)
    stepper = Stepper(run, len(FAMILIES), same_batch(waveforms, families))
    ours = stepper.next_batch()
    contenders = {_OURS: lambda: stepper.run(ours)}
    reasons, apart = {}, None
    others = _torch_steps(settings, run, waveforms, families, reasons)
    if others:
        apart = difference(stepper.trainee, others[_EAGER], waveforms)
        contenders |= {name: each.run for name, each in others.items()}
    timings = in_turn(
        contenders, seconds=settings.seconds, least_rounds=settings.least_rounds
    )
    parameters = f"{stepper.trainee.classifier.count_params():,} parameters"
    note = f"batches of {batch}, {parameters}"
    yield rate_row(SECTION, _OURS, timings[_OURS], batch, note=note)
    yield from _against_torch(timings, batch, reasons, apart)
    yield _share_of_peak(settings, stepper.trainee, run, timings, batch)
    yield from gpu_rows(settings, run, waveforms, families)


def training_settings(settings: BenchmarkSettings, batch: int) -> RunSettings:
    """The defaults of `train` with this batch size."""
    run = run_settings(settings.width)
    train = dataclasses.replace(run.train, batch_size=batch)
    return dataclasses.replace(run, train=train)


def _against_torch(
    timings: Timings, batch: int, reasons: dict[str, str], apart: float | None
) -> Iterator[Row]:
    for name in (_EAGER, _COMPILED):
        if name not in timings:
            yield missing(SECTION, f"{_OURS} against {name}", reasons[name], AIM)
            continue
        note = f"logits of the same weights at most {apart:.1e} apart"
        yield ratio_row(SECTION, timings, _OURS, name, work=batch, aim=AIM, note=note)


def _torch_steps(
    settings: BenchmarkSettings,
    run: RunSettings,
    waveforms: np.ndarray,
    families: np.ndarray,
    reasons: dict[str, str],
) -> dict:
    """PyTorch's steps by name; `reasons` says why one is missing."""
    torch = alternatives.torch()
    reasons |= dict.fromkeys((_EAGER, _COMPILED), alternatives.NO_TORCH)
    if torch is None:
        return {}
    if settings.on_gpu and not torch.cuda.is_available():
        reasons |= dict.fromkeys(
            (_EAGER, _COMPILED), "this torch has no GPU; a CUDA build is needed"
        )
        return {}
    from tools.benchmarks.torch_network import TorchStep

    device = "cuda" if settings.on_gpu else "cpu"

    def step(compiled: bool) -> TorchStep:
        return TorchStep(
            run,
            len(FAMILIES),
            waveforms,
            families,
            compiled=compiled,
            device=device,
        )

    found = {_EAGER: step(False)}
    if settings.quick:
        reasons[_COMPILED] = "left out by --quick: compiling takes minutes"
        return found
    compiled = step(True)
    try:
        compiled.step()
    except Exception as error:  # noqa: BLE001 - whatever stops the compiler is the answer
        first_line = str(error).strip().split("\n", maxsplit=1)[0]
        reasons[_COMPILED] = f"does not work here: {type(error).__name__}: {first_line}"
        return found
    return {**found, _COMPILED: compiled}


def difference(trainee: Trainee, other, waveforms: np.ndarray) -> float:
    """How far apart the logits of both are with the same weights."""
    model = trainee.classifier
    kernels = [
        layer.kernel.numpy()
        for layer in model.layers
        if layer.name.startswith(("conv_", "dense")) and hasattr(layer, "kernel")
    ]
    last = model.get_layer("logits")
    other.network.take_weights([*kernels, last.kernel.numpy(), last.bias.numpy()])
    expected = model(tf.constant(waveforms), training=False).numpy()
    return float(np.abs(other.logits() - expected).max())


def _share_of_peak(
    settings: BenchmarkSettings,
    trainee: Trainee,
    run: RunSettings,
    timings: Timings,
    batch: int,
    dtype: str = "float32",
    name: str = _OURS,
) -> Row:
    """Arithmetic of the step done a second, as a share of a large matrix product's."""
    peak = arithmetic.matrix_peak(dtype, _peak_size(settings))
    flops = arithmetic.training_flops(trainee.classifier)
    front = arithmetic.frontend_flops(run.frontend)
    rate = rate_row(SECTION, name, timings[name], batch)
    per_second = (rate.value, rate.low, rate.high)
    shares = [100.0 * (flops + front) * each / peak for each in per_second]
    note = (
        f"{flops / 1e9:.2f} + {front / 1e9:.3f} GFLOP a note (network + front-end); "
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
    train = dataclasses.replace(run.train, mixed_precision=policy, jit=jit)
    changed = dataclasses.replace(run, train=train)
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
    yield _share_of_peak(
        settings, stepper.trainee, changed, timings, size, dtype, label
    )
