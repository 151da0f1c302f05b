"""What people would use instead, where it is installed."""

import functools
from types import ModuleType

from tools.benchmarks import machine

HOW = "pip install -c constraints.txt -r requirements-bench.txt"
NO_TORCH = f"torch is not installed: {HOW}"
NO_LIBROSA = f"librosa is not installed: {HOW}"


@functools.cache
def torch() -> ModuleType | None:
    """PyTorch as TensorFlow is: on as many threads, on a GPU with products in TF32.

    Its convolutions choose their kernels there by timing them, as TensorFlow's do.

    None where it is missing.
    """
    try:
        import torch as module
    except ImportError:
        return None
    module.set_num_threads(machine.threads())
    module.backends.cuda.matmul.allow_tf32 = True
    module.backends.cudnn.benchmark = True
    return module


def why_no_torch(on_gpu: bool) -> str:
    """Why PyTorch cannot be compared with; empty where it can."""
    if not torch():
        return NO_TORCH
    if on_gpu and not torch().cuda.is_available():
        return "this torch has no GPU; a CUDA build is needed"
    return ""


@functools.cache
def librosa() -> ModuleType | None:
    """None where it is missing."""
    try:
        import librosa as module
    except ImportError:
        return None
    return module
