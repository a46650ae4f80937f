"""What each event does to the availability ledger and the credit lane; every case of decide() is one rule's door."""

from collections.abc import Callable, Sequence
from datetime import datetime

from schemas.account import (
    CASH,
    AccountOpened,
    AccountStatusChanged,
    AuthorisationPlaced,
    AuthorisationReleased,
    ChargesAccrued,
    CreditBalanceRefunded,
    CreditLimitChanged,
    PurchasePosted,
    PurchaseRefunded,
)
from schemas.event import Event
from schemas.ids import EventId, event_id
from schemas.reasons import AccountStatus, Reason
from schemas.restoration import TOGETHER_MAX
from schemas.review import HoldExtended, HoldReleaseApproved
from schemas.risk import RiskAssessed
from schemas.settlement import RepaymentReturned, RepaymentSettled, RepaymentsReallocated
from services.decision import Decision, Input, Internal, Malformed, Moment, Timer, TimerFired, latest
from services.limit_release.facts import Scene, Shared
from services.limit_release.heard import Billed
from services.limit_release.holds import HOLD_DUE, PROMISE_DUE, approved, delayed, due, lapse, prolonged, thaw
from services.limit_release.model import Account, Journal, Repayment, State
from services.limit_release.movements import absorbed, followed, reallocated
from services.limit_release.returns import returned
from services.limit_release.verdicts import DECISION_DUE, assessed, settled, undecided
from services.policy import Profile, Profiles
from services.values import replace

Step = Callable[[Scene, State, Repayment], Decision[State]]

__all__ = ["DECISION_DUE", "HOLD_DUE", "PROMISE_DUE", "cause_of", "decide"]


def decide(policy: Profiles, state: State, event: Input, moment: Moment) -> Decision[State]:
    """Keep the ledger, hold, restore, park or take back; anything of an unknown account is parked."""
    if isinstance(event, AccountOpened):
        return _opened(policy, state, event)
    if not state.account.product:
        return Decision(state, outcome="parked", reason=Reason.ACCOUNT_UNKNOWN)
    profile = policy.of(state.account.product)
    if state.account.spendable != profile.credit_balance_spendable:
        state = replace(state, account=replace(state.account, spendable=profile.credit_balance_spendable))
    verdict = event if isinstance(event, RiskAssessed) else None
    return _decided(Scene(profile, moment, cause_of(event), state.account, verdict), state, event)


def _decided(scene: Scene, state: State, event: Input) -> Decision[State]:
    match event:
        case RepaymentSettled():
            return settled(scene, state, event)
        case RiskAssessed():
            return assessed(scene, state, event)
        case RepaymentReturned():
            return returned(scene, state, event)
        case RepaymentsReallocated(event_id=ref):
            moved = reallocated(scene.profile, state, event.reallocated, ref)
            return Decision(absorbed(scene.profile, moved, event))
        case TimerFired(timer=timer):
            return _timer(scene, state, timer)
        case HoldReleaseApproved():
            return approved(scene, state, event)
        case HoldExtended():
            return prolonged(scene, state, event)
        case AccountStatusChanged():
            return _status(scene, state, event)
        case _:
            return _account(scene, state, event)


def _opened(policy: Profiles, state: State, event: AccountOpened) -> Decision[State]:
    if state.account.product:
        return Decision(state, outcome="stale", reason="opened_before")
    spendable = policy.of(event.product).credit_balance_spendable
    account = replace(state.account, product=event.product, currency=event.currency, spendable=spendable)
    opened = account.book(Journal("OPEN", event.event_id, available_minor=event.credit_limit_minor))
    return Decision(replace(state, account=opened), wakes=True)


def _account(scene: Scene, state: State, event: Input) -> Decision[State]:
    """Follow billing: limit, purchases, authorisations, refunds, charges."""
    account = state.account
    currency = getattr(event, "currency", account.currency)
    if currency != account.currency:
        raise Malformed("currency_mismatch")
    match event:
        case CreditLimitChanged():
            scene.moment.refuse_ahead(event.occurred_at)
            after = _limited(account, event)
            if after is account:
                return Decision(state, outcome="stale", reason="older_limit")
            account = after
        case AuthorisationPlaced(authorisation_id=ref) if ref in account.authorisations:
            return Decision(state, outcome="stale", reason="authorised_before")
        case AuthorisationPlaced(authorisation_id=ref, amount_minor=amount):
            account = account.authorised(ref, amount)
        case AuthorisationReleased(authorisation_id=ref):
            account = account.unauthorised(ref)
        case CreditBalanceRefunded(amount_minor=amount):
            account = account.balanced(-amount, event.event_id)
        case PurchasePosted(purchase_id=ref) | PurchaseRefunded(refund_id=ref) if ref in account.booked:
            return Decision(state, outcome="stale", reason="booked_before")
        case PurchasePosted() | PurchaseRefunded() | ChargesAccrued():
            account = _debt(scene.profile, account, event).absorbed(event.event_id)
        case _:
            return Decision(state, outcome="ignored")
    fact = _billed(event)
    return Decision(replace(state, account=followed(scene.profile, account, fact) if fact else account))


def _billed(event: Input) -> Billed | None:
    """Return what a fact of billing's adds to the debt; None where it is none of that."""
    match event:
        case PurchasePosted(amount_minor=amount):
            return Billed(event.event_id, principal_minor=amount)
        case PurchaseRefunded(to_debt_minor=amount):
            return Billed(event.event_id, principal_minor=-amount)
        case ChargesAccrued(penalty_minor=penalty, fee_minor=fee, interest_minor=interest):
            return Billed(event.event_id, charges_minor=penalty + fee + interest)
        case CreditBalanceRefunded(amount_minor=amount):
            return Billed(event.event_id, credit_balance_minor=-amount)
        case _:
            return None


def _limited(account: Account, event: CreditLimitChanged) -> Account:
    """Take over each limit that is not older than the one known; the same account when neither is news."""
    at, cash = event.occurred_at, event.cash_sub_limit_minor
    if latest(at, account.limit_at):
        limited = account.limited(event.event_id, event.credit_limit_minor, at)
        account = replace(limited, limit_at=at)
    if cash is not None and latest(at, account.cash_limit_at):
        account = replace(account, cash_sub_limit_minor=cash, cash_limit_at=at)
    return account


def _debt(profile: Profile, account: Account, event: PurchasePosted | PurchaseRefunded | ChargesAccrued) -> Account:
    match event:
        case PurchasePosted():
            posted = account.posted(event.purchase_id, event.authorisation_id or "", event.amount_minor)
            cash = account.cash_used_minor + (event.amount_minor if event.plan == CASH else 0)
            return replace(posted, booked=posted.booked | {event.purchase_id}, cash_used_minor=cash)
        case PurchaseRefunded(refund_id=ref, to_debt_minor=to_debt):
            entry = Journal("REFUND", ref, available_minor=to_debt, used_debt_minor=-to_debt)
            return replace(account.book(entry), booked=account.booked | {ref})
        case ChargesAccrued():
            charges = event.penalty_minor + event.fee_minor + event.interest_minor
            if profile.limit_basis == "PRINCIPAL":
                return account.accrued(charges, event.occurred_at)
            return account.book(Journal("CHARGE", event.event_id, available_minor=-charges, used_debt_minor=charges))


def _timer(scene: Scene, state: State, timer: Timer) -> Decision[State]:
    repayment = state.repayments.get(timer.subject)
    if repayment is not None and timer.kind == DECISION_DUE:
        return undecided(scene, state, repayment, timer)
    tranche = repayment.tranches.get(timer.number) if repayment else None
    if repayment is None or tranche is None or not tranche.waits:
        return Decision(state, outcome="stale", reason="over_before")
    if timer.kind == PROMISE_DUE:
        return delayed(scene, state, repayment, tranche)
    return due(scene, state, repayment, tranche)


def _status(scene: Scene, state: State, event: AccountStatusChanged) -> Decision[State]:
    """Freeze, close or thaw: a thaw restores what is due, a closing lets what waits lapse."""
    scene.moment.refuse_ahead(event.occurred_at)
    if not latest(event.occurred_at, state.account.status_at):
        return Decision(state, outcome="stale", reason="older_status")
    account = replace(state.account, status=event.status, status_at=event.occurred_at)
    step = lapse if event.status == "closed" else thaw
    decision = Decision(replace(state, account=account))
    for ids in _told_apart(state, event.status, scene.now):
        after = _told_once(scene, decision.state, ids, step)
        # What a thaw frees is told with the first of them, once.
        scene = replace(scene, before=after.state.account)
        decision = _and(decision, after)
    # Only now: a thaw tells what the account was frozen for.
    account = replace(decision.state.account, status_reason=event.reason)
    return decision._replace(state=replace(decision.state, account=account))


def _told_apart(state: State, status: AccountStatus, now: datetime) -> Sequence[Sequence[str]]:
    """Return which repayments a status changes: what lapses or comes back is told together, a new date by itself."""
    waiting = sorted(at for at, known in state.repayments.items() if known.waiting)
    if status == "closed":
        return _groups(waiting)
    if status != "active":
        return ()
    parked = {at: [t for t in state.repayments[at].waiting if t.state == "parked"] for at in waiting}
    back = [at for at, tranches in parked.items() if any(t.until <= now for t in tranches)]
    return (*_groups(back), *([at] for at, tranches in parked.items() if tranches and at not in back))


def _groups(ids: Sequence[str]) -> Sequence[Sequence[str]]:
    return [ids[n : n + TOGETHER_MAX] for n in range(0, len(ids), TOGETHER_MAX)]


def _told_once(scene: Scene, state: State, ids: Sequence[str], step: Step) -> Decision[State]:
    """Take a step of each repayment; where they are several, again, knowing what it came to for all of them."""
    decision = _each(scene, state, ids, step)
    if len(ids) == 1:
        return decision
    return _each(replace(scene, shared=Shared.of(decision.state, ids)), state, ids, step)


def _each(scene: Scene, state: State, ids: Sequence[str], step: Step) -> Decision[State]:
    decision = Decision(state)
    for at in ids:
        decision = _and(decision, step(scene, decision.state, decision.state.repayments[at]))
    return decision


def _and(before: Decision[State], after: Decision[State]) -> Decision[State]:
    return Decision(after.state, (*before.events, *after.events), (*before.timers, *after.timers))


def cause_of(event: Input) -> EventId:
    """Return the id of what an input's facts are caused by."""
    return event.event_id if isinstance(event, Event) else event_id("TimerFired", _timer_key(event))


def _timer_key(event: Internal) -> str:
    return event.timer.key if isinstance(event, TimerFired) else ""
