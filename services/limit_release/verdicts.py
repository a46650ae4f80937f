"""What a settled repayment is owed, and what a verdict on it does: restore, hold, park, or nothing."""

from collections.abc import Sequence
from datetime import timedelta

from schemas.event import Event, extended
from schemas.reasons import Reason, standing
from schemas.restoration import DecisionRecord
from schemas.risk import RiskAssessed
from schemas.risk import Tranche as AssessedTranche
from schemas.settlement import RepaymentSettled
from services.decision import Decision, Timer
from services.limit_release.facts import Outcome, Scene
from services.limit_release.holds import moved, nothing, park, release, restore, timers_of
from services.limit_release.model import Journal, Repayment, State, Tranche
from services.limit_release.movements import absorbed, cash_paid, joins, reallocated, shifted, unjoined
from services.values import replace

DECISION_DUE = "decision_due"
SECOND = timedelta(seconds=1)
UNDECIDED = "none"
"""The model of a repayment nobody assessed yet."""


def settled(scene: Scene, state: State, event: RepaymentSettled) -> Decision[State]:
    """From now on a decision is owed (domain 7); a late report may have moved other repayments (R24)."""
    charges = event.amount_minor - event.restorable_minor - event.credit_balance_minor
    state = cash_paid(state, event.parts, -1)
    if scene.profile.limit_basis != "TOTAL":
        state = replace(state, account=state.account.settled(charges, event.repaid_at))
    state = unjoined(state, event.credit_balance_minor)
    state = reallocated(scene.profile, state, event.reallocated, event.event_id)
    state = absorbed(scene.profile, state, event)
    known = state.repayment(event.repayment_id)
    if known.assessed or known.returned or not event.restorable_minor or state.account.status == "closed":
        return Decision(state, reason="no_decision_owed")
    clear = scene.profile.promise.clear_seconds
    owed = replace(
        known,
        amount_minor=event.amount_minor,
        restorable_minor=event.restorable_minor,
        credit_balance_minor=event.credit_balance_minor,
        currency=event.currency,
        rail=event.rail,
        repaid_at=event.repaid_at,
        policy_version=event.policy_version,
        model_version=UNDECIDED,
        calendar_version=scene.profile.banking.name,
    )
    due_at = event.settled_at + SECOND * clear
    timer = Timer(state.account.account_id, DECISION_DUE, event.repayment_id, 0, due_at)
    return Decision(state.put(owed), timers=(timer,))


def undecided(scene: Scene, state: State, repayment: Repayment, timer: Timer) -> Decision[State]:
    """Tell that a decision was owed by now: our own delay, told under the first tranche it would have had (R27)."""
    if repayment.assessed or repayment.returned or repayment.late or state.account.status == "closed":
        return Decision(state, outcome="stale", reason="decided_before")
    amount = repayment.restorable_minor + repayment.reallocated_minor
    late = replace(repayment, late=True)
    state, repayment, record = scene.recorded(
        state, late, "delayed", (Reason.DELAY_SYSTEM,), late=amount, promised_by=timer.due_at
    )
    return Decision(state, (scene.delayed(state, repayment, 1, timer.due_at, "system_delay.processing", record),))


def assessed(scene: Scene, state: State, event: RiskAssessed) -> Decision[State]:
    """Take the first verdict in, and of a newer one only earlier dates."""
    known = state.repayment(event.repayment_id)
    if known.assessed and event.revision > known.revision and not known.returned:
        return _revised(scene, state, known, event)
    if known.assessed:
        return Decision(state, outcome="stale", reason="assessed_before")
    repayment = _taken_in(known, event, scene)
    if known.returned:
        return nothing(scene, state, repayment, Reason.RETURNED)
    amount = event.restorable_minor
    if amount:
        entry = Journal("SETTLE", event.repayment_id, used_debt_minor=-amount, pending_minor=amount)
        state = state.after(state.account.book(entry).absorbed(f"settles:{event.repayment_id}"))
    if amount and state.account.status != "closed":
        return _placed(scene, state, repayment, event)
    if amount:
        lapsed = Tranche(event.repayment_id, 1, amount, "lapsed", scene.now, Reason.ACCOUNT_CLOSED, scene.now)
        repayment = repayment.put(lapsed)
    state, repayment = _joined(state, repayment, event)
    return nothing(scene, state, repayment, Reason.ACCOUNT_CLOSED if amount else event.reasons[0])


def _joined(state: State, repayment: Repayment, event: RiskAssessed) -> tuple[State, Repayment]:
    """Book what replays changed before the verdict was read, then the overpayment if nothing is held."""
    ref = f"{event.event_id}:{event.repayment_id}"
    state, repayment = shifted(state, repayment, repayment.reallocated_minor, ref)
    state, repayment = joins(state, repayment)
    return state.after(state.account.absorbed(event.event_id)), repayment


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
        revision=event.revision,
        trail=extended(event.repaid_at, event.trail, "release", *scene.moment.stretches()),
        reasons=tuple(reasons)[:4],
        faster=event.faster,
        policy_version=event.policy_version,
        model_version=event.model_version,
        calendar_version=event.calendar_version,
        clear_seconds=event.clear_seconds,
        hold_slack_seconds=event.hold_slack_seconds,
    )


def _placed(scene: Scene, state: State, repayment: Repayment, event: RiskAssessed) -> Decision[State]:
    """Restore what is due, hold the rest until its date, park all of it while the account is frozen."""
    frozen = state.account.status == "frozen"
    tranches = [_tranche(scene, state, event, part) for part in event.tranches]
    due = [t for t in tranches if t.state == "restored"]
    restored = sum([t.amount_minor for t in due])
    timers = timers_of(state, [t for t in tranches if t.state == "held"])
    repayment = repayment.put(*tranches)
    state = state.book(*[release(t) for t in due])
    state, repayment = _joined(state, repayment, event)
    outcome: Outcome = "parked" if frozen else "restored" if restored else "held"
    reasons = (standing(state.account.status_reason)[1], *repayment.reasons) if frozen else repayment.reasons
    by = min([t.promised_by for t in due], default=None)
    state, repayment, record = scene.recorded(state, repayment, outcome, reasons, restored=restored, promised_by=by)
    return Decision(state, _first_facts(scene, state, repayment, tranches, record), timers)


def _tranche(scene: Scene, state: State, event: RiskAssessed, part: AssessedTranche) -> Tranche:
    """Give one part its place in the credit lane, and its promise; a parked one has none until the thaw."""
    number, amount, due_at, reason = part
    now = scene.now
    due = due_at <= now
    by = event.settled_at + SECOND * event.clear_seconds if due else due_at + SECOND * event.hold_slack_seconds
    if state.account.status == "frozen":
        return Tranche(event.repayment_id, number, amount, "parked", due_at, reason, by)
    if due:
        late = now > by
        return Tranche(event.repayment_id, number, amount, "restored", due_at, reason, by, now, 1, delayed=late)
    return Tranche(event.repayment_id, number, amount, "held", due_at, reason, by, promises=1)


def _first_facts(
    scene: Scene, state: State, repayment: Repayment, tranches: Sequence[Tranche], record: DecisionRecord
) -> tuple[Event, ...]:
    """Tell promises first, then those broken already, then what is restored, then what is held or parked."""
    promises: list[Event] = []
    broken: list[Event] = []
    facts: list[Event] = []
    for t in sorted(tranches, key=lambda t: (t.state != "restored", t.number)):
        if t.state == "restored":
            promises.append(scene.promised(state, repayment, t, "clear", t.promised_by))
            if t.delayed and not (repayment.late and t.number == 1):
                broken.append(
                    scene.delayed(state, repayment, t.number, t.promised_by, "system_delay.processing", record)
                )
            facts.append(scene.restored(state, repayment, t, record))
        elif t.state == "held":
            promises.append(scene.promised(state, repayment, t, "hold", t.promised_by))
            facts.append(scene.held(state, repayment, t, record))
        else:
            facts.append(scene.parked(state, repayment, t, record))
    return (*promises, *broken, *facts)


def _revised(scene: Scene, state: State, known: Repayment, event: RiskAssessed) -> Decision[State]:
    """Take earlier dates of a newer verdict, never later ones: what is due now is restored, the rest is moved."""
    parts = {t.number: t for t in known.waiting}
    earlier = [part for part in event.tranches if part.number in parts and part.due_at < parts[part.number].until]
    if not earlier:
        return Decision(state, outcome="stale", reason="not_earlier")
    repayment = replace(
        known,
        revision=event.revision,
        reasons=event.reasons,
        faster=event.faster,
        policy_version=event.policy_version,
        model_version=event.model_version,
        calendar_version=event.calendar_version,
    )
    changed = [replace(parts[p.number], until=p.due_at, reason=p.reason) for p in earlier]
    held = [t for t in changed if t.state == "held"]
    due = [t for t in held if t.until <= scene.now]
    later = [replace(t, promises=t.promises + 1) for t in held if t.until > scene.now]
    repayment = repayment.put(*changed, *later)
    decision = Decision(state.put(repayment))
    if due:
        frozen = state.account.status == "frozen"
        decision = (
            park(scene, state, repayment, due) if frozen else restore(scene, state, repayment, due, due[0].reason)
        )
    if not later:
        return decision
    now = decision.state.repayments[known.repayment_id]
    first = parts[later[0].number]
    told = moved(replace(scene, before=decision.state.account), decision.state, now, later, first, now.reasons)
    return Decision(told.state, (*decision.events, *told.events), told.timers)
