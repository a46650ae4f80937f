"""credit.restoration.v1: promises, holds and the credit given back."""

from datetime import date
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from schemas.event import DerivedEvent, Instant, RepaymentEvent
from schemas.ids import Reference, RepaymentId
from schemas.money import AmountMinor, BalanceMinor, Currency, ShareMinor
from schemas.reasons import Cause, Reason
from schemas.risk import Faster, Reasons

TrancheNumber = Annotated[int, Field(ge=1, le=99)]
RecordVersion = Annotated[int, Field(ge=1, le=9_999)]
TOGETHER_MAX = 100
"""Repayments told in one message at most."""


class HeldPart(NamedTuple):
    """A tranche that comes back at ``until``."""

    tranche: TrancheNumber
    amount_minor: AmountMinor
    until: Instant


class MovedPart(NamedTuple):
    """A held tranche whose date is another now; ``was`` is the date told before."""

    tranche: TrancheNumber
    was: Instant


class HeldSum(NamedTuple):
    """What of several repayments comes back at ``until``."""

    amount_minor: AmountMinor
    until: Instant


class ToldRecord(NamedTuple):
    """A record that is told with another repayment's."""

    repayment_id: RepaymentId
    version: RecordVersion


class Together(BaseModel):
    """What one fact came to for several repayments of an account, which the customer is told once.

    The record without ``told_with`` tells; it names the others in ``tells_of``, and they name its repayment.
    ``restored_minor`` and ``held_sums``, by date, are of all of them.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    repayments: Annotated[int, Field(ge=2, le=TOGETHER_MAX)]
    restored_minor: ShareMinor
    held_sums: tuple[HeldSum, ...] = ()
    told_with: RepaymentId | None = None
    tells_of: Annotated[tuple[ToldRecord, ...], Field(max_length=TOGETHER_MAX - 1)] = ()


class DecisionRecord(BaseModel):
    """The whole decision on a repayment: what the customer, the agent and the audit are told (domain 8.1).

    Carried by each event of the commit it was made in, so that a reader needs no other event to tell it.
    ``promised_by`` is the promise this decision kept or missed, ``late_minor`` what misses it while still held.
    ``available_before_minor`` was shown before, ``other_minor`` is what the books' available credit changed by
    beside ``restored_minor`` and ``taken_back_minor``. The limit is given where its lowering is why 0 is shown.
    ``inputs_digest`` is the verdict's, where this record tells of one: no later record depends on its inputs.
    ``past_due_minor`` was late right after the repayment settled, said by the first record on its verdict alone.
    Where ``together`` is given, what is available and ``other_minor`` are after the last of those repayments.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    version: RecordVersion
    decided_at: Instant
    outcome: Literal["restored", "held", "parked", "nothing_to_restore", "reversed", "delayed"]
    amount_minor: AmountMinor
    currency: Currency
    rail: Reference
    repaid_at: Instant
    credited_on: date | None = None
    past_due_minor: ShareMinor | None = None
    restored_minor: ShareMinor
    promised_by: Instant | None = None
    late_minor: ShareMinor = 0
    held: tuple[HeldPart, ...] = ()
    moved: MovedPart | None = None
    parked_minor: ShareMinor = 0
    taken_back_minor: ShareMinor = 0
    available_credit_minor: ShareMinor
    available_raw_minor: BalanceMinor
    available_before_minor: ShareMinor | None = None
    other_minor: BalanceMinor = 0
    zero_reason: Reason | None = None
    credit_limit_minor: ShareMinor | None = None
    limit_lowered_at: Instant | None = None
    reasons: Reasons
    faster: Annotated[tuple[Faster, ...], Field(max_length=3)] = ()
    together: Together | None = None
    inputs_digest: Reference | None = None
    policy_version: Reference
    model_version: Reference
    calendar_version: Reference


class PromiseMade(DerivedEvent):
    """Credit of this tranche is promised by ``promised_by``; revision 0 is what counts."""

    repayment_id: RepaymentId
    tranche: TrancheNumber
    amount_minor: AmountMinor
    currency: Currency
    promised_by: Instant
    basis: Literal["clear", "hold"]
    revision: Annotated[int, Field(ge=0, le=99)] = 0
    policy_version: Reference
    calendar_version: Reference


class HoldPlaced(DerivedEvent):
    """A tranche is kept back until a date."""

    repayment_id: RepaymentId
    tranche: TrancheNumber
    amount_minor: AmountMinor
    currency: Currency
    until: Instant
    reasons: Reasons
    record: DecisionRecord


class HoldReleased(DerivedEvent):
    """A hold ended."""

    repayment_id: RepaymentId
    tranche: TrancheNumber
    reason: Reason


class RestorationParked(DerivedEvent):
    """A tranche waits for a condition instead of a date: the account must be active again."""

    repayment_id: RepaymentId
    tranche: TrancheNumber
    amount_minor: AmountMinor
    currency: Currency
    cause: Cause
    reason: Reason
    condition: Literal["account_active"]
    record: DecisionRecord


class CreditRestored(RepaymentEvent):
    """Credit is usable again; the trail tiles [repaid_at, restored_at] to the millisecond."""

    tranche: TrancheNumber
    amount_minor: AmountMinor
    currency: Currency
    available_credit_minor: ShareMinor
    available_raw_minor: BalanceMinor
    zero_reason: Reason | None = None
    cause: Cause
    reason: Reason
    restored_at: Instant
    promised_by: Instant
    record: DecisionRecord


class NothingToRestore(RepaymentEvent):
    """The repayment gives no credit back, and why."""

    currency: Currency
    reason: Reason
    record: DecisionRecord


class RestorationDelayed(DerivedEvent):
    """A promise was missed, and what it waits for."""

    repayment_id: RepaymentId
    tranche: TrancheNumber
    cause: Cause
    promised_by: Instant
    record: DecisionRecord


class RestorationReversed(DerivedEvent):
    """Restored or held credit was taken back after a return.

    The available credit changes by -from_available_minor + reallocated_minor - uncovered_minor; the last is below 0
    where a credit balance paid what the return left owing.
    """

    repayment_id: RepaymentId
    currency: Currency
    code: Reference
    return_class: Reason
    from_hold_minor: ShareMinor
    from_available_minor: ShareMinor
    reallocated_minor: BalanceMinor = 0
    uncovered_minor: BalanceMinor = 0
    available_credit_minor: ShareMinor
    available_raw_minor: BalanceMinor
    zero_reason: Reason | None = None
    record: DecisionRecord
