"""Ways of holding that are compared: the product's own, simpler ones, and the one that knows what will happen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from math import exp
from typing import Final, NamedTuple

from services.policy import Profile, Rest
from services.prior import DAYS, Chance, Prices, Prior
from services.risk_scoring.domain import due_at, judge
from services.risk_scoring.hazard import actions
from services.risk_scoring.model import features
from services.risk_training.market import REPAID_AT, Repayment
from services.values import replace


class Act(NamedTuple):
    """``shares`` of a repayment given back on banking days, as (share, day); ``looked`` at by a person or not."""

    shares: tuple[tuple[float, int], ...]
    looked: bool = False

    @property
    def held(self) -> bool:
        """Tell whether any of it waits."""
        return any(day for _, day in self.shares)


PARTS: Final = 8
"""The oracle tries so many parts."""
Way = Callable[[Repayment], Act]
RELEASE = Act(((1.0, 0),))


def hold(days: int) -> Act:
    """Return the hold of all for ``days`` banking days."""
    return Act(((1.0, days),))


def always_release(_: Repayment) -> Act:
    """Give all back at once."""
    return RELEASE


def always_three_days(_: Repayment) -> Act:
    """Hold everything for three banking days, whatever the rail."""
    return hold(3)


@dataclass(frozen=True, slots=True)
class HandRules:
    """What a risk team writes down: hold so long when one of the signs is there, on rails that may take it back."""

    days: int = 3
    share_of_limit: float | None = 0.6
    unverified: bool = True
    strikes: int = 1
    cycled: float | None = 0.6
    overpaid: bool = True

    def __call__(self, repayment: Repayment) -> Act:
        seen, limit = repayment.seen, repayment.seen.credit_limit_minor
        if seen.rail == "FINAL":
            return RELEASE
        signs = (
            self.unverified and not seen.verified,
            seen.strikes >= self.strikes,
            self.overpaid and seen.credit_balance_minor > 0,
            self.cycled is not None and seen.settled_minor > self.cycled * limit,
            self.share_of_limit is not None and seen.amount_minor > self.share_of_limit * limit,
        )
        return hold(self.days) if any(signs) else RELEASE


@dataclass(frozen=True, slots=True)
class Formula:
    """The formula alone, without the guards before it and nobody looking; ``parts`` or only all or nothing at once.

    It believes ``losses`` times what the table says is lost of a return.
    """

    prior: Prior
    prices: Prices
    parts: bool
    losses: float = 1.0

    def __call__(self, repayment: Repayment) -> Act:
        seen = repayment.seen
        if seen.rail == "FINAL":
            return RELEASE
        kinds = self.prior.chances(seen.rail_name, features(seen))
        kinds = [Chance(kind.likely, kind.survivor, kind.respent, self.losses * kind.lost) for kind in kinds]
        found = actions(kinds, self.prices, seen.restorable_minor, seen.unused_minor or 0)
        best = min((one for one in found if self.parts or one.share in (0, 1)), key=lambda one: one.cost)
        return Act(((best.share, 0), (1 - best.share, best.days))) if best.days else RELEASE


@dataclass(frozen=True)
class Product:
    """What the product itself decides under a profile: guards, caps, schedule or formula, exactly as shipped.

    ``capped`` by the profile's instant cap of an account without a score, instead of by the limit alone; ``blind`` to
    how much credit was unused before the repayment.
    """

    profile: Profile
    capped: bool = False
    blind: bool = False

    def __call__(self, repayment: Repayment) -> Act:
        seen = repayment.seen
        if self.capped:
            seen = replace(seen, instant_left_minor=self.profile.instant_cap_by_tier["unknown"])
        if self.blind:
            seen = replace(seen, unused_minor=None)
        verdict = judge(self.profile, seen)
        shares = tuple((one.amount_minor / seen.restorable_minor, self._day(one.due_at)) for one in verdict.tranches)
        return Act(shares, verdict.refer)

    @cached_property
    def _days(self) -> Mapping[datetime, int]:
        every = range(1, max(DAYS) + 1)
        return {due_at(self.profile, REPAID_AT, Rest(share_bps=10_000, banking_days=day)): day for day in every}

    def _day(self, due: datetime) -> int:
        """Read a date as the banking day after the repayment."""
        return 0 if due <= REPAID_AT else self._days[due]


@dataclass(frozen=True, slots=True)
class Oracle:
    """What somebody would do who knows the true odds of each repayment: the least a way of holding can cost."""

    prices: Prices

    def __call__(self, repayment: Repayment) -> Act:
        if repayment.seen.rail == "FINAL" or cost(RELEASE, repayment, self.prices) <= self.prices.day_minor:
            return RELEASE  # no wait costs less than a day of it
        parts = (Act(((share / PARTS, 0), (1 - share / PARTS, days))) for days in DAYS for share in range(PARTS))
        return min((RELEASE, *parts), key=lambda act: cost(act, repayment, self.prices))


def cost(act: Act, repayment: Repayment, prices: Prices) -> float:
    """Return what an act costs on average under the truth, in minor units: lost, waited, declined and looked at."""
    whole = repayment.seen.restorable_minor
    lost = sum(share * repayment.loss(day) for share, day in act.shares) * whole
    if not act.held:
        return lost
    looked = prices.review_minor if act.looked else 0
    last = max(day for _, day in act.shares)
    declined = max(_declined(act, repayment, prices, day) for _, day in act.shares if day)
    return lost * (1 - prices.caught if act.looked else 1) + looked + prices.day_minor * last + declined


def _declined(act: Act, repayment: Repayment, prices: Prices, day: int) -> float:
    """Return what purchases cost that are declined until the part of ``day`` comes back; needs are exponential."""
    back = sum(share for share, at in act.shares if at < day)
    usable = (repayment.seen.unused_minor or 0) + back * repayment.seen.restorable_minor
    need = repayment.need_minor * day
    return exp(-usable / need) * (prices.declined_minor + prices.margin * need)
