"""The one place that decides how a run is spread over devices and hosts."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf
from absl import logging

from mic_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class Placement:
    """A distribution strategy and this process's part in it.

    Attributes:
      strategy: TensorFlow's.
      is_chief: whether this process writes the work folder.
      workers: how many processes train together.
      words: what was decided and why, for the log.
    """

    strategy: tf.distribute.Strategy
    is_chief: bool
    workers: int
    words: str

    def distribute(
        self, of_pipeline: Callable[[tf.distribute.InputContext], tf.data.Dataset]
    ) -> Any:
        """Feeds every replica from the data sets of the input pipelines.

        GPUs and TPUs get each batch in advance. A CPU alone takes it as it is: the
        iterator that fetches takes up to a minute to end, the longer the older it is,
        as tf.data's tuning cannot be turned off for it.

        Args:
          of_pipeline: gives the batches of one input pipeline.
        """
        strategy, options = self.strategy, None
        if _is_one_cpu(strategy):
            options = tf.distribute.InputOptions(
                experimental_replication_mode=tf.distribute.InputReplicationMode.PER_REPLICA,
                experimental_fetch_to_device=False,
            )
        return strategy.distribute_datasets_from_function(of_pipeline, options)


def _is_one_cpu(strategy: tf.distribute.Strategy) -> bool:
    """Whether one replica of one process does everything, on a CPU."""
    devices = strategy.extended.worker_devices
    return (
        isinstance(strategy, tf.distribute.MirroredStrategy)
        and strategy.num_replicas_in_sync == 1
        and all("CPU" in device.upper() for device in devices)
    )


_GPU_FILE = pathlib.Path("/dev/nvidia0")
"""What NVIDIA's driver shows of its first GPU."""

_shared: dict[tuple[str, str], Placement] = {}


def choose(name: str, tpu: str = "") -> Placement:
    """Decides the strategy from its name and `TF_CONFIG`, and logs the decision.

    One strategy object serves the whole process: two of them with different graphs
    abort in TensorFlow's collectives.

    Args:
      name: `auto`, `mirrored`, `multi_worker`, `tpu` or `one_device`.
      tpu: name or address of the TPU.

    Raises:
      UserError: `TF_CONFIG` is wrong or contradicts the name; there is no TPU.
    """
    key = (name, tpu)
    if key not in _shared:
        _shared[key] = _make(name, tpu)
        logging.info("strategy: %s", _shared[key].words)
    return _shared[key]


def _make(name: str, tpu: str) -> Placement:
    cluster = _cluster()
    if name == "auto":
        name = "tpu" if tpu else ("multi_worker" if cluster else "mirrored")
    if name != "tpu":
        _warn_of_idle_gpu()
    if name == "multi_worker":
        return _multi_worker(cluster)
    if cluster and sum(len(v) for v in cluster["cluster"].values()) > 1:
        raise UserError(
            f"--strategy={name} with a TF_CONFIG of several tasks: use "
            "--strategy=multi_worker, or unset TF_CONFIG"
        )
    if name == "tpu":
        return _tpu(tpu)
    if name == "one_device":
        device = "GPU:0" if tf.config.list_logical_devices("GPU") else "CPU:0"
        strategy = tf.distribute.OneDeviceStrategy(device)
        return Placement(strategy, True, 1, f"one_device on {device}")
    devices = tf.config.list_logical_devices("GPU") or (
        tf.config.list_logical_devices("CPU")
    )
    names = _names(device.name for device in devices)
    strategy = tf.distribute.MirroredStrategy(names)
    words = f"mirrored, {len(names)} replica(s) on {', '.join(names)}"
    return Placement(strategy, True, 1, words)


def _multi_worker(cluster: dict | None) -> Placement:
    if cluster is None:
        raise UserError(
            "--strategy=multi_worker: TF_CONFIG is not set; a cluster sets it to "
            '{"cluster": {"worker": ["HOST:PORT", …]}, "task": {"type": "worker", '
            '"index": 0}}'
        )
    # TensorFlow's own choice for several machines is a ring over the network of hosts.
    experimental = tf.distribute.experimental
    options = experimental.CommunicationOptions(
        implementation=(
            experimental.CommunicationImplementation.NCCL
            if tf.config.list_physical_devices("GPU")
            else experimental.CommunicationImplementation.AUTO
        )
    )
    strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    task, hosts = cluster["task"], cluster["cluster"]
    has_chief = "chief" in hosts
    is_chief = task["type"] == "chief" or (not has_chief and task["index"] == 0)
    workers = len(hosts.get("worker", [])) + len(hosts.get("chief", []))
    words = (
        f"multi_worker, {workers} worker(s), this is {task['type']} {task['index']}, "
        f"{strategy.num_replicas_in_sync} replica(s) in all, here on "
        f"{', '.join(_names(strategy.extended.worker_devices))}"
    )
    return Placement(strategy, is_chief, workers, words)


def _names(devices: Iterable[str]) -> list[str]:
    """Kind and number of each device, as `GPU:0`."""
    return [":".join(device.split(":")[-2:]) for device in devices]


def _warn_of_idle_gpu() -> None:
    """Says so where the machine has a GPU and TensorFlow finds none."""
    if _GPU_FILE.exists() and not tf.config.list_physical_devices("GPU"):
        logging.warning(
            "%s is there, but TensorFlow finds no GPU, and the CPU is used: it needs "
            "requirements-gpu.txt, and the driver's libcuda.so.1 in a folder of "
            "LD_LIBRARY_PATH (on GKE /usr/local/nvidia/lib64)",
            _GPU_FILE,
        )


def _tpu(tpu: str) -> Placement:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu or "local")
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        strategy = tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        text = str(error).split("\n", maxsplit=1)[0]
        raise UserError(f"--tpu={tpu or 'local'}: no TPU: {text}") from error
    words = f"tpu {tpu or 'local'}, {strategy.num_replicas_in_sync} core(s)"
    return Placement(strategy, True, 1, words)


def _cluster() -> dict | None:
    """`TF_CONFIG`, checked; None when it is not set."""
    text = os.environ.get("TF_CONFIG", "").strip()
    if not text or text == "{}":
        return None
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        hosts = cluster[task["type"]]
        index, count = task["index"], len(hosts)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"TF_CONFIG: {type(error).__name__}: {error}; expected JSON with "
            '"cluster": {"worker": ["HOST:PORT", …]} and "task": {"type", "index"}'
        ) from error
    if not isinstance(index, int) or not 0 <= index < count:
        raise UserError(
            f"TF_CONFIG: task index {index!r}: {task['type']} has {count} task(s),"
            f" 0 to {count - 1}"
        )
    return config
