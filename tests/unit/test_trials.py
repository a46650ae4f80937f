"""A candidate beside the champion: without effect as a shadow, for the same few accounts as a canary."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.reasons import Reason
from schemas.risk import RiskAssessed, Tranche
from schemas.settlement import RepaymentSettled
from services.decision import Decision
from services.prior import Prior
from services.profiles import returns
from services.risk_scoring.domain import decide
from services.risk_scoring.model import Account, Question, Table, Trial, Verdict, Watch, said_of
from services.risk_scoring.outcomes import Outcome
from services.risk_scoring.trials import (
    CANARY_PERCENT,
    DAYS_KEPT,
    EXACT_MAX,
    HELD_LEAST,
    PLACES_A_DAY,
    Broken,
    Comparison,
    Said,
    Stage,
    Tally,
    broken,
    came_back,
    counted,
    in_canary,
    most_by_chance,
    place_of,
    summed,
)
from services.values import replace
from tests import builders
from tests.unit.given import FRIDAY, moment, only, profiles

FORMULA = {"hold.REVERSIBLE.method": "formula"}
VERSION = "return-prior-2"
IN_THE_ARM = "account-46"
OUTSIDE = "account-1"
NOW = FRIDAY + timedelta(seconds=5)


def candidate() -> Table:
    """Return a table that calls every repayment about ten times as likely to come back."""
    told = json.loads(returns().model_dump_json())
    told["version"], told["bank"]["base"] = VERSION, 0.04
    return Table(Prior.model_validate(told))


CANDIDATE = candidate()
SHADOW = Trial(VERSION, FRIDAY, canary=False, table=CANDIDATE)
CANARY = Trial(VERSION, FRIDAY, canary=True, table=CANDIDATE)


def decided(trial: Trial | None, at: str, amount: int = 60_000, rail: str = "direct_debit") -> Decision[Account]:
    money = {"amount_minor": amount, "restorable_minor": amount, "owed_minor": 600_000}
    event = builders.repayment_settled(account_id=at, rail=rail, **money)
    state = Account(at, credit_limit_minor=600_000, trial=trial)
    return decide(profiles(FORMULA), state, event, moment(NOW))


def test_an_account_is_in_the_arm_of_a_version_for_good_and_another_version_draws_others() -> None:
    names = [f"account-{n}" for n in range(200)]
    assert [name for name in names if in_canary(VERSION, name)] == GOLDEN
    assert [name for name in names if in_canary("return-prior-3", name)] != GOLDEN
    share = sum(in_canary(VERSION, f"account-{n}") for n in range(100_000)) / 1_000
    assert share == pytest.approx(CANARY_PERCENT, abs=0.2)


GOLDEN = [f"account-{n}" for n in (46, 49, 72, 74, 91, 150, 154, 161, 166, 167)]


@given(st.integers(1, 10**6), st.sampled_from(["direct_debit", "wallet", "pigeon"]), st.integers(0, 300))
def test_a_shadow_changes_nothing_but_what_is_compared(amount: int, rail: str, number: int) -> None:
    without = decided(None, f"account-{number}", amount, rail)
    beside = decided(SHADOW, f"account-{number}", amount, rail)
    assert beside.events == without.events
    assert replace(beside.state, trial=None, compared={}) == without.state
    assert len(beside.state.compared) == (rail == "direct_debit")


def test_a_shadow_is_compared_with_what_was_decided() -> None:
    found = decided(SHADOW, OUTSIDE)
    fact = only(found.events, RiskAssessed)
    (one,) = found.state.compared.values()
    assert (one.by_candidate, one.version, one.assessed_at) == (False, VERSION, NOW)
    assert (fact.model_version, fact.outcome) == (returns().version, "clear")
    assert one.champion[:3] == ("clear", 60_000, None)
    assert one.champion.likely == pytest.approx(0.03, abs=1e-5)
    assert (one.candidate.verdict, one.candidate.at_once_minor) == ("observe", 0)
    assert one.candidate.likely == pytest.approx(0.2429, abs=5e-5)
    assert one.differs
    assert one.restorable_minor == fact.restorable_minor == 60_000


def test_a_canary_decides_for_its_accounts_and_the_champion_judges_beside() -> None:
    ours, others = decided(CANARY, IN_THE_ARM), decided(CANARY, OUTSIDE)
    assert only(ours.events, RiskAssessed).model_version == VERSION
    assert only(others.events, RiskAssessed).model_version == returns().version
    (one,), (other,) = ours.state.compared.values(), others.state.compared.values()
    assert (one.by_candidate, other.by_candidate) == (True, False)
    assert (one.champion, one.candidate) == (other.champion, other.candidate)
    assert only(ours.events, RiskAssessed).outcome == one.candidate.verdict


def test_where_the_schedule_decides_no_model_is_compared() -> None:
    event = builders.repayment_settled(account_id=OUTSIDE)
    found = decide(profiles(), Account(OUTSIDE, trial=SHADOW), event, moment(NOW))
    assert not found.state.compared


CLEAR, HELD = Said("clear", 1_000, None, 0.02), Said("observe", 0, FRIDAY + timedelta(days=2), 0.11)
ONE = Comparison("r1", OUTSIDE, VERSION, FRIDAY, True, NOW, 1_000, HELD, CLEAR)
SLOT = (VERSION, FRIDAY, True, FRIDAY)


@pytest.mark.parametrize(
    ("one", "tally"),
    [
        (ONE, Tally(1, 1, 1, 0, 1, 0.02)),
        (replace(ONE, by_candidate=False), Tally(1, 1, 1, 0)),
        (replace(ONE, candidate=HELD), Tally(1, 0, 1, 1)),
        (replace(ONE, champion=CLEAR, candidate=CLEAR._replace(likely=0.5)), Tally(1, 0, 0, 0, 1, 0.5)),
    ],
)
def test_a_comparison_is_counted_in_the_hour_of_its_verdict(one: Comparison, tally: Tally) -> None:
    assert counted(one) == ((*SLOT[:2], one.by_candidate, FRIDAY), tally)


def test_what_is_counted_of_one_slot_is_added() -> None:
    found = summed([counted(ONE), counted(ONE), (SLOT, Tally(returned=1))])
    assert found == {SLOT: Tally(2, 2, 2, 0, 2, 0.04, 1)}


def outcome(**changes: object) -> Outcome:
    made = decide(profiles(FORMULA), Account(IN_THE_ARM, trial=CANARY), _small(), moment(NOW)).state.outcomes
    return replace(next(iter(made.values())), verdict="clear", **changes)  # type: ignore[arg-type]


def _small() -> RepaymentSettled:
    return builders.repayment_settled(account_id=IN_THE_ARM, amount_minor=10, restorable_minor=10)


def test_a_return_of_what_the_candidate_gave_back_is_counted_once_beside_what_was_expected() -> None:
    was = outcome()
    back = was.taken_back(
        builders.repayment_returned(return_class=Reason.RETURNED_INSUFFICIENT_FUNDS, occurred_at=NOW, reallocated=())
    )
    assert came_back(VERSION, FRIDAY, was, back) == (SLOT, Tally(returned=1))
    assert came_back(VERSION, FRIDAY, back, back) is None
    assert came_back(VERSION, FRIDAY, was, was) is None
    assert came_back("return-prior-3", FRIDAY, was, back) is None
    assert came_back(VERSION, NOW + timedelta(seconds=1), was, back) is None
    assert came_back(VERSION, FRIDAY, was, replace(back, verdict="observe")) is None
    assert came_back(VERSION, FRIDAY, was, replace(back, returned_by="customer")) is None


def test_the_sample_has_so_many_places_and_no_more() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    places = {place_of(f"r{n}", start + timedelta(hours=n)) for n in range(9_000)}
    assert min(places) >= 0
    assert max(places) < DAYS_KEPT * PLACES_A_DAY
    assert place_of("r1", start) == place_of("r1", start + timedelta(days=DAYS_KEPT))
    assert place_of("r1", start) != place_of("r1", start + timedelta(days=1))


@pytest.mark.parametrize(
    ("champion", "candidate", "ends"), [(10, 20, True), (11, 21, False), (0, 20, True), (0, 19, False), (50, 99, False)]
)
def test_a_canary_ends_when_it_holds_twice_as_many_and_at_least_twenty(
    champion: int, candidate: int, *, ends: bool
) -> None:
    stages = [
        Stage(0, True, champion, candidate - 1, 0.0, 0),
        Stage(1, True, 0, 1, 0.0, 0),
        Stage(1, False, 0, 500, 0, 0),
    ]
    found = broken(stages, SURVIVOR)
    said = f"{candidate} held, the model in force would have held {champion}"
    assert found == (Broken("hold_rate", said) if ends else None)


SURVIVOR = (1.0, 0.7, 0.05, 0.015, 0.005, 0.0)


@pytest.mark.parametrize(
    ("expected", "most"),
    [(0.0, 0), (0.01, 0), (0.1, 1), (1.0, 4), (10.0, 18), (100.0, 124), (EXACT_MAX, 553), (EXACT_MAX + 1, 554)],
)
def test_what_chance_allows_is_the_99th_percentile_of_a_poisson_count(expected: float, most: int) -> None:
    assert most_by_chance(expected) == most


@pytest.mark.parametrize(
    ("age", "expected", "returned", "ends"),
    [
        # 30 % of them are due on the first day: of 3.34 expected 1.00, by chance at most 4.
        (0, 10 / 3, 4, False),
        (0, 10 / 3, 5, True),
        # On the second day 95 % are: of 1.06 again 1.00.
        (1, 1 / 0.95, 4, False),
        (1, 1 / 0.95, 5, True),
        # All of them from the fifth on.
        (9, 1.0, 5, True),
        (9, 1.83, 5, False),
        # Nothing is due: the first two prove nothing yet.
        (0, 0.0, 2, False),
        (0, 0.0, 3, True),
    ],
)
def test_a_canary_ends_when_more_come_back_than_are_due(
    age: int, expected: float, returned: int, *, ends: bool
) -> None:
    stages = [Stage(age, False, 0, 0, expected, 1), Stage(age, True, 0, 0, 0.0, returned - 1)]
    found = broken(stages, SURVIVOR)
    assert (found is not None and found.rule == "returns") == ends


def test_a_trial_that_broke_a_rule_decides_and_compares_nothing() -> None:
    ended = replace(CANARY, broken=Broken("hold_rate", "20 held, the model in force would have held 10"))
    found, without = decided(ended, IN_THE_ARM), decided(None, IN_THE_ARM)
    assert found.events == without.events
    assert not found.state.compared
    assert HELD_LEAST == 20


def in_force(watch: Watch | None, trial: Trial | None = None, at: str = OUTSIDE) -> Decision[Account]:
    """Return what is decided with the candidate in force, watched beside the shipped table."""
    event = builders.repayment_settled(account_id=at, amount_minor=60_000, restorable_minor=60_000, owed_minor=540_000)
    champion = CANDIDATE if watch is None or watch.broken is None else watch.before
    state = Account(at, credit_limit_minor=600_000, champion=champion, watch=watch, trial=trial)
    return decide(profiles(FORMULA), state, event, moment(NOW))


WATCH = Watch(VERSION, FRIDAY, before=None)


def test_a_model_in_force_is_watched_beside_what_decided_before_it_without_effect() -> None:
    watched, without = in_force(WATCH), in_force(None)
    assert watched.events == without.events
    assert only(watched.events, RiskAssessed).model_version == VERSION
    (one,) = watched.state.watched.values()
    assert (one.version, one.began_at, one.by_candidate) == (VERSION, FRIDAY, True)
    assert (one.champion.verdict, one.candidate.verdict) == ("clear", "observe")
    assert counted(one)[1] == Tally(1, 1, 0, 1)
    assert one.restorable_minor == 60_000
    assert not watched.state.compared, "the sample is of trials"
    assert watched.state.counted_of == [(VERSION, FRIDAY)]


def test_what_a_canary_decides_is_not_counted_of_the_model_in_force() -> None:
    trial = replace(CANARY, version=VERSION)
    ours, others = in_force(WATCH, trial, IN_THE_ARM).state, in_force(WATCH, trial).state
    assert (len(ours.compared), len(ours.watched)) == (1, 0)
    assert (len(others.compared), len(others.watched)) == (1, 1)


def test_a_model_that_broke_a_rule_in_force_decides_nothing_more() -> None:
    found = in_force(replace(WATCH, broken=Broken("hold_rate", "20 held, the model in force would have held 0")))
    assert only(found.events, RiskAssessed).model_version == returns().version
    assert not found.state.watched


def test_what_decided_before_judges_beside_with_its_own_table() -> None:
    priced = profiles(FORMULA).of("default")
    older = Account(OUTSIDE, watch=replace(WATCH, before=CANDIDATE)).beside(priced)
    assert [beside.profile.formula for beside in older] == [CANDIDATE.prior]
    shipped = Account(OUTSIDE, watch=WATCH).beside(priced)
    assert [beside.profile.formula for beside in shipped] == [returns()]


def test_a_table_is_put_under_a_profile_once_and_again_when_the_profile_is_another() -> None:
    priced, table = profiles(FORMULA).of("default"), candidate()
    made = table.under(priced)
    assert made.formula == CANDIDATE.prior
    assert table.under(priced) is made
    newer = priced.model_copy(update={"version": "newer"})
    assert table.under(newer).policy_version == "default@newer"
    assert table.under(newer) is table.under(newer)


ASKED = Question(
    amount_minor=3_000, restorable_minor=3_000, credit_balance_minor=0, rail="REVERSIBLE", verified=False, strikes=0,
    instant_left_minor=3_000, settled_minor=0, credit_limit_minor=600_000, repaid_at=FRIDAY, now=NOW,
    rail_name="direct_debit",
)  # fmt: skip


def test_what_a_model_says_is_its_verdict_what_comes_back_at_once_the_last_date_and_the_odds() -> None:
    priced, scheduled = profiles(FORMULA).of("default"), profiles().of("default")
    ends = [(1_000, NOW), (800, NOW + timedelta(days=5)), (1_200, NOW + timedelta(days=2))]
    parts = tuple(Tranche(n, *part, Reason.RELEASE_TIMER) for n, part in enumerate(ends, start=1))
    held = ("observe", 1_000, NOW + timedelta(days=5))
    told = said_of(priced, ASKED, Verdict(parts, ()))
    assert told[:3] == held
    assert told.likely == pytest.approx(0.03, abs=1e-5)
    assert said_of(scheduled, ASKED, Verdict(parts, ())) == (*held, 0.0)
    assert said_of(scheduled, ASKED, Verdict(parts, (), refer=True)).verdict == "refer"
    over = Verdict(parts[:1], (), refer=True)
    assert said_of(scheduled, ASKED, over) == Said("clear", 1_000, None, 0.0), "its time is over: nobody looks"
