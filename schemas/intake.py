"""repayment.intake.v1: repayments taken in once, re-keyed by account."""

from typing import Literal

from schemas.event import DerivedEvent, Instant, RepaymentEvent
from schemas.ids import Reference, RepaymentId
from schemas.money import AmountMinor, Currency
from schemas.reasons import Reason
from schemas.repayment import Fault, Method

Difference = Literal["account_id", "amount_minor", "currency", "rail"]


class RepaymentReceived(RepaymentEvent):
    """A repayment was reported for the first time in this status."""

    source: Reference
    external_ref: Reference
    amount_minor: AmountMinor
    currency: Currency
    rail: Reference
    method: Method
    funding_account_id: Reference | None = None
    collection_ref: Reference | None = None
    status: Literal["pending", "succeeded", "failed"]
    next_attempt_at: Instant | None = None


class RepaymentConflicted(DerivedEvent):
    """The same reference came with other content: parked for a person, never acknowledged as done."""

    repayment_id: RepaymentId
    source: Reference
    external_ref: Reference
    differs: tuple[Difference, ...]
    reason: Literal[Reason.CONFLICTING_REPORT] = Reason.CONFLICTING_REPORT


class ReturnReceived(DerivedEvent):
    """A return was reported for the first time."""

    repayment_id: RepaymentId
    source: Reference
    external_ref: Reference
    amount_minor: AmountMinor
    currency: Currency
    code: Reference
    return_class: Reason
    fault: Fault
