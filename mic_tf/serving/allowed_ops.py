"""Which TensorFlow ops a model may hold before it is loaded.

A SavedModel is a program: it can read and write files when it is loaded or called.
Ours only compute, so everything else is refused by name, before TensorFlow sees it.
"""

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework import node_def_pb2
from tensorflow.core.protobuf import (
    meta_graph_pb2,
    saved_model_pb2,
    saved_object_graph_pb2,
)

from mic_tf import files
from mic_tf.errors import UserError

_COMPUTE = """
    Abs Add AddN AddV2 All Any ArgMax Assert AvgPool BatchMatMul BatchMatMulV2 BiasAdd
    BroadcastArgs BroadcastTo Cast Ceil Concat ConcatV2 Const Conv2D Cos DecodeWav
    DepthwiseConv2dNative Div DivNoNan Elu EnsureShape Equal Erf Exp ExpandDims Expm1
    Fill Floor FloorDiv FloorMod FusedBatchNormV3 GatherNd GatherV2 Greater
    GreaterEqual Identity IdentityN If Imag IsFinite LeakyRelu Less LessEqual Log
    Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr MatMul Max MaxPool Maximum Mean
    Min Minimum Mul Neg NoOp NotEqual OneHot Pack Pad PadV2 PartitionedCall
    Placeholder Pow Prod RFFT Range Real RealDiv Relu Relu6 Reshape Round Rsqrt Select
    SelectV2 Selu Shape Sigmoid Sign Sin Size Slice Softmax Softplus Split SplitV Sqrt
    Square SquaredDifference Squeeze StatefulPartitionedCall StatelessIf
    StatelessWhile StopGradient StridedSlice Sub Sum Tanh TensorListFromTensor
    TensorListGetItem TensorListReserve TensorListSetItem TensorListStack
    TensorScatterUpdate Tile TopKV2 Transpose Unpack While ZerosLike
"""
_VARIABLES = """
    VarHandleOp VarIsInitializedOp ReadVariableOp AssignVariableOp DisableCopyOnRead
"""
_CHECKPOINT = """
    SaveV2 RestoreV2 MergeV2Checkpoints ShardedFilename StringJoin
    StaticRegexFullMatch
"""
_ALLOWED = frozenset(f"{_COMPUTE} {_VARIABLES}".split())
_ALLOWED_TO_CHECKPOINTS = _ALLOWED | frozenset(_CHECKPOINT.split())

_CHECKPOINT_FUNCTIONS = ("__inference__traced_save_", "__inference__traced_restore_")
"""TensorFlow writes these two into every SavedModel; nothing may call them."""

_OBJECTS = frozenset(
    ("_generic_user_object", "trackable_list_wrapper", "signature_map")
)


def check(saved_model: str) -> None:
    """Refuses a SavedModel that could do more than compute.

    Args:
      saved_model: its folder.

    Raises:
      UserError: it is missing or damaged, or holds an op that is not on the list.
    """
    path = files.join(saved_model, "saved_model.pb")
    try:
        content = saved_model_pb2.SavedModel.FromString(files.read_bytes(path))
    except tf.errors.OpError as error:
        raise UserError(f"{path}: cannot be read: {files.reason(error)}") from error
    except DecodeError as error:
        raise UserError(f"{path}: damaged, not a SavedModel") from error
    # Without objects TensorFlow would load it the old way and run its main graph.
    if (
        len(content.meta_graphs) != 1
        or not content.meta_graphs[0].object_graph_def.nodes
    ):
        raise UserError(f"{path}: not a SavedModel of TensorFlow 2")
    problem = _problem(content.meta_graphs[0])
    if problem:
        raise UserError(
            f"{path}: {problem}, which no classifier needs; the model is not loaded"
        )


def _problem(meta_graph: meta_graph_pb2.MetaGraphDef) -> str | None:
    """What in a graph could do more than compute."""
    library = meta_graph.graph_def.library.function
    names = {function.signature.name for function in library}
    saving = {name for name in names if name.startswith(_CHECKPOINT_FUNCTIONS)}
    for node in meta_graph.graph_def.node:
        if node.op not in _ALLOWED:
            return f"holds the op {node.op} ({node.name})"
    for function in library:
        inside = function.signature.name in saving
        for node in function.node_def:
            if node.op not in (_ALLOWED_TO_CHECKPOINTS if inside else _ALLOWED):
                return f"holds the op {node.op} ({function.signature.name})"
            if _functions_called(node) & saving:
                return f"{function.signature.name} reads or writes checkpoints"
    objects = meta_graph.object_graph_def
    if saving & set(objects.concrete_functions):
        return "offers a function that reads or writes checkpoints"
    return _problem_in_objects(objects)


def _problem_in_objects(
    objects: saved_object_graph_pb2.SavedObjectGraph,
) -> str | None:
    """Objects that would come to life as more than variables and functions."""
    for node in objects.nodes:
        kind = node.user_object.identifier
        if kind and kind not in _OBJECTS:
            return f"holds an object {kind}"
        if node.registered_name:
            return f"holds an object {node.registered_name}"
        if node.registered_saver or node.saveable_objects:
            return "holds an object that restores itself"
    return None


def _functions_called(node: node_def_pb2.NodeDef) -> set[str]:
    """Names of the functions in a node's attributes."""
    called = set()
    for attribute in node.attr.values():
        called.add(attribute.func.name)
        called.update(function.name for function in attribute.list.func)
    return called - {""}
