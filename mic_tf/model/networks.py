"""The networks, as Keras functional models from waveform to logits."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from mic_tf.errors import UserError
from mic_tf.model import normalising, pooling, randomness
from mic_tf.model.frontend import LogMel
from mic_tf.model.winograd import WinogradConv2D
from mic_tf.settings import NetworkSettings, RunSettings
from mic_tf.taxonomy import NOTE_SAMPLES
from mic_tf.tracing import as_written

layers = keras.layers

MEAN_OF_MEMBERS = "mean_of_members"

_DEPTHS = {"small_cnn": 2, "deep_cnn": 4, "mobile_cnn": 4}
_POOLING = {"small_cnn": 4, "deep_cnn": normalising.POOL, "mobile_cnn": 2}


@keras.saving.register_keras_serializable("mic_tf")
class StepDropout(layers.Layer):
    """Dropout whose mask is a function of (seed, step), with nothing to store.

    Input and output: any shape. The identity when not training.

    Args:
      rate: share of the values set to zero; the others grow by 1 / (1 - rate).
    """

    def __init__(self, rate: float, **kwargs: Any):
        super().__init__(**{"trainable": False, **kwargs})
        self.rate = rate

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if not training or not self.rate:
            return inputs
        draws = randomness.uniform(self.name, tf.shape(inputs))
        kept = tf.cast(draws >= self.rate, inputs.dtype)
        return inputs * kept / tf.cast(1.0 - self.rate, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate}


@keras.saving.register_keras_serializable("mic_tf")
class MeanLogProbability(layers.Layer):
    """Mean of the log-probabilities of several networks (product of experts).

    Input: logits of each, [batch, families]. Output: logits, same shape. The shares
    are a weight, [members, families], so that a member can be left out for families
    that it never heard.

    Args:
      shares: weight of each network; they add up to 1.
    """

    def __init__(self, shares: Sequence[float], **kwargs: Any):
        super().__init__(**{"trainable": False, **kwargs})
        self.shares = [float(share) for share in shares]

    def build(self, input_shape: Sequence[tf.TensorShape]) -> None:
        columns = [[share] * input_shape[0][-1] for share in self.shares]
        self.family_shares = self.add_weight(
            "family_shares",
            [len(self.shares), input_shape[0][-1]],
            initializer=keras.initializers.Constant(columns),
            trainable=False,
        )
        super().build(input_shape)

    def call(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        shares = tf.unstack(tf.cast(self.family_shares, inputs[0].dtype))
        weighted = (
            share * tf.nn.log_softmax(logits)
            for share, logits in zip(shares, inputs, strict=True)
        )
        return tf.add_n(list(weighted))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "shares": self.shares}


@as_written
def build_model(settings: RunSettings, num_families: int) -> keras.Model:
    """Front-end and network in one functional model.

    Args:
      settings: of the run; the numeric policy is Keras's global one.
      num_families: classes.

    Returns:
      A model from `waveform`, int16 or float [batch, 64000], to logits, float32
      [batch, families]. The layer `log_mel` is the front-end; `embedding` gives the
      vector in front of the logits. Layers of several members have the same names
      behind `member_prefix`.
    """
    waveform = keras.Input([NOTE_SAMPLES], dtype="int16", name="waveform")
    log_mel = LogMel.from_settings(settings.frontend, name="log_mel")(waveform)
    shares = settings.network.member_shares
    if len(shares) == 1:
        logits = _member(log_mel, settings, num_families)
    else:
        members = [
            _member(log_mel, settings, num_families, member_prefix(number))
            for number in range(len(shares))
        ]
        mean = MeanLogProbability(shares, dtype=_loss_dtype(), name=MEAN_OF_MEMBERS)
        logits = mean(members)
    return keras.Model(waveform, logits, name=settings.network.model)


def member_prefix(number: int) -> str:
    """What the names of a member's layers begin with."""
    return f"member{number}_"


def embedding(model: keras.Model) -> Any:
    """The Keras tensor in front of the logits, [batch, d]; of all members, joined."""
    names = {layer.name for layer in model.layers}
    if "embedding" in names:
        return model.get_layer("embedding").output
    found = []
    while (name := member_prefix(len(found)) + "embedding") in names:
        found.append(model.get_layer(name).output)
    return layers.Concatenate(name="embedding")(found)


def _member(
    log_mel: tf.Tensor, settings: RunSettings, num_families: int, prefix: str = ""
) -> tf.Tensor:
    """Logits of one network, [batch, families], in the type of the loss."""
    x = _NETWORKS[settings.network.model](log_mel, settings, prefix)
    x = layers.Dense(num_families, name=f"{prefix}logits")(x)
    wide = layers.Activation("linear", dtype=_loss_dtype(), name=f"{prefix}logits_wide")
    return wide(x)


def check_size(settings: RunSettings) -> None:
    """Checks that the log-mel is large enough for the network's pooling.

    Raises:
      UserError: it is not; names the flags.
    """
    name = settings.network.model
    depth = settings.network.depth or _DEPTHS[name]
    frames = 1 + NOTE_SAMPLES // settings.frontend.hop_length
    smallest = min(frames, settings.frontend.n_mels)
    needed = _POOLING[name] ** depth
    if smallest < needed:
        raise UserError(
            f"--depth={depth} of {name}: needs a log-mel of {needed} frames and bands "
            f"at least; --hop_length and --n_mels give {frames} and "
            f"{settings.frontend.n_mels}"
        )


def _loss_dtype() -> str:
    """float32 for the softmax of 16-bit networks; float64 where all of it is."""
    wide = keras.mixed_precision.global_policy().compute_dtype == "float64"
    return "float64" if wide else "float32"


def split_model(model: keras.Model) -> tuple[LogMel, keras.Model]:
    """The front-end layer and the network behind it, sharing weights.

    Returns:
      The `LogMel` layer and a model from log-mel [batch, frames, n_mels] to logits
      [batch, families] and embedding [batch, d].
    """
    frontend = model.get_layer("log_mel")
    outputs = [model.output, embedding(model)]
    return frontend, keras.Model(frontend.output, outputs, name="network")


@as_written
def inference_model(model: keras.Model) -> keras.Model:
    """The same weights behind a float input, with the embedding as second output.

    Returns:
      A model from waveforms, float32 [batch, 64000] in [-1, 1], to logits [batch,
      families] and embedding [batch, d].
    """
    frontend, network = split_model(model)
    waveform = keras.Input([NOTE_SAMPLES], dtype="float32", name="waveform")
    logits, embedding = network(frontend(waveform))
    return keras.Model(waveform, [logits, embedding], name="inference")


def _small_cnn(log_mel: tf.Tensor, settings: RunSettings, prefix: str) -> tf.Tensor:
    """Plain convolutions and pooling, then a dense layer: the study's phases 1, 2."""
    x = layers.Reshape((*log_mel.shape[1:], 1), name=f"{prefix}image")(log_mel)
    network = settings.network
    for block in range(network.depth or _DEPTHS["small_cnn"]):
        name = f"{prefix}conv_{block}"
        x = _convolution(settings, network.width * 2**block, name=name)(x)
        x = layers.ReLU(name=f"{prefix}relu_{block}")(x)
        x = layers.MaxPooling2D(_POOLING["small_cnn"], name=f"{prefix}pool_{block}")(x)
    x = layers.Flatten(name=f"{prefix}flatten")(x)
    return layers.Dense(
        network.dense_units, activation="relu", name=f"{prefix}embedding"
    )(x)


def _deep_cnn(log_mel: tf.Tensor, settings: RunSettings, prefix: str) -> tf.Tensor:
    """Convolution, BatchNorm, ReLU and pooling, four times; mean and max over all."""
    x = layers.Reshape((*log_mel.shape[1:], 1), name=f"{prefix}image")(log_mel)
    network = settings.network
    for block in range(network.depth or _DEPTHS["deep_cnn"]):
        channels, name = network.width * 2**block, f"{prefix}conv_{block}"
        x = _convolution(settings, channels, use_bias=False, name=name)(x)
        x = _norm_relu_and_pool(x, block, prefix, settings)
    return _pooled_embedding(x, network, prefix)


def _mobile_cnn(log_mel: tf.Tensor, settings: RunSettings, prefix: str) -> tf.Tensor:
    """Depthwise-separable convolutions that step over every second place.

    Channels and sizes behind each block are those of deep_cnn, with a small part of
    its arithmetic. A block is a separable convolution with stride 2 and one with
    stride 1 that is added to its input (Howard et al. 2017, "MobileNets"; He et al.
    2016, "Deep residual learning"); the first is a plain convolution.
    """
    network = settings.network
    stride = _POOLING["mobile_cnn"]
    x = layers.Reshape((*log_mel.shape[1:], 1), name=f"{prefix}image")(log_mel)
    x = layers.Conv2D(
        network.width,
        5,
        strides=stride,
        padding="same",
        use_bias=False,
        name=f"{prefix}conv_0",
    )(x)
    x = _norm_and_relu(x, 0, prefix)
    for block in range(1, network.depth or _DEPTHS["mobile_cnn"]):
        channels = network.width * 2**block
        x = _separable(x, channels, stride, f"{block}a", prefix)
        same_size = _separable(x, channels, 1, f"{block}b", prefix)
        x = layers.Add(name=f"{prefix}add_{block}")([x, same_size])
    return _pooled_embedding(x, network, prefix)


def _convolution(settings: RunSettings, channels: int, **kwargs: Any) -> WinogradConv2D:
    """A 3 x 3 convolution; XLA, where it compiles the step, does its own."""
    train = settings.train
    in_training = train.winograd and not train.jit
    return WinogradConv2D(
        channels, 3, padding="same", in_training=in_training, **kwargs
    )


def _separable(
    x: tf.Tensor, channels: int, stride: int, name: str, prefix: str
) -> tf.Tensor:
    """A 3 x 3 convolution of each channel, then one over the channels."""
    x = layers.DepthwiseConv2D(
        3,
        strides=stride,
        padding="same",
        use_bias=False,
        name=f"{prefix}depthwise_{name}",
    )(x)
    x = _norm_and_relu(x, f"depthwise_{name}", prefix)
    x = layers.Conv2D(channels, 1, use_bias=False, name=f"{prefix}conv_{name}")(x)
    return _norm_and_relu(x, name, prefix)


def _norm_and_relu(x: tf.Tensor, name: str | int, prefix: str) -> tf.Tensor:
    x = _batch_norm(f"{prefix}norm_{name}")(x)
    return layers.ReLU(name=f"{prefix}relu_{name}")(x)


def _norm_relu_and_pool(
    x: tf.Tensor, block: int, prefix: str, settings: RunSettings
) -> tf.Tensor:
    """In one layer or three; XLA, where it compiles the step, does its own fusing."""
    if settings.train.fused_norm and not settings.train.jit:
        return normalising.NormReluPool(**_norm_arguments(f"{prefix}norm_{block}"))(x)
    x = _norm_and_relu(x, block, prefix)
    return layers.MaxPooling2D(_POOLING["deep_cnn"], name=f"{prefix}pool_{block}")(x)


def _pooled_embedding(
    x: tf.Tensor, settings: NetworkSettings, prefix: str
) -> tf.Tensor:
    """Mean and max over time and frequency, then a dense layer, with dropout."""
    mean = layers.GlobalAveragePooling2D(name=f"{prefix}mean")(x)
    largest = pooling.GlobalMax(name=f"{prefix}max")(x)
    x = layers.Concatenate(name=f"{prefix}mean_and_max")([mean, largest])
    x = StepDropout(settings.dropout, name=f"{prefix}dropout_pooled")(x)
    x = layers.Dense(settings.dense_units, use_bias=False, name=f"{prefix}dense")(x)
    x = _batch_norm(f"{prefix}dense_norm")(x)
    x = layers.ReLU(name=f"{prefix}embedding")(x)
    return StepDropout(settings.dropout, name=f"{prefix}dropout")(x)


def _batch_norm(name: str) -> layers.Layer:
    return layers.BatchNormalization(**_norm_arguments(name))


def _norm_arguments(name: str) -> dict[str, Any]:
    """BatchNorm with the statistics of the global batch, on any number of replicas.

    Keras has no fused kernel for the synchronised one, so a single replica, which
    has nothing to synchronise, takes the other.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    return {"momentum": 0.9, "synchronized": replicas > 1, "name": name}


_NETWORKS = {
    "small_cnn": _small_cnn,
    "deep_cnn": _deep_cnn,
    "mobile_cnn": _mobile_cnn,
}
