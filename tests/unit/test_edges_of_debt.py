"""settlement: what one changed number or word in its rules would change, where no story of another test shows it."""

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from schemas.event import Event
from schemas.ids import EventId, RepaymentId, event_id
from schemas.reasons import Reason
from schemas.settlement import Allocation, Owed, Part, Reallocation
from services.decision import Decision, Malformed, Timer, TimerFired
from services.settlement import facts
from services.settlement.domain import decide, value_at
from services.settlement.model import Account, Books, Debt, Entry, Latest, Repayment
from services.settlement.replay import FOLD_STEP, HistoryMissing, Replayed, key_of, trimmed
from tests import builders
from tests.unit.debts import Ledger
from tests.unit.given import FRIDAY, china, moment, profile, profiles, said

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


@pytest.mark.parametrize(
    ("rail", "finality", "basis", "owed"),
    [("wallet", "final", "PRINCIPAL", 73), ("direct_debit", "provisional", "TOTAL", 78)],
)
def test_a_settlement_says_of_its_report_and_of_the_books_what_they_say(
    rail: str, finality: str, basis: str, owed: int
) -> None:
    report = builders.repayment_received(repayment_id="r1", amount_minor=250, rail=rail, repaid_at=FRIDAY, trail=())
    books = Books((Debt("past_due", "principal", 70), Debt("past_due", "fee", 5), Debt("due", "principal", 3)))
    state = Account(builders.ACCOUNT, product="default", repayments={"r1": PAID}, books=books, read_to="b1", told=4)
    told = facts.settled(
        profile({"limit_basis": basis}),
        report,
        NOW,
        days=(DAY, DAY + timedelta(days=9)),
        doubles="r0",
        done=Replayed(state, MOVED, 7, -5, 4),
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
        "final_on": DAY + timedelta(days=9), "parts": PARTS,
        "policy_version": profile({"limit_basis": basis}).policy_version,
        "doubles": "r0", "reallocated": MOVED, "past_due_minor": 75, "owed_minor": owed, "principal_instead_minor": 7,
        "cash_moved_minor": -5, "principal_beyond_minor": 4, "owed": Owed(4, EventId("b1"), 73, 5, 0),
    }  # fmt: skip


def test_a_return_says_of_its_report_and_of_the_books_what_they_say() -> None:
    report = builders.return_received(repayment_id="r1", amount_minor=250, fault="issuer")
    owed = Books((Debt("due", "fee", 7), Debt("due", "principal", 900)))
    base = Books((Debt("due", "interest", 2), Debt("due", "principal", 800)))
    accrued = {
        ref: Entry(ref, "charges", FRIDAY, DAY, amounts) for ref, amounts in (("a", (0, 30, 9)), ("b", (-3, 0, 0)))
    }
    bought = {"c": Entry("c", "purchase", FRIDAY, DAY, (500,))}
    other = replace(PAID, repayment_id="r2", portions=(Debt("due", "fee", 5), Debt("due", "principal", 60)))
    entries = {**accrued, **bought}
    after = Account("a", books=owed, base=base, entries=entries, repayments={"r2": other}, read_to="b1", told=4)
    told = facts.returned(PAID, report, NOW, after_final=True, done=Replayed(after, MOVED, 7, -5))
    assert said(told) == {
        "event_id": event_id("RepaymentReturned", "r1"), "account_id": builders.ACCOUNT, "occurred_at": NOW.now,
        "caused_by": report.event_id, "repayment_id": "r1", "amount_minor": 250, "currency": "CNY", "code": "R01",
        "return_class": Reason.RETURNED_INSUFFICIENT_FUNDS, "fault": "issuer", "after_final": True,
        "finality": "final", "charges_owed_minor": 7, "charges_settled_minor": 2 + 30 + 9 - 3 - 5 - 7,
        "allocation": Allocation(penalty_minor=10, fee_minor=30, interest_minor=20, principal_minor=150),
        "parts": PARTS[::-1], "restorable_minor": 150, "credit_balance_minor": 40, "reallocated": MOVED,
        "principal_instead_minor": 7, "cash_moved_minor": -5, "owed": Owed(4, EventId("b1"), 900, 7, 0),
    }  # fmt: skip


def test_what_is_rejected_moved_or_waits_is_told_with_its_cause() -> None:
    again = FRIDAY + timedelta(days=1)
    report = builders.repayment_received(repayment_id="r1", next_attempt_at=again)
    assert said(facts.rejected(report, NOW, Reason.REPORTED_FAILED)) == {
        "event_id": event_id("RepaymentRejected", "r1"), "account_id": builders.ACCOUNT, "occurred_at": NOW.now,
        "caused_by": report.event_id, "repayment_id": "r1", "reason": Reason.REPORTED_FAILED, "next_attempt_at": again,
    }  # fmt: skip
    charge, moved = builders.charges_accrued(), Account("a", books=Books(credit_balance_minor=9), told=4)
    for told, refund in ((charge, None), (builders.purchase_refunded(refund_id="f1"), "f1")):
        assert said(facts.reallocated(told, NOW, Replayed(moved, MOVED, 7, -5, 4))) == {
            "event_id": event_id("RepaymentsReallocated", told.event_id), "account_id": builders.ACCOUNT,
            "occurred_at": NOW.now, "caused_by": told.event_id, "reallocated": MOVED, "principal_instead_minor": 7,
            "cash_moved_minor": -5, "principal_beyond_minor": 4, "refund_id": refund, "owed": Owed(4, None, 0, 0, 9),
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
    assert told[0] == (Part("due", "principal", "p0", 2) if found > 1 else Part("due", "principal", None, 2 * plans))


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


def heard(*events: Event, state: Account | None = None) -> Decision[Account]:
    """Hear billing's events of FRIDAY one after the other."""
    decision = Decision(state or Account(builders.ACCOUNT))
    for event in events:
        decision = decide(profiles(), decision.state, event, moment(FRIDAY))
    return decision


OPENED = builders.account_opened()
BOUGHT = builders.purchase_posted(amount_minor=500)


@pytest.mark.parametrize(("event", "reason"), [(OPENED, "opened_before"), (BOUGHT, "booked_before")])
def test_e02_what_was_told_before_changes_nothing_and_says_so(event: Event, reason: str) -> None:
    once = heard(OPENED, BOUGHT).state
    again = heard(event, state=once)
    assert (again.state, again.outcome, again.reason) == (once, "stale", reason)


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (builders.repayment_received(repayment_id="r1", amount_minor=70, status="pending"), "waiting"),
        (builders.repayment_received(repayment_id="r1", amount_minor=70, status="failed"), "rejected"),
        (builders.return_received(repayment_id="r1", amount_minor=70), "returned_first"),
    ],
)
def test_what_moves_no_debt_is_kept_with_its_amount(event: Event, status: Any) -> None:
    assert heard(OPENED, event).state.repayments == {"r1": Repayment("r1", status, 70)}


def test_the_day_a_statement_is_due_is_over_at_the_next_midnight_of_the_products_zone() -> None:
    statement = builders.statement_issued(due_on=date(2026, 11, 20), occurred_at=FRIDAY)
    day, midnight = date(2026, 11, 21).toordinal(), china("2026-11-21", "00:00")
    due = Timer(builders.ACCOUNT, "due_day_over", builders.ACCOUNT, day, midnight)
    assert heard(OPENED, statement).timers == (due,)


def test_a_fact_a_day_ahead_is_taken_and_one_further_ahead_is_malformed() -> None:
    at = FRIDAY + timedelta(days=1)
    assert heard(OPENED, builders.purchase_posted(occurred_at=at)).outcome == "applied"
    with pytest.raises(Malformed, match="occurred_in_the_future"):
        heard(OPENED, builders.purchase_posted(occurred_at=at + timedelta(milliseconds=1)))


def test_every_fact_is_counted_once_wherever_it_falls_and_the_latest_repayment_is_known() -> None:
    first = builders.repayment_received(repayment_id="r1", amount_minor=30, repaid_at=FRIDAY - timedelta(hours=2))
    last = builders.repayment_received(repayment_id="r2", amount_minor=20, repaid_at=FRIDAY - timedelta(hours=1))
    state = heard(OPENED, BOUGHT, last).state
    assert (state.kept, state.latest) == (2, Latest("r2", "auto", FRIDAY - timedelta(hours=1)))
    state = heard(first, builders.charges_accrued(occurred_at=builders.OPENED_AT), state=state).state
    assert (state.kept, state.latest) == (4, Latest("r2", "auto", FRIDAY - timedelta(hours=1)))
    state = heard(builders.return_received(repayment_id="r2", amount_minor=20), state=state).state
    assert (state.kept, state.latest) == (3, Latest("r1", "auto", FRIDAY - timedelta(hours=2)))
    with pytest.raises(HistoryMissing, match=builders.ACCOUNT):
        heard(builders.return_received(repayment_id="r1", amount_minor=30), state=replace(state, complete=False))


def test_an_instalment_says_which_of_how_many_it_is() -> None:
    parts = builders.purchase_posted(amount_minor=30, instalments_minor=(10, 10, 10))
    debts = heard(OPENED, parts).state.books.debts
    assert sorted((debt.number, debt.of, debt.amount_minor) for debt in debts) == [(1, 3, 10), (2, 3, 10), (3, 3, 10)]


@pytest.mark.parametrize(("fee", "rank"), [(5, 1), (0, 1), (-1, 2)])
def test_r24_a_correction_comes_after_the_charges_of_its_instant(fee: int, rank: int) -> None:
    assert key_of(Entry("c", "charges", FRIDAY, DAY, (0, fee, 0))) == (FRIDAY, rank, "c")
    assert key_of(Entry("p", "purchase", FRIDAY, DAY, (-1,))) == (FRIDAY, 0, "p")


def test_what_is_folded_is_folded_again_only_after_as_many_facts_more() -> None:
    old = builders.purchase_posted(purchase_id="old", occurred_at=FRIDAY - timedelta(days=60), amount_minor=5)
    state = heard(OPENED, state=replace(Account(builders.ACCOUNT), fold_at=2)).state
    state = heard(old, builders.purchase_posted(purchase_id="new", occurred_at=FRIDAY), state=state).state
    assert (state.kept, state.fold_at, state.base.owed()) == (1, 1 + FOLD_STEP, 5)
    assert {ref: entry.folded for ref, entry in state.entries.items()} == {"purchase:old": True, "purchase:new": False}


@pytest.mark.parametrize("first", ["the timer", "the repayment"])
def test_e18_the_end_of_a_due_day_refuses_no_repayment_and_the_order_of_both_makes_no_difference(first: str) -> None:
    ledger = Ledger()
    ledger.buy(china("2026-11-01"), 50_000)
    ledger.statement(china("2026-11-02"), 50_000, 50_000, "2026-11-20")
    midnight = china("2026-11-21", "00:00")
    if first == "the timer":
        assert [done.outcome for done in ledger.fire_until(midnight)] == ["applied"]
    fact = ledger.repay(china("2026-11-20", "23:59:59"), 30_000)
    ledger.fire_until(midnight)
    assert (fact.restorable_minor, fact.credited_on) == (30_000, date(2026, 11, 20))
    assert ledger.owed() == {("past_due", "principal"): 20_000}


def test_a_day_is_over_once_though_another_statement_is_due_on_the_day_after_it() -> None:
    first = builders.statement_issued(due_on=DAY, occurred_at=FRIDAY)
    second = builders.statement_issued(due_on=DAY + timedelta(days=1), occurred_at=FRIDAY)
    (due,) = heard(OPENED, first).timers
    over, now = TimerFired(builders.ACCOUNT, due), moment(due.due_at)
    once = decide(profiles(), heard(OPENED, BOUGHT, first, second).state, over, now)
    assert (once.outcome, once.state.kept) == ("applied", 3), "a day that is over is no fact of its own"
    again = decide(profiles(), once.state, over, now)
    assert (again.state, again.outcome, again.reason) == (once.state, "stale", "over_before")


def test_what_waits_for_its_account_and_is_no_repayment_asks_for_no_timer() -> None:
    parked = heard(BOUGHT)
    assert (parked.outcome, parked.reason, parked.timers) == ("parked", Reason.ACCOUNT_UNKNOWN, ())


def old_one(final_on: date) -> Account:
    """Return an account with one repayment that lies 60 days back."""
    at = FRIDAY - timedelta(days=60)
    paid = Repayment("old", "settled", 5, "auto", at, DAY - timedelta(days=60), final_on)
    return Account(builders.ACCOUNT, kept=1, fold_at=1, last_at=FRIDAY, repayments={"old": paid})


@pytest.mark.parametrize(("ago", "folded"), [(0, False), (1, True)])
def test_a_repayment_may_be_returned_on_its_last_day_and_is_folded_after_it(ago: int, *, folded: bool) -> None:
    kept = trimmed(profile(), old_one(DAY - timedelta(days=ago)), DAY)
    assert kept.repayments["old"].folded is folded


def test_an_account_whose_history_was_not_brought_is_not_folded() -> None:
    short = replace(old_one(DAY - timedelta(days=1)), complete=False)
    assert trimmed(profile(), short, DAY) is short


def test_r24_a_folded_repayment_that_is_returned_is_paid_by_the_credit_balance_of_another() -> None:
    def paid(ref: str, amount: int, hours: int) -> Event:
        at = FRIDAY + timedelta(hours=hours)
        return builders.repayment_received(repayment_id=ref, amount_minor=amount, rail="wallet", repaid_at=at)

    state = heard(OPENED, BOUGHT, paid("old", 500, 1), paid("more", 300, 2)).state
    repayments = {ref: replace(one, folded=True) for ref, one in state.repayments.items()}
    entries = {ref: replace(entry, folded=True) for ref, entry in state.entries.items()}
    state = replace(state, base=state.books, repayments=repayments, entries=entries)
    after = heard(builders.return_received(repayment_id="old", amount_minor=500), state=state).state
    assert (after.books.owed("principal"), after.books.credit_balance_minor) == (200, 0)
