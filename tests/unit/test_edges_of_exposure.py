"""risk-scoring: what one changed number or word of what is exposed, and of what a relief widens, would change (L17)."""

from collections.abc import Mapping
from datetime import UTC, timedelta
from typing import Any

import pytest

from schemas.ids import RepaymentId
from schemas.risk import RiskAssessed
from schemas.settlement import Reallocation
from services.policy import Profiles
from services.risk_scoring.domain import decide
from services.risk_scoring.exposure import left_to_customer
from services.risk_scoring.model import Account, Assessment
from services.values import replace
from tests import builders
from tests.unit.given import FRIDAY, moment, only, profile, profiles

NOW = FRIDAY + timedelta(seconds=5)
SETTLED = builders.repayment_settled(amount_minor=500_000, restorable_minor=500_000)
BUDGET: Mapping[str, object] = {
    "hold.REVERSIBLE.exposure": {"per_customer": True, "portfolio_max_minor": 1_000_000},
}


def wide(**changes: Any) -> Account:
    """Make an account of tier B, whose instant cap of 200,000 a relief doubles."""
    terms: dict[str, Any] = {"credit_limit_minor": 600_000, "tier": "B", "relief": {"default": 20_000}, **changes}
    return replace(Account(builders.ACCOUNT), **terms)


def verdict(account: Account, changes: Mapping[str, object] | None = None) -> tuple[int, dict[str, Any]]:
    """Return what of 500,000 comes back at once, and what was asked."""
    decision = decide(Profiles({"default": profile(changes)}), account, SETTLED, moment(NOW))
    fact = only(decision.events, RiskAssessed)
    at_once = sum(part.amount_minor for part in fact.tranches if part.due_at <= fact.occurred_at)
    return at_once, dict(fact.inputs)


def test_l17_a_wider_cap_is_whole_minor_units() -> None:
    odd = {"instant_cap_by_tier.B": 99_999}
    bounded = profile({**odd, "hold.REVERSIBLE.exposure": {"per_customer": True}})
    assert left_to_customer(bounded, wide(), 15_000) == 149_998
    at_once, asked = verdict(wide(relief={"default": 15_000}), odd)
    assert (at_once, str(asked["instant_left_minor"])) == (149_998, "149998")


def test_l17_of_a_wider_cap_that_is_used_up_nothing_is_left() -> None:
    used = Assessment("before", None, FRIDAY, instant_minor=400_000)
    assert verdict(wide(assessments={"before": used}))[0] == 0


def test_l17_a_relief_of_one_minor_unit_is_one_and_says_so() -> None:
    at_once, asked = verdict(wide(relief={"default": 10_001}), {"instant_cap_by_tier.B": 10_000})
    assert (at_once, asked["widened_minor"]) == (10_001, 1)


def test_l17_without_a_budget_nothing_is_over_one() -> None:
    assert verdict(wide())[1]["over_budget"] is False


@pytest.mark.parametrize(
    ("used", "at_once", "widened", "over"),
    [(600_000, 400_000, 200_000, False), (700_000, 300_000, 100_000, True), (800_000, 200_000, None, False)],
)
def test_l17_a_budget_that_bounds_what_relief_adds_is_told_and_one_that_allows_just_the_usual_cap_is_not(
    used: int, at_once: int, widened: int | None, *, over: bool
) -> None:
    found, asked = verdict(wide(portfolio_minor={"default": used}), BUDGET)
    assert (found, asked.get("widened_minor"), asked["over_budget"]) == (at_once, widened, over)


def test_a_return_of_what_came_back_in_two_parts_takes_both_out_of_what_is_exposed() -> None:
    """100,000 came back at once and 400,000 in the days after: ten days later 500,000 are exposed."""
    settled = builders.repayment_settled(
        amount_minor=500_000, restorable_minor=500_000, final_on=(NOW + timedelta(days=60)).astimezone(UTC).date()
    )
    state = decide(profiles(), Account(builders.ACCOUNT, credit_limit_minor=600_000), settled, moment(NOW)).state
    assert (state.exposed_minor, state.held_minor) == (100_000, 400_000)
    state = replace(state, exposed_minor=500_000, held_minor=0)
    gone = builders.repayment_returned(reallocated=())
    after = decide(profiles(), state, gone, moment(NOW + timedelta(days=10))).state
    assert (after.exposed_minor, after.held_minor) == (0, 0)


def test_r24_a_return_leaves_the_dates_of_what_it_moved_alone() -> None:
    state = Account(builders.ACCOUNT, credit_limit_minor=600_000)
    for name in ("r1", "r2"):
        settled = builders.repayment_settled(repayment_id=name, amount_minor=500_000, restorable_minor=500_000)
        state = decide(profiles(), state, settled, moment(NOW)).state
    assert state.assessments["r2"].hold is not None
    moved = (Reallocation(RepaymentId("r2"), -5, 5),)
    state = decide(
        profiles(), state, builders.repayment_returned(repayment_id="r1", reallocated=moved), moment(NOW)
    ).state
    assert [state.assessments[name].hold for name in ("r1", "r2")] == [None, None]


def test_what_is_moved_of_a_repayment_that_was_read_and_is_not_exposed_is_not_kept() -> None:
    """r3 is still to be read; r2 was, and its rail takes nothing back."""
    state = Account(builders.ACCOUNT, credit_limit_minor=600_000, unread=frozenset(("r3",)))
    moved = tuple(Reallocation(RepaymentId(name), -7, 7) for name in ("r2", "r3"))
    settled = builders.repayment_settled(repayment_id="r1", reallocated=moved)
    assert decide(profiles(), state, settled, moment(NOW)).state.early == {"r3": -7}
