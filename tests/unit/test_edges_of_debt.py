"""settlement: what one changed number or word in its rules would change, where no story of another test shows it."""

from datetime import date, timedelta
from typing import Any

import pytest

from schemas.ids import RepaymentId, event_id
from schemas.reasons import Reason
from schemas.settlement import Allocation, Part, Reallocation
from services.decision import Timer, TimerFired
from services.settlement import facts
from services.settlement.domain import value_at
from services.settlement.model import Account, Debt, Repayment
from tests import builders
from tests.unit.given import FRIDAY, moment, profile, said

TAKEN, REPORTED, DAY = FRIDAY + timedelta(seconds=3), FRIDAY + timedelta(seconds=2), date(2026, 11, 20)
NOW = moment(FRIDAY + timedelta(seconds=5), taken_at=TAKEN, reported_at=REPORTED)
PORTIONS = (
    Debt("due", "fee", 30),
    Debt("due", "principal", 100, plan="cash", apr_bps=500),
    Debt("due", "interest", 20),
    Debt("due", "principal", 50, plan="cash", apr_bps=900),
    Debt("past_due", "penalty", 10),
)
PARTS = (
    Part("due", "fee", None, 30),
    Part("due", "principal", "cash", 150),
    Part("due", "interest", None, 20),
    Part("past_due", "penalty", None, 10),
)
PAID = Repayment("r1", "settled", 250, portions=PORTIONS, credit_balance_minor=40, restorable_minor=150)
MOVED = (Reallocation(RepaymentId("r0"), -5, 5),)


@pytest.mark.parametrize(("rail", "finality"), [("wallet", "final"), ("direct_debit", "provisional")])
def test_a_settlement_says_of_its_report_and_of_the_books_what_they_say(rail: str, finality: str) -> None:
    report = builders.repayment_received(repayment_id="r1", amount_minor=250, rail=rail, repaid_at=FRIDAY, trail=())
    state = Account(builders.ACCOUNT, product="default", repayments={"r1": PAID})
    told = facts.settled(
        profile(),
        state,
        report,
        NOW,
        credited_on=DAY,
        final_on=DAY + timedelta(days=9),
        doubles="r0",
        reallocated=MOVED,
    )
    assert said(told) == {
        "event_id": event_id("RepaymentSettled", "r1"), "account_id": builders.ACCOUNT, "occurred_at": NOW.now,
        "caused_by": report.event_id, "repayment_id": "r1", "repaid_at": FRIDAY, "product": "default",
        "trail": (
            ("settlement", "system_delay.kafka_queue", TAKEN), ("settlement", "system_delay.processing", NOW.now),
        ),
        "amount_minor": 250, "currency": "CNY", "rail": rail, "method": "auto",
        "funding_account_id": builders.FUNDING_ACCOUNT, "settled_at": NOW.now, "credited_on": DAY,
        "allocation": Allocation(penalty_minor=10, fee_minor=30, interest_minor=20, principal_minor=150),
        "restorable_minor": 150, "credit_balance_minor": 40, "finality": finality,
        "final_on": DAY + timedelta(days=9), "policy_version": profile().policy_version, "parts": PARTS,
        "doubles": "r0", "reallocated": MOVED,
    }  # fmt: skip


def test_a_return_says_of_its_report_and_of_the_books_what_they_say() -> None:
    report = builders.return_received(repayment_id="r1", amount_minor=250, fault="issuer")
    told = facts.returned(PAID, report, NOW, after_final=True, reallocated=MOVED, charges_change_minor=70)
    assert said(told) == {
        "event_id": event_id("RepaymentReturned", "r1"), "account_id": builders.ACCOUNT, "occurred_at": NOW.now,
        "caused_by": report.event_id, "repayment_id": "r1", "amount_minor": 250, "currency": "CNY", "code": "R01",
        "return_class": Reason.RETURNED_INSUFFICIENT_FUNDS, "fault": "issuer", "after_final": True,
        "allocation": Allocation(penalty_minor=10, fee_minor=30, interest_minor=20, principal_minor=150),
        "parts": PARTS[::-1], "restorable_minor": 150, "credit_balance_minor": 40, "reallocated": MOVED,
        "charges_change_minor": 70,
    }  # fmt: skip


def test_what_is_rejected_moved_or_waits_is_told_with_its_cause() -> None:
    again = FRIDAY + timedelta(days=1)
    report = builders.repayment_received(repayment_id="r1", next_attempt_at=again)
    assert said(facts.rejected(report, NOW, Reason.REPORTED_FAILED)) == {
        "event_id": event_id("RepaymentRejected", "r1"), "account_id": builders.ACCOUNT, "occurred_at": NOW.now,
        "caused_by": report.event_id, "repayment_id": "r1", "reason": Reason.REPORTED_FAILED, "next_attempt_at": again,
    }  # fmt: skip
    charge = builders.charges_accrued()
    assert said(facts.reallocated(charge, NOW, MOVED)) == {
        "event_id": event_id("RepaymentsReallocated", charge.event_id), "account_id": builders.ACCOUNT,
        "occurred_at": NOW.now, "caused_by": charge.event_id, "reallocated": MOVED,
    }  # fmt: skip
    cause = event_id("wait", "rail", "r1", FRIDAY.isoformat())
    assert said(facts.delayed(builders.ACCOUNT, "r1", "rail", FRIDAY, NOW)) == {
        "event_id": event_id("SettlementDelayed", cause), "account_id": builders.ACCOUNT, "occurred_at": NOW.now,
        "caused_by": cause, "repayment_id": "r1", "waits_for": "rail", "since": FRIDAY,
    }  # fmt: skip


@pytest.mark.parametrize(("plans", "found"), [(256, 256), (257, 1)])
def test_buckets_are_told_by_plan_as_long_as_an_event_holds_them(plans: int, found: int) -> None:
    told = facts.parts(Debt("due", "principal", 2, plan=f"p{n}") for n in range(plans))
    assert len(told) == found
    assert sum(part.amount_minor for part in told) == 2 * plans
    assert told[0].plan == ("p0" if found > 1 else None)


@pytest.mark.parametrize(
    ("event", "moves"),
    [
        (builders.repayment_received(), builders.REPAID_AT),
        (builders.repayment_received(status="pending"), None),
        (builders.return_received(), None),
        (builders.purchase_posted(occurred_at=FRIDAY), FRIDAY),
        (builders.statement_issued(occurred_at=FRIDAY), FRIDAY),
        (TimerFired(builders.ACCOUNT, Timer(builders.ACCOUNT, "due_day_over", "", 1, FRIDAY)), FRIDAY),
        (TimerFired(builders.ACCOUNT, Timer(builders.ACCOUNT, "rail_waits", "", 1, FRIDAY)), None),
    ],
)
def test_debt_moves_in_value_time_only_by_what_is_paid_billed_or_over(event: Any, moves: Any) -> None:
    assert value_at(event) == moves
