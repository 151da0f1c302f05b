r"""Size, latency and agreement of an export's SavedModel and TFLite files.

  python -m mic_tf.export --workdir=runs/phase4 --tflite=float32,float16,int8
  python tools/tflite_table.py --model=runs/phase4/export

Latency is for one window of 4 s on one thread, in memory, after three calls: the
median of `--calls` and the value that 95 % stay below. Agreement is the share of the
notes of `--split` whose most probable family is the SavedModel's.
"""

import os
import pathlib
import sys
import time

import numpy as np
from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from mic_tf import bundled, command
from mic_tf.errors import UserError
from tools import measured_notes

flags.adopt_module_key_flags(measured_notes)

_CALLS = flags.DEFINE_integer("calls", 100, "Timed calls.", lower_bound=1)


def answers(infer, waveforms: np.ndarray) -> np.ndarray:
    """Probabilities [notes, families] of notes int16 [notes, 64000], one by one."""
    windows = (w[np.newaxis].astype(np.float32) / 32768 for w in waveforms)
    return np.concatenate([infer(window)[0] for window in windows])


def milliseconds(infer, waveform: np.ndarray, calls: int) -> np.ndarray:
    """Times of single calls, float64 [calls]."""
    window = waveform[np.newaxis].astype(np.float32) / 32768
    for _ in range(3):
        infer(window)
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        infer(window)
        times.append(1000 * (time.perf_counter() - start))
    return np.array(times)


def size(path: str) -> int:
    """Bytes of a file, or of all files in a folder."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(p.stat().st_size for p in pathlib.Path(path).rglob("*") if p.is_file())


def row(path: str, times: np.ndarray, found: np.ndarray, wanted: np.ndarray) -> str:
    """One row of the table, from probabilities [notes, families]."""
    same = (found.argmax(axis=1) == wanted.argmax(axis=1)).mean()
    middle, high = np.quantile(times, [0.5, 0.95])
    return (
        f"| {os.path.basename(path)} | {size(path) / 1e6:.2f} | {middle:.1f} | "
        f"{high:.1f} | {same:.2%} | {np.abs(found - wanted).max():.4f} |"
    )


def main(arguments: list[str]) -> None:
    """Prints the table."""
    if arguments:
        raise UserError(f"{arguments[0]}: unexpected argument; flags begin with --")

    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    notes = measured_notes.notes_of_flags()

    from mic_tf.serving import models, tflite

    folder, saved_model = models.parts(bundled.resolved(measured_notes.MODEL.value))
    names = [os.path.join(folder, name) for name in tflite.FILE_NAMES.values()]
    paths = [saved_model, *(name for name in names if os.path.exists(name))]
    print(f"{len(notes.families)} notes of {notes.words}\n")
    print("| file | MB | median ms | 95 % below | agreement | largest difference |")
    print("| --- | --- | --- | --- | --- | --- |")
    wanted = None
    for path in paths:
        infer = models.open_model(path)[1]
        found = answers(infer, notes.waveforms)
        wanted = found if wanted is None else wanted
        times = milliseconds(infer, notes.waveforms[0], _CALLS.value)
        print(row(path, times, found, wanted))


if __name__ == "__main__":
    command.run(main)
