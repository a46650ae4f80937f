"""A customer asks for a review of a limit, or for a person to look at it: how often, and what each is answered."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest

from schemas.reasons import Reason
from schemas.review import LimitIncreaseDecided, LimitReviewRequested
from services.console.domain import AskReview, decide
from services.console.model import ACTS_A_DAY_MAX, ASKED_AGAIN, Desk
from services.console.opening import opening
from services.decision import Decision
from services.risk_scoring.domain import decide as risk_decides
from services.risk_scoring.limits import planned
from services.risk_scoring.model import Account
from services.wording import limit_text
from tests import builders
from tests.unit import golden
from tests.unit.given import moment, only

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
Asked = Literal["request_review", "appeal_review"]
BOTH: tuple[Asked, ...] = ("request_review", "appeal_review")


def asked(state: Desk, action: Asked, now: datetime = NOW, actor: str = "agent_1") -> Decision[Desk]:
    return decide(None, state, AskReview(builders.ACCOUNT, actor, "customer_called", action), moment(now))


def answer(state: Account, *, appeal: bool, now: datetime = golden.DECIDED) -> Decision[Account]:
    event = builders.limit_review_requested(occurred_at=now, appeal=appeal)
    return risk_decides(golden.scored(), state, event, moment(now))


@pytest.mark.parametrize("action", BOTH)
def test_what_a_customer_asks_is_told_with_who_and_why_and_kept_in_the_audit(action: Asked) -> None:
    decision = asked(Desk(builders.ACCOUNT), action)
    fact = only(decision.events, LimitReviewRequested)
    assert (fact.account_id, fact.occurred_at) == (builders.ACCOUNT, NOW)
    assert (fact.actor, fact.reason, fact.appeal) == ("agent_1", "customer_called", action == "appeal_review")
    (entry,) = decision.state.audits
    assert (entry.actor, entry.action, entry.reason) == ("agent_1", action, "customer_called")
    assert fact.event_id in entry.content


@pytest.mark.parametrize("action", BOTH)
def test_the_same_is_asked_again_only_after_its_time_whoever_asks(action: Asked) -> None:
    first = asked(Desk(builders.ACCOUNT), action).state
    early = asked(first, action, NOW + ASKED_AGAIN[action] - timedelta(milliseconds=1), "agent_2")
    assert (early.outcome, early.reason, early.events) == ("stale", "asked_lately", ())
    assert early.state.audits == first.audits
    assert list(ASKED_AGAIN.values()) == [timedelta(hours=24), timedelta(days=90)]
    later = asked(first, action, NOW + ASKED_AGAIN[action], "agent_2")
    assert only(later.events, LimitReviewRequested).actor == "agent_2"


def test_an_appeal_is_not_kept_from_a_customer_who_just_asked() -> None:
    after = asked(Desk(builders.ACCOUNT), "request_review").state
    assert only(asked(after, "appeal_review").events, LimitReviewRequested).appeal


def test_who_did_enough_for_a_day_asks_for_nobody() -> None:
    tired = Desk(builders.ACCOUNT, acts={"agent_1": ACTS_A_DAY_MAX})
    assert asked(tired, "request_review").reason == "enough_for_a_day"


def test_an_appeal_is_looked_at_by_a_person_with_the_reasons_of_the_table() -> None:
    state = golden.told(golden.scored(), *golden.story())
    decision = answer(state, appeal=True)
    fact = only(decision.events, LimitIncreaseDecided)
    assert (fact.outcome, fact.refer, fact.amount_minor) == ("unchanged", True, 3_000_000)
    assert fact.reasons == only(answer(state, appeal=False).events, LimitIncreaseDecided).reasons
    assert decision.state.credit.refused_at is None, "nobody has refused it yet"
    assert "A person looks at it as well" in limit_text(fact, language="en")
    case = opening(fact, NOW)
    assert case is not None
    assert case.kind == "limit_referred"


def test_an_appeal_too_soon_after_a_refusal_reaches_a_person_all_the_same() -> None:
    refused = answer(golden.told(golden.scored(), *golden.story()), appeal=False).state
    soon = golden.DECIDED + timedelta(days=1)
    again = only(answer(refused, appeal=False, now=soon).events, LimitIncreaseDecided)
    assert (again.outcome, again.refer, again.reasons[0]) == ("refused", False, Reason.RECENT_CHANGE)
    assert "or an increase refused, a short while ago" in limit_text(again, language="en")
    assert "提额申请近期未通过" in limit_text(again, language="zh-CN")
    assert only(answer(refused, appeal=True, now=soon).events, LimitIncreaseDecided).refer


def test_an_appeal_with_nothing_against_it_is_granted_at_once() -> None:
    state = golden.told(golden.scored(), *golden.story())
    better = tuple(planned(state.credit.months, (1_000, 2_000)))
    fact = only(answer(replace(state, credit=replace(state.credit, months=better)), appeal=True).events,
                LimitIncreaseDecided)  # fmt: skip
    assert (fact.outcome, fact.refer, fact.reasons) == ("approved", False, ())


def test_an_appeal_is_taken_where_a_product_takes_no_requests_but_not_of_a_closed_account() -> None:
    deaf = golden.scored({"limit_review.on_request": False})
    state = golden.told(deaf, *golden.story())
    appeal = builders.limit_review_requested(occurred_at=golden.DECIDED, appeal=True)
    assert only(risk_decides(deaf, state, appeal, moment(golden.DECIDED)).events, LimitIncreaseDecided).refer
    closed = builders.account_status_changed(status="closed", reason="asked", occurred_at=golden.DECIDED)
    gone = risk_decides(deaf, golden.told(deaf, closed, state=state), appeal, moment(golden.DECIDED))
    assert (gone.outcome, gone.reason, gone.events) == ("stale", "not_reviewed", ())
