"""What a hold costs and what it avoids: the expected cost of each thing that can be done with a repayment."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from math import exp, inf, log
from typing import Final, NamedTuple

from services.policy import Profile
from services.prior import DAYS, Chance, Hazard, Prices, loss

REVIEW_DAY: Final = 3
"""A person is worth asking for what may still be lost on this banking day."""
_REVIEWED: Final = DAYS.index(REVIEW_DAY)


class Action(NamedTuple):
    """Give ``share`` of a repayment back now and the rest on banking day ``days``; what that is expected to cost."""

    share: float
    days: int
    cost: float


def cheapest(kinds: Sequence[Chance], prices: Prices, amount: float, unused: float, most: float = 1.0) -> Action:
    """Return the cheapest action that gives at most the share ``most`` back now; of equals the one that comes first.

    ``amount`` and ``unused``, the credit unused before the repayment, are in the unit of ``prices``.
    """
    hazard = Hazard(loss(kinds, 0), tuple(loss(kinds, day) for day in DAYS))
    return cheapest_of(hazard, prices, amount, unused, most)


def cheapest_of(hazard: Hazard, prices: Prices, amount: float, unused: float, most: float = 1.0) -> Action:
    """Return what ``min(actions(...))`` is, in a loop of its own: every repayment of a reversible rail asks it."""
    at_once, share, days = hazard.at_once, 1.0, 0
    cost = amount * at_once if most >= 1 else inf
    for wait, waited, need, declined, later, usable in prices.weighed(hazard):
        if waited >= cost:
            break  # longer waits cost more yet, whatever they avoid
        if usable is not None:
            part = (usable - unused) / amount
            if part > most:
                part = most
            if 0 < part < 1:
                lost = part * amount * at_once + (1 - part) * amount * later
                found = lost + waited + exp(-(unused + part * amount) / need) * declined
                if found < cost:
                    share, days, cost = part, wait, found
        found = amount * later + waited + exp(-unused / need) * declined
        if found < cost:
            share, days, cost = 0.0, wait, found
    return Action(share, days, cost)


def unbounded(hazard: Hazard, prices: Prices, amount: float, unused: float, most: float, best: Action) -> Action:
    """Return the cheapest action of all, where ``best`` is the cheapest that gives at most the share ``most`` back now.

    Where the bound shortens no part, all it takes away is the release of everything.
    """
    if most >= 1:
        return best
    parts = [wait.usable for wait in prices.weighed(hazard) if wait.usable is not None]
    if any((usable - unused) / amount > most for usable in parts):
        return cheapest_of(hazard, prices, amount, unused)
    release = amount * hazard.at_once
    return Action(1.0, 0, release) if release <= best.cost else best


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


def held_until(profile: Profile, repaid_at: datetime, days: int) -> datetime:
    """Return when what is held for so many banking days comes back; in a demo's profile they last seconds."""
    seconds = profile.hold["REVERSIBLE"].prices.day_seconds
    if seconds is None:
        return profile.due_at(repaid_at, days)
    return repaid_at + timedelta(seconds=seconds * days)


def worth_a_look(hazard: Hazard, prices: Prices, amount: float) -> bool:
    """Tell whether what a person would catch of the loss is more than the person costs."""
    return prices.caught * amount * hazard.later[_REVIEWED] > prices.review_minor


def _part(avoided: float, prices: Prices, need: float, unused: float) -> float:
    """Return f* R: up to where the next unit given back now loses more than it spares in declined purchases."""
    if avoided <= 0:
        return 0.0
    return need * log((prices.declined_minor + prices.margin * need) / (need * avoided)) - unused


def _declined(prices: Prices, need: float, available: float) -> float:
    """Return what purchases declined for want of credit cost: the need over a wait is exponential with this mean."""
    return exp(-available / need) * (prices.declined_minor + prices.margin * need)
