"""L17: our own delay burns an objective, so low-risk credit is held less, within a loss budget and not for long."""

from datetime import timedelta
from typing import Any

import pytest

from schemas.risk import RiskAssessed
from services.policy import Profile, Profiles
from services.prior import Exposure
from services.profiles import returns
from services.risk_scoring.domain import decide
from services.risk_scoring.exposure import narrow, relieved
from services.risk_scoring.model import Account, Assessment, features
from services.risk_scoring.outcomes import outcome_of
from services.risk_scoring.view import asked_of, told_again
from services.risk_training.relief import BURNS, CALM, OFF, SPENT, Kept, Rule, expected_loss, turn
from services.values import replace
from tests import builders
from tests.unit.given import FRIDAY, moment, only, profile

RULE = Rule(0.001, 14.4, 3)
ALLOWED = Exposure(relief_bps=20_000, relief_loss_minor=50_000)
BURNING, QUIET = Kept(100, 5), Kept(100, 0)
NOW = FRIDAY + timedelta(seconds=5)
SETTLED = builders.repayment_settled(amount_minor=500_000, restorable_minor=500_000)


def wide(tier: str = "B", **changes: Any) -> Account:
    terms: dict[str, Any] = {"credit_limit_minor": 600_000, "tier": tier, "relief": {"default": 20_000}, **changes}
    return replace(Account(builders.ACCOUNT), **terms)


def verdict(account: Account, given: Profile | None = None) -> RiskAssessed:
    given = given or profile()
    return only(decide(Profiles({"default": given}), account, SETTLED, moment(NOW)).events, RiskAssessed)


def at_once(fact: RiskAssessed) -> int:
    return sum(part.amount_minor for part in fact.tranches if part.due_at <= fact.occurred_at)


@pytest.mark.parametrize(
    ("short", "long", "spent", "running", "step", "why"),
    [
        (QUIET, QUIET, 0, False, "none", CALM),
        (BURNING, BURNING, 0, False, "begin", BURNS),
        (BURNING, Kept(10_000, 5), 0, False, "none", CALM),
        (QUIET, BURNING, 0, False, "none", CALM),
        (Kept(100, 2), Kept(100, 2), 0, False, "none", CALM),
        (Kept(0, 0), Kept(0, 0), 0, False, "none", CALM),
        (BURNING, BURNING, 50_000, False, "none", SPENT),
        (BURNING, BURNING, 49_999, True, "renew", BURNS),
        (Kept(1_000, 2), QUIET, 0, True, "renew", BURNS),
        (Kept(1_000, 1), BURNING, 0, True, "end", CALM),
        (BURNING, BURNING, 50_000, True, "end", SPENT),
    ],
)
def test_l17_relief_begins_as_the_page_does_and_ends_with_the_burn_or_the_budget(
    short: Kept, long: Kept, spent: int, running: bool, step: str, why: str
) -> None:
    assert turn(RULE, short, long, ALLOWED, spent, running=running) == (step, why)


@pytest.mark.parametrize("exposure", [Exposure(), Exposure(relief_bps=20_000), Exposure(relief_loss_minor=1)])
def test_l17_a_profile_that_sets_no_width_and_no_budget_has_no_relief(exposure: Exposure) -> None:
    assert turn(RULE, BURNING, BURNING, exposure, 0, running=False) == ("none", OFF)
    assert turn(RULE, BURNING, BURNING, exposure, 0, running=True) == ("end", OFF)


@pytest.mark.parametrize(
    ("tier", "usual", "relief"), [("A", 300_000, 500_000), ("B", 200_000, 400_000), ("C", 100_000, 100_000)]
)
def test_l17_the_cap_of_tiers_a_and_b_is_wider_and_no_other(tier: str, usual: int, relief: int) -> None:
    assert at_once(verdict(wide(tier, relief={}))) == usual
    assert at_once(verdict(wide(tier))) == relief
    assert at_once(verdict(wide(tier, relief={"another": 20_000}))) == usual


def test_l17_what_was_used_of_the_cap_counts_against_the_wider_one_too() -> None:
    used = Assessment("before", None, FRIDAY, instant_minor=250_000)
    assert at_once(verdict(wide(assessments={"before": used}))) == 150_000
    assert at_once(verdict(wide(assessments={"before": used}, relief={}))) == 0


def test_l17_a_budget_and_what_is_exposed_of_a_customer_bound_it_all_the_same() -> None:
    bounded = {"per_customer": True, "portfolio_max_minor": 1_000_000}
    given = profile({"hold.REVERSIBLE.exposure": bounded})
    assert at_once(verdict(wide(exposed_minor=250_000), given)) == 150_000
    spent = verdict(wide(portfolio_minor={"default": 900_000}), given)
    assert (at_once(spent), dict(spent.inputs)["over_budget"]) == (100_000, True)
    assert "widened_minor" not in dict(spent.inputs), "all of it was there without a relief"


def test_l17_a_final_rail_has_no_cap_to_widen() -> None:
    asked = replace(asked_of(profile(), verdict(wide())), rail="FINAL", widened_minor=0)
    assert relieved(profile(), wide(), asked) is asked


def test_l17_each_verdict_says_what_relief_added_and_is_reached_again() -> None:
    fact = verdict(wide())
    assert dict(fact.inputs)["widened_minor"] == 200_000
    assert "widened_minor" not in dict(verdict(wide(relief={})).inputs)
    assert told_again(profile(), fact, SETTLED) == fact
    assert fact.inputs_digest != verdict(wide(relief={})).inputs_digest
    asked = asked_of(profile(), fact)
    assert narrow(asked) == replace(asked, instant_left_minor=200_000, widened_minor=0)


def test_l17_what_it_is_expected_to_cost_is_what_came_back_sooner_times_its_odds() -> None:
    given = profile()
    kept = outcome_of(given, SETTLED, verdict(wide()))
    usual = outcome_of(given, SETTLED, verdict(wide(relief={})))
    rate = returns().hazard("direct_debit", features(asked_of(given, verdict(wide())))).at_once
    assert expected_loss(given, [kept, usual]) == pytest.approx(200_000 * rate, abs=1)
    assert expected_loss(given, [kept, kept]) == pytest.approx(400_000 * rate, abs=1)
    assert expected_loss(given, [usual]) == 0
