"""BatchNorm folded into the convolution or dense layer in front of it."""

import numpy as np
import tf_keras as keras

from mic_tf.model.normalising import NormReluPool, ReluPool
from mic_tf.tracing import as_written

layers = keras.layers

_FOLDABLE = (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)


@as_written
def fold_batch_norm(model: keras.Model) -> keras.Model:
    """A copy of a trained functional model that needs no BatchNorm for inference.

    A BatchNorm right behind a linear convolution or dense layer becomes part of that
    layer's kernel and bias: `kernel * s` and `(bias - mean) * s + beta` with
    `s = gamma / sqrt(variance + epsilon)`. Of a `NormReluPool` ReLU and pooling stay.
    Any other BatchNorm stays as it is.

    Args:
      model: functional, built of layers that their configuration describes.

    Returns:
      A model with weights of its own; layers keep their names.
    """
    norm_of = {}
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            source = _only_source(layer)
            if source is not None:
                norm_of[source.name] = layer
    folded_norms = {norm.name for norm in norm_of.values()}

    def copy(layer: layers.Layer) -> layers.Layer:
        config = layer.get_config()
        config.pop("trainable")
        if layer.name in folded_norms and isinstance(layer, NormReluPool):
            return ReluPool(name=layer.name, dtype=config["dtype"])
        if layer.name in folded_norms:
            return layers.Activation("linear", name=layer.name, dtype=config["dtype"])
        if layer.name in norm_of:
            config["use_bias"] = True
        return type(layer).from_config(config)

    twin = keras.models.clone_model(model, clone_function=copy)
    for layer in model.layers:
        if layer.name in norm_of:
            weights = _folded_weights(layer, norm_of[layer.name])
        elif layer.name in folded_norms:
            weights = []
        else:
            weights = layer.get_weights()
        twin.get_layer(layer.name).set_weights(weights)
    return twin


def _only_source(norm: layers.BatchNormalization) -> layers.Layer | None:
    """The foldable linear layer that feeds this BatchNorm and nothing else."""
    source = norm.inbound_nodes[0].inbound_layers
    if not isinstance(source, _FOLDABLE):
        return None
    feeds = {node.layer.name for node in source.outbound_nodes}
    linear = source.activation is keras.activations.linear
    return source if linear and feeds == {norm.name} else None


def _folded_weights(
    layer: layers.Layer, norm: layers.BatchNormalization
) -> list[np.ndarray]:
    """Kernel and bias of a layer with the BatchNorm behind it, in float64 inside.

    A kernel has its output channels last; a depthwise one input channels and, last,
    what each of them becomes.
    """
    kernel = layer.get_weights()[0].astype(np.float64)
    bias = layer.get_weights()[1] if layer.use_bias else 0.0
    mean = norm.moving_mean.numpy().astype(np.float64)
    scale = 1.0 / np.sqrt(norm.moving_variance.numpy() + float(norm.epsilon))
    if norm.scale:
        scale = scale * norm.gamma.numpy()
    offset = norm.beta.numpy() if norm.center else 0.0
    folded_bias = (bias - mean) * scale + offset
    if isinstance(layer, layers.DepthwiseConv2D):
        scale = scale.reshape(kernel.shape[-2:])
    return [kernel * scale, folded_bias]
