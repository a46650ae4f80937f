"""R13, R24, E6 and E7: a return makes the books replay, and the availability ledger follows."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.event import Event
from schemas.ids import RepaymentId
from schemas.reasons import Reason
from schemas.restoration import CreditRestored, NothingToRestore, RestorationReversed
from schemas.risk import Tranche
from schemas.settlement import Reallocation, RepaymentReturned, RepaymentsReallocated
from services.decision import Timer, TimerFired
from services.limit_release.domain import decide
from services.limit_release.model import Account, Journal, State
from services.policy import Profiles
from services.settlement.model import drawn
from tests import builders
from tests.unit.given import FRIDAY, Pipe, all_of, check_ledger, check_repayment, moment, only, profiles

POLICY = profiles({"limit_basis": "TOTAL"})
PRINCIPAL = profiles()
LATER = FRIDAY + timedelta(days=3)


def taken(
    state: State, *events: Event | TimerFired, days: float = 0, policy: Profiles = POLICY
) -> tuple[State, list[Event]]:
    """Decide on events one after the other; the ledger is checked after each."""
    facts: list[Event] = []
    for event in events:
        decision = decide(policy, state, event, moment(FRIDAY + timedelta(days=days)))
        state, facts = decision.state, [*facts, *decision.events]
        check_ledger(state.account)
        for repayment in state.repayments.values():
            check_repayment(repayment)
    return state, facts


def opened(limit: int, *bought: int) -> State:
    purchases = [builders.purchase_posted(purchase_id=f"p{n}", amount_minor=amount) for n, amount in enumerate(bought)]
    opening = builders.account_opened(credit_limit_minor=limit)
    return taken(State(Account(builders.ACCOUNT)), opening, *purchases)[0]


def shift(name: str, restorable: int, balance: int) -> Reallocation:
    return Reallocation(RepaymentId(name), restorable, balance)


def verdict(name: str, *parts: tuple[int, float], balance: int = 0, charges: int = 0, **changes: Any) -> Event:
    """Assess a repayment whose parts, (amount, days from now), are restored or held."""
    tranches = tuple(
        Tranche(n, amount, FRIDAY + timedelta(days=days), Reason.HOLD_RAIL_REVERSIBLE)
        for n, (amount, days) in enumerate(parts, start=1)
    )
    restorable = sum(amount for amount, _ in parts)
    paid = {"restorable_minor": restorable, "credit_balance_minor": balance}
    amount = restorable + balance + charges
    values = {"repayment_id": name, "amount_minor": amount, "tranches": tranches, "settled_at": FRIDAY, **paid}
    return builders.risk_assessed(**{**values, **changes})


def gone(name: str, restorable: int, *moved: Reallocation, balance: int = 0, charges: int = 0) -> Event:
    paid = {"restorable_minor": restorable, "credit_balance_minor": balance}
    amount = max(1, restorable + balance + charges)
    return builders.repayment_returned(repayment_id=name, amount_minor=amount, reallocated=moved, **paid)


def booked(state: State, kind: str) -> list[Journal]:
    return [journal for journal in state.account.journals if journal.kind == kind]


def test_r13_e06_a_refund_chain_is_replayed_and_what_was_paid_out_is_uncovered() -> None:
    state = opened(10_000, 9_000)
    state, _ = taken(state, verdict("first", (200, 0)), verdict("second", (8_800, 0), balance=300))
    assert (state.account.used_debt_minor, state.account.credit_balance_minor) == (0, 300)
    state, _ = taken(state, builders.credit_balance_refunded(amount_minor=300))
    assert (state.account.available_minor, state.account.credit_balance_minor) == (10_000, 0)
    state, facts = taken(state, gone("first", 200, shift("second", 200, -200)))
    reversal = only(facts, RestorationReversed)
    assert (reversal.from_hold_minor, reversal.from_available_minor) == (0, 200)
    assert (reversal.reallocated_minor, reversal.uncovered_minor) == (200, 200)
    entries = [(journal.kind, journal.available_minor) for journal in state.account.journals[-3:]]
    assert entries == [("REVERSE", -200), ("REALLOCATE", 200), ("UNCOVER", -200)]
    assert (state.account.available_minor, state.account.used_debt_minor) == (9_800, 200)
    assert reversal.record.available_raw_minor == 9_800


def test_r24_a_return_takes_its_own_part_and_what_the_later_repayment_pays_of_charges_again() -> None:
    def paid(name: str, restorable: int, charges: int) -> list[Event]:
        amounts = {"repayment_id": name, "amount_minor": restorable + charges, "restorable_minor": restorable}
        settled = builders.repayment_settled(**amounts, settled_at=FRIDAY)
        return [settled, verdict(name, (restorable, 0), charges=charges)]

    accrued = builders.charges_accrued(penalty_minor=0, fee_minor=3_000, interest_minor=12_000)
    state, _ = taken(opened(1_000_000, 800_000), accrued, *paid("first", 85_000, 15_000), policy=PRINCIPAL)
    assert state.account.available_minor == 285_000
    state, _ = taken(state, *paid("second", 50_000, 0), policy=PRINCIPAL)
    assert state.account.available_minor == 335_000
    first = gone("first", 85_000, shift("second", -15_000, 0), charges=15_000)
    state, facts = taken(state, first, policy=PRINCIPAL)
    reversal = only(facts, RestorationReversed)
    assert (reversal.from_available_minor, reversal.reallocated_minor) == (85_000, -15_000)
    assert (state.account.available_minor, reversal.available_credit_minor) == (235_000, 235_000)
    assert booked(state, "REALLOCATE")[0].ref.endswith(":second")
    state, facts = taken(state, gone("second", 35_000, charges=15_000), policy=PRINCIPAL)
    assert only(facts, RestorationReversed).from_available_minor == 35_000
    assert (state.account.available_minor, state.account.used_debt_minor) == (200_000, 800_000)
    assert (state.account.charges_minor, state.account.credit_balance_minor) == (15_000, 0)


@pytest.mark.parametrize(
    ("change", "parts", "available"),
    [
        (-30, {1: 100, 2: 100, 3: 70}, 100),
        (-150, {1: 100, 2: 50, 3: 0}, 100),
        (-230, {1: 100, 2: 0, 3: 0}, 70),
        (40, {1: 100, 2: 100, 3: 140}, 100),
    ],
)
def test_r24_a_replay_gives_to_or_takes_from_held_parts_last_first_and_only_then_from_available_credit(
    change: int, parts: dict[int, int], available: int
) -> None:
    state, _ = taken(opened(1_000, 1_000), verdict("a", (100, 0), (100, 2), (100, 5)))
    late = builders.repayment_settled(repayment_id="late", restorable_minor=0, reallocated=(shift("a", change, 0),))
    state, facts = taken(state, late)
    assert facts == []
    assert {n: t.amount_minor for n, t in state.repayments["a"].tranches.items()} == parts
    assert state.account.available_minor == available
    entry = only_journal(state, "REALLOCATE")
    assert entry.used_debt_minor == -change
    assert entry.pending_minor == sum(parts.values()) - 300


def only_journal(state: State, kind: str) -> Journal:
    (found,) = booked(state, kind)
    return found


def test_r24_a_part_taken_whole_is_voided_and_its_timer_finds_nothing() -> None:
    state, _ = taken(opened(1_000, 1_000), verdict("a", (100, 2)))
    state, _ = taken(state, builders.repayments_reallocated(reallocated=(shift("a", -100, 100),)))
    assert state.repayments["a"].tranches[1].state == "voided"
    timer = Timer(builders.ACCOUNT, "hold_due", "a", 1, LATER)
    after, facts = taken(state, TimerFired(builders.ACCOUNT, timer), days=3)
    assert (facts, after) == ([], state)
    assert (after.account.available_minor, after.account.used_debt_minor) == (100, 900)
    assert only_journal(state, "ABSORB").available_minor == 100


def test_r24_a_repayment_that_gave_nothing_back_may_get_its_part_by_a_replay() -> None:
    state, facts = taken(opened(100_000, 50_000), verdict("manual", (50_000, 0)), verdict("auto", balance=50_000))
    assert only(facts, NothingToRestore).reason is Reason.HOLD_RAIL_REVERSIBLE
    state, facts = taken(state, gone("manual", 50_000, shift("auto", 50_000, -50_000)))
    reversal = only(facts, RestorationReversed)
    assert (reversal.from_available_minor, reversal.reallocated_minor, reversal.uncovered_minor) == (50_000, 50_000, 0)
    assert (state.account.available_minor, state.account.credit_balance_minor) == (100_000, 0)
    state, facts = taken(state, gone("auto", 50_000))
    assert only(facts, RestorationReversed).from_available_minor == 50_000
    assert (state.account.available_minor, state.account.used_debt_minor) == (50_000, 50_000)


def test_a_lapsed_part_is_taken_from_like_a_held_one() -> None:
    state, _ = taken(opened(1_000, 1_000), verdict("a", (100, 2)), builders.account_status_changed(status="closed"))
    state, _ = taken(state, builders.repayments_reallocated(reallocated=(shift("a", -60, 0),)))
    assert (state.repayments["a"].part("lapsed"), state.account.pending_minor) == (40, 40)
    state, facts = taken(state, gone("a", 40))
    assert only(facts, RestorationReversed).from_hold_minor == 40


def test_a_return_before_its_verdict_still_replays_the_others() -> None:
    state, _ = taken(opened(1_000, 1_000), verdict("b", (100, 0)))
    state, facts = taken(state, gone("a", 50, shift("b", -20, 0)))
    assert facts == []
    assert state.account.available_minor == 80
    state, facts = taken(state, verdict("a", (50, 0)))
    assert only(facts, NothingToRestore).reason is Reason.RETURNED
    assert state.account.available_minor == 80


def test_a_returned_repayment_is_not_moved_by_a_replay_again() -> None:
    state, _ = taken(opened(1_000, 1_000), verdict("a", (100, 0)), gone("a", 100))
    after, _ = taken(state, builders.repayments_reallocated(reallocated=(shift("a", 50, 0),)))
    assert after == state


def test_e07_a_credit_balance_paid_out_before_it_is_read_ends_the_same() -> None:
    paid_out = builders.credit_balance_refunded(amount_minor=300)
    assess = verdict("a", (700, 0), balance=300)
    first, _ = taken(opened(1_000, 700), paid_out, assess)
    last, _ = taken(opened(1_000, 700), assess, paid_out)
    assert [end.account.available_minor for end in (first, last)] == [1_000, 1_000]
    assert [end.account.credit_balance_minor for end in (first, last)] == [0, 0]


def stands(pipe: Pipe) -> tuple[int, int]:
    """Return what is owed of principal and charges, as both ledgers say."""
    charges = pipe.debt.penalty_minor + pipe.debt.fee_minor + pipe.debt.interest_minor
    assert (pipe.account.used_debt_minor, pipe.account.charges_minor) == (pipe.debt.principal_minor, charges)
    assert pipe.account.credit_balance_minor == pipe.debt.credit_balance_minor
    return pipe.debt.principal_minor, charges


def at(hours: int) -> dict[str, Any]:
    return {"occurred_at": FRIDAY + timedelta(hours=hours), "event_id": f"event-{hours}"}


def test_e07_a_refund_that_pays_a_charge_after_a_return_leaves_the_purchase_after_it_owed() -> None:
    pipe = Pipe().open(1_000, principal=20, fee=5)
    pipe.repay(100)
    assert stands(pipe) == (0, 0)
    pipe.take(builders.purchase_refunded(**at(1), refund_id="f1", to_debt_minor=30, to_payer_minor=0))
    pipe.take(builders.purchase_posted(**at(2), purchase_id="p2", amount_minor=30))
    assert stands(pipe) == (0, 0)
    pipe.give_back(100, now=FRIDAY + timedelta(hours=3))
    assert only(pipe.events, RepaymentReturned).principal_instead_minor == 5
    assert stands(pipe) == (25, 0)
    reversal = only(pipe.events, RestorationReversed)
    told = -reversal.from_available_minor + reversal.reallocated_minor - reversal.uncovered_minor
    assert told == -25
    assert reversal.available_raw_minor == 975


def test_e07_what_a_refund_gives_beyond_its_purchase_pays_charges_first_and_that_is_told() -> None:
    pipe = Pipe().open(1_000, principal=100)
    pipe.repay(100)
    pipe.take(builders.purchase_posted(**at(1), purchase_id="p1", amount_minor=80, plan="cash"))
    pipe.take(builders.charges_accrued(**at(2), penalty_minor=0, fee_minor=10, interest_minor=0))
    pipe.take(builders.purchase_refunded(**at(3), refund_id="f1", purchase_id="opening", to_debt_minor=60))
    moved = only(pipe.events, RepaymentsReallocated)
    assert (moved.reallocated, moved.principal_instead_minor, moved.caused_by) == ((), 10, "event-3")
    assert stands(pipe) == (30, 0)


def test_e07_a_charge_told_late_is_paid_by_the_refund_that_came_after_it() -> None:
    pipe = Pipe().open(1_000, principal=20)
    pipe.take(builders.purchase_refunded(**at(2), refund_id="f1", to_debt_minor=25, to_payer_minor=0))
    pipe.take(builders.purchase_posted(**at(3), purchase_id="p2", amount_minor=5))
    pipe.take(builders.charges_accrued(**at(1), penalty_minor=0, fee_minor=5, interest_minor=0))
    assert only(pipe.events, RepaymentsReallocated).principal_instead_minor == 5
    assert stands(pipe) == (5, 0)


@pytest.mark.parametrize("told_first", [True, False])
def test_e07_what_is_owed_as_principal_instead_ends_the_same_before_and_after_the_charge_is_read(
    told_first: bool,
) -> None:
    charge = builders.charges_accrued(penalty_minor=0, fee_minor=5, interest_minor=0)
    moved = builders.repayments_reallocated(reallocated=(), principal_instead_minor=5)
    state = opened(1_000, 20)
    state, _ = taken(state, *((moved, charge) if told_first else (charge, moved)), policy=PRINCIPAL)
    assert (state.account.used_debt_minor, state.account.available_minor) == (25, 975)
    assert (state.account.charges_minor, state.account.credit_balance_minor) == (0, 0)


def cash(pipe: Pipe) -> int:
    """Return what is owed of cash drawn, as both ledgers say."""
    assert pipe.account.cash_used_minor == drawn(pipe.debt.books.debts)
    return pipe.account.cash_used_minor


def drew(hours: int, amount: int) -> Event:
    return builders.purchase_posted(**at(hours), purchase_id="cash", amount_minor=amount, plan="cash")


def test_r20_what_else_pays_cash_is_told() -> None:
    pipe = Pipe().open(1_000)
    pipe.take(drew(-3, 100))
    pipe.take(builders.purchase_refunded(**at(-2), refund_id="f1", purchase_id="cash", to_debt_minor=40))
    assert only(pipe.events, RepaymentsReallocated).cash_moved_minor == -40
    assert cash(pipe) == 60


def test_r20_a_fee_told_late_leaves_cash_owed_that_a_return_adds_to() -> None:
    pipe = Pipe().open(1_000, principal=100)
    pipe.take(drew(-3, 100))
    pipe.repay(100)
    assert cash(pipe) == 0
    pipe.take(builders.charges_accrued(**at(-1), penalty_minor=0, fee_minor=30, interest_minor=0))
    assert only(pipe.events, RepaymentsReallocated).cash_moved_minor == 30
    assert cash(pipe) == 30
    pipe.give_back(100, now=FRIDAY + timedelta(hours=3))
    assert cash(pipe) == 100


def test_r20_a_credit_balance_pays_cash_as_it_is_drawn() -> None:
    pipe = Pipe().open(1_000, principal=10)
    pipe.repay(60)
    pipe.take(drew(2, 100))
    assert cash(pipe) == 50


@pytest.mark.parametrize("refs", [("r1", "r2"), ("r2", "r1")])
def test_e07_of_two_repayments_of_one_instant_the_one_that_pays_the_charges_takes_them_over(
    refs: tuple[str, str],
) -> None:
    pipe = Pipe().open(10_000_000, principal=880_000)
    for hours, fee in ((-2, 120_000), (1, -30_000)):
        pipe.take(builders.charges_accrued(**at(hours), penalty_minor=0, fee_minor=fee, interest_minor=0))
    pipe.take(builders.purchase_posted(**at(2), purchase_id="p2", amount_minor=2_000_000))
    for ref in refs:
        pipe.repay(1_000_000, ref=ref, rail="direct_debit")
    pipe.pass_until(FRIDAY + timedelta(days=30))
    assert stands(pipe) == (970_000, 0)


def test_e07_charges_that_use_the_limit_are_not_owed_twice() -> None:
    moved = builders.repayments_reallocated(reallocated=(), principal_instead_minor=5)
    state, _ = taken(opened(1_000, 20), moved)
    assert (state.account.used_debt_minor, state.account.journals) == (20, opened(1_000, 20).account.journals)


# ---- any order ------------------------------------------------------------------------------------------------


@st.composite
def lives(draw: st.DrawFn) -> tuple[list[Event], list[Event]]:
    """Draw verdicts, and settlement's news in its own order: each return or late fact moves those not returned yet."""
    count = draw(st.integers(1, 4))
    parts = {f"r{n}": draw(st.lists(st.integers(1, 100), max_size=3)) for n in range(count)}
    now = {name: [sum(split), draw(st.integers(0, 60))] for name, split in parts.items()}
    for split in now.values():
        split[1] = split[1] or int(not split[0])
    assessed = [
        verdict(name, *((part, 2.0 * at) for at, part in enumerate(split)), balance=now[name][1])
        for name, split in parts.items()
    ]
    news: list[Event] = []
    left = list(parts)
    for n in range(draw(st.integers(0, 4))):
        back = draw(st.sampled_from([*left, None])) if left else None
        own = now.get(back or "", [0, 0])
        left = [name for name in left if name != back]
        moved = []
        for name in left:
            change = draw(st.integers(-now[name][0], now[name][1]))
            if change:
                now[name] = [now[name][0] + change, now[name][1] - change]
                moved.append(shift(name, change, -change))
        if back is not None:
            news.append(gone(back, own[0], *moved, balance=own[1]))
        elif moved:
            news.append(builders.repayments_reallocated(reallocated=tuple(moved), event_id=f"moved-{n}"))
    return assessed, news


@st.composite
def interleaved(draw: st.DrawFn, *lists: Sequence[Event]) -> list[Event]:
    """Draw an order of several lists, each in its own order."""
    waiting = [list(events) for events in lists if events]
    order: list[Event] = []
    while waiting:
        at = draw(st.integers(0, len(waiting) - 1))
        order.append(waiting[at].pop(0))
        waiting = [events for events in waiting if events]
    return order


def end(inputs: Sequence[Event]) -> Account:
    """Decide the inputs, then let every hold end; journals aside, that is where the account stands."""
    state, _ = taken(opened(1_000), *inputs)
    timers = [
        Timer(builders.ACCOUNT, "hold_due", r.repayment_id, t.number, t.until)
        for r in state.repayments.values()
        for t in r.waiting
    ]
    state, _ = taken(state, *(TimerFired(builders.ACCOUNT, timer) for timer in timers), days=30)
    assert not any(r.waiting for r in state.repayments.values())
    return replace(state.account, journals=(), booked=frozenset())


@given(lives(), st.lists(st.integers(1, 200), max_size=3), st.lists(st.integers(1, 90), max_size=2), st.data())
def test_e07_e16_any_order_of_verdicts_replays_purchases_and_payouts_ends_the_same(
    life: tuple[list[Event], list[Event]], bought: list[int], paid_out: list[int], data: st.DataObject
) -> None:
    assessed, news = life
    billing: list[Event] = [
        builders.purchase_posted(purchase_id=f"p{n}", amount_minor=amount) for n, amount in enumerate(bought)
    ]
    billing += [
        builders.credit_balance_refunded(refund_id=f"b{n}", amount_minor=amount) for n, amount in enumerate(paid_out)
    ]
    straight = [*billing, *assessed, *news]
    assert end(data.draw(interleaved(billing, assessed, news))) == end(straight)


@given(lives(), st.data())
def test_a_reversal_tells_exactly_what_available_credit_changed_by(
    life: tuple[list[Event], list[Event]], data: st.DataObject
) -> None:
    state = opened(1_000, data.draw(st.integers(1, 300)))
    for event in data.draw(interleaved(*life)):
        before = state.account.available_minor
        state, facts = taken(state, event)
        for reversal in all_of(facts, RestorationReversed):
            told = -reversal.from_available_minor + reversal.reallocated_minor - reversal.uncovered_minor
            assert state.account.available_minor - before == told
            assert reversal.record.other_minor == reversal.reallocated_minor - reversal.uncovered_minor


@given(lives(), st.data())
def test_e01_e02_news_heard_twice_counts_once(life: tuple[list[Event], list[Event]], data: st.DataObject) -> None:
    inputs = data.draw(interleaved(*life))
    lanes = [event for event in inputs if not hasattr(event, "reallocated") or not event.reallocated]
    assert end([event for event in lanes for _ in range(2)]) == end(lanes)


def test_every_restoration_after_a_replay_says_what_else_changed() -> None:
    state = opened(1_000, 1_000)
    moved = builders.repayments_reallocated(reallocated=(shift("a", -40, 0),))
    state, facts = taken(state, moved, verdict("a", (100, 0)))
    restored = only(facts, CreditRestored)
    assert (restored.amount_minor, restored.available_raw_minor) == (100, 60)
    assert restored.record.other_minor == -40
