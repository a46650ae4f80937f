"""How likely a repayment is taken back, as a table of odds; and the prices the formula weighs it with."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import log
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.money import ShareMinor

Feature = Literal["unverified", "strikes", "share_of_limit", "overpaid", "cycled"]
Probability = Annotated[float, Field(ge=0, le=1)]
Survivor = Annotated[tuple[Probability, ...], Field(min_length=6, max_length=6)]
ANY_RAIL: Final = "any"


@dataclass(frozen=True, slots=True)
class Chance:
    """That a repayment is taken back in one way: ``likely`` at all, ``survivor[t]`` of it after banking day t.

    ``respent`` of what was released is spent by then, and ``lost`` of that is never paid again.
    """

    likely: float
    survivor: tuple[float, ...]
    respent: float
    lost: float

    def after(self, day: int) -> float:
        """Return S(day): the share of these returns that comes later than banking ``day``."""
        return self.survivor[min(day, len(self.survivor) - 1)]


DAYS: Final = (1, 2, 3, 5)
"""Banking days a hold may last by the formula; waits between them are hardly worth a date of their own."""


def loss(kinds: Sequence[Chance], day: int) -> float:
    """Return q(t): the expected loss per unit released on banking ``day``, when nothing was returned until then."""
    lost = sum(kind.likely * kind.after(day) * kind.respent * kind.lost for kind in kinds)
    return lost / (1 - sum(kind.likely * (1 - kind.after(day)) for kind in kinds))


class Hazard(NamedTuple):
    """What the formula needs of a repayment: q(0), q(t) for each of DAYS, and what raised the odds, worst first."""

    at_once: float
    later: tuple[float, ...]
    fired: "tuple[Feature, ...]" = ()


class Wait(NamedTuple):
    """What a wait costs: by its days, and declined purchases of a need that is exponential with this mean.

    Of the hazard it is weighed for, ``later`` is q(t), and up to ``usable`` of credit the next unit given back now
    loses less than it spares in declined purchases; None where waiting avoids no loss.
    """

    days: int
    waited: float
    need: float
    declined: float
    later: float = 0.0
    usable: float | None = None


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Guards(_Table):
    """What keeps all of a repayment back before any price is asked (risk 4.5); every default is assumed.

    A dispute counts for ``disputed_days``; a funding account is new for ``new_days`` after its first use, and shared
    from ``shared_from`` customers on. A young account is one of less than ``young_days``, on which ``lately_count``
    repayments within 24 hours may come to ``lately_bps`` of the limit.
    """

    disputed_days: Annotated[int, Field(ge=1, le=400)] = 60
    new_days: Annotated[int, Field(ge=1, le=400)] = 30
    shared_from: Annotated[int, Field(ge=2, le=9)] = 3
    young_days: Annotated[int, Field(ge=1, le=400)] = 180
    lately_count: Annotated[int, Field(ge=2, le=99)] = 2
    lately_bps: Annotated[int, Field(ge=1, le=100_000)] = 6_000


class Prices(_Table):
    """What the formula weighs, in minor units; every default is assumed until the product's owner measured it.

    A held day, a declined purchase, the margin on one, a customer's mean need over ``need_days`` banking days, a
    person's look and the share of returns it catches. In a demo a banking day of a hold lasts ``day_seconds``.
    """

    day_minor: ShareMinor = 25
    declined_minor: ShareMinor = 600
    margin: Annotated[float, Field(ge=0, le=1)] = 0.015
    need_minor: Annotated[int, Field(gt=0)] = 40_000
    need_days: Annotated[int, Field(ge=1, le=30)] = 3
    review_minor: ShareMinor = 2_000
    caught: Annotated[float, Field(gt=0, le=1)] = 0.8
    day_seconds: Annotated[int, Field(ge=1, le=3_600)] | None = None

    def need(self, days: int) -> float:
        """Return the mean need to spend over ``days`` banking days."""
        return self.need_minor * days / self.need_days

    @cached_property
    def waits(self) -> tuple[Wait, ...]:
        """Return what each of DAYS costs."""
        needs = [(days, self.need(days)) for days in DAYS]
        return tuple(
            Wait(days, self.day_minor * days, need, self.declined_minor + self.margin * need) for days, need in needs
        )

    @cached_property
    def _weighed(self) -> dict[tuple[float, tuple[float, ...]], tuple[Wait, ...]]:
        """Return what was computed so far."""
        return {}

    def weighed(self, hazard: Hazard) -> tuple[Wait, ...]:
        """Return each wait as it weighs for a hazard, computed once for each the table of returns has."""
        odds = hazard[:2]
        found = self._weighed.get(odds)
        if found is None:
            both = zip(self.waits, hazard.later, strict=True)
            found = tuple(one._replace(later=later, usable=_usable(one, hazard.at_once - later)) for one, later in both)
            self._weighed[odds] = found
        return found


def _usable(wait: Wait, avoided: float) -> float | None:
    return wait.need * log(wait.declined / (wait.need * avoided)) if avoided > 0 else None


class Exposure(_Table):
    """How much may be given back before it is final: of a customer, and of the product's whole portfolio.

    ``per_customer`` bounds it by the limit and by the instant cap of the tier; ``portfolio_max_minor`` is the budget
    above which nothing is given back at once on rails that may take it back. While our own delay burns an objective the
    instant cap of tiers A and B is ``relief_bps`` of itself, until so much is expected to be lost by it within a day
    (L17); by default there is no relief.
    """

    per_customer: bool = False
    portfolio_max_minor: ShareMinor | None = None
    relief_bps: Annotated[int, Field(ge=10_000, le=50_000)] = 10_000
    relief_loss_minor: ShareMinor = 0


class Bin(_Table):
    """What a value of a feature multiplies the odds by, and the least that is then re-spent and lost."""

    odds: Annotated[float, Field(ge=1)] = 1.0
    respent: Probability = 0.0
    lost: Probability = 0.0


class Bins(_Table):
    """The bins of a feature: the first below the first edge, the last from the last on; what is missing has its own."""

    edges: tuple[float, ...]
    bins: tuple[Bin, ...]
    missing: Bin

    @model_validator(mode="after")
    def _monotone(self) -> "Bins":
        if len(self.bins) != len(self.edges) + 1 or any(one >= two for one, two in pairwise(self.edges)):
            raise ValueError("a feature needs rising edges and one bin more than edges")
        for one, two in pairwise(self.bins):
            if one.odds > two.odds or one.respent > two.respent or one.lost > two.lost:
                raise ValueError("more of a feature must never look safer")
        return self

    def of(self, value: float | None) -> Bin:
        """Return the bin of ``value``."""
        return self.missing if value is None else self.bins[bisect_right(self.edges, value)]


class Kind(_Table):
    """One way a repayment is taken back; ``survivor`` by rail, ``any`` for a rail that has none of its own."""

    base: Annotated[float, Field(gt=0, lt=1)]
    respent: Probability
    lost: Probability
    survivor: Mapping[str, Survivor]
    features: Mapping[Feature, Bins]

    @model_validator(mode="after")
    def _curves_fall(self) -> "Kind":
        if ANY_RAIL not in self.survivor:
            raise ValueError("survivor.any is missing")
        if any(curve[0] != 1 or list(curve) != sorted(curve, reverse=True) for curve in self.survivor.values()):
            raise ValueError("a survivor curve begins at 1 and never rises")
        return self

    def chance(self, rail: str, known: Mapping[Feature, float | None]) -> Chance:
        """Return the chance of this kind for a repayment of which ``known`` is known; what is not there is missing."""
        found = [bins.of(known.get(name)) for name, bins in self.features.items()]
        odds, respent, lost = self.base / (1 - self.base), self.respent, self.lost
        for one in found:
            odds *= one.odds
            respent, lost = max(respent, one.respent), max(lost, one.lost)
        return Chance(odds / (1 + odds), self.survivor.get(rail, self.survivor[ANY_RAIL]), respent, lost)


class Prior(_Table):
    """The return model: chances of both kinds; ``sources`` says where each group of figures comes from."""

    version: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
    sources: Mapping[str, str]
    bank: Kind
    customer: Kind

    @cached_property
    def _hazards(self) -> dict[tuple[object, ...], Hazard]:
        """Return what was computed so far; no private attribute, which pydantic looks up the long way each time."""
        return {}

    @cached_property
    def _edges(self) -> tuple[tuple[Feature, tuple[float, ...]], ...]:
        """Return each feature with the edges of both kinds: values between two of them are in the same bins."""
        tables = (self.bank.features, self.customer.features)
        names = dict.fromkeys(name for table in tables for name in table)
        return tuple((name, tuple(sorted({e for t in tables if name in t for e in t[name].edges}))) for name in names)

    def hazard(self, rail: str, known: Mapping[Feature, float | None]) -> Hazard:
        """Return what the formula needs of a repayment, computed once for each rail of the table and set of bins."""
        curve = rail if rail in self.bank.survivor or rail in self.customer.survivor else ANY_RAIL
        place = (
            curve,
            *[-1 if (value := known.get(name)) is None else bisect_right(edges, value) for name, edges in self._edges],
        )
        found = self._hazards.get(place)
        if found is None:
            kinds = self.chances(curve, known)
            found = Hazard(loss(kinds, 0), tuple(loss(kinds, day) for day in DAYS), self.fired(known))
            self._hazards[place] = found
        return found

    def chances(self, rail: str, known: Mapping[Feature, float | None]) -> Sequence[Chance]:
        """Return the chance that the bank and that the customer takes it back."""
        return (self.bank.chance(rail, known), self.customer.chance(rail, known))

    def fired(self, known: Mapping[Feature, float | None]) -> tuple[Feature, ...]:
        """Return the features whose value raises the odds of a return by the bank, most adverse first."""
        odds = {name: bins.of(known.get(name)).odds for name, bins in self.bank.features.items()}
        return tuple(sorted((name for name in odds if odds[name] > 1), key=lambda name: -odds[name]))
