"""Drift of past repayments: which distributions moved, and in which segment more came back than expected."""

from datetime import date, datetime, timedelta

import pytest

from services.prior import Prior
from services.profiles import returns
from services.risk_scoring.outcomes import Outcome
from services.risk_training.drifting import Drift, drifted
from services.risk_training.replaying import Case
from services.values import replace
from tests.unit.given import FRIDAY, profiles
from tests.unit.test_holds_decided_again import outcome

POLICY = profiles()
ONE = outcome()
DAYS, A_DAY = 40, 60
SPLIT = FRIDAY + timedelta(days=20)


def seen(day: int, number: int, *, returned: bool = False, verified: bool = False) -> Case:
    at = FRIDAY + timedelta(days=day)
    inputs = tuple([one if one.name != "verified" else one._replace(value=verified) for one in ONE.inputs])
    made: Outcome = replace(
        ONE,
        repayment_id=f"r{day}-{number}",
        assessed_at=at,
        fast_until=at + timedelta(days=7),
        returned_at=at + timedelta(days=2) if returned else None,
        returned_by="bank" if returned else None,
        inputs=inputs,
    )
    return Case(made, None)


def market(*, wave: bool = False, verified: int = 30, verified_after: int = 30) -> list[Case]:
    """Return days of repayments, so many of 60 verified; in the wave a quarter of the new ones comes back."""
    found = []
    for day in range(DAYS):
        known = verified if day < 20 else verified_after
        for n in range(A_DAY):
            new = n >= known
            back = wave and day >= 20 and new and n % 4 == 0
            found.append(seen(day, n, verified=not new, returned=back))
    return found


def index(found: Drift, name: str) -> float:
    return next(one.moved for one in found.moved if one.name == name)


def test_nothing_moved_and_nothing_came_back_asks_for_nothing() -> None:
    found = drifted(market(), POLICY, SPLIT)
    assert (found.before, found.after) == (20 * A_DAY, 20 * A_DAY)
    assert {one.shift for one in found.moved} == {"none"}
    assert {one.name for one in found.moved} >= {"odds of a return", "unverified", "tier", "rail", "reason of the hold"}
    assert found.alarms == {}


def test_a_wave_that_looks_as_ever_alarms_its_segment_and_moves_no_distribution() -> None:
    found = drifted(market(wave=True), POLICY, SPLIT)
    assert {one.shift for one in found.moved} == {"none"}, "the index is blind to it"
    began = found.alarms["new_funding_account=True"]
    assert date.fromisoformat("2026-12-10") <= began <= date.fromisoformat("2026-12-16")
    assert "new_funding_account=False" not in found.alarms


def test_customers_who_moved_are_told_most_moved_first() -> None:
    found = drifted(market(verified_after=6), POLICY, SPLIT)
    assert found.moved[0].shift == "act"
    assert index(found, "unverified") == pytest.approx(index(found, "odds of a return"))
    assert found.moved[0].moved >= found.moved[-1].moved == 0


def test_our_own_error_and_what_cannot_be_asked_again_are_left_out() -> None:
    error = Case(replace(seen(0, 1).outcome, returned_by="issuer", returned_at=FRIDAY), None)
    older = Case(replace(seen(0, 2).outcome, inputs=()), None)
    unknown = Case(replace(seen(0, 3).outcome, product="another"), None)
    found = drifted([error, older, unknown, seen(0, 4)], POLICY, SPLIT)
    assert (found.before, found.after, found.moved) == (1, 0, ())


def test_the_model_in_force_says_what_was_expected() -> None:
    """A table that expects what the wave brings is alarmed by nothing."""
    told = returns().model_dump(mode="json")
    told["bank"]["base"] = 0.2
    wary = Prior.model_validate(told)
    policy = replace(POLICY, by_product={"default": POLICY.of("default").model_copy(update={"returns": wary})})
    assert drifted(market(wave=True), policy, SPLIT).alarms == {}


def test_a_return_after_the_fast_label_is_no_early_one() -> None:
    late = [Case(replace(one.outcome, returned_at=_later(one.outcome.returned_at)), None) for one in market(wave=True)]
    assert drifted(late, POLICY, SPLIT).alarms == {}


def _later(at: datetime | None) -> datetime | None:
    return None if at is None else at + timedelta(days=30)
