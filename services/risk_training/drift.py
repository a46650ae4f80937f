"""Whether the world is still the one a model knows: has what is seen moved, and does more come back than expected?

Two questions, because they fail apart: a wave of returns that looks like ordinary repayments moves no distribution (the
population stability index is blind to it), and a change of customers who repay as expected returns nothing (the sums
of what came back too often stay at 0).
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from math import log, sqrt
from typing import Final, Literal, NamedTuple

Shift = Literal["none", "warn", "act"]
WARN, ACT = 0.10, 0.25
"""From which index on a shift is told, and acted on."""
BINS: Final = 10
SLACK: Final = 0.5
LIMIT: Final = 6.0
"""What a step may come back more than expected, and the sum that alarms, both in standard deviations of it (k, h)."""
LEAST: Final = 4.0


def edges_of(reference: Sequence[float], bins: int = BINS) -> tuple[float, ...]:
    """Return the inner edges of ``bins`` parts of as many values each; equal edges are one."""
    ordered = sorted(reference)
    return tuple(dict.fromkeys(ordered[len(ordered) * n // bins] for n in range(1, bins)))


def psi(reference: Mapping[object, int], now: Mapping[object, int]) -> float:
    """Return the population stability index of counts by bin; a bin nobody is in counts as half a one.

    Raises ValueError when either is empty.
    """
    if not sum(reference.values()) or not sum(now.values()):
        raise ValueError("a shift is between two groups that are there")
    names = reference.keys() | now.keys()
    shares = [[max(0.5, counts.get(name, 0)) for name in names] for counts in (reference, now)]
    before, after = ([count / sum(counts) for count in counts] for counts in shares)
    return sum((two - one) * log(two / one) for one, two in zip(before, after, strict=True))


def binned(values: Iterable[float], edges: Sequence[float]) -> Counter[object]:
    """Return how many values are in each bin."""
    return Counter(bisect_right(edges, value) for value in values)


def shift(index: float) -> Shift:
    """Return what an index asks for."""
    return "act" if index >= ACT else "warn" if index >= WARN else "none"


class Seen(NamedTuple):
    """A matured repayment: its day, the segments it is in, the chance that was expected, and whether it came back."""

    on: date
    segments: tuple[str, ...]
    expected: float
    returned: bool


@dataclass(slots=True)
class Count:
    """What came back, what was expected to, and the variance of that."""

    returned: int = 0
    expected: float = 0.0
    variance: float = 0.0

    def add(self, returned: int, expected: float, variance: float) -> None:
        """Count more of it."""
        self.returned += returned
        self.expected += expected
        self.variance += variance


@dataclass(slots=True)
class Cusum:
    """The one-sided sum of what came back more often than expected, day by day.

    Days of which little is expected are counted together until the variance is LEAST: few returns are too skewed to be
    measured in standard deviations. ``alarmed_on`` is the first day it passed LIMIT.
    """

    sum: float = 0.0
    alarmed_on: date | None = None
    step: Count = field(default_factory=Count)

    def day(self, on: date, returned: int, expected: float, variance: float) -> None:
        """Count a day's returns against the sum of their chances."""
        self.step.add(returned, expected, variance)
        if self.step.variance < LEAST:
            return
        excess = (self.step.returned - self.step.expected) / sqrt(self.step.variance)
        self.sum, self.step = max(0.0, self.sum + excess - SLACK), Count()
        if self.sum > LIMIT and self.alarmed_on is None:
            self.alarmed_on = on


@dataclass(slots=True)
class Watch:
    """A sum for each segment: a wave in a small one drowns in the whole."""

    segments: dict[str, Cusum] = field(default_factory=dict)

    def days(self, seen: Iterable[Seen]) -> "Watch":
        """Count repayments, whole days of them, in the order of their days."""
        found: dict[date, dict[str, Count]] = {}
        for one in seen:
            day = found.setdefault(one.on, {})
            for segment in one.segments:
                count = day.setdefault(segment, Count())
                count.add(one.returned, one.expected, one.expected * (1 - one.expected))
        for on in sorted(found):
            for segment, count in found[on].items():
                sum_of = self.segments.setdefault(segment, Cusum())
                sum_of.day(on, count.returned, count.expected, count.variance)
        return self

    def alarms(self) -> dict[str, date]:
        """Return the segments that alarmed, and when, earliest first."""
        found = [(cusum.alarmed_on, name) for name, cusum in self.segments.items() if cusum.alarmed_on is not None]
        return {name: on for on, name in sorted(found)}
