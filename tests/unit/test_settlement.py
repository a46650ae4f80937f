"""settlement: the money lane and the debt ledger."""

import re
from datetime import date, timedelta
from pathlib import Path

import pytest

from schemas.event import Event
from schemas.reasons import Reason
from schemas.settlement import Allocation, RepaymentRejected, RepaymentReturned, RepaymentSettled
from services import settlement
from services.decision import Decision, Malformed
from services.policy import Profiles
from services.settlement.domain import decide, ref_of
from services.settlement.model import COMPONENTS, LANE, Account
from tests import builders
from tests.unit.given import FRIDAY, china, moment, only, profiles

POLICY = profiles()
NEW = Account(builders.ACCOUNT)
OPENED = builders.account_opened()


def after(*events: Event, policy: Profiles = POLICY) -> Decision[Account]:
    decision = Decision(NEW)
    for event in events:
        decision = decide(policy, decision.state, event, moment(FRIDAY))
    return decision


def debt(state: Account) -> dict[str, int]:
    found = {name: getattr(state, f"{name}_minor") for name in (*COMPONENTS, "credit_balance")}
    return {name: amount for name, amount in found.items() if amount}


def received(amount: int, ref: str = "r1", **changes: object) -> Event:
    return builders.repayment_received(repayment_id=ref, external_ref=ref, amount_minor=amount, **changes)


def returned(amount: int, ref: str = "r1", **changes: object) -> Event:
    return builders.return_received(repayment_id=ref, external_ref=ref, amount_minor=amount, **changes)


def bought(amount: int, ref: str = "p1") -> Event:
    return builders.purchase_posted(purchase_id=ref, amount_minor=amount)


def refunded(amount: int) -> Event:
    return builders.purchase_refunded(to_debt_minor=amount)


def charged(penalty: int = 0, fee: int = 0, interest: int = 0) -> Event:
    charges = {"penalty_minor": penalty, "fee_minor": fee, "interest_minor": interest}
    return builders.charges_accrued(**charges, occurred_at=builders.OPENED_AT)


@pytest.mark.parametrize("event", [received(1), returned(1), bought(1)])
def test_e13_anything_of_an_unknown_account_is_parked(event: Event) -> None:
    decision = after(event)
    assert (decision.state, decision.outcome, decision.reason) == (NEW, "parked", Reason.ACCOUNT_UNKNOWN)
    assert not decision.events


def test_an_account_is_opened_once() -> None:
    assert after(OPENED).wakes
    assert after(OPENED, builders.account_opened(product="other")).reason == "opened_before"


def test_an_account_of_an_unknown_product_is_malformed() -> None:
    with pytest.raises(Malformed, match="unknown_product:other"):
        after(builders.account_opened(product="other"))


@pytest.mark.parametrize(
    ("steps", "status", "reason"),
    [
        (["pending"], "waiting", ""),
        (["pending", "succeeded"], "settled", ""),
        (["pending", "failed"], "rejected", Reason.REPORTED_FAILED),
        (["pending", "return"], "rejected", Reason.RETURNED_FIRST),
        (["failed"], "rejected", Reason.REPORTED_FAILED),
        (["failed", "succeeded"], "rejected", "already_rejected"),
        (["failed", "return"], "rejected", "already_rejected"),
        (["succeeded"], "settled", ""),
        (["succeeded", "pending"], "settled", "already_settled"),
        (["succeeded", "failed"], "settled", "already_settled"),
        (["succeeded", "succeeded"], "settled", "already_settled"),
        (["succeeded", "return"], "returned", ""),
        (["succeeded", "return", "return"], "returned", "already_returned"),
        (["succeeded", "return", "succeeded"], "returned", "already_returned"),
        (["return"], "returned_first", "waits_for_its_report"),
        (["return", "return"], "returned_first", "already_returned_first"),
        (["return", "succeeded"], "rejected", Reason.RETURNED_FIRST),
        (["return", "pending"], "rejected", Reason.RETURNED_FIRST),
    ],
)
def test_e04_e12_the_money_lane_never_goes_back(steps: list[str], status: str, reason: str) -> None:
    events = [returned(100) if step == "return" else received(100, status=step) for step in steps]
    decision = after(OPENED, bought(500), *events)
    assert decision.state.repayments["r1"].status == status
    assert decision.reason == reason
    assert (decision.outcome == "stale") is reason.startswith("already_")
    assert debt(decision.state) == {"principal": 400 if status == "settled" else 500}


def test_a_pending_repayment_moves_no_debt_and_tells_nothing() -> None:
    assert after(OPENED, bought(500), received(100, status="pending")).events == ()


def test_a_rejected_repayment_tells_the_next_attempt() -> None:
    again = FRIDAY + timedelta(days=1)
    facts = after(OPENED, received(100, status="failed", next_attempt_at=again)).events
    assert only(facts, RepaymentRejected).next_attempt_at == again


@pytest.mark.parametrize(
    ("rail", "finality", "final_on"),
    [
        ("wallet", "final", date(2026, 11, 20)),
        ("direct_debit", "provisional", date(2027, 1, 19)),
        ("carrier_pigeon", "provisional", date(2027, 1, 19)),
    ],
)
def test_final_is_a_date_and_an_unlisted_rail_may_take_back_as_long_as_a_reversible_one(
    rail: str, finality: str, final_on: date
) -> None:
    settled = only(after(OPENED, bought(500), received(100, rail=rail)).events, RepaymentSettled)
    assert (settled.finality, settled.final_on) == (finality, final_on)
    back = after(OPENED, bought(500), received(100, rail=rail), returned(100))
    assert only(back.events, RepaymentReturned).finality == finality


@pytest.mark.parametrize(("day", "late"), [("2027-01-19", False), ("2027-01-20", True)])
def test_a_return_is_after_final_from_the_local_day_after_final_on(day: str, *, late: bool) -> None:
    state = after(OPENED, bought(500), received(100)).state
    decision = decide(POLICY, state, returned(100), moment(china(day, "00:30")))
    assert only(decision.events, RepaymentReturned).after_final is late


def test_a_return_undoes_the_allocation_and_tells_it() -> None:
    decision = after(OPENED, bought(500), charged(10, 20, 30), received(600), returned(600))
    fact = only(decision.events, RepaymentReturned)
    assert fact.allocation == Allocation(penalty_minor=10, fee_minor=20, interest_minor=30, principal_minor=500)
    assert (fact.restorable_minor, fact.credit_balance_minor) == (500, 40)
    assert debt(decision.state) == {"penalty": 10, "fee": 20, "interest": 30, "principal": 500}


def test_a_returned_overpayment_already_used_becomes_debt() -> None:
    decision = after(OPENED, received(100), bought(70), returned(100))
    assert debt(decision.state) == {"principal": 70}


def test_a_returned_repayment_leaves_debt_that_another_ones_credit_balance_pays_at_once() -> None:
    events = [OPENED, bought(300), received(300, "a"), received(100, "b")]
    assert debt(after(*events).state) == {"credit_balance": 100}
    assert debt(after(*events, returned(300, "a")).state) == {"principal": 200}
    assert debt(after(*events, returned(300, "a"), returned(100, "b")).state) == {"principal": 300}


@pytest.mark.parametrize(
    ("events", "owed"),
    [
        ([bought(500)], {"principal": 500}),
        ([bought(500), refunded(200)], {"principal": 300}),
        ([bought(500), refunded(700)], {"credit_balance": 200}),
        ([charged(1, 2, 3)], {"penalty": 1, "fee": 2, "interest": 3}),
        ([charged(1, 2, 3), charged(0, -2, -1)], {"penalty": 1, "interest": 2}),
        ([bought(500), charged(fee=20), received(20), charged(fee=-20)], {"principal": 480}),
        ([received(100), charged(fee=30)], {"credit_balance": 70}),
        ([received(100), bought(130)], {"principal": 30}),
        ([received(100), builders.credit_balance_refunded(amount_minor=60)], {"credit_balance": 40}),
        ([received(100), builders.credit_balance_refunded(amount_minor=160)], {"principal": 60}),
        ([builders.statement_issued()], {}),
    ],
)
def test_the_debt_ledger_follows_billing(events: list[Event], owed: dict[str, int]) -> None:
    assert debt(after(OPENED, *events).state) == owed


@pytest.mark.parametrize(
    "event",
    [
        builders.purchase_posted(currency="USD"),
        builders.purchase_refunded(currency="USD"),
        builders.charges_accrued(currency="USD"),
    ],
)
def test_r26_billings_own_events_in_another_currency_are_malformed(event: Event) -> None:
    with pytest.raises(Malformed, match=r"^currency_mismatch$"):
        after(OPENED, event)


def test_what_does_not_concern_the_debt_is_ignored() -> None:
    assert after(OPENED, builders.account_status_changed()).outcome == "ignored"


def test_e04_e12_the_database_lets_a_lane_move_where_the_table_does() -> None:
    """A row is written first in any status it may begin with; the trigger sees only what changes it later."""
    migration = Path(settlement.__file__).parent / "migrations" / "001_debt.sql"
    guard = re.search(r"NOT IN\s*\((.*?)\) THEN", migration.read_text(), re.DOTALL)
    assert guard is not None
    allowed = set(re.findall(r"\('(\w+)', '(\w+)'\)", guard.group(1)))
    assert allowed == {(start, end) for (start, _), end in LANE.items() if start != "new"}


def test_every_end_of_the_money_lane_is_an_end() -> None:
    assert {end for _, end in LANE.items()} - {start for start, _ in LANE} == {"rejected", "returned"}


def test_what_billing_does_not_tell_has_no_name_that_counts_once() -> None:
    assert ref_of(OPENED) == ""
    assert ref_of(builders.purchase_posted(purchase_id="p1")) == "purchase:p1"


def test_a_rail_says_how_long_a_repayment_may_wait_for_it() -> None:
    slow = profiles({"rails.direct_debit.case_after_hours": 48})
    pending = builders.repayment_received(status="pending", rail="direct_debit")
    state = decide(slow, NEW, OPENED, moment(FRIDAY)).state
    (timer,) = decide(slow, state, pending, moment(FRIDAY)).timers
    assert (timer.kind, timer.number, timer.due_at) == ("rail_waits", 48, FRIDAY + timedelta(hours=48))
