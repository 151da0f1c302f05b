"""A model folder cannot make the program do anything but compute."""

import pathlib

import pytest
import tensorflow as tf

from mic_tf.errors import UserError
from mic_tf.serving import allowed_ops

SPEC = [tf.TensorSpec([None, None], tf.float32)]


def saved(folder: pathlib.Path, function) -> str:
    module = tf.Module()
    module.serving_default = tf.function(function, input_signature=SPEC)
    tf.saved_model.save(module, str(folder))
    return str(folder)


def reads_a_file(waveform):
    content = tf.io.read_file("/etc/passwd")
    return waveform + tf.cast(tf.strings.length(content), tf.float32)


def writes_a_file_if_loud(waveform):
    def write():
        with tf.control_dependencies([tf.io.write_file("/tmp/x", "x")]):
            return tf.constant(1.0)

    return tf.cond(tf.reduce_max(waveform) > 0.5, write, lambda: 0.0)


def runs_python(waveform):
    return tf.py_function(lambda x: x, [waveform], tf.float32)


def saves_a_checkpoint(waveform):
    tf.raw_ops.SaveV2(
        prefix="/tmp/x", tensor_names=["x"], shape_and_slices=[""], tensors=[waveform]
    )
    return waveform


def prints(waveform):
    tf.raw_ops.PrintV2(input="hello", output_stream="file:///tmp/x")
    return waveform


@pytest.mark.parametrize(
    ("function", "op"),
    [
        (reads_a_file, "ReadFile"),
        (writes_a_file_if_loud, "WriteFile"),
        (runs_python, "EagerPyFunc"),
        (saves_a_checkpoint, "SaveV2"),
        (prints, "PrintV2"),
    ],
)
def test_an_op_that_does_more_than_compute_is_refused_by_name(tmp_path, function, op):
    folder = saved(tmp_path, function)
    with pytest.raises(UserError, match=rf"holds the op {op} .*not loaded"):
        allowed_ops.check(folder)


def rewritten(folder: pathlib.Path, change) -> str:
    path = folder / "saved_model.pb"
    content = allowed_ops.saved_model_pb2.SavedModel.FromString(path.read_bytes())
    change(content)
    path.write_bytes(content.SerializeToString())
    return str(folder)


def saving_function(meta_graph) -> str:
    [name] = [
        function.signature.name
        for function in meta_graph.graph_def.library.function
        if function.signature.name.startswith("__inference__traced_save_")
    ]
    return name


def test_the_function_that_saves_checkpoints_cannot_be_called(tmp_path):
    saved(tmp_path, lambda waveform: tf.square(waveform))

    def call_it(content):
        [meta_graph] = content.meta_graphs
        name = saving_function(meta_graph)
        other = next(
            function
            for function in meta_graph.graph_def.library.function
            if "traced" not in function.signature.name
        )
        node = other.node_def.add(name="hidden", op="StatefulPartitionedCall")
        node.attr["f"].func.name = name

    with pytest.raises(UserError, match="reads or writes checkpoints"):
        allowed_ops.check(rewritten(tmp_path, call_it))


def test_the_function_that_saves_checkpoints_cannot_be_offered(tmp_path):
    saved(tmp_path, lambda waveform: tf.square(waveform))

    def offer_it(content):
        [meta_graph] = content.meta_graphs
        name = saving_function(meta_graph)
        _ = meta_graph.object_graph_def.concrete_functions[name]

    with pytest.raises(UserError, match="offers a function that reads or writes"):
        allowed_ops.check(rewritten(tmp_path, offer_it))


def test_objects_with_code_behind_them_are_refused(tmp_path):
    saved(tmp_path, lambda waveform: tf.square(waveform))

    def revive(content):
        node = content.meta_graphs[0].object_graph_def.nodes[0]
        node.user_object.identifier = "_tf_keras_layer"

    with pytest.raises(UserError, match="holds an object _tf_keras_layer"):
        allowed_ops.check(rewritten(tmp_path, revive))


def test_a_model_of_tensorflow_1_is_refused(tmp_path):
    saved(tmp_path, lambda waveform: tf.square(waveform))

    def forget_objects(content):
        content.meta_graphs[0].ClearField("object_graph_def")

    with pytest.raises(UserError, match="not a SavedModel of TensorFlow 2"):
        allowed_ops.check(rewritten(tmp_path, forget_objects))


def test_what_is_no_saved_model_is_refused(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 100)
    with pytest.raises(UserError, match="damaged, not a SavedModel"):
        allowed_ops.check(str(tmp_path))


def test_an_export_of_ours_passes(tiny_export):
    allowed_ops.check(str(tiny_export / "saved_model"))
