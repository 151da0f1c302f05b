"""Timing contenders in turn, and the rows that come out of it."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Aim:
    """What a figure should reach.

    Attributes:
      bound: the figure that is to be reached.
      at_most: whether smaller is better.
      hoped: a figure beyond it that would be better still; None: no such.
    """

    bound: float
    at_most: bool = False
    hoped: float | None = None

    def words(self) -> str:
        sign = "≤" if self.at_most else "≥"
        hoped = f" (hoped {self.hoped:g})" if self.hoped is not None else ""
        return f"{sign} {self.bound:g}{hoped}"

    def verdict(self, value: float) -> str:
        """`reached`, `reached, below the hoped …` or `below`."""
        if not self._reaches(value, self.bound):
            return "below"
        if self.hoped is not None and not self._reaches(value, self.hoped):
            return f"reached, below the hoped {self.hoped:g}"
        return "reached"

    def _reaches(self, value: float, bound: float) -> bool:
        return value <= bound if self.at_most else value >= bound


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the result.

    Attributes:
      section: name of the section that measured it.
      name: what was measured.
      value: the figure; None where it could not be measured, and `note` says why.
      unit: of the figure; `x` for a ratio.
      low: lowest of the rounds, None where there was one.
      high: highest of the rounds.
      rounds: how many rounds the figure is the median of.
      aim: what it should reach, None where it only informs.
      note: absolute figures behind a ratio, or why there is no figure.
    """

    section: str
    name: str
    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None
    rounds: int = 1
    aim: Aim | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.aim is None:
            return ""
        return "not measured" if self.value is None else self.aim.verdict(self.value)

    def as_dict(self) -> dict[str, Any]:
        """The row as JSON values, with the aim and the verdict in words."""
        content = dataclasses.asdict(self)
        content["aim"] = self.aim.words() if self.aim else None
        return {**content, "verdict": self.verdict}


def missing(section: str, name: str, why: str, aim: Aim | None = None) -> Row:
    """The row of something that could not be measured here."""
    return Row(section, name, None, "", aim=aim, note=why)


Timings = dict[str, list[float]]
"""Seconds of every round of each contender."""


def in_turn(
    contenders: Mapping[str, Callable[[], float | None]],
    *,
    seconds: float,
    least_rounds: int = 3,
    most_rounds: int = 30,
) -> Timings:
    """Runs contenders one after the other, round by round (A B A B …).

    Every contender runs once before, untimed: caches fill, graphs are traced.

    Args:
      contenders: each does the same work once, and has done it when it returns. It
        may return the seconds that count, where not all that it does is timed.
      seconds: no further round is begun after so long.
      least_rounds: rounds that are run however long they take.
      most_rounds: rounds after which it is enough.
    """
    for run in contenders.values():
        run()
    timings: Timings = {name: [] for name in contenders}
    end = time.perf_counter() + seconds
    for round_number in range(most_rounds):
        if round_number >= least_rounds and time.perf_counter() >= end:
            break
        for name, run in contenders.items():
            started = time.perf_counter()
            counted = run()
            elapsed = time.perf_counter() - started
            timings[name].append(elapsed if counted is None else counted)
    return timings


def ratio_row(
    section: str,
    timings: Timings,
    ours: str,
    other: str,
    *,
    work: float,
    unit: str = "notes/s",
    aim: Aim | None = None,
    note: str = "",
) -> Row:
    """How many times faster `ours` is than `other`, round by round.

    Args:
      section: of the row.
      timings: of both.
      ours: name of the first.
      other: name of the second.
      work: what a round does, in the unit that the absolute figures count.
      unit: of the absolute figures.
      aim: for the ratio.
      note: goes behind the absolute figures.
    """
    pairs = zip(timings[ours], timings[other], strict=True)
    ratios = [theirs / own for own, theirs in pairs]
    rates = (work / statistics.median(timings[name]) for name in (ours, other))
    absolute = f"{next(rates):,.0f} against {next(rates):,.0f} {unit}"
    return Row(
        section,
        f"{ours} against {other}",
        statistics.median(ratios),
        "x",
        min(ratios),
        max(ratios),
        len(ratios),
        aim,
        f"{absolute}; {note}" if note else absolute,
    )


def rate_row(
    section: str,
    name: str,
    times: Sequence[float],
    work: float,
    unit: str = "notes/s",
    note: str = "",
    aim: Aim | None = None,
) -> Row:
    """Work done a second, from the seconds of every round."""
    rates = [work / seconds for seconds in times]
    middle = work / statistics.median(times)
    low, high = min(rates), max(rates)
    return Row(section, name, middle, unit, low, high, len(rates), aim, note)
