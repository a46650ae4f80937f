"""What a score may ask of an account, computed from its statements: the same code trains and scores."""

from collections.abc import Sequence
from typing import Final, NamedTuple, cast

from services.scorecard import Feature

SCORED_MONTHS: Final = 6
KEPT_MONTHS: Final = SCORED_MONTHS + 1
"""What was paid in the oldest scored month was paid after the statement before it."""
PAID_IN_FULL: Final = 0.99
"""A share of the bill from which a month counts as repaid in full."""


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


def features(months: Sequence[Month], unit_minor: int) -> dict[Feature, float | None]:
    """Return the features of statements, newest first; what history does not reach is None, never 0.

    ``unit_minor`` is how many minor units are worth one unit of the money the table was trained in.
    """
    issued = [month for month in months[:SCORED_MONTHS] if month.due_day]
    earlier = months[1:KEPT_MONTHS][: len(issued)]
    late = [month.late for month in issued]
    use = [_ratio(month.bill_minor, month.limit_minor) for month in issued]
    paid = [month.paid_minor / unit_minor for month in earlier]
    billed = [month for month in earlier[: SCORED_MONTHS - 1] if month.due_day]
    shares = [_share(month) for month in billed]
    found: dict[str, float | None] = {
        **_each("late", late),
        **_each("payment", paid),
        "use_now": use[0] if use else None,
        "paid_now": shares[0] if shares else None,
    }
    whole = len(late) == SCORED_MONTHS
    found |= _of_late(late) if whole else dict.fromkeys(_of_late([0]))
    found |= _of_use(use) if whole else dict.fromkeys(_of_use([0.0] * SCORED_MONTHS))
    found |= _of_shares(shares) if len(shares) == SCORED_MONTHS - 1 else dict.fromkeys(_of_shares([0.0]))
    complete = whole and len(paid) == SCORED_MONTHS
    found["paid_of_all"] = _paid_of_all(issued, earlier) if complete else None
    limit = issued[0].limit_minor / unit_minor if issued else 0.0
    found |= _of_payments(paid, limit) if complete else dict.fromkeys(_of_payments([0.0], 1.0))
    return cast("dict[Feature, float | None]", found)


def _each(name: str, values: Sequence[float]) -> dict[str, float | None]:
    known = len(values)
    return {f"{name}_{n + 1}": float(values[n]) if n < known else None for n in range(SCORED_MONTHS)}


def _of_late(late: Sequence[int]) -> dict[str, float]:
    streak = next((n for n, months in enumerate(late) if months), len(late))
    once, twice = sum(months > 0 for months in late), sum(months > 1 for months in late)
    counts = {"late_months": float(once), "late_two_months": float(twice)}
    return {"late_max": float(max(late)), **counts, "on_time_streak": float(streak)}


def _of_use(use: Sequence[float]) -> dict[str, float]:
    """Say how much of the limit was used, how it moved against half a year ago, and how often not at all."""
    half = len(use) // 2
    before = sum(use[half:]) / (len(use) - half)
    idle = float(sum(share <= 0 for share in use))
    return {"use_mean": sum(use) / len(use), "use_max": max(use), "use_trend": use[0] - before, "idle_months": idle}


def _of_shares(shares: Sequence[float]) -> dict[str, float]:
    full, none = sum(share >= PAID_IN_FULL for share in shares), sum(share <= 0 for share in shares)
    counts = {"full_months": float(full), "zero_months": float(none)}
    return {"paid_mean": sum(shares) / len(shares), "paid_min": min(shares), **counts}


def _of_payments(paid: Sequence[float], limit: float) -> dict[str, float]:
    mean = sum(paid) / len(paid)
    of_limit = mean / limit if limit else 0.0
    return {"payment_mean": mean, "payment_min": min(paid), "payment_max": max(paid), "payment_of_limit": of_limit}


def _paid_of_all(issued: Sequence[Month], earlier: Sequence[Month]) -> float:
    bills = sum(max(0, month.bill_minor) for month in issued)
    return min(1.0, sum(month.paid_minor for month in earlier) / bills) if bills else 1.0


def _share(month: Month) -> float:
    """Return what of a bill was paid; with nothing to pay, all of it."""
    return 1.0 if month.bill_minor <= 0 else min(1.0, month.paid_minor / month.bill_minor)


def _ratio(bill_minor: int, limit_minor: int) -> float:
    return bill_minor / limit_minor if limit_minor else 1.0
