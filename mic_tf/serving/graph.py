"""The exported graph: waveforms of any length in, families out, TensorFlow alone.

Everything that an answer depends on is in the graph: front-end, length rule,
temperature. It holds no training op, no Keras object and no Python. It gives
probabilities for silence too, which is for the caller to tell: each of its windows
swings around a constant by 0.001 at most.
"""

import dataclasses
from collections.abc import Callable

import tensorflow as tf
import tf_keras as keras

from mic_tf.audio.waveforms import SILENCE_PEAK
from mic_tf.model.networks import split_model
from mic_tf.serving.folding import fold_batch_norm
from mic_tf.serving.passing import LEAST_WEIGHT
from mic_tf.taxonomy import MIN_SAMPLES, NOTE_SAMPLES, SAMPLE_RATE

_OUTPUTS = ("probabilities", "embedding")
_WINDOWS_AT_ONCE = 32


@dataclasses.dataclass(frozen=True)
class WindowInference:
    """The answer for single windows.

    Attributes:
      infer: from windows, float32 [windows, 64000] in [-1, 1], to probabilities
        [windows, families] and embedding [windows, d], both float32.
      widths: the number of families, and d.
      variables: what `infer` uses, folded copies of the trained model's.
    """

    infer: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    widths: tuple[int, int]
    variables: list[tf.Variable]


def window_inference(model: keras.Model, temperature: float) -> WindowInference:
    """Turns a trained model into what answers for single windows.

    Args:
      model: a trained model of `networks.build_model`.
      temperature: what logits are divided by.
    """
    frontend, network = split_model(model)
    folded = fold_batch_norm(network)

    def infer(windows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        logits, embedding = folded(frontend(windows), training=False)
        probabilities = tf.nn.softmax(tf.cast(logits, tf.float32) / temperature)
        return probabilities, tf.cast(embedding, tf.float32)

    widths = tuple(output.shape[1] for output in folded.outputs)
    return WindowInference(infer, widths, list(folded.variables))


def cut_windows(waveform: tf.Tensor) -> tf.Tensor:
    """The length rule: windows of 64,000 samples, zeros after, the last at the end.

    Args:
      waveform: float32 [batch, samples].

    Returns:
      float32 [batch, windows, 64000].
    """
    samples = tf.shape(waveform)[1]
    return tf.cond(
        tf.equal(samples, NOTE_SAMPLES),
        lambda: tf.reshape(waveform, [-1, 1, NOTE_SAMPLES]),
        lambda: _cut(waveform),
    )


def _cut(waveform: tf.Tensor) -> tf.Tensor:
    """`cut_windows` of any length."""
    batch, samples = tf.unstack(tf.shape(waveform))
    missing = tf.maximum(NOTE_SAMPLES - samples, 0)
    waveform = tf.pad(waveform, [[0, 0], [0, missing]])
    before_last = (samples + missing - 1) // NOTE_SAMPLES
    regular = tf.reshape(
        waveform[:, : before_last * NOTE_SAMPLES], [batch, before_last, NOTE_SAMPLES]
    )
    last = waveform[:, tf.newaxis, -NOTE_SAMPLES:]
    return tf.concat([regular, last], axis=1)


def window_weights(windows: tf.Tensor) -> tf.Tensor:
    """How much each window counts in the answer for its sound, as `passing.weight`.

    Args:
      windows: float32 [batch, windows, 64000].

    Returns:
      float32 [batch, windows, 1]; those of a sound add up to 1.
    """
    batch, count = tf.unstack(tf.shape(windows)[:2])
    return tf.cond(
        tf.equal(count, 1),
        lambda: tf.ones([batch, 1, 1]),
        lambda: _shares_of_loudness(windows),
    )


def _shares_of_loudness(windows: tf.Tensor) -> tf.Tensor:
    """`window_weights` of several windows."""
    highest = tf.reduce_max(windows, axis=-1, keepdims=True)
    lowest = tf.reduce_min(windows, axis=-1, keepdims=True)
    around = windows - tf.reduce_mean(windows, axis=-1, keepdims=True)
    loud = tf.sqrt(tf.reduce_mean(tf.square(around), axis=-1, keepdims=True))
    loud = tf.where((highest - lowest) / 2 > SILENCE_PEAK, loud, LEAST_WEIGHT)
    return loud / tf.reduce_sum(loud, axis=1, keepdims=True)


def _check(waveform: tf.Tensor) -> None:
    """Refuses what would give a meaningless answer, with the reason."""
    samples = tf.shape(waveform)[1]
    tf.debugging.Assert(
        samples >= MIN_SAMPLES,
        [f"waveform: at least {MIN_SAMPLES} samples at 16 kHz expected, got", samples],
    )
    # What is not finite stays so in a sum, which is made in a quarter of the time.
    tf.debugging.Assert(
        tf.math.is_finite(tf.reduce_sum(waveform)),
        ["waveform: finite samples between -1 and 1 expected, got NaN or infinity"],
    )


def _in_portions(
    inference: WindowInference, windows: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """`infer` on any number of windows, with the memory of 32."""
    count = tf.shape(windows)[0]

    def step(first, *done):
        portion = windows[first : first + _WINDOWS_AT_ONCE]
        portion = tf.ensure_shape(portion, [None, NOTE_SAMPLES])
        more = (
            tf.concat([old, new], axis=0)
            for old, new in zip(done, inference.infer(portion), strict=True)
        )
        return (first + _WINDOWS_AT_ONCE, *more)

    widths = inference.widths
    invariants = (tf.TensorShape([]), *(tf.TensorShape([None, w]) for w in widths))
    _, probabilities, embedding = tf.while_loop(
        lambda first, *_: first < count,
        step,
        (0, *(tf.zeros([0, w]) for w in widths)),
        shape_invariants=invariants,
        parallel_iterations=1,
    )
    return probabilities, embedding


def serving_module(model: keras.Model, temperature: float = 1.0) -> tf.Module:
    """Everything a SavedModel of ours is made of.

    Args:
      model: a trained model of `networks.build_model`, in float32.
      temperature: what logits are divided by.

    Returns:
      A module with two functions. `serving_default`: `waveform` float32 [batch,
      samples] at 16 kHz in [-1, 1], 800 samples or more, to `probabilities` [batch,
      families] and `embedding` [batch, d]. `classify_wav`: `wav` string [batch],
      encoded 16-bit PCM WAV at 16 kHz of any channels and lengths, to the same.
    """
    module = tf.Module(name="mic_tf")
    inference = window_inference(model, temperature)
    module.weights = inference.variables

    def classify(waveform: tf.Tensor) -> dict[str, tf.Tensor]:
        _check(waveform)
        windows = cut_windows(waveform)
        batch, count = tf.unstack(tf.shape(windows)[:2])
        flat = tf.reshape(windows, [batch * count, NOTE_SAMPLES])
        answers = _in_portions(inference, flat)
        weights = window_weights(windows)
        means = (
            tf.reduce_sum(weights * tf.reshape(a, [batch, count, a.shape[1]]), axis=1)
            for a in answers
        )
        return dict(zip(_OUTPUTS, means, strict=True))

    def classify_one_wav(content: tf.Tensor) -> dict[str, tf.Tensor]:
        audio, rate = tf.audio.decode_wav(content)
        tf.debugging.Assert(
            tf.equal(rate, SAMPLE_RATE),
            [f"wav: sample rate {SAMPLE_RATE} Hz expected, the header says", rate],
        )
        mono = tf.reduce_mean(audio, axis=1)
        return {name: a[0] for name, a in classify(mono[tf.newaxis]).items()}

    @tf.function(
        input_signature=[tf.TensorSpec([None, None], tf.float32, "waveform")],
        autograph=False,
    )
    def serving_default(waveform):
        return classify(waveform)

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string, "wav")], autograph=False
    )
    def classify_wav(wav):
        spec = {
            name: tf.TensorSpec([width], tf.float32)
            for name, width in zip(_OUTPUTS, inference.widths, strict=True)
        }
        return tf.map_fn(
            classify_one_wav, wav, fn_output_signature=spec, parallel_iterations=1
        )

    module.serving_default = serving_default
    module.classify_wav = classify_wav
    return module
