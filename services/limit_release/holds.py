"""The life of a tranche that waits: held, moved, parked, restored, lapsed, and the promise it misses."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from schemas.event import Event, extended
from schemas.reasons import Cause, Reason, standing
from schemas.restoration import MovedPart
from schemas.review import HoldExtended, HoldReleaseApproved
from services.decision import Decision, Timer
from services.limit_release.facts import Scene
from services.limit_release.model import Journal, Repayment, State, Tranche
from services.limit_release.movements import joins
from services.values import replace

HOLD_DUE = "hold_due"
PROMISE_DUE = "promise_due"
TRANCHES_MAX = 99


def release(tranche: Tranche) -> Journal:
    """Return the entry that restores a tranche: the end of a hold is a RELEASE, never a VOID (R17)."""
    ref, amount = f"{tranche.repayment_id}:{tranche.number}", tranche.amount_minor
    return Journal("RELEASE", ref, available_minor=amount, pending_minor=-amount)


def timer_of(state: State, tranche: Tranche, kind: str) -> Timer:
    """Return when a hold ends, or when its promise is asked for."""
    due_at = tranche.until if kind == HOLD_DUE else tranche.promised_by
    return Timer(state.account.account_id, kind, tranche.repayment_id, tranche.number, due_at)


def timers_of(state: State, tranches: Sequence[Tranche]) -> tuple[Timer, ...]:
    """Return both timers of every tranche newly held."""
    return tuple([timer_of(state, t, kind) for t in tranches for kind in (HOLD_DUE, PROMISE_DUE)])


def due(scene: Scene, state: State, repayment: Repayment, tranche: Tranche) -> Decision[State]:
    """End a hold whose date came: park it while the account is frozen, else restore it."""
    if tranche.state != "held" or tranche.until > scene.now:
        return Decision(state, outcome="stale", reason="not_due")
    if state.account.status == "frozen":
        return park(scene, state, repayment, (tranche,))
    return restore(scene, state, repayment, (tranche,), Reason.RELEASE_TIMER)


def delayed(scene: Scene, state: State, repayment: Repayment, tranche: Tranche) -> Decision[State]:
    """Tell, once, that a promise was missed: the cause is what the tranche waits for (domain 7)."""
    if tranche.delayed:
        return Decision(state, outcome="stale", reason="told_before")
    why, told = _missed(scene, state, tranche)
    repayment = repayment.put(replace(tranche, delayed=True))
    state, repayment, record = scene.recorded(
        state, repayment, "delayed", (told,), late=tranche.amount_minor, promised_by=tranche.promised_by
    )
    fact = scene.delayed(state, repayment, tranche.number, tranche.promised_by, why, record)
    return Decision(state, (fact,))


def _missed(scene: Scene, state: State, tranche: Tranche) -> tuple[Cause, Reason]:
    """Return what a tranche still waits for, or waited for when its promise passed."""
    if tranche.state == "parked":
        return standing(state.account.status_reason)
    if tranche.until > tranche.promised_by:
        return "risk_observation.manual_review", Reason.DELAY_REVIEW
    if tranche.until <= scene.now:
        return "system_delay.processing", Reason.DELAY_SYSTEM
    return _observed(tranche), Reason.DELAY_REVIEW


def _observed(tranche: Tranche) -> Cause:
    review = tranche.reason is Reason.HOLD_UNDER_REVIEW
    return "risk_observation.manual_review" if review else "risk_observation.risk_hold"


def restore(
    scene: Scene, state: State, repayment: Repayment, tranches: Sequence[Tranche], reason: Reason
) -> Decision[State]:
    """End waits: RELEASE for each; what lay after its date is our own delay, told with the promise it broke (R27)."""
    facts: list[Event] = []
    now = scene.now
    restored = [t.to("restored", restored_at=now, delayed=t.delayed or now > t.promised_by) for t in tranches]
    state = state.book(*(release(t) for t in tranches))
    state, repayment = joins(state, repayment.put(*restored))
    amount = sum(t.amount_minor for t in restored)
    by = min(t.promised_by for t in restored)
    state, repayment, record = scene.recorded(state, repayment, "restored", (reason,), restored=amount, promised_by=by)
    for before, tranche in zip(tranches, restored, strict=True):
        if tranche.delayed and not before.delayed:
            cause, _ = _missed(scene, state, before)
            facts.append(scene.delayed(state, repayment, tranche.number, tranche.promised_by, cause, record))
        if before.state == "held":
            facts.append(scene.hold_released(state, repayment, tranche, reason))
        trail = extended(_repaid(repayment), repayment.trail, "release", *_waited(state, repayment, before, scene.now))
        told = replace(repayment, trail=trail)
        facts.append(scene.restored(state, told, replace(tranche, reason=reason), record))
    return Decision(state, tuple(facts))


def _waited(state: State, repayment: Repayment, tranche: Tranche, now: datetime) -> tuple[tuple[Cause, datetime], ...]:
    """The hold counts until its date, from its first one on for the review that moved it; then what came after."""
    parked = tranche.state == "parked"
    then: Cause = standing(state.account.status_reason)[0] if parked else "system_delay.processing"
    first = tranche.until
    if tranche.extensions:
        first = min(first, tranche.promised_by - timedelta(seconds=repayment.hold_slack_seconds))
    return (
        (_observed(tranche), min(first, now)),
        ("risk_observation.manual_review", min(tranche.until, now)),
        (then, now),
    )


def _repaid(repayment: Repayment) -> datetime:
    if repayment.repaid_at is None:
        raise ValueError("an assessed repayment has repaid_at")
    return repayment.repaid_at


def park(scene: Scene, state: State, repayment: Repayment, tranches: Sequence[Tranche]) -> Decision[State]:
    """Let what is due wait for a frozen account: a condition instead of a date, its promise suspended."""
    parked = tuple(t.to("parked") for t in tranches)
    repayment = repayment.put(*parked)
    why = standing(state.account.status_reason)[1]
    state, repayment, record = scene.recorded(state, repayment, "parked", (why,))
    return Decision(state, tuple(scene.parked(state, repayment, t, record) for t in parked))


def lapse(scene: Scene, state: State, repayment: Repayment) -> Decision[State]:
    """Let what waits lapse with its account; an overpayment is the customer's to be paid out."""
    lapsed = (t.to("lapsed", reason=Reason.ACCOUNT_CLOSED) for t in repayment.waiting)
    state, repayment = joins(state, repayment.put(*lapsed))
    return nothing(scene, state, repayment, Reason.ACCOUNT_CLOSED)


def nothing(scene: Scene, state: State, repayment: Repayment, reason: Reason) -> Decision[State]:
    """Tell that no credit comes back."""
    state, repayment, record = scene.recorded(state, repayment, "nothing_to_restore", (reason,))
    return Decision(state, (scene.nothing(state, repayment, reason, record),))


def thaw(scene: Scene, state: State, repayment: Repayment) -> Decision[State]:
    """Restore what is due with a new promise, which is kept at once; hold again what has its date still ahead."""
    parked = [t for t in repayment.waiting if t.state == "parked"]
    later = tuple(t.to("held", promises=t.promises + 1) for t in parked if t.until > scene.now)
    by = scene.now + timedelta(seconds=repayment.clear_seconds)
    again = [t for t in parked if t.until <= scene.now]
    ready = tuple(replace(t, promised_by=by, promises=t.promises + 1, delayed=False) for t in again)
    repayment = repayment.put(*later)
    restored: tuple[Event, ...] = ()
    if ready:
        after = restore(scene, state, repayment, ready, Reason.ACCOUNT_ACTIVE_AGAIN)
        state, restored = after.state, after.events
        repayment = state.repayments[repayment.repayment_id]
    else:
        state, repayment, _ = scene.recorded(state, repayment, "held", repayment.reasons)
    promises = [scene.promised(state, repayment, t, "clear", by) for t in ready]
    promises += [scene.promised(state, repayment, t, "hold", t.promised_by) for t in later]
    holds = (scene.held(state, repayment, t, repayment.records[-1]) for t in later)
    return Decision(state, (*promises, *restored, *holds), timers_of(state, later))


def approved(scene: Scene, state: State, event: HoldReleaseApproved) -> Decision[State]:
    """End a hold, or a part of it as a tranche of its own, because a reviewer says so; the sum is kept (E5)."""
    repayment = state.repayment(event.repayment_id)
    tranche = repayment.tranches.get(event.tranche)
    if tranche is None or tranche.state != "held":
        return Decision(state, outcome="stale", reason="not_held")
    if event.amount_minor is not None and event.amount_minor < tranche.amount_minor:
        return _approved_in_part(scene, state, repayment, tranche, event.amount_minor)
    return _ended(scene, state, repayment, tranche)


def _approved_in_part(
    scene: Scene, state: State, repayment: Repayment, tranche: Tranche, amount_minor: int
) -> Decision[State]:
    number = max(repayment.tranches) + 1
    if number > TRANCHES_MAX:
        return Decision(state, outcome="stale", reason="too_many_parts")
    part = replace(tranche, number=number, amount_minor=amount_minor, promises=1)
    rest = replace(tranche, amount_minor=tranche.amount_minor - amount_minor)
    decision = _ended(scene, state, repayment.put(rest, part), part)
    after = decision.state.repayments[repayment.repayment_id]
    promise = scene.promised(decision.state, after, part, "hold", part.promised_by)
    hold = scene.held(decision.state, after, rest, after.records[-1])
    timers = (timer_of(state, part, PROMISE_DUE),) if after.tranches[number].waits else ()
    return Decision(decision.state, (promise, *decision.events, hold), timers)


def _ended(scene: Scene, state: State, repayment: Repayment, tranche: Tranche) -> Decision[State]:
    if state.account.status == "frozen":
        now = replace(tranche, until=min(tranche.until, scene.now))
        return park(scene, state, repayment, (now,))
    return restore(scene, state, repayment, (tranche,), Reason.RELEASE_REVIEWED)


def prolonged(scene: Scene, state: State, event: HoldExtended) -> Decision[State]:
    """Move a hold's date because a reviewer says so: a later revision of the promise, the first one still counts."""
    repayment = state.repayment(event.repayment_id)
    tranche = repayment.tranches.get(event.tranche)
    if tranche is None or tranche.state != "held":
        return Decision(state, outcome="stale", reason="not_held")
    if refusal := _refused(scene, repayment, tranche, event.until):
        return Decision(state, outcome="stale", reason=refusal)
    later = replace(tranche, until=event.until, extensions=tranche.extensions + 1, promises=tranche.promises + 1)
    return moved(scene, state, repayment.put(later), (later,), tranche, (Reason.HOLD_UNDER_REVIEW, *repayment.reasons))


def _refused(scene: Scene, repayment: Repayment, tranche: Tranche, until: datetime) -> str:
    """Return why a hold may not be moved to ``until``; empty when it may."""
    if scene.now >= tranche.until:
        return "date_passed"
    if until <= tranche.until:
        return "not_later"
    if tranche.extensions >= scene.profile.promise.extensions_max:
        return "extended_before"
    longest = scene.profile.hold["REVERSIBLE"].max_calendar_days
    last = scene.profile.banking_day(_repaid(repayment)) + timedelta(days=longest)
    return "beyond_the_longest_hold" if until > scene.profile.release_at(last) else ""


def moved(
    scene: Scene,
    state: State,
    repayment: Repayment,
    tranches: Sequence[Tranche],
    was: Tranche,
    reasons: Sequence[Reason],
) -> Decision[State]:
    """Tell the new dates of holds, each a revision of its promise; ``was`` is the first of them before."""
    slack = timedelta(seconds=repayment.hold_slack_seconds)
    state, repayment, record = scene.recorded(state, repayment, "held", reasons, moved=MovedPart(was.number, was.until))
    promises = (scene.promised(state, repayment, t, "hold", t.until + slack) for t in tranches)
    holds = (scene.held(state, repayment, t, record) for t in tranches)
    timers = tuple(timer_of(state, t, HOLD_DUE) for t in tranches)
    return Decision(state, (*promises, *holds), timers)
