"""What ways of holding repayments come to in the planted market: costs, who was held, and what the holds caught."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from services.policy import Profile
from services.prior import Prices
from services.risk_training.market import MINOR, Repayment, repayments
from services.risk_training.simulator import HAND, PRODUCT, ways
from services.risk_training.ways import Act, HandRules, Way, cost

COMPARED: Final = ("always release", "always 3 days", HAND, PRODUCT, "the shipped schedule")


@dataclass(slots=True)
class Held:
    """What came of one way: repayments, holds, those a return ends, credit withheld from good customers, loss spared.

    ``withheld`` is in minor units times banking days; ``caught``, ``spared`` and ``cost`` are from the planted odds.
    """

    count: int = 0
    holds: int = 0
    caught: float = 0.0
    good: int = 0
    good_held: int = 0
    withheld: float = 0.0
    spared: float = 0.0
    cost: float = 0.0

    @property
    def hold_yield(self) -> float | None:
        """Return the share of holds that a return ends, by the planted odds; None without holds (L6)."""
        return self.caught / self.holds if self.holds else None

    @property
    def price(self) -> float | None:
        """Return the major units times days withheld from good customers for each major unit of loss spared."""
        return self.withheld / self.spared if self.spared > 0 else None

    @property
    def per_thousand(self) -> float:
        """Return the cost of 1,000 repayments in major units."""
        return 1_000 * self.cost / MINOR / self.count

    def add(self, repayment: Repayment, act: Act, prices: Prices) -> None:
        """Count one repayment."""
        whole = repayment.seen.restorable_minor
        self.count += 1
        self.good += repayment.good
        self.cost += cost(act, repayment, prices)
        if not act.held:
            return
        self.holds += 1
        self.good_held += repayment.good
        self.caught += repayment.still_to_come(0) - repayment.still_to_come(max(day for _, day in act.shares))
        at_once = repayment.loss(0)
        self.spared += sum(share * (at_once - repayment.loss(day)) * whole for share, day in act.shares)
        if repayment.good:
            self.withheld += sum(share * day * whole for share, day in act.shares)


def compared(profile: Profile, seed: int, count: int) -> Mapping[str, Held]:
    """Let every way decide the same ``count`` repayments of the market of ``seed``."""
    found = ways(profile, tuned=HandRules())
    return played(repayments(seed, count), {name: found[name] for name in COMPARED}, profile.hold["REVERSIBLE"].prices)


def played(market: Iterable[Repayment], asked: Mapping[str, Way], prices: Prices) -> dict[str, Held]:
    """Let each way decide every repayment."""
    held = {name: Held() for name in asked}
    for repayment in market:
        for name, way in asked.items():
            held[name].add(repayment, way(repayment), prices)
    return held
