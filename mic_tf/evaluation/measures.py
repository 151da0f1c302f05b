"""What is measured of a note's sound in one pass: level, faults, pitch, likeness."""

import dataclasses

import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

from mic_tf.evaluation import sounds
from mic_tf.model.frontend import LogMel
from mic_tf.pipeline import batches
from mic_tf.pipeline.batches import Records
from mic_tf.taxonomy import NOTE_SAMPLES, SAMPLE_RATE
from mic_tf.tracing import as_written

FLOOR_DB = 50.0
"""A fingerprint knows nothing further below the note's loudest cell."""

STEP_DB = 0.2
"""One step of a fingerprint's cell."""

FULL_SCALE = 0.998
"""Samples from here on count as full scale."""

_BATCH = 16
_CELLS, _FRAMES_A_CELL, _BANDS = 8, 8, 64
_FFT = 4096
_PITCH_FRAMES = (4_800, 12_800)
_OVERSAMPLING = 4
_LAGS = np.arange(
    SAMPLE_RATE * _OVERSAMPLING // 2100, SAMPLE_RATE * _OVERSAMPLING // 30
)


@dataclasses.dataclass(frozen=True)
class Measures:
    """Measures of notes, one row each, in the order of the note index.

    Attributes:
      rows: of the note index, int64 [notes].
      digest: hash of the stored audio, int64 [notes]; equal for identical bytes.
      samples: stored length, int64 [notes].
      not_finite: samples that are NaN or infinite, int32 [notes].
      peak: largest magnitude, float32 [notes]; full scale is 1.
      level: root mean square, float32 [notes].
      offset: mean, float32 [notes].
      clipped: samples inside runs of three or more at full scale, int32 [notes].
      flatness: local spectral flatness in [0, 1], float32 [notes]; near 1 is noise.
      pitch: MIDI pitch of the sound, float32 [notes, 2], at two places.
      periodicity: how periodic it is there, float32 [notes, 2]; 1 is perfectly.
      periodicity_at_label: the same at the period of the labelled pitch, float32
        [notes, 2]; NaN where the label says no pitch that can be looked for.
      fingerprint: uint8 [notes, 512], see `fingerprint`.
    """

    rows: np.ndarray
    digest: np.ndarray
    samples: np.ndarray
    not_finite: np.ndarray
    peak: np.ndarray
    level: np.ndarray
    offset: np.ndarray
    clipped: np.ndarray
    flatness: np.ndarray
    pitch: np.ndarray
    periodicity: np.ndarray
    periodicity_at_label: np.ndarray
    fingerprint: np.ndarray


def measure(records: Records, selected: np.ndarray) -> Measures:
    """Reads the selected notes once, with a progress bar; about 650 bytes a note stay.

    Args:
      records: the data set.
      selected: bool [notes].
    """
    pitches = tf.constant(records.index.pitch.astype(np.float32))

    def of_batch(note: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        waveform = note.pop("waveform")
        label = tf.gather(pitches, note["row"])
        return {**note, **_measure(waveform, label)}

    columns = _collect(records, selected, of_batch, "audit")
    return Measures(**columns)


def fingerprints(records: Records, selected: np.ndarray) -> Measures:
    """Only rows, digests and fingerprints; other fields are empty."""

    def of_batch(note: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        waveform = _finite(note.pop("waveform"))
        del note["samples"]
        return {**note, "fingerprint": fingerprint(waveform)}

    columns = _collect(records, selected, of_batch, "overlap")
    names = [field.name for field in dataclasses.fields(Measures)]
    return Measures(**{name: columns.get(name, np.empty(0)) for name in names})


@as_written
def _collect(records: Records, selected: np.ndarray, of_batch, title: str) -> dict:
    total = int(selected.sum())
    dataset = sounds.raw_notes(records, selected).batch(_BATCH)
    dataset = dataset.map(of_batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)
    columns: dict[str, np.ndarray] = {}
    done = 0
    with (
        batches.faults_named(records),
        tqdm(total=total, unit="note", desc=title, disable=None) as bar,
    ):
        for batch in dataset.as_numpy_iterator():
            count = len(batch["row"])
            for name, values in batch.items():
                if name not in columns:
                    columns[name] = np.empty((total, *values.shape[1:]), values.dtype)
                columns[name][done : done + count] = values
            done += count
            bar.update(count)
    order = np.argsort(columns["row"], kind="stable")
    for name in list(columns):
        columns[name] = columns[name][order]
    columns["rows"] = columns.pop("row")
    return columns


def _finite(waveform: tf.Tensor) -> tf.Tensor:
    return tf.where(tf.math.is_finite(waveform), waveform, 0.0)


def _measure(waveform: tf.Tensor, label: tf.Tensor) -> dict[str, tf.Tensor]:
    """Measures of a batch: waveform float32 [batch, 64000], label float32 [batch]."""
    not_finite = tf.math.count_nonzero(
        ~tf.math.is_finite(waveform), axis=1, dtype=tf.int32
    )
    waveform = _finite(waveform)
    magnitude = tf.abs(waveform)
    full = magnitude >= FULL_SCALE
    run = full[:, 2:] & full[:, 1:-1] & full[:, :-2]
    run = tf.pad(run, [[0, 0], [2, 2]])
    in_run = run[:, 2:] | run[:, 1:-1] | run[:, :-2]
    pitch, periodicity, at_label = _periods(waveform, label)
    return {
        "not_finite": not_finite,
        "peak": tf.reduce_max(magnitude, axis=1),
        "level": tf.sqrt(tf.reduce_mean(tf.square(waveform), axis=1)),
        "offset": tf.reduce_mean(waveform, axis=1),
        "clipped": tf.math.count_nonzero(in_run, axis=1, dtype=tf.int32),
        "flatness": local_flatness(waveform),
        "pitch": pitch,
        "periodicity": periodicity,
        "periodicity_at_label": at_label,
        "fingerprint": fingerprint(waveform),
    }


def fingerprint(waveform: tf.Tensor) -> tf.Tensor:
    """A coarse log-mel that is the same whatever the level: 8 times × 64 bands.

    Decibels below the loudest cell, down to `FLOOR_DB`, in steps of `STEP_DB`.

    Args:
      waveform: float32 [batch, 64000].

    Returns:
      uint8 [batch, 512].
    """
    layer = LogMel(n_fft=2048, hop_length=1024, n_mels=_BANDS)
    power = layer.mel_power(waveform)
    frames = _CELLS * _FRAMES_A_CELL
    power = tf.pad(power, [[0, 0], [0, frames - power.shape[1]], [0, 0]])
    cells = tf.reshape(power, [-1, _CELLS, _FRAMES_A_CELL, _BANDS])
    cells = tf.reshape(tf.reduce_mean(cells, axis=2), [-1, _CELLS * _BANDS])
    loudest = tf.reduce_max(cells, axis=1, keepdims=True)
    ratio = tf.maximum(cells, 1e-20) / tf.maximum(loudest, 1e-20)
    decibels = 10.0 / np.log(10.0) * tf.math.log(ratio)
    steps = tf.round((tf.maximum(decibels, -FLOOR_DB) + FLOOR_DB) / STEP_DB)
    return tf.cast(steps, tf.uint8)


def local_flatness(waveform: tf.Tensor) -> tf.Tensor:
    """Spectral flatness in bands of 250 Hz, their mean weighted by energy.

    The flatness of a band is the geometric over the arithmetic mean of its power
    spectrum, averaged over the note. In narrow bands coloured noise is flat too,
    while partials stand out whatever the timbre.

    Args:
      waveform: float32 [batch, 64000].

    Returns:
      float32 [batch]: about 1 for noise, below 0.3 for most notes; 0 for silence.
    """
    spectrum = tf.signal.stft(waveform, _FFT, _FFT // 2, fft_length=_FFT)
    power = tf.reduce_mean(tf.square(tf.abs(spectrum)), axis=1)
    bands = tf.reshape(power[:, 16:1936], [-1, 30, 64])
    mean = tf.reduce_mean(bands, axis=2)
    log_mean = tf.reduce_mean(tf.math.log(tf.maximum(bands, 1e-20)), axis=2)
    flatness = tf.math.divide_no_nan(tf.exp(log_mean), mean)
    energy = tf.reduce_sum(mean, axis=1)
    flatness = tf.where(mean > 1e-18, flatness, 0.0)
    return tf.math.divide_no_nan(tf.reduce_sum(flatness * mean, axis=1), energy)


def _periods(
    waveform: tf.Tensor, label: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Pitch by autocorrelation at two places, each result [batch, 2]."""
    results = [
        _period(waveform[:, start : start + _FFT], label) for start in _PITCH_FRAMES
    ]
    pitch, periodicity, at_label = (
        tf.stack(part, axis=1) for part in zip(*results, strict=True)
    )
    return pitch, periodicity, at_label


def _period(
    frame: tf.Tensor, label: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Pitch, periodicity and periodicity at the labelled pitch, each [batch].

    The shortest period among those that repeat nearly as well as the best one: the
    autocorrelation also peaks at its multiples.
    """
    frame = frame - tf.reduce_mean(frame, axis=1, keepdims=True)
    spectrum = tf.signal.rfft(frame, [2 * _FFT])
    power = tf.square(tf.abs(spectrum))
    # Zeros above the spectrum interpolate the autocorrelation.
    longer = _OVERSAMPLING * 2 * _FFT
    power = tf.pad(power, [[0, 0], [0, longer // 2 + 1 - power.shape[1]]])
    correlation = tf.signal.irfft(tf.cast(power, tf.complex64), [longer])
    taper = 1.0 - _LAGS / (_FFT * _OVERSAMPLING)
    at_lags = correlation[:, _LAGS[0] : _LAGS[-1] + 1] / taper.astype(np.float32)
    ratio = tf.math.divide_no_nan(at_lags, correlation[:, :1])
    middle = ratio[:, 1:-1]
    is_peak = (middle >= ratio[:, :-2]) & (middle > ratio[:, 2:])
    peaks = tf.where(is_peak, middle, 0.0)
    best = tf.reduce_max(peaks, axis=1)
    enough = peaks >= 0.97 * tf.maximum(best, 1e-6)[:, tf.newaxis]
    lag = tf.gather(_LAGS[1:-1].astype(np.float32), tf.argmax(enough, axis=1))
    pitch = _midi(SAMPLE_RATE * _OVERSAMPLING / lag)
    pitches = _midi(SAMPLE_RATE * _OVERSAMPLING / _LAGS.astype(np.float32))
    near = tf.abs(pitches[tf.newaxis] - label[:, tf.newaxis]) <= 0.6
    at_label = tf.reduce_max(tf.where(near, ratio, -1.0), axis=1)
    at_label = tf.where(tf.reduce_any(near, axis=1), at_label, np.nan)
    return pitch, best, at_label


def _midi(frequency: tf.Tensor) -> tf.Tensor:
    return 69.0 + 12.0 / np.log(2.0) * tf.math.log(tf.cast(frequency, tf.float32) / 440)


assert NOTE_SAMPLES // 1024 < _CELLS * _FRAMES_A_CELL
