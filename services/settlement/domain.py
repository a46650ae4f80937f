"""The debt ledger: what a repayment pays, what of it may be restored, and how a return undoes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Literal

from schemas.account import (
    AccountOpened,
    ChargesAccrued,
    CreditBalanceRefunded,
    PurchasePosted,
    PurchaseRefunded,
)
from schemas.event import extended
from schemas.ids import event_id
from schemas.intake import RepaymentReceived, ReturnReceived
from schemas.reasons import Reason
from schemas.settlement import Allocation, RepaymentRejected, RepaymentReturned, RepaymentSettled
from services.decision import Decision, Input, Malformed, Moment
from services.policy import Component, Profile, Profiles

Status = Literal["waiting", "settled", "rejected", "returned", "returned_first"]
COMPONENTS: tuple[Component, ...] = ("penalty", "fee", "interest", "principal")


@dataclass(frozen=True, slots=True)
class Repayment:
    """The money lane of one repayment: waiting -> settled -> returned, or rejected; no lane goes back."""

    repayment_id: str
    status: Status
    amount_minor: int = 0
    penalty_minor: int = 0
    fee_minor: int = 0
    interest_minor: int = 0
    principal_minor: int = 0
    credit_balance_minor: int = 0
    restorable_minor: int = 0
    repaid_at: datetime | None = None
    credited_on: date | None = None
    final_on: date | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """One account's debt in minor units by component; ``product`` is empty until it was opened."""

    account_id: str
    product: str = ""
    currency: str = ""
    penalty_minor: int = 0
    fee_minor: int = 0
    interest_minor: int = 0
    principal_minor: int = 0
    credit_balance_minor: int = 0
    repayments: Mapping[str, Repayment] = field(default_factory=dict)
    entries: frozenset[str] = frozenset()


def decide(policy: Profiles, state: Account, event: Input, moment: Moment) -> Decision[Account]:
    """Settle, reject, return, or follow billing's account; anything of an unknown account is parked."""
    if isinstance(event, AccountOpened):
        return _opened(policy, state, event)
    if not state.product:
        return Decision(state, outcome="parked", reason=Reason.ACCOUNT_UNKNOWN)
    profile = policy.of(state.product)
    match event:
        case RepaymentReceived():
            return _received(profile, state, event, moment)
        case ReturnReceived():
            return _returned(profile, state, event, moment)
        case _:
            return _account(profile, state, event)


def _account(profile: Profile, state: Account, event: Input) -> Decision[Account]:
    """Follow billing: purchases, refunds, charges; a purchase or refund told twice counts once."""
    entry = entry_of(event)
    if entry in state.entries:
        return Decision(state, outcome="stale", reason="booked_before")
    if entry:
        state = replace(state, entries=state.entries | {entry})
    match event:
        case PurchasePosted():
            _same_currency(state, event.currency)
            debt = replace(state, principal_minor=state.principal_minor + event.amount_minor)
            return Decision(_absorbed(profile, debt))
        case PurchaseRefunded():
            return _refunded(profile, state, event)
        case ChargesAccrued():
            return _charged(profile, state, event)
        case CreditBalanceRefunded():
            paid = min(state.credit_balance_minor, event.amount_minor)
            return Decision(replace(state, credit_balance_minor=state.credit_balance_minor - paid))
        case _:
            return Decision(state, outcome="ignored")


def entry_of(event: Input) -> str:
    """Return the name of what billing may tell only once beside its event id; empty for everything else."""
    match event:
        case PurchasePosted(purchase_id=ref):
            return f"purchase:{ref}"
        case PurchaseRefunded(refund_id=ref):
            return f"refund:{ref}"
        case CreditBalanceRefunded(refund_id=ref):
            return f"payout:{ref}"
        case _:
            return ""


def allocate(account: Account, order: tuple[Component, ...], amount_minor: int) -> tuple[dict[Component, int], int]:
    """Return what each component takes of ``amount_minor`` in ``order``, and what is left over (R2, R3, R5)."""
    taken: dict[Component, int] = {}
    left = amount_minor
    for component in order:
        owed: int = getattr(account, f"{component}_minor")
        taken[component] = min(owed, left)
        left -= taken[component]
    return taken, left


def _opened(policy: Profiles, state: Account, event: AccountOpened) -> Decision[Account]:
    if state.product:
        return Decision(state, outcome="stale", reason="opened_before")
    policy.of(event.product)
    return Decision(replace(state, product=event.product, currency=event.currency), wakes=True)


def _received(profile: Profile, state: Account, event: RepaymentReceived, moment: Moment) -> Decision[Account]:
    known = state.repayments.get(event.repayment_id)
    if known is not None and known.status == "returned_first":
        return _rejected(state, event, moment, Reason.RETURNED_FIRST)
    if known is not None and known.status != "waiting":
        return Decision(state, outcome="stale", reason=f"already_{known.status}")
    match event.status:
        case "pending":
            waiting = Repayment(event.repayment_id, "waiting", event.amount_minor)
            return Decision(_with(state, waiting))
        case "failed":
            return _rejected(state, event, moment, Reason.REPORTED_FAILED)
        case "succeeded" if event.currency != state.currency:
            return _rejected(state, event, moment, Reason.CURRENCY_MISMATCH)
        case "succeeded":
            return _settled(profile, state, event, moment)


def _settled(profile: Profile, state: Account, event: RepaymentReceived, moment: Moment) -> Decision[Account]:
    paid = _paid(profile, state, event)
    parts = {f"{component}_minor": getattr(paid, f"{component}_minor") for component in COMPONENTS}
    owed = {name: getattr(state, name) - part for name, part in parts.items()}
    balance = state.credit_balance_minor + paid.credit_balance_minor
    after = replace(_with(state, paid), credit_balance_minor=balance, **owed)
    fact = RepaymentSettled(
        event_id=event_id("RepaymentSettled", event.repayment_id),
        account_id=event.account_id,
        occurred_at=moment.now,
        caused_by=event.event_id,
        repayment_id=event.repayment_id,
        repaid_at=event.repaid_at,
        trail=extended(event.repaid_at, event.trail, "settlement", *moment.stretches()),
        product=state.product,
        amount_minor=event.amount_minor,
        currency=event.currency,
        rail=event.rail,
        method=event.method,
        funding_account_id=event.funding_account_id,
        settled_at=moment.now,
        credited_on=profile.credited_on(event.repaid_at),
        allocation=Allocation(**parts),
        restorable_minor=paid.restorable_minor,
        credit_balance_minor=paid.credit_balance_minor,
        finality="final" if profile.rail(event.rail).rail_class == "FINAL" else "provisional",
        final_on=paid.final_on or profile.credited_on(event.repaid_at),
        policy_version=profile.policy_version,
    )
    return Decision(after, (fact,))


def _paid(profile: Profile, state: Account, event: RepaymentReceived) -> Repayment:
    """Allocate a repayment: what of it may be restored, and until when it may be returned."""
    taken, left = allocate(state, profile.waterfall.component, event.amount_minor)
    credited_on = profile.credited_on(event.repaid_at)
    return Repayment(
        event.repayment_id,
        "settled",
        event.amount_minor,
        credit_balance_minor=left,
        restorable_minor=taken["principal"] if profile.limit_basis == "PRINCIPAL" else event.amount_minor - left,
        repaid_at=event.repaid_at,
        credited_on=credited_on,
        final_on=credited_on + timedelta(days=profile.tail_calendar_days(profile.rail(event.rail))),
        **{f"{component}_minor": part for component, part in taken.items()},
    )


def _rejected(state: Account, event: RepaymentReceived, moment: Moment, reason: Reason) -> Decision[Account]:
    fact = RepaymentRejected(
        event_id=event_id("RepaymentRejected", event.repayment_id),
        account_id=event.account_id,
        occurred_at=moment.now,
        caused_by=event.event_id,
        repayment_id=event.repayment_id,
        reason=reason,
        next_attempt_at=event.next_attempt_at,
    )
    rejected = Repayment(event.repayment_id, "rejected", event.amount_minor)
    return Decision(_with(state, rejected), (fact,), reason=reason)


def _returned(profile: Profile, state: Account, event: ReturnReceived, moment: Moment) -> Decision[Account]:
    known = state.repayments.get(event.repayment_id)
    if known is None:
        first = Repayment(event.repayment_id, "returned_first", event.amount_minor)
        return Decision(_with(state, first), reason="waits_for_its_report")
    if known.status == "waiting":
        return _return_of_waiting(state, event, moment)
    if known.status != "settled" or known.final_on is None:
        return Decision(state, outcome="stale", reason=f"already_{known.status}")
    parts = {f"{component}_minor": getattr(known, f"{component}_minor") for component in COMPONENTS}
    fact = RepaymentReturned(
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
        after_final=profile.local_day(moment.now) > known.final_on,
        allocation=Allocation(**parts),
        restorable_minor=known.restorable_minor,
        credit_balance_minor=known.credit_balance_minor,
    )
    undone = _undone(_with(state, replace(known, status="returned")), known, parts)
    return Decision(_absorbed(profile, undone), (fact,))


def _return_of_waiting(state: Account, event: ReturnReceived, moment: Moment) -> Decision[Account]:
    fact = RepaymentRejected(
        event_id=event_id("RepaymentRejected", event.repayment_id),
        account_id=event.account_id,
        occurred_at=moment.now,
        caused_by=event.event_id,
        repayment_id=event.repayment_id,
        reason=Reason.RETURNED_FIRST,
    )
    rejected = Repayment(event.repayment_id, "rejected", event.amount_minor)
    return Decision(_with(state, rejected), (fact,), reason=Reason.RETURNED_FIRST)


def _undone(state: Account, known: Repayment, parts: Mapping[str, int]) -> Account:
    """Give every component back what the repayment took; a credit balance already used becomes principal again."""
    owed = {name: getattr(state, name) + part for name, part in parts.items()}
    kept = min(state.credit_balance_minor, known.credit_balance_minor)
    owed["principal_minor"] += known.credit_balance_minor - kept
    return replace(state, credit_balance_minor=state.credit_balance_minor - kept, **owed)


def _refunded(profile: Profile, state: Account, event: PurchaseRefunded) -> Decision[Account]:
    _same_currency(state, event.currency)
    taken = min(state.principal_minor, event.to_debt_minor)
    after = replace(
        state,
        principal_minor=state.principal_minor - taken,
        credit_balance_minor=state.credit_balance_minor + event.to_debt_minor - taken,
    )
    return Decision(_absorbed(profile, after))


def _charged(profile: Profile, state: Account, event: ChargesAccrued) -> Decision[Account]:
    """Add charges; a correction of what was paid already is the customer's money again: credit balance."""
    _same_currency(state, event.currency)
    owed = {
        name: getattr(state, name) + getattr(event, name) for name in ("penalty_minor", "fee_minor", "interest_minor")
    }
    balance = state.credit_balance_minor - sum(min(0, left) for left in owed.values())
    charges = {name: max(0, left) for name, left in owed.items()}
    return Decision(_absorbed(profile, replace(state, credit_balance_minor=balance, **charges)))


def _absorbed(profile: Profile, state: Account) -> Account:
    """A credit balance pays new debt at once (domain 4.3)."""
    if not state.credit_balance_minor:
        return state
    taken, left = allocate(state, profile.waterfall.component, state.credit_balance_minor)
    owed = {f"{component}_minor": getattr(state, f"{component}_minor") - part for component, part in taken.items()}
    return replace(state, credit_balance_minor=left, **owed)


def _same_currency(state: Account, currency: str) -> None:
    if currency != state.currency:
        raise Malformed("currency_mismatch")


def _with(state: Account, repayment: Repayment) -> Account:
    return replace(state, repayments={**state.repayments, repayment.repayment_id: repayment})
