"""The hold policy in a market whose truth is planted: cheaper than what a risk team writes down by hand."""

from functools import cache

import pytest

from services.prior import Prices
from services.risk_training import simulator
from services.risk_training.market import Truth, repayments
from services.risk_training.simulator import HAND, PRODUCT, Tally, formula_profile, play, ways, worth_it
from services.risk_training.ways import RELEASE, Act, HandRules, Oracle, cost, hold

REPAYMENTS = 40_000
PRICES = Prices()
SLOW = ("the same, unused credit unknown", "the same, under the instant cap", "the shipped schedule", "oracle")


@cache
def run() -> dict[str, Tally]:
    compared = ways(formula_profile(), tuned=HandRules())
    return play(repayments(1, REPAYMENTS), {k: way for k, way in compared.items() if k not in SLOW}, PRICES)


def test_the_product_costs_15_percent_less_than_hand_rules_and_holds_13_percent_of_good_customers_at_most() -> None:
    assert run()[PRODUCT].per_thousand <= 0.85 * run()[HAND].per_thousand
    assert run()[PRODUCT].good_held_share <= 0.13
    assert worth_it(run())


def test_the_simple_ways_cost_what_the_market_was_set_to() -> None:
    """Only the share of crooks was chosen by a result: always releasing costs about as much as always waiting."""
    released, waited = run()["always release"].per_thousand, run()["always 3 days"].per_thousand
    assert released == pytest.approx(waited, rel=0.25)
    assert min(released, waited) > 2 * run()[HAND].per_thousand


def test_a_policy_that_is_not_worth_it_is_seen() -> None:
    dear, holding = dict(run()), dict(run())
    dear[PRODUCT] = run()["always release"]
    holding[PRODUCT] = Tally(count=10, minor=0, good=10, good_held=2)
    assert not worth_it(dear)
    assert not worth_it(holding)


def test_the_same_seed_is_the_same_market() -> None:
    assert list(repayments(7, 50)) == list(repayments(7, 50))
    assert list(repayments(7, 50)) != list(repayments(8, 50))


def test_the_oracle_is_never_dearer_than_what_it_may_choose() -> None:
    oracle = Oracle(PRICES)
    for one in repayments(3, 300):
        least = cost(oracle(one), one, PRICES)
        assert least <= min(cost(act, one, PRICES) for act in (RELEASE, hold(1), hold(3), hold(5))) + 1e-9


def test_what_is_held_until_it_was_taken_back_is_not_lost() -> None:
    one = next(one for one in repayments(1, 1_000) if one.bank > 0.1)
    whole = one.seen.restorable_minor
    assert cost(RELEASE, one, PRICES) == pytest.approx(one.still_to_come(0) * one.lost * whole)
    assert one.still_to_come(5) == pytest.approx((1 - one.bank) * one.customer)
    assert cost(hold(5), one, PRICES) >= one.still_to_come(5) * one.lost * whole + 5 * PRICES.day_minor
    assert cost(Act(((1.0, 3),), looked=True), one, PRICES) >= PRICES.review_minor


def test_what_is_seen_says_something_of_the_truth_and_not_all() -> None:
    market = [one for one in repayments(2, 4_000, Truth(crooks=0.2, newcomers=0.3)) if one.seen.rail != "FINAL"]
    assert {one.seen.verified for one in market if one.hidden == "crook"} == {True, False}
    odds = {kind: [one.bank for one in market if one.hidden == kind] for kind in ("steady", "newcomer", "crook")}
    means = [sum(found) / len(found) for found in odds.values()]
    assert means == sorted(means)
    assert means[2] == pytest.approx(0.2, abs=0.06)


def test_the_table_shows_mean_range_and_who_was_held() -> None:
    text = simulator.table(
        [{HAND: Tally(1_000, 100_000, 900, 90, 800, 5)}, {HAND: Tally(1_000, 300_000, 900, 90, 800)}]
    )
    row = text.splitlines()[1]
    assert row.split() == ["hand", "rules", "2,000", "1,000", "-", "3,000", "10.00%", "80.00%", "0.25%"]
