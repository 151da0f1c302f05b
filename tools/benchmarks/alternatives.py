"""What people would use instead, where it is installed."""

import functools
from types import ModuleType

from tools.benchmarks import machine

HOW = "pip install -c constraints.txt -r requirements-bench.txt"
NO_TORCH = f"torch is not installed: {HOW}"
NO_LIBROSA = f"librosa is not installed: {HOW}"


@functools.cache
def torch() -> ModuleType | None:
    """PyTorch on as many threads as TensorFlow takes; None where it is missing."""
    try:
        import torch as module
    except ImportError:
        return None
    module.set_num_threads(machine.threads())
    return module


@functools.cache
def librosa() -> ModuleType | None:
    """None where it is missing."""
    try:
        import librosa as module
    except ImportError:
        return None
    return module
