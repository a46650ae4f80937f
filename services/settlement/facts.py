"""The facts settlement tells, built from the books as they are after the decision."""

from collections.abc import Iterable
from datetime import date, datetime

from schemas.account import PurchaseRefunded
from schemas.event import Event, extended
from schemas.ids import AccountId, EventId, RepaymentId, event_id
from schemas.intake import RepaymentReceived, ReturnReceived
from schemas.made import made
from schemas.reasons import Reason
from schemas.settlement import (
    Allocation,
    Awaited,
    DebtComponent,
    Owed,
    Part,
    RepaymentRejected,
    RepaymentReturned,
    RepaymentSettled,
    RepaymentsReallocated,
    SettlementDelayed,
    Standing,
)
from services.decision import Moment
from services.policy import Profile
from services.settlement.model import Account, Debt, Repayment
from services.settlement.replay import Replayed, charges, charges_settled

Bucket = tuple[Standing, DebtComponent, str | None]
Days = tuple[date, date]
"""The days a repayment counts from and is final on."""
PARTS_MAX = 256
_make_settled = made(RepaymentSettled)
_make_returned = made(RepaymentReturned)
_make_rejected = made(RepaymentRejected)
_make_reallocated = made(RepaymentsReallocated)
_make_delayed = made(SettlementDelayed)
_make_allocation = made(Allocation)


def settled(
    profile: Profile, event: RepaymentReceived, moment: Moment, *, days: Days, doubles: str | None, done: Replayed
) -> RepaymentSettled:
    """Tell what a repayment paid and what of it may be restored."""
    credited_on, final_on = days
    repayment, books = done.state.repayments[event.repayment_id], done.state.books
    return _make_settled(
        event_id=event_id("RepaymentSettled", event.repayment_id),
        account_id=event.account_id,
        occurred_at=moment.now,
        caused_by=event.event_id,
        repayment_id=event.repayment_id,
        repaid_at=event.repaid_at,
        trail=extended(event.repaid_at, event.trail, "settlement", *moment.stretches()),
        product=done.state.product,
        amount_minor=event.amount_minor,
        currency=event.currency,
        rail=event.rail,
        method=event.method,
        funding_account_id=event.funding_account_id,
        settled_at=moment.now,
        credited_on=credited_on,
        allocation=allocation(repayment.portions),
        parts=parts(repayment.portions),
        restorable_minor=repayment.restorable_minor,
        credit_balance_minor=repayment.credit_balance_minor,
        finality="final" if profile.rail(event.rail).rail_class == "FINAL" else "provisional",
        final_on=final_on,
        policy_version=profile.policy_version,
        doubles=None if doubles is None else RepaymentId(doubles),
        reallocated=done.reallocated,
        principal_instead_minor=done.principal_instead_minor,
        cash_moved_minor=done.cash_moved_minor,
        principal_beyond_minor=done.principal_beyond_minor,
        past_due_minor=books.owed(standing="past_due"),
        owed_minor=books.owed(None if profile.limit_basis == "TOTAL" else "principal"),
        owed=owed(done.state),
    )


def returned(
    repayment: Repayment,
    event: ReturnReceived,
    moment: Moment,
    *,
    after_final: bool,
    done: Replayed,
) -> RepaymentReturned:
    """Tell that a repayment was taken back, and what undoing it did to others.

    Its days say how it settled: a FINAL rail alone may take back nothing after the day it counts from (Profile).
    """
    return _make_returned(
        event_id=event_id("RepaymentReturned", event.repayment_id),
        account_id=event.account_id,
        occurred_at=moment.now,
        caused_by=event.event_id,
        repayment_id=event.repayment_id,
        amount_minor=event.amount_minor,
        currency=event.currency,
        code=event.code,
        return_class=event.return_class,
        fault=event.fault,
        after_final=after_final,
        allocation=allocation(repayment.portions),
        parts=tuple(reversed(parts(repayment.portions))),
        restorable_minor=repayment.restorable_now_minor,
        credit_balance_minor=repayment.credit_balance_minor,
        finality="final" if repayment.final_on == repayment.credited_on else "provisional",
        charges_owed_minor=charges(done.state.books.debts),
        charges_settled_minor=charges_settled(done.state),
        reallocated=done.reallocated,
        principal_instead_minor=done.principal_instead_minor,
        cash_moved_minor=done.cash_moved_minor,
        owed=owed(done.state),
    )


def rejected(event: RepaymentReceived | ReturnReceived, moment: Moment, reason: Reason) -> RepaymentRejected:
    """Tell that a repayment was refused before it settled."""
    return _make_rejected(
        event_id=event_id("RepaymentRejected", event.repayment_id),
        account_id=event.account_id,
        occurred_at=moment.now,
        caused_by=event.event_id,
        repayment_id=event.repayment_id,
        reason=reason,
        next_attempt_at=event.next_attempt_at if isinstance(event, RepaymentReceived) else None,
    )


def reallocated(event: Event, moment: Moment, done: Replayed) -> RepaymentsReallocated:
    """Tell what a fact of billing's did to repayments, and to what the others paid."""
    return _make_reallocated(
        event_id=event_id("RepaymentsReallocated", event.event_id),
        account_id=event.account_id,
        occurred_at=moment.now,
        caused_by=event.event_id,
        reallocated=done.reallocated,
        principal_instead_minor=done.principal_instead_minor,
        cash_moved_minor=done.cash_moved_minor,
        principal_beyond_minor=done.principal_beyond_minor,
        refund_id=event.refund_id if isinstance(event, PurchaseRefunded) else None,
        owed=owed(done.state),
    )


def delayed(account_id: AccountId, repayment_id: str, awaited: Awaited, since: datetime, moment: Moment) -> Event:
    """Tell that a repayment or a return has waited too long."""
    cause: EventId = event_id("wait", awaited, repayment_id, since.isoformat())
    return _make_delayed(
        event_id=event_id("SettlementDelayed", cause),
        account_id=account_id,
        occurred_at=moment.now,
        caused_by=cause,
        repayment_id=RepaymentId(repayment_id),
        waits_for=awaited,
        since=since,
    )


def owed(state: Account) -> Owed:
    """Say what is owed after what is told with it."""
    books, read = state.books, [EventId(event_id) for event_id in state.read_to.split()]
    principal = books.owed("principal")
    sums = (principal, books.owed() - principal, books.credit_balance_minor)
    return Owed(state.told, read[0] if read else None, *sums, tuple(read[1:]))


def allocation(portions: Iterable[Debt]) -> Allocation:
    """Add portions up by component."""
    total: dict[str, int] = {}
    for portion in portions:
        name = f"{portion.component}_minor"
        total[name] = total.get(name, 0) + portion.amount_minor
    return _make_allocation(**total)


def parts(portions: Iterable[Debt]) -> tuple[Part, ...]:
    """Add portions up by bucket and plan, in the order in which each was first filled; by bucket alone when many."""
    total: dict[Bucket, int] = {}
    for portion in portions:
        bucket = portion.standing, portion.component, portion.plan or None
        total[bucket] = total.get(bucket, 0) + portion.amount_minor
    if len(total) > PARTS_MAX:
        return parts([Debt(standing, component, amount) for (standing, component, _), amount in total.items()])
    return tuple([Part(standing, component, plan, amount) for (standing, component, plan), amount in total.items()])
