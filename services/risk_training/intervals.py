"""How sure a figure is: 95 % intervals of a share, of a ratio of two shares, and of the area under the curve."""

from collections.abc import Sequence
from math import exp, inf, sqrt
from statistics import fmean
from typing import Final, NamedTuple

from services.risk_training.measures import by_rank

Z: Final = 1.959964
"""Standard errors either side of a figure that hold 95 % of the normal distribution."""


class Interval(NamedTuple):
    """A figure and between what it may well be."""

    value: float
    least: float
    most: float


def share(count: int, of: int) -> Interval:
    """Return Wilson's interval of ``count`` in ``of``; of nobody anything may be."""
    if of == 0:
        return Interval(0.0, 0.0, 1.0)
    seen, square = count / of, Z * Z / of
    middle = (seen + square / 2) / (1 + square)
    half = Z / (1 + square) * sqrt(seen * (1 - seen) / of + square / of / 4)
    return Interval(seen, max(0.0, middle - half), min(1.0, middle + half))


def ratio(one: tuple[int, int], other: tuple[int, int]) -> Interval:
    """Return Katz' interval of the ratio of two shares, each (count, of); where one count is 0, anything may be."""
    (few, of), (many, all_others) = one, other
    if not (few and many):
        return Interval(0.0 if many else inf, 0.0, inf)
    found = few / of / (many / all_others)
    error = sqrt(1 / few - 1 / of + 1 / many - 1 / all_others)
    return Interval(found, found * exp(-Z * error), found * exp(Z * error))


def area(probabilities: Sequence[float], defaulted: Sequence[bool]) -> Interval:
    """Return DeLong's interval of the area under the curve; raise ValueError unless both outcomes are there twice."""
    groups = by_rank(probabilities, defaulted)
    bad, good = sum(one for one, _ in groups), sum(two for _, two in groups)
    if min(bad, good) < 2:
        raise ValueError("an area needs two customers of each outcome")
    above, below = bad, 0
    of_bad: list[tuple[int, float]] = []
    of_good: list[tuple[int, float]] = []
    for bad_here, good_here in groups:
        above -= bad_here
        of_bad.append((bad_here, (below + good_here / 2) / good))
        of_good.append((good_here, (above + bad_here / 2) / bad))
        below += good_here
    found = fmean([value for _, value in of_bad], [count for count, _ in of_bad])
    error = sqrt(_variance(of_bad, found) / bad + _variance(of_good, found) / good)
    return Interval(found, max(0.0, found - Z * error), min(1.0, found + Z * error))


def _variance(weighted: Sequence[tuple[int, float]], mean: float) -> float:
    return sum(count * (value - mean) ** 2 for count, value in weighted) / (sum(count for count, _ in weighted) - 1)
