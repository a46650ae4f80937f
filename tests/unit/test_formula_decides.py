"""A profile whose method is the formula: the guards before it, the cap around it, the reasons from what fired."""

from datetime import timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from schemas.reasons import Reason
from schemas.risk import RiskAssessed
from services.decision import Decision
from services.prior import DAYS, Feature, loss
from services.profiles import returns
from services.risk_scoring.courses import course, sooner
from services.risk_scoring.domain import decide, faster, judge
from services.risk_scoring.model import Account, Question
from services.values import replace
from tests import builders
from tests.unit.given import FRIDAY, moment, only, profile, profiles

FORMULA = {"hold.REVERSIBLE.method": "formula"}
PROFILE = profile(FORMULA)
QUESTION = Question(
    amount_minor=300_000,
    restorable_minor=300_000,
    credit_balance_minor=0,
    rail="REVERSIBLE",
    verified=False,
    strikes=0,
    instant_left_minor=300_000,
    settled_minor=0,
    credit_limit_minor=600_000,
    repaid_at=FRIDAY,
    now=FRIDAY + timedelta(seconds=5),
    rail_name="direct_debit",
)
QUESTIONS = st.builds(
    lambda amount, verified, strikes, left, settled, limit, rail: replace(
        QUESTION,
        amount_minor=amount,
        restorable_minor=amount,
        verified=verified,
        strikes=strikes,
        instant_left_minor=left,
        settled_minor=settled,
        credit_limit_minor=limit,
        rail=rail,
    ),
    st.integers(1, 10**9),
    st.booleans(),
    st.integers(0, 4),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.sampled_from(["REVERSIBLE", "REVERSIBLE", "PENDING", "FINAL"]),
)


def assessed(account: Account, **changes: object) -> RiskAssessed:
    event = builders.repayment_settled(**changes)
    found: Decision[Account] = decide(profiles(FORMULA), account, event, moment(FRIDAY + timedelta(seconds=5)))
    return only(found.events, RiskAssessed)


def test_a_small_repayment_within_the_cap_comes_back_at_once_as_low_risk() -> None:
    fact = assessed(Account(builders.ACCOUNT, credit_limit_minor=600_000), amount_minor=5_000, restorable_minor=5_000)
    assert (fact.outcome, fact.reasons) == ("clear", (Reason.RELEASE_LOW_RISK,))
    assert fact.model_version == "return-prior-1"


def test_a_new_accounts_large_repayment_is_given_back_in_part_and_dated() -> None:
    verdict = judge(PROFILE, QUESTION)
    assert [(t.amount_minor, t.reason) for t in verdict.tranches] == [
        (53_881, Reason.RELEASE_WITHIN_CAP),
        (246_119, Reason.HOLD_RAIL_REVERSIBLE),
    ]
    assert verdict.tranches[1].due_at == PROFILE.release_at(PROFILE.banking.after(FRIDAY.date(), 2))
    assert not verdict.refer


def test_what_raises_the_odds_is_said_most_adverse_first() -> None:
    verdict = judge(PROFILE, replace(QUESTION, strikes=1, credit_balance_minor=5))
    assert verdict.reasons == (Reason.HOLD_RAIL_REVERSIBLE, Reason.HOLD_PRIOR_RETURN, Reason.HOLD_OVERPAYMENT)


def test_a_look_says_nothing_of_the_pattern() -> None:
    large = replace(QUESTION, amount_minor=2_000_000, restorable_minor=2_000_000, credit_limit_minor=2_000_000)
    verdict = judge(PROFILE, replace(large, settled_minor=1_300_000, instant_left_minor=0))
    assert verdict.refer
    assert verdict.reasons[0] == Reason.HOLD_UNDER_REVIEW
    assert set(verdict.reasons) == {Reason.HOLD_UNDER_REVIEW, Reason.HOLD_RAIL_REVERSIBLE}, "a cap that changes nothing"


@given(QUESTIONS)
def test_the_formula_conserves_money_and_never_exceeds_the_cap(asked: Question) -> None:
    verdict = judge(PROFILE, asked)
    assert sum(tranche.amount_minor for tranche in verdict.tranches) == asked.restorable_minor
    assert all(tranche.amount_minor > 0 for tranche in verdict.tranches)
    if asked.rail != "FINAL":
        assert verdict.at_once_minor(asked.now) <= asked.instant_left_minor
    assert verdict.held_at(asked.now) or not verdict.refer
    assert len(set(verdict.reasons)) == len(verdict.reasons) <= 4


@given(QUESTIONS)
def test_what_stands_before_the_formula_decides_as_with_the_schedule(asked: Question) -> None:
    """A rail that is final or pending, a struck account and a pattern never reach the formula.

    Struck, with nothing left under the cap: without the returns the formula decides, and may not hang on the cap.
    """
    given_by_schedule = judge(profile(), asked)
    if asked.rail != "REVERSIBLE" or asked.strikes >= 2 or given_by_schedule.patterns:
        priced = judge(PROFILE, asked)
        assert priced._replace(reasons=given_by_schedule.reasons) == given_by_schedule
        assert {*given_by_schedule.reasons} - {*priced.reasons} <= {Reason.HOLD_OVER_INSTANT_CAP}
        assert [reason for reason in given_by_schedule.reasons if reason in priced.reasons] == [*priced.reasons]


@given(st.sampled_from(["unverified", "strikes", "share_of_limit", "overpaid", "cycled"]), st.integers(0, 3))
def test_more_of_any_feature_never_looks_safer(feature: Feature, others: int) -> None:
    known: dict[Feature, float | None] = {"unverified": others & 1, "strikes": others >> 1, "share_of_limit": 0.1}
    chances = [returns().chances("direct_debit", {**known, feature: value}) for value in (0, 0.3, 0.7, 1, 2, 5)]
    for less, more in pairwise(chances):
        assert all(one.likely <= two.likely for one, two in zip(less, more, strict=True))
        assert loss(less, 0) <= loss(more, 0)


def test_the_tables_anchors_are_the_chances_of_the_worked_vectors() -> None:
    new: dict[Feature, float | None] = {
        "unverified": 1,
        "strikes": 0,
        "share_of_limit": 0.1,
        "overpaid": 0,
        "cycled": 0,
    }
    shares = [
        [round(one.likely, 4) for one in returns().chances("cheque", known)]
        for known in ({**new, "unverified": 0}, new, {**new, "share_of_limit": 0.9, "cycled": 0.9})
    ]
    assert shares == [[0.004, 0.0003], [0.03, 0.001], [0.12, 0.005]]
    bank = returns().bank.chance("cheque", new)
    assert (bank.respent, bank.lost) == (0.35, 0.5)


@given(QUESTIONS, st.booleans())
def test_faster_is_what_the_same_policy_says_with_one_input_changed(asked: Question, formula: bool) -> None:
    """The shortcuts of faster() are exact: it is compared with asking for each way again."""
    policy = PROFILE if formula else profile()
    verdict = judge(policy, asked)
    smaller = min(asked.restorable_minor, asked.instant_left_minor)
    changed = (
        ("final_rail", replace(asked, rail="FINAL")),
        ("verified_account", replace(asked, verified=True)),
        ("within_cap", replace(asked, amount_minor=smaller, restorable_minor=smaller)),
    )
    if not verdict.held_at(asked.now):
        assert faster(policy, asked, verdict) == ()
        return
    had = course(verdict, asked.now)
    others = ((way, course(judge(policy, other), asked.now)) for way, other in changed)
    assert faster(policy, asked, verdict) == tuple(way for way, other in others if sooner(other, had, asked.now))


@given(
    st.sampled_from(["direct_debit", "cheque", "a rail nobody listed"]),
    st.dictionaries(st.sampled_from(sorted(returns().bank.features)), st.floats(0, 3) | st.none()),
)
def test_what_is_computed_once_for_a_set_of_bins_is_what_is_computed_each_time(
    rail: str, known: dict[Feature, float | None]
) -> None:
    kinds, hazard = returns().chances(rail, known), returns().hazard(rail, known)
    assert (hazard.at_once, hazard.later) == (loss(kinds, 0), tuple(loss(kinds, day) for day in DAYS))
    assert hazard.fired == returns().fired(known)


def test_what_is_missing_is_its_own_bin_and_never_zero() -> None:
    nothing = returns().chances("direct_debit", {})
    zero = returns().chances("direct_debit", dict.fromkeys(returns().bank.features, 0.0))
    assert nothing[0].likely > zero[0].likely
