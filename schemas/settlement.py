"""repayment.settlement.v1: what a repayment paid, and what of it may be restored."""

from datetime import date
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from schemas.event import DerivedEvent, Instant, RepaymentEvent
from schemas.ids import Reference, RepaymentId
from schemas.money import AmountMinor, BalanceMinor, Currency, ShareMinor
from schemas.reasons import Reason
from schemas.repayment import Fault, Method


class Allocation(BaseModel):
    """How much of a repayment went to each component of the debt, in minor units."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    penalty_minor: ShareMinor = 0
    fee_minor: ShareMinor = 0
    interest_minor: ShareMinor = 0
    principal_minor: ShareMinor = 0


class Reallocation(NamedTuple):
    """Another repayment's change when a return made the books replay (R24)."""

    repayment_id: RepaymentId
    restorable_delta_minor: BalanceMinor
    credit_balance_delta_minor: BalanceMinor


class RepaymentSettled(RepaymentEvent):
    """The repayment counts against the debt; ``restorable_minor`` of it may become credit again."""

    product: Reference
    amount_minor: AmountMinor
    currency: Currency
    rail: Reference
    method: Method
    funding_account_id: Reference | None = None
    settled_at: Instant
    credited_on: date
    allocation: Allocation
    restorable_minor: ShareMinor
    credit_balance_minor: ShareMinor
    finality: Literal["final", "provisional"]
    final_on: date
    policy_version: Reference
    reallocated: tuple[Reallocation, ...] = ()


class RepaymentRejected(DerivedEvent):
    """The repayment was refused before it settled."""

    repayment_id: RepaymentId
    reason: Reason
    next_attempt_at: Instant | None = None


class RepaymentReturned(DerivedEvent):
    """A settled repayment was taken back; its allocation is undone."""

    repayment_id: RepaymentId
    amount_minor: AmountMinor
    currency: Currency
    code: Reference
    return_class: Reason
    fault: Fault
    after_final: bool
    allocation: Allocation
    restorable_minor: ShareMinor
    credit_balance_minor: ShareMinor
    reallocated: tuple[Reallocation, ...] = ()
