"""Work out why the available credit changed by something else than what was restored (8.2)."""

from typing import Final, NamedTuple

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


NOTHING: Final = Growth()


def growth_of(record: DecisionRecord) -> Growth:
    """Return what the shown credit changed by beside what was restored or taken back.

    What came back of other repayments told together counts as restored.
    """
    before, after, restored = record.available_before_minor, record.available_credit_minor, record.restored_minor
    other = record.other_minor
    if before is None or not after:
        return NOTHING
    if record.together is not None:
        other -= record.together.restored_minor - restored
        restored = record.together.restored_minor
    moved = restored - record.taken_back_minor
    raw_before = record.available_raw_minor - moved - other
    covered = 0 if raw_before >= 0 else min(restored, -raw_before)
    rest = after - before - (moved - covered) - other
    if not (covered or other or rest):
        return NOTHING
    hidden = not before and raw_before > 0
    if hidden or Reason.ACCOUNT_ACTIVE_AGAIN in record.reasons:
        return Growth(covered, max(0, rest), other)
    return Growth(covered, 0, other, max(0, rest))
