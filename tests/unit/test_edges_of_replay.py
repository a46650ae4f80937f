"""settlement: what one changed number or word of replay.py would change, in small figures (R4, R13, R20, R21, R24, E7).

Every account starts with nothing owed; ``day(3)`` is noon of 3 October 2026.
"""

from datetime import date, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.event import Event
from schemas.settlement import RepaymentReturned, RepaymentSettled, RepaymentsReallocated
from services.settlement.model import UNCOVERED, Account, Books, Cycle, Debt, Repayment, drawn
from services.settlement.replay import Moved, Replayed, _with_instead, principal_instead
from services.values import replace
from tests import builders
from tests.unit.debts import Ledger, instalments, plans
from tests.unit.given import china, profile, profiles

HIGHEST = {"waterfall.principal": "highest_apr"}


def day(number: int) -> datetime:
    return china("2026-10-01") + timedelta(days=number - 1)


def told(ledger: Ledger, event: Event) -> Event | None:
    """Hear an event on 25 October and return what is told of it, if anything."""
    return next(iter(ledger.take(event, day(25)).events), None)


def instead(event: Event | None) -> int | None:
    """Return what a fact says is owed as principal instead of charges; None where nothing is told."""
    if isinstance(event, RepaymentSettled | RepaymentReturned | RepaymentsReallocated):
        return event.principal_instead_minor
    return None


def fee(amount: int, on: int) -> Event:
    charges = {"penalty_minor": 0, "fee_minor": amount, "interest_minor": 0}
    return builders.charges_accrued(event_id="late", occurred_at=day(on), **charges)


def refunded(amount: int, on: int, ref: str) -> Event:
    parts = {"refund_id": "late", "purchase_id": ref, "to_debt_minor": amount, "to_payer_minor": 0}
    return builders.purchase_refunded(occurred_at=day(on), **parts)


def paid_out(amount: int, on: int) -> Event:
    return builders.credit_balance_refunded(refund_id="out", amount_minor=amount, occurred_at=day(on))


# ---- what is owed as principal instead of charges (E7) -----------------------------------------------------------


@pytest.mark.parametrize(("basis", "more"), [("PRINCIPAL", 10), ("TOTAL", None)])
def test_e07_a_refund_that_pays_a_fee_leaves_principal_instead_where_fees_use_no_limit(
    basis: str, more: object
) -> None:
    """The purchase of 100 is repaid: its refund of 60 pays the fee of 10 and 50 of 80; a reader takes 60 off 80."""
    ledger = Ledger(profiles({"limit_basis": basis}))
    ledger.buy(day(1), 100, "paid")
    ledger.repay(day(2), 100)
    ledger.buy(day(3), 80, "owed", apr_bps=100)
    ledger.charge(day(4), fee=10)
    assert instead(told(ledger, refunded(60, 5, "paid"))) == more
    assert ledger.owed() == {("in_advance", "principal"): 30}


def test_e07_a_refund_that_pays_a_fee_as_a_reader_lets_it_tells_of_no_more_than_cash() -> None:
    """It gives back 25 of 20: both take 5 of the fee."""
    ledger = Ledger()
    ledger.buy(day(1), 20, plan="cash")
    ledger.charge(day(2), fee=8)
    fact = told(ledger, refunded(25, 3, "p1"))
    assert isinstance(fact, RepaymentsReallocated)
    assert (fact.principal_instead_minor, fact.principal_beyond_minor, fact.cash_moved_minor) == (0, 0, -20)


def test_e07_a_refund_told_late_says_the_same() -> None:
    """25 given back of 20 pay the fee of 5 of the day before; a reader takes 20 and 5 of the 5 bought after it."""
    ledger = Ledger()
    ledger.buy(day(1), 20, "p1")
    ledger.charge(day(2), fee=5)
    ledger.buy(day(4), 5, "p2")
    assert instead(told(ledger, refunded(25, 3, "p1"))) == 5
    assert ledger.owed() == {("in_advance", "principal"): 5}


def test_e07_a_fee_taken_off_late_that_a_repayment_paid_pays_principal_twice_for_a_reader() -> None:
    """50 repaid of 100 and a fee of 10: a reader puts the 10 into principal, then what the repayment pays more."""
    ledger = Ledger()
    ledger.buy(day(1), 100)
    ledger.charge(day(2), fee=10)
    ledger.repay(day(4), 50)
    moved = told(ledger, fee(-10, 3))
    assert isinstance(moved, RepaymentsReallocated)
    assert (moved.reallocated, moved.principal_instead_minor) == ((("r1", 10, 0),), 10)
    assert ledger.owed() == {("in_advance", "principal"): 50}


def test_e07_a_fee_told_late_moves_what_a_repayment_paid_and_nothing_is_owed_instead() -> None:
    ledger = Ledger()
    ledger.buy(day(1), 800)
    ledger.repay(day(4), 50)
    assert instead(told(ledger, fee(15, 3))) == 0
    assert ledger.owed() == {("in_advance", "principal"): 765}


def test_e07_a_fee_told_late_that_uses_an_overpayment_which_was_paid_out_is_uncovered_not_instead() -> None:
    """80 of 100 were too much and paid out; the fee of 30 takes 30 of them, so as much of what was paid out is owed."""
    ledger = Ledger()
    ledger.buy(day(1), 20)
    ledger.repay(day(3), 100)
    ledger.take(paid_out(80, 4), day(4))
    assert instead(told(ledger, fee(30, 2))) == 0
    assert plans(ledger) == {UNCOVERED: 30}


def test_e07_what_a_return_uncovers_is_no_principal_instead() -> None:
    """20 bought, a fee of 5, 100 repaid, 75 paid out: a return leaves 20 + 75 and the fee, as a reader knows."""
    ledger = Ledger()
    ledger.buy(day(1), 20)
    ledger.charge(day(2), fee=5)
    ledger.repay(day(3), 100)
    ledger.take(paid_out(75, 4), day(4))
    assert instead(ledger.give_back(day(5), 100)) == 0
    assert ledger.owed() == {("in_advance", "fee"): 5, ("in_advance", "principal"): 95}


def test_e07_what_was_paid_out_before_it_was_told_is_uncovered_and_nothing_is_told() -> None:
    ledger = Ledger()
    ledger.repay(day(1), 100)
    ledger.buy(day(3), 30)
    assert told(ledger, paid_out(100, 2)) is None
    assert (ledger.owed(), plans(ledger)) == ({("in_advance", "principal"): 30}, {"purchase": 30})


def test_e07_a_fee_taken_off_in_order_is_followed_by_a_reader_alone() -> None:
    """The fee of 10 was repaid: it pays interest, as limit-release lets it."""
    ledger = Ledger()
    ledger.buy(day(1), 100)
    ledger.charge(day(2), fee=10)
    ledger.repay(day(3), 10)
    ledger.charge(day(4), interest=30)
    assert told(ledger, fee(-10, 5)) is None
    assert ledger.owed() == {("in_advance", "interest"): 20, ("in_advance", "principal"): 100}


def test_e07_a_late_repayment_says_what_it_and_what_it_moves_take_of_principal_beyond_what_is_owed() -> None:
    """It pays the 10 there were: the refund pays 4 of the fee then, and r1 4 more of principal. 11 were owed, 14 go."""
    ledger = Ledger()
    ledger.buy(day(1), 10)
    ledger.charge(day(3), fee=5)
    ledger.refund(day(4), 4)
    ledger.buy(day(5), 20, "p2")
    ledger.repay(day(6), 20)
    fact = ledger.repay(day(2), 10, "late", now=day(7))
    assert (fact.restorable_minor, fact.reallocated) == (10, (("r1", 4, 0),))
    assert (fact.principal_instead_minor, fact.principal_beyond_minor) == (1, 3)
    assert ledger.owed() == {("in_advance", "principal"): 1}


@pytest.mark.parametrize(
    ("basis", "fee", "late", "after", "beyond"),
    [
        ("PRINCIPAL", 8, 10, 0, 4),
        ("PRINCIPAL", 3, 10, 0, 3),
        ("PRINCIPAL", 0, 10, 0, 0),
        ("TOTAL", 8, 10, 0, 0),
        ("PRINCIPAL", 8, 6, 0, 0),
        ("PRINCIPAL", 5, 12, 0, 4),
        ("PRINCIPAL", 3, 10, 30, 3),
    ],
)
def test_e07_what_a_late_repayment_takes_beyond_principal_is_told_as_far_as_it_pays_charges(
    basis: str, fee: int, late: int, after: int, beyond: int
) -> None:
    """10 bought, 4 refunded, a fee, maybe 30 repaid after it: the 10 repaid late are 4 more than are owed there."""
    ledger = Ledger(profiles({"limit_basis": basis}))
    ledger.buy(day(1), 10)
    ledger.refund(day(3), 4)
    if fee:
        ledger.charge(day(4), fee=fee)
    if after:
        ledger.repay(day(6), after)
    fact = ledger.repay(day(2), late, "late", now=day(7))
    assert (fact.principal_instead_minor, fact.principal_beyond_minor) == (0, beyond)


def left_over(principal: int, charges: int, balance: int) -> tuple[int, int, int]:
    """Return principal, charges and credit balance of limit-release: what is left over pays charges first."""
    money = balance + max(0, -principal) + max(0, -charges)
    principal, charges = max(0, principal), max(0, charges)
    paid = min(max(0, money), charges)
    rest = money - paid - principal
    return max(0, -rest), charges - paid, max(0, rest)


AMOUNT, CHANGE = st.integers(0, 9), st.integers(-9, 9)
OWED = st.one_of(st.tuples(AMOUNT, AMOUNT, st.just(0)), st.tuples(st.just(0), st.just(0), AMOUNT))


@given(OWED, OWED, CHANGE, CHANGE, CHANGE)
@example((11, 0, 0), (1, 0, 0), -14, 0, 0)
@example((2, 1, 0), (4, 0, 0), -3, 0, -8)
@example((0, 2, 0), (4, 0, 0), -3, 0, 0)
@example((80, 10, 0), (30, 0, 0), -60, 0, 0)
def test_e07_principal_instead_is_what_a_reader_of_the_same_changes_has_less(
    before: tuple[int, int, int], after: tuple[int, int, int], principal: int, balance: int, charged: int
) -> None:
    """Follow every change as limit-release does: what billing takes off first, then the rest; the net debt is known.

    What the rest takes of principal beyond what is owed then, and pays charges, is told beside it.
    """

    def books(owed: tuple[int, int, int]) -> Books:
        return Books((Debt("due", "principal", owed[0]), Debt("past_due", "fee", owed[1])), owed[2])

    off = min(0, charged)
    grown = sum(after[:2]) - after[2] - sum(before[:2]) + before[2]
    first = left_over(before[0], before[1] + off, before[2])
    changes = (principal, grown - off - principal + balance, balance)
    reader = left_over(*(had + more for had, more in zip(first, changes, strict=True)))
    moved, done = Moved(principal, balance, charged), Replayed(Account("a", books=books(after)))
    more = max(0, after[0] - reader[0])
    assert principal_instead(profile(), books(before), books(after), moved) == more
    told = _with_instead(profile(), done, books(before), moved)
    assert told.principal_instead_minor == more
    if not charged:  # A refund or a repayment, which alone are read for it, charges nothing.
        beyond = min(-first[0] - changes[0], first[1] + changes[1])
        assert told.principal_beyond_minor == (max(0, beyond) if more else 0)


# ---- what a repayment pays and what its return leaves ------------------------------------------------------------


def test_r20_a_late_repayment_moves_no_cash_but_what_its_parts_say() -> None:
    ledger = Ledger()
    ledger.buy(day(1), 100, plan="cash")
    ledger.buy(day(4), 10, "p2")
    fact = ledger.repay(day(3), 60, now=day(5))
    assert (fact.cash_moved_minor, plans(ledger)) == (0, {"cash": 40, "purchase": 10})


def test_r04_a_repayment_pays_what_came_past_due_though_no_timer_said_so() -> None:
    ledger = Ledger()
    ledger.buy(day(1), 490)
    ledger.statement(day(2), 490, 30, "2026-10-20")
    fact = ledger.repay(day(22), 100)
    assert [(part.standing, part.amount_minor) for part in fact.parts] == [("past_due", 30), ("due", 70)]


def test_r04_a_return_leaves_past_due_what_had_come_past_due_before_it() -> None:
    ledger = Ledger()
    ledger.buy(day(1), 490)
    ledger.statement(day(2), 490, 30, "2026-10-20")
    ledger.repay(day(22), 100)
    ledger.give_back(day(23), 100)
    assert ledger.owed() == {("past_due", "principal"): 30, ("due", "principal"): 460}


def test_of_a_minimum_as_much_is_left_as_a_repayment_did_not_pay_of_debt() -> None:
    ledger = Ledger()
    ledger.buy(day(1), 20)
    ledger.statement(day(2), 20, 30, "2026-10-20")
    ledger.repay(day(3), 100)
    assert ledger.state.books.cycles == (Cycle(date(2026, 10, 20), 10),)


def test_r20_without_a_statement_there_is_no_minimum_and_all_goes_to_the_highest_rate() -> None:
    ledger = Ledger(profiles(HIGHEST))
    ledger.buy(day(1), 100, "p1", apr_bps=1_700)
    ledger.buy(day(2), 100, "p2", plan="cash", apr_bps=2_500)
    ledger.repay(day(3), 10)
    assert plans(ledger) == {"purchase": 100, "cash": 90}


def test_a_return_of_all_there_was_settled_no_charges_by_itself() -> None:
    ledger = Ledger()
    ledger.buy(day(1), 100)
    ledger.repay(day(2), 50)
    fact = ledger.give_back(day(3), 50)
    assert (fact.charges_owed_minor, fact.charges_settled_minor) == (0, 0)


def test_r24_a_return_of_a_folded_repayment_owes_again_what_it_took_and_nothing_instead() -> None:
    """500 paid a fee of 40 and 460; 300 more are the customer's, and pay the fee and 260 once the 500 are gone."""
    ledger = Ledger()
    ledger.buy(day(1), 460)
    ledger.charge(day(2), fee=40)
    ledger.repay(day(3), 500)
    ledger.repay(day(4), 300, "r2")
    state = ledger.state
    repayments = {ref: replace(one, folded=True) for ref, one in state.repayments.items()}
    entries = {ref: replace(entry, folded=True) for ref, entry in state.entries.items()}
    ledger.state = replace(state, base=state.books, repayments=repayments, entries=entries)
    assert instead(ledger.give_back(day(5), 500)) == 0
    assert ledger.owed() == {("in_advance", "principal"): 200}


def test_r11_a_repayment_of_no_known_method_doubles_none() -> None:
    old = Repayment("old", "settled", 5, None, day(1), date(2026, 10, 1))
    ledger = Ledger()
    ledger.state = replace(ledger.state, last_at=day(1), repayments={"old": old})
    ledger.take(fee(1, 1), day(2))
    assert ledger.state.latest is None


# ---- what charges and refunds cancel -----------------------------------------------------------------------------


@pytest.mark.parametrize("standing", ["due", "past_due"])
def test_a_correction_cancels_its_own_charge_however_old_before_another_gets_any_of_it(standing: str) -> None:
    ledger = Ledger()
    ledger.charge(day(1), fee=100, interest=900)
    ledger.statement(day(2), 1_000, 1_000, "2026-10-04")
    if standing == "past_due":
        ledger.fire_until(day(6))
    ledger.charge(day(7 if standing == "past_due" else 3), interest=-900)
    assert ledger.owed() == {(standing, "fee"): 100}


def test_r21_the_oldest_due_first_is_by_the_day_it_is_due() -> None:
    """60 of 100 are due, 40 are not: 20 refunded cancel 20 of the 60."""
    ledger = Ledger(profiles({"waterfall.refund": "oldest_due"}))
    ledger.buy(day(1), 100)
    ledger.statement(day(2), 60, 0, "2026-10-20")
    ledger.refund(day(3), 20)
    assert ledger.owed() == {("due", "principal"): 40, ("in_advance", "principal"): 40}


def test_r21_a_purchase_in_one_instalment_is_one_of_instalments() -> None:
    ledger = Ledger()
    ledger.buy(day(1), 100, "p1", instalments_minor=(100,))
    ledger.buy(day(2), 50, "p2")
    ledger.refund(day(3), 100, "p1")
    assert (instalments(ledger), plans(ledger)) == ([], {"purchase": 50})


@pytest.mark.parametrize("first", ["purchase", "cash"])
def test_r21_a_refund_cancels_its_own_plan_whichever_is_older(first: str) -> None:
    ledger = Ledger()
    for number, plan in enumerate(("purchase", "cash") if first == "purchase" else ("cash", "purchase"), start=1):
        ledger.buy(day(number), 50, plan, plan=plan, apr_bps=100 * number)
    ledger.refund(day(3), 20, "purchase")
    assert plans(ledger) == {"purchase": 30, "cash": 50}


# ---- a second repayment by the other method (R11) ----------------------------------------------------------------


@pytest.mark.parametrize(("owed", "balance", "doubles"), [(100, 0, None), (99, 1, "r1")])
def test_r11_a_repayment_of_one_unit_more_than_is_owed_doubles_and_one_of_all_that_is_owed_does_not(
    owed: int, balance: int, doubles: str | None
) -> None:
    ledger = Ledger()
    ledger.buy(day(1), owed)
    ledger.repay(day(2), 40, "r1", method="manual")
    fact = ledger.repay(day(3), 60, "r2", method="auto")
    assert (fact.credit_balance_minor, fact.doubles) == (balance, doubles)


@pytest.mark.parametrize(("owed", "delta", "doubles"), [(100, 0, None), (99, 1, "r2")])
def test_r11_one_told_late_doubles_where_it_leaves_a_unit_of_the_later_one_over(
    owed: int, delta: int, doubles: str | None
) -> None:
    """The late one of 40 pays the fee of 15 that the later one of 60 had paid."""
    ledger = Ledger()
    ledger.buy(day(1), owed - 15)
    ledger.charge(day(1), fee=15)
    ledger.repay(day(3), 60, "r2", method="auto")
    fact = ledger.repay(day(2), 40, "r1", method="manual", now=day(4))
    assert (fact.reallocated, fact.doubles) == ((("r2", 15 - delta, delta),), doubles)


# ---- debts by themselves -----------------------------------------------------------------------------------------


def test_a_debt_of_another_amount_is_the_same_debt() -> None:
    whole = Debt("due", "principal", 10, "tv", 1_700, date(2026, 10, 20), "p1", 2, 12)
    assert whole.of_minor(3) == Debt("due", "principal", 3, "tv", 1_700, date(2026, 10, 20), "p1", 2, 12)


def test_r20_cash_owed_is_the_sum_of_what_was_drawn_and_of_nothing_else() -> None:
    assert (
        drawn([Debt("due", "principal", amount, plan) for amount, plan in ((5, "cash"), (7, "tv"), (3, "cash"))]) == 8
    )


def test_what_a_refund_cancels_and_a_credit_balance_pays_leaves_the_day_the_books_stand_at() -> None:
    ledger = Ledger()
    ledger.buy(day(1), 100)
    ledger.refund(day(3), 40)
    assert ledger.state.books.day == date(2026, 10, 3)
    ledger.repay(day(4), 100)
    ledger.buy(day(5), 10, "p2")
    assert (ledger.state.books.day, ledger.owed()) == (date(2026, 10, 5), {("we", "owe"): 30})
