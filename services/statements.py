"""What a score may ask of an account, computed from its statements: the same code trains and scores."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from services.scorecard import FEATURES, Feature

SCORED_MONTHS: Final = 6
KEPT_MONTHS: Final = SCORED_MONTHS + 1
"""What was paid in the oldest scored month was paid after the statement before it."""
PAID_IN_FULL: Final = 0.99
"""A share of the bill from which a month counts as repaid in full."""
Found = dict[Feature, float | None]


class Month(NamedTuple):
    """One statement and what followed until the next; amounts in minor units, ``at_ms`` since 1970, days by ordinal.

    ``late`` is how many months the oldest minimum still missing was late when this statement was issued, and 1 if it
    came late. ``due_day`` 0 is the time before the first statement.
    """

    at_ms: int
    bill_minor: int
    limit_minor: int
    minimum_minor: int = 0
    due_day: int = 0
    paid_minor: int = 0
    in_time_minor: int = 0
    refunded_minor: int = 0
    late: int = 0


def features(months: Sequence[Month], unit_minor: int) -> Found:
    """Return the features of statements, newest first; what history does not reach is None, never 0.

    ``unit_minor`` is how many minor units are worth one unit of the money the table was trained in.
    """
    issued = [month for month in months[:SCORED_MONTHS] if month.due_day]
    earlier = months[1:KEPT_MONTHS][: len(issued)]
    late = [month.late for month in issued]
    use = [month.bill_minor / month.limit_minor if month.limit_minor else 1.0 for month in issued]
    paid = [month.paid_minor / unit_minor for month in earlier]
    shares = [_share(month) for month in earlier[: SCORED_MONTHS - 1] if month.due_day]
    found = _NOTHING_KNOWN.copy()
    found.update(zip(_LATE, map(float, late), strict=False))
    found.update(zip(_PAYMENT, paid, strict=False))
    found["use_now"] = use[0] if use else None
    found["paid_now"] = shares[0] if shares else None
    if len(issued) == SCORED_MONTHS:
        _of_late(found, late)
        _of_use(found, use)
        if len(paid) == SCORED_MONTHS:
            found["paid_of_all"] = _paid_of_all(issued, earlier)
            _of_payments(found, paid, issued[0].limit_minor / unit_minor)
    if len(shares) == SCORED_MONTHS - 1:
        _of_shares(found, shares)
    return found


_NOTHING_KNOWN: Final[Found] = dict.fromkeys(FEATURES)
_LATE: Final = tuple(name for name in FEATURES if name.startswith("late_") and name[-1].isdigit())
_PAYMENT: Final = tuple(name for name in FEATURES if name.startswith("payment_") and name[-1].isdigit())
"""What is said of each scored month, newest first."""


def _of_late(found: Found, late: Sequence[int]) -> None:
    """Say how late it was at worst, how often, and since when not; ``late`` is never negative."""
    once = len(late) - late.count(0)
    found["late_max"] = float(max(late))
    found["late_months"] = float(once)
    found["late_two_months"] = float(once - late.count(1))
    found["on_time_streak"] = float(next(n for n, months in enumerate(late) if months) if once else len(late))


def _of_use(found: Found, use: Sequence[float]) -> None:
    """Say how much of the limit was used, how it moved against half a year ago, and how often not at all."""
    half = len(use) // 2
    found["use_mean"] = sum(use) / len(use)
    found["use_max"] = max(use)
    found["use_trend"] = use[0] - sum(use[half:]) / (len(use) - half)
    found["idle_months"] = float(sum([share <= 0 for share in use]))


def _of_shares(found: Found, shares: Sequence[float]) -> None:
    found["paid_mean"] = sum(shares) / len(shares)
    found["paid_min"] = min(shares)
    found["full_months"] = float(sum([share >= PAID_IN_FULL for share in shares]))
    found["zero_months"] = float(sum([share <= 0 for share in shares]))


def _of_payments(found: Found, paid: Sequence[float], limit: float) -> None:
    mean = sum(paid) / len(paid)
    found["payment_mean"] = mean
    found["payment_min"] = min(paid)
    found["payment_max"] = max(paid)
    found["payment_of_limit"] = mean / limit if limit else 0.0


def _paid_of_all(issued: Sequence[Month], earlier: Sequence[Month]) -> float:
    bills = sum([month.bill_minor for month in issued if month.bill_minor > 0])
    return min(1.0, sum([month.paid_minor for month in earlier]) / bills) if bills else 1.0


def _share(month: Month) -> float:
    """Return what of a bill was paid; with nothing to pay, all of it."""
    bill, paid = month.bill_minor, month.paid_minor
    return 1.0 if bill <= 0 or paid >= bill else paid / bill
