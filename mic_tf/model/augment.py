"""Augmentation of training batches, on the device, inside the training step.

Waveforms are changed before the front-end and log-mels behind it. All chance comes
from `randomness`, every op compiles under XLA, and none of it is in the model, so
none can be in an exported graph or in an evaluation.
"""

import tensorflow as tf

from mic_tf.model import randomness, recording
from mic_tf.settings import AugmentSettings
from mic_tf.taxonomy import SAMPLE_RATE


def augment_waveforms(
    waveform: tf.Tensor, target: tf.Tensor, settings: AugmentSettings
) -> tuple[tf.Tensor, tf.Tensor]:
    """Delay, overdrive, noise and mixup of a batch.

    Args:
      waveform: int16 or float [batch, samples].
      target: probabilities of the families, float32 [batch, families].
      settings: what to do.

    Returns:
      The changed waveforms, float32 in about [-1, 1], and their targets. Unchanged
      (also in dtype) where nothing is switched on.
    """
    wanted = [
        settings.shift_seconds,
        settings.drive_db,
        settings.noise_snr_db,
        settings.mixup_alpha,
    ]
    if not any(wanted):
        return waveform, target
    if waveform.dtype.is_integer:
        waveform = tf.cast(waveform, tf.float32) / 32768.0
    if settings.shift_seconds:
        waveform = delay(waveform, settings.shift_seconds)
    if settings.drive_db:
        waveform = overdrive(waveform, settings.drive_db)
    if settings.noise_snr_db:
        waveform = add_noise(waveform, settings.noise_snr_db)
    if settings.mixup_alpha:
        waveform, target = mixup(waveform, target, settings.mixup_alpha)
    return waveform, target


def augment_log_mel(
    log_mel: tf.Tensor, settings: AugmentSettings, top_db: float = 80.0
) -> tf.Tensor:
    """Another recording of a batch of log-mels, then roll and SpecAugment masks.

    Args:
      log_mel: float32 [batch, frames, n_mels] in about [-1, 1].
      settings: what to do.
      top_db: decibels between -1 and 1, as the front-end scales them.

    Returns:
      The changed log-mels, same shape.
    """
    log_mel = recording.record_again(log_mel, settings, top_db)
    if settings.roll_bands:
        log_mel = roll(log_mel, settings.roll_bands)
    for number in range(settings.time_masks):
        width = settings.time_mask_frames
        log_mel = mask(log_mel, 1, width, f"time_mask_{number}")
    for number in range(settings.freq_masks):
        width = settings.freq_mask_bands
        log_mel = mask(log_mel, 2, width, f"freq_mask_{number}")
    return log_mel


def delay(waveform: tf.Tensor, longest_seconds: float) -> tf.Tensor:
    """Starts each note later, on half the notes; what runs over the end is lost."""
    batch, samples = _shape(waveform)
    longest = int(longest_seconds * SAMPLE_RATE)
    amount = tf.random.stateless_uniform(
        [batch], randomness.seed_for("delay"), -longest, longest, tf.int32
    )
    position = tf.range(samples)[tf.newaxis] - tf.maximum(amount, 0)[:, tf.newaxis]
    moved = tf.gather(waveform, tf.maximum(position, 0), batch_dims=1)
    return tf.where(position >= 0, moved, 0.0)


def overdrive(waveform: tf.Tensor, most_db: float) -> tf.Tensor:
    """Drives a third of the notes by up to `most_db` over what their peak may be.

    Half of those bend (tanh, as amplifiers do), half are cut off (as converters do).
    """
    batch, _ = _shape(waveform)
    draws = tf.random.stateless_uniform([batch, 3], randomness.seed_for("overdrive"))
    peak = tf.reduce_max(tf.abs(waveform), axis=1, keepdims=True)
    gain = tf.pow(10.0, most_db / 20.0 * draws[:, :1]) / tf.maximum(peak, 1e-4)
    bent = tf.tanh(waveform * gain)
    cut = tf.clip_by_value(waveform * gain, -1.0, 1.0)
    driven = peak * tf.where(draws[:, 1:2] < 0.5, bent, cut)
    return tf.where(draws[:, 2:] < 1 / 3, driven, waveform)


def add_noise(waveform: tf.Tensor, lowest_snr_db: float) -> tf.Tensor:
    """Adds white noise to half the notes, between `lowest_snr_db` and 60 dB."""
    batch, samples = _shape(waveform)
    draws = tf.random.stateless_uniform([batch, 2], randomness.seed_for("noise"))
    snr_db = lowest_snr_db + draws[:, :1] * (60.0 - lowest_snr_db)
    wanted = tf.cast(draws[:, 1:] < 0.5, tf.float32)
    level = tf.sqrt(tf.reduce_mean(tf.square(waveform), axis=1, keepdims=True))
    noise = tf.random.stateless_normal(
        [batch, samples], randomness.seed_for("noise_samples")
    )
    return waveform + wanted * level * tf.pow(10.0, -snr_db / 20.0) * noise


def mixup(
    waveform: tf.Tensor, target: tf.Tensor, alpha: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mixes each note with its neighbour in the batch, at equal level, and targets.

    Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization". The share is
    drawn from Kumaraswamy(alpha, alpha), which stands in for Beta(alpha, alpha): it
    has a closed inverse, where Beta needs Gamma, which XLA lacks. The larger share
    stays with the note itself.
    """
    batch, _ = _shape(waveform)
    uniform = tf.random.stateless_uniform(
        [batch, 1], randomness.seed_for("mixup"), 1e-6, 1.0 - 1e-6
    )
    share = tf.pow(1.0 - tf.pow(1.0 - uniform, 1.0 / alpha), 1.0 / alpha)
    share = tf.maximum(share, 1.0 - share)
    level = tf.sqrt(tf.reduce_mean(tf.square(waveform), axis=1, keepdims=True))
    even = waveform * 0.1 / tf.maximum(level, 1e-4)
    mixed = share * even + (1.0 - share) * tf.roll(even, 1, axis=0)
    return mixed, share * target + (1.0 - share) * tf.roll(target, 1, axis=0)


def roll(log_mel: tf.Tensor, most_bands: int) -> tf.Tensor:
    """Shifts each log-mel by up to `most_bands`; what comes in is the edge band."""
    batch, _, n_mels = _shape(log_mel)
    amount = tf.random.stateless_uniform(
        [batch, 1], randomness.seed_for("roll"), -most_bands, most_bands + 1, tf.int32
    )
    source = tf.clip_by_value(tf.range(n_mels)[tf.newaxis] - amount, 0, n_mels - 1)
    # A product with a permutation matrix: gathers along the last axis are slow.
    permutation = tf.one_hot(source, n_mels, axis=1, dtype=log_mel.dtype)
    return tf.matmul(log_mel, permutation)


def mask(log_mel: tf.Tensor, axis: int, widest: int, name: str) -> tf.Tensor:
    """Silences a random stretch of each log-mel along one axis.

    Park et al. 2019, "SpecAugment". The stretch gets the note's own mean.

    Args:
      log_mel: [batch, frames, n_mels].
      axis: 1 for time, 2 for frequency.
      widest: the widest stretch, in frames or bands.
      name: tells the masks of a step apart.
    """
    shape = _shape(log_mel)
    size = shape[axis]
    draws = tf.random.stateless_uniform([2, shape[0], 1], randomness.seed_for(name))
    width = draws[0] * tf.cast(tf.minimum(widest, size), tf.float32)
    start = draws[1] * (tf.cast(size, tf.float32) - width)
    place = tf.cast(tf.range(size), tf.float32)[tf.newaxis]
    hidden = (place >= start) & (place < start + width)
    hidden = tf.expand_dims(hidden, 2 if axis == 1 else 1)
    mean = tf.reduce_mean(log_mel, axis=(1, 2), keepdims=True)
    return tf.where(hidden, mean, log_mel)


def _shape(tensor: tf.Tensor) -> list:
    """Sizes of a tensor, static ones where they are known."""
    dynamic = tf.shape(tensor)
    return [s if s is not None else dynamic[i] for i, s in enumerate(tensor.shape)]
