"""Augmentation of training batches, on the device, inside the training step.

Waveforms are changed before the front-end and log-mels behind it. All chance comes
from `randomness`, every op compiles under XLA, and none of it is in the model, so
none can be in an exported graph or in an evaluation.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from mic_tf.model import compiling, pieces, randomness, recording
from mic_tf.model.frontend import floats
from mic_tf.settings import AugmentSettings, FrontEndSettings
from mic_tf.taxonomy import SAMPLE_RATE

_BYTES_DEVIATION = ((256**2 - 1) / 12) ** 0.5
"""Standard deviation of a byte of which all values are as likely."""


class Change(NamedTuple):
    """What is done to each note of a batch, as chance will have it.

    Attributes:
      function: makes changed waveforms of waveforms, float32 [notes, samples], and of
        what was drawn for these notes.
      drawn: [batch, ...] each.
    """

    function: Callable[..., tf.Tensor]
    drawn: Sequence[tf.Tensor]


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
    changes = []
    if settings.shift_seconds:
        changes.append(delay(waveform, settings.shift_seconds))
    if settings.drive_db:
        changes.append(overdrive(waveform, settings.drive_db))
    if settings.noise_snr_db:
        changes.append(noise(waveform, settings.noise_snr_db))
    if not (changes or settings.mixup_alpha):
        return waveform, target
    parts = apply(waveform, changes)
    if settings.mixup_alpha:
        parts, target = mixup(parts, target, settings.mixup_alpha)
    return tf.concat(parts, axis=0), target


def apply(waveform: tf.Tensor, changes: Sequence[Change]) -> list[tf.Tensor]:
    """Changes the notes of a batch, on a CPU in pieces of it.

    Args:
      waveform: int16 or float [batch, samples].
      changes: what to do, one after the other.

    Returns:
      The batch in parts, float32 [notes, samples], in about [-1, 1] before the changes.
    """
    count = pieces.count(waveform.shape[0])
    parts = [compiling.fuse(floats, part) for part in pieces.split(waveform, count)]
    for function, drawn in changes:
        drawn_of_parts = [pieces.split(tensor, count) for tensor in drawn]
        of_parts = zip(parts, *drawn_of_parts, strict=True)
        parts = [function(*of_part) for of_part in of_parts]
    return parts


def augment_log_mel(
    log_mel: tf.Tensor, settings: AugmentSettings, frontend: FrontEndSettings
) -> tf.Tensor:
    """Another recording of a batch of log-mels, then roll and SpecAugment masks.

    Args:
      log_mel: float32 [batch, frames, n_mels] in about [-1, 1].
      settings: what to do.
      frontend: of what made the log-mels: the bands' place and the decibels between
        -1 and 1.

    Returns:
      The changed log-mels, same shape.
    """
    log_mel = recording.record_again(log_mel, settings, frontend)
    if settings.roll_bands:
        log_mel = roll(log_mel, settings.roll_bands)
    for number in range(settings.time_masks):
        width = settings.time_mask_frames
        log_mel = mask(log_mel, 1, width, f"time_mask_{number}")
    for number in range(settings.freq_masks):
        width = settings.freq_mask_bands
        log_mel = mask(log_mel, 2, width, f"freq_mask_{number}")
    return log_mel


def delay(waveform: tf.Tensor, longest_seconds: float) -> Change:
    """Starts each note later, on half the notes; what runs over the end is lost."""
    batch, _ = pieces.sizes(waveform)
    longest = max(1, int(longest_seconds * SAMPLE_RATE))
    amount = randomness.uniform("delay", [batch], -longest, longest, tf.int32)
    return Change(_delayed, [tf.maximum(amount, 0)])


def overdrive(waveform: tf.Tensor, most_db: float) -> Change:
    """Drives a third of the notes by up to `most_db` over what their peak may be.

    Half of those bend (tanh, as amplifiers do), half are cut off (as converters do).
    """
    batch, _ = pieces.sizes(waveform)
    draws = randomness.uniform("overdrive", [batch, 3])
    gain = tf.pow(10.0, most_db / 20.0 * draws[:, :1])
    return Change(_driven, [gain, draws[:, 1:2] < 0.5, draws[:, 2:] < 1 / 3])


def noise(waveform: tf.Tensor, lowest_snr_db: float) -> Change:
    """Adds white noise to half the notes, between `lowest_snr_db` and 60 dB.

    Its samples are uniform; what a frame's window adds up is as good as normal.
    """
    batch, samples = pieces.sizes(waveform)
    draws = randomness.uniform("noise", [batch, 2])
    snr_db = lowest_snr_db + draws[:, :1] * (60.0 - lowest_snr_db)
    wanted = tf.cast(draws[:, 1:] < 0.5, tf.float32)
    # Four samples of each number: to draw normal ones takes eight times as long.
    numbers = randomness.uniform(
        "noise_samples", [batch, -(-samples // 4)], None, None, tf.int32
    )
    return Change(_with_noise, [wanted * tf.pow(10.0, -snr_db / 20.0), numbers])


def mixup(
    parts: Sequence[tf.Tensor], target: tf.Tensor, alpha: float
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Mixes each note with its neighbour in the batch, at equal level, and targets.

    Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization". The share is
    drawn from Kumaraswamy(alpha, alpha), which stands in for Beta(alpha, alpha): it
    has a closed inverse, where Beta needs Gamma, which XLA lacks. The larger share
    stays with the note itself.

    Args:
      parts: of a batch, float32 [notes, samples].
      target: probabilities of the families, float32 [batch, families].
      alpha: of the distribution of the shares; the smaller, the less is mixed.

    Returns:
      The mixed parts and their targets.
    """
    batch, _ = pieces.sizes(target)
    uniform = randomness.uniform("mixup", [batch, 1], 1e-6, 1.0 - 1e-6)
    share = tf.pow(1.0 - tf.pow(1.0 - uniform, 1.0 / alpha), 1.0 / alpha)
    share = tf.maximum(share, 1.0 - share)
    level = tf.concat([_level(part) for part in parts], axis=0)
    even = 0.1 / tf.maximum(level, 1e-4)
    own, neighbours = share * even, (1.0 - share) * tf.roll(even, 1, axis=0)
    last_notes = [part[-1:] for part in parts]
    of_parts = zip(
        parts,
        [last_notes[-1], *last_notes[:-1]],
        pieces.split(own, len(parts)),
        pieces.split(neighbours, len(parts)),
        strict=True,
    )
    mixed = [compiling.fuse(_mixed, *of_part) for of_part in of_parts]
    return mixed, share * target + (1.0 - share) * tf.roll(target, 1, axis=0)


def _delayed(waveform: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    return compiling.fuse(_moved, waveform, amount)


def _moved(waveform: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    _, samples = pieces.sizes(waveform)
    position = tf.range(samples)[tf.newaxis] - amount[:, tf.newaxis]
    moved = tf.gather(waveform, tf.maximum(position, 0), batch_dims=1)
    return tf.where(position >= 0, moved, 0.0)


def _driven(
    waveform: tf.Tensor, gain: tf.Tensor, bends: tf.Tensor, wanted: tf.Tensor
) -> tf.Tensor:
    highest = tf.reduce_max(waveform, axis=1, keepdims=True)
    lowest = tf.reduce_min(waveform, axis=1, keepdims=True)
    peak = tf.maximum(highest, -lowest)
    return compiling.fuse(_bent_or_cut, waveform, peak, gain, bends, wanted)


def _bent_or_cut(
    waveform: tf.Tensor,
    peak: tf.Tensor,
    gain: tf.Tensor,
    bends: tf.Tensor,
    wanted: tf.Tensor,
) -> tf.Tensor:
    loud = waveform * (gain / tf.maximum(peak, 1e-4))
    driven = tf.where(bends, tf.tanh(loud), tf.clip_by_value(loud, -1.0, 1.0))
    return tf.where(wanted, peak * driven, waveform)


def _with_noise(waveform: tf.Tensor, share: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
    notes, samples = pieces.sizes(waveform)
    white = tf.reshape(tf.bitcast(numbers, tf.int8), [notes, -1])[:, :samples]
    level = share * _level(waveform) / _BYTES_DEVIATION
    return compiling.fuse(_sum_of_both, waveform, white, level)


def _sum_of_both(waveform: tf.Tensor, white: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    return waveform + level * (tf.cast(white, tf.float32) + 0.5)


def _mixed(
    waveform: tf.Tensor, before: tf.Tensor, own: tf.Tensor, neighbours: tf.Tensor
) -> tf.Tensor:
    """Each note and the one before it, of the first that of `before`."""
    return own * waveform + neighbours * tf.concat([before, waveform[:-1]], axis=0)


def _level(waveform: tf.Tensor) -> tf.Tensor:
    """Root mean square of each note, [notes, 1]."""
    return tf.sqrt(tf.reduce_mean(tf.square(waveform), axis=1, keepdims=True))


def roll(log_mel: tf.Tensor, most_bands: int) -> tf.Tensor:
    """Shifts each log-mel by up to `most_bands`; what comes in is the edge band."""
    batch, _, n_mels = pieces.sizes(log_mel)
    amount = randomness.uniform(
        "roll", [batch, 1], -most_bands, most_bands + 1, tf.int32
    )
    source = tf.clip_by_value(tf.range(n_mels)[tf.newaxis] - amount, 0, n_mels - 1)
    # A product with a permutation matrix: gathers along the last axis are slow.
    permutation = tf.one_hot(source, n_mels, axis=1, dtype=log_mel.dtype)
    return tf.matmul(log_mel, permutation)


def mask(log_mel: tf.Tensor, axis: int, widest: int, name: str) -> tf.Tensor:
    """Hides a random stretch of each log-mel along one axis behind the note's mean.

    Park et al. 2019, "SpecAugment". A stretch begins anywhere between two places, so
    the very first, the attack or the lowest band, is never hidden.

    Args:
      log_mel: [batch, frames, n_mels].
      axis: 1 for time, 2 for frequency.
      widest: the widest stretch, in frames or bands.
      name: tells the masks of a step apart.
    """
    shape = pieces.sizes(log_mel)
    size = shape[axis]
    draws = randomness.uniform(name, [2, shape[0], 1])
    width = draws[0] * tf.cast(tf.minimum(widest, size), tf.float32)
    start = draws[1] * (tf.cast(size, tf.float32) - width)
    place = tf.cast(tf.range(size), tf.float32)[tf.newaxis]
    hidden = (place >= start) & (place < start + width)
    hidden = tf.expand_dims(hidden, 2 if axis == 1 else 1)
    mean = tf.reduce_mean(log_mel, axis=(1, 2), keepdims=True)
    return tf.where(hidden, mean, log_mel)
