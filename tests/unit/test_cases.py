"""The case lane: which facts open a case, by when, and what people may do with it (domain 3.3)."""

import json
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.audit import AuditAnchored
from schemas.event import Event
from schemas.ids import AccountId, RepaymentId, event_id
from schemas.notification import NotificationRequested
from schemas.reasons import Reason
from schemas.restoration import CreditRestored, HoldPlaced, RestorationDelayed
from schemas.review import FeedbackAnswered, FeedbackReceived, HoldExtended, HoldReleaseApproved
from schemas.risk import Tranche
from services.cli.system import ROOT
from services.console.domain import (
    CASE_CLOSES,
    CASE_DUE,
    OBJECTION_DAYS,
    PARKED_DAYS,
    PARKED_LONG,
    DeadLettered,
    ExtendHold,
    MoveCase,
    ReleaseHold,
    TakeFeedback,
    decide,
)
from services.console.model import (
    LANE,
    AuditMoved,
    Case,
    CaseAction,
    CaseOutcome,
    CaseState,
    Desk,
    Kind,
    Priority,
    SourceDiffers,
    card_like,
    case_id,
)
from services.console.opening import OBSERVED, TERMS, opening
from services.console.worker import WORKER
from services.decision import Decision, Input, Timer, TimerFired
from services.metrics.labels import LABELS
from tests import builders
from tests.unit.given import ALL_HELD, FRIDAY, Pipe, all_of, moment, profiles
from tests.unit.given import only as only_of

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
STATES: tuple[CaseState, ...] = get_args(CaseState)
HELD_UNTIL = NOW + timedelta(hours=5)
REFERRED = (Tranche(1, 500_000, HELD_UNTIL, Reason.HOLD_UNDER_REVIEW),)
OPENERS: dict[str, tuple[Event, Kind, str]] = {
    "late": (
        builders.restoration_delayed(cause="system_delay.processing"),
        "promise_broken",
        "system_delay.processing",
    ),
    "referred": (
        builders.risk_assessed(outcome="refer", tranches=REFERRED, patterns=("credit_cycling", "prior_returns")),
        "referred",
        "credit_cycling+prior_returns",
    ),
    "cycling on a final rail": (
        builders.risk_assessed(outcome="clear", patterns=("credit_cycling",)),
        "pattern_seen",
        "credit_cycling",
    ),
    "conflict": (
        builders.repayment_conflicted(differs=("amount_minor", "rail")),
        "conflicting_report",
        "amount_minor+rail",
    ),
    "rail": (builders.settlement_delayed(waits_for="rail"), "rail_silent", "rail"),
    "account": (builders.settlement_delayed(waits_for="account"), "account_unknown", "account"),
    "report": (builders.settlement_delayed(waits_for="report"), "return_unmatched", "report"),
    "after final": (
        builders.repayment_returned(after_final=True),
        "returned_after_final",
        "RETURNED_INSUFFICIENT_FUNDS",
    ),
    "paid twice": (
        builders.repayment_settled(doubles="earlier", credit_balance_minor=50_000),
        "paid_twice",
        "earlier",
    ),
    "a repayment that may cost much": (
        builders.risk_assessed(outcome="refer", tranches=REFERRED),
        "referred",
        "expected_loss",
    ),
    "a limit near the threshold": (
        builders.limit_increase_decided(refer=True, score=635),
        "limit_referred",
        "score_635",
    ),
}
OTHERWISE: tuple[Kind, ...] = ("parked_long", "dead_letter", "source_differs", "question", "complaint")
NO_CASE: tuple[Event, ...] = (
    builders.risk_assessed(),
    builders.risk_assessed(outcome="refer", tranches=REFERRED, revision=1),
    builders.repayment_settled(),
    builders.repayment_settled(doubles="earlier", credit_balance_minor=0),
    builders.repayment_returned(after_final=False),
    builders.limit_increase_decided(),
)


def decided(event: Input, state: Desk | None = None, now: datetime = NOW) -> Decision[Desk]:
    return decide(None, state or Desk(builders.ACCOUNT), event, moment(now))


def opened(event: Event = OPENERS["late"][0], now: datetime = NOW) -> tuple[Desk, Case]:
    state = decided(event, now=now).state
    (case,) = state.cases.values()
    return state, case


def move(state: Desk, action: Any, now: datetime = NOW, *, actor: str = "agent_1", **values: Any) -> Decision[Desk]:
    (case,) = state.cases.values()
    return decided(MoveCase(builders.ACCOUNT, actor, "checked", case.case_id, action, **values), state, now)


def resolved(state: Desk, now: datetime = NOW, outcome: Any = "explained") -> Decision[Desk]:
    return move(state, "resolve", now, outcome=outcome, answer="您的额度已恢复。")


def only(state: Desk) -> Case:
    (case,) = state.cases.values()
    return case


# ---- what opens a case -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPENERS)
def test_a_fact_opens_one_case_with_a_priority_and_a_deadline(name: str) -> None:
    event, kind, detail = OPENERS[name]
    decision = decided(event)
    case = only(decision.state)
    assert (case.kind, case.detail, case.state) == (kind, detail, "open")
    assert case.priority == TERMS[kind].priority
    assert NOW < case.due_at <= NOW + timedelta(hours=TERMS[kind].hours)
    assert case.opened_by == event.event_id
    assert case.case_id == case_id(event.event_id)
    assert [(t.kind, t.subject, t.due_at) for t in decision.timers] == [(CASE_DUE, case.case_id, case.due_at)]
    assert (decision.outcome, decision.reason, decision.events) == ("applied", kind, ())
    again = decided(event, decision.state)
    assert (again.outcome, again.reason, again.state) == ("stale", "opened_before", decision.state)


def test_every_kind_of_case_is_opened_by_something_here() -> None:
    assert {kind for _, kind, _ in OPENERS.values()} | set(OTHERWISE) == set(get_args(Kind)) == TERMS.keys()


@pytest.mark.parametrize("event", NO_CASE, ids=lambda event: type(event).__name__)
def test_the_ordinary_course_opens_none(event: Event) -> None:
    decision = decided(event)
    assert (decision.outcome, decision.timers, decision.state.cases) == ("ignored", (), {})


def test_facts_of_other_services_open_none() -> None:
    for build in builders.ALL:
        event = build()
        if type(event) not in WORKER.handles:
            assert decided(event).outcome == "ignored"


@pytest.mark.parametrize(
    ("cause", "priority", "hours"),
    [
        ("system_delay.processing", "high", 4),
        ("risk_observation.manual_review", *OBSERVED),
        ("account_standing.frozen", *OBSERVED),
    ],
)
def test_a_promise_we_broke_ourselves_is_looked_at_first(cause: str, priority: str, hours: int) -> None:
    _, case = opened(builders.restoration_delayed(cause=cause, tranche=2))
    assert (case.priority, case.due_at, case.tranche) == (priority, NOW + timedelta(hours=hours), 2)
    assert case.record_version == builders.restoration_delayed().record.version


def test_a_look_is_owed_before_the_hold_fails_open() -> None:
    _, case = opened(OPENERS["referred"][0])
    assert case.due_at == HELD_UNTIL
    _, late = opened(OPENERS["referred"][0], now=HELD_UNTIL + timedelta(hours=1))
    assert late.due_at == late.opened_at


def test_the_readme_has_the_terms_of_every_kind() -> None:
    said = (ROOT / "services" / "README.md").read_text().partition("## Cases")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in said.splitlines() if line.startswith("| ")]
    assert {row[0]: (row[2], row[3]) for row in rows[1:]} == {
        kind: (terms.priority, str(terms.hours)) for kind, terms in TERMS.items()
    }
    assert f"{PARKED_DAYS} days" in said


def test_kinds_and_priorities_are_the_labels_of_the_metrics() -> None:
    assert (LABELS["kind"], LABELS["priority"]) == (get_args(Kind), get_args(Priority))


# ---- parked for long -------------------------------------------------------------------------------------------


def test_what_is_parked_for_thirty_days_opens_a_case() -> None:
    decision = decided(builders.restoration_parked(tranche=2))
    (timer,) = decision.timers
    assert (timer.kind, timer.number, timer.due_at) == (PARKED_LONG, 2, NOW + timedelta(days=PARKED_DAYS))
    assert decision.state.cases == {}
    fired, later = TimerFired(builders.ACCOUNT, timer), timer.due_at
    thawed = decided(fired, now=later)
    assert (thawed.outcome, thawed.reason, thawed.state.cases) == ("stale", "not_parked", {})
    parked = Desk(builders.ACCOUNT, parked=frozenset({(builders.REPAYMENT, 2)}))
    case = only(decided(fired, parked, later).state)
    assert (case.kind, case.repayment_id, case.tranche) == ("parked_long", builders.REPAYMENT, 2)
    again = decided(fired, decided(fired, parked, later).state, later)
    assert (again.outcome, again.reason) == ("stale", "opened_before")


# ---- dead letters and feedback -----------------------------------------------------------------------------------


def test_a_dead_letter_opens_one_case() -> None:
    found = DeadLettered(AccountId("unknown"), "settlement:7")
    decision = decided(found, Desk("unknown"))
    case = only(decision.state)
    assert (case.kind, case.detail, case.priority, decision.timers) == ("dead_letter", "settlement:7", "high", ())
    assert decided(found, decision.state).reason == "opened_before"


def test_i22_where_the_audit_ends_is_told_outside_the_database() -> None:
    decision = decided(AuditMoved(AccountId("unknown"), 7, "5f" * 32, 7), Desk("unknown"))
    told = only_of(decision.events, AuditAnchored)
    assert (told.seq, told.hash, told.count, told.account_id, told.occurred_at) == (7, "5f" * 32, 7, "unknown", NOW)
    assert decision.state.anchors == ((7, "5f" * 32, 7, NOW),)
    assert told.event_id == event_id("AuditAnchored", event_id("audit_entry", "7", "5f" * 32)), "again is once"


def feedback(kind: Any, now: datetime = NOW) -> Decision[Desk]:
    asked = TakeFeedback(builders.ACCOUNT, "agent_1", "called", kind, "restoration", builders.REPAYMENT)
    return decided(asked, now=now)


@pytest.mark.parametrize("kind", ["question", "complaint"])
def test_what_a_customer_asks_is_owed_an_answer_by_a_date_and_the_answer_is_told(kind: Kind) -> None:
    decision = feedback(kind)
    case, heard = only(decision.state), only_of(decision.events, FeedbackReceived)
    assert (heard.feedback_id, heard.kind, heard.topic) == (case.case_id, kind, "restoration")
    assert heard.answer_due_at == case.due_at == NOW + timedelta(hours=24)
    assert case.opened_by == heard.event_id
    assert [entry.action for entry in decision.state.audits] == ["take_feedback"]
    answered = resolved(decision.state)
    told = only_of(answered.events, FeedbackAnswered)
    assert (told.feedback_id, told.actor, told.closed, told.caused_by) == (
        case.case_id, "agent_1", False, heard.event_id,
    )  # fmt: skip
    (timer,) = answered.timers
    closed = decided(TimerFired(builders.ACCOUNT, timer), answered.state, timer.due_at)
    assert only_of(closed.events, FeedbackAnswered).closed


def test_a_complaint_is_closed_fifteen_days_after_it_came_even_if_it_was_answered_late() -> None:
    for answered_after, closes_after in ((1, 15), (20, 20)):
        (timer,) = resolved(feedback("complaint").state, NOW + timedelta(days=answered_after)).timers
        assert timer.due_at == NOW + timedelta(days=closes_after)
    (timer,) = resolved(feedback("question").state, NOW + timedelta(days=1)).timers
    assert timer.due_at == NOW + timedelta(days=16)


def test_other_cases_tell_no_customer_that_they_are_answered() -> None:
    assert resolved(opened()[0]).events == ()


# ---- the lane --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), list(product(STATES, STATES)))
def test_a_case_moves_along_the_lane_only(before: CaseState, after: CaseState) -> None:
    case = Case("c", "referred", "high", opened()[1].opened_by, NOW, NOW, state=before)
    if (before, after) in LANE:
        moved = case.to(after, NOW, "agent_1", "checked")
        assert (moved.state, moved.steps[-1][:2]) == (after, (before, after))
    else:
        with pytest.raises(ValueError, match=f"cannot go from {before} to {after}"):
            case.to(after, NOW, "agent_1", "checked")


def test_closed_is_the_only_end_of_the_case_lane() -> None:
    assert set(STATES) - {before for before, _ in LANE} == {"closed"}
    assert {after for _, after in LANE} == set(STATES) - {"open"}


def test_a_case_goes_through_every_step_to_its_end() -> None:
    state, case = opened()
    for action, expected in (("assign", "assigned"), ("review", "in_review"), ("escalate", "escalated")):
        state = move(state, action).state
        assert only(state).state == expected
    decision = resolved(state)
    done = only(decision.state)
    assert (done.state, done.outcome, done.resolved_at, done.assignee) == ("resolved", "explained", NOW, "agent_1")
    (timer,) = decision.timers
    assert (timer.kind, timer.due_at) == (CASE_CLOSES, NOW + timedelta(days=OBJECTION_DAYS))
    closed = only(decided(TimerFired(builders.ACCOUNT, timer), decision.state, timer.due_at).state)
    assert closed.state == "closed"
    assert [step.state for step in closed.steps] == [
        "open", "assigned", "in_review", "escalated", "resolved", "closed",
    ]  # fmt: skip
    assert [step.before for step in closed.steps] == [None, *(step.state for step in closed.steps[:-1])]
    assert closed.steps[-1].actor == "console"
    assert closed.opened_at == case.opened_at


def test_who_resolves_an_open_case_also_takes_it() -> None:
    state, _ = opened()
    done = only(resolved(state).state)
    assert (done.state, done.assignee) == ("resolved", "agent_1")
    assert [step.state for step in done.steps] == ["open", "assigned", "in_review", "resolved"]


def test_the_assignee_stays_who_took_it_first() -> None:
    state, _ = opened()
    state = move(state, "assign").state
    assert only(resolved(move(state, "review", actor="agent_2").state).state).assignee == "agent_1"


def test_an_objection_brings_a_resolved_case_back_with_a_new_deadline() -> None:
    state, case = opened()
    state = resolved(state).state
    later = NOW + timedelta(days=2)
    decision = move(state, "object", later, actor="customer")
    back = only(decision.state)
    assert (back.state, back.outcome, back.resolved_at, back.assignee) == ("in_review", None, None, "agent_1")
    assert back.due_at == later + timedelta(hours=TERMS[case.kind].hours)
    assert [(t.kind, t.due_at) for t in decision.timers] == [(CASE_DUE, back.due_at)]
    closes = decided(TimerFired(builders.ACCOUNT, resolved(opened()[0]).timers[0]), decision.state, later)
    assert (closes.outcome, closes.reason) == ("stale", "moved_before")


@pytest.mark.parametrize("acts", [(), ("assign",), ("assign", "review")])
def test_a_case_nobody_resolved_by_its_deadline_is_escalated(acts: tuple[CaseAction, ...]) -> None:
    event = builders.restoration_delayed(cause="account_standing.frozen")
    state, case = opened(event)
    fired = TimerFired(builders.ACCOUNT, decided(event).timers[0])
    for act in acts:
        state = move(state, act).state
    escalated = decided(fired, state, case.due_at).state
    late = only(escalated)
    assert (late.state, late.priority, late.assignee) == ("escalated", "high", "agent_1" if acts else "")
    assert only(resolved(escalated).state).assignee == "agent_1"
    assert decided(fired, resolved(state).state, case.due_at).outcome == "stale"


REFUSED: tuple[tuple[tuple[str, ...], str, dict[str, Any], str], ...] = (
    ((), "object", {}, "not_a_step"),
    (("assign",), "assign", {}, "not_a_step"),
    (("assign", "review"), "object", {}, "not_a_step"),
    (("assign", "review"), "assign", {}, "not_a_step"),
    (("resolve",), "review", {}, "not_a_step"),
    (("resolve",), "resolve", {"outcome": "explained"}, "not_a_step"),
    (("resolve",), "escalate", {}, "not_a_step"),
    ((), "resolve", {}, "outcome_goes_with_resolving"),
    ((), "assign", {"outcome": "explained"}, "outcome_goes_with_resolving"),
)


@pytest.mark.parametrize(("steps", "action", "values", "reason"), REFUSED)
def test_what_is_no_step_of_the_lane_changes_nothing(
    steps: tuple[str, ...], action: str, values: dict[str, Any], reason: str
) -> None:
    state, _ = opened()
    for step in steps:
        state = (resolved(state) if step == "resolve" else move(state, step)).state
    decision = move(state, action, **values)
    assert (decision.outcome, decision.reason, decision.state, decision.timers) == ("stale", reason, state, ())


def test_a_closed_case_stays_closed() -> None:
    state, _ = opened()
    decision = resolved(state)
    state = decided(TimerFired(builders.ACCOUNT, decision.timers[0]), decision.state).state
    for action in ("assign", "review", "escalate", "object"):
        assert move(state, action).reason == "not_a_step"
    assert resolved(state).reason == "not_a_step"


def test_an_unknown_case_is_not_moved() -> None:
    decision = decided(MoveCase(builders.ACCOUNT, "agent_1", "checked", "nothing", "assign"))
    assert (decision.outcome, decision.reason) == ("stale", "no_such_case")


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        ("4111111111111111", True),
        ("your card 4111 1111-1111 1111.", True),
        ("4111111111111112", False),
        ("restored on 2026-11-27, repayment 20261127", False),
        ("", False),
    ],
)
def test_r28_an_answer_with_a_card_number_is_not_kept(answer: str, refused: bool) -> None:
    state, _ = opened()
    decision = move(state, "resolve", outcome="explained", answer=answer)
    assert card_like(answer) is refused
    assert (decision.reason == "answer_holds_a_card") is refused
    assert (only(decision.state).state == "open") is refused


# ---- what people do is audited -----------------------------------------------------------------------------------


def test_every_act_on_a_case_is_audited_with_who_and_why() -> None:
    state, case = opened()
    state = resolved(state).state
    (entry,) = state.audits
    assert (entry.actor, entry.reason, entry.action, entry.subject) == ("agent_1", "checked", "resolve", case.case_id)
    assert json.loads(entry.content) == {
        "from": "open", "to": "resolved", "outcome": "explained", "answer": "您的额度已恢复。",
    }  # fmt: skip
    assert [a.action for a in move(state, "object", actor="customer").state.audits] == ["resolve", "object"]


@pytest.mark.parametrize("amount", [None, 50_000])
def test_a_release_is_told_to_limit_release_and_audited(amount: int | None) -> None:
    command = ReleaseHold(builders.ACCOUNT, "reviewer_1", "payer_verified", builders.REPAYMENT, 2, amount)
    decision = decided(command)
    (fact,) = decision.events
    assert isinstance(fact, HoldReleaseApproved)
    assert (fact.repayment_id, fact.tranche, fact.amount_minor) == (builders.REPAYMENT, 2, amount)
    assert (fact.actor, fact.reason, fact.occurred_at) == ("reviewer_1", "payer_verified", NOW)
    (entry,) = decision.state.audits
    assert (entry.action, entry.subject) == ("release_hold", f"{builders.REPAYMENT}:2")
    assert json.loads(entry.content) == {"amount_minor": amount, "event_id": fact.event_id}


def test_an_extension_is_told_to_limit_release_and_audited() -> None:
    until = NOW + timedelta(days=3)
    command = ExtendHold(builders.ACCOUNT, "reviewer_1", "payer_unreachable", builders.REPAYMENT, 2, until)
    decision = decided(command)
    (fact,) = decision.events
    assert isinstance(fact, HoldExtended)
    assert (fact.until, fact.actor, fact.reason) == (until, "reviewer_1", "payer_unreachable")
    (entry,) = decision.state.audits
    assert (entry.action, json.loads(entry.content)) == (
        "extend_hold",
        {"until": until.isoformat(), "event_id": fact.event_id},
    )


def test_the_same_words_said_again_later_are_another_command() -> None:
    command = ReleaseHold(builders.ACCOUNT, "reviewer_1", "payer_verified", builders.REPAYMENT, 2)
    first, again = decided(command).events, decided(command, now=NOW + timedelta(milliseconds=1)).events
    assert first[0].event_id != again[0].event_id
    assert first == decided(command).events


def test_a_change_of_the_model_that_decides_is_an_entry_of_the_audit_and_nothing_else() -> None:
    told = builders.model_activated(goes_back=True, model_version=None, replaced="timid", actor="risk-scoring")
    decision = decided(told)
    assert (decision.state.cases, decision.events, decision.timers, decision.reason) == ({}, (), (), "")
    (entry,) = decision.state.audits
    assert (entry.action, entry.actor, entry.subject) == ("activate_model", "risk-scoring", "model:return")
    assert (entry.reason, entry.at) == (told.reason, told.occurred_at)
    assert json.loads(entry.content) == {
        "event_id": told.event_id, "change": 7, "model_version": None, "replaced": "timid", "goes_back": True,
        "unproven": False,
    }  # fmt: skip


# ---- from the breach to the case ---------------------------------------------------------------------------------


def test_r27_a_breach_by_itself_opens_a_case() -> None:
    """Everything is down from the decision's date on: the promise is told as broken, and a person has to look."""
    pipe = Pipe(policy=profiles(ALL_HELD)).open(600_000, principal=550_000)
    pipe.repay(500_000, rail="direct_debit")
    (tranche,) = pipe.repayment("r1").tranches.values()
    facts = pipe.sleep_until(tranche.promised_by + timedelta(seconds=15))
    (broken,) = all_of(facts, RestorationDelayed)
    case = only(decided(broken, now=pipe.now).state)
    assert (case.kind, case.detail, case.priority) == ("promise_broken", "system_delay.processing", "high")
    assert (case.repayment_id, case.tranche) == (pipe.repayment("r1").repayment_id, tranche.number)


def test_r15_cycling_is_restored_at_once_on_a_final_rail_and_opens_a_case() -> None:
    pipe = Pipe().open(100_000)
    kinds = []
    for n in range(4):
        pipe.buy(100_000, ref=f"b{n}")
        facts = pipe.repay(100_000, ref=f"r{n}", at=FRIDAY + timedelta(hours=n))
        assert all_of(facts, CreditRestored)
        cases = [opening(fact, pipe.now) for fact in facts]
        kinds.append([case.kind for case in cases if case])
    assert kinds == [[], [], ["pattern_seen"], ["pattern_seen"]]


def test_a_command_reaches_limit_release_and_the_customer() -> None:
    """What a person says of a hold goes the whole way: a release restores, an extension is told before its date."""
    pipe = Pipe(policy=profiles(ALL_HELD)).open(600_000, principal=550_000)
    pipe.repay(500_000, rail="direct_debit")
    ref, (tranche,) = pipe.repayment("r1").repayment_id, pipe.repayment("r1").tranches.values()
    place = (RepaymentId(ref), tranche.number)
    later = tranche.until + timedelta(days=3)
    (extended,) = decided(ExtendHold(builders.ACCOUNT, "reviewer_1", "why", *place, later), now=pipe.now).events
    facts = pipe.take(extended)
    assert only_of(facts, HoldPlaced).until == later
    assert only_of(facts, NotificationRequested).template == "moved"
    again = decided(ExtendHold(builders.ACCOUNT, "reviewer_1", "more", *place, later + timedelta(days=1)), now=pipe.now)
    assert all_of(pipe.take(again.events[0]), HoldPlaced) == []
    (released,) = decided(ReleaseHold(builders.ACCOUNT, "reviewer_1", "why", *place), now=pipe.now).events
    facts = pipe.take(released)
    assert only_of(facts, CreditRestored).reason is Reason.RELEASE_REVIEWED
    assert only_of(pipe.give_back(500_000, rail="direct_debit"), NotificationRequested).template == "reversed"


# ---- whatever people and dates do --------------------------------------------------------------------------------

ACTS = st.tuples(
    st.sampled_from([*get_args(CaseAction), CASE_DUE, CASE_CLOSES]),
    st.none() | st.sampled_from(get_args(CaseOutcome)),
    st.integers(0, 30),
)


@given(event=st.sampled_from([event for event, _, _ in OPENERS.values()]), acts=st.lists(ACTS, max_size=12))
def test_any_order_of_acts_and_dates_stays_in_the_lane(event: Event, acts: list[tuple[Any, Any, int]]) -> None:
    state, case = opened(event)
    now, audited = NOW, 0
    for act, outcome, days in acts:
        before, now = only(state), now + timedelta(days=days)
        if act in (CASE_DUE, CASE_CLOSES):
            decision = decided(
                TimerFired(builders.ACCOUNT, Timer(builders.ACCOUNT, act, case.case_id, 0, now)), state, now
            )
        else:
            decision = move(state, act, now, outcome=outcome)
        state, after = decision.state, only(decision.state)
        assert (decision.outcome == "applied") == (after.state != before.state)
        assert (after is before) == (decision.outcome == "stale")
        assert before.state != "closed" or after is before
        audited += act in get_args(CaseAction) and decision.outcome == "applied"
        assert (after.resolved_at is not None) == (after.state in ("resolved", "closed")) == (after.outcome is not None)
        assert after.state in ("open", "escalated") or after.assignee
        assert after.due_at >= after.opened_at
        assert after.waits == (after.state not in ("resolved", "closed"))
    assert len(state.audits) == audited, "each act is one entry, and nothing else is"
    steps = only(state).steps
    assert [step.before for step in steps] == [None, *(step.state for step in steps[:-1])]
    assert {(step.before, step.state) for step in steps[1:]} <= LANE


def test_a_difference_with_billings_list_opens_one_case() -> None:
    found = SourceDiffers(builders.ACCOUNT, builders.REPAYMENT, "amount_minor")
    decision = decided(found)
    (case,) = decision.state.cases.values()
    assert (case.kind, case.priority, case.repayment_id, case.detail) == (
        *("source_differs", "high", builders.REPAYMENT),
        "amount_minor",
    )
    assert [(timer.kind, timer.due_at) for timer in decision.timers] == [(CASE_DUE, NOW + timedelta(hours=24))]
    assert decided(found, decision.state).outcome == "stale"
    other = decided(SourceDiffers(builders.ACCOUNT, builders.REPAYMENT, "only_theirs"), decision.state)
    assert len(other.state.cases) == 2
