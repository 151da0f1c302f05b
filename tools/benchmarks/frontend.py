"""The log-mel front-end on batches of notes, against librosa and PyTorch."""

import contextlib
import functools
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from mic_tf import command
from mic_tf.model.frontend import LogMel
from mic_tf.settings import FrontEndSettings
from mic_tf.taxonomy import SAMPLE_RATE
from tools.benchmarks import alternatives
from tools.benchmarks.apart import Apart
from tools.benchmarks.measuring import Aim, Row, in_turn, missing, rate_row, ratio_row
from tools.benchmarks.notes import Notes
from tools.benchmarks.settings import BenchmarkSettings
from tools.benchmarks.trainees import BATCH

SECTION = "frontend"
_OURS = "LogMel"
_BY_XLA = "LogMel by XLA, as with --jit"
_LIBROSA = "librosa, note by note"
_TORCH = "torch.stft and mel product"
_BATCHES_A_ROUND = 16
_NO_GPU_IN_LIBROSA = "librosa computes on the CPU: --device=cpu has it"
AGAINST_LIBROSA = Aim(6.0, hoped=8.0)
AGAINST_TORCH = Aim(1.25, hoped=1.5)

FrontEnd = Callable[[], object]
"""Computes the decibels of the batch, float32 [batch, frames, n_mels]."""
Built = tuple[np.ndarray, FrontEnd]
"""The decibels, and what computes them again."""
Build = Callable[[np.ndarray, FrontEndSettings, bool], Built]
"""From float32 [batch, samples], the settings, and whether a GPU computes: there the
waveforms lie on it before, and the decibels stay."""


def measure(settings: BenchmarkSettings, notes: Notes) -> Iterator[Row]:
    """Notes a second of each, and how far apart their results are."""
    batch = settings.gpu_batch if settings.on_gpu else BATCH
    waveforms, _ = notes.batch(batch)
    floats = waveforms.astype(np.float32) / 32768
    repeats = 1 if settings.quick else _BATCHES_A_ROUND
    with contextlib.ExitStack() as stack:
        processes = {}
        for name, build in _frontends(settings).items():
            arguments = (floats, FrontEndSettings(), settings.on_gpu)
            process = Apart(build, arguments, repeats)
            processes[name] = stack.enter_context(process)
        expected = processes[_OURS].result
        apart = {
            name: float(np.abs(process.result - expected).max())
            for name, process in processes.items()
        }
        timings = in_turn(
            {name: process.run for name, process in processes.items()},
            seconds=settings.seconds,
            least_rounds=settings.least_rounds,
        )
    work = batch * repeats
    yield rate_row(SECTION, _OURS, timings[_OURS], work, note=f"batches of {batch}")
    if _BY_XLA in timings:
        yield rate_row(SECTION, _BY_XLA, timings[_BY_XLA], work)
    no_librosa = _NO_GPU_IN_LIBROSA if settings.on_gpu else alternatives.NO_LIBROSA
    no_torch = alternatives.why_no_torch(settings.on_gpu)
    for name, aim, why in (
        (_LIBROSA, AGAINST_LIBROSA, no_librosa),
        (_TORCH, AGAINST_TORCH, no_torch),
    ):
        aim = None if settings.on_gpu else aim  # They are for CPUs.
        if name not in timings:
            yield missing(SECTION, f"{_OURS} against {name}", why, aim)
            continue
        note = f"results at most {apart[name]:.4f} dB apart"
        yield ratio_row(SECTION, timings, _OURS, name, work=work, aim=aim, note=note)
        if _BY_XLA in timings:
            yield ratio_row(SECTION, timings, _BY_XLA, name, work=work, note=note)


def _frontends(settings: BenchmarkSettings) -> dict[str, Build]:
    """Those that can be had here."""
    found = {_OURS: build_ours}
    if settings.on_gpu:
        found[_BY_XLA] = functools.partial(build_ours, jit=True)
    if alternatives.librosa() and not settings.on_gpu:
        found[_LIBROSA] = build_librosa
    if not alternatives.why_no_torch(settings.on_gpu):
        found[_TORCH] = build_torch
    return found


def build_ours(
    waveforms: np.ndarray,
    settings: FrontEndSettings,
    on_gpu: bool,
    jit: bool = False,
) -> Built:
    command.keep_heap_small()  # As every command of ours does; this process is ours.
    function = tf.function(
        LogMel.from_settings(settings).decibels, jit_compile=jit or None
    )
    tensor = tf.constant(waveforms)
    if not on_gpu:
        return _built(lambda: function(tensor).numpy())

    def run() -> None:
        function(tensor)
        tf.test.experimental.sync_devices()

    return function(tensor).numpy(), run


def build_librosa(
    waveforms: np.ndarray, settings: FrontEndSettings, on_gpu: bool
) -> Built:
    del on_gpu
    return _built(lambda: librosa_decibels(waveforms, settings))


def build_torch(
    waveforms: np.ndarray, settings: FrontEndSettings, on_gpu: bool
) -> Built:
    torch = alternatives.torch()  # Sets its threads.
    from tools.benchmarks.torch_network import TorchFrontEnd

    if not on_gpu:
        frontend = TorchFrontEnd(settings)
        return _built(lambda: frontend.on_numpy(waveforms))
    frontend = TorchFrontEnd(settings, "cuda")
    tensor = torch.from_numpy(waveforms).to("cuda")

    def run() -> None:
        with torch.no_grad():
            frontend.decibels(tensor)
        torch.cuda.synchronize()

    return frontend.decibels(tensor).cpu().numpy().transpose(0, 2, 1), run


def _built(run: FrontEnd) -> Built:
    return run(), run


def librosa_decibels(waveforms: np.ndarray, settings: FrontEndSettings) -> np.ndarray:
    """Decibels by librosa, one note after the other.

    Args:
      waveforms: float32 [batch, samples].
      settings: the same as ours.

    Returns:
      float32 [batch, frames, n_mels].
    """
    librosa = alternatives.librosa()
    rows = []
    for waveform in waveforms:
        mel = librosa.feature.melspectrogram(
            y=waveform,
            sr=SAMPLE_RATE,
            n_fft=settings.n_fft,
            hop_length=settings.hop_length,
            n_mels=settings.n_mels,
            fmin=settings.fmin,
            fmax=settings.fmax,
            htk=True,
            norm=None,
            center=True,
            pad_mode="constant",
            power=2.0,
        )
        decibels = librosa.power_to_db(mel, ref=np.max, top_db=settings.top_db)
        rows.append(decibels.T)
    return np.stack(rows)
