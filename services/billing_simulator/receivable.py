"""What billing does with ``credited_on``: interest and late fees follow it, and never the end of a hold (R4)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date

from schemas.event import Event
from schemas.settlement import RepaymentReturned, RepaymentSettled

PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class Receivable:
    """A debt as billing keeps it: what was owed before any repayment, of which ``due_minor`` is due on ``due_on``.

    ``daily_rate_ppm`` is the interest of a day in millionths; ``credited`` is what each settled repayment paid of the
    debt and the day it counts from.
    """

    owed_minor: int
    due_minor: int
    due_on: date
    daily_rate_ppm: int
    credited: Mapping[str, tuple[date, int]] = field(default_factory=dict)

    def follow(self, event: Event) -> "Receivable":
        """Count a settled repayment from its credited day, and a returned one never; nothing else changes a debt."""
        match event:
            case RepaymentSettled(repayment_id=at, credited_on=day):
                paid = event.amount_minor - event.credit_balance_minor
                return replace(self, credited={**self.credited, at: (day, paid)})
            case RepaymentReturned(repayment_id=at):
                return replace(self, credited={known: paid for known, paid in self.credited.items() if known != at})
            case _:
                return self

    def debt_minor(self, day: date) -> int:
        """Return what is owed at the end of a day."""
        return self.owed_minor - self._paid(day)

    def interest_minor(self, day: date) -> int:
        """Return the interest of a day, minor units rounded down."""
        return self.debt_minor(day) * self.daily_rate_ppm // PPM

    def late(self, day: date) -> bool:
        """Tell whether a late fee is owed on a day: the due day is over and what was due by it is not paid."""
        return day > self.due_on and self._paid(self.due_on) < self.due_minor

    def _paid(self, day: date) -> int:
        return sum(paid for credited_on, paid in self.credited.values() if credited_on <= day)


def authorises(amount_minor: int, available_credit_minor: int) -> bool:
    """Approve a purchase within the available credit opentobuy told last; so there is never an over-limit fee (R4)."""
    return amount_minor <= available_credit_minor
