"""The hold formula and its dates where one unit, one instant or one changed word decides."""

from datetime import timedelta
from typing import Any

import pytest

from schemas.reasons import Reason
from schemas.risk import RiskAssessed, Tranche
from services.decision import Decision
from services.policy import Rest
from services.prior import DAYS, Chance, Hazard, Prices, loss
from services.profiles import returns
from services.risk_scoring.courses import course, given_until, sooner
from services.risk_scoring.domain import _back, decide, due_at, faster, judge, revised
from services.risk_scoring.hazard import actions, cheapest_of, held_until, worth_a_look
from services.risk_scoring.model import Account, Question, Verdict
from services.values import replace
from tests import builders
from tests.unit.given import FRIDAY, china, moment, only, profile, profiles

PRICED = profile({"hold.REVERSIBLE.method": "formula"})
TUESDAY = china("2026-11-24", "09:00")
NOW = FRIDAY + timedelta(seconds=5)
ASKED = Question(
    amount_minor=300_000, restorable_minor=300_000, credit_balance_minor=0, rail="REVERSIBLE", verified=False,
    strikes=0, instant_left_minor=300_000, settled_minor=0, credit_limit_minor=600_000, repaid_at=FRIDAY, now=NOW,
    rail_name="direct_debit",
)  # fmt: skip
"""Of this 53881 come back at once and 246119 on Tuesday."""
SETTLED = builders.repayment_settled(repaid_at=FRIDAY)


def test_a_person_looks_when_what_may_be_caught_is_more_than_the_look_and_not_when_it_is_as_much() -> None:
    hazard = Hazard(0.5, (0.25,) * len(DAYS))
    assert not worth_a_look(hazard, Prices(review_minor=2_000, caught=0.5), 16_000)
    assert worth_a_look(hazard, Prices(review_minor=2_000, caught=0.5), 16_001)


def test_where_waiting_avoids_nothing_no_part_is_held_for_it() -> None:
    late = (Chance(0.1, (1.0,) * 6, 0.5, 0.5),)
    assert loss(late, 0) == loss(late, 5)
    held = list(actions(late, Prices(), 300_000, 0, 0.5))
    assert [(one.share, one.days) for one in held] == [(0.0, days) for days in DAYS]
    hazard = Hazard(loss(late, 0), tuple(loss(late, day) for day in DAYS))
    assert cheapest_of(hazard, Prices(), 300_000, 0, 0.5) == min(held, key=lambda action: action.cost)


def test_each_part_of_a_priced_repayment_has_its_number_and_what_is_low_risk_has_the_first() -> None:
    assert [(t.number, t.amount_minor) for t in judge(PRICED, ASKED).tranches] == [(1, 53_881), (2, 246_119)]
    small = replace(ASKED, amount_minor=5_000, restorable_minor=5_000)
    assert judge(PRICED, small).tranches == (Tranche(1, 5_000, NOW, Reason.RELEASE_LOW_RISK),)


def test_r16_a_priced_hold_is_over_at_its_very_instant() -> None:
    over = judge(PRICED, replace(ASKED, now=TUESDAY))
    assert [(t.number, t.due_at, t.reason) for t in over.tranches] == [
        (1, TUESDAY, Reason.RELEASE_WITHIN_CAP),
        (2, TUESDAY, Reason.RELEASE_TIMER),
    ]
    assert over.reasons == (Reason.RELEASE_WITHIN_CAP, Reason.RELEASE_TIMER)
    before = judge(PRICED, replace(ASKED, now=TUESDAY - timedelta(milliseconds=1)))
    assert before.reasons[0] is Reason.HOLD_RAIL_REVERSIBLE


def test_a_person_looks_only_at_what_is_held_whole_and_is_worth_it() -> None:
    large = replace(ASKED, amount_minor=10_000_000, restorable_minor=10_000_000, credit_limit_minor=200_000_000)
    part = judge(PRICED, large)
    assert (len(part.tranches), part.refer) == (2, False), "worth a look, and not held whole"
    whole = judge(PRICED, replace(large, instant_left_minor=0))
    assert (len(whole.tranches), whole.refer) == (1, True)
    small = judge(PRICED, replace(ASKED, instant_left_minor=0))
    assert (len(small.tranches), small.refer) == (1, False), "held whole, and not worth a look"


def test_of_five_reasons_the_four_most_important_are_said() -> None:
    known: dict[str, Any] = {
        "strikes": 1,
        "credit_balance_minor": 5,
        "settled_minor": 50_000,
        "credit_limit_minor": 60_000,
    }
    found = judge(PRICED, replace(ASKED, amount_minor=54_000, restorable_minor=54_000, instant_left_minor=9, **known))
    assert found.reasons == (
        Reason.HOLD_RAIL_REVERSIBLE,
        Reason.HOLD_PRIOR_RETURN,
        Reason.HOLD_AMOUNT_UNUSUAL,
        Reason.HOLD_MULTIPLE_REPAYMENTS,
    ), "that it was overpaid is the fifth"


def test_from_two_returns_on_nothing_is_priced_any_more_and_the_schedule_holds_it_all() -> None:
    why = Reason.HOLD_RAIL_REVERSIBLE
    two = judge(PRICED, replace(ASKED, strikes=2))
    assert two.tranches == (
        Tranche(1, 150_000, TUESDAY, why),
        Tranche(2, 150_000, china("2026-11-27", "09:00"), why),
    )
    assert two.reasons == (Reason.HOLD_PRIOR_RETURN, why)
    one = judge(PRICED, replace(ASKED, strikes=1))
    assert [part.amount_minor for part in one.tranches] == [26_265, 273_735]


def test_no_banking_day_is_the_day_itself() -> None:
    assert due_at(PRICED, FRIDAY, Rest(share_bps=10_000, banking_days=0)) == PRICED.due_at(FRIDAY, 0)


def test_l05_a_repayment_within_the_cap_is_priced_as_the_smaller_one_it_would_be() -> None:
    asked = replace(ASKED, amount_minor=540_000, restorable_minor=540_000, instant_left_minor=70_000)
    assert "within_cap" in faster(PRICED, asked, judge(PRICED, asked))


def test_l05_what_gives_one_unit_back_later_is_not_faster() -> None:
    early, middle, end = FRIDAY + timedelta(days=1), FRIDAY + timedelta(days=3), FRIDAY + timedelta(days=5)
    other = [(middle, 300)]
    assert not sooner(other, [(early, 1), (end, 300)], FRIDAY)
    assert sooner(other, [(middle, 1), (end, 300)], FRIDAY)


def test_l05_with_the_same_end_what_gives_one_unit_back_sooner_is_faster_and_what_ends_later_is_not() -> None:
    early, end, later = FRIDAY + timedelta(days=1), FRIDAY + timedelta(days=5), FRIDAY + timedelta(days=6)
    had = [(early, 100), (end, 300)]
    assert sooner([(early, 101), (end, 300)], had, FRIDAY)
    assert not sooner([(early, 100), (end, 300)], had, FRIDAY)
    assert not sooner([(early, 300), (later, 301)], had, FRIDAY)
    assert not sooner([], had, FRIDAY)


@pytest.mark.parametrize(("left", "is_faster"), [(0, False), (1, True)])
def test_l05_with_nothing_left_under_the_cap_no_smaller_repayment_is_faster(left: int, *, is_faster: bool) -> None:
    asked = replace(ASKED, instant_left_minor=left)
    assert ("within_cap" in faster(PRICED, asked, judge(PRICED, asked))) is is_faster


def test_a_rail_with_a_curve_of_its_own_is_priced_by_it() -> None:
    """No return of a cheque comes within five banking days here: a hold would avoid nothing."""
    table = returns()
    bank, customer = (
        kind.model_copy(update={"survivor": {**kind.survivor, "cheque": (1.0,) * 6}})
        for kind in (table.bank, table.customer)
    )
    own = PRICED.model_copy(update={"returns": table.model_copy(update={"bank": bank, "customer": customer})})
    assert [part.amount_minor for part in judge(own, ASKED).tranches] == [53_881, 246_119]
    assert judge(own, replace(ASKED, rail_name="cheque")).tranches == (
        Tranche(1, 300_000, NOW, Reason.RELEASE_LOW_RISK),
    )


def assessed(**changes: object) -> Decision[Account]:
    settled = builders.repayment_settled(repaid_at=FRIDAY, **changes)
    return decide(profiles(), Account(builders.ACCOUNT), settled, moment(FRIDAY))


def test_a_repayment_from_nowhere_has_no_strikes_and_one_without_a_trail_begins_its_own() -> None:
    inputs = dict(only(assessed(funding_account_id=None).events, RiskAssessed).inputs)
    assert (inputs["strikes"], inputs["verified"]) == (0, False)
    settled = builders.repayment_settled(repaid_at=FRIDAY, trail=(), settled_at=FRIDAY)
    told = decide(profiles(), Account(builders.ACCOUNT), settled, moment(NOW, taken_at=FRIDAY))
    assert only(told.events, RiskAssessed).trail == (("risk", "system_delay.processing", NOW),)


@pytest.mark.parametrize(("before_ms", "outcome"), [(1, "observe"), (0, "clear")])
def test_a_verified_account_ends_what_its_shorter_hold_would_have_ended_by_now(before_ms: int, outcome: str) -> None:
    first, now = assessed(), TUESDAY - timedelta(milliseconds=before_ms)
    linked = decide(profiles(), first.state, builders.funding_account_linked(), moment(now))
    fact = only(linked.events, RiskAssessed)
    assert fact.outcome == outcome
    assert linked.state.assessments[builders.REPAYMENT].hold == (fact if outcome == "observe" else None)


@pytest.mark.parametrize(("exposed", "over"), [(900_000, False), (900_001, True)])
def test_a_budget_that_leaves_exactly_what_the_cap_allows_takes_nothing_away(exposed: int, over: bool) -> None:
    """Of a budget of 1,000,000 as much is left as the instant cap of 100,000, or one less."""
    policy = profiles({"hold.REVERSIBLE.exposure": {"portfolio_max_minor": 1_000_000}})
    state = Account(builders.ACCOUNT, portfolio_minor={"default": exposed})
    inputs = dict(only(decide(policy, state, SETTLED, moment(FRIDAY)).events, RiskAssessed).inputs)
    assert (inputs["over_budget"], inputs["instant_left_minor"]) == (over, 1_000_000 - exposed)


@pytest.mark.parametrize(
    ("rail", "model"), [("wallet", "rail-rule-1"), ("direct_debit", PRICED.returns.version if PRICED.returns else "")]
)
def test_a_verdict_names_the_table_of_returns_only_where_it_was_asked_and_says_what_is_past_due(
    rail: str, model: str
) -> None:
    settled = builders.repayment_settled(rail=rail, repaid_at=FRIDAY, past_due_minor=700)
    found = decide(profiles({"hold.REVERSIBLE.method": "formula"}), Account(builders.ACCOUNT), settled, moment(NOW))
    fact = only(found.events, RiskAssessed)
    assert (fact.model_version, fact.past_due_minor) == (model, 700)


EARLIER = {"hold.REVERSIBLE.verified_funding_account": [{"share_bps": 10_000, "banking_days": 1}]}
"""A verified account's hold ends on Monday, another's on Tuesday and on Friday."""


@pytest.mark.parametrize(
    ("day", "dates"),
    [
        ("2026-11-22", [("23", Reason.HOLD_RAIL_REVERSIBLE), ("23", Reason.HOLD_RAIL_REVERSIBLE)]),
        ("2026-11-23", [("23", Reason.RELEASE_VERIFIED_ACCOUNT), ("23", Reason.RELEASE_VERIFIED_ACCOUNT)]),
        ("2026-11-24", [("24", Reason.HOLD_RAIL_REVERSIBLE), ("23", Reason.RELEASE_VERIFIED_ACCOUNT)]),
        ("2026-11-25", [("24", Reason.HOLD_RAIL_REVERSIBLE), ("23", Reason.RELEASE_VERIFIED_ACCOUNT)]),
    ],
)
def test_a_part_whose_date_has_come_keeps_it_and_the_others_move_to_the_verified_date(
    day: str, dates: list[tuple[str, Reason]]
) -> None:
    policy = profiles(EARLIER)
    state = decide(policy, Account(builders.ACCOUNT), SETTLED, moment(FRIDAY)).state
    linked = decide(policy, state, builders.funding_account_linked(), moment(china(day, "09:00")))
    _, *held = only(linked.events, RiskAssessed).tranches
    assert [(part.due_at, part.reason) for part in held] == [
        (china(f"2026-11-{due}", "09:00"), reason) for due, reason in dates
    ]


def test_what_was_given_at_once_is_no_part_of_what_the_verified_schedule_splits() -> None:
    """Of 500,000, 100,000 came at once: 200,000 move to Monday, with 250,000 a part the first would stay on Tuesday."""
    halves = [{"share_bps": 5_000, "banking_days": 1}, {"share_bps": 5_000, "banking_days": 2}]
    given = profile({"hold.REVERSIBLE.verified_funding_account": halves})
    hold = only(assessed().events, RiskAssessed)
    found = revised(given, hold.model_copy(update={"calendar_version": "old@1"}), hold.event_id, NOW)
    assert found is not None
    assert [(part.amount_minor, part.due_at) for part in found.tranches] == [
        (100_000, FRIDAY),
        (200_000, china("2026-11-23", "09:00")),
        (200_000, TUESDAY),
    ]
    assert found.calendar_version == given.banking.name


def test_a_course_says_what_is_back_in_all_by_each_date_and_a_date_past_is_now() -> None:
    ends = [(FRIDAY - timedelta(days=1), 100), (FRIDAY + timedelta(days=5), 30), (FRIDAY + timedelta(days=2), 7)]
    tranches = tuple(Tranche(n, amount, due, Reason.RELEASE_TIMER) for n, (due, amount) in enumerate(ends, start=1))
    assert course(Verdict(tranches, ()), FRIDAY) == [
        (FRIDAY, 100),
        (FRIDAY + timedelta(days=2), 107),
        (FRIDAY + timedelta(days=5), 137),
    ]


def test_in_a_demo_a_banking_day_of_a_hold_lasts_the_seconds_its_profile_says() -> None:
    hold = PRICED.hold["REVERSIBLE"]
    demo = hold.model_copy(update={"prices": hold.prices.model_copy(update={"day_seconds": 4})})
    short = PRICED.model_copy(update={"hold": {**PRICED.hold, "REVERSIBLE": demo}})
    assert held_until(short, FRIDAY, 3) == FRIDAY + timedelta(seconds=12)
    assert held_until(PRICED, FRIDAY, 3) == PRICED.due_at(FRIDAY, 3)


def test_r15_a_referred_hold_is_over_at_its_very_instant() -> None:
    days = PRICED.hold["REVERSIBLE"].refer_banking_days
    until = due_at(PRICED, FRIDAY, Rest(share_bps=10_000, banking_days=days))
    asked = replace(ASKED, settled_minor=10 * ASKED.credit_limit_minor)
    early = judge(PRICED, replace(asked, now=until - timedelta(milliseconds=1)))
    assert early.reasons == (Reason.HOLD_UNDER_REVIEW, Reason.HOLD_RAIL_REVERSIBLE)
    assert judge(PRICED, replace(asked, now=until)).reasons == (Reason.RELEASE_TIMER,)


@pytest.mark.parametrize(
    "changes",
    [
        {"strikes": PRICED.hold["REVERSIBLE"].strikes.hold_from},
        {"settled_minor": 10 * ASKED.credit_limit_minor},
        {"overdue_elsewhere": True},
        {"rail": "PENDING"},
    ],
    ids=["strikes", "pattern", "guard", "pending"],
)
def test_l05_what_is_not_priced_would_be_back_as_its_verdict_says(changes: dict[str, Any]) -> None:
    asked = replace(ASKED, **changes)
    short, whole = _back(PRICED, asked), course(judge(PRICED, asked), NOW)
    assert [given_until(short, at) for at, _ in (*short, *whole)] == [
        given_until(whole, at) for at, _ in (*short, *whole)
    ]
    assert short != _back(PRICED, ASKED), "the formula says something else"
