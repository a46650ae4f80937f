"""Past repayments decided again by another policy: what changes, what a hold caught, and how the page tells it."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.event import Event
from schemas.reasons import Reason
from services.cli.hold_yield import removable
from services.policy import Profiles
from services.risk_scoring.domain import decide
from services.risk_scoring.model import Account
from services.risk_scoring.outcomes import Outcome
from services.risk_training.replay_report import ReplayReport, html
from services.risk_training.replaying import Case, Replay, replayed, tenure
from services.values import replace
from tests import builders
from tests.unit.given import ALL_HELD, FRIDAY, china, moment, profiles
from tests.unit.reading import Read

NOW = FRIDAY + timedelta(seconds=5)
TUESDAY = china("2026-11-24", "06:00")
CAPPED: Mapping[str, object] = {"instant_cap_by_tier.unknown": 100_000}
FORMULA: Mapping[str, object] = {"hold.REVERSIBLE.method": "formula"}
OPENED = NOW - timedelta(days=100)
IN_FORCE = profiles(CAPPED)
RUN = {"assessed from": "2026-09-01", "known by": "2026-12-01"}


def outcome(
    name: str = "r1", minor: int = 500_000, *, taken_back: datetime | None = None, **changes: object
) -> Outcome:
    """Return what became of one repayment decided under CAPPED."""
    events: list[Event] = [
        builders.repayment_settled(repayment_id=name, amount_minor=minor, restorable_minor=minor,
                                   final_on=date(2027, 1, 19)),
    ]  # fmt: skip
    if taken_back is not None:
        why = {"return_class": Reason.RETURNED_INSUFFICIENT_FUNDS, "reallocated": (), **changes}
        events.append(builders.repayment_returned(repayment_id=name, occurred_at=taken_back, **why))
    state = Account(builders.ACCOUNT, credit_limit_minor=6_000_000)
    for event in events:
        state = decide(IN_FORCE, state, event, moment(NOW)).state
    (found,) = state.outcomes.values()
    return found


def again(*outcomes: Outcome, by: Profiles) -> Replay:
    found = replayed([Case(one, OPENED) for one in outcomes], IN_FORCE, by)
    assert not found.left_out
    (replay,) = found.by_currency.values()
    return replay


def test_the_same_policy_changes_nothing_and_gives_what_was_told() -> None:
    replay = again(outcome(), outcome("r2", 5_000), outcome("r3", taken_back=TUESDAY), by=IN_FORCE)
    assert replay.changes == {"the same": 3}
    assert replay.as_told == 3
    assert replay.largest == []
    assert replay.whole[0] == replay.whole[1]
    assert (replay.whole[0].count, replay.whole[0].good, replay.whole[0].holds) == (3, 2, 2)


def test_a_stricter_policy_withholds_its_amount_for_its_time() -> None:
    """All 500,000 held to the second banking day, instead of 100,000 now and 200,000 on each of two days."""
    good = outcome()
    replay = again(good, by=profiles(ALL_HELD))
    (moved,) = replay.largest
    due = [each.due_at for each in moved.before.verdict.tranches]
    wait = [(at - NOW).total_seconds() for at in due]
    assert wait[0] == 0
    assert moved.before.withheld == pytest.approx(200_000 * wait[1] + 200_000 * wait[2])
    assert moved.after.withheld == pytest.approx(500_000 * wait[1])
    assert replay.whole[1].days == pytest.approx(wait[1] / 86_400)
    assert replay.changes == {"later" if moved.by > 0 else "sooner": 1}


def test_what_was_given_back_before_it_was_taken_back_is_exposed_and_the_rest_was_kept() -> None:
    bad = outcome(taken_back=TUESDAY)
    replay = again(bad, by=profiles(ALL_HELD))
    before, after = replay.whole
    assert (before.exposed_minor, before.kept_minor) == (100_000, 400_000)
    assert (after.exposed_minor, after.kept_minor) == (0, 500_000)
    assert (before.caught, after.caught, before.good) == (1, 1, 0)
    assert before.lost > after.lost == 0
    assert before.withheld == after.withheld == 0, "only good customers are charged"
    (moved,) = replay.largest
    assert moved.after.withheld == pytest.approx(500_000 * (TUESDAY - NOW).total_seconds()), (
        "no longer than it was there"
    )


def test_a_policy_that_gives_all_back_holds_nothing() -> None:
    replay = again(
        outcome(), outcome("r2", taken_back=TUESDAY), by=profiles({"instant_cap_by_tier.unknown": 1_000_000})
    )
    before, after = replay.whole
    assert replay.changes == {"sooner": 2}
    assert (before.holds, after.holds) == (2, 0)
    assert after.hold_yield is None
    assert after.exposed_minor == 500_000
    assert after.cost == pytest.approx(after.lost)


def test_the_formula_can_be_asked_instead_of_the_schedule() -> None:
    replay = again(outcome(), outcome("r2", 5_000), by=profiles({**CAPPED, **FORMULA}))
    assert sum(replay.changes.values()) == 2
    assert replay.whole[1].count == 2
    assert replay.changes["the same"] == 1


def test_hold_yield_is_told_by_the_first_reason_of_a_hold_and_by_month() -> None:
    replay = again(outcome(), outcome("r2"), outcome("r3", taken_back=TUESDAY), by=IN_FORCE)
    (rule,) = replay.by_rule()
    side, _ = replay.by_rule()[rule]
    assert rule == Reason.HOLD_RAIL_REVERSIBLE
    assert (side.holds, side.caught, side.good_held) == (3, 1, 2)
    assert side.hold_yield == pytest.approx(1 / 3)
    assert list(replay.rules) == [(rule, "2026-11")]
    assert side.price == pytest.approx(side.withheld / 86_400 / 400_000)


def test_a_rule_that_caught_nothing_in_90_days_is_proposed_for_removal_once_so_much_is_known() -> None:
    idle, busy = again(outcome(), by=IN_FORCE), again(outcome(taken_back=TUESDAY), by=IN_FORCE)
    assert idle.idle(date(2027, 1, 1)) == []
    assert idle.idle(date(2027, 3, 1)) == [Reason.HOLD_RAIL_REVERSIBLE]
    assert busy.idle(date(2027, 2, 17)) == []
    assert busy.idle(date(2027, 2, 18)) == [Reason.HOLD_RAIL_REVERSIBLE]


def test_what_cannot_be_judged_again_is_counted_and_left_out() -> None:
    ours = outcome("r1", taken_back=TUESDAY, fault="issuer")
    old = replace(outcome("r2"), inputs=())
    foreign = replace(outcome("r3"), product="another")
    found = replayed([Case(one, None) for one in (ours, old, foreign)], IN_FORCE, profiles())
    assert found.by_currency == {}
    assert sum(found.left_out.values()) == 3
    assert any("another" in why for why in found.left_out)


def test_a_return_after_the_hold_was_over_is_not_its_catch() -> None:
    late = again(outcome(taken_back=TUESDAY + timedelta(days=30)), by=IN_FORCE)
    side = late.whole[0]
    assert (side.holds, side.caught, side.good_held, side.exposed_minor) == (1, 0, 0, 500_000)


def test_an_outcome_keeps_what_held_it() -> None:
    assert outcome().rule == Reason.HOLD_RAIL_REVERSIBLE
    assert outcome(minor=5_000).rule is None


def test_what_is_removable_was_known_for_90_days_and_caught_nothing_in_them() -> None:
    days = {name: NOW - timedelta(days=n) for name, n in (("old", 91), ("new", 89))}
    rows = [
        {"rule": "young", "first_at": days["new"], "last_caught_at": None},
        {"rule": "idle", "first_at": days["old"], "last_caught_at": None},
        {"rule": "idle", "first_at": days["new"], "last_caught_at": None},
        {"rule": "was busy", "first_at": days["old"], "last_caught_at": days["old"]},
        {"rule": "is busy", "first_at": days["old"], "last_caught_at": days["new"]},
    ]
    assert removable(rows, NOW) == ["idle", "was busy"]


@pytest.mark.parametrize(
    ("opened", "told"),
    [(None, "unknown"), (100, "under 6 months"), (300, "6 to 24 months"), (900, "over 24 months")],
)
def test_tenure_is_counted_to_the_decision(opened: int | None, told: str) -> None:
    at = None if opened is None else NOW - timedelta(days=opened)
    assert tenure(Case(outcome(), at)) == told


@given(st.integers(1, 2_000_000), st.integers(0, 3_000_000), st.none() | st.integers(1, 40))
def test_every_unit_is_exposed_or_kept_and_a_wait_is_never_negative(minor: int, cap: int, days: int | None) -> None:
    back = None if days is None else NOW + timedelta(days=days)
    one = outcome(minor=minor, taken_back=back)
    default = IN_FORCE.by_product["default"]
    caps = {**default.instant_cap_by_tier, "unknown": cap}
    replay = again(one, by=Profiles({"default": default.model_copy(update={"instant_cap_by_tier": caps})}))
    for side in replay.whole:
        assert side.exposed_minor + side.kept_minor == (0 if days is None else minor)
        assert side.withheld >= 0
        assert side.cost >= 0
    if cap >= 100_000:
        assert replay.whole[1].withheld <= replay.whole[0].withheld
        assert replay.whole[1].exposed_minor >= replay.whole[0].exposed_minor


def page() -> str:
    cases = [Case(outcome(), OPENED), Case(outcome("r2", taken_back=TUESDAY), None), Case(outcome("r3", 900), OPENED)]
    return html(ReplayReport(replayed(cases, IN_FORCE, profiles(ALL_HELD)), RUN, date(2026, 12, 1)))


def test_the_page_is_the_same_again_readable_offline_and_tells_its_figures() -> None:
    read = Read(page())
    read.check()
    assert page() == page()
    said = " ".join(read.words)
    assert "given back before it was taken back 100,000 0 -100,000" in said
    assert "Less than 90 days are known: no rule is proposed for removal." in said
    assert "tenure under 6 months, in force 2 50.0% 50.0%" in said
    assert "r2 500,000 direct_debit" in said


def test_figures_for_programs_are_those_of_the_page() -> None:
    found = replayed([Case(outcome(taken_back=TUESDAY), None)], IN_FORCE, profiles(ALL_HELD))
    told = ReplayReport(found, RUN, date(2026, 12, 1)).described
    (figures,) = told["currencies"].values()
    assert (figures["in_force"]["exposed_minor"], figures["other"]["exposed_minor"]) == (100_000, 0)
    assert figures["proposed_for_removal"] == []
