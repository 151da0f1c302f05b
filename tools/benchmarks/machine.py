"""What the figures were measured on."""

import importlib.metadata
import os
import platform
from typing import Any

_PACKAGES = (
    "tensorflow",
    "tf-keras",
    "numpy",
    "tensorflow-datasets",
    "soundfile",
    "librosa",
    "torch",
)


def describe(device: str) -> dict[str, Any]:
    """Machine, versions and thread counts, as JSON values.

    Args:
      device: `cpu` or `gpu`, what was asked for.
    """
    import tensorflow as tf

    from tools.benchmarks import alternatives

    threading = tf.config.threading
    gpus = tf.config.list_physical_devices("GPU") if device == "gpu" else []
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    torch = alternatives.torch()
    return {
        "cpu": _cpu_name(),
        "cpu_features": _cpu_features(),
        "cores": threads(),
        "memory_gb": round(_memory_bytes() / 1e9, 1),
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "gpus": [detail.get("device_name", "unknown") for detail in details],
        "threads": {
            # 0 stands for as many as there are cores.
            "tensorflow intra-op": threading.get_intra_op_parallelism_threads()
            or threads(),
            "tensorflow inter-op": threading.get_inter_op_parallelism_threads()
            or threads(),
            "torch": torch.get_num_threads() if torch else None,
        },
    }


def threads() -> int:
    """Cores that this process may use; what TensorFlow takes by default."""
    return len(os.sched_getaffinity(0))


def words(machine: dict[str, Any]) -> str:
    """The description in one line."""
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items() if v)
    gpus = f", {', '.join(machine['gpus'])}" if machine["gpus"] else ""
    counts = ", ".join(f"{k} {v}" for k, v in machine["threads"].items() if v)
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB{gpus}; "
        f"Python {machine['python']}, {versions}; threads: {counts}; "
        f"load before: {machine['load_before'][0]}"
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_field(field: str) -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() == field:
                    return value.strip()
    except OSError:
        pass
    return ""


def _cpu_name() -> str:
    return _cpu_field("model name") or platform.processor() or "unknown"


def _cpu_features() -> list[str]:
    wanted = {"avx2", "avx512f", "avx512_bf16", "amx_bf16", "fma"}
    return sorted(wanted & set(_cpu_field("flags").split()))


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
