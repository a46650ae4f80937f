"""The case lane: what a fact opens follows its dates, and what people may do with cases and holds (domain 3.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from schemas.event import Event
from schemas.ids import AccountId, EventId, RepaymentId, event_id
from schemas.restoration import RestorationParked
from schemas.review import (
    FeedbackAnswered,
    FeedbackReceived,
    HoldExtended,
    HoldReleaseApproved,
    LimitReviewConcluded,
    LimitReviewRequested,
)
from schemas.risk import ModelActivated
from services.console.model import (
    ACTS_A_DAY_MAX,
    ASKED_AGAIN,
    CONCLUDES,
    MOVES_MONEY,
    OURSELVES,
    SECOND_PERSON_MINOR,
    Action,
    Audit,
    AuditMoved,
    Case,
    CaseAction,
    CaseOutcome,
    CaseState,
    Desk,
    SourceDiffers,
    card_like,
    differs_id,
    kept_json,
    model_changed,
    review_subject,
    way,
)
from services.console.opening import FEEDBACK, TERMS, anchored, dead_letter_id, new_case, opening
from services.decision import Decision, Input, Internal, Moment, Timer, TimerFired

CASE_DUE = "case_due"
CASE_CLOSES = "case_closes"
PARKED_LONG = "parked_long"
PARKED_DAYS = 30
OBJECTION_DAYS = 15
"""A resolved case is closed when the customer has not objected for so long (our assumption)."""


@dataclass(frozen=True, slots=True)
class Command(Internal):
    """What a person wants done; ``actor`` and ``reason`` are references, kept for ever."""

    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class MoveCase(Command):
    """Take a case further; ``outcome`` and ``answer`` go with resolving it.

    ``limit_minor`` is the limit a review ends with, where it is raised.
    """

    case_id: str
    action: CaseAction
    outcome: CaseOutcome | None = None
    answer: str = ""
    limit_minor: int | None = None


@dataclass(frozen=True, slots=True)
class ReleaseHold(Command):
    """End a hold now, or ``amount_minor`` of it."""

    repayment_id: RepaymentId
    tranche: int
    amount_minor: int | None = None


@dataclass(frozen=True, slots=True)
class ExtendHold(Command):
    """Move a hold's date, once a promise."""

    repayment_id: RepaymentId
    tranche: int
    until: datetime


@dataclass(frozen=True, slots=True)
class TakeFeedback(Command):
    """A customer asked or complained about ``topic``; the words stay with whoever heard them."""

    kind: Literal["question", "complaint"]
    topic: str
    repayment_id: RepaymentId | None = None


@dataclass(frozen=True, slots=True)
class AskReview(Command):
    """A customer wants more credit, or, with ``appeal_review``, a person to look at what was said of it."""

    action: Literal["request_review", "appeal_review"]


@dataclass(frozen=True, slots=True)
class DeadLettered(Internal):
    """A money service set a record aside that it cannot read: ``place`` is service:number, as `otb dlq` names it."""

    place: str


def decide(policy: None, state: Desk, event: Input, moment: Moment) -> Decision[Desk]:
    """Open a case, follow its dates, or do what a person said; a case never blocks a lane."""
    match event:
        case MoveCase() | ReleaseHold() | ExtendHold() | TakeFeedback() | AskReview():
            return _said(state, event, moment.now)
        case DeadLettered(place=place):
            case = new_case("dead_letter", dead_letter_id(place), moment.now, detail=place)
            # Nobody's partition: its deadline is shown, no timer escalates it.
            return _opened(state, case, event.account_id)._replace(timers=())
        case SourceDiffers(repayment_id=ref, differs=what):
            case = new_case("source_differs", differs_id(event), moment.now, repayment_id=ref, detail=what)
            return _opened(state, case, event.account_id)
        case AuditMoved():
            return anchored(state, event, moment.now)
        case TimerFired(timer=timer):
            return _timer(state, timer, moment.now)
        case RestorationParked(repayment_id=ref, tranche=number, account_id=account):
            long = moment.now + timedelta(days=PARKED_DAYS)
            return Decision(state, timers=(Timer(account, PARKED_LONG, ref, number, long),))
        case ModelActivated():
            return Decision(state.audited(model_changed(event)))
        case Event():
            opens = opening(event, moment.now)
            if opens is None:
                return Decision(state, outcome="ignored")
            return _opened(state, opens, event.account_id)
        case _:
            return Decision(state, outcome="ignored")


def _said(
    state: Desk, command: MoveCase | ReleaseHold | ExtendHold | TakeFeedback | AskReview, now: datetime
) -> Decision[Desk]:
    """Do what a person said, who may do so much a day."""
    if state.acts.get(command.actor, 0) >= ACTS_A_DAY_MAX:
        return Decision(state, outcome="stale", reason="enough_for_a_day")
    match command:
        case MoveCase():
            return _moved(state, command, now)
        case TakeFeedback():
            return _heard(state, command, now)
        case AskReview():
            return _asked(state, command, now)
        case _:
            return _reviewed(state, command, now)


def _opened(state: Desk, case: Case, account_id: AccountId) -> Decision[Desk]:
    if opened := state.opened(case):
        return Decision(state, outcome="stale", reason=opened)
    due = Timer(account_id, CASE_DUE, case.case_id, 0, case.due_at)
    return Decision(state.put(case), timers=(due,), reason=case.kind)


def _timer(state: Desk, timer: Timer, now: datetime) -> Decision[Desk]:
    """Escalate what was not resolved in time, close what nobody objected to, look at what is parked for long."""
    if timer.kind == PARKED_LONG:
        return _parked_long(state, timer, now)
    case = state.cases.get(timer.subject)
    if case is not None and timer.kind == CASE_CLOSES and case.state == "resolved":
        closed = case.to("closed", now, OURSELVES, "not_objected")
        return Decision(state.put(closed), _answered(timer.account_id, case, OURSELVES, now, closed=True))
    if case is not None and timer.kind == CASE_DUE and case.state in ("open", "assigned", "in_review"):
        return Decision(state.put(case.to("escalated", now, OURSELVES, "overdue", priority="high")))
    return Decision(state, outcome="stale", reason="moved_before")


def _parked_long(state: Desk, timer: Timer, now: datetime) -> Decision[Desk]:
    if (timer.subject, timer.number) not in state.parked:
        return Decision(state, outcome="stale", reason="not_parked")
    case = new_case("parked_long", timed(timer), now, repayment_id=timer.subject, tranche=timer.number)
    return _opened(state, case, timer.account_id)


def timed(timer: Timer) -> EventId:
    """Return the id of the fact that a timer's date passed."""
    return event_id("TimerFired", timer.key, timer.due_at.isoformat())


def _moved(state: Desk, command: MoveCase, now: datetime) -> Decision[Desk]:
    """Take a case along the lane as far as the command says; who resolves an open case also takes it."""
    case = state.cases.get(command.case_id)
    if case is None:
        return Decision(state, outcome="stale", reason="no_such_case")
    steps = way(case.state, command.action)
    objects = command.action == "object"
    if refused := _refused(command, steps) or _wrongly_concluded(state, command, case):
        return Decision(state, outcome="stale", reason=refused)
    if (asked := _asked_to_resolve(state, command, case, now)) is not None:
        return asked
    for to in steps:
        case = case.to(to, now, command.actor, command.reason)
    if not objects:
        case = replace(case, assignee=case.assignee or command.actor)
    content: dict[str, object] = {"from": state.cases[command.case_id].state, "to": case.state}
    timers: tuple[Timer, ...] = ()
    if command.outcome is not None:
        content |= _words(command)
        case = replace(case, outcome=command.outcome, answer=command.answer, resolved_at=now)
        closes_at = now + timedelta(days=OBJECTION_DAYS)
        if case.kind == "complaint":
            closes_at = max(now, case.opened_at + timedelta(days=OBJECTION_DAYS))
        timers = (Timer(command.account_id, CASE_CLOSES, case.case_id, 0, closes_at),)
    if objects:
        case = replace(case, outcome=None, resolved_at=None, due_at=now + timedelta(hours=TERMS[case.kind].hours))
        timers = (Timer(command.account_id, CASE_DUE, case.case_id, 0, case.due_at),)
    audit = _audit(command, command.action, case.case_id, content, now)
    events: tuple[Event, ...] = ()
    if command.outcome is not None:
        events = _answered(command.account_id, case, command.actor, now, closed=False)
        events += _concluded(state, command, case, now)
    return Decision(state.put(case).audited(audit), events, timers)


def _words(command: MoveCase) -> dict[str, object]:
    """Return what a case is resolved with."""
    said: dict[str, object] = {"outcome": command.outcome, "answer": command.answer}
    return said if command.limit_minor is None else {**said, "limit_minor": command.limit_minor}


def _refused(command: MoveCase, steps: Sequence[CaseState]) -> str:
    """Return why a case goes no such way; empty when it may."""
    if not steps:
        return "not_a_step"
    if (command.action == "resolve") != (command.outcome is not None):
        return "outcome_goes_with_resolving"
    return "answer_holds_a_card" if card_like(command.answer) else ""


def _wrongly_concluded(state: Desk, command: MoveCase, case: Case) -> str:
    """Return why a review of a limit does not end so; empty when it may, or when nothing ends."""
    if command.outcome is None:
        return ""
    if (case.kind == "limit_referred") != (command.outcome in CONCLUDES):
        return "outcome_of_another_kind"
    if (command.outcome == "limit_raised") != (command.limit_minor is not None):
        return "limit_goes_with_raising"
    if case.kind != "limit_referred":
        return ""
    if state.limit is None:
        return "limit_unknown"
    raised = command.limit_minor is None or command.limit_minor > state.limit.minor
    return "" if raised else "not_an_increase"


def _concluded(state: Desk, command: MoveCase, case: Case, now: datetime) -> tuple[LimitReviewConcluded, ...]:
    """Tell how a person concluded the review of a limit; whether it still applies is risk-scoring's to say."""
    if command.outcome is None or command.outcome not in CONCLUDES or state.limit is None:
        return ()
    told = LimitReviewConcluded(
        event_id=event_id("LimitReviewConcluded", case.case_id, now.isoformat()),
        account_id=command.account_id,
        occurred_at=now,
        caused_by=case.opened_by,
        outcome=CONCLUDES[command.outcome],
        amount_minor=command.limit_minor or state.limit.minor,
        currency=state.limit.currency,
        actor=command.actor,
        reason=command.reason,
    )
    return (told,)


def _asked_to_resolve(state: Desk, command: MoveCase, case: Case, now: datetime) -> Decision[Desk] | None:
    """Keep the first word on a case whose end moves much money, or a limit by as much; None where none is needed."""
    if command.limit_minor is not None and state.limit is not None:
        stake = command.limit_minor - state.limit.minor
    elif command.outcome in MOVES_MONEY:
        stake = state.stakes.get((case.repayment_id or "", case.tranche or 0), 0)
    else:
        return None
    return _first_word(state, command, "ask_resolve", case.case_id, _words(command), stake, now)


def _heard(state: Desk, command: TakeFeedback, now: datetime) -> Decision[Desk]:
    """Open a case for what a customer asks; its id is the feedback's."""
    cause = event_id("Command", "TakeFeedback", command.account_id, command.topic, command.actor, now.isoformat())
    heard = event_id("FeedbackReceived", cause)
    about, actor = command.repayment_id, command.actor
    case = new_case(command.kind, heard, now, repayment_id=about, detail=command.topic, actor=actor)
    fact = FeedbackReceived(
        event_id=heard,
        account_id=command.account_id,
        occurred_at=now,
        caused_by=cause,
        feedback_id=case.case_id,
        kind=command.kind,
        topic=command.topic,
        answer_due_at=case.due_at,
        repayment_id=command.repayment_id,
    )
    audit = _audit(command, "take_feedback", case.case_id, {"kind": command.kind, "topic": command.topic}, now)
    decision = _opened(state, case, command.account_id)
    return decision._replace(state=decision.state.audited(audit), events=(fact,))


def _asked(state: Desk, command: AskReview, now: datetime) -> Decision[Desk]:
    """Ask for a review of a limit, unless the same was asked lately; the answer is risk-scoring's."""
    subject = review_subject(command.account_id, command.action)
    before = state.words.get(subject)
    if before is not None and now - before.at < ASKED_AGAIN[command.action]:
        return Decision(state, outcome="stale", reason="asked_lately")
    cause = event_id("Command", "AskReview", subject, command.actor, command.reason, now.isoformat())
    fact = LimitReviewRequested(
        event_id=event_id("LimitReviewRequested", cause),
        account_id=command.account_id,
        occurred_at=now,
        caused_by=cause,
        actor=command.actor,
        reason=command.reason,
        appeal=command.action == "appeal_review",
    )
    audit = _audit(command, command.action, subject, {"event_id": fact.event_id}, now)
    return Decision(state.audited(audit), (fact,))


def _answered(
    account_id: AccountId, case: Case, actor: str, now: datetime, *, closed: bool
) -> tuple[FeedbackAnswered, ...]:
    """Tell that a customer's question was answered, or that its answer stands."""
    if case.kind not in FEEDBACK:
        return ()
    told = FeedbackAnswered(
        event_id=event_id("FeedbackAnswered", case.case_id, now.isoformat()),
        account_id=account_id,
        occurred_at=now,
        caused_by=case.opened_by,
        feedback_id=case.case_id,
        actor=actor,
        closed=closed,
    )
    return (told,)


def _reviewed(state: Desk, command: ReleaseHold | ExtendHold, now: datetime) -> Decision[Desk]:
    """Tell limit-release what a person decided of a hold: whether it still applies is limit-release's to say."""
    place = (command.repayment_id, str(command.tranche))
    content: dict[str, object]
    if isinstance(command, ReleaseHold):
        content = {"amount_minor": command.amount_minor}
        # All that is held counts, however small a part of it is asked for: many small parts are much, too.
        stake = state.stakes.get((command.repayment_id, command.tranche), 0)
        if (asked := _first_word(state, command, "ask_release", ":".join(place), content, stake, now)) is not None:
            return asked
        released = HoldReleaseApproved(**_fact(command, place, now), amount_minor=command.amount_minor)
        fact: Event = released
        action: Action = "release_hold"
    else:
        content = {"until": command.until.isoformat()}
        fact = HoldExtended(**_fact(command, place, now), until=command.until)
        action = "extend_hold"
    audit = _audit(command, action, ":".join(place), content | {"event_id": fact.event_id}, now)
    return Decision(state.audited(audit), (fact,))


def _first_word(
    state: Desk, command: Command, action: Action, subject: str, said: Mapping[str, object], stake: int, now: datetime
) -> Decision[Desk] | None:
    """Keep what is said of much money until another person says the same; None when nobody else need, or did."""
    if stake < SECOND_PERSON_MINOR:
        return None
    word = _audit(command, action, subject, said, now)
    if word.seconds(state.words.get(subject)):
        return None
    return Decision(state.audited(word), reason="needs_another_person")


def _fact(command: ReleaseHold | ExtendHold, place: tuple[str, str], now: datetime) -> dict[str, Any]:
    kind = "HoldReleaseApproved" if isinstance(command, ReleaseHold) else "HoldExtended"
    cause: EventId = event_id("Command", kind, *place, command.actor, command.reason, now.isoformat())
    return {
        "event_id": event_id(kind, cause),
        "account_id": command.account_id,
        "occurred_at": now,
        "caused_by": cause,
        "repayment_id": command.repayment_id,
        "tranche": command.tranche,
        "actor": command.actor,
        "reason": command.reason,
    }


def _audit(command: Command, action: Action, subject: str, content: Mapping[str, object], now: datetime) -> Audit:
    return Audit(now, command.actor, action, subject, command.reason, kept_json(content))
