"""What each way was expected to cost, beside the one that was taken: the figures `otb risk price` and the demo show."""

from datetime import timedelta

import pytest

from schemas.reasons import Reason
from schemas.risk import RiskAssessed
from services.billing_simulator.scenarios import FORMULA, scenario
from services.cli.pricing import Priced, price_lines, prices_of
from services.policy import Profile, Profiles
from services.profiles import load_profiles, returns
from services.risk_scoring.domain import decide
from services.risk_scoring.hazard import cheapest
from services.risk_scoring.model import Account, Cycle, FundingAccount
from services.runtime.settings import Settings
from services.values import replace
from tests import builders
from tests.unit.given import FRIDAY, moment, only

PROFILE = load_profiles(Settings()).of(FORMULA)
LIMITS = {"priced_at_once": 1_000_000, "priced_in_part": 1_000_000, "priced_held": 150_000}
UNUSED = {"priced_at_once": 600_000, "priced_in_part": 20_000, "priced_held": 50_000}


def told(name: str, profile: Profile = PROFILE, *, more: int = 0, unused: int | None = None) -> RiskAssessed:
    """Return the verdict on the last repayment of a story of the demo."""
    unused = UNUSED[name] if unused is None else unused
    *before, last = scenario(name).repayments
    account = Account(builders.ACCOUNT, credit_limit_minor=LIMITS[name])
    if name == "priced_at_once":
        account = account.fund(FundingAccount(last.funding_account_id or "", verified=True, linked_at=FRIDAY))
    if before:
        account = replace(account, cycle=Cycle(None, before[0].amount_minor))
    amount = last.amount_minor + more
    event = builders.repayment_settled(
        product=profile.product,
        amount_minor=amount,
        restorable_minor=amount,
        owed_minor=LIMITS[name] - unused - amount,
        rail=last.rail,
        funding_account_id=last.funding_account_id,
    )
    taken = decide(Profiles({profile.product: profile}), account, event, moment(FRIDAY + timedelta(seconds=5)))
    return only(taken.events, RiskAssessed)


def lines(name: str, profile: Profile = PROFILE, *, more: int = 0) -> tuple[str, str]:
    fact = told(name, profile, more=more)
    found = sorted(prices_of(profile, fact), key=lambda one: one.cost_minor)
    cost, why = price_lines(Priced(fact, tuple(found)))
    return cost, why


def test_a_small_risk_is_cheapest_given_back_at_once() -> None:
    cost, why = lines("priced_at_once")
    assert cost == ("expected cost: all at once CN¥0.39, taken; all after 1 banking day CN¥0.57")
    assert why.startswith("reasons: RELEASE_LOW_RISK (")


def test_a_part_now_spares_declined_purchases() -> None:
    cost, why = lines("priced_in_part")
    assert cost == (
        "expected cost: CN¥338.81 at once and the rest after 2 banking days CN¥5.09, taken; "
        "all after 2 banking days CN¥6.81; all at once CN¥16.50"
    )
    assert why.startswith("reasons: HOLD_RAIL_REVERSIBLE (")


def test_a_pattern_is_cheapest_held() -> None:
    cost, why = lines("priced_held")
    assert "all after 3 banking days CN¥7.26, taken" in cost
    assert cost.endswith("all at once CN¥98.46")
    assert "HOLD_AMOUNT_UNUSUAL" in why
    assert "HOLD_MULTIPLE_REPAYMENTS" in why


@pytest.mark.parametrize(("name", "seconds"), [("priced_in_part", 12), ("priced_held", 18)])
def test_in_the_demo_a_banking_day_of_a_hold_lasts_six_seconds(name: str, seconds: int) -> None:
    fact = told(name)
    assert fact.tranches[-1].due_at - fact.repaid_at == timedelta(seconds=seconds)
    assert f"{['', '', 'two', 'three'][seconds // 6]} days of 6 s" in scenario(name).about


def test_what_a_story_says_comes_back_at_once_is_what_the_formula_gives() -> None:
    fact = told("priced_in_part")
    assert f"{fact.tranches[0].amount_minor / 100:.2f} at once" in scenario("priced_in_part").about


def test_the_price_taken_is_the_formulas_own() -> None:
    known = {"unverified": 1.0, "strikes": 0.0, "share_of_limit": 0.3, "overpaid": 0.0, "cycled": 0.0}
    prices = PROFILE.hold["REVERSIBLE"].prices
    best = cheapest(returns().chances("direct_debit", known), prices, 300_000, 20_000)  # type: ignore[arg-type]
    (taken,) = [one for one in prices_of(PROFILE, told("priced_in_part")) if one.taken]
    assert (taken.days, taken.cost_minor) == (best.days, best.cost)


def test_under_a_cap_giving_all_back_has_no_price() -> None:
    fact = told("priced_at_once", more=350_000, unused=0)
    found = list(prices_of(PROFILE, fact))
    assert Reason.HOLD_OVER_INSTANT_CAP in fact.reasons
    assert [one.now_minor for one in found if not one.days] == []
    assert [one.now_minor for one in found if one.taken] == [fact.tranches[0].amount_minor]


def test_where_no_price_was_asked_none_is_shown() -> None:
    plain = load_profiles(Settings()).of("demo")
    fact = told("priced_in_part", plain)
    assert list(prices_of(plain, fact)) == []
    assert price_lines(Priced(fact, ()))[0].startswith("no price was asked; reasons: ")
    other = PROFILE.model_copy(update={"version": "2027-01-01.1"})
    assert list(prices_of(other, told("priced_in_part"))) == [], "another version is in force than decided"


def test_a_guard_that_decides_otherwise_is_said() -> None:
    """Young, and two repayments of the day come to more than 60 % of the limit: all is held on the schedule."""
    fact = told("priced_in_part").model_copy(update={"reasons": (Reason.HOLD_SHORT_HISTORY,), "tranches": ()})
    found = tuple(prices_of(PROFILE, fact))
    assert price_lines(Priced(fact, found))[0].endswith("; a guard or a cap decided otherwise")
