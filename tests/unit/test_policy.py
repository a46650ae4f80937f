"""Profiles: what is refused at load, and what a decision may ask."""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.decision import Malformed, Moment, Timer
from services.policy import Calendar, CalendarName, Profile, Profiles, parse_profile
from services.profiles import calendar, marks, returns
from tests import builders
from tests.unit.given import FRIDAY, POLICY, china, moment, profile, profiles, table, weekdays

HALVES = [{"share_bps": 5_000, "banking_days": 2}, {"share_bps": 4_999, "banking_days": 5}]
SECONDS = [{"share_bps": 10_000, "seconds": 5}]
FIFTH_DAY = [{"share_bps": 10_000, "banking_days": 5}]
PRODUCTS = ("jd_baitiao", "ant_huabei", "tencent_fenfu", "discover_it")


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
        (
            {"hold.REVERSIBLE.rest": SECONDS, "hold.REVERSIBLE.verified_funding_account": SECONDS},
            "demo's profiles only",
        ),
        ({"hold.REVERSIBLE.verified_funding_account": SECONDS}, "demo's profiles only"),
        ({"hold.REVERSIBLE.prices": {"day_seconds": 6}}, "hold.REVERSIBLE.rest counts in seconds"),
        ({"hold.REVERSIBLE": None}, "hold.REVERSIBLE is missing"),
        ({"rails.unknown": None}, "rails.unknown is missing"),
        (
            {"rails.wallet": {"class": "FINAL", "tail_calendar_days": 1}},
            "rails.wallet.tail_calendar_days must be 0 on a",
        ),
        ({"rails.cheque": {"class": "REVERSIBLE"}}, "rails.cheque.tail_calendar_days must be 0 on a FINAL rail, and"),
        ({"rails": {"unknown": {"class": "PENDING"}}}, "rails.unknown.tail_calendar_days must be 0 on a FINAL rail,"),
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
        ({"calendar.name": "mars"}, "calendar.name"),
        ({"hold.REVERSIBLE.method": "guess"}, "hold.REVERSIBLE.method"),
        ({"hold.REVERSIBLE.verified_funding_account": FIFTH_DAY}, "verified_funding_account gives credit back later"),
        ({"hold.REVERSIBLE.large": {"above_minor": 1, "rest": HALVES}}, "hold.REVERSIBLE.large.rest shares must"),
        ({"hold.REVERSIBLE.max_calendar_days": 15}, "hold.REVERSIBLE.rest may last 16 calendar days in cn-banking@"),
        ({"hold.REVERSIBLE.refer_banking_days": 6}, "hold.REVERSIBLE.refer_banking_days may last 18 calendar days"),
        ({"minimum": {"share_bps": 10_001}}, "minimum.share_bps"),
        ({"standing": {"restrictions": ["Frozen!"]}}, "standing.restrictions"),
    ],
)
def test_a_profile_that_says_something_wrong_is_refused_by_name(changes: Mapping[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        profile(changes)


@pytest.mark.parametrize("name", ["default", "demo", "demo_formula", *PRODUCTS])
def test_the_profiles_that_come_with_it_are_valid(name: str) -> None:
    parsed = parse_profile(table(name=name), calendar, returns())
    assert parsed.policy_version == f"{name}@2026-11-01.1"
    with pytest.raises(ValueError, match="frozen"):
        parsed.__setattr__("product", "other")


def test_the_formula_needs_its_table() -> None:
    wanted = {"hold.REVERSIBLE.method": "formula"}
    with pytest.raises(ValueError, match=r"hold\.REVERSIBLE\.method needs the table of returns"):
        parse_profile(table(wanted), calendar)
    found = profile(wanted).formula
    assert found is not None
    assert found.version == "return-prior-1"
    assert profile().formula is None


def test_rests_in_seconds_are_accepted_in_the_demos_profile() -> None:
    both = {"hold.REVERSIBLE.rest": SECONDS, "hold.REVERSIBLE.verified_funding_account": SECONDS}
    assert profile({"product": "demo", **both}).hold["REVERSIBLE"].rest[0].seconds == 5


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


@pytest.mark.parametrize(("day", "first"), [("2026-07-03", "2026-07-03"), ("2026-07-04", "2026-07-06")])
def test_r16_the_federal_reserve_works_on_the_friday_before_a_holiday_on_a_saturday(day: str, first: str) -> None:
    assert calendar("us-fed").on_or_after(date.fromisoformat(day)) == date.fromisoformat(first)


def test_r16_outside_the_years_of_a_calendar_monday_to_friday_count() -> None:
    assert calendar("cn-banking").after(date(2031, 1, 3), 2) == date(2031, 1, 7)
    assert Calendar("empty", frozenset()).on_or_after(date(2026, 12, 5)) == date(2026, 12, 7)


@pytest.mark.parametrize(("days", "day"), [(0, 20), (1, 23), (2, 24)])
def test_banking_days_are_counted_one_by_one(days: int, day: int) -> None:
    assert weekdays().after(date(2026, 11, 20), days) == date(2026, 11, day)


@given(st.dates(date(2019, 12, 1), date(2032, 2, 1)), st.integers(0, 16), st.sampled_from(("cn-banking", "us-fed")))
def test_banking_days_looked_up_are_those_counted_from_any_day(day: date, days: int, name: CalendarName) -> None:
    counted = day
    for _ in range(days):
        counted = calendar(name).on_or_after(counted + timedelta(days=1))
    assert calendar(name).after(day, days) == counted


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


def of(product: str) -> Profile:
    return parse_profile(table(name=product), calendar)


@pytest.mark.parametrize(
    ("product", "statement", "used", "minimum"),
    [
        ("default", 200_000, 500_000, 200_000),
        ("jd_baitiao", 20_000, 240_000, 20_000),
        ("ant_huabei", 200_005, 300_000, 20_000),
        ("tencent_fenfu", 10_300, 10_000, 10_300),
        ("tencent_fenfu", 10_301, 10_001, 1_330),
        ("discover_it", 200_000, 200_000, 4_000),
        ("discover_it", 100_000, 100_000, 3_500),
        ("discover_it", 3_000, 100_000, 3_000),
    ],
)
def test_r20_the_minimum_due_follows_the_product(product: str, statement: int, used: int, minimum: int) -> None:
    interest = 300 if product == "tencent_fenfu" else 0
    assert of(product).minimum_due(statement, used, interest) == minimum


def test_a_minimum_may_be_a_share_of_what_is_used() -> None:
    rules = profile({"minimum": {"share_bps": 1_000, "share_of": "used"}})
    assert rules.minimum_due(90_000, 200_000) == 20_000


@pytest.mark.parametrize(
    ("product", "basis", "refund", "cap", "cut_offs", "spendable", "currency"),
    [
        ("default", "PRINCIPAL", "last_instalment_first", 100_000, ("24:00", "23:00"), False, "CNY"),
        ("jd_baitiao", "PRINCIPAL", "last_instalment_first", 100_000, ("24:00", "23:00"), False, "CNY"),
        ("ant_huabei", "PRINCIPAL", "last_instalment_first", 500_000, ("24:00", "23:00"), False, "CNY"),
        ("tencent_fenfu", "PRINCIPAL", "oldest_due", 100_000, ("24:00", "23:00"), False, "CNY"),
        ("discover_it", "TOTAL", "oldest_due", 50_000, ("17:00", "17:00"), True, "USD"),
    ],
)
def test_the_five_products_are_those_of_the_table(
    product: str, basis: str, refund: str, cap: int, cut_offs: tuple[str, str], spendable: bool, currency: str
) -> None:
    found = of(product)
    assert (found.limit_basis, found.waterfall.refund, found.currency) == (basis, refund, currency)
    assert (found.calendar.credited_cut_off, found.calendar.banking_cut_off) == cut_offs
    assert found.credit_balance_spendable is spendable
    caps = dict(found.instant_cap_by_tier)
    assert (caps["C"], caps["unknown"], caps["E"]) == (cap, cap, 0)
    assert product == "default" or {caps[tier] for tier in ("A", "B", "C", "D", "unknown")} == {cap}
    assert (found.promise.clear_seconds, found.promise.hold_slack_seconds) == (60, 60)
    assert found.hold["REVERSIBLE"].window_hours == 72
    assert found.waterfall.principal == ("highest_apr" if product == "discover_it" else "oldest_due")
    assert {rail.rail_class for name, rail in found.rails.items() if name == "unknown"} == {"PENDING"}


def test_what_only_one_product_has_is_in_its_profile() -> None:
    baitiao, fenfu, discover = of("jd_baitiao"), of("tencent_fenfu"), of("discover_it")
    assert baitiao.standing.restrictions == ("limit_frozen", "repayment_restricted", "order_cancelled")
    assert (baitiao.standing.lifted_after_hours, baitiao.automatic_repayment.order) == (24, ("wallet", "card"))
    assert (baitiao.purchase_refund.shown_days_min, baitiao.purchase_refund.shown_days_max) == (1, 15)
    assert of("ant_huabei").standing.restrictions == ("overdue", "cash_out_misuse", "rapid_respend")
    assert (fenfu.limit_review.basis, discover.limit_review.basis) == ("score_and_activity", "automatic")
    assert discover.hold["REVERSIBLE"].large is not None
    assert discover.hold["REVERSIBLE"].large.above_minor == 1_000_000
    assert discover.timezone == "America/New_York"


PUBLIC = {
    "default": set(),
    "jd_baitiao": {
        "limit_basis", "waterfall.refund", "rails.wallet", "rails.instant_transfer", "rails.wire", "rails.on_us",
        "standing.restrictions", "standing.lifted_after_hours", "automatic_repayment.order",
        "automatic_repayment.attempts", "purchase_refund.shown_days_min", "purchase_refund.shown_days_max",
    },
    "ant_huabei": {
        "limit_basis", "rails.wallet", "rails.instant_transfer", "rails.wire", "rails.on_us", "standing.restrictions",
    },
    "tencent_fenfu": {
        "minimum.all_up_to_minor", "minimum.share_bps", "minimum.plus_interest", "limit_review.basis",
        "limit_review.on_request",
    },
    "discover_it": {
        "waterfall.lead", "waterfall.principal", "hold.REVERSIBLE.rest", "calendar.banking_cut_off",
        "calendar.credited_cut_off", "limit_review.basis", "limit_review.on_request",
    },
}  # fmt: skip


@pytest.mark.parametrize("product", PUBLIC)
def test_every_value_is_marked_public_or_assumed_as_the_table_says(product: str) -> None:
    marked = marks((POLICY / f"{product}.toml").read_text())
    assert {key for key, mark in marked.items() if mark == "public"} == PUBLIC[product]
    tables = {"waterfall", "calendar", "rails", "promise", "minimum", "standing", "automatic_repayment"}
    leaves: set[str] = set()
    for key, value in table(name=product).items():
        if key == "hold":
            leaves |= {f"hold.REVERSIBLE.{name}" for name in value["REVERSIBLE"]}
        elif key in tables | {"purchase_refund", "limit_review"}:
            leaves |= {f"{key}.{name}" for name in value}
        else:
            leaves.add(key)
    assert marked.keys() == leaves - {"product", "version"}
