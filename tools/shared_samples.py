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
    rows = Rows(own.samples)
    print("| SoundFont | other | shared | recordings shared | of | their names |")
    print("| --- | --- | --- | --- | --- | --- |")
    for path in flag.others:
        is_shared = rows.shared(read(path).samples)
        names = [
            name
            for name, first, end in own.recordings
            if 2 * is_shared[first:end].sum() > max(rows.counts[first:end].sum(), 1)
        ]
        share = 100 * is_shared.sum() / max(rows.counts.sum(), 1)
        more = ", …" if len(names) > _SHOWN else ""
        print(
            f"| {pathlib.Path(flag.soundfont).name} | {pathlib.Path(path).name} "
            f"| {share:.1f}% | {len(names)} "
            f"| {len(own.recordings)} | {', '.join(names[:_SHOWN])}{more} |",
            flush=True,
        )


def read(path: str) -> Sounds:
    """The samples of a SoundFont 2 file (SoundFont Technical Specification 2.04).

    Raises:
      UserError: it cannot be read, or is no such file.
    """
    import numpy as np

    from mic_tf import files

    try:
        content = pathlib.Path(path).expanduser().read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {files.reason(error)}") from error
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


class Rows:
    """The rows of samples of a SoundFont that move, to be looked for in others.

    Args:
      samples: int16 [n].

    Attributes:
      counts: of each sample whether it is in such a row, bool [n].
    """

    def __init__(self, samples: "np.ndarray"):
        import numpy as np

        self._starts = np.flatnonzero(_moves(samples))
        self._known, self._place = np.unique(
            _prints(samples)[self._starts], return_inverse=True
        )
        self.counts = self._covered(self._starts, len(samples))

    def shared(self, other: "np.ndarray") -> "np.ndarray":
        """Which samples are in a row that another file has too, bool [n].

        Args:
          other: its samples, int16 [m].
        """
        import numpy as np

        is_there = np.zeros(len(self._known), bool)
        step = _AT_ONCE - IN_A_ROW + 1
        for start in range(0, len(other) if len(self._known) else 0, step):
            prints = _prints(other[start : start + _AT_ONCE])
            where = np.searchsorted(self._known, prints)
            where = np.minimum(where, len(self._known) - 1)
            is_there[where[self._known[where] == prints]] = True
        return self._covered(self._starts[is_there[self._place]], len(self.counts))

    @staticmethod
    def _covered(starts: "np.ndarray", count: int) -> "np.ndarray":
        """Which of so many samples are in the rows that start there."""
        import numpy as np

        covered = np.zeros(count, bool)
        for behind in range(IN_A_ROW):
            covered[starts + behind] = True
        return covered


def _prints(samples: "np.ndarray") -> "np.ndarray":
    """Of each row of samples a number that tells it, uint64."""
    import numpy as np

    rows = max(len(samples) - IN_A_ROW + 1, 0)
    mixed = samples.astype(np.uint16).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    prints = np.zeros(rows, np.uint64)
    for behind in range(IN_A_ROW):
        prints *= np.uint64(0xD6E8FEB86659FD93)
        prints += mixed[behind : behind + rows]
    return prints


def _moves(samples: "np.ndarray") -> "np.ndarray":
    """Of each row of samples whether it does, bool."""
    import numpy as np

    rows = max(len(samples) - IN_A_ROW + 1, 0)
    values = samples.astype(np.int32)
    moves = np.ones(rows, bool)
    half = IN_A_ROW // 2
    for start in (0, half):
        parts = [values[at : at + rows] for at in range(start, start + half)]
        highest = functools.reduce(np.maximum, parts)
        lowest = functools.reduce(np.minimum, parts)
        moves &= highest - lowest >= LEAST_SWING
    return moves


if __name__ == "__main__":
    define_flags()
    command.run(main)
