"""From our own events to what a credit score may ask: months, lateness, returns, the score and its tier."""

from dataclasses import replace
from datetime import date, timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.event import Event
from services.profiles import credit_score
from services.risk_scoring import credit
from services.risk_scoring.domain import decide
from services.risk_scoring.model import Account
from services.statements import KEPT_MONTHS, Month, features
from tests import builders
from tests.unit import golden
from tests.unit.given import moment

BILLS = (27_391, 28_412, 28_575, 28_925, 24_159, 0)
PAID = (0, 1_767, 1_700, 1_010, 1_141, 0)


def test_row_925_is_reached_from_events_to_the_hundredth_of_a_point() -> None:
    state = golden.told(golden.scored(), *golden.story())
    months = state.credit.months
    assert [month.bill_minor for month in months] == [*(100 * bill for bill in BILLS), 0]
    assert [month.paid_minor for month in months] == [*(100 * paid for paid in PAID), 0]
    assert [month.late for month in months] == [0] * KEPT_MONTHS
    assert credit_score().score(features(months, 100)) == state.credit.score == 61_004
    assert state.tier == "C"


def test_a_score_and_a_tier_come_with_the_first_statement_and_not_before() -> None:
    policy = golden.scored()
    state = golden.told(policy, golden.opened())
    assert (state.credit.score, state.tier) == (None, "unknown")
    state = golden.told(policy, golden.statement(0, 10_000), state=state)
    assert state.credit.score == credit_score().score(features(state.credit.months, 100))
    assert (state.tier, state.credit.statements) == ("C", 1)


def test_without_a_table_nobody_has_a_tier() -> None:
    state = golden.told(replace(golden.scored(), credit=None), *golden.story())
    assert (state.credit.score, state.tier, len(state.credit.months)) == (None, "unknown", KEPT_MONTHS)


def test_at_most_seven_months_are_kept_however_long_an_account_lives() -> None:
    policy, state = golden.scored(), golden.told(golden.scored(), golden.opened())
    for n in range(30):
        state = golden.told(policy, golden.statement(n, 1_000), golden.repaid(n, 1_000), state=state)
    assert len(state.credit.months) == KEPT_MONTHS
    assert state.credit.statements == 6
    assert state.credit.months[-1].due_day, "the time before the first statement is over"


def months_of(*events: Event) -> tuple[Month, ...]:
    return golden.told(golden.scored(), golden.opened(), *events).credit.months


def test_a_bill_is_what_was_not_repaid_and_what_the_statement_made_due() -> None:
    months = months_of(golden.statement(0, 10_000), golden.repaid(0, 4_000), golden.statement(1, 500))
    assert [month.bill_minor for month in months] == [650_000, 1_000_000, 0]
    overpaid = months_of(golden.statement(0, 1_000), golden.repaid(0, 4_000), golden.statement(1, 500))
    assert overpaid[0].bill_minor == 50_000, "what was repaid beyond the bill is no bill of less than nothing"


def test_a_repayment_counts_in_the_month_it_was_made_in_though_it_is_heard_later() -> None:
    in_order = months_of(golden.statement(0, 10_000), golden.repaid(0, 4_000), golden.statement(1, 500))
    late_news = months_of(golden.statement(0, 10_000), golden.statement(1, 500), golden.repaid(0, 4_000))
    assert late_news == in_order


def test_repayments_heard_in_any_order_end_in_the_same_months_and_the_same_score() -> None:
    policy = golden.scored()
    statements = [golden.statement(n, 10_000) for n in range(3)]
    repayments = [golden.repaid(n, 900 * (n + 1)) for n in range(3)]
    ends = set()
    for order in permutations(repayments):
        state = golden.told(policy, golden.opened(), *statements, *order)
        ends.add((state.credit.months, state.credit.score))
    assert len(ends) == 1


@pytest.mark.parametrize(
    ("days", "amount", "late"),
    [(10, 1_000, 0), (20, 1_000, 0), (22, 1_000, 1), (10, 999, 1), (29, 1_000, 1)],
)
def test_late_is_what_missed_the_due_day_by_then(days: float, amount: int, late: int) -> None:
    months = months_of(golden.statement(0, 10_000), golden.repaid(0, amount, days=days), golden.statement(1, 0))
    assert months[0].late == late


def test_a_minimum_that_stays_missing_is_a_month_later_each_month() -> None:
    missed = [golden.statement(n, 5_000, minimum_minor=100_000 * (n + 1)) for n in range(4)]
    assert [month.late for month in months_of(*missed)] == [3, 2, 1, 0, 0]
    caught_up = months_of(*missed, golden.repaid(3, 4_000), golden.statement(4, 0, minimum_minor=0))
    assert [month.late for month in caught_up] == [0, 3, 2, 1, 0, 0]
    oldest_only = months_of(*missed, golden.repaid(3, 3_500), golden.statement(4, 0, minimum_minor=0))
    assert oldest_only[0].late == 1, "the oldest was repaid, the newest is missing"


def test_a_minimum_not_due_yet_is_not_late() -> None:
    due_later = (golden.issued_at(1) + timedelta(days=3)).date()
    assert months_of(golden.statement(0, 5_000, due_on=due_later), golden.statement(1, 0))[0].late == 0


def test_r08_a_return_takes_the_repayment_out_of_its_month_and_scores_again() -> None:
    policy = golden.scored()
    before = golden.told(policy, *golden.story())
    returned = builders.repayment_returned(
        repayment_id="r4", amount_minor=176_700, occurred_at=golden.DECIDED, reallocated=()
    )
    after = golden.told(policy, returned, state=before)
    assert after.credit.months[1].paid_minor == after.credit.months[1].in_time_minor == 0
    assert after.credit.months[0].bill_minor == before.credit.months[0].bill_minor + 176_700
    assert after.credit.months[0].late == 1
    assert (after.credit.score or 0) < (before.credit.score or 0)
    assert after.credit.returned_at == golden.DECIDED


def test_e20_a_return_by_the_issuers_own_error_is_nobodys_lateness() -> None:
    before = golden.told(golden.scored(), *golden.story())
    returned = builders.repayment_returned(
        repayment_id="r4", fault="issuer", occurred_at=golden.DECIDED, reallocated=()
    )
    after = golden.told(golden.scored(), returned, state=before)
    assert (after.credit, after.tier) == (before.credit, before.tier)


def test_what_a_refund_cancelled_is_neither_owed_nor_repaid() -> None:
    refund = builders.purchase_refunded(occurred_at=golden.issued_at(0) + timedelta(days=1), to_debt_minor=900_000)
    months = months_of(golden.statement(0, 10_000), refund, golden.statement(1, 0))
    assert (months[0].bill_minor, months[1].paid_minor, months[1].refunded_minor) == (100_000, 0, 900_000)
    assert months[0].late == 0


def test_a_repayment_older_than_what_is_kept_changes_nothing() -> None:
    policy = golden.scored()
    state = golden.told(policy, golden.opened(), *(golden.statement(n, 1_000) for n in range(9)))
    assert golden.told(policy, golden.repaid(0, 500), state=state).credit == state.credit


def test_risk_3_a_tier_changes_only_well_past_its_border() -> None:
    """One good month lifts the score over 640 and not to 645: the tier stays until it is well above."""
    policy = golden.scored()
    state = golden.told(policy, *golden.story())
    tiers = []
    for n in range(6, 30):
        state = golden.told(policy, golden.statement(n, 9_000), golden.repaid(n, 30_000), state=state)
        tiers.append((state.credit.score, state.tier))
    held_back = [(score, tier) for score, tier in tiers if score is not None and 64_000 <= score < 64_500]
    assert all(tier == "C" for _, tier in held_back)
    assert {tier for _, tier in tiers} <= {"A", "B", "C", "D"}
    assert tiers[-1][1] in ("A", "B")


STEP = st.tuples(st.integers(0, 20_000), st.integers(1, 20_000), st.integers(1, 29))


@given(st.lists(STEP, min_size=8, max_size=8))
def test_what_was_owed_and_repaid_adds_up_whatever_happened(steps: list[tuple[int, int, int]]) -> None:
    state = golden.told(golden.scored(), golden.opened())
    for n, (due, paid, days) in enumerate(steps):
        events = [golden.statement(n, due), golden.repaid(n, paid, days=days, repayment_id=f"x{n}")]
        state = golden.told(golden.scored(), *events, state=state)
    for newer, older in zip(state.credit.months, state.credit.months[1:], strict=False):
        assert newer.bill_minor >= max(0, older.bill_minor - older.paid_minor - older.refunded_minor)
        assert 0 <= older.in_time_minor <= older.paid_minor
        assert newer.late <= older.late + 1


def test_the_tier_is_told_with_the_verdict() -> None:
    state: Account = golden.told(golden.scored(), *golden.story())
    event = golden.repaid(5, 3_000)
    (fact,) = decide(golden.scored(), state, event, moment(event.settled_at)).events
    assert getattr(fact, "tier", None) == "C"


ISSUED = golden.FIRST
DUE = (ISSUED + timedelta(days=20)).date()
LATE = DUE + timedelta(days=1)
HALF_PAID = Month(
    round(ISSUED.timestamp() * 1_000), 500_000, 3_000_000, 100_000, DUE.toordinal(), paid_minor=90, in_time_minor=60
)
FIRST_MONTH = Month(0, 0, 3_000_000, paid_minor=90, in_time_minor=60)


def test_who_is_late_for_longer_than_is_kept_is_as_late_as_that() -> None:
    missed = [golden.statement(n, 5_000, minimum_minor=100_000 * (n + 1)) for n in range(11)]
    assert [month.late for month in months_of(*missed)] == [10, 9, 8, 7, 6, 5, 4]
    caught_up = months_of(*missed, golden.repaid(4, 9_000))
    assert [month.late for month in caught_up] == [5, 4, 3, 2, 1, 0, 4], "the oldest is told of by nothing kept"


def test_the_time_before_the_first_statement_has_its_limit() -> None:
    terms = {"due_minor": 5, "minimum_minor": 1, "due_on": DUE, "limit_minor": 7}
    assert [month.limit_minor for month in credit.issued((), ISSUED, **terms)] == [7, 7]  # type: ignore[arg-type]


def test_what_counts_after_the_due_day_is_not_in_time() -> None:
    for day, in_time in ((DUE, 70), (LATE, 60)):
        (month,) = credit.paid((HALF_PAID,), ISSUED + timedelta(days=1), 10, day)
        assert (month.paid_minor, month.in_time_minor) == (100, in_time)


@pytest.mark.parametrize(
    ("month", "amount", "day", "paid", "in_time"),
    [
        (HALF_PAID, 20, DUE, 70, 40),
        (HALF_PAID, 20, LATE, 70, 60),
        (HALF_PAID, 70, DUE, 20, 0),
        (HALF_PAID, 40, LATE, 50, 50),
        (HALF_PAID, 95, DUE, 0, 0),
        (FIRST_MONTH, 20, LATE, 70, 40),
    ],
)
def test_a_return_takes_out_what_its_repayment_put_in(
    month: Month, amount: int, day: date, paid: int, in_time: int
) -> None:
    (left,) = credit.taken_back((month,), ISSUED, amount, day)
    assert (left.paid_minor, left.in_time_minor) == (paid, in_time)


def test_what_is_older_than_what_is_kept_or_of_an_account_nobody_billed_changes_nothing() -> None:
    before = ISSUED - timedelta(seconds=1)
    assert credit.taken_back((HALF_PAID,), before, 10, DUE) == credit.refunded((HALF_PAID,), before, 10) == (HALF_PAID,)
    assert credit.paid((HALF_PAID,), before, 10, DUE) == (HALF_PAID,)
    assert credit.taken_back((), before, 10, DUE) == credit.refunded((), before, 10) == ()
    assert [month.paid_minor for month in credit.paid((), before, 10, DUE)] == [10]


def test_an_instant_is_in_the_month_whose_statement_is_of_it() -> None:
    newer = HALF_PAID._replace(at_ms=HALF_PAID.at_ms + 1_000)
    at = ISSUED + timedelta(seconds=1)
    assert [month.refunded_minor for month in credit.refunded((newer, HALF_PAID), at, 5)] == [5, 0]
    assert [month.refunded_minor for month in credit.refunded((newer, HALF_PAID), ISSUED, 5)] == [0, 5]


@pytest.mark.parametrize(
    ("paid", "refunded", "late"),
    [(0, 0, 2), (40_000, 10_000, 1), (40_000, 9_999, 2), (100_000, 100_000, 1), (200_000, 0, 1), (100_000, 99_999, 1)],
)
def test_the_oldest_minimum_still_missing_says_how_late_it_is(paid: int, refunded: int, late: int) -> None:
    """A minimum of 500.00 of 1,000.00 was missing when the second of 2,000.00 came; nothing of that came in time."""
    oldest, day = HALF_PAID._replace(paid_minor=30_000, in_time_minor=0, refunded_minor=20_000), timedelta(days=30)
    second = HALF_PAID._replace(
        at_ms=round((ISSUED + day).timestamp() * 1_000), minimum_minor=200_000, due_day=(DUE + day).toordinal()
    )
    second = second._replace(paid_minor=paid, in_time_minor=0, refunded_minor=refunded)
    months = credit.issued(
        (second, oldest), ISSUED + 2 * day, due_minor=0, minimum_minor=0, due_on=DUE + 2 * day, limit_minor=0
    )
    assert [month.late for month in months] == [late, 1, 0]


def test_a_minimum_that_is_repaid_is_one_month_late_whatever_was_missing_before() -> None:
    day = timedelta(days=30)
    second = HALF_PAID._replace(
        at_ms=round((ISSUED + day).timestamp() * 1_000),
        minimum_minor=40_000,
        due_day=(DUE + day).toordinal(),
        paid_minor=40_000,
        in_time_minor=0,
    )
    terms = {"due_minor": 0, "minimum_minor": 0, "due_on": DUE + 2 * day, "limit_minor": 0}
    months = credit.issued((second, HALF_PAID), ISSUED + 2 * day, **terms)  # type: ignore[arg-type]
    assert months[0].late == 1


@pytest.mark.usefixtures("far_east")
@pytest.mark.parametrize(("hours", "late"), [(0, 0), (5, 0), (8, 1)])
def test_a_day_is_over_when_it_is_over_in_utc_wherever_it_runs(hours: int, late: int) -> None:
    due_on = golden.issued_at(1).date()
    at = golden.issued_at(1).replace(hour=16) + timedelta(hours=hours)
    months = months_of(golden.statement(0, 5_000, due_on=due_on), golden.statement(1, 0, at=at))
    assert months[0].late == late
