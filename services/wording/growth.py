"""Work out why the available credit changed by something else than what was restored (8.2)."""

from typing import NamedTuple

from schemas.reasons import Reason
from schemas.restoration import DecisionRecord


class Growth(NamedTuple):
    """What the shown credit changed by beside what was restored or taken back, by its cause; minor units.

    ``covered`` of what was restored went to what was used above the limit; ``freed`` was hidden while the account was
    not active; ``booked`` is a credit balance that paid debt, or repayments counted anew; ``usable`` a credit balance.
    """

    covered: int = 0
    freed: int = 0
    booked: int = 0
    usable: int = 0


def growth_of(record: DecisionRecord) -> Growth:
    """Return what the shown credit changed by beside what was restored or taken back.

    What came back of other repayments told together counts as restored.
    """
    if record.available_before_minor is None or not record.available_credit_minor:
        return Growth()
    restored = record.together.restored_minor if record.together else record.restored_minor
    other = record.other_minor - (restored - record.restored_minor)
    moved = restored - record.taken_back_minor
    raw_before = record.available_raw_minor - moved - other
    covered = min(restored, max(0, -raw_before))
    rest = record.available_credit_minor - record.available_before_minor - (moved - covered) - other
    hidden = not record.available_before_minor and raw_before > 0
    if hidden or Reason.ACCOUNT_ACTIVE_AGAIN in record.reasons:
        return Growth(covered, max(0, rest), other)
    return Growth(covered, 0, other, max(0, rest))
