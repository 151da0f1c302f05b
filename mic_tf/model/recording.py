"""Other recordings of the same notes: rooms, microphones, codecs, cuts.

What happens to a sound between instrument and file is done here to its log-mel, in
decibels: time is moved and stretched by a matrix over frames, rooms smear power over
time, microphones and codecs are curves over the bands, a noise floor is added as
power. Behind it each log-mel is what the front-end would have made of it: relative to
its own maximum, clipped `top_db` below. Every op compiles under XLA.
"""

import numpy as np
import tensorflow as tf

from mic_tf.errors import UserError
from mic_tf.model import pieces, randomness
from mic_tf.model.frontend import mel_edges
from mic_tf.settings import AugmentSettings, FrontEndSettings
from mic_tf.taxonomy import NOTE_SAMPLES, SAMPLE_RATE

_NOTE_SECONDS = NOTE_SAMPLES / SAMPLE_RATE
_DECIBELS = 10.0 / float(np.log(10.0))
"""Of a natural logarithm of power."""
_CUT_DB_PER_OCTAVE = 24.0
_ONSET_DB = 40.0
_LOW_CUT_FROM = 40.0
"""Hz from which the octaves of a low cut are counted."""
_LOWEST_LIMIT = 3000.0
"""Hz above which a note of a low rate has nothing, at the least; the codecs of speech
and files of 8,000 Hz come near it."""
_LIMIT_DB_PER_BAND = 40.0


def check_bounds(settings: AugmentSettings, fmax: float) -> None:
    """Refuses to take away what the log-mels do not have.

    Args:
      settings: what is to be done to notes.
      fmax: highest frequency of the bands in Hz.

    Raises:
      UserError: `low_rate` would do nothing.
    """
    if settings.low_rate and fmax <= _LOWEST_LIMIT:
        raise UserError(
            f"--low_rate={settings.low_rate:g}: takes away what is above "
            f"{_LOWEST_LIMIT:g} Hz at the least, and --fmax={fmax:g} leaves nothing "
            "there; leave it out"
        )


def record_again(
    log_mel: tf.Tensor, settings: AugmentSettings, frontend: FrontEndSettings
) -> tf.Tensor:
    """Each log-mel as another recording of the note would give it.

    Args:
      log_mel: float32 [batch, frames, n_mels] in [-1, 1].
      settings: what to do.
      frontend: of the log-mels: their bands' place and the decibels between -1 and 1.

    Returns:
      The changed log-mels in [-1, 1]; unchanged where nothing is switched on.
    """
    wanted = [
        settings.crop_seconds or settings.stretch,
        settings.loop,
        settings.pitch_semitones,
        settings.decay_db,
        settings.echo,
        settings.tilt_db or settings.equalise_db or settings.band_pass_octaves,
        settings.floor_db,
        settings.low_rate,
    ]
    if not any(wanted):
        return log_mel
    top_db = frontend.top_db
    hertz = band_hertz(frontend)
    decibels = (log_mel - 1.0) * (top_db / 2.0)
    if settings.crop_seconds or settings.stretch:
        decibels = retime(
            decibels, settings.crop_seconds, settings.stretch, silence=-2.0 * top_db
        )
    if settings.loop:
        decibels = loop(decibels, settings.loop)
    if settings.pitch_semitones:
        decibels = change_pitch(decibels, settings.pitch_semitones, top_db, hertz)
    if settings.decay_db:
        decibels = fade(decibels, settings.decay_db)
    if settings.echo:
        decibels = echo(decibels, settings.echo)
    decibels += response(decibels, settings, hertz)
    if settings.floor_db:
        decibels = noise_floor(_below_maximum(decibels), settings.floor_db, top_db)
    if settings.low_rate:
        decibels = limit_band(decibels, settings.low_rate, hertz)
    decibels = tf.maximum(_below_maximum(decibels), -top_db)
    recorded = 1.0 + decibels * (2.0 / top_db)
    batch = pieces.sizes(log_mel)[0]
    chosen = randomness.uniform("record_again", [batch, 1, 1]) < settings.record_again
    return tf.where(chosen, recorded, log_mel)


def retime(
    decibels: tf.Tensor, longest_cut: float, stretch: float, silence: float
) -> tf.Tensor:
    """Starts later into the note, ends early and stretches, by linear interpolation.

    Args:
      decibels: [batch, frames, n_mels].
      longest_cut: seconds that may be missing in front, on half the notes.
      stretch: largest change of tempo.
      silence: decibels of what the recording does not have.
    """
    batch, frames, _ = decibels.shape
    batch = batch or tf.shape(decibels)[0]
    draws = randomness.uniform("retime", [batch, 5])
    per_second = (frames - 1) / _NOTE_SECONDS
    tempo = tf.exp((2.0 * draws[:, 0:1] - 1.0) * float(np.log1p(stretch)))
    first = tf.where(draws[:, 1:2] < 0.5, draws[:, 2:3] * longest_cut * per_second, 0.0)
    kept = 0.2 + 3.8 * draws[:, 4:5]
    ends = draws[:, 3:4] < (1 / 3 if longest_cut else 0.0)
    last = tf.where(ends, kept * per_second, float(frames))
    frame = tf.range(frames, dtype=tf.float32)[tf.newaxis]
    source = first + frame * tempo
    present = (source <= frames - 1.0) & (frame <= last)
    distance = tf.abs(source[:, :, tf.newaxis] - frame[:, tf.newaxis, :])
    moved = tf.matmul(tf.maximum(1.0 - distance, 0.0), decibels)
    return tf.where(present[:, :, tf.newaxis], moved, silence)


def loop(decibels: tf.Tensor, share: float) -> tf.Tensor:
    """Lets the sound stand still from some moment on; only its level goes on.

    So sound the short loops of samplers: no vibrato, no bow, no beats. The spectrum is
    the mean of up to half a second that begins 0.1 to 1 s after the note's onset, the
    first frame within 40 dB of its loudest.

    Args:
      decibels: [batch, frames, n_mels].
      share: of the notes that are looped.
    """
    batch, frames, _ = decibels.shape
    batch = batch or tf.shape(decibels)[0]
    draws = randomness.uniform("loop", [batch, 3])
    per_second = (frames - 1) / _NOTE_SECONDS
    frame = tf.range(frames, dtype=tf.float32)[tf.newaxis]
    level = _level(decibels)
    audible = level[..., 0] >= tf.reduce_max(level, axis=1) - _ONSET_DB
    onset = tf.argmax(tf.cast(audible, tf.float32), axis=1, output_type=tf.int32)
    onset = tf.cast(onset, tf.float32)[:, tf.newaxis]
    start = onset + tf.floor((0.1 + 0.9 * draws[:, :1]) * per_second)
    length = 1.0 + tf.floor(0.5 * per_second * draws[:, 1:2])
    looped = tf.cast((frame >= start) & (frame < start + length), tf.float32)
    looped /= tf.maximum(tf.reduce_sum(looped, axis=1, keepdims=True), 1.0)
    still = tf.matmul(looped[:, tf.newaxis], decibels - level)
    later = (frame >= start) & (draws[:, 2:] < share)
    return tf.where(later[:, :, tf.newaxis], still - _level(still) + level, decibels)


def change_pitch(
    decibels: tf.Tensor, most: float, top_db: float, hertz: np.ndarray
) -> tf.Tensor:
    """Scales all frequencies by one factor, as another playing speed does.

    Args:
      decibels: [batch, frames, n_mels].
      most: semitones up or down.
      top_db: depth of the silence above what the recording had.
      hertz: centres of the bands, [n_mels].
    """
    batch, _, n_mels = pieces.sizes(decibels)
    semitones = most * (2.0 * randomness.uniform("pitch", [batch, 1]) - 1.0)
    source_hertz = hertz * tf.pow(2.0, -semitones / 12.0)
    # Bands are as far apart as each other on the mel scale.
    mel = np.log1p(hertz / 700.0)
    per_mel = (n_mels - 1) / (mel[-1] - mel[0])
    band = (tf.math.log1p(source_hertz / 700.0) - mel[0]) * per_mel
    place = tf.maximum(band, 0.0)[:, tf.newaxis, :]
    bands = tf.range(n_mels, dtype=tf.float32)[tf.newaxis, :, tf.newaxis]
    weight = tf.maximum(1.0 - tf.abs(place - bands), 0.0)
    # Beyond the last band no weight is left: silence.
    return tf.matmul(decibels + 2.0 * top_db, weight) - 2.0 * top_db


def fade(decibels: tf.Tensor, largest_db: float) -> tf.Tensor:
    """Adds a slope over time of up to `largest_db` from the first frame to the last."""
    batch, frames, _ = pieces.sizes(decibels)
    slope = largest_db * (2.0 * randomness.uniform("fade", [batch, 1, 1]) - 1.0)
    return decibels + slope * tf.linspace(0.0, 1.0, frames)[tf.newaxis, :, tf.newaxis]


def echo(decibels: tf.Tensor, share: float) -> tf.Tensor:
    """Adds the decay of a room: power smeared exponentially over later frames."""
    batch, frames, _ = decibels.shape
    batch = batch or tf.shape(decibels)[0]
    draws = randomness.uniform("echo", [batch, 3, 1, 1])
    seconds = 0.1 * tf.pow(20.0, draws[:, 0])
    level = tf.pow(10.0, -2.5 * draws[:, 1])
    level = tf.where(draws[:, 2] < share, level, 0.0)
    frame = np.arange(frames, dtype=np.float32)
    age = frame[:, np.newaxis] - frame[np.newaxis]
    later = tf.constant((age >= 1).astype(np.float32))[tf.newaxis]
    age = tf.constant(np.maximum(age, 0.0))[tf.newaxis]
    # 60 dB less after `seconds`.
    per_frame = float(-np.log(1e6) * _NOTE_SECONDS / (frames - 1)) / seconds
    kernel = later * tf.exp(per_frame * age)
    kernel *= level / tf.reduce_sum(kernel[:, -1:], axis=2, keepdims=True)
    power = _to_power(decibels)
    return _to_decibels(power + tf.matmul(kernel, power))


def response(
    decibels: tf.Tensor, settings: AugmentSettings, hertz: np.ndarray
) -> tf.Tensor:
    """A random frequency response in dB, [batch, 1, n_mels]; `hertz`: of the bands."""
    batch, _, n_mels = pieces.sizes(decibels)
    place = np.linspace(0.0, 1.0, n_mels, dtype=np.float32)
    draws = randomness.uniform("response", [batch, 9])
    curve = settings.tilt_db * (2.0 * draws[:, 0:1] - 1.0) * (place - 0.5)
    if settings.equalise_db:
        orders = np.arange(1, 5)
        waves = np.cos(np.pi * orders[:, np.newaxis] * place).astype(np.float32)
        # Four cosines of uniform amplitude: their variance adds up to 4 / 6.
        curve += settings.equalise_db * 1.22 * ((2.0 * draws[:, 1:5] - 1.0) @ waves)
    if settings.band_pass_octaves:
        octave = np.log2(hertz / _LOW_CUT_FROM)
        most = settings.band_pass_octaves
        uncut = min(-1.0, float(octave[0]))
        low = tf.where(draws[:, 5:6] < 1 / 3, most * draws[:, 6:7], uncut)
        high = tf.where(draws[:, 7:8] < 1 / 3, most * draws[:, 8:9], -1.0)
        beyond = tf.maximum(low - octave, 0.0)
        beyond += tf.maximum(high - (octave[-1] - octave), 0.0)
        curve -= _CUT_DB_PER_OCTAVE * beyond
    return curve[:, tf.newaxis]


def noise_floor(decibels: tf.Tensor, loudest_db: float, top_db: float) -> tf.Tensor:
    """Adds coloured noise to half the notes, `loudest_db` to `top_db` below maximum."""
    batch, frames, n_mels = pieces.sizes(decibels)
    draws = randomness.uniform("floor", [batch, 3, 1, 1])
    level = -(loudest_db + (top_db - loudest_db) * draws[:, 0])
    level = tf.where(draws[:, 1] < 0.5, level, -4.0 * top_db)
    place = np.linspace(-0.5, 0.5, n_mels, dtype=np.float32)
    colour = 40.0 * (draws[:, 2] - 0.5) * place
    grain = randomness.normal("floor_grain", [batch, frames, n_mels], stddev=3.0)
    noise = level + colour + grain
    return _to_decibels(_to_power(decibels) + _to_power(noise))


def limit_band(decibels: tf.Tensor, share: float, hertz: np.ndarray) -> tf.Tensor:
    """Takes away what files of lower sample rates and lossy codecs do not have.

    Nothing is left above a frequency between 3 kHz and the last band, uniform over the
    bands.

    Args:
      decibels: [batch, frames, n_mels].
      share: of the notes that are limited.
      hertz: centres of the bands, [n_mels].
    """
    batch, _, n_mels = pieces.sizes(decibels)
    draws = randomness.uniform("limit_band", [batch, 2])
    band = np.arange(n_mels, dtype=np.float32)
    lowest = float(np.interp(_LOWEST_LIMIT, hertz, band))
    last = lowest + (n_mels - 1 - lowest) * draws[:, :1]
    last = tf.where(draws[:, 1:] < share, last, float(n_mels))
    cut = _LIMIT_DB_PER_BAND * tf.maximum(band - last, 0.0)
    return decibels - cut[:, tf.newaxis]


def band_hertz(frontend: FrontEndSettings) -> np.ndarray:
    """Centres of the bands in Hz, float32 [n_mels]."""
    edges = mel_edges(frontend.n_mels, frontend.fmin, frontend.fmax)
    return edges[1:-1].astype(np.float32)


def _below_maximum(decibels: tf.Tensor) -> tf.Tensor:
    return decibels - tf.reduce_max(decibels, axis=(1, 2), keepdims=True)


def _level(decibels: tf.Tensor) -> tf.Tensor:
    """Decibels of all bands together, [batch, frames, 1]."""
    return _to_decibels(tf.reduce_sum(_to_power(decibels), axis=2, keepdims=True))


def _to_decibels(power: tf.Tensor) -> tf.Tensor:
    return _DECIBELS * tf.math.log(tf.maximum(power, 1e-16))


def _to_power(decibels: tf.Tensor) -> tf.Tensor:
    return tf.exp(decibels / _DECIBELS)
