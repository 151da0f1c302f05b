r"""How the audit's search for twins grows with the number of notes.

  python tools/twin_growth.py --notes=20000,80000,305979

Half the fingerprints are made up, those of generated notes with a random tilt and
random gains of their bands; the other half are copies of them, up to 0.4 dB off in each
cell.
Prints one row for each number: CPU and wall seconds of the search, the most memory the
program has held by then, and the share of the copies that were found. The sizes run in
rising order.
"""

import pathlib
import resource
import sys
import time

import numpy as np
from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from mic_tf import command
from mic_tf.errors import UserError

_NOTES = flags.DEFINE_list("notes", ["20000", "80000", "305979"], "Numbers of notes.")

_OFF_DB = 0.4
_TILT_DB = 12.0
_GAIN_DB = 3.0


def main(arguments: list[str]) -> None:
    """Prints the table."""
    if arguments:
        raise UserError(f"{arguments[0]}: unexpected argument; flags begin with --")
    wrong = [n for n in _NOTES.value if not n.isdigit() or int(n) < 2]
    if wrong or not _NOTES.value:
        raise UserError(f"--notes={','.join(_NOTES.value)}: numbers from 2 up expected")

    print("| notes | CPU s | wall s | peak memory, MB | copies found |")
    print("| --- | --- | --- | --- | --- |")
    originals = generated_fingerprints()
    for count in sorted(map(int, _NOTES.value)):
        print(row(originals, count), flush=True)


def row(originals: np.ndarray, count: int) -> str:
    """Searches among so many fingerprints."""
    from mic_tf.evaluation import twins

    half = count // 2
    fingerprints = with_copies(originals, half)
    wall, cpu = time.perf_counter(), time.process_time()
    groups = twins.groups(fingerprints)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    found = np.mean(groups[half:] == groups[:half])
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    notes = len(fingerprints)
    return f"| {notes:,} | {cpu:.1f} | {wall:.1f} | {megabytes:,.0f} | {found:.2%} |"


def generated_fingerprints() -> np.ndarray:
    """Of 240 generated notes, uint8 [240, 512]."""
    import tensorflow as tf

    from mic_tf.evaluation import measures
    from tools.planting import clean_note

    waveforms = [
        clean_note(family, number, pitch)["audio"] / np.float32(32768.0)
        for family in ("flute", "guitar", "organ", "reed")
        for number in range(6)
        for pitch in range(30, 90, 6)
    ]
    return measures.fingerprint(tf.constant(np.stack(waveforms))).numpy()


def with_copies(originals: np.ndarray, count: int) -> np.ndarray:
    """Made-up fingerprints and a copy of each.

    Args:
      originals: uint8 [notes, cells].
      count: how many to make up.

    Returns:
      uint8 [2 × count, cells]: first the made-up ones, then their copies.
    """
    from mic_tf.evaluation.measures import FLOOR_DB, STEP_DB

    random = np.random.default_rng(0)
    cells = originals.shape[1]
    bands = np.arange(cells) % 64
    made = np.empty([2 * count, cells], np.uint8)
    for place in range(count):
        heard = originals[random.integers(len(originals))] * STEP_DB
        tilt = random.uniform(-_TILT_DB, _TILT_DB) * bands / 64
        gains = _GAIN_DB * random.standard_normal(64)[bands]
        level = np.where(heard > 0, heard + tilt + gains, 0.0)
        level = np.maximum(level - level.max() + FLOOR_DB, 0.0)
        off = random.uniform(-_OFF_DB, _OFF_DB, cells)
        copy = np.where(level > 0, np.clip(level + off, 0.0, FLOOR_DB), 0.0)
        made[place] = np.round(level / STEP_DB)
        made[count + place] = np.round(copy / STEP_DB)
    return made


if __name__ == "__main__":
    command.run(main)
