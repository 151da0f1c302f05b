r"""How much of a SoundFont's sound another SoundFont has too.

  python tools/shared_samples.py --soundfont=TimGM6mb.sf2 --others=A.sf2,B.sf2

A bank is unheard only where its samples are not in the banks that were trained on,
whatever their instruments are called. Compared are the 16-bit samples of .sf2 files:
one counts as shared where it lies in 24 in a row that the other file has as well, in
any place. What hardly moves, as silence between two sounds, is left out. One row for
each other file, with the recordings of which more than half is shared.
"""

import functools
import pathlib
import struct
import sys
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import flags

from mic_tf import command
from mic_tf.errors import UserError

if TYPE_CHECKING:
    import numpy as np

IN_A_ROW = 24

LEAST_SWING = 64
"""Between the highest and the lowest of either half of a row, of 65,536; else silence.

Of one half alone, the first samples behind silence would be in many files by chance.
"""

_AT_ONCE = 1 << 22
_HEADER = struct.Struct("<20s5IBbHH")
_COMPRESSED, _IN_ROM = 0x10, 0x8000
_SHOWN = 12


class Sounds(NamedTuple):
    """The samples of a SoundFont, int16 [n], and its recordings in them."""

    samples: "np.ndarray"
    recordings: list[tuple[str, int, int]]
    """Name, first sample, the one behind the last."""


def define_flags() -> None:
    flags.DEFINE_string("soundfont", "", "The .sf2 file that is looked at.")
    flags.DEFINE_list("others", [], "Others, one or more.")


def main(arguments: list[str]) -> None:
    """Compares the files and prints the table."""
    flag = flags.FLAGS
    if arguments or not flag.soundfont or not flag.others:
        raise UserError("--soundfont, --others: missing; files, and flags only")
    own = read(flag.soundfont)
    print("| SoundFont | other | shared | recordings shared | of | their names |")
    print("| --- | --- | --- | --- | --- | --- |")
    for path in flag.others:
        is_shared, counts = shared(own.samples, read(path).samples)
        names = [
            name
            for name, first, end in own.recordings
            if 2 * is_shared[first:end].sum() > max(counts[first:end].sum(), 1)
        ]
        more = ", …" if len(names) > _SHOWN else ""
        print(
            f"| {pathlib.Path(flag.soundfont).name} | {pathlib.Path(path).name} "
            f"| {100 * is_shared.sum() / max(counts.sum(), 1):.1f}% | {len(names)} "
            f"| {len(own.recordings)} | {', '.join(names[:_SHOWN])}{more} |",
            flush=True,
        )


def read(path: str) -> Sounds:
    """The samples of a SoundFont 2 file (SoundFont Technical Specification 2.04).

    Raises:
      UserError: it cannot be read, or is no such file.
    """
    import numpy as np

    try:
        content = pathlib.Path(path).expanduser().read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    chunks = dict(_chunks(content))
    if content[8:12] != b"sfbk" or not {b"smpl", b"shdr"} <= set(chunks):
        raise UserError(f"{path}: no SoundFont 2 file; an .sf2 expected")
    recordings = []
    # The last header ends the list and means nothing else.
    whole = max(len(chunks[b"shdr"]) // _HEADER.size - 1, 0) * _HEADER.size
    for name, first, end, *_, kind in _HEADER.iter_unpack(chunks[b"shdr"][:whole]):
        if kind & _COMPRESSED:
            raise UserError(f"{path}: its samples are compressed; an .sf2 expected")
        if end > first and not kind & _IN_ROM:
            text = name.split(b"\0")[0].decode("latin-1").strip()
            recordings.append((text, first, end))
    samples = chunks[b"smpl"]
    return Sounds(np.frombuffer(samples[: len(samples) // 2 * 2], "<i2"), recordings)


def _chunks(content: bytes, start: int = 12):
    """Name and content of the chunks of a RIFF file, those in lists too."""
    while start + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, start)
        if name == b"LIST":
            start += 12
            continue
        yield name, content[start + 8 : start + 8 + size]
        start += 8 + size + size % 2


def shared(own: "np.ndarray", other: "np.ndarray") -> tuple["np.ndarray", "np.ndarray"]:
    """Which samples of one are in the other, too.

    Args:
      own: int16 [n].
      other: int16 [m].

    Returns:
      Of each sample whether it is, and whether it is no silence, bool [n].
    """
    import numpy as np

    counts = np.zeros(len(own), bool)
    found = np.zeros(len(own), bool)
    prints, moves = _prints(own)
    if not moves.any():
        return found, counts
    known, place = np.unique(prints[moves], return_inverse=True)
    is_there = np.zeros(len(known), bool)
    step = _AT_ONCE - IN_A_ROW + 1
    for start in range(0, len(other), step):
        its, _ = _prints(other[start : start + _AT_ONCE])
        where = np.minimum(np.searchsorted(known, its), len(known) - 1)
        is_there[where[known[where] == its]] = True
    starts = np.flatnonzero(moves)
    for behind in range(IN_A_ROW):
        counts[starts + behind] = True
        found[starts[is_there[place]] + behind] = True
    return found, counts


def _prints(samples: "np.ndarray") -> tuple["np.ndarray", "np.ndarray"]:
    """Of each row of samples a number that tells it, uint64, and whether it moves."""
    import numpy as np

    rows = max(len(samples) - IN_A_ROW + 1, 0)
    values = samples.astype(np.int32)
    mixed = (values + (1 << 15)).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    prints = np.zeros(rows, np.uint64)
    for behind in range(IN_A_ROW):
        prints = prints * np.uint64(0xD6E8FEB86659FD93)
        prints += mixed[behind : behind + rows]
    moves = np.ones(rows, bool)
    half = IN_A_ROW // 2
    for start in (0, half):
        parts = [values[at : at + rows] for at in range(start, start + half)]
        swing = functools.reduce(np.maximum, parts) - functools.reduce(
            np.minimum, parts
        )
        moves &= swing >= LEAST_SWING
    return prints, moves


if __name__ == "__main__":
    define_flags()
    command.run(main)
