"""Batches in pieces: on a CPU what lies between two ops then stays in its caches."""

import tensorflow as tf

_MOST = 8
_WAVEFORMS_TOGETHER = 4


def on_accelerator() -> bool:
    """Whether anything but a CPU is there to compute on."""
    if isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy):
        return True
    devices = tf.config.get_visible_devices()
    return any(device.device_type != "CPU" for device in devices)


def count(batch: int | None, together: int = _WAVEFORMS_TOGETHER) -> int:
    """Into how many equal pieces a batch is cut, which may run at the same time.

    Some ops use one core only, so that pieces keep the others busy. On an accelerator
    they would only be more to launch.

    Args:
      batch: its notes; None where that is not known before it runs.
      together: notes of a piece, at least; a smaller batch stays whole. The default is
        for what is as large as waveforms.
    """
    if not batch or on_accelerator():
        return 1
    most = max(1, min(batch // together, _MOST))
    return next(pieces for pieces in range(most, 0, -1) if batch % pieces == 0)


def split(tensor: tf.Tensor, count: int) -> list[tf.Tensor]:
    """A batch in equal pieces, itself where there is one.

    TensorFlow's GPUs split no integers: they would go to the host and back.
    """
    return [tensor] if count == 1 else tf.split(tensor, count)


def sizes(tensor: tf.Tensor) -> list[int | tf.Tensor]:
    """Sizes of a tensor, numbers where they are known before it runs."""
    dynamic = tf.shape(tensor)
    return [s if s is not None else dynamic[i] for i, s in enumerate(tensor.shape)]
