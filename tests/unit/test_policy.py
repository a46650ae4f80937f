"""Profiles: what is refused at load, and what a decision may ask."""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime

import pytest

from services.decision import Malformed, Moment, Timer
from services.policy import Calendar, Profile, Profiles, parse_profile
from services.profiles import calendar
from tests import builders
from tests.unit.given import FRIDAY, china, moment, profile, profiles, table, weekdays

HALVES = [{"share_bps": 5_000, "banking_days": 2}, {"share_bps": 4_999, "banking_days": 5}]
SECONDS = [{"share_bps": 10_000, "seconds": 5}]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"hold.REVERSIBLE.rest": HALVES}, "shares must add up to 10000"),
        ({"hold.REVERSIBLE.verified_funding_account": HALVES}, "shares must add up to 10000"),
        ({"hold.REVERSIBLE.rest": []}, "shares must add up to 10000"),
        ({"hold.REVERSIBLE.rest": [{"share_bps": 10_000}]}, "banking_days or seconds"),
        (
            {"hold.REVERSIBLE.rest": [{"share_bps": 10_000, "banking_days": 1, "seconds": 1}]},
            "banking_days or seconds",
        ),
        ({"hold.REVERSIBLE.rest": SECONDS}, "demo's profile only"),
        ({"hold.REVERSIBLE.verified_funding_account": SECONDS}, "demo's profile only"),
        ({"hold.REVERSIBLE": None}, "hold.REVERSIBLE is missing"),
        ({"rails.unknown": None}, "rails.unknown is missing"),
        ({"instant_cap_by_tier.unknown": None}, "instant_cap_by_tier.unknown is missing"),
        ({"instant_cap_by_tier.F": 1}, "instant_cap_by_tier.F"),
        ({"waterfall.component": ["fee", "principal"]}, "every component once"),
        ({"waterfall.component": ["fee", "fee", "interest", "principal"]}, "every component once"),
        ({"calendar": None}, "\\[calendar\\] is missing"),
        ({"calendar.banking_cut_off": "24:30"}, "calendar.banking_cut_off"),
        ({"calendar.credited_cut_off": "7:00"}, "calendar.credited_cut_off"),
        ({"calendar.release_time": "late"}, "calendar.release_time"),
        ({"timezone": "Asia/Nowhere"}, "not an IANA time zone name"),
        ({"currency": "Yuan"}, "currency"),
        ({"limit_basis": "ALL"}, "limit_basis"),
        ({"instant_kap": 1}, "instant_kap"),
        ({"hold.REVERSIBLE.windows_hours": 72}, "windows_hours"),
        ({"rails.wallet": {"class": "CERTAIN"}}, "rails.wallet.class"),
    ],
)
def test_a_profile_that_says_something_wrong_is_refused_by_name(changes: Mapping[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        profile(changes)


@pytest.mark.parametrize("name", ["default", "demo"])
def test_the_profiles_that_come_with_it_are_valid(name: str) -> None:
    parsed = parse_profile(table(name=name), calendar)
    assert parsed.policy_version == f"{name}@2026-11-01.1"
    with pytest.raises(ValueError, match="frozen"):
        parsed.__setattr__("product", "other")


def test_rests_in_seconds_are_accepted_in_the_demos_profile() -> None:
    assert profile({"product": "demo", "hold.REVERSIBLE.rest": SECONDS}).hold["REVERSIBLE"].rest[0].seconds == 5


def test_a_rail_nobody_listed_is_unknown() -> None:
    assert profile().rail("carrier_pigeon").rail_class == "PENDING"


def test_without_a_reversible_rail_a_pending_one_has_its_own_tail() -> None:
    rails = {"unknown": {"class": "PENDING", "tail_calendar_days": 7}}
    rules = profile({"rails": rails})
    assert rules.tail_calendar_days(rules.rail("any")) == 7


def test_a_product_nobody_listed_is_malformed() -> None:
    assert profiles().of("default").product == "default"
    with pytest.raises(Malformed, match="unknown_product:other"):
        Profiles({}).of("other")


def test_a_day_ends_at_midnight_under_a_cut_off_of_24() -> None:
    assert profile().credited_on(china("2026-11-20", "23:59:59.999")) == date(2026, 11, 20)
    assert profile().credited_on(china("2026-11-21", "00:00")) == date(2026, 11, 21)


def test_a_repayment_on_a_weekend_counts_from_the_next_banking_day() -> None:
    assert profile().banking_day(china("2026-11-21")) == date(2026, 11, 23)


def test_credit_comes_back_at_the_local_release_time() -> None:
    assert profile().release_at(date(2026, 11, 24)) == datetime(2026, 11, 24, 1, 0, tzinfo=UTC)


def test_a_calendar_without_a_banking_day_in_a_month_says_so() -> None:
    with pytest.raises(ValueError, match="no banking day near 2026-12-31 in empty"):
        Calendar("empty", frozenset()).on_or_after(date(2026, 12, 1))


@pytest.mark.parametrize(("days", "day"), [(0, 20), (1, 23), (2, 24)])
def test_banking_days_are_counted_one_by_one(days: int, day: int) -> None:
    assert weekdays().after(date(2026, 11, 20), days) == date(2026, 11, day)


@pytest.mark.parametrize("part", [lambda p: p.calendar, lambda p: p.waterfall, lambda p: p.promise])
def test_every_part_of_a_profile_is_frozen(part: Callable[[Profile], object]) -> None:
    with pytest.raises(ValueError, match="frozen"):
        part(profile()).__setattr__("name", "x")


def test_the_stretches_of_a_moment_come_in_order() -> None:
    down = ("system_delay.dependency_down", FRIDAY)
    assert moment(FRIDAY).stretches() == (
        ("system_delay.kafka_queue", FRIDAY),
        ("system_delay.processing", FRIDAY),
    )
    assert Moment(FRIDAY, FRIDAY, FRIDAY, (("system_delay.dependency_down", FRIDAY),)).stretches()[1] == down


def test_setting_the_same_timer_twice_is_one_timer() -> None:
    timers = [Timer(builders.ACCOUNT, "hold_due", "r1", 2, due) for due in (FRIDAY, china("2026-11-24"))]
    assert {timer.key for timer in timers} == {"hold_due:r1:2"}
