"""The model as a TFLite file: one window in, families out, built-in ops only."""

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from mic_tf.errors import UserError
from mic_tf.serving.graph import window_inference
from mic_tf.taxonomy import NOTE_SAMPLES
from mic_tf.training import workfolder

KINDS = ("float32", "float16", "int8")
FILE_NAMES = {
    "float32": "model.tflite",
    "float16": "model_float16.tflite",
    "int8": "model_int8.tflite",
}

_KEPT_IN_FLOAT = ("log_mel/", "network/logits/", "StatefulPartitionedCall")
"""Tensors of the front-end (int8 spoils decibels), of the logits, and the outputs."""


def convert(
    run: workfolder.TrainedRun, kind: str, notes: Sequence[np.ndarray] = ()
) -> bytes:
    """Converts a trained run.

    The model's signature takes `waveform`, float32 [1, 64000] at 16 kHz in [-1, 1],
    and gives `probabilities` [1, families] and `embedding` [1, d], all float32.

    Args:
      run: the trained run; its temperature goes into the model.
      kind: float32; float16: weights in half the space; int8: convolutions and dense
        layers computed in 8-bit integers, front-end and logits in float32.
      notes: waveforms float32 [64000], from which int8 learns its ranges.

    Returns:
      The content of the file.

    Raises:
      UserError: int8 without notes.
    """
    if kind == "int8" and not len(notes):
        raise UserError("int8 needs notes of the training split; none were given")
    inference = window_inference(run.model, run.temperature)
    module = tf.Module()
    module.weights = inference.variables

    @tf.function(
        input_signature=[tf.TensorSpec([1, NOTE_SAMPLES], tf.float32, "waveform")],
        autograph=False,
    )
    def classify(waveform):
        probabilities, embedding = inference.infer(waveform)
        return {"probabilities": probabilities, "embedding": embedding}

    module.classify = classify

    def converter() -> tf.lite.TFLiteConverter:
        function = classify.get_concrete_function()
        return tf.lite.TFLiteConverter.from_concrete_functions([function], module)

    if kind == "int8":
        return _int8(converter(), converter().convert(), notes)
    plain = converter()
    if kind == "float16":
        plain.optimizations = [tf.lite.Optimize.DEFAULT]
        plain.target_spec.supported_types = [tf.float16]
    return plain.convert()


def _int8(
    converter: tf.lite.TFLiteConverter, in_float: bytes, notes: Sequence[np.ndarray]
) -> bytes:
    """Quantises all but what is kept in float32.

    Args:
      converter: of the model.
      in_float: the model converted to float32; it has the names of the tensors.
      notes: waveforms [64000].
    """

    def representative() -> Iterator[list[np.ndarray]]:
        for note in notes:
            yield [note[np.newaxis]]

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    kept = [name for name in _names(in_float) if name.startswith(_KEPT_IN_FLOAT)]
    # The debugger is TensorFlow's only way to leave single tensors unquantised.
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=representative,
        debug_options=tf.lite.experimental.QuantizationDebugOptions(
            denylisted_nodes=kept
        ),
    )
    return debugger.get_nondebug_quantized_model()


def _names(content: bytes) -> set[str]:
    """The names of a TFLite file's tensors, also of those in branches.

    The interpreter tells those of the main graph alone, and a branch that a
    representative note takes is quantised, too.
    """
    model = schema.Model.GetRootAsModel(content, 0)
    graphs = [model.Subgraphs(number) for number in range(model.SubgraphsLength())]
    return {
        graph.Tensors(number).Name().decode()
        for graph in graphs
        for number in range(graph.TensorsLength())
    }
