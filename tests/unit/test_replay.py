"""Facts in value order: R10 to R13 and R24 with the figures of the rule book, and that news may come in any order."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.event import Event
from schemas.settlement import Allocation, RepaymentReturned, RepaymentSettled, RepaymentsReallocated, SettlementDelayed
from services.decision import Input, TimerFired
from services.policy import Profiles
from services.settlement.domain import decide
from services.settlement.model import UNCOVERED, Account, Books
from services.settlement.replay import FOLD_STEP, KEPT_MAX, HistoryMissing
from services.settlement.store import Pressing, refs_of, repayment_of
from tests import builders
from tests.unit.debts import Ledger, in_state, lanes, plans, told_of
from tests.unit.given import all_of, china, moment, only, profiles

OCTOBER, NOVEMBER = china("2026-10-01"), china("2026-11-01")
DAY = timedelta(days=1)


def r2() -> Ledger:
    """Make R2's account and repay 100000: F 3000, I 12000, P 85000."""
    ledger = Ledger()
    ledger.buy(OCTOBER, 800_000)
    ledger.charge(OCTOBER, fee=3_000, interest=12_000)
    fact = ledger.repay(NOVEMBER, 100_000)
    assert fact.allocation == Allocation(fee_minor=3_000, interest_minor=12_000, principal_minor=85_000)
    return ledger


def test_r24_a_repayment_returned_alone_is_undone_in_mirror_order() -> None:
    ledger = r2()
    fact = ledger.give_back(NOVEMBER + DAY, 100_000)
    assert [(part.component, part.amount_minor) for part in fact.parts] == [
        ("principal", 85_000),
        ("interest", 12_000),
        ("fee", 3_000),
    ]
    assert fact.reallocated == ()
    assert ledger.owed() == {
        ("in_advance", "fee"): 3_000,
        ("in_advance", "interest"): 12_000,
        ("in_advance", "principal"): 800_000,
    }


def test_r24_a_later_repayment_is_replayed_and_told_as_one_net_change() -> None:
    ledger = r2()
    ledger.repay(NOVEMBER + DAY, 50_000, "r2")
    assert ledger.owed() == {("in_advance", "principal"): 665_000}
    fact = ledger.give_back(NOVEMBER + 2 * DAY, 100_000)
    assert fact.reallocated == (("r2", -15_000, 0),)
    assert fact.restorable_minor == 85_000
    assert ledger.owed() == {("in_advance", "principal"): 765_000}
    assert in_state(ledger.state) == {"r2": (35_000, 0)}
    portions = [(portion.component, portion.amount_minor) for portion in ledger.state.repayments["r2"].portions]
    assert portions == [("fee", 3_000), ("interest", 12_000), ("principal", 35_000)]


def test_r24_a_late_report_with_an_earlier_value_date_replays_the_same_way() -> None:
    ledger = Ledger()
    ledger.buy(OCTOBER, 800_000)
    ledger.charge(OCTOBER, fee=3_000, interest=12_000)
    ledger.repay(NOVEMBER + DAY, 50_000, "r2")
    assert in_state(ledger.state) == {"r2": (35_000, 0)}
    fact = ledger.repay(NOVEMBER, 100_000, "r1", now=NOVEMBER + 2 * DAY)
    assert (fact.restorable_minor, fact.reallocated) == (85_000, (("r2", 15_000, 0),))
    assert ledger.owed() == {("in_advance", "principal"): 665_000}


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("b", "a")])
def test_r24_one_instant_is_ordered_by_the_id_of_the_repayment(first: str, second: str) -> None:
    ledger = Ledger()
    ledger.buy(OCTOBER, 800)
    ledger.charge(OCTOBER, fee=100)
    ledger.repay(NOVEMBER, 100, first)
    ledger.repay(NOVEMBER, 100, second)
    assert in_state(ledger.state) == {"a": (0, 0), "b": (100, 0)}
    assert told_of(ledger.events) == in_state(ledger.state)


def test_r24_a_charge_heard_late_changes_what_a_repayment_paid_and_says_so() -> None:
    ledger = Ledger()
    ledger.buy(OCTOBER, 800_000)
    ledger.repay(NOVEMBER, 50_000)
    late = builders.charges_accrued(penalty_minor=0, fee_minor=3_000, interest_minor=12_000, occurred_at=OCTOBER + DAY)
    told = only(ledger.take(late, NOVEMBER + DAY).events, RepaymentsReallocated)
    assert (told.reallocated, told.caused_by) == ((("r1", -15_000, 0),), late.event_id)
    assert ledger.owed() == {("in_advance", "principal"): 765_000}


@pytest.mark.parametrize("first", ["purchase", "refund"])
def test_e16_a_refund_dated_before_its_purchase_does_the_same_whichever_is_heard_first(first: str) -> None:
    ledger = Ledger()
    ledger.buy(OCTOBER, 500, "p0")
    ledger.charge(OCTOBER, fee=50)

    def bought() -> None:
        ledger.buy(NOVEMBER + DAY, 45, "p1", plan="cash")

    if first == "purchase":
        bought()
    ledger.refund(NOVEMBER, 200, "p1")
    if first == "refund":
        bought()
    assert plans(ledger) == {"purchase": 300, "cash": 45, "": 50}


def test_r24_a_charge_heard_in_order_changes_nothing_that_was_paid() -> None:
    ledger = r2()
    assert ledger.charge(NOVEMBER + DAY, fee=500).events == ()
    assert in_state(ledger.state) == {"r1": (85_000, 0)}


def test_r13_e07_the_refund_chain() -> None:
    ledger = Ledger()
    ledger.buy(OCTOBER, 9_000)
    ledger.repay(OCTOBER + DAY, 200, "r1")
    fact = ledger.repay(OCTOBER + 2 * DAY, 9_100, "r2")
    assert (fact.restorable_minor, fact.credit_balance_minor) == (8_800, 300)
    paid_out = builders.credit_balance_refunded(amount_minor=300, occurred_at=OCTOBER + 3 * DAY)
    ledger.take(paid_out, OCTOBER + 3 * DAY)
    assert ledger.owed() == {}
    returned = ledger.give_back(NOVEMBER, 200, "r1")
    assert returned.reallocated == (("r2", 200, -200),)
    assert (ledger.state.principal_minor, ledger.state.credit_balance_minor) == (200, 0)
    assert plans(ledger) == {UNCOVERED: 200}
    assert in_state(ledger.state) == {"r2": (9_000, 100)}


def test_e01_e02_a_return_counts_once_and_the_books_stay_as_after_the_first() -> None:
    ledger = r2()
    ledger.give_back(NOVEMBER + DAY, 100_000)
    books = ledger.state.books
    for n in (1, 2):
        again = ledger.take(builders.return_received(repayment_id="r1", event_id=f"again-{n}"), NOVEMBER + 2 * DAY)
        assert (again.outcome, again.reason, again.events) == ("stale", "already_returned", ())
    assert ledger.state.books == books


def test_e08_a_return_is_never_refused_once_everything_is_paid() -> None:
    ledger = Ledger()
    ledger.buy(OCTOBER, 900)
    ledger.repay(OCTOBER + DAY, 500, "r1")
    ledger.repay(OCTOBER + 2 * DAY, 400, "r2")
    assert ledger.owed() == {}
    fact = ledger.give_back(NOVEMBER + 400 * DAY, 500, "r1")
    assert fact.after_final
    assert ledger.owed() == {("in_advance", "principal"): 500}


def test_e20_the_issuers_own_error_is_carried_as_such() -> None:
    ledger = r2()
    assert ledger.give_back(NOVEMBER + DAY, 100_000, fault="issuer").fault == "issuer"


def test_e26_a_back_dated_repayment_tells_one_event_for_all_it_moves() -> None:
    ledger = Ledger()
    ledger.buy(OCTOBER, 10_000)
    ledger.charge(OCTOBER, fee=250)
    for n in range(20):
        ledger.repay(NOVEMBER + n * DAY, 10, f"r{n:02}")
    before = len(ledger.events)
    ledger.repay(OCTOBER + DAY, 250, "early", now=NOVEMBER + 30 * DAY)
    (told,) = ledger.events[before:]
    assert len(only([told], RepaymentSettled).reallocated) == 20
    assert told_of(ledger.events) == in_state(ledger.state)


@pytest.mark.parametrize(
    ("first", "second", "doubles"), [("manual", "auto", "r1"), ("auto", "manual", "r1"), ("auto", "auto", None)]
)
def test_r11_e24_a_second_full_repayment_by_the_other_method_names_the_first(
    first: str, second: str, doubles: str | None
) -> None:
    ledger = Ledger()
    ledger.buy(OCTOBER, 50_000)
    ledger.repay(china("2026-11-20", "10:00"), 50_000, "r1", method=first)
    fact = ledger.repay(china("2026-11-20", "23:00"), 50_000, "r2", method=second)
    assert (fact.restorable_minor, fact.credit_balance_minor) == (0, 50_000)
    assert fact.doubles == doubles


def test_r11_heard_in_the_other_order_the_later_one_is_still_the_credit_balance() -> None:
    ledger = Ledger()
    ledger.buy(OCTOBER, 50_000)
    ledger.repay(china("2026-11-20", "23:00"), 50_000, "auto", method="auto")
    fact = ledger.repay(china("2026-11-20", "10:00"), 50_000, "manual", method="manual", now=china("2026-11-21"))
    assert (fact.restorable_minor, fact.doubles) == (50_000, "auto")
    assert fact.reallocated == (("auto", -50_000, 50_000),)


@pytest.mark.parametrize(("days", "doubles"), [(3, "r1"), (3.01, None)])
def test_r11_two_repayments_far_apart_or_of_what_is_owed_do_not_double(days: float, doubles: str | None) -> None:
    ledger = Ledger()
    ledger.buy(OCTOBER, 50_000)
    assert ledger.repay(NOVEMBER, 40_000, "r1", method="manual").doubles is None
    assert ledger.repay(NOVEMBER + days * DAY, 20_000, "r2", method="auto").doubles == doubles


# ---- waits that a person should see ------------------------------------------------------------------------------


def test_a_rail_that_says_nothing_for_its_hours_is_told_once() -> None:
    ledger = Ledger()
    ledger.repay(NOVEMBER, 100, status="pending", rail="carrier_pigeon", now=NOVEMBER)
    (decision,) = ledger.fire_until(NOVEMBER + DAY)
    told = only(decision.events, SettlementDelayed)
    assert (told.repayment_id, told.waits_for, told.since) == ("r1", "rail", NOVEMBER)
    assert ledger.state.repayments["r1"].status == "waiting"
    assert not ledger.timers


@pytest.mark.parametrize("status", ["succeeded", "failed"])
def test_a_rail_that_spoke_in_time_is_not_told(status: str) -> None:
    ledger = Ledger()
    ledger.repay(NOVEMBER, 100, status="pending", now=NOVEMBER)
    ledger.repay(NOVEMBER, 100, status=status, now=NOVEMBER + DAY / 2)
    (decision,) = ledger.fire_until(NOVEMBER + DAY)
    assert (decision.outcome, decision.reason, decision.events) == ("stale", "over_before", ())


def test_r12_a_return_without_its_report_for_24_hours_is_told_and_still_kept() -> None:
    ledger = Ledger()
    assert ledger.give_back(NOVEMBER, 100) is None
    (decision,) = ledger.fire_until(NOVEMBER + DAY)
    told = only(decision.events, SettlementDelayed)
    assert (told.waits_for, told.since) == ("report", NOVEMBER)
    rejected = ledger.repay(OCTOBER, 100, now=NOVEMBER + 2 * DAY)
    assert rejected.reason == "RETURNED_FIRST"
    assert ledger.owed() == {}


@pytest.mark.parametrize("opens", [False, True])
def test_e13_what_waits_for_its_account_for_24_hours_is_told(*, opens: bool) -> None:
    unknown = Account(builders.ACCOUNT)
    report = builders.repayment_received()
    parked = decide(profiles(), unknown, report, moment(NOVEMBER))
    (timer,) = parked.timers
    assert (parked.outcome, timer.due_at) == ("parked", NOVEMBER + DAY)
    state = decide(profiles(), unknown, builders.account_opened(), moment(NOVEMBER)).state if opens else unknown
    fired = decide(profiles(), state, TimerFired(builders.ACCOUNT, timer), moment(NOVEMBER + DAY))
    told = [(event.waits_for, event.repayment_id) for event in all_of(fired.events, SettlementDelayed)]
    assert told == ([] if opens else [("account", builders.REPAYMENT)])


# ---- history is bounded ------------------------------------------------------------------------------------------


def test_what_nothing_can_reach_any_more_is_folded_and_a_return_of_it_undoes_what_it_took() -> None:
    ledger = Ledger()
    ledger.buy(OCTOBER, 50_000)
    ledger.charge(OCTOBER, fee=40)
    ledger.repay(OCTOBER + DAY, 100, "old")
    for n in range(FOLD_STEP):
        ledger.charge(OCTOBER + 40 * DAY + timedelta(minutes=n), interest=1)
    assert ledger.state.repayments["old"].folded
    assert ledger.state.kept == FOLD_STEP, "what may still come late is replayable"
    assert ledger.state.base.owed("principal") == 50_000 - 60
    fact = ledger.give_back(NOVEMBER + 60 * DAY, 100, "old")
    assert fact.after_final
    assert ledger.state.fee_minor == 40
    assert ledger.state.principal_minor == 50_000


def test_history_is_kept_back_to_the_oldest_returnable_repayment() -> None:
    ledger = Ledger()
    ledger.buy(OCTOBER, 50_000)
    ledger.charge(OCTOBER, fee=40)
    ledger.repay(OCTOBER + DAY, 100, "old", rail="direct_debit")
    for n in range(FOLD_STEP):
        ledger.charge(OCTOBER + 40 * DAY + timedelta(minutes=n), interest=1)
    assert not ledger.state.repayments["old"].folded
    assert ledger.state.kept == FOLD_STEP + 1, "the purchase and the fee before it are folded"
    ledger.repay(OCTOBER + 41 * DAY, 1_000, "new")
    assert ledger.give_back(OCTOBER + 42 * DAY, 100, "old").reallocated == (("new", -40, 0),)


def test_however_many_facts_there_are_a_replay_is_bounded() -> None:
    ledger = Ledger()
    ledger.repay(OCTOBER, 1, "old", rail="direct_debit")
    for n in range(KEPT_MAX + FOLD_STEP + 10):
        ledger.charge(OCTOBER + timedelta(minutes=1 + n), interest=1)
        assert ledger.state.kept <= KEPT_MAX + FOLD_STEP
    assert ledger.state.repayments["old"].folded
    assert ledger.state.interest_minor == KEPT_MAX + FOLD_STEP + 9


def test_a_late_fact_without_its_history_is_our_own_defect_and_moves_nothing() -> None:
    ledger = r2()
    ledger.state = replace(ledger.state, complete=False)
    with pytest.raises(HistoryMissing):
        ledger.repay(OCTOBER, 100, "late", now=NOVEMBER + DAY)


# ---- any order, any cut ------------------------------------------------------------------------------------------

START = china("2026-09-01")
Fact = tuple[str, int, int, int]
KINDS = ("buy", "cash", "parts", "charge", "correct", "refund", "pay_out", "statement", "repay", "repay", "repay")
FACTS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 60), st.integers(1, 400), st.integers(0, 3)), max_size=12
)
POLICIES = [
    profiles(),
    profiles({"limit_basis": "TOTAL", "waterfall.lead": "component", "waterfall.refund": "oldest_due"}),
    profiles({"waterfall.principal": "highest_apr"}),
]


def news_of(facts: Sequence[Fact]) -> list[Event]:
    """Return the events of facts drawn as (kind, day, amount, choice); one in four repayments is returned."""
    news: list[Event] = []
    for n, (kind, day, amount, choice) in enumerate(facts):
        at = START + day * DAY + timedelta(hours=3 * choice)
        common: dict[str, Any] = {"event_id": f"e{n}", "occurred_at": at}
        charges = dict.fromkeys(("penalty_minor", "fee_minor", "interest_minor"), 0)
        match kind:
            case "buy" | "cash":
                plan = "purchase" if kind == "buy" else "cash"
                bought = {"purchase_id": f"p{n}", "amount_minor": amount, "plan": plan, "apr_bps": 100 * choice}
                news.append(builders.purchase_posted(**common, **bought))
            case "parts":
                bought = {"purchase_id": f"p{n}", "amount_minor": 3 * amount, "instalments_minor": (amount,) * 3}
                news.append(builders.purchase_posted(**common, **bought))
            case "charge" | "correct":
                name = ("penalty_minor", "fee_minor", "interest_minor", "fee_minor")[choice]
                charges[name] = amount if kind == "charge" else -amount
                news.append(builders.charges_accrued(**common, **charges))
            case "refund":
                of = {"refund_id": f"f{n}", "purchase_id": f"p{choice}", "to_debt_minor": amount}
                news.append(builders.purchase_refunded(**common, **of))
            case "pay_out":
                news.append(builders.credit_balance_refunded(**common, refund_id=f"b{n}", amount_minor=amount))
            case "statement":
                due_on = (at + (5 + 10 * choice) * DAY).date()
                said = {"due_minor": amount, "minimum_minor": amount // 2, "due_on": due_on}
                news.append(builders.statement_issued(**common, **said))
            case _:
                said = {"repayment_id": f"r{n}", "amount_minor": amount, "repaid_at": at}
                said["rail"] = ("wallet", "direct_debit", "card", "wallet")[choice]
                news.append(builders.repayment_received(event_id=f"e{n}", **said))
                if choice == 3:
                    said = {"repayment_id": f"r{n}", "amount_minor": amount}
                    news.append(builders.return_received(event_id=f"back{n}", **said))
    return news


def lived(policy: Profiles, news: Sequence[Event], fires: Sequence[bool] = ()) -> Ledger:
    """Hear the news in its order, timers firing late or in between; at the end every day is over."""
    ledger = Ledger(policy)
    now = START + 70 * DAY
    for n, event in enumerate(news):
        ledger.take(event, now + timedelta(minutes=n))
        if fires and fires[n % len(fires)]:
            ledger.fire_until(now + timedelta(minutes=n))
    ledger.fire_until(now + 400 * DAY)
    return ledger


def owing(state: Account) -> Books:
    """Return the books without their day: a report whose return came first never passed the days before it."""
    return state.books._replace(day=date.min)


@given(FACTS, st.sampled_from(POLICIES), st.lists(st.booleans(), max_size=5), st.data())
def test_e07_e16_any_order_of_news_ends_in_the_same_books(
    facts: list[Fact], policy: Profiles, fires: list[bool], data: st.DataObject
) -> None:
    news = news_of(facts)
    straight = lived(policy, news)
    shuffled = lived(policy, data.draw(st.permutations(news)), fires)
    assert owing(shuffled.state) == owing(straight.state)
    assert lanes(shuffled.state) == lanes(straight.state)


@given(FACTS, st.sampled_from(POLICIES), st.data())
def test_money_is_conserved_and_what_is_told_adds_up_to_the_books(
    facts: list[Fact], policy: Profiles, data: st.DataObject
) -> None:
    news = data.draw(st.permutations(news_of(facts)))
    ledger = lived(policy, news)
    books = ledger.state.books
    assert min((debt.amount_minor for debt in books.debts), default=1) > 0
    assert not (books.credit_balance_minor and books.debts)
    moved = 0
    for entry in ledger.state.entries.values():
        sign = -1 if entry.kind == "refund" else 1
        amounts = {"charges": sum(entry.amounts), "statement": 0}.get(entry.kind, entry.amounts[0])
        moved += sign * amounts
    paid = sum(one.amount_minor for one in ledger.state.repayments.values() if one.status == "settled")
    assert books.owed() - books.credit_balance_minor == moved - paid
    for one in ledger.state.repayments.values():
        if one.status == "settled":
            assert sum(portion.amount_minor for portion in one.portions) + one.credit_balance_minor == one.amount_minor
    assert told_of(ledger.events) == in_state(ledger.state)
    assert len(all_of(ledger.events, RepaymentReturned)) <= len(news)
    for event in ledger.events:
        assert type(event).model_validate_json(event.model_dump_json()) == event


@given(FACTS, st.sampled_from(POLICIES))
def test_e12_twice_is_once(facts: list[Fact], policy: Profiles) -> None:
    news = news_of(facts)
    twice = [event for event in news for _ in (1, 2)]
    assert lived(policy, twice).state == lived(policy, news).state


@dataclass
class Shelf:
    """Keeps an account as the store does: a batch is given what its inputs name, and the history where one is late."""

    kept: Account

    def late(self, inputs: Sequence[Input]) -> bool:
        """Ask what the SELECT of READS asks; test_stores.py holds it to the database."""
        pressing = Pressing()
        for event in inputs:
            pressing.add(event)
        last_at, first_at = self.kept.last_at, pressing.first_at
        early = first_at is not None and last_at is not None and first_at <= last_at
        return pressing.late or early or self.kept.kept + pressing.facts >= self.kept.fold_at

    def load(self, inputs: Sequence[Input]) -> Account:
        whole = self.late(inputs)
        named = {repayment_of(event) for event in inputs}
        refs = {ref for event in inputs for ref in refs_of(event)}
        entries = self.kept.entries
        if whole:
            refs |= {ref for ref, entry in entries.items() if not entry.folded}
            refs |= {f"purchase:{entries[ref].subject}" for ref in refs if ref in entries and ref.startswith("refund:")}
            named |= {at for at, one in self.kept.repayments.items() if one.status == "settled" and not one.folded}
        return replace(
            self.kept,
            complete=whole,
            base=self.kept.base if whole else Books(),
            entries={ref: entry for ref, entry in entries.items() if ref in refs},
            repayments={at: one for at, one in self.kept.repayments.items() if at in named},
        )

    def save(self, before: Account, after: Account) -> None:
        self.kept = replace(
            after,
            complete=True,
            base=after.base if after.base is not before.base else self.kept.base,
            entries={**self.kept.entries, **after.entries},
            repayments={**self.kept.repayments, **after.repayments},
        )


@given(FACTS, st.sampled_from(POLICIES), st.lists(st.integers(0, 30), max_size=6), st.integers(1, 6), st.data())
def test_news_may_be_cut_into_batches_anywhere(
    facts: list[Fact], policy: Profiles, cuts: list[int], fold_at: int, data: st.DataObject
) -> None:
    news = data.draw(st.permutations(news_of(facts)))
    opened = replace(Ledger(policy).state, fold_at=fold_at)
    bounds = sorted({0, len(news), *(cut % (len(news) + 1) for cut in cuts)})
    shelf, now = Shelf(opened), START + 70 * DAY
    whole = opened
    events: list[Event] = []
    parts: list[Event] = []
    for event in news:
        decision = decide(policy, whole, event, moment(now))
        whole, events = decision.state, [*events, *decision.events]
    for start, end in pairwise(bounds):
        before = state = shelf.load(news[start:end])
        for event in news[start:end]:
            decision = decide(policy, state, event, moment(now))
            state, parts = decision.state, [*parts, *decision.events]
        shelf.save(before, state)
    assert (shelf.kept, parts) == (whole, events)
