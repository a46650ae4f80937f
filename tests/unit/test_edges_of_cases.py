"""console: every id, step, timer and audit entry whole, and the numbers that pass for a card's."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.ids import AccountId, derived_id, event_id
from services.console.domain import (
    CASE_CLOSES,
    CASE_DUE,
    PARKED_LONG,
    AskReview,
    DeadLettered,
    ExtendHold,
    MoveCase,
    ReleaseHold,
    TakeFeedback,
    decide,
    timed,
)
from services.console.model import (
    SECOND_PERSON_MINOR,
    Audit,
    Case,
    Desk,
    Limit,
    SourceDiffers,
    Step,
    card_like,
    case_id,
    differs_id,
)
from services.console.opening import dead_letter_id
from services.decision import Decision, Input, Internal, Timer, TimerFired
from tests import builders
from tests.unit.given import moment, said

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
DAY = timedelta(days=1)
ME, R = builders.ACCOUNT, builders.REPAYMENT
LATE = builders.restoration_delayed(cause="account_standing.frozen")


def decided(event: Input, state: Desk | None = None, now: datetime = NOW) -> Decision[Desk]:
    return decide(None, state or Desk(ME), event, moment(now))


def move(state: Desk, action: Any, now: datetime = NOW, **values: Any) -> Decision[Desk]:
    (case,) = state.cases.values()
    return decided(MoveCase(ME, "agent_1", "checked", case.case_id, action, **values), state, now)


def test_an_id_is_of_what_it_names() -> None:
    timer = Timer(ME, PARKED_LONG, R, 2, NOW)
    assert case_id("fact") == derived_id("case", "fact")
    assert dead_letter_id("settlement:7") == event_id("DeadLettered", "settlement:7")
    assert differs_id(SourceDiffers(ME, R, "status")) == event_id("SourceDiffers", R, "status")
    assert timed(timer) == event_id("TimerFired", timer.key, NOW.isoformat())


def test_an_opened_case_has_its_step_and_its_timer() -> None:
    decision = decided(LATE)
    (case,) = decision.state.cases.values()
    assert case.steps == (Step(None, "open", NOW, "console", "promise_broken"),)
    assert decision.timers == (Timer(ME, CASE_DUE, case.case_id, 0, NOW + DAY),)
    parked = decided(builders.restoration_parked(tranche=2))
    assert parked.timers == (Timer(ME, PARKED_LONG, R, 2, NOW + 30 * DAY),)
    long = decided(TimerFired(ME, parked.timers[0]), Desk(ME, parked=frozenset({(R, 2)})), NOW + 30 * DAY)
    (waits,) = long.state.cases.values()
    assert (waits.detail, long.timers) == ("", (Timer(ME, CASE_DUE, waits.case_id, 0, NOW + 33 * DAY),))


def test_what_opens_nothing_is_ignored() -> None:
    decision = decided(Internal(ME))
    assert (decision.state, decision.outcome, decision.events) == (Desk(ME), "ignored", ())
    assert decided(DeadLettered(AccountId("unknown"), "x:1")).timers == ()
    assert decided(builders.risk_assessed()).state == Desk(ME)
    nobody = decided(MoveCase(ME, "a", "b", "nothing", "assign"))
    assert (nobody.state, nobody.reason) == (Desk(ME), "no_such_case")


def test_every_step_says_when_who_and_why() -> None:
    state = decided(LATE).state
    taken = move(state, "assign", NOW + DAY)
    assert taken.timers == ()
    (case,) = taken.state.cases.values()
    assert case.steps[-1] == Step("open", "assigned", NOW + DAY, "agent_1", "checked")
    looked = move(taken.state, "review").state
    fired = TimerFired(ME, Timer(ME, CASE_DUE, case.case_id, 0, case.due_at))
    (late,) = decided(fired, looked, NOW + 2 * DAY).state.cases.values()
    assert late.steps[-1] == Step("in_review", "escalated", NOW + 2 * DAY, "console", "overdue")
    done = move(looked, "resolve", NOW + 2 * DAY, outcome="explained", answer="好的")
    assert done.timers == (Timer(ME, CASE_CLOSES, case.case_id, 0, NOW + 17 * DAY),)
    (resolved,) = done.state.cases.values()
    assert (resolved.answer, resolved.resolved_at) == ("好的", NOW + 2 * DAY)
    said_then = '{"answer":"好的","from":"in_review","outcome":"explained","to":"resolved"}'
    assert done.state.audits[-1] == Audit(NOW + 2 * DAY, "agent_1", "resolve", case.case_id, "checked", said_then)
    (closed,) = decided(TimerFired(ME, done.timers[0]), done.state, NOW + 17 * DAY).state.cases.values()
    assert closed.steps[-1] == Step("resolved", "closed", NOW + 17 * DAY, "console", "not_objected")
    back = move(done.state, "object", NOW + 3 * DAY)
    assert back.timers == (Timer(ME, CASE_DUE, case.case_id, 0, NOW + 3 * DAY + timedelta(hours=4)),)


def test_what_a_customer_asks_is_told_kept_and_answered_whole() -> None:
    decision = decided(TakeFeedback(ME, "agent_1", "called", "question", "restoration", R))
    cause = event_id("Command", "TakeFeedback", ME, "restoration", "agent_1", NOW.isoformat())
    heard = event_id("FeedbackReceived", cause)
    at, about = case_id(heard), {"account_id": ME, "occurred_at": NOW, "feedback_id": case_id(heard)}
    (case,) = decision.state.cases.values()
    step = Step(None, "open", NOW, "agent_1", "question")
    assert case == Case(at, "question", "normal", heard, NOW, NOW + DAY, R, None, "restoration", steps=(step,))
    told = {"event_id": heard, "caused_by": cause, "kind": "question", "topic": "restoration"}
    assert [said(fact) for fact in decision.events] == [
        {**about, **told, "answer_due_at": NOW + DAY, "repayment_id": R}
    ]
    kept = '{"kind":"question","topic":"restoration"}'
    assert decision.state.audits == (Audit(NOW, "agent_1", "take_feedback", at, "called", kept),)
    assert decision.timers == (Timer(ME, CASE_DUE, at, 0, NOW + DAY),)
    answered = move(decision.state, "resolve", outcome="explained", answer="a")
    told = {"event_id": event_id("FeedbackAnswered", at, NOW.isoformat()), "caused_by": heard, "actor": "agent_1"}
    assert [said(fact) for fact in answered.events] == [{**about, **told, "closed": False}]


@pytest.mark.parametrize("kind", ["HoldReleaseApproved", "HoldExtended"])
def test_a_word_on_a_hold_is_told_and_audited_whole(kind: str) -> None:
    releases = kind == "HoldReleaseApproved"
    command: ReleaseHold | ExtendHold = ExtendHold(ME, "reviewer_1", "why", R, 2, NOW + DAY)
    if releases:
        command = ReleaseHold(ME, "reviewer_1", "why", R, 2, 5)
    decision = decided(command)
    cause = event_id("Command", kind, R, "2", "reviewer_1", "why", NOW.isoformat())
    fact = event_id(kind, cause)
    more: dict[str, Any] = {"amount_minor": 5} if releases else {"until": NOW + DAY}
    about = {"account_id": ME, "occurred_at": NOW, "repayment_id": R, "tranche": 2, "actor": "reviewer_1"}
    assert [said(told) for told in decision.events] == [
        {**about, "event_id": fact, "caused_by": cause, "reason": "why", **more}
    ]
    kept = f'{{"amount_minor":5,"event_id":"{fact}"}}'
    if not releases:
        kept = f'{{"event_id":"{fact}","until":"{(NOW + DAY).isoformat()}"}}'
    action: Any = "release_hold" if releases else "extend_hold"
    assert decision.state.audits == (Audit(NOW, "reviewer_1", action, f"{R}:2", "why", kept),)


@pytest.mark.parametrize(("action", "appeal"), [("request_review", False), ("appeal_review", True)])
def test_a_word_on_a_limit_is_told_and_audited_whole(action: Any, appeal: bool) -> None:
    decision = decided(AskReview(ME, "agent_1", "called", action))
    subject = f"{action}:{ME}"
    cause = event_id("Command", "AskReview", subject, "agent_1", "called", NOW.isoformat())
    fact = event_id("LimitReviewRequested", cause)
    about = {"account_id": ME, "occurred_at": NOW, "actor": "agent_1", "reason": "called", "appeal": appeal}
    assert [said(told) for told in decision.events] == [{**about, "event_id": fact, "caused_by": cause}]
    kept = f'{{"event_id":"{fact}"}}'
    assert decision.state.audits == (Audit(NOW, "agent_1", action, subject, "called", kept),)


def test_of_a_case_about_a_whole_repayment_all_of_it_is_at_stake_and_the_first_word_is_audited_whole() -> None:
    opened = decided(builders.repayment_returned(after_final=True)).state
    (case,) = opened.cases.values()
    asked = move(replace(opened, stakes={(R, 0): SECOND_PERSON_MINOR}), "resolve", outcome="credit_restored")
    said_first = '{"answer":"","outcome":"credit_restored"}'
    word = Audit(NOW, "agent_1", "ask_resolve", case.case_id, "checked", said_first)
    assert (asked.reason, asked.state.audits) == ("needs_another_person", (word,))
    assert asked.state.cases[case.case_id].state == "open"
    of_a_part = replace(opened, stakes={(R, 1): SECOND_PERSON_MINOR})
    done = move(of_a_part, "resolve", outcome="credit_restored").state
    assert done.cases[case.case_id].state == "resolved"


def test_a_difference_with_billing_s_own_list_is_a_case_with_its_dates() -> None:
    differs = SourceDiffers(ME, R, "amount_minor")
    found = decided(differs)
    at = case_id(differs_id(differs))
    steps = (Step(None, "open", NOW, "console", "source_differs"),)
    case = Case(at, "source_differs", "high", differs_id(differs), NOW, NOW + DAY, R, None, "amount_minor", steps=steps)
    assert found.state.cases == {at: case}
    assert found.timers == (Timer(ME, CASE_DUE, at, 0, NOW + DAY),)


def test_a_case_of_another_kind_concludes_no_limit_though_one_is_known() -> None:
    known = replace(decided(LATE).state, limit=Limit(3_000_000, "TWD"))
    assert move(known, "resolve", outcome="explained").events == ()
    assert move(known, "assign").events == ()


CARDS = ("5500005555555559", "340000000000009", "6011000000000004", "378282246310005", "4222222222222")


@pytest.mark.parametrize("card", CARDS)
def test_r28_the_published_numbers_of_every_scheme_pass_for_a_cards_and_their_neighbours_do_not(card: str) -> None:
    assert card_like(card)
    assert not card_like(card[:-1] + str((int(card[-1]) + 1) % 10))
    state = decided(LATE).state
    refused = move(state, "resolve", outcome="explained", answer=card)
    assert (refused.outcome, refused.reason, refused.state) == ("stale", "answer_holds_a_card", state)
