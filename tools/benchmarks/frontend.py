"""The log-mel front-end on batches of 32 notes, against librosa and PyTorch."""

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from mic_tf.model.frontend import LogMel
from mic_tf.settings import FrontEndSettings
from mic_tf.taxonomy import SAMPLE_RATE
from tools.benchmarks import alternatives
from tools.benchmarks.measuring import Aim, Row, in_turn, missing, rate_row, ratio_row
from tools.benchmarks.notes import Notes
from tools.benchmarks.settings import BenchmarkSettings
from tools.benchmarks.trainees import BATCH

SECTION = "frontend"
_OURS = "LogMel"
_LIBROSA = "librosa, note by note"
_TORCH = "torch.stft and mel product"
_BATCHES_A_ROUND = 4
AGAINST_LIBROSA = Aim(6.0, hoped=8.0)
AGAINST_TORCH = Aim(1.25, hoped=1.5)

FrontEnd = Callable[[], np.ndarray]
"""Gives the decibels of the batch, float32 [batch, frames, n_mels]."""


def measure(settings: BenchmarkSettings, notes: Notes) -> Iterator[Row]:
    """Notes a second of each, and how far apart their results are."""
    waveforms, _ = notes.batch(BATCH)
    floats = waveforms.astype(np.float32) / 32768
    frontends = _frontends(floats, FrontEndSettings())
    expected = frontends[_OURS]()
    apart = {n: float(np.abs(f() - expected).max()) for n, f in frontends.items()}
    repeats = 1 if settings.quick else _BATCHES_A_ROUND
    timings = in_turn(
        {name: _repeated(run, repeats) for name, run in frontends.items()},
        seconds=settings.seconds,
        least_rounds=settings.least_rounds,
    )
    work = BATCH * repeats
    yield rate_row(SECTION, _OURS, timings[_OURS], work, note=f"batches of {BATCH}")
    for name, aim, why in (
        (_LIBROSA, AGAINST_LIBROSA, alternatives.NO_LIBROSA),
        (_TORCH, AGAINST_TORCH, alternatives.NO_TORCH),
    ):
        if name not in timings:
            yield missing(SECTION, f"{_OURS} against {name}", why, aim)
            continue
        note = f"results at most {apart[name]:.4f} dB apart"
        yield ratio_row(SECTION, timings, _OURS, name, work=work, aim=aim, note=note)


def _repeated(run: FrontEnd, times: int) -> Callable[[], None]:
    def repeated() -> None:
        for _ in range(times):
            run()

    return repeated


def _frontends(
    waveforms: np.ndarray, settings: FrontEndSettings
) -> dict[str, FrontEnd]:
    """Those that can be had here, all on the same float32 waveforms."""
    found = {_OURS: _ours(waveforms, settings)}
    if alternatives.librosa():
        found[_LIBROSA] = lambda: librosa_decibels(waveforms, settings)
    if alternatives.torch():
        from tools.benchmarks.torch_network import TorchFrontEnd

        frontend = TorchFrontEnd(settings)
        found[_TORCH] = lambda: frontend.on_numpy(waveforms)
    return found


def _ours(waveforms: np.ndarray, settings: FrontEndSettings) -> FrontEnd:
    function = tf.function(LogMel.from_settings(settings).decibels)
    tensor = tf.constant(waveforms)
    return lambda: function(tensor).numpy()


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
