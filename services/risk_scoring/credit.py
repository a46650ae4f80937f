"""An account's statements as the credit score sees them, kept from our own events: at most seven, newest first.

A statement's bill is what was due and not repaid, and what it made due; what is not due yet is no part of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from services.statements import KEPT_MONTHS, SCORED_MONTHS, Month
from services.values import at_once

Months = tuple[Month, ...]
BEFORE: Final = Month(at_ms=0, bill_minor=0, limit_minor=0)
"""The time before the first statement."""


@at_once
@dataclass(frozen=True)
class Credit:
    """How an account was used and repaid, and what was made of it.

    ``score`` is in hundredths of a point, None before the first statement; ``returned_at`` is when a repayment was last
    returned, ``refused_at`` when an increase was last refused, ``closed_at`` when the account was closed, None while it
    is not; ``review_on`` is the day of the next periodic review, the one numbered ``reviews``.
    """

    product: str | None = None
    currency: str | None = None
    opened_at: datetime | None = None
    months: Months = ()
    score: int | None = None
    returned_at: datetime | None = None
    refused_at: datetime | None = None
    closed_at: datetime | None = None
    review_on: date | None = None
    reviews: int = 0

    @property
    def statements(self) -> int:
        """Return how many of the scored months have a statement."""
        return sum(month.due_day > 0 for month in self.months[:SCORED_MONTHS])


NOTHING_KNOWN: Final = Credit()


def issued(
    months: Months, at: datetime, *, due_minor: int, minimum_minor: int, due_on: date, limit_minor: int
) -> Months:
    """Return the months with a statement; one that is not newer than the last is the caller's to refuse."""
    known = months or (BEFORE._replace(limit_minor=limit_minor),)
    bill = _owed(known[0]) + due_minor
    new = Month(_ms(at), bill, limit_minor, minimum_minor, due_on.toordinal())
    return _dated((new, *known)[:KEPT_MONTHS])


def paid(months: Months, at: datetime, amount_minor: int, credited_on: date) -> Months:
    """Return the months with a repayment made at ``at``, in time when it counts from the due day or before."""
    place = _place(months, at)
    if place is None:
        return months
    month = (months or (BEFORE,))[place]
    in_time = amount_minor if credited_on.toordinal() <= month.due_day or not month.due_day else 0
    more = {"paid_minor": month.paid_minor + amount_minor, "in_time_minor": month.in_time_minor + in_time}
    return _changed(months or (BEFORE,), place, month._replace(**more))


def taken_back(months: Months, at: datetime, amount_minor: int, credited_on: date) -> Months:
    """Return the months without a repayment that was made at ``at`` and returned."""
    place = _place(months, at)
    if place is None or not months:
        return months
    month = months[place]
    in_time = amount_minor if credited_on.toordinal() <= month.due_day or not month.due_day else 0
    left = max(0, month.paid_minor - amount_minor)
    less = {"paid_minor": left, "in_time_minor": min(left, max(0, month.in_time_minor - in_time))}
    return _changed(months, place, month._replace(**less))


def refunded(months: Months, at: datetime, amount_minor: int) -> Months:
    """Return the months with debt that a refund cancelled: it is owed no more, and was not repaid."""
    place = _place(months, at)
    if place is None or not months:
        return months
    month = months[place]
    return _changed(months, place, month._replace(refunded_minor=month.refunded_minor + amount_minor))


def _place(months: Months, at: datetime) -> int | None:
    """Return which month an instant is in, None when it is older than what is kept."""
    if not months:
        return 0
    at_ms = _ms(at)
    return next((n for n, month in enumerate(months) if month.at_ms <= at_ms), None)


def _changed(months: Months, place: int, month: Month) -> Months:
    """Return the months with one changed, and what follows from it: later bills, and what was late; of the newest
    nothing does.
    """
    if place == 0:
        return (month, *months[1:])
    found = [*months]
    found[place] = month
    for n in reversed(range(place)):
        due = months[n].bill_minor - _owed(months[n + 1])
        found[n] = months[n]._replace(bill_minor=due + _owed(found[n + 1]))
    return _dated(tuple(found))


def _dated(months: Months) -> Months:
    """Return the months with how late each found the minimum before it; the oldest keeps what it was."""
    late, found = 0, [months[-1]]
    for n in reversed(range(len(months) - 1)):
        late = _late(months[n], months[n + 1], months[n + 2 : n + 3], late)
        found.append(months[n]._replace(late=late))
    return tuple(reversed(found))


def _late(month: Month, before: Month, earlier: Sequence[Month], late_before: int) -> int:
    """Return how many months late the oldest minimum still missing was when ``month`` was issued.

    A minimum counts what was past due already, so what is repaid first goes to the oldest. Where the month before that
    is kept no more, a minimum that is still missing is as late as it was found to be while it was.
    """
    settled = before.paid_minor + before.refunded_minor
    due_yet = before.due_day and before.due_day < _day(month.at_ms)
    if not due_yet or before.in_time_minor + before.refunded_minor >= before.minimum_minor:
        return 0
    if settled >= before.minimum_minor:
        return 1
    if not earlier:
        return max(month.late, 1)
    missing = sum(max(0, one.minimum_minor - one.paid_minor - one.refunded_minor) for one in earlier if one.due_day)
    return late_before + 1 if settled < missing else 1


def _owed(month: Month) -> int:
    return max(0, month.bill_minor - month.paid_minor - month.refunded_minor)


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1_000)


def _day(at_ms: int) -> int:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).toordinal()
