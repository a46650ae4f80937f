"""What a credit score is worth on customers whose outcome is known: every figure a report shows, and nothing drawn."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Final, NamedTuple

from schemas.reasons import Reason
from schemas.risk import Tier
from services.risk_training.dataset import Customer, Part
from services.risk_training.drift import binned, edges_of, psi
from services.risk_training.intervals import Interval, area, share
from services.risk_training.measures import Measures, by_rank, measured
from services.scorecard import FEATURES, TIERS, Feature, Scorecard, default_probability, tier_of

PARTS: Final[tuple[Part, ...]] = ("train", "valid", "test")
BINS: Final = 10
CUT_OFFS: Final = (520, 560, 600, 620, 632, 640, 648, 665, 700)
"""Where the confusion is told: the tiers' borders, the band in which a person may look, and between them."""
GRID: Final = range(480, 741, 10)
"""Where the cost of a cut-off is computed."""
DEARNESS: Final = (4, 8, 16)
"""Assumed: what a default that was approved costs, in refusals of somebody who would have repaid."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A customer and its score in hundredths of a point."""

    customer: Customer
    score: int

    @property
    def probability(self) -> float:
        """Return the probability of default the score stands for."""
        return default_probability(self.score)


class Bin(NamedTuple):
    """Customers of like scores: their lowest and highest score in points, what was predicted and what was seen."""

    least: float
    most: float
    people: int
    predicted: float
    seen: Interval


class Confusion(NamedTuple):
    """What a cut-off in points would have done: customers by what was decided and what came of them."""

    cut_off: int
    good_approved: int
    bad_approved: int
    good_refused: int
    bad_refused: int

    @property
    def approved(self) -> int:
        """Return how many are approved."""
        return self.good_approved + self.bad_approved

    @property
    def people(self) -> int:
        """Return how many were judged."""
        return self.approved + self.good_refused + self.bad_refused

    def cost(self, dearness: int) -> float:
        """Return the cost of 1,000 customers, in refusals of somebody who would have repaid."""
        return 1_000 * (dearness * self.bad_approved + self.good_refused) / self.people


class Moved(NamedTuple):
    """A feature's population stability index between the customers it was trained on and those it is tested on."""

    feature: Feature
    psi: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All figures of one table; those without a part in their name are of the test part."""

    table: Scorecard
    counts: Mapping[Part, tuple[int, int]]
    measures: Mapping[Part, Measures]
    areas: Mapping[Part, Interval]
    curve: Sequence[tuple[float, float]]
    bins: Sequence[Bin]
    tiers: Mapping[Tier, Bin]
    shifts: Mapping[Part, float]
    moved: Sequence[Moved]
    confusions: Sequence[Confusion]
    grid: Sequence[Confusion]
    reasons: Mapping[Reason, int]
    without_reason: int


def judged(table: Scorecard, customers: Sequence[Customer]) -> list[Judged]:
    """Score every customer."""
    return [Judged(customer, table.score(customer.known)) for customer in customers]


def evaluated(table: Scorecard, customers: Sequence[Customer]) -> Evaluation:
    """Return what a table is worth; raise ValueError when a part of the split lacks an outcome."""
    every = judged(table, customers)
    parts = {part: [one for one in every if one.customer.part == part] for part in PARTS}
    found = {part: _outcomes(here) for part, here in parts.items()}
    test = parts["test"]
    scores = {part: [one.score for one in here] for part, here in parts.items()}
    edges = edges_of(scores["train"])
    known = binned(scores["train"], edges)
    reasons = Counter(first_reason(table, one) for one in test if one.score < 100 * table.threshold)
    return Evaluation(
        table=table,
        counts={part: (len(here), sum(bad for _, bad in here)) for part, here in found.items()},
        measures={part: measured(*_columns(here)) for part, here in found.items()},
        areas={part: area(*_columns(here)) for part, here in found.items()},
        curve=curve(test),
        bins=calibration(test),
        tiers={tier: _bin(here) for tier in TIERS if (here := [one for one in test if tier_of(one.score) == tier])},
        shifts={part: psi(known, binned(scores[part], edges)) for part in PARTS if part != "train"},
        moved=moved(parts["train"], test),
        confusions=[confusion(test, cut_off) for cut_off in sorted({*CUT_OFFS, table.threshold})],
        grid=[confusion(test, cut_off) for cut_off in GRID],
        reasons={reason: count for reason, count in reasons.most_common() if reason is not None},
        without_reason=reasons[None],
    )


def curve(people: Sequence[Judged]) -> list[tuple[float, float]]:
    """Return the ROC curve: the shares of those who repaid and of those who did not, riskiest first, thinned."""
    groups = by_rank(*_columns(_outcomes(people)))
    bad, good = sum(one for one, _ in groups), sum(two for _, two in groups)
    points, at = [(0.0, 0.0)], [0, 0]
    for bad_here, good_here in reversed(groups):
        at[0] += good_here
        at[1] += bad_here
        points.append((at[0] / good, at[1] / bad))
    step = max(1, len(points) // 120)
    return [*points[:-1:step], points[-1]]


def calibration(people: Sequence[Judged]) -> list[Bin]:
    """Return bins of as many customers each, riskiest last."""
    ordered = sorted(people, key=lambda one: (-one.score, one.customer.row))
    cuts = [len(ordered) * n // BINS for n in range(BINS + 1)]
    return [_bin(ordered[start:end]) for start, end in pairwise(cuts) if end > start]


def confusion(people: Sequence[Judged], cut_off: int) -> Confusion:
    """Return what approving from ``cut_off`` points on would have done."""
    found = Counter((one.score >= 100 * cut_off, one.customer.defaulted) for one in people)
    return Confusion(cut_off, found[True, False], found[True, True], found[False, False], found[False, True])


def moved(train: Sequence[Judged], test: Sequence[Judged]) -> list[Moved]:
    """Return how much each feature moved between two groups, most first."""
    found = []
    for name in FEATURES:
        columns = [[value for one in people if (value := one.customer.known[name]) is not None] for people in
                   (train, test)]  # fmt: skip
        edges = edges_of(columns[0])
        found.append(Moved(name, psi(*(binned(column, edges) for column in columns))))
    return sorted(found, key=lambda one: (-one.psi, one.feature))


def first_reason(table: Scorecard, one: Judged) -> Reason | None:
    """Return what speaks most against a customer beside those just approved (risk 8); None when nothing does."""
    points = {factor: found - table.near_pass[factor] for factor, found in table.factors(one.customer.known).items()}
    worst = min(points, key=lambda factor: (points[factor], factor))
    return worst if points[worst] < 0 else None


def cheapest(grid: Sequence[Confusion], dearness: int) -> Confusion:
    """Return the cut-off that would have cost least; of equals the lowest."""
    return min(grid, key=lambda one: (one.cost(dearness), one.cut_off))


def _outcomes(people: Sequence[Judged]) -> list[tuple[float, bool]]:
    return [(one.probability, one.customer.defaulted) for one in people]


def _columns(found: Sequence[tuple[float, bool]]) -> tuple[list[float], list[bool]]:
    return [one for one, _ in found], [two for _, two in found]


def _bin(people: Sequence[Judged]) -> Bin:
    scores = [one.score / 100 for one in people]
    seen = share(sum(one.customer.defaulted for one in people), len(people))
    return Bin(min(scores), max(scores), len(people), fmean(one.probability for one in people), seen)
