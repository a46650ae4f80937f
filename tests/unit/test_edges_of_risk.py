"""risk-scoring: ids, reasons and features whole, and the edges of its cycle and its look."""

from datetime import timedelta

import pytest

from schemas.event import Event
from schemas.ids import event_id
from schemas.risk import RiskAssessed
from services.decision import Decision
from services.risk_scoring.domain import decide
from services.risk_scoring.model import Account, Cycle, Question, features
from tests import builders
from tests.unit.given import FRIDAY, moment, only, profiles

ASKED = Question(
    amount_minor=300, restorable_minor=300, credit_balance_minor=1, rail="REVERSIBLE", verified=False, strikes=2,
    instant_left_minor=0, settled_minor=150, credit_limit_minor=600, repaid_at=FRIDAY, now=FRIDAY,
)  # fmt: skip


def after(*events: Event) -> Decision[Account]:
    decision = Decision(Account(builders.ACCOUNT))
    for event in events:
        decision = decide(profiles(), decision.state, event, moment(FRIDAY))
    return decision


def test_what_the_table_of_returns_may_ask_is_said_by_its_name() -> None:
    known = {"unverified": 1.0, "strikes": 2.0, "share_of_limit": 0.5, "overpaid": 1.0, "cycled": 0.25}
    assert features(ASKED) == known


@pytest.mark.parametrize(("seconds", "settled"), [(-1, 7), (0, 5), (1, 5)])
def test_r15_what_is_settled_when_its_statement_begins_is_of_the_new_cycle(seconds: int, settled: int) -> None:
    assert Cycle(FRIDAY, 5, 7).of(FRIDAY + timedelta(seconds=seconds)) == settled


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (builders.account_opened(), "opened_before"),
        (builders.statement_issued(occurred_at=FRIDAY), "older_statement"),
    ],
)
def test_what_changes_nothing_says_why(event: Event, reason: str) -> None:
    once, again = after(event), after(event, event)
    assert (again.state, again.outcome, again.reason) == (once.state, "stale", reason)


def test_a_verdict_and_its_revisions_are_named_by_their_repayment_and_number() -> None:
    settled, linked = builders.repayment_settled(repaid_at=FRIDAY), builders.funding_account_linked()
    first = after(settled)
    fact = only(first.events, RiskAssessed)
    assert fact.event_id == event_id("RiskAssessed", builders.REPAYMENT, "0")
    now = FRIDAY + timedelta(hours=1)
    second = decide(profiles(), first.state, linked, moment(now))
    newer = only(second.events, RiskAssessed)
    assert newer.event_id == event_id("RiskAssessed", builders.REPAYMENT, "1")
    assert (newer.occurred_at, newer.caused_by, newer.revision) == (now, linked.event_id, 1)
    assert newer.calendar_version == fact.calendar_version
    assert second.state.assessments[builders.REPAYMENT].hold == newer


def test_a_link_older_than_the_one_that_is_known_changes_nothing_and_says_so() -> None:
    newer = builders.funding_account_linked(occurred_at=FRIDAY, verified=False)
    older = builders.funding_account_linked(occurred_at=FRIDAY - timedelta(hours=1))
    once, late = after(newer), after(newer, older)
    assert (late.state, late.outcome, late.reason) == (once.state, "stale", "older_link")
