"""The credit score as a table of points: which features it may ask, what each is worth, and what a score means."""

from bisect import bisect_left
from collections.abc import Mapping
from functools import cached_property
from itertools import pairwise
from math import log2
from typing import Annotated, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.money import ShareMinor
from schemas.reasons import Reason
from schemas.risk import Tier

Feature = Literal[
    "late_1",
    "late_2",
    "late_3",
    "late_4",
    "late_5",
    "late_6",
    "late_max",
    "late_months",
    "late_two_months",
    "on_time_streak",
    "use_now",
    "use_mean",
    "use_max",
    "use_trend",
    "paid_now",
    "paid_mean",
    "paid_min",
    "paid_of_all",
    "full_months",
    "zero_months",
    "payment_1",
    "payment_2",
    "payment_3",
    "payment_4",
    "payment_5",
    "payment_6",
    "payment_mean",
    "payment_min",
    "payment_max",
    "payment_of_limit",
    "idle_months",
]
"""All a score may depend on: how an account was used and repaid, never who its customer is (risk 2)."""
FEATURES: Final[tuple[Feature, ...]] = get_args(Feature)
Known = Mapping[Feature, float | None]
"""What is known of an account; None where its history does not reach."""
FACTORS: Final[Mapping[str, Reason]] = {
    "late": Reason.LATE_PAYMENTS,
    "on": Reason.LATE_PAYMENTS,
    "use": Reason.HIGH_UTILISATION,
    "use_trend": Reason.RISING_BALANCE,
    "paid": Reason.SMALL_SHARE_OF_BILL,
    "full": Reason.SMALL_SHARE_OF_BILL,
    "zero": Reason.SMALL_SHARE_OF_BILL,
    "payment": Reason.SMALL_PAYMENTS,
    "idle": Reason.NOT_ACTIVE,
}
FACTOR_OF: Final[Mapping[Feature, Reason]] = {
    name: FACTORS.get(name) or FACTORS[name.partition("_")[0]] for name in FEATURES
}
"""The reason that speaks of a feature (domain 8.1)."""
BETTER_WHEN_MORE: Final[frozenset[Feature]] = frozenset(
    name for name in FEATURES if name.startswith(("paid_", "payment_")) or name in ("full_months", "on_time_streak")
)
"""More of these never lowers a score; more of any other never raises it."""
POINTS_TO_DOUBLE: Final = 40
BASE_SCORE: Final = 600
BASE_ODDS: Final = 4
"""600 points are odds of four good to one bad, and 40 points double them (risk 3)."""
Centipoints = Annotated[int, Field(ge=-1_000_000, le=1_000_000)]
"""Hundredths of a point: integers, so that points add up to the score exactly."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Points(_Table):
    """What a feature is worth by bin: the first up to and with the first edge; what is missing has its own."""

    edges: tuple[float, ...]
    points: tuple[Centipoints, ...]
    missing: Centipoints

    @model_validator(mode="after")
    def _bins_fit(self) -> "Points":
        if len(self.points) != len(self.edges) + 1 or any(one >= two for one, two in pairwise(self.edges)):
            raise ValueError("a feature needs rising edges and one bin more than edges")
        return self

    def of(self, value: float | None) -> int:
        """Return the hundredths of a point of ``value``."""
        return self.missing if value is None else self.points[bisect_left(self.edges, value)]


class LimitReview(_Table):
    """When a credit limit is looked at again, and what must hold for more of it (risk 7).

    ``unit_minor`` is how many minor units are worth one unit of the money the table was trained in. Between
    ``look_from`` and ``look_below`` points a person decides, of accounts older than ``look_months``: the console has a
    case of each; who has nobody to look makes them equal. No late payment in the scored months; so many days since a
    return, a change of the limit and a refusal.
    """

    basis: Literal["half_yearly", "automatic", "score_and_activity"] = "half_yearly"
    on_request: bool = True
    unit_minor: Annotated[int, Field(ge=1, le=1_000_000)] = 25
    limit_cap_by_tier: Mapping[Tier, ShareMinor] = dict.fromkeys(get_args(Tier), 0)
    growth_bps: Annotated[int, Field(ge=10_000, le=30_000)] = 15_000
    every_months: Annotated[int, Field(ge=1, le=24)] = 6
    return_days: Annotated[int, Field(ge=0, le=400)] = 90
    change_days: Annotated[int, Field(ge=0, le=400)] = 180
    refusal_days: Annotated[int, Field(ge=0, le=400)] = 90
    look_from: int = 632
    look_below: int = 648
    look_months: Annotated[int, Field(ge=0, le=120)] = 24

    @model_validator(mode="after")
    def _every_tier_has_a_cap(self) -> "LimitReview":
        if set(get_args(Tier)) - self.limit_cap_by_tier.keys():
            raise ValueError("limit_cap_by_tier names every tier")
        return self


class Scorecard(_Table):
    """The credit score; ``sources`` says where its figures come from.

    ``near_pass`` are the mean points of each factor of customers scored just above ``threshold``, against whom reasons
    are measured (risk 8); ``trained_on`` is the sha256 of the data.
    """

    version: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
    sources: Mapping[str, str]
    trained_on: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    threshold: Annotated[int, Field(gt=0, lt=1_000)]
    base: Centipoints
    features: Mapping[Feature, Points]
    near_pass: Mapping[Reason, Centipoints]

    @model_validator(mode="after")
    def _complete_and_monotone(self) -> "Scorecard":
        if self.features.keys() != set(FEATURES) or self.near_pass.keys() != set(FACTOR_OF.values()):
            raise ValueError("every feature and every factor once, and no other")
        for name, table in self.features.items():
            rising = list(table.points) == sorted(table.points, reverse=name not in BETTER_WHEN_MORE)
            if not rising:
                raise ValueError(f"features.{name}: more of it must never look better and worse")
        return self

    @cached_property
    def _asked(self) -> tuple[tuple[Feature, tuple[float, ...], tuple[int, ...], int], ...]:
        """Features whose bins differ: the others cost nothing to leave out."""
        tables = self.features.items()
        return tuple((name, one.edges, one.points, one.missing) for name, one in tables if one.edges)

    def score(self, known: Known) -> int:
        """Return the score in hundredths of a point; a feature that ``known`` does not name raises KeyError."""
        total = self.base
        for name, edges, points, missing in self._asked:
            value = known[name]
            total += missing if value is None else points[bisect_left(edges, value)]
        return total

    def factors(self, known: Known) -> dict[Reason, int]:
        """Return the hundredths of a point of each factor; with ``base`` they add up to the score."""
        found = dict.fromkeys(FACTOR_OF.values(), 0)
        for name, table in self.features.items():
            found[FACTOR_OF[name]] += table.of(known[name])
        return found

    def knows(self, factor: Reason, known: Known) -> bool:
        """Tell whether everything that is scored of a factor is known."""
        return all(known[name] is not None for name, *_ in self._asked if FACTOR_OF[name] == factor)

    def at_best(self, known: Known) -> frozenset[Reason]:
        """Return the factors that are scored and cannot score better."""
        lost = dict.fromkeys((FACTOR_OF[name] for name, *_ in self._asked), 0)
        for name, _, points, _ in self._asked:
            lost[FACTOR_OF[name]] += max(points) - self.features[name].of(known[name])
        return frozenset(factor for factor, points in lost.items() if points <= 0)


def shown(centipoints: int) -> int:
    """Return a score as it is told: whole points, halves up."""
    return (centipoints + 50) // 100


def default_probability(centipoints: int) -> float:
    """Return the probability of default a score stands for: 640 points are 11.1 %."""
    odds: float = BASE_ODDS * 2.0 ** ((centipoints / 100 - BASE_SCORE) / POINTS_TO_DOUBLE)
    return 1 / (1 + odds)


def score_of(probability: float) -> float:
    """Return the score of a probability of default, in points."""
    return BASE_SCORE + POINTS_TO_DOUBLE * log2((1 - probability) / probability / BASE_ODDS)


TIERS: Final[tuple[Tier, ...]] = ("A", "B", "C", "D", "E")
_FLOORS: Final[tuple[tuple[Tier, int], ...]] = (("A", 66_500), ("B", 64_000), ("C", 60_000), ("D", 52_000))
HYSTERESIS: Final = 500
"""Hundredths of a point a score must pass a border by before an account changes its tier (risk 3)."""


def tier_of(centipoints: int) -> Tier:
    """Return the band of a score in hundredths of a point."""
    return next((tier for tier, floor in _FLOORS if centipoints >= floor), "E")


def next_tier(current: Tier, centipoints: int) -> Tier:
    """Return the tier after a new score: another one only when the score is well inside it."""
    if current == "unknown":
        return tier_of(centipoints)
    lowest, highest = tier_of(centipoints - HYSTERESIS), tier_of(centipoints + HYSTERESIS)
    return min(max(current, highest), lowest)
