"""repayment.settlement.v1: what a repayment paid, and what of it may be restored.

What a case is opened for can be read from these events alone (domain 3.3): ``RepaymentReturned.after_final``, a
``RepaymentSettled`` that ``doubles`` another one and left credit balance (R11), and ``SettlementDelayed``: a repayment
waits for its rail, a return for its report (R12), or either for its account, each for the hours its profile allows.
"""

from datetime import date
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from schemas.event import DerivedEvent, Instant, RepaymentEvent
from schemas.ids import EventId, Reference, RepaymentId
from schemas.money import AmountMinor, BalanceMinor, Currency, ShareMinor
from schemas.reasons import Reason
from schemas.repayment import Fault, Method

Finality = Literal["final", "provisional"]
"""Whether the rail of a repayment may still take it back: provisional until ``final_on``."""
Standing = Literal["past_due", "due", "in_advance"]
"""Whether a debt is late, on a statement, or not due yet."""
DebtComponent = Literal["penalty", "fee", "interest", "principal"]
Awaited = Literal["rail", "report", "account"]
"""What a repayment or a return waits for: its rail's word, its report, or its account."""


class Allocation(BaseModel):
    """How much of a repayment went to each component of the debt, in minor units."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    penalty_minor: ShareMinor = 0
    fee_minor: ShareMinor = 0
    interest_minor: ShareMinor = 0
    principal_minor: ShareMinor = 0


class Part(NamedTuple):
    """What one bucket took of a repayment; principal says the ``plan`` it belongs to, charges have none."""

    standing: Standing
    component: DebtComponent
    plan: Reference | None
    amount_minor: AmountMinor


Parts = Annotated[tuple[Part, ...], Field(max_length=256)]


class Reallocation(NamedTuple):
    """Another repayment's net change when the books were replayed by value date (R24)."""

    repayment_id: RepaymentId
    restorable_delta_minor: BalanceMinor
    credit_balance_delta_minor: BalanceMinor


EARLIER_MAX: Final = 4


class Owed(NamedTuple):
    """What an account owes right after an event: of billing's facts those up to the event ``read_to`` are in it.

    ``earlier`` are those read before it, the newest first, EARLIER_MAX at most: a billing of another partitioner is
    not read in one order. A statement is never any of them, as it adds nothing; None is no fact since settlement notes
    it. ``number`` counts the events that said what their account owes, so a reader knows whether one before is still
    to come.
    """

    number: AmountMinor
    read_to: EventId | None
    principal_minor: ShareMinor
    charges_minor: ShareMinor
    credit_balance_minor: ShareMinor
    earlier: tuple[EventId, ...] = ()


class RepaymentSettled(RepaymentEvent):
    """The repayment counts against the debt; ``restorable_minor`` of it may become credit again.

    ``parts`` are the buckets in the order they were filled and add up to ``allocation``. ``doubles`` names the earlier
    repayment whose other method paid the same debt (R11). ``reallocated`` lists later ones this late report moved.
    ``past_due_minor`` is what of the account's debt was late right after it, ``owed_minor`` all of it that uses the
    limit: principal, with charges where those use it, too; None where the writer did not say.
    ``principal_instead_minor``, ``cash_moved_minor``, ``principal_beyond_minor``, ``owed``: see RepaymentsReallocated.
    """

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
    finality: Finality
    final_on: date
    policy_version: Reference
    parts: Parts = ()
    doubles: RepaymentId | None = None
    reallocated: tuple[Reallocation, ...] = ()
    past_due_minor: ShareMinor | None = None
    principal_instead_minor: ShareMinor = 0
    cash_moved_minor: BalanceMinor = 0
    owed_minor: ShareMinor | None = None
    principal_beyond_minor: ShareMinor = 0
    owed: Owed | None = None


class RepaymentRejected(DerivedEvent):
    """The repayment was refused before it settled."""

    repayment_id: RepaymentId
    reason: Reason
    next_attempt_at: Instant | None = None


class RepaymentReturned(DerivedEvent):
    """A settled repayment was taken back; its allocation, as replays left it, is undone, ``parts`` in mirror order.

    ``principal_instead_minor``, ``cash_moved_minor``, ``owed``: see RepaymentsReallocated; a refund that happens again
    may pay something else. ``finality`` is how the repayment settled by its days, None where the writer did not say:
    risk-scoring keeps a verdict on a provisional one, and a return it reads before that waits for it.
    ``charges_settled_minor`` of charges was paid by refunds and credit balance, by no repayment, once it is undone,
    and ``charges_owed_minor`` by nobody: limit-release alone knows whether an overpayment was held until then (E7).
    """

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
    parts: Parts = ()
    reallocated: tuple[Reallocation, ...] = ()
    principal_instead_minor: ShareMinor = 0
    cash_moved_minor: BalanceMinor = 0
    finality: Finality | None = None
    charges_owed_minor: ShareMinor = 0
    charges_settled_minor: ShareMinor = 0
    owed: Owed | None = None


class RepaymentsReallocated(DerivedEvent):
    """A fact of billing's (``caused_by``) changed what repayments of a later value date, or other money, paid.

    Read it as the list in RepaymentSettled and RepaymentReturned: a purchase or charge that happened before a repayment
    and was heard after it changes what that repayment paid (R24). ``principal_instead_minor`` is owed as principal, not
    as charges, though a refund lessens principal first and credit balance pays charges first (E7): what a refund gave
    more paid charges, or a charge was paid before it. 0 where charges use the limit (TOTAL); the net debt is the same.
    ``cash_moved_minor`` is added to the debt drawn in cash beside what purchases and the ``parts`` of repayments say of
    it: by refunds, credit balance and what other repayments paid instead (R20). ``principal_beyond_minor`` is what
    was taken of principal beyond what was owed of it, and pays charges: who did not book yet what took it, a
    repayment's verdict or the refund (``refund_id``), owes as much more as principal until then. Of a refund it is said
    where anything is principal instead. ``owed`` is what all that came to: who has read the same of billing's facts,
    and owes more of it as charges, owes that as principal. None where the writer did not say.
    """

    reallocated: tuple[Reallocation, ...]
    principal_instead_minor: ShareMinor = 0
    cash_moved_minor: BalanceMinor = 0
    principal_beyond_minor: ShareMinor = 0
    refund_id: Reference | None = None
    owed: Owed | None = None


class SettlementDelayed(DerivedEvent):
    """A repayment or a return has waited too long for what it needs: a person should look, nothing is dropped."""

    repayment_id: RepaymentId
    waits_for: Awaited
    since: Instant
