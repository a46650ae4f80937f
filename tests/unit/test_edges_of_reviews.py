"""Reviews of a limit, and what is learned of an account, where one word, one day or one unit decides (risk 7)."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from schemas.event import Event
from schemas.ids import event_id
from schemas.review import LimitIncreaseDecided
from schemas.risk import RiskAssessed
from services.decision import Decision, Timer, TimerFired
from services.policy import Profiles
from services.profiles import credit_score
from services.risk_scoring.accounts import REVIEW, rescored
from services.risk_scoring.credit import Credit
from services.risk_scoring.domain import decide
from services.risk_scoring.model import Account, Cycle
from services.scorecard import next_tier
from services.statements import features
from tests import builders
from tests.unit import golden
from tests.unit.given import moment, only, profile

KNOWN = golden.told(golden.scored(), *golden.story())
"""Case B's account on the day its limit is reviewed: 30,000 of Taiwan's dollars, tier by 610 points."""
UNSCORED = Profiles({"default": profile(golden.TAIWAN)})


def heard(state: Account, event: Event, policy: Profiles | None = None) -> Decision[Account]:
    return decide(policy or golden.scored(), state, event, moment(max(event.occurred_at, golden.DECIDED)))


def stale(state: Account, reason: str) -> Decision[Account]:
    return Decision(state, outcome="stale", reason=reason)


def credited(state: Account, **changes: Any) -> Account:
    return replace(state, credit=replace(state.credit, **changes))


def concluded(**changes: Any) -> Event:
    said = {"outcome": "approved", "amount_minor": 3_500_000, "currency": "TWD", "occurred_at": golden.DECIDED}
    return builders.limit_review_concluded(**{**said, **changes})


def due(state: Account = KNOWN, number: int | None = None) -> TimerFired:
    number = state.credit.reviews if number is None else number
    return TimerFired(builders.ACCOUNT, Timer(builders.ACCOUNT, REVIEW, builders.ACCOUNT, number, golden.DECIDED))


def reviewed(state: Account, policy: Profiles | None = None) -> Decision[Account]:
    return decide(policy or golden.scored(), state, due(state), moment(golden.DECIDED))


def test_an_opened_account_is_kept_with_its_terms_and_reviewed_on_the_day_half_a_year_later() -> None:
    opened = golden.opened()
    credit = Credit("default", "TWD", golden.OPENED)
    plain = heard(Account(builders.ACCOUNT), opened, UNSCORED)
    assert plain == Decision(Account(builders.ACCOUNT, 3_000_000, credit=credit)), "nothing scores, nothing is due"
    at = datetime(2026, 5, 23, 1, 0, tzinfo=UTC)
    timer = Timer(builders.ACCOUNT, REVIEW, builders.ACCOUNT, 1, at)
    found = decide(golden.scored(), Account(builders.ACCOUNT), opened, moment(golden.OPENED))
    after = replace(plain.state, credit=replace(credit, review_on=date(2026, 5, 23), reviews=1))
    assert found == Decision(after, timers=(timer,))
    assert heard(after, opened) == stale(after, "opened_before")
    other = golden.opened(product="another")
    assert heard(Account(builders.ACCOUNT), other).timers == ()


def test_the_first_review_counts_from_the_opening_even_where_the_news_of_it_came_late() -> None:
    forty_days_later = moment(golden.OPENED + timedelta(days=40))
    found = decide(golden.scored(), Account(builders.ACCOUNT), golden.opened(), forty_days_later)
    assert [timer.due_at for timer in found.timers] == [datetime(2026, 5, 23, 1, 0, tzinfo=UTC)]


@pytest.mark.parametrize(
    ("before", "after"),
    [(None, "older_limit"), (timedelta(0), None), (timedelta(seconds=1), "older_limit")],
)
def test_an_older_word_on_the_limit_changes_nothing(before: timedelta | None, after: str | None) -> None:
    changed = builders.credit_limit_changed(credit_limit_minor=7, occurred_at=golden.OPENED)
    if before is None:
        assert heard(KNOWN, changed).state == replace(KNOWN, credit_limit_minor=7, limit_at=golden.OPENED)
        return
    known = replace(KNOWN, limit_at=golden.OPENED + before)
    found = heard(known, changed)
    assert found == (stale(known, after) if after else Decision(replace(known, credit_limit_minor=7)))


def test_a_statement_begins_a_cycle_with_the_limit_of_its_day_and_an_older_one_none() -> None:
    fresh = golden.told(golden.scored(), golden.opened())
    first = golden.told(golden.scored(), golden.statement(0, 9_000), state=replace(fresh, cycle=Cycle(None, 5)))
    assert first.cycle == Cycle(golden.issued_at(0), 0, 5)
    assert [month.limit_minor for month in first.credit.months] == [3_000_000, 3_000_000]
    assert [month.bill_minor for month in first.credit.months] == [900_000, 0]
    assert (first.credit.months[0].minimum_minor, first.credit.months[0].due_day) == (
        100_000,
        date(2026, 7, 5).toordinal(),
    )
    again = golden.statement(1, 5, at=golden.issued_at(0))
    assert heard(first, again) == stale(first, "older_statement")
    nobody = golden.told(golden.scored(), golden.statement(0, 9_000))
    assert [month.limit_minor for month in nobody.credit.months] == [0, 0], "no limit is known"


def test_every_statement_scores_and_moves_the_tier_where_a_table_and_a_product_are_known() -> None:
    score = credit_score().score(features(KNOWN.credit.months, 100))
    assert (KNOWN.credit.score, KNOWN.tier) == (score, next_tier("unknown", score))
    forgotten = credited(replace(KNOWN, tier="unknown"), score=None)
    assert rescored(golden.scored(), forgotten) == KNOWN
    assert rescored(UNSCORED, forgotten) is forgotten
    assert rescored(golden.scored(), credited(forgotten, product="another")).credit.score is None
    assert rescored(golden.scored(), credited(forgotten, months=())).credit.score is None
    assert rescored(golden.scored(), credited(forgotten, product=None)).credit.score is None


def test_a_repayment_of_this_month_waits_for_its_statement_and_one_of_an_earlier_month_scores_again() -> None:
    unscored = credited(KNOWN, score=None)
    now = heard(unscored, golden.repaid(5, 100, repayment_id="now")).state
    assert (now.credit.score, now.credit.months[0].paid_minor) == (
        None,
        KNOWN.credit.months[0].paid_minor + 10_000,
    )
    earlier = heard(unscored, golden.repaid(3, 100, repayment_id="earlier")).state
    assert earlier.credit.score == credit_score().score(features(earlier.credit.months, 100))
    assert earlier.credit.months[2].paid_minor == KNOWN.credit.months[2].paid_minor + 10_000
    first = heard(Account(builders.ACCOUNT), golden.repaid(0, 100)).state
    assert (first.credit.product, first.credit.score) == ("default", None)
    other = heard(credited(KNOWN, product="another"), golden.repaid(0, 100)).state
    assert other.credit.product == "another", "an account has the product it was opened with"


def test_a_statement_and_the_repayment_before_it_score_the_same_whichever_is_heard_first() -> None:
    _, *events = golden.story()
    *before, last = events
    late = golden.repaid(4, 20_000, repayment_id="late")
    usual = golden.told(golden.scored(), golden.opened(), *before, late, last)
    other = golden.told(golden.scored(), golden.opened(), *before, last, late)
    assert usual.credit == other.credit
    assert KNOWN.credit.score != usual.credit.score


def test_a_refund_is_taken_off_the_month_it_falls_into() -> None:
    refund = builders.purchase_refunded(to_debt_minor=20_000, currency="TWD", occurred_at=golden.issued_at(5))
    found = heard(KNOWN, refund)
    months = (KNOWN.credit.months[0]._replace(refunded_minor=20_000), *KNOWN.credit.months[1:])
    assert found == Decision(credited(KNOWN, months=months))


NIGHT = datetime(2026, 7, 5, 17, 0, tzinfo=UTC)
"""One o'clock in the morning of 6 July in Shanghai: a day after the minimum of the first statement was due."""


@pytest.mark.parametrize(("product", "in_time"), [("default", 10_000), ("another", 0), (None, 0)])
def test_a_returned_repayment_leaves_its_month_by_the_day_it_had_counted_from(
    product: str | None, in_time: int
) -> None:
    """The repayment of the night came late and was never in time; of a product nobody knows the day is UTC's."""
    when: dict[str, Any] = {"repaid_at": NIGHT, "credited_on": date(2026, 7, 6), "settled_at": NIGHT}
    state = golden.told(
        golden.scored(),
        golden.opened(),
        golden.statement(0, 9_000),
        golden.repaid(0, 100),
        golden.repaid(0, 200, repayment_id="late", **when),
    )
    assert (state.credit.months[0].paid_minor, state.credit.months[0].in_time_minor) == (30_000, 10_000)
    back = builders.repayment_returned(
        repayment_id="late", amount_minor=20_000, currency="TWD", reallocated=(), occurred_at=NIGHT + timedelta(days=2)
    )
    month = heard(credited(state, product=product), back).state.credit.months[0]
    assert (month.paid_minor, month.in_time_minor) == (10_000, in_time)


def test_a_return_is_remembered_by_its_latest_day_and_an_issuer_s_error_is_none() -> None:
    def returned(days: int, **changes: Any) -> Account:
        at = golden.DECIDED - timedelta(days=days)
        back = builders.repayment_returned(amount_minor=1, currency="TWD", reallocated=(), occurred_at=at, **changes)
        return heard(KNOWN, back).state

    assert returned(3).credit.returned_at == golden.DECIDED - timedelta(days=3)
    assert returned(3, fault="issuer") == KNOWN
    earlier = builders.repayment_returned(
        amount_minor=1, currency="TWD", reallocated=(), occurred_at=golden.DECIDED - timedelta(days=9)
    )
    assert heard(returned(3), earlier).state.credit.returned_at == golden.DECIDED - timedelta(days=3)
    assert returned(3).credit.score == credit_score().score(features(returned(3).credit.months, 100))


def status(word: Any, days: int) -> Event:
    at = golden.DECIDED + timedelta(days=days)
    return builders.account_status_changed(status=word, reason="asked", occurred_at=at)


def test_a_closed_account_is_closed_once_and_opened_again_only_by_a_later_word() -> None:
    closed = heard(KNOWN, status("closed", 0))
    assert closed == Decision(credited(KNOWN, closed_at=golden.DECIDED))
    assert heard(closed.state, status("closed", 1)) == stale(closed.state, "nothing_new")
    assert heard(closed.state, status("active", -1)) == stale(closed.state, "nothing_new")
    assert heard(KNOWN, status("frozen", 1)) == stale(KNOWN, "nothing_new")
    assert heard(closed.state, status("active", 1)) == Decision(KNOWN)


def test_a_review_is_caused_by_its_timer_and_sets_the_next_one() -> None:
    found = reviewed(KNOWN)
    fact = only(found.events, LimitIncreaseDecided)
    assert fact.caused_by == event_id("TimerFired", due().timer.key, golden.DECIDED.isoformat())
    next_on = date(2027, 5, 23)
    assert (fact.outcome, fact.next_review_on) == ("unchanged", next_on)
    number = KNOWN.credit.reviews + 1
    at = datetime(2027, 5, 23, 1, 0, tzinfo=UTC)
    assert found.timers == (Timer(builders.ACCOUNT, REVIEW, builders.ACCOUNT, number, at),)
    assert found.state == credited(KNOWN, review_on=next_on, reviews=number)


@pytest.mark.parametrize("why", ["closed", "no_limit", "unscored", "unknown_product", "no_product"])
def test_what_cannot_be_reviewed_is_not_by_timer_request_or_person(why: str) -> None:
    state = {
        "closed": credited(KNOWN, closed_at=golden.OPENED),
        "no_limit": replace(KNOWN, credit_limit_minor=None),
        "unknown_product": credited(KNOWN, product="another"),
        "no_product": credited(KNOWN, product=None),
    }.get(why, KNOWN)
    policy = UNSCORED if why == "unscored" else golden.scored()
    asked = builders.limit_review_requested(occurred_at=golden.DECIDED)
    for event in (asked, concluded()):
        assert heard(state, event, policy) == stale(state, "not_reviewed")
    assert reviewed(state, policy) == stale(state, "not_reviewed")


def test_a_review_of_another_number_was_made_already() -> None:
    for number in (KNOWN.credit.reviews - 1, KNOWN.credit.reviews + 1):
        assert decide(golden.scored(), KNOWN, due(number=number), moment(golden.DECIDED)) == stale(
            KNOWN, "not_reviewed"
        )


def test_another_timer_reviews_nothing() -> None:
    timer = Timer(builders.ACCOUNT, "another", builders.ACCOUNT, KNOWN.credit.reviews, golden.DECIDED)
    found = decide(golden.scored(), KNOWN, TimerFired(builders.ACCOUNT, timer), moment(golden.DECIDED))
    assert found == Decision(KNOWN, outcome="ignored")


def test_who_takes_no_requests_says_so() -> None:
    deaf = golden.scored({"limit_review.on_request": False})
    asked = builders.limit_review_requested(occurred_at=golden.DECIDED)
    assert heard(KNOWN, asked, deaf) == stale(KNOWN, "not_on_request")
    answered = heard(KNOWN, asked)
    fact = only(answered.events, LimitIncreaseDecided)
    assert (fact.outcome, fact.caused_by, fact.occurred_at) == ("refused", asked.event_id, golden.DECIDED)
    assert answered.state == credited(KNOWN, refused_at=golden.DECIDED)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"currency": "CNY"}, "other_currency"),
        ({"amount_minor": 3_000_000}, "not_an_increase"),
        ({"amount_minor": 4_500_001}, "beyond_the_cap"),
    ],
)
def test_what_a_person_may_not_conclude_changes_nothing(changes: dict[str, Any], why: str) -> None:
    state = replace(KNOWN, tier="A")
    assert heard(state, concluded(**changes)) == stale(state, why)


def test_a_person_s_answer_is_told_with_the_computed_reasons_and_the_next_review() -> None:
    state = replace(KNOWN, tier="A")
    raised = only(heard(state, concluded()).events, LimitIncreaseDecided)
    assert (raised.outcome, raised.amount_minor, raised.refer, raised.reasons) == ("approved", 3_500_000, False, ())
    kept = concluded(outcome="unchanged", amount_minor=3_000_000)
    told = only(heard(state, kept).events, LimitIncreaseDecided)
    computed = only(reviewed(state).events, LimitIncreaseDecided)
    assert (told.reasons, told.score, told.path) == (computed.reasons, computed.score, computed.path)
    assert (told.caused_by, told.next_review_on) == (kept.event_id, state.credit.review_on)
    small = concluded(outcome="refused", amount_minor=9_000_000)
    assert heard(state, small).outcome == "applied", "only an increase has a cap"
    nobody = credited(state, review_on=None)
    assert only(heard(nobody, kept).events, LimitIncreaseDecided).next_review_on == date(2027, 5, 23)


def test_of_an_account_without_a_currency_the_product_s_counts_and_of_a_limit_of_nothing_nothing_grows() -> None:
    state = replace(KNOWN, tier="A")
    plain = credited(state, currency=None)
    assert only(heard(plain, concluded()).events, LimitIncreaseDecided).currency == "TWD"
    nothing = replace(state, credit_limit_minor=0)
    assert heard(nothing, concluded(amount_minor=1)) == stale(nothing, "beyond_the_cap")


def test_a_second_refusal_begins_no_new_time() -> None:
    asked = builders.limit_review_requested(occurred_at=golden.DECIDED)
    for days, begins in ((89, False), (90, True)):
        before = credited(KNOWN, refused_at=golden.DECIDED - timedelta(days=days))
        after = heard(before, asked).state.credit.refused_at
        assert after == (golden.DECIDED if begins else before.credit.refused_at)


def test_what_is_no_news_of_an_account_is_ignored() -> None:
    assert heard(KNOWN, builders.purchase_posted()) == Decision(KNOWN, outcome="ignored")


def test_a_minimum_that_came_late_is_one_month_late_and_makes_the_next_one_no_later() -> None:
    """The first minimum came after its day and before the next statement; the second one is missing."""
    late = golden.repaid(0, 1_000, days=25)
    state = golden.told(golden.scored(), golden.opened(), golden.statement(0, 9_000), late, golden.statement(1, 9_000))
    assert [month.late for month in state.credit.months] == [1, 0, 0]
    third = golden.told(golden.scored(), golden.statement(2, 9_000), state=state)
    assert [month.late for month in third.credit.months] == [1, 1, 0, 0]
    fourth = golden.told(golden.scored(), golden.statement(3, 9_000), state=third)
    assert [month.late for month in fourth.credit.months] == [2, 1, 1, 0, 0]


def test_an_outcome_names_the_most_important_reason_of_what_held_it_and_none_where_nothing_did() -> None:
    settled = builders.repayment_settled(amount_minor=500_000, restorable_minor=500_000)
    for cap, outcome in ((0, "observe"), (500_000, "clear")):
        caps = dict.fromkeys(("A", "B", "C", "D", "E", "unknown"), cap)
        found = decide(
            Profiles({"default": profile({"instant_cap_by_tier": caps})}),
            Account(builders.ACCOUNT),
            settled,
            moment(settled.settled_at),
        )
        fact = only(found.events, RiskAssessed)
        (kept,) = found.state.outcomes.values()
        assert (fact.outcome, kept.rule) == (outcome, fact.reasons[0] if outcome == "observe" else None)
