"""The worked vectors of the hold formula, to the digit, and what is true of every choice it makes."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.prior import DAYS, Chance, Hazard, Prices, loss
from services.risk_scoring.hazard import Action, actions, cheapest, cheapest_of, unbounded, worth_a_look

BANK = (1, 0.70, 0.05, 0.015, 0.005, 0)
FLAT = (1.0,) * 6
PRICES = Prices()
MINOR = 100
"""Minor units in the unit of the vectors."""
REPAID = 3_000


def kinds(bank: float, customer: float, respent: float, lost: float) -> tuple[Chance, Chance]:
    return Chance(bank, BANK, respent, lost), Chance(customer, FLAT, 0.5, 0.5)


GOOD = kinds(0.004, 0.0003, 0.10, 0.30)
NEW = kinds(0.03, 0.001, 0.35, 0.50)
BUST_OUT = kinds(0.12, 0.005, 0.90, 0.90)
FINAL = kinds(0, 0.0001, 0, 0)


@dataclass(frozen=True)
class Vector:
    """A row of the table: q(0..3) in basis points, the cost of release and of holds of 1, 2, 3, 5 days."""

    kinds: tuple[Chance, Chance]
    unused: float
    losses: tuple[float, ...]
    costs: tuple[float, ...]
    share: float
    days: int
    cost: float
    within: float = 0.006


VECTORS = {
    "good": Vector(GOOD, 5_000, (1.95, 1.59, 0.81, 0.77), (0.58, 0.73, 0.74, 0.98, 1.48), 1, 0, 0.58),
    "new": Vector(NEW, 200, (55, 39.6, 5.3, 3.4), (16.50, 13.92, 6.81, 9.04, 13.88), 338.8 / REPAID, 2, 5.09),
    "new, much unused": Vector(NEW, 8_000, (55, 39.6, 5.3, 3.4), (16.50, 12.13, 2.08, 1.77, 2.02), 0, 3, 1.77),
    "bust-out": Vector(BUST_OUT, 0, (985, 719, 69, 31), (295.4, 223.9, 31.2, 22.0, 21.5), 0, 5, 21.5, 0.06),
}


@pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS.keys())
def test_a_worked_vector_to_the_digit(vector: Vector) -> None:
    digits = 0.006 if vector.losses[0] < 10 else 0.06 if vector.losses[0] < 100 else 0.6
    assert [loss(vector.kinds, day) * 10_000 for day in range(4)] == pytest.approx(vector.losses, abs=digits)
    found = list(actions(vector.kinds, PRICES, REPAID * MINOR, vector.unused * MINOR))
    whole = [one.cost / MINOR for one in found if one.days == 0 or one.share == 0]
    assert whole == pytest.approx(vector.costs, abs=vector.within)
    best = cheapest(vector.kinds, PRICES, REPAID * MINOR, vector.unused * MINOR)
    assert best.days == vector.days
    assert best.share * REPAID == pytest.approx(vector.share * REPAID, abs=0.06)
    assert best.cost / MINOR == pytest.approx(vector.cost, abs=vector.within)


def test_a_final_rail_costs_eight_hundredths_and_is_released() -> None:
    best = cheapest(FINAL, PRICES, REPAID * MINOR, 0)
    assert (best.share, best.days) == (1, 0)
    assert best.cost / MINOR == pytest.approx(0.08, abs=0.006)


def test_a_good_customer_is_held_near_4_400() -> None:
    assert cheapest(GOOD, PRICES, 4_300 * MINOR, 5_000 * MINOR).days == 0
    assert cheapest(GOOD, PRICES, 4_500 * MINOR, 5_000 * MINOR).days > 0


def test_a_person_looks_from_8_140_on() -> None:
    hazard = Hazard(loss(BUST_OUT, 0), tuple(loss(BUST_OUT, day) for day in DAYS))
    assert not worth_a_look(hazard, PRICES, 8_100 * MINOR)
    assert worth_a_look(hazard, PRICES, 8_180 * MINOR)
    assert 20 / (0.8 * round(loss(BUST_OUT, 3), 5)) == pytest.approx(8_140, abs=5)


CHANCES = st.builds(kinds, st.floats(0, 0.5), st.floats(0, 0.1), st.floats(0, 1), st.floats(0, 1))
AMOUNTS = st.floats(1, 1e7)


@given(CHANCES, AMOUNTS, st.floats(0, 1e7), st.floats(0, 1))
def test_no_choice_gives_more_back_now_than_the_cap(
    chances: tuple[Chance, Chance], amount: float, unused: float, most: float
) -> None:
    best = cheapest(chances, PRICES, amount, unused, most)
    assert 0 <= best.share <= most
    assert best.days in (0, *DAYS)
    assert (best.days == 0) == (best.share == 1)


@given(CHANCES, AMOUNTS, st.floats(0, 1e7), st.floats(0, 1) | st.just(1.0))
def test_the_loop_finds_what_comparing_all_actions_finds(
    chances: tuple[Chance, Chance], amount: float, unused: float, most: float
) -> None:
    hazard = Hazard(loss(chances, 0), tuple(loss(chances, day) for day in DAYS))
    found = cheapest_of(hazard, PRICES, amount, unused, most)
    best = min(actions(chances, PRICES, amount, unused, most), key=lambda action: action.cost)
    assert (found.share, found.days, found.cost) == pytest.approx((best.share, best.days, best.cost), rel=1e-9)


@given(CHANCES, AMOUNTS, st.floats(0, 1e7), st.integers(0, 100), st.sampled_from(DAYS))
def test_no_other_part_is_cheaper_than_the_one_computed(
    chances: tuple[Chance, Chance], amount: float, unused: float, percent: int, days: int
) -> None:
    """The closed form of the part is where the cost is least: no share on a grid beats it by more than rounding."""
    best = cheapest(chances, PRICES, amount, unused)
    fixed = [one for one in actions(chances, PRICES, amount, unused, percent / 100) if one.days == days]
    assert min(one.cost for one in fixed) >= best.cost * (1 - 1e-9) - 1e-9


@given(CHANCES, st.integers(0, 4))
def test_waiting_never_raises_what_may_be_lost_of_the_banks_kind(chances: tuple[Chance, Chance], day: int) -> None:
    bank = chances[:1]
    assert loss(bank, day + 1) <= loss(bank, day) + 1e-12


def hazard_of(chances: tuple[Chance, Chance]) -> Hazard:
    return Hazard(loss(chances, 0), tuple(loss(chances, day) for day in DAYS))


@given(CHANCES, AMOUNTS, st.floats(0, 1e7), st.floats(0, 1) | st.just(1.0))
def test_what_would_be_done_without_the_cap_is_found_from_what_is_done_under_it(
    chances: tuple[Chance, Chance], amount: float, unused: float, most: float
) -> None:
    hazard = hazard_of(chances)
    best = cheapest_of(hazard, PRICES, amount, unused, most)
    assert unbounded(hazard, PRICES, amount, unused, most, best) == cheapest_of(hazard, PRICES, amount, unused)


def test_without_the_cap_a_good_customer_with_much_unused_credit_has_all_of_it_at_once() -> None:
    hazard, amount, unused = hazard_of(GOOD), REPAID * MINOR, 5_000 * MINOR
    best = cheapest_of(hazard, PRICES, amount, unused, 0.5)
    assert best.share == 0
    assert unbounded(hazard, PRICES, amount, unused, 0.5, best) == Action(1.0, 0, amount * hazard.at_once)


def test_where_waiting_costs_and_avoids_nothing_all_of_it_comes_back_at_once() -> None:
    free, hazard = Prices(day_minor=0, declined_minor=0, margin=0), Hazard(0.25, (0.25,) * len(DAYS))
    assert cheapest_of(hazard, free, 1_000, 0) == Action(1.0, 0, 250.0)
    held = cheapest_of(hazard, free, 1_000, 0, 0.5)
    assert held == Action(0.0, DAYS[0], 250.0), "of equal waits the shortest"
    assert unbounded(hazard, free, 1_000, 0, 0.5, held) == Action(1.0, 0, 250.0)
