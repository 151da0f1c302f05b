"""General MIDI's melodic programs as NSynth's families, with playable ranges.

Left out is what General MIDI's groups put beside a family that it does not belong to:
free reeds among the organs (20 reed organ, 21 accordion, 22 harmonica, 23 bandoneon)
and timpani among the strings (47); and pads, effects and percussion.
"""

from typing import NamedTuple


class Program(NamedTuple):
    """One General MIDI program.

    Attributes:
      number: counted from 0.
      family: the NSynth family.
      source: how the sound is made: acoustic, electronic (played through pickups or
        tone generators) or synthetic.
      low: the lowest MIDI pitch of the instrument.
      high: the highest.
    """

    number: int
    family: str
    source: str
    low: int
    high: int


_A, _E, _S = "acoustic", "electronic", "synthetic"

# Pitches are those of the real instruments, inside the piano's 21-108.
_BY_FAMILY = {
    "keyboard": (
        (0, _A, 21, 108),
        (1, _A, 21, 108),
        (2, _E, 21, 108),
        (3, _A, 21, 108),
        (4, _E, 28, 103),
        (5, _E, 28, 103),
        (6, _A, 29, 89),
        (7, _E, 29, 88),
    ),
    "mallet": (
        (8, _A, 60, 108),
        (9, _A, 72, 108),
        (10, _A, 48, 108),
        (11, _A, 53, 89),
        (12, _A, 36, 96),
        (13, _A, 65, 108),
        (14, _A, 53, 79),
        (15, _A, 50, 88),
    ),
    "organ": (
        (16, _E, 36, 96),
        (17, _E, 36, 96),
        (18, _E, 36, 96),
        (19, _A, 24, 108),
    ),
    "guitar": (
        (24, _A, 40, 84),
        (25, _A, 40, 86),
        (26, _E, 40, 88),
        (27, _E, 40, 88),
        (28, _E, 40, 88),
        (29, _E, 40, 88),
        (30, _E, 40, 88),
        (31, _E, 40, 100),
    ),
    "bass": (
        (32, _A, 28, 72),
        (33, _E, 23, 76),
        (34, _E, 23, 76),
        (35, _E, 23, 76),
        (36, _E, 23, 76),
        (37, _E, 23, 76),
        (38, _S, 21, 108),
        (39, _S, 21, 108),
    ),
    "string": (
        (40, _A, 55, 103),
        (41, _A, 48, 91),
        (42, _A, 36, 81),
        (43, _A, 28, 67),
        (44, _A, 28, 96),
        (45, _A, 28, 96),
        (46, _A, 24, 103),
        (48, _A, 28, 96),
        (49, _A, 28, 96),
        (50, _S, 28, 96),
        (51, _S, 28, 96),
    ),
    "vocal": (
        (52, _A, 40, 84),
        (53, _A, 40, 84),
        (54, _S, 40, 84),
        (85, _S, 40, 84),
        (91, _S, 40, 84),
    ),
    "brass": (
        (56, _A, 52, 86),
        (57, _A, 40, 77),
        (58, _A, 28, 65),
        (59, _A, 52, 86),
        (60, _A, 34, 77),
        (61, _A, 36, 91),
        (62, _S, 36, 96),
        (63, _S, 36, 96),
    ),
    "reed": (
        (64, _A, 56, 88),
        (65, _A, 49, 81),
        (66, _A, 44, 76),
        (67, _A, 36, 69),
        (68, _A, 58, 91),
        (69, _A, 52, 81),
        (70, _A, 34, 75),
        (71, _A, 50, 94),
    ),
    "flute": (
        (72, _A, 74, 108),
        (73, _A, 60, 98),
        (74, _A, 60, 96),
        (75, _A, 55, 96),
        (76, _A, 48, 96),
        (77, _A, 55, 91),
        (78, _A, 60, 96),
        (79, _A, 60, 89),
    ),
    "synth_lead": (
        (80, _S, 36, 96),
        (81, _S, 36, 96),
        (82, _S, 36, 96),
        (83, _S, 36, 96),
        (84, _S, 36, 96),
        (86, _S, 36, 96),
        (87, _S, 36, 96),
    ),
}

PROGRAMS = tuple(
    Program(number, family, source, low, high)
    for family, rows in _BY_FAMILY.items()
    for number, source, low, high in rows
)
