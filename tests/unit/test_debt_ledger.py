"""The waterfall, statements and refunds with the figures of the rule book: R2, R3, R5, R19, R20, R21, R26, E6."""

from datetime import date, timedelta

import pytest

from schemas.settlement import Part
from services.decision import Malformed
from services.policy import Profiles, parse_profile
from services.profiles import calendar
from services.settlement.model import UNCOVERED, Cycle, Debt
from services.settlement.waterfall import pay, places
from tests import builders
from tests.unit.debts import Ledger, instalments, plans
from tests.unit.given import china, profile, profiles, table

OCTOBER, NOVEMBER = china("2026-10-01"), china("2026-11-01")
FEE_FIRST = ["penalty", "fee", "interest", "principal"]
HIGHEST = {"waterfall.principal": "highest_apr"}


def delinquent(changes: dict[str, object] | None = None) -> Ledger:
    """Make R19's account: past due interest 1000 and principal 20000, due principal 30000."""
    ledger = Ledger(profiles(changes))
    ledger.buy(OCTOBER, 20_000, "p1")
    ledger.charge(OCTOBER, interest=1_000)
    ledger.statement(china("2026-10-02"), 21_000, 21_000, "2026-10-20")
    ledger.fire_until(china("2026-10-21", "00:00"))
    ledger.buy(china("2026-10-25"), 30_000, "p2")
    ledger.statement(NOVEMBER, 30_000, 51_000, "2026-11-30")
    return ledger


def test_r19_past_due_is_paid_whole_before_what_is_due() -> None:
    ledger = delinquent()
    assert ledger.owed() == {
        ("past_due", "interest"): 1_000,
        ("past_due", "principal"): 20_000,
        ("due", "principal"): 30_000,
    }
    fact = ledger.repay(china("2026-11-20"), 25_000)
    assert fact.parts == (
        Part("past_due", "interest", None, 1_000),
        Part("past_due", "principal", "purchase", 20_000),
        Part("due", "principal", "purchase", 4_000),
    )
    assert fact.restorable_minor == 24_000
    assert ledger.owed() == {("due", "principal"): 26_000}


def test_component_led_pays_every_interest_before_any_principal() -> None:
    ledger = delinquent({"waterfall.lead": "component"})
    ledger.charge(china("2026-11-02"), interest=500)
    fact = ledger.repay(china("2026-11-20"), 2_000)
    assert [(part.standing, part.component, part.amount_minor) for part in fact.parts] == [
        ("past_due", "interest", 1_000),
        ("in_advance", "interest", 500),
        ("past_due", "principal", 500),
    ]


@pytest.mark.parametrize(
    ("lead", "second", "last"),
    [
        ("due", ("past_due", "fee"), ("in_advance", "principal")),
        ("component", ("due", "penalty"), ("in_advance", "principal")),
    ],
)
def test_the_waterfall_is_a_permutation_of_the_twelve_buckets(
    lead: str, second: tuple[str, str], last: tuple[str, str]
) -> None:
    found = places(lead, tuple(profile().waterfall.component))
    assert sorted(found.values()) == list(range(12))
    assert (list(found)[1], list(found)[-1]) == (second, last)


def cash_and_purchases(policy: Profiles, currency: str = "CNY") -> Ledger:
    """Make R20's account: cash 50000 at 25 %, purchases 150000 at 17 %, minimum 4000."""
    ledger = Ledger(policy)
    ledger.state = ledger.state.__class__(builders.ACCOUNT, ledger.state.product, currency)
    ledger.buy(OCTOBER, 150_000, "p1", apr_bps=1_700, currency=currency)
    ledger.buy(OCTOBER + timedelta(days=1), 50_000, "p2", plan="cash", apr_bps=2_500, currency=currency)
    said = {"due_minor": 200_000, "minimum_minor": 4_000, "due_on": date(2026, 11, 25), "currency": currency}
    ledger.take(builders.statement_issued(**said, occurred_at=NOVEMBER), NOVEMBER)
    return ledger


def test_r20_the_minimum_goes_to_purchases_and_the_excess_to_the_highest_rate() -> None:
    discover_it = Profiles({"default": parse_profile(table(name="discover_it"), calendar)})
    ledger = cash_and_purchases(discover_it, "USD")
    fact = ledger.repay(china("2026-11-20"), 80_000, currency="USD")
    assert fact.parts == (Part("due", "principal", "purchase", 30_000), Part("due", "principal", "cash", 50_000))
    assert plans(ledger) == {"purchase": 120_000}
    assert fact.restorable_minor == 80_000


@pytest.mark.parametrize(
    ("minimum_to", "amount", "left"),
    [
        ("purchase", 80_000, {"purchase": 120_000}),
        ("cash", 80_000, {"purchase": 120_000}),
        ("purchase", 30_000, {"purchase": 146_000, "cash": 24_000}),
        ("cash", 30_000, {"purchase": 150_000, "cash": 20_000}),
        ("purchase", 3_000, {"purchase": 147_000, "cash": 50_000}),
    ],
)
def test_r20_minimum_to_is_the_profiles(minimum_to: str, amount: int, left: dict[str, int]) -> None:
    ledger = cash_and_purchases(profiles({**HIGHEST, "waterfall.minimum_to": minimum_to}))
    ledger.repay(china("2026-11-20"), amount)
    assert plans(ledger) == left


def test_r20_of_the_minimum_counts_only_what_is_not_yet_paid_this_cycle() -> None:
    ledger = cash_and_purchases(profiles(HIGHEST))
    ledger.repay(china("2026-11-18"), 3_000, "r1")
    ledger.repay(china("2026-11-19"), 11_000, "r2")
    assert plans(ledger) == {"purchase": 146_000, "cash": 40_000}


def test_r20_the_minimum_to_cash_leaves_46000_and_30000_of_the_excess() -> None:
    debts = (Debt("due", "principal", 150_000, "purchase", 1_700), Debt("due", "principal", 50_000, "cash", 2_500))
    waterfall = profile({**HIGHEST, "waterfall.minimum_to": "cash"}).waterfall
    minimum = pay(waterfall, debts, 4_000, 4_000)
    assert [(portion.plan, portion.amount_minor) for portion in minimum.portions] == [("cash", 4_000)]
    excess = pay(waterfall, minimum.debts, 76_000)
    assert [(portion.plan, portion.amount_minor) for portion in excess.portions] == [
        ("cash", 46_000),
        ("purchase", 30_000),
    ]


def in_twelve(changes: dict[str, object] | None = None) -> Ledger:
    """Make R21's account: 12 instalments of 10000, 3 repaid."""
    ledger = Ledger(profiles(changes))
    ledger.buy(OCTOBER, 120_000, "tv", plan="instalment", instalments_minor=(10_000,) * 12)
    assert instalments(ledger) == list(range(1, 13))
    ledger.repay(china("2026-10-15"), 30_000)
    assert instalments(ledger) == list(range(4, 13))
    return ledger


def test_r21_a_refund_cancels_instalments_twelve_back_to_four() -> None:
    ledger = in_twelve()
    assert ledger.state.principal_minor == 90_000
    ledger.refund(NOVEMBER, 90_000, "tv")
    assert ledger.owed() == {}


@pytest.mark.parametrize(("order", "left"), [("last_instalment_first", [4, 5, 6, 7]), ("oldest_due", [9, 10, 11, 12])])
def test_r21_a_refund_in_part_cancels_in_the_order_of_the_profile(order: str, left: list[int]) -> None:
    ledger = in_twelve({"waterfall.refund": order})
    ledger.buy(china("2026-10-20"), 7_000, "other")
    assert not ledger.refund(NOVEMBER, 50_000, "tv").events
    assert instalments(ledger) == left
    assert plans(ledger) == {"instalment": 40_000, "purchase": 7_000}


def test_r21_what_a_refund_gives_beyond_its_purchase_pays_other_debt_and_then_is_the_customers() -> None:
    ledger = in_twelve()
    ledger.charge(china("2026-10-20"), fee=1_000)
    ledger.refund(NOVEMBER, 95_000, "tv")
    assert ledger.owed() == {("we", "owe"): 4_000}


def test_a_refund_cancels_debt_of_its_own_plan_and_not_of_another() -> None:
    ledger = Ledger()
    ledger.buy(OCTOBER, 5_000, "p1", plan="cash", apr_bps=2_500)
    ledger.buy(OCTOBER + timedelta(days=1), 3_000, "p2")
    ledger.refund(NOVEMBER, 2_000, "p2")
    assert plans(ledger) == {"cash": 5_000, "purchase": 1_000}


def test_instalments_that_do_not_add_up_are_malformed() -> None:
    with pytest.raises(Malformed, match=r"^instalments_do_not_add_up$"):
        Ledger().buy(OCTOBER, 100, instalments_minor=(50, 49))


def test_a_fact_far_ahead_of_its_record_is_a_wrong_clocks() -> None:
    ahead = builders.purchase_posted(occurred_at=OCTOBER + timedelta(days=2))
    with pytest.raises(Malformed, match="occurred_in_the_future"):
        Ledger().take(ahead, OCTOBER)


def test_a_statement_makes_the_next_instalment_of_each_purchase_due() -> None:
    ledger = Ledger()
    ledger.buy(OCTOBER, 3_000, "a", instalments_minor=(1_000,) * 3)
    ledger.statement(china("2026-10-05"), 1_000, 1_000, "2026-10-25")
    ledger.buy(china("2026-10-20"), 6_000, "b", instalments_minor=(2_000,) * 3)
    ledger.statement(NOVEMBER, 3_000, 4_000, "2026-11-25")
    found = {(d.standing, d.purchase_id, d.number) for d in ledger.state.books.debts if d.standing != "in_advance"}
    assert found == {("past_due", "a", 1), ("due", "a", 2), ("due", "b", 1)}


@pytest.mark.parametrize(
    ("at", "past_due"),
    [("2026-11-20T23:59:59", 0), ("2026-11-21T00:00:00", 30_000)],
)
def test_r04_a_minimum_paid_by_the_end_of_its_day_is_never_past_due(at: str, past_due: int) -> None:
    """Heard a day later, the repayment counts from its own day: the end of due_on is in the product's zone."""
    ledger = Ledger()
    ledger.buy(OCTOBER, 490_000)
    ledger.statement(NOVEMBER, 490_000, 30_000, "2026-11-20")
    (timer,) = ledger.timers.values()
    assert timer.due_at == china("2026-11-21", "00:00")
    ledger.fire_until(timer.due_at)
    assert ledger.state.books.owed(standing="past_due") == 30_000
    day, clock = at.split("T")
    fact = ledger.repay(china(day, clock), 100_000, now=china("2026-11-22"))
    assert fact.credited_on == date.fromisoformat(day)
    paid_late = sum(part.amount_minor for part in fact.parts if part.standing == "past_due")
    assert paid_late == past_due
    assert ledger.owed() == {("due", "principal"): 390_000}


def test_only_what_is_left_of_the_minimum_becomes_past_due_charges_first() -> None:
    ledger = Ledger()
    ledger.buy(OCTOBER, 10_000)
    ledger.charge(OCTOBER, fee=300)
    ledger.statement(NOVEMBER, 10_300, 1_000, "2026-11-20")
    ledger.repay(china("2026-11-10"), 400)
    ledger.charge(china("2026-11-11"), interest=70)
    ledger.fire_until(china("2026-11-22"))
    assert ledger.owed() == {
        ("past_due", "principal"): 600,
        ("due", "principal"): 9_300,
        ("in_advance", "interest"): 70,
    }


def test_a_day_that_is_over_is_over_once() -> None:
    ledger = delinquent()
    (timer,) = ledger.timers.values()
    first, second = ledger.fire_until(timer.due_at), None
    ledger.timers[timer.key] = timer
    (second,) = ledger.fire_until(timer.due_at)
    assert (first[0].outcome, second.outcome, second.reason) == ("applied", "stale", "over_before")


def test_a_statement_that_comes_after_its_own_day_is_past_due_at_once() -> None:
    ledger = Ledger()
    ledger.buy(OCTOBER, 1_000)
    ledger.statement(NOVEMBER, 1_000, 200, "2026-10-31")
    assert ledger.owed() == {("past_due", "principal"): 200, ("due", "principal"): 800}
    assert ledger.state.books.cycles == ()


def test_more_open_statements_than_a_year_has_months_are_malformed() -> None:
    ledger = Ledger()
    for n in range(12):
        ledger.statement(NOVEMBER + timedelta(minutes=n), 0, 0, "2027-01-01")
    assert ledger.state.books.cycles == (Cycle(date(2027, 1, 1), 0),) * 12
    with pytest.raises(Malformed, match=r"^too_many_open_statements$"):
        ledger.statement(NOVEMBER + timedelta(hours=1), 0, 0, "2027-01-01")


@pytest.mark.parametrize(
    ("charges", "left"),
    [
        ({"interest": -300}, {("due", "interest"): 900, ("in_advance", "interest"): 200}),
        ({"interest": -1_200}, {("due", "interest"): 200}),
        ({"interest": -1_500}, {("we", "owe"): 100}),
    ],
)
def test_a_correction_cancels_the_youngest_charges_first(
    charges: dict[str, int], left: dict[tuple[str, str], int]
) -> None:
    ledger = Ledger()
    ledger.charge(OCTOBER, interest=900)
    ledger.statement(china("2026-10-02"), 900, 0, "2026-10-20")
    ledger.charge(china("2026-10-03"), interest=500)
    ledger.charge(NOVEMBER, **charges)
    assert ledger.owed() == left


def test_e06_an_overpaid_debt_owes_what_a_return_uncovers() -> None:
    ledger = Ledger()
    ledger.repay(OCTOBER, 500)
    ledger.take(builders.credit_balance_refunded(amount_minor=500, occurred_at=NOVEMBER), NOVEMBER)
    ledger.give_back(china("2026-11-05"), 500)
    assert plans(ledger) == {UNCOVERED: 500}
