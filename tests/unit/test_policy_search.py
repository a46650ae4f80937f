"""A search for a cheaper hold policy: deterministic, judged on what chose nothing, and proposed only if worth it."""

from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from schemas.reasons import Reason
from services.cli.risk import app
from services.policy import Profile
from services.risk_scoring.domain import decide
from services.risk_scoring.model import Account
from services.risk_scoring.outcomes import Outcome
from services.risk_training.replaying import Case
from services.risk_training.search_report import SearchReport, html, told
from services.risk_training.searching import (
    AS_IT_IS,
    FINALISTS,
    SETTINGS,
    TRIED,
    Came,
    Found,
    Score,
    Setting,
    decisions,
    drawn,
    parted,
    planted,
    recorded,
    search,
    under,
)
from services.risk_training.simulator import formula_profile
from services.values import replace
from tests import builders
from tests.unit.given import FRIDAY, china, moment, profiles
from tests.unit.reading import Read

PROFILE = formula_profile()
HELD = Score(None, count=1_000, cost=100_000.0, holds=100, good=990, good_held=95)
RUN = {"settings": "12", "policy": PROFILE.policy_version}


def found_in(profile: Profile = PROFILE, *, seed: int = 1, count: int = 40) -> Found:
    return search(planted(seed, 400, profile), planted(99, 200, profile), profile, drawn(seed, count), seed=seed)


def test_a_thousand_settings_are_drawn_the_same_ones_for_a_seed_and_what_is_in_force_among_them() -> None:
    settings = drawn(7, SETTINGS)
    assert len(settings) == len(set(settings)) == SETTINGS == 1_000
    assert settings[0] == AS_IT_IS
    assert settings == drawn(7, SETTINGS) != drawn(8, SETTINGS)
    assert all(value in tried for one in settings for value, tried in zip(one, TRIED, strict=True))


def test_what_is_in_force_as_a_setting_decides_as_the_profile_does() -> None:
    among = planted(3, 300, PROFILE)
    assert [one(PROFILE) for one in among] == [one(under(PROFILE, AS_IT_IS)) for one in among]


@given(st.sampled_from(TRIED[0]), st.sampled_from(TRIED[2]), st.sampled_from(TRIED[4]))
def test_a_setting_changes_what_it_names_and_what_follows_from_it(day: int, need: int, cap: int) -> None:
    """Prices keep what they computed: a copy of them would still weigh with the figures before."""
    usual = PROFILE.hold["REVERSIBLE"].prices
    assert usual.waits
    changed = under(PROFILE, Setting(day=day, need=need, cap=cap))
    prices = changed.hold["REVERSIBLE"].prices
    assert [wait.waited for wait in prices.waits] == [prices.day_minor * wait.days for wait in usual.waits]
    assert [wait.need for wait in prices.waits] == [prices.need(wait.days) for wait in usual.waits]
    assert prices.day_minor == usual.day_minor * day // 100
    assert changed.instant_cap_by_tier["unknown"] == PROFILE.instant_cap_by_tier["unknown"] * cap // 100
    assert told(PROFILE, Setting(cap=cap))["instant_cap_by_tier.unknown"] == changed.instant_cap_by_tier["unknown"]


def test_the_same_input_finds_the_same_and_writes_the_same_page() -> None:
    first, again = found_in(), found_in()
    assert first == again
    assert html(SearchReport(first, PROFILE, RUN)) == html(SearchReport(again, PROFILE, RUN))
    assert first != found_in(seed=2)


def test_each_round_keeps_the_cheapest_on_more_repayments_and_counts_its_decisions() -> None:
    made: list[int] = []
    market, others, settings = planted(1, 400, PROFILE), planted(99, 200, PROFILE), drawn(1, 200)
    found = search(market, others, PROFILE, settings, seed=1, step=made.append)
    assert [len(scores) - 1 for scores in found.rounds] == [200, 25, FINALISTS]
    assert [scores[0].count for scores in found.rounds] == [50, 200, 400]
    assert sum(made) == decisions(200, 400, 200)
    for before, after in pairwise(found.rounds):
        (force,) = (one for one in before if one.setting is None)
        near = [one.setting for one in before if one.setting and abs(one.holds - force.holds) <= 0.2 * force.holds]
        room, went_on = len(after) - 1, {one.setting for one in after}
        cheapest = [one.setting for one in before if one.setting][: room // 2]
        assert went_on >= {*cheapest, *near[: room - room // 2]}
    assert [one.cost for one in found.rounds[2]] == sorted(one.cost for one in found.rounds[2])
    assert found.best.count == found.in_force.count == 200


@pytest.mark.parametrize(
    ("cost", "holds", "met"),
    [
        (98_000.0, 100, (True, True)),
        (98_001.0, 100, (False, True)),
        (98_000.0, 120, (True, True)),
        (98_000.0, 121, (True, False)),
        (98_000.0, 80, (True, True)),
        (98_000.0, 79, (True, False)),
    ],
)
def test_it_is_proposed_when_it_is_2_percent_cheaper_and_holds_as_many_within_20(
    cost: float, holds: int, met: tuple[bool, bool]
) -> None:
    best = scored(cost, holds)
    found = Found(((best,), (best,), (HELD, best)), HELD, best)
    assert tuple(does for _, does in found.checks) == met
    assert found.proposed == (best.setting if all(met) else None)


def scored(cost: float, holds: int) -> Score:
    return Score(Setting(day=50), count=1_000, cost=cost, holds=holds, good=990, good_held=holds)


def test_the_cheapest_that_holds_alike_goes_on_to_be_judged() -> None:
    """What gives everything back at once may be cheaper on a day without a return: it holds none, and is not chosen."""

    def one(by: Profile) -> Came:
        caps = by.instant_cap_by_tier["unknown"]
        return Came(float(caps == PROFILE.instant_cap_by_tier["unknown"]), held=caps <= 200_000, good=True)

    settings = [AS_IT_IS, Setting(cap=400), Setting(cap=150)]
    found = search([one] * 10, [one] * 10, PROFILE, settings, seed=1)
    assert found.rounds[-1][0].setting != AS_IT_IS
    assert found.best.setting == Setting(cap=150)


def outcome(name: str, *, days: int = 0, **returned: object) -> Outcome:
    """Return what became of a repayment decided by the profile in force."""
    now = FRIDAY + timedelta(days=days, seconds=5)
    state = Account(builders.ACCOUNT, credit_limit_minor=6_000_000)
    event = builders.repayment_settled(repayment_id=name, final_on=date(2027, 1, 19), owed_minor=5_500_000)
    state = decide(profiles({"hold.REVERSIBLE.method": "formula"}), state, event, moment(now)).state
    if returned:
        why = {"return_class": Reason.RETURNED_INSUFFICIENT_FUNDS, "reallocated": (), **returned}
        back = builders.repayment_returned(repayment_id=name, **why)
        state = decide(profiles({}), state, back, moment(now)).state
    return state.outcomes[name]


def test_repayments_of_the_ledger_are_decided_again_oldest_first_and_cost_what_a_replay_says() -> None:
    profile = profiles({"hold.REVERSIBLE.method": "formula"}).of("default")
    bad = outcome("r2", days=1, occurred_at=china("2026-11-25", "06:00"))
    ours = outcome("r3", occurred_at=china("2026-11-25", "06:00"), fault="issuer")
    older = replace(outcome("r4"), inputs=())
    cases = [Case(one, None) for one in (bad, outcome("r1", days=2), outcome("r0"), ours, older)]
    found = recorded(cases, profile)
    came = [one(profile) for one in found]
    assert [one.good for one in came] == [True, False, True], "by when it was assessed; ours and the older one left out"
    assert all(one.held for one in came)
    assert not recorded(cases, profile.model_copy(update={"product": "another"}))
    free = under(profile, Setting(declined=400, need=400))
    assert [one(free) for one in found] != came


def test_the_later_third_is_judged_on() -> None:
    among = planted(1, 10, PROFILE)
    older, later = parted(among)
    assert (len(older), len(later)) == (7, 3)
    assert [*older, *later] == among


def test_the_page_reads_offline_and_tells_what_is_proposed() -> None:
    found = found_in()
    page = html(SearchReport(found, PROFILE, RUN))
    Read(page).check()
    assert "What is proposed" in page
    chosen = scored(90_000.0, 100)
    report = SearchReport(Found(found.rounds, HELD, chosen), PROFILE, RUN)
    assert "day 50 %" in html(report)
    assert report.described["proposed"]["hold.REVERSIBLE.prices.day_minor"] == 12
    assert SearchReport(Found(found.rounds, HELD, HELD), PROFILE, RUN).described["proposed"] is None


def test_the_command_searches_the_planted_market_and_needs_no_server(tmp_path: Path) -> None:
    asked = ["search", "--planted", "120", "--settings", "12", "--out", str(tmp_path / "search.html")]
    once = CliRunner().invoke(app, asked)
    assert once.exit_code == 0, once.output
    first = (tmp_path / "search.html").read_bytes()
    assert CliRunner().invoke(app, asked).exit_code == 0
    assert (tmp_path / "search.html").read_bytes() == first
    assert "the best of 12 costs" in once.output
