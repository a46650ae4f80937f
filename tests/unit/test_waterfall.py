"""The waterfall at its edges: a minimum after charges, credit balance against several debts, days that end together."""

from datetime import date, timedelta

from services.policy import Waterfall
from services.settlement.model import Books, Cycle, Debt
from services.settlement.waterfall import absorbed as absorb
from services.settlement.waterfall import ages, ended, issued, lessened, moved, owing, pay, uncovered
from tests.unit.debts import Ledger
from tests.unit.given import china, profile

DUE_LED: Waterfall = profile().waterfall
HIGHEST: Waterfall = profile({"waterfall.principal": "highest_apr"}).waterfall
FEE = Debt("due", "fee", 3_000)
BOUGHT = Debt("due", "principal", 150_000, "purchase", 1_700)
CASH = Debt("due", "principal", 50_000, "cash", 2_500)
DAY = date(2026, 11, 25)


def test_r20_charges_count_towards_the_minimum_and_only_its_rest_goes_to_purchases() -> None:
    paid = pay(HIGHEST, (FEE, BOUGHT, CASH), 10_000, 4_000)
    amounts = [(portion.component, portion.plan, portion.amount_minor) for portion in paid.portions]
    assert amounts == [("fee", "", 3_000), ("principal", "purchase", 1_000), ("principal", "cash", 6_000)]
    assert paid.left_minor == 0


def test_r20_without_a_minimum_all_of_it_goes_to_the_highest_rate() -> None:
    paid = pay(HIGHEST, (BOUGHT, CASH), 100)
    assert [(portion.plan, portion.amount_minor) for portion in paid.portions] == [("cash", 100)]


def test_r20_what_of_the_minimum_no_purchase_takes_goes_to_the_highest_rate() -> None:
    paid = pay(HIGHEST, (BOUGHT._replace(amount_minor=500), CASH), 5_000, 4_000)
    assert [(portion.plan, portion.amount_minor) for portion in paid.portions] == [("purchase", 500), ("cash", 4_500)]
    assert (paid.left_minor, sum(debt.amount_minor for debt in paid.debts)) == (0, 45_500)


def test_only_the_profile_makes_the_highest_rate_come_first() -> None:
    paid = pay(DUE_LED, (BOUGHT, CASH), 5_000, 4_000)
    assert [(portion.plan, portion.amount_minor) for portion in paid.portions] == [("purchase", 5_000)]


def test_r05_a_credit_balance_pays_several_debts_down_the_waterfall() -> None:
    books = absorb(DUE_LED, Books((BOUGHT, FEE), 3_500))
    assert {debt.component: debt.amount_minor for debt in books.debts} == {"principal": 149_500}
    more = owing(DUE_LED, Books(credit_balance_minor=3_500), (BOUGHT, FEE))
    assert (more.debts, more.credit_balance_minor) == (books.debts, 0)


def test_r21_what_a_refund_leaves_pays_several_other_debts() -> None:
    books = lessened(DUE_LED, Books((BOUGHT._replace(amount_minor=1_000), CASH, FEE)), 5_000, [0])
    assert [(debt.component, debt.amount_minor) for debt in books.debts] == [("principal", 49_000)]


def test_r13_what_is_uncovered_is_principal_not_due_yet() -> None:
    books = uncovered(DUE_LED, Books(credit_balance_minor=100), 300)
    assert [(debt.standing, debt.component, debt.amount_minor) for debt in books.debts] == [
        ("in_advance", "principal", 200)
    ]
    assert books.credit_balance_minor == 0


def test_a_statement_makes_charges_due_before_principal_and_gives_both_its_day() -> None:
    fee, bought = FEE._replace(standing="in_advance"), BOUGHT._replace(standing="in_advance")
    books = issued(DUE_LED, Books((bought, fee)), 4_000, Cycle(DAY, 0))
    due = {debt.component: (debt.amount_minor, debt.due_on) for debt in books.debts if debt.standing == "due"}
    assert due == {"fee": (3_000, DAY), "principal": (1_000, DAY)}
    late = moved(DUE_LED, books, 3_500, "past_due", DAY + timedelta(days=30))
    past = {debt.component: (debt.amount_minor, debt.due_on) for debt in late.debts if debt.standing == "past_due"}
    assert past == {"fee": (3_000, DAY), "principal": (500, DAY)}, "a debt keeps the day it was due first"


def test_what_is_past_due_already_counts_towards_the_next_minimum_and_two_days_may_end_at_once() -> None:
    first, second = Cycle(DAY, 200), Cycle(DAY + timedelta(days=1), 300)
    books = Books((CASH._replace(due_on=DAY),), 0, (first, second), DAY + timedelta(days=2))
    over = ended(DUE_LED, books)
    assert {debt.standing: debt.amount_minor for debt in over.debts} == {"due": 49_700, "past_due": 300}
    assert over.cycles == ()
    third = Cycle(DAY + timedelta(days=5), 0)
    assert ended(DUE_LED, Books(cycles=(first, third), day=DAY + timedelta(days=2))).cycles == (third,)
    assert ended(DUE_LED, Books(cycles=(first, second, third), day=third.due_on)).cycles == (third,)


def test_what_was_never_told_due_is_past_due_with_the_statements_day() -> None:
    books = Books((CASH,), 0, (Cycle(DAY, 200),), DAY + timedelta(days=1))
    (past,) = [debt for debt in ended(DUE_LED, books).debts if debt.standing == "past_due"]
    assert (past.amount_minor, past.due_on) == (200, DAY)


def test_a_purchase_made_due_is_past_due_with_its_own_day() -> None:
    ledger = Ledger()
    ledger.buy(china("2026-10-01"), 1_000)
    ledger.statement(china("2026-10-02"), 1_000, 400, "2026-10-20")
    ledger.fire_until(china("2026-10-21", "00:00"))
    found = sorted((debt.standing, debt.amount_minor, debt.due_on) for debt in ledger.state.books.debts)
    assert found == [("due", 600, date(2026, 10, 20)), ("past_due", 400, date(2026, 10, 20))]


def test_r19_due_led_pays_past_due_principal_before_a_fee_that_is_only_due() -> None:
    paid = pay(DUE_LED, (FEE, CASH._replace(standing="past_due")), 1_000)
    assert [portion.component for portion in paid.portions] == ["principal"]


def test_instalments_not_due_yet_are_paid_in_the_order_in_which_they_will_be() -> None:
    def part(purchase: str, number: int, due_on: date | None = None) -> Debt:
        return Debt("in_advance", "principal", 1, "instalment", 0, due_on, purchase, number, 4)

    debts = (part("a", 1, DAY), part("a", 2), part("a", 3), part("a", 4), part("b", 1), part("b", 2))
    order = sorted(range(len(debts)), key=ages(debts).__getitem__)
    assert [(debts[i].purchase_id, debts[i].number) for i in order] == [
        ("a", 1), ("a", 2), ("b", 1), ("a", 3), ("b", 2), ("a", 4)
    ]  # fmt: skip
