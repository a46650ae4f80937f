"""risk-scoring: the rail first, then the instant cap, then the schedule."""

from datetime import timedelta

import pytest

from schemas.event import Event
from schemas.reasons import Reason
from schemas.risk import RiskAssessed
from services.decision import Decision
from services.risk_scoring.domain import decide
from services.risk_scoring.model import Account
from tests import builders
from tests.unit.given import FRIDAY, china, moment, only, profiles

WAYS = ("final_rail", "verified_account", "within_cap")
NEW = Account(builders.ACCOUNT)
TUESDAY, NEXT_FRIDAY = china("2026-11-24", "09:00"), china("2026-11-27", "09:00")


def after(*events: Event) -> Decision[Account]:
    decision = Decision(NEW)
    for event in events:
        decision = decide(profiles(), decision.state, event, moment(FRIDAY + timedelta(seconds=5)))
    return decision


def assessed(*events: Event) -> RiskAssessed:
    return only(after(*events).events, RiskAssessed)


@pytest.mark.parametrize(
    ("rail", "amount", "outcome", "reasons", "faster"),
    [
        ("wallet", 500_000, "clear", (Reason.RELEASE_FINAL_RAIL,), ()),
        ("card", 100_000, "clear", (Reason.RELEASE_WITHIN_CAP,), ()),
        ("card", 100_001, "observe", (Reason.HOLD_RAIL_REVERSIBLE, Reason.HOLD_OVER_INSTANT_CAP), WAYS),
        ("pigeon", 100_000, "clear", (Reason.RELEASE_WITHIN_CAP,), ()),
        ("pigeon", 100_001, "observe", (Reason.HOLD_RAIL_PENDING, Reason.HOLD_OVER_INSTANT_CAP), WAYS),
    ],
)
def test_the_verdict_follows_the_rail_and_the_cap(
    rail: str, amount: int, outcome: str, reasons: tuple[Reason, ...], faster: tuple[str, ...]
) -> None:
    verdict = assessed(builders.repayment_settled(rail=rail, amount_minor=amount, restorable_minor=amount))
    assert (verdict.outcome, verdict.reasons, verdict.faster) == (outcome, reasons, faster)
    assert sum(tranche.amount_minor for tranche in verdict.tranches) == amount
    assert [tranche.number for tranche in verdict.tranches] == list(range(1, len(verdict.tranches) + 1))


@pytest.mark.parametrize(
    ("balance", "reason"), [(0, Reason.PAID_FEES_AND_INTEREST), (500_000, Reason.PAID_CREDIT_BALANCE)]
)
def test_nothing_restorable_has_no_tranche_and_its_reason(balance: int, reason: Reason) -> None:
    verdict = assessed(builders.repayment_settled(restorable_minor=0, credit_balance_minor=balance))
    assert (verdict.tranches, verdict.reasons, verdict.outcome) == ((), (reason,), "clear")


def test_a_verified_funding_account_holds_the_rest_for_a_shorter_time() -> None:
    verdict = assessed(builders.funding_account_linked(), builders.repayment_settled())
    assert [(t.amount_minor, t.due_at) for t in verdict.tranches[1:]] == [(400_000, TUESDAY)]


def test_a_funding_account_no_longer_verified_is_held_as_any_other() -> None:
    linked = [builders.funding_account_linked(), builders.funding_account_linked(verified=False)]
    decision = after(*linked, builders.repayment_settled())
    assert [t.due_at for t in only(decision.events, RiskAssessed).tranches[1:]] == [TUESDAY, NEXT_FRIDAY]
    assert not decision.state.funding[builders.FUNDING_ACCOUNT].verified


def test_a_verdict_pins_its_policy_model_and_calendar_and_goes_on_with_the_trail() -> None:
    settled = builders.repayment_settled()
    verdict = assessed(settled)
    assert (verdict.policy_version, verdict.model_version) == ("default@2026-11-01.1", "rail-rule-1")
    assert verdict.calendar_version.startswith("cn-banking@")
    assert verdict.trail[: len(settled.trail)] == settled.trail
    assert verdict.trail[-1] == ("risk", "system_delay.kafka_queue", FRIDAY + timedelta(seconds=5))


def test_rests_in_seconds_count_from_the_repayment() -> None:
    rest = [{"share_bps": 10_000, "seconds": 20}]
    both = {"hold.REVERSIBLE.rest": rest, "hold.REVERSIBLE.verified_funding_account": rest}
    policy = profiles({"product": "demo", **both})
    settled = builders.repayment_settled(repaid_at=FRIDAY)
    verdict = only(decide(policy, NEW, settled, moment(FRIDAY)).events, RiskAssessed)
    assert verdict.tranches[-1].due_at == FRIDAY + timedelta(seconds=20)


def test_another_event_is_ignored() -> None:
    assert after(builders.purchase_posted()) == Decision(NEW, outcome="ignored")


def test_an_account_is_opened_once_and_follows_its_limit() -> None:
    opened, again = builders.account_opened(), builders.account_opened(credit_limit_minor=1)
    assert after(opened).state.credit_limit_minor == 500_000
    assert (after(opened, again).outcome, after(opened, again).state) == ("stale", after(opened).state)
    assert after(opened, builders.credit_limit_changed()).state.credit_limit_minor == 600_000


def test_an_older_statement_begins_no_cycle() -> None:
    newer = builders.statement_issued(occurred_at=FRIDAY)
    decision = after(newer, builders.statement_issued(occurred_at=FRIDAY))
    assert (decision.outcome, decision.state.cycle.started_at) == ("stale", FRIDAY)
