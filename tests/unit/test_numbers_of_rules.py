"""The numbers that rules are written with, as the rules say them: who changes one of them changes the rule."""

from datetime import timedelta

from services.console.model import (
    ACTS_A_DAY_MAX,
    ANSWER_MAX,
    ASKED_AGAIN,
    SECOND_PERSON_HOURS,
    SECOND_PERSON_MINOR,
)
from services.console.opening import OBSERVED, TERMS, Terms
from services.lag_monitor import promises
from services.limit_release.holds import TRANCHES_MAX
from services.repayment_ingest.domain import REPAID_AGO_MAX, REPAID_AHEAD_MAX
from services.risk_scoring import domain, exposure, guards, hazard, limits, outcomes, trials
from services.settlement.domain import CYCLES_MAX, DOUBLES_WITHIN, UNMATCHED_HOURS
from services.settlement.facts import PARTS_MAX
from services.settlement.replay import FOLD_STEP, KEPT_MAX, LATE_DAYS

HOURS = timedelta(hours=1)
DAYS = timedelta(days=1)


def test_r12_a_return_waits_a_day_for_its_report_and_two_repayments_in_three_days_may_be_one_paid_twice() -> None:
    assert (UNMATCHED_HOURS, DOUBLES_WITHIN) == (24, 72 * HOURS)


def test_a_report_is_of_the_last_400_days_and_of_the_next_five_minutes_at_most() -> None:
    assert (400 * DAYS, timedelta(minutes=5)) == (REPAID_AGO_MAX, REPAID_AHEAD_MAX)


def test_books_are_replayed_for_35_days_of_1024_facts_and_folded_every_256() -> None:
    assert (LATE_DAYS, KEPT_MAX, FOLD_STEP) == (35, 1_024, 256)
    assert (CYCLES_MAX, PARTS_MAX, TRANCHES_MAX) == (12, 256, 99)


def test_each_kind_of_case_has_its_priority_and_the_hours_within_which_a_person_owes_a_resolution() -> None:
    assert {
        "promise_broken": Terms("high", 4),
        "dead_letter": Terms("high", 4),
        "referred": Terms("high", 24),
        "conflicting_report": Terms("high", 24),
        "account_unknown": Terms("high", 24),
        "source_differs": Terms("high", 24),
        "complaint": Terms("high", 24),
        "rail_silent": Terms("normal", 24),
        "return_unmatched": Terms("normal", 24),
        "question": Terms("normal", 24),
        "paid_twice": Terms("normal", 48),
        "returned_after_final": Terms("normal", 48),
        "parked_long": Terms("normal", 72),
        "limit_referred": Terms("normal", 72),
        "pattern_seen": Terms("low", 72),
    } == TERMS
    assert Terms("normal", 24) == OBSERVED


def test_what_takes_two_people_and_how_much_one_may_do() -> None:
    assert (SECOND_PERSON_MINOR, SECOND_PERSON_HOURS, ACTS_A_DAY_MAX, ANSWER_MAX) == (1_000_000, 24, 200, 2_000)
    assert ASKED_AGAIN == {"request_review": 24 * HOURS, "appeal_review": 90 * DAYS}


def test_objectives_are_five_seconds_and_a_minute() -> None:
    assert timedelta(seconds=5) == promises.LOW_RISK
    assert promises.DECIDED == promises.TOLD == promises.LOST == timedelta(seconds=60)


def test_what_a_customer_is_advised_to_repay_and_to_use_in_shares_of_ten_thousand() -> None:
    assert limits.PAYMENT_SHARES == (None, 500, 1_000, 2_000, 3_000, 5_000, 10_000)
    assert limits.USES == (None, 8_000, 6_000, 4_000, 3_000, 2_000)
    assert (limits.WHOLE, limits.REASONS_MAX) == (10_000, 4)


def test_guards_look_at_a_day_and_a_person_s_look_is_priced_on_the_third() -> None:
    assert (guards.DAY, guards.WHOLE, hazard.REVIEW_DAY) == (24 * HOURS, 10_000, 3)


def test_a_canary_decides_for_five_of_a_hundred_and_ends_by_these_bounds() -> None:
    assert trials.CANARY_PERCENT == 5
    assert (trials.HELD_LEAST, trials.HELD_TIMES) == (20, 2)
    assert (trials.RETURNS_LEAST, trials.BOUND) == (3, 0.99)
    assert (trials.DAYS_KEPT, trials.PLACES_A_DAY) == (128, 2_000)


def test_a_return_within_five_banking_days_is_fast_and_news_of_it_takes_a_week() -> None:
    assert (outcomes.FAST_BANKING_DAYS, outcomes.FAST_DAYS) == (5, 7 * DAYS)


def test_news_of_a_repayment_still_to_be_read_waits_a_month_or_is_kept_of_a_hundred() -> None:
    assert (domain.WAITS, exposure.EARLY_MAX) == (30 * DAYS, 100)
    assert (exposure.WHOLE, exposure.UNBOUNDED) == (10_000, 4_611_686_018_427_387_904)
