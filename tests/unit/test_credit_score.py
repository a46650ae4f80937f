"""The committed table of the credit score: complete, monotone, exact, and nothing it may not ask."""

import json
import subprocess
import sys
from math import inf, nextafter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.reasons import Reason
from schemas.risk import Tier
from services.cli.workers import EVERYONE
from services.profiles import credit_score
from services.risk_training.dataset import NEVER_USED, WrongData, load, part_of
from services.scorecard import (
    BETTER_WHEN_MORE,
    FACTOR_OF,
    FEATURES,
    TIERS,
    Feature,
    Scorecard,
    default_probability,
    next_tier,
    score_of,
    shown,
    tier_of,
)
from services.statements import KEPT_MONTHS, SCORED_MONTHS, Month, features

TABLE = credit_score()
BILL = st.integers(-5_000, 3_000_000)
MONTHS = st.builds(Month, st.just(0), BILL, st.integers(1, 1_000_000), st.just(0), st.just(1), st.integers(0, 10**6))
HISTORIES = st.lists(MONTHS, max_size=KEPT_MONTHS)
WHOLE = st.lists(MONTHS, min_size=KEPT_MONTHS, max_size=KEPT_MONTHS)
AT_REST: dict[Feature, float | None] = dict.fromkeys(FEATURES, 0.0)


def test_the_table_has_31_features_and_asks_nothing_of_who_the_customer_is() -> None:
    assert len(FEATURES) == len(TABLE.features) == 31
    told = json.dumps(TABLE.model_dump(mode="json")["features"]).upper()
    assert not [name for name in (*NEVER_USED, "LIMIT_BAL") if name in told]


@pytest.mark.parametrize("name", FEATURES)
def test_a_feature_is_monotone_over_all_its_values(name: Feature) -> None:
    edges = TABLE.features[name].edges
    around = [value for edge in edges for value in (nextafter(edge, -inf), edge, nextafter(edge, inf))]
    scores = [TABLE.score({**AT_REST, name: value}) for value in (-1e9, *around, 1e9)]
    assert scores == sorted(scores, reverse=name not in BETTER_WHEN_MORE)


@given(HISTORIES, st.sampled_from(FEATURES), st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_more_of_what_is_good_never_lowers_a_score(months: list[Month], name: Feature, at: float, more: float) -> None:
    known = features(months, 1)
    one, two = TABLE.score({**known, name: at}), TABLE.score({**known, name: at + more})
    assert (one <= two) if name in BETTER_WHEN_MORE else (one >= two)


@given(HISTORIES)
def test_points_add_up_to_the_score_exactly(months: list[Month]) -> None:
    known = features(months, 1)
    assert TABLE.base + sum(TABLE.factors(known).values()) == TABLE.score(known)
    assert known.keys() == set(FEATURES)


@given(WHOLE, st.integers(0, 5), st.integers(1, 10**6))
def test_paying_more_never_lowers_a_score(months: list[Month], n: int, more: int) -> None:
    paid = [*months]
    paid[n + 1] = paid[n + 1]._replace(paid_minor=paid[n + 1].paid_minor + more)
    assert TABLE.score(features(paid, 1)) >= TABLE.score(features(months, 1))


def test_what_history_does_not_reach_has_its_own_bin() -> None:
    month = Month(0, 1_000, 10_000, due_day=1, paid_minor=500)
    for count in range(SCORED_MONTHS):
        missing = {name for name, value in features([month] * count, 1).items() if value is None}
        assert {f"late_{n + 1}" for n in range(count, SCORED_MONTHS)} <= missing
        assert {"late_max", "use_mean", "payment_mean", "on_time_streak"} <= missing
    assert None not in features([month] * KEPT_MONTHS, 1).values()
    assert any(one.missing != one.of(0.0) for one in TABLE.features.values())


def test_the_schema_fails_closed() -> None:
    whole = TABLE.model_dump(mode="json")
    with pytest.raises(KeyError):
        TABLE.score({name: 0.0 for name in FEATURES if name != "late_1"})
    unknown = {**whole, "features": {**whole["features"], "AGE": whole["features"]["late_1"]}}
    fewer = {**whole, "features": {name: one for name, one in whole["features"].items() if name != "late_1"}}
    bent = {**whole, "features": {**whole["features"], "late_max": {"edges": [1], "points": [-9, 0], "missing": 0}}}
    for wrong in (unknown, fewer, bent, {**whole, "near_pass": {}}, {**whole, "more": 1}):
        with pytest.raises(ValidationError):
            Scorecard.model_validate(wrong)


def test_640_points_are_11_1_percent_and_40_points_double_the_odds() -> None:
    assert [round(100 * default_probability(100 * score), 1) for score in (640, 612, 665)] == [11.1, 16.9, 7.5]
    assert score_of(default_probability(61_159)) == pytest.approx(611.59)
    assert [shown(score) for score in (61_159, 61_149, 61_150, 64_000)] == [612, 611, 612, 640]


def test_every_feature_speaks_through_a_reason_of_the_limit() -> None:
    assert set(FACTOR_OF.values()) == {
        Reason.LATE_PAYMENTS,
        Reason.HIGH_UTILISATION,
        Reason.RISING_BALANCE,
        Reason.SMALL_SHARE_OF_BILL,
        Reason.SMALL_PAYMENTS,
        Reason.NOT_ACTIVE,
    }
    assert FACTOR_OF["use_trend"] == Reason.RISING_BALANCE
    assert FACTOR_OF["on_time_streak"] == Reason.LATE_PAYMENTS


@pytest.mark.parametrize(
    ("score", "tier"),
    [(66_500, "A"), (66_499, "B"), (64_000, "B"), (63_999, "C"), (60_000, "C"), (59_999, "D"), (51_999, "E")],
)
def test_a_score_has_its_band(score: int, tier: str) -> None:
    assert tier_of(score) == tier
    assert next_tier("unknown", score) == tier


def test_a_tier_changes_only_when_a_score_is_five_points_past_its_border() -> None:
    assert [next_tier("C", score) for score in (64_499, 64_500, 59_500, 59_499)] == ["C", "B", "C", "D"]
    assert next_tier("A", 50_000) == "E"
    assert next_tier("E", 70_000) == "A"


@given(st.sampled_from(TIERS), st.integers(-50_000, 150_000))
def test_a_tier_is_left_only_for_what_both_ends_of_the_band_around_a_score_agree_on(tier: Tier, score: int) -> None:
    around = {tier_of(score - 500), tier_of(score), tier_of(score + 500)}
    assert next_tier(tier, score) == tier if tier in around else next_tier(tier, score) in around


def test_training_refuses_any_other_file() -> None:
    with pytest.raises(WrongData, match="OTB_RISK_DATASET"):
        load(None)


def test_the_split_depends_on_the_row_alone() -> None:
    assert [part_of(row) for row in (1, 2, 3, 925)] == [part_of(row) for row in (1, 2, 3, 925)]
    assert part_of(925) == "test"


def test_no_worker_loads_what_only_training_needs() -> None:
    load_all = ";".join(f"import services.{worker.package}.worker" for worker in EVERYONE)
    probe = f"import sys;{load_all};print({{'numpy', 'lightgbm', 'services.risk_training'}} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"
