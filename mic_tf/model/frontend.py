"""The log-mel front-end, a layer of the exported graph."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from mic_tf.errors import UserError
from mic_tf.model import pieces
from mic_tf.settings import FrontEndSettings
from mic_tf.taxonomy import SAMPLE_RATE

_PACKAGE = "mic_tf"
_AMIN = 1e-10
_BANDS_TOGETHER = 24
"""Mel bands of one product, about."""
_LEAST_SILENCE = 0.02
"""Seconds of leading silence that matter; the attacks of NSynth's notes are shorter."""
_ATTACK = 0.0025
"""Seconds for which NSynth's notes, in the median, are not yet as loud as that."""
_EDGE_DB = 20.0
"""Frames with zeros before the first sample hear an offset, or noise, begin: that is no
sound if it is so far below the loudest point and above what follows."""
_NOISE_SECONDS = 0.2
"""The beginning, in which background noise is looked for."""
_NOISE_SPREAD_DB = 9.0
"""Frames of steady noise are as loud as each other within this."""
_NOISE_DB = 21.0
"""Noise is this far below the loudest point, at least."""
_ABOVE_NOISE_DB = 7.0
"""A frame of a sound is this far above the loudest one of the noise."""
_SWELL_DB = 4.0
"""Noise is no louder or softer than this, in the mean, just before the sound."""
_OF_LOUDEST, _OF_MEAN = 1.5, 7.0
"""A sample of a sound is larger by so much than the largest of the noise, or than the
mean: the lower of both. In white noise they are about the same; hum has a high mean,
and a click before the sound a high maximum."""


def mel_weights(n_fft: int, n_mels: int, fmin: float, fmax: float) -> np.ndarray:
    """Triangular mel bands, HTK scale, peak 1: librosa's `htk=True, norm=None`.

    The slopes are straight in Hz, as librosa's and HTK's are. Those of
    `tf.signal.linear_to_mel_weight_matrix` are straight in mel, which puts some bands
    of a real note more than 0.03 dB off.

    Returns:
      float32 [n_fft // 2 + 1, n_mels].
    """
    edges = mel_edges(n_mels, fmin, fmax)
    bins = np.fft.rfftfreq(n_fft, 1.0 / SAMPLE_RATE)[:, np.newaxis]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins - low) / (centre - low)
    falling = (high - bins) / (high - centre)
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)


def mel_edges(n_mels: int, fmin: float, fmax: float) -> np.ndarray:
    """Where mel bands begin, peak and end in Hz: float64 [n_mels + 2].

    Band number i begins at i, peaks at i + 1 and ends at i + 2, on HTK's scale.
    """
    edges_mel = np.linspace(_hz_to_mel(fmin), _hz_to_mel(fmax), n_mels + 2)
    return 700.0 * (10.0 ** (edges_mel / 2595.0) - 1.0)


def check_bounds(n_fft: int, fmin: float, fmax: float) -> None:
    """Checks what `LogMel` can be made of.

    Raises:
      UserError: it cannot; names the flags.
    """
    if n_fft & (n_fft - 1):
        raise UserError(f"--n_fft={n_fft}: a power of two expected, as 1024")
    if not 0 <= fmin < fmax <= SAMPLE_RATE / 2:
        raise UserError(
            f"--fmin={fmin} --fmax={fmax}: 0 <= fmin < fmax <= {SAMPLE_RATE // 2} "
            "expected"
        )


def empty_bands(settings: FrontEndSettings) -> int:
    """How many mel bands no bin of the spectrum falls into."""
    weights = mel_weights(settings.n_fft, settings.n_mels, settings.fmin, settings.fmax)
    return int((weights.max(axis=0) == 0).sum())


@dataclasses.dataclass(frozen=True)
class _BandGroup:
    """Neighbouring mel bands and the bins that they are made of.

    Attributes:
      bins: from the first bin that any of them hears to the last.
      weights: float32 [bins, bands].
    """

    bins: slice
    weights: np.ndarray


def _band_groups(weights: np.ndarray) -> list[_BandGroup]:
    """Cuts a mel matrix into products without most of its zeros.

    Each band hears few bins, the low ones very few: groups of 24 bands have a quarter
    of the matrix. An accelerator multiplies whole matrices best.

    Args:
      weights: float32 [bins, bands].
    """
    count = max(1, round(weights.shape[1] / _BANDS_TOGETHER))
    if pieces.on_accelerator():
        count = 1
    groups = []
    for columns in np.array_split(weights, count, axis=1):
        heard = np.flatnonzero(columns.any(axis=1))
        bins = slice(heard[0], heard[-1] + 1) if heard.size else slice(0, 1)
        groups.append(_BandGroup(bins, columns[bins]))
    return groups


def _turned(waveform: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """Waveforms [batch, samples] from sample `start`, [batch], what was before last."""
    samples = tf.shape(waveform)[1]
    if waveform.shape[0] == 1:
        # TFLite gathers sample by sample; a slice is one copy.
        twice = tf.concat([waveform, waveform], axis=1)
        turned = tf.slice(twice, [0, start[0]], [1, samples])
    else:
        order = (tf.range(samples) + start[:, tf.newaxis]) % samples
        turned = tf.gather(waveform, order, batch_dims=1)
    return tf.ensure_shape(turned, waveform.shape)


def _mean_where(chosen: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """The mean of the chosen values of each row, [rows]; 0 where none is."""
    count = tf.reduce_sum(tf.cast(chosen, tf.float32), axis=1)
    total = tf.reduce_sum(tf.where(chosen, values, 0.0), axis=1)
    return total / tf.maximum(count, 1.0)


def floats(waveform: tf.Tensor) -> tf.Tensor:
    """Waveforms as float32; int16 is scaled to [-1, 1]."""
    if waveform.dtype.is_integer:
        return tf.cast(waveform, tf.float32) / 32768.0
    return tf.cast(waveform, tf.float32)


def _hz_to_mel(frequency: float) -> float:
    return 2595.0 * np.log10(1.0 + frequency / 700.0)


def _is_asked_for_its_shape() -> bool:
    """Whether a functional model is being put together: its graph is thrown away."""
    if tf.executing_eagerly():
        return False
    graph = tf.compat.v1.get_default_graph()
    return getattr(graph, "name", "").endswith("_scratch_graph")


@keras.saving.register_keras_serializable(_PACKAGE)
class LogMel(keras.layers.Layer):
    """Log-mel spectrogram of 16 kHz waveforms, scaled to about [-1, 1].

    Centred frames with zero padding, periodic Hann window, power spectrogram, HTK mel
    bands, decibels relative to the note's maximum, clipped
    `top_db` below it. Before the scaling it equals librosa's
    `power_to_db(melspectrogram(htk=True, norm=None, center=True,
    pad_mode="constant", power=2.0), ref=np.max, top_db=top_db)`.

    Input: `[batch, samples]`, int16, or float in [-1, 1].
    Output: `[batch, 1 + samples // hop_length, n_mels]`, float32; -1 is `top_db`
    below the loudest point of the note, 1 that point. A silent note is 1 throughout,
    as librosa has it. Outside training silence before a sound is moved behind it, from
    some 0.03 s on: samples whose frames are more than `skip_silence_db` below the
    loudest point, up to the first sample that is less far below. Steady noise (0.2 s or
    more, at least 21 dB below the loudest point), or any soft sound as steady as that,
    counts as silence, and so does a constant offset.

    Args:
      n_fft: samples of an FFT, a power of two (TFLite's FFT needs that).
      hop_length: samples between frames.
      n_mels: mel bands.
      fmin: lowest frequency in Hz.
      fmax: highest frequency in Hz.
      top_db: decibels kept below the maximum.
      skip_silence_db: see above; 0, or `top_db` and more: all samples stay.
    """

    def __init__(
        self,
        n_fft: int = 1024,
        hop_length: int = 512,
        n_mels: int = 96,
        fmin: float = 20.0,
        fmax: float = 8000.0,
        top_db: float = 80.0,
        skip_silence_db: float = 0.0,
        **kwargs: Any,
    ):
        # tf.signal.stft is float32 only, whatever the numeric policy.
        kwargs["dtype"] = "float32"
        super().__init__(**{"trainable": False, **kwargs})
        check_bounds(n_fft, fmin, fmax)
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.n_mels = n_mels
        self.fmin = fmin
        self.fmax = fmax
        self.top_db = top_db
        self.skip_silence_db = skip_silence_db
        self._autocast = False
        self._mel_weights = mel_weights(n_fft, n_mels, fmin, fmax)

    @classmethod
    def from_settings(cls, settings: FrontEndSettings, **kwargs: Any) -> "LogMel":
        return cls(
            n_fft=settings.n_fft,
            hop_length=settings.hop_length,
            n_mels=settings.n_mels,
            fmin=settings.fmin,
            fmax=settings.fmax,
            top_db=settings.top_db,
            skip_silence_db=settings.skip_silence_db,
            **kwargs,
        )

    def call(self, waveform: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        decibels = self.decibels(waveform)
        skips = 0 < self.skip_silence_db < self.top_db and not training
        # What Keras only asks the shape of is traced in vain, for a second.
        if skips and not _is_asked_for_its_shape():
            decibels = self._without_silence_before(waveform, decibels)
        return 1.0 + 2.0 * decibels / self.top_db

    def decibels(self, waveform: tf.Tensor) -> tf.Tensor:
        """Decibels below each note's maximum, in [-top_db, 0]: before the scaling."""
        count = pieces.count(waveform.shape[0])
        if count == 1:
            return self._decibels(waveform)
        of_piece = self._decibels
        if not tf.executing_eagerly():
            # Traced once for all; TensorFlow puts what it does in place of each call.
            of_piece = tf.function(of_piece, autograph=False)
        parts = [of_piece(part) for part in tf.split(waveform, count)]
        return tf.concat(parts, axis=0)

    def _decibels(self, waveform: tf.Tensor) -> tf.Tensor:
        power = self.mel_power(waveform)
        decibels = (10.0 / np.log(10.0)) * tf.math.log(tf.maximum(power, _AMIN))
        peak = tf.reduce_max(decibels, axis=(1, 2), keepdims=True)
        return tf.maximum(decibels - peak, -self.top_db)

    def _without_silence_before(
        self, waveform: tf.Tensor, decibels: tf.Tensor
    ) -> tf.Tensor:
        """The decibels, made again of the notes that begin late, as if they did not."""
        first = self._first_heard(decibels)
        if waveform.shape[0] == 1 or pieces.on_accelerator():
            return tf.cond(
                tf.reduce_any(first > 0),
                lambda: self._moved(waveform, decibels, first),
                lambda: decibels,
            )
        # Few notes begin late; each of them is looked at by itself.
        late_first = tf.argsort(tf.cast(first == 0, tf.int32), stable=True)
        count = tf.math.count_nonzero(first, dtype=tf.int32)

        def one(number: tf.Tensor, result: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            note = late_first[number, tf.newaxis]
            parts = (tf.gather(part, note) for part in (waveform, decibels, first))
            moved = self._moved(*parts)
            placed = tf.tensor_scatter_nd_update(result, note[:, tf.newaxis], moved)
            return number + 1, placed

        return tf.while_loop(lambda number, _: number < count, one, (0, decibels))[1]

    def _first_heard(self, decibels: tf.Tensor) -> tf.Tensor:
        """The frame in which each note is first heard, noise apart, int32 [batch]."""
        level = tf.reduce_max(decibels, axis=2)
        edges, count = self._edge_frames(), self._noise_frames()
        noise = level[:, edges : edges + count]
        loudest = tf.reduce_max(noise, axis=1)
        first = self._first_above(level, tf.constant([-self.skip_silence_db]))
        is_steady = (
            (loudest - tf.reduce_min(noise, axis=1) <= _NOISE_SPREAD_DB)
            & (loudest <= -_NOISE_DB)
            & (loudest + _ABOVE_NOISE_DB > -self.skip_silence_db)
        )

        def noise_apart() -> tf.Tensor:
            above_noise = self._first_above(level, loudest + _ABOVE_NOISE_DB)
            is_noisy = is_steady & self._is_jump(level, noise, above_noise)
            return tf.where(is_noisy, above_noise, first)

        return tf.cond(tf.reduce_any(is_steady), noise_apart, lambda: first)

    def _first_above(self, level: tf.Tensor, least: tf.Tensor) -> tf.Tensor:
        """The first of the frames [batch, frames] that is at or above `least`."""
        edges = self._edge_frames()
        heard = level >= least[:, tf.newaxis]
        after = tf.reduce_max(level[:, edges : edges + 1], axis=1, keepdims=True)
        at_edge = level[:, :edges]
        is_edge = (at_edge < -_EDGE_DB) & (at_edge > after)
        heard = tf.concat([heard[:, :edges] & ~is_edge, heard[:, edges:]], axis=1)
        return tf.argmax(tf.cast(heard, tf.float32), axis=1, output_type=tf.int32)

    def _is_jump(
        self, level: tf.Tensor, noise: tf.Tensor, frame: tf.Tensor
    ) -> tf.Tensor:
        """Whether what comes before a frame [batch] is steady, and no note that swells.

        Far from the beginning, `noise`, it is as loud there as just before the frame;
        nearer the frame is louder than the noise would be, went it on as it began.
        """
        edges, count = self._edge_frames(), self._noise_frames()
        last = tf.shape(level)[1] - 1
        places = frame[:, tf.newaxis] - 1 - tf.range(1, 1 + count)
        places = tf.minimum(tf.maximum(places, edges), last)
        before = tf.gather(level, places, batch_dims=1)
        change = tf.reduce_mean(before, axis=1) - tf.reduce_mean(noise, axis=1)
        a_frame = tf.maximum(noise[:, -1:] - noise[:, :1], 0.0) / (count - 1)
        ahead = frame - (edges + count - 1)
        begun = tf.reduce_max(noise, axis=1, keepdims=True)
        begun += a_frame * tf.cast(ahead, tf.float32)[:, tf.newaxis]
        found = tf.gather(level, frame, batch_dims=1)
        is_above = tf.reduce_all(found[:, tf.newaxis] > begun + _SWELL_DB, axis=1)
        is_far = frame - 1 - count >= edges + count
        return tf.where(is_far, tf.abs(change) <= _SWELL_DB, is_above)

    def _edge_frames(self) -> int:
        """Frames that begin before the first sample."""
        return -(-self.n_fft // 2 // self.hop_length)

    def _noise_frames(self) -> int:
        return max(2, round(_NOISE_SECONDS * SAMPLE_RATE / self.hop_length))

    def _moved(
        self, waveform: tf.Tensor, decibels: tf.Tensor, first: tf.Tensor
    ) -> tf.Tensor:
        """The decibels of waveforms that may begin late, `first` heard in that frame.

        Those stay as given that begin in frame 0 or soon, as slow attacks do.
        """
        start = self._start(waveform, first)
        least = round((_LEAST_SILENCE - _ATTACK) * SAMPLE_RATE)
        start = tf.where((first > 0) & (start >= least), start, 0)
        return tf.cond(
            tf.reduce_any(start > 0),
            lambda: self.decibels(_turned(waveform, start)),
            lambda: decibels,
        )

    def _start(self, waveform: tf.Tensor, frame: tf.Tensor) -> tf.Tensor:
        """The sample at which a sound begins that is first heard in a frame.

        Args:
          waveform: [batch, samples].
          frame: int32 [batch]; what is said of frame 0 means nothing.

        Returns:
          int32 [batch].
        """
        # The frame before would have heard it earlier, this one does not hear it later.
        earliest = (frame - 1) * self.hop_length + self.n_fft // 4
        span = self.hop_length + self.n_fft // 4
        samples = tf.shape(waveform)[1]
        places = earliest[:, tf.newaxis] + tf.range(span + 1)
        places = tf.clip_by_value(places, 0, samples - 1)
        sound = tf.cast(waveform, tf.float32)
        count = self._noise_frames()
        length = tf.minimum(count * self.hop_length + self.n_fft // 4, samples)
        head = tf.range(length)
        before = head < earliest[:, tf.newaxis]
        offset = _mean_where(before, sound[:, :length])
        loudness = tf.abs(sound - offset[:, tf.newaxis])
        least = tf.reduce_max(loudness, axis=1) * 10.0 ** (-self.skip_silence_db / 20.0)
        # What so many frames do not hear is noise at most, single samples of it louder.
        noise = loudness[:, :length]
        unheard = head < earliest[:, tf.newaxis] - self.hop_length
        loudest = tf.reduce_max(tf.where(unheard, noise, 0.0), axis=1)
        mean = _mean_where(unheard, noise)
        louder = tf.minimum(_OF_LOUDEST * loudest, _OF_MEAN * mean)
        least = tf.where(frame > count, tf.maximum(least, louder), least)
        near = tf.gather(loudness, places, batch_dims=1)
        is_loud = near >= least[:, tf.newaxis]
        start = tf.argmax(tf.cast(is_loud, tf.float32), axis=1, output_type=tf.int32)
        start = earliest + tf.where(tf.reduce_any(is_loud, axis=1), start, span)
        start = tf.minimum(start, samples)
        return tf.maximum(start - round(_ATTACK * SAMPLE_RATE), 0)

    def mel_power(self, waveform: tf.Tensor) -> tf.Tensor:
        """Mel power spectrogram, `[batch, frames, n_mels]` float32."""
        half = self.n_fft // 2
        padded = tf.pad(floats(waveform), [[0, 0], [half, half]])
        spectrum = tf.signal.stft(
            padded, self.n_fft, self.hop_length, fft_length=self.n_fft
        )
        power = tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum))
        # In two dimensions: a product of three-dimensional ones takes longer.
        rows = tf.reshape(power, [-1, half + 1])
        products = [
            tf.matmul(rows[:, group.bins], tf.constant(group.weights))
            for group in _band_groups(self._mel_weights)
        ]
        frames = power.shape[1] or tf.shape(power)[1]
        return tf.reshape(tf.concat(products, axis=1), [-1, frames, self.n_mels])

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        batch, samples = input_shape
        frames = None if samples is None else 1 + samples // self.hop_length
        return tf.TensorShape([batch, frames, self.n_mels])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "n_fft": self.n_fft,
            "hop_length": self.hop_length,
            "n_mels": self.n_mels,
            "fmin": self.fmin,
            "fmax": self.fmax,
            "top_db": self.top_db,
            "skip_silence_db": self.skip_silence_db,
        }
