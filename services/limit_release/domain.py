"""Holds, promises and the credit given back; what each event does to the availability ledger."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal

from schemas.account import (
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
from schemas.event import Event, extended
from schemas.ids import EventId, event_id
from schemas.reasons import Cause, Reason, standing
from schemas.restoration import DecisionRecord
from schemas.risk import RiskAssessed
from schemas.risk import Tranche as AssessedTranche
from schemas.settlement import RepaymentReturned
from services.decision import Decision, Input, Internal, Malformed, Moment, Timer, TimerFired
from services.limit_release.facts import Outcome, Scene
from services.limit_release.model import Account, Journal, Repayment, State, Tranche
from services.policy import Profile, Profiles

HOLD_DUE = "hold_due"
PROMISE_DUE = "promise_due"


def decide(policy: Profiles, state: State, event: Input, moment: Moment) -> Decision[State]:
    """Keep the ledger, hold, restore, park or take back; anything of an unknown account is parked."""
    if isinstance(event, AccountOpened):
        return _opened(policy, state, event)
    if not state.account.product:
        return Decision(state, outcome="parked", reason=Reason.ACCOUNT_UNKNOWN)
    scene = Scene(policy.of(state.account.product), moment, cause_of(event), state.account)
    match event:
        case RiskAssessed():
            return _assessed(scene, state, event)
        case RepaymentReturned():
            return _returned(scene, state, event)
        case TimerFired(timer=timer):
            return _timer(scene, state, timer)
        case AccountStatusChanged():
            return _status(scene, state, event)
        case _:
            return _account(scene.profile, state, event)


def _opened(policy: Profiles, state: State, event: AccountOpened) -> Decision[State]:
    if state.account.product:
        return Decision(state, outcome="stale", reason="opened_before")
    policy.of(event.product)
    account = replace(state.account, product=event.product, currency=event.currency)
    opened = account.book(Journal("OPEN", event.event_id, available_minor=event.credit_limit_minor))
    return Decision(replace(state, account=opened), wakes=True)


def _account(profile: Profile, state: State, event: Input) -> Decision[State]:
    """Follow billing: limit, purchases, authorisations, refunds, charges."""
    account = state.account
    currency = getattr(event, "currency", account.currency)
    if currency != account.currency:
        raise Malformed("currency_mismatch")
    match event:
        case CreditLimitChanged(event_id=ref, credit_limit_minor=limit):
            change = limit - account.credit_limit_minor
            kind: Literal["RAISE", "CUT"] = "RAISE" if change >= 0 else "CUT"
            account = account.book(Journal(kind, ref, available_minor=change))
        case AuthorisationPlaced(authorisation_id=ref) if ref in account.authorisations:
            return Decision(state, outcome="stale", reason="authorised_before")
        case AuthorisationPlaced(authorisation_id=ref, amount_minor=amount):
            account = account.authorised(ref, amount)
        case AuthorisationReleased(authorisation_id=ref):
            account = account.unauthorised(ref)
        case CreditBalanceRefunded(amount_minor=amount):
            left = max(0, account.credit_balance_minor - amount)
            account = replace(account, credit_balance_minor=left)
        case PurchasePosted(purchase_id=ref) | PurchaseRefunded(refund_id=ref) if ref in account.booked:
            return Decision(state, outcome="stale", reason="booked_before")
        case PurchasePosted() | PurchaseRefunded() | ChargesAccrued() if _moves_debt(profile, event):
            account = _debt(account, event).absorbed(event.event_id)
        case _:
            return Decision(state, outcome="ignored")
    return Decision(replace(state, account=account))


def _moves_debt(profile: Profile, event: Event) -> bool:
    return profile.limit_basis == "TOTAL" or not isinstance(event, ChargesAccrued)


def _debt(account: Account, event: PurchasePosted | PurchaseRefunded | ChargesAccrued) -> Account:
    match event:
        case PurchasePosted():
            posted = account.posted(event.purchase_id, event.authorisation_id or "", event.amount_minor)
            return replace(posted, booked=posted.booked | {event.purchase_id})
        case PurchaseRefunded(refund_id=ref, to_debt_minor=to_debt):
            entry = Journal("REFUND", ref, available_minor=to_debt, used_debt_minor=-to_debt)
            return replace(account.book(entry), booked=account.booked | {ref})
        case ChargesAccrued():
            charges = event.penalty_minor + event.fee_minor + event.interest_minor
            return account.book(Journal("CHARGE", event.event_id, available_minor=-charges, used_debt_minor=charges))


def _assessed(scene: Scene, state: State, event: RiskAssessed) -> Decision[State]:
    known = state.repayments.get(event.repayment_id, Repayment(event.repayment_id))
    if known.assessed:
        return Decision(state, outcome="stale", reason="assessed_before")
    repayment = _taken_in(known, event, scene)
    if known.returned:
        return _nothing(scene, state, repayment, Reason.RETURNED)
    if not event.restorable_minor:
        state = _credit_balance_joins(state, repayment)
        return _nothing(scene, state, repayment, event.reasons[0])
    amount = event.restorable_minor
    settled = state.account.book(Journal("SETTLE", event.repayment_id, used_debt_minor=-amount, pending_minor=amount))
    state = State(settled.absorbed(f"settles:{event.repayment_id}"), state.repayments)
    if state.account.status == "closed":
        lapsed = Tranche(event.repayment_id, 1, amount, "lapsed", scene.now, Reason.ACCOUNT_CLOSED, scene.now)
        repayment = repayment.put(lapsed)
        return _nothing(scene, state, repayment, Reason.ACCOUNT_CLOSED)
    return _placed(scene, state, repayment, event)


def _taken_in(known: Repayment, event: RiskAssessed, scene: Scene) -> Repayment:
    reasons = list(event.reasons)
    if event.restorable_minor and event.credit_balance_minor:
        reasons.append(Reason.PAID_CREDIT_BALANCE)
    if event.restorable_minor + event.credit_balance_minor < event.amount_minor and event.restorable_minor:
        reasons.append(Reason.PAID_FEES_AND_INTEREST)
    return replace(
        known,
        assessed=True,
        amount_minor=event.amount_minor,
        restorable_minor=event.restorable_minor,
        credit_balance_minor=event.credit_balance_minor,
        currency=event.currency,
        rail=event.rail,
        repaid_at=event.repaid_at,
        trail=extended(event.repaid_at, event.trail, "release", *scene.moment.stretches()),
        reasons=tuple(reasons)[:4],
        faster=event.faster,
        policy_version=event.policy_version,
        model_version=event.model_version,
        calendar_version=event.calendar_version,
        clear_seconds=event.clear_seconds,
    )


def _nothing(scene: Scene, state: State, repayment: Repayment, reason: Reason) -> Decision[State]:
    state, repayment, record = scene.recorded(state, repayment, "nothing_to_restore", (reason,))
    return Decision(state, (scene.nothing(state, repayment, reason, record),))


def _placed(scene: Scene, state: State, repayment: Repayment, event: RiskAssessed) -> Decision[State]:
    """Restore what is due, hold the rest until its date, park all of it while the account is frozen."""
    frozen = state.account.status == "frozen"
    tranches = [_tranche(scene, state, event, part) for part in event.tranches]
    due = [t for t in tranches if t.state == "restored"]
    restored = sum(t.amount_minor for t in due)
    held = [t for t in tranches if t.state == "held"]
    timers = [_timer_of(state, t, kind) for t in held for kind in (HOLD_DUE, PROMISE_DUE)]
    repayment = repayment.put(*tranches)
    state = state.book(*(_release(t.repayment_id, t.number, t.amount_minor) for t in due))
    state = _credit_balance_joins(state, repayment)
    outcome: Outcome = "parked" if frozen else "restored" if restored else "held"
    reasons = (standing(state.account.status_reason)[1], *repayment.reasons) if frozen else repayment.reasons
    promised_by = min((t.promised_by for t in due), default=None)
    state, repayment, record = scene.recorded(
        state, repayment, outcome, reasons, restored=restored, promised_by=promised_by
    )
    return Decision(state, _first_facts(scene, state, repayment, record), tuple(timers))


def _tranche(scene: Scene, state: State, event: RiskAssessed, part: AssessedTranche) -> Tranche:
    """Give one part its place in the credit lane, and its promise."""
    number, amount, due_at, reason = part
    due = due_at <= scene.now
    slack = timedelta(seconds=event.hold_slack_seconds)
    by = event.settled_at + timedelta(seconds=event.clear_seconds) if due else due_at + slack
    if state.account.status == "frozen":
        frozen = standing(state.account.status_reason)[1]
        return Tranche(event.repayment_id, number, amount, "parked", due_at, frozen, by)
    if due:
        return Tranche(event.repayment_id, number, amount, "restored", due_at, reason, by, scene.now)
    return Tranche(event.repayment_id, number, amount, "held", due_at, reason, by)


def _first_facts(scene: Scene, state: State, repayment: Repayment, record: DecisionRecord) -> tuple[Event, ...]:
    """Tell promises first, then what is restored, then what is held or parked."""
    promises: list[Event] = []
    facts: list[Event] = []
    for tranche in sorted(repayment.tranches.values(), key=lambda t: (t.state != "restored", t.number)):
        if tranche.state == "restored":
            promises.append(scene.promised(state, repayment, tranche, "clear"))
            facts.append(scene.restored(state, repayment, tranche, record))
        elif tranche.state == "held":
            promises.append(scene.promised(state, repayment, tranche, "hold"))
            facts.append(scene.held(state, repayment, tranche, record))
        else:
            facts.append(scene.parked(state, repayment, tranche, record))
    return (*promises, *facts)


def _timer(scene: Scene, state: State, timer: Timer) -> Decision[State]:
    repayment = state.repayments.get(timer.subject)
    tranche = repayment.tranches.get(timer.number) if repayment else None
    if repayment is None or tranche is None or tranche.state not in ("held", "parked"):
        return Decision(state, outcome="stale", reason="over_before")
    if timer.kind == PROMISE_DUE:
        return _delayed(scene, state, repayment, tranche)
    if tranche.state != "held" or tranche.until > scene.now:
        return Decision(state, outcome="stale", reason="not_due")
    if state.account.status == "frozen":
        return _park(scene, state, repayment, (tranche,))
    return _restore(scene, state, repayment, (tranche,), Reason.RELEASE_TIMER)


def _delayed(scene: Scene, state: State, repayment: Repayment, tranche: Tranche) -> Decision[State]:
    why: Cause = "risk_observation.risk_hold"
    told = Reason.DELAY_REVIEW
    if tranche.state == "parked":
        why, told = standing(state.account.status_reason)
    elif tranche.until <= scene.now:
        why, told = "system_delay.processing", Reason.DELAY_SYSTEM
    if tranche.state == "held":
        repayment = repayment.put(replace(tranche, reason=Reason.DELAY_SYSTEM))
    state, repayment, record = scene.recorded(
        state, repayment, "delayed", (told,), late=tranche.amount_minor, promised_by=tranche.promised_by
    )
    return Decision(state, (scene.delayed(state, repayment, tranche, why, record),))


def _status(scene: Scene, state: State, event: AccountStatusChanged) -> Decision[State]:
    """Freeze, close or thaw: a thaw restores what is due, a closing lets what waits lapse."""
    decision = Decision(replace(state, account=replace(state.account, status=event.status)))
    for repayment_id in sorted(state.repayments):
        repayment = decision.state.repayments[repayment_id]
        waiting = tuple(t for t in repayment.tranches.values() if t.state in ("held", "parked"))
        if event.status == "closed" and waiting:
            after = _lapse(replace(scene, before=decision.state.account), decision.state, repayment, waiting)
        elif event.status == "active" and any(t.state == "parked" for t in waiting):
            after = _thaw(scene, decision.state, repayment, waiting)
            scene = replace(scene, before=after.state.account)  # what a thaw frees is told with the first repayment
        else:
            continue
        decision = Decision(after.state, (*decision.events, *after.events), (*decision.timers, *after.timers))
    # Only now: a thaw tells what the account was frozen for.
    account = replace(decision.state.account, status_reason=event.reason)
    return replace(decision, state=replace(decision.state, account=account))


def _lapse(scene: Scene, state: State, repayment: Repayment, waiting: Sequence[Tranche]) -> Decision[State]:
    repayment = repayment.put(*(replace(t, state="lapsed", reason=Reason.ACCOUNT_CLOSED) for t in waiting))
    return _nothing(scene, state, repayment, Reason.ACCOUNT_CLOSED)


def _thaw(scene: Scene, state: State, repayment: Repayment, waiting: Sequence[Tranche]) -> Decision[State]:
    """Restore what is due now with a new promise; what has its date still ahead is held again."""
    parked = [t for t in waiting if t.state == "parked"]
    later = tuple(replace(t, state="held", reason=repayment.reasons[0]) for t in parked if t.until > scene.now)
    clear = timedelta(seconds=repayment.clear_seconds)
    due = tuple(replace(t, promised_by=scene.now + clear) for t in parked if t.until <= scene.now)
    repayment = repayment.put(*later)
    timers = tuple(_timer_of(state, t, kind) for t in later for kind in (HOLD_DUE, PROMISE_DUE))
    restored: tuple[Event, ...] = ()
    if due:
        after = _restore(scene, state, repayment, due, Reason.ACCOUNT_ACTIVE_AGAIN)
        state, restored = after.state, after.events
        repayment = state.repayments[repayment.repayment_id]
    else:
        state, repayment, _ = scene.recorded(state, repayment, "held", repayment.reasons)
    promises = [scene.promised(state, repayment, t, "clear") for t in due]
    promises += [scene.promised(state, repayment, t, "hold") for t in later]
    holds = (scene.held(state, repayment, t, repayment.records[-1]) for t in later)
    return Decision(state, (*promises, *restored, *holds), timers)


def _restore(
    scene: Scene,
    state: State,
    repayment: Repayment,
    tranches: Sequence[Tranche],
    reason: Reason,
) -> Decision[State]:
    """End holds: RELEASE for each, never VOID (R17); what lay after its date is our own delay."""
    facts: list[Event] = []
    restored = []
    for tranche in tranches:
        state = state.book(_release(repayment.repayment_id, tranche.number, tranche.amount_minor))
        restored.append(replace(tranche, state="restored", restored_at=scene.now))
    repayment = repayment.put(*restored)
    state = _credit_balance_joins(state, repayment)
    amount = sum(t.amount_minor for t in restored)
    by = min(t.promised_by for t in restored)
    state, repayment, record = scene.recorded(state, repayment, "restored", (reason,), restored=amount, promised_by=by)
    for before, tranche in zip(tranches, restored, strict=True):
        if before.state == "held":
            if scene.now > before.promised_by and before.reason is not Reason.DELAY_SYSTEM:
                facts.append(scene.delayed(state, repayment, before, "system_delay.processing", record))
            facts.append(scene.hold_released(state, repayment, tranche, reason))
        waits = _waited(state, before, scene.now)
        told = replace(repayment, trail=extended(_repaid(repayment), repayment.trail, "release", *waits))
        facts.append(scene.restored(state, told, replace(tranche, reason=reason), record))
    return Decision(state, tuple(facts))


def _waited(state: State, tranche: Tranche, now: datetime) -> tuple[tuple[Cause, datetime], ...]:
    """The hold counts until its date; what lies after it is the account's standing, or our own delay (lag 1)."""
    parked = tranche.state == "parked"
    then: Cause = standing(state.account.status_reason)[0] if parked else "system_delay.processing"
    return (("risk_observation.risk_hold", min(tranche.until, now)), (then, now))


def _park(scene: Scene, state: State, repayment: Repayment, tranches: Sequence[Tranche]) -> Decision[State]:
    why = standing(state.account.status_reason)[1]
    parked = tuple(replace(t, state="parked", reason=why) for t in tranches)
    repayment = repayment.put(*parked)
    state, repayment, record = scene.recorded(state, repayment, "parked", (why,))
    return Decision(state, tuple(scene.parked(state, repayment, t, record) for t in parked))


def _returned(scene: Scene, state: State, event: RepaymentReturned) -> Decision[State]:
    """Take back: VOID what was not restored, REVERSE what was; the ledger may go below 0 (R7, R8)."""
    repayment = state.repayments.get(event.repayment_id, Repayment(event.repayment_id))
    if repayment.returned:
        return Decision(state, outcome="stale", reason="returned_before")
    repayment = replace(repayment, returned=True)
    if not repayment.assessed:
        return Decision(state.put(repayment), reason="waits_for_its_assessment")
    from_hold, from_available = repayment.part("held", "parked", "lapsed"), repayment.part("restored")
    for tranche in repayment.tranches.values():
        state, repayment = _taken_back(state, repayment, tranche)
    state, uncovered = _credit_balance_leaves(state, repayment, event.event_id)
    state = replace(state, account=state.account.absorbed(event.event_id))
    state, repayment, record = scene.recorded(
        state, repayment, "reversed", (event.return_class,), taken_back=from_available
    )
    parts = (from_hold, from_available, uncovered)
    return Decision(state, (scene.reversed(state, repayment, event, record, parts),))


def _taken_back(state: State, repayment: Repayment, tranche: Tranche) -> tuple[State, Repayment]:
    amount, ref = tranche.amount_minor, f"{tranche.repayment_id}:{tranche.number}"
    if tranche.state in ("held", "parked", "lapsed"):
        entry = Journal("VOID", ref, used_debt_minor=amount, pending_minor=-amount)
        return state.book(entry), repayment.put(replace(tranche, state="voided"))
    entry = Journal("REVERSE", ref, available_minor=-amount, used_debt_minor=amount)
    return state.book(entry), repayment.put(replace(tranche, state="reversed"))


def _credit_balance_joins(state: State, repayment: Repayment) -> State:
    """An overpayment becomes the customer's only when the repayment's last hold is over (domain 4.3)."""
    if not repayment.credit_balance_minor or repayment.part("held", "parked"):
        return state
    balance = state.account.credit_balance_minor + repayment.credit_balance_minor
    account = replace(state.account, credit_balance_minor=balance)
    return replace(state, account=account.absorbed(f"joins:{repayment.repayment_id}"))


def _credit_balance_leaves(state: State, repayment: Repayment, ref: str) -> tuple[State, int]:
    """A returned overpayment leaves the credit balance; what was used of it meanwhile is uncovered."""
    if not repayment.credit_balance_minor or any(t.state == "voided" for t in repayment.tranches.values()):
        return state, 0
    kept = min(state.account.credit_balance_minor, repayment.credit_balance_minor)
    uncovered = repayment.credit_balance_minor - kept
    account = replace(state.account, credit_balance_minor=state.account.credit_balance_minor - kept)
    if uncovered:
        account = account.book(Journal("UNCOVER", ref, available_minor=-uncovered, used_debt_minor=uncovered))
    return replace(state, account=account), uncovered


def _release(repayment_id: str, number: int, amount: int) -> Journal:
    return Journal("RELEASE", f"{repayment_id}:{number}", available_minor=amount, pending_minor=-amount)


def _timer_of(state: State, tranche: Tranche, kind: str) -> Timer:
    due_at = tranche.until if kind == HOLD_DUE else tranche.promised_by
    return Timer(state.account.account_id, kind, tranche.repayment_id, tranche.number, due_at)


def cause_of(event: Input) -> EventId:
    """Return the id of what an input's facts are caused by."""
    return event.event_id if isinstance(event, Event) else event_id("TimerFired", _timer_key(event))


def _timer_key(event: Internal) -> str:
    return event.timer.key if isinstance(event, TimerFired) else ""


def _repaid(repayment: Repayment) -> datetime:
    if repayment.repaid_at is None:
        raise ValueError("an assessed repayment has repaid_at")
    return repayment.repaid_at
