"""What a hold costs and what it avoids: the expected cost of each thing that can be done with a repayment."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, log

from services.prior import Chance, Prices

DAYS = (1, 2, 3, 5)
"""Banking days a hold may last by the formula; waits between them are hardly worth a date of their own."""
REVIEW_DAY = 3
"""A person is worth asking for what may still be lost on this banking day."""


@dataclass(frozen=True, slots=True)
class Action:
    """Give ``share`` of a repayment back now and the rest on banking day ``days``; what that is expected to cost."""

    share: float
    days: int
    cost: float


def loss(kinds: Sequence[Chance], day: int) -> float:
    """Return q(t): the expected loss per unit released on banking ``day``, when nothing was returned until then."""
    lost = sum(kind.likely * kind.after(day) * kind.respent * kind.lost for kind in kinds)
    return lost / (1 - sum(kind.likely * (1 - kind.after(day)) for kind in kinds))


def cheapest(kinds: Sequence[Chance], prices: Prices, amount: float, unused: float, most: float = 1.0) -> Action:
    """Return the cheapest action that gives at most the share ``most`` back now; of equals the one that comes first.

    ``amount`` and ``unused``, the credit unused before the repayment, are in the unit of ``prices``.
    """
    return min(actions(kinds, prices, amount, unused, most), key=lambda action: action.cost)


def actions(
    kinds: Sequence[Chance], prices: Prices, amount: float, unused: float, most: float = 1.0
) -> Iterator[Action]:
    """Yield release, then for each wait the best part now and the hold of all."""
    at_once = loss(kinds, 0)
    if most >= 1:
        yield Action(1.0, 0, amount * at_once)
    for days in DAYS:
        later, need = loss(kinds, days), prices.need(days)
        share = min(most, _part(at_once - later, prices, need, unused) / amount)
        for now in (share, 0.0) if 0 < share < 1 else (0.0,):
            lost = now * amount * at_once + (1 - now) * amount * later
            yield Action(now, days, lost + prices.day_minor * days + _declined(prices, need, unused + now * amount))


def worth_a_look(kinds: Sequence[Chance], prices: Prices, amount: float) -> bool:
    """Tell whether what a person would catch of the loss is more than the person costs."""
    return prices.caught * amount * loss(kinds, REVIEW_DAY) > prices.review_minor


def _part(avoided: float, prices: Prices, need: float, unused: float) -> float:
    """Return f* R: up to where the next unit given back now loses more than it spares in declined purchases."""
    if avoided <= 0:
        return 0.0
    return need * log((prices.declined_minor + prices.margin * need) / (need * avoided)) - unused


def _declined(prices: Prices, need: float, available: float) -> float:
    """Return what purchases declined for want of credit cost: the need over a wait is exponential with this mean."""
    return exp(-available / need) * (prices.declined_minor + prices.margin * need)
