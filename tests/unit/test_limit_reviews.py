"""Risk 7 and R25: may a limit grow, why not, how far it is, what would help; computed, and told in both languages."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.account import Language
from schemas.event import Event
from schemas.ids import event_id
from schemas.reasons import Reason
from schemas.review import LimitIncreaseDecided, PathStep
from services.decision import Timer, TimerFired
from services.notifier import domain as notifier
from services.policy import Profiles
from services.profiles import credit_score
from services.risk_scoring.accounts import REVIEW
from services.risk_scoring.credit import Credit
from services.risk_scoring.domain import decide
from services.risk_scoring.limits import (
    PAYMENT_SHARES,
    USES,
    answered,
    grid,
    months_later,
    next_review,
    path,
    planned,
    worth_a_look,
)
from services.risk_scoring.model import Account
from services.scorecard import LimitReview
from services.statements import KEPT_MONTHS, Month, features
from services.wording import limit_text
from tests import builders
from tests.unit import golden
from tests.unit.given import moment, only

CASE_B_ENGLISH = (
    "Your limit stays as it is after this review. Your score is 610; an increase needs 640. "
    "All of your last 6 repayments were on time: that part has full marks. "
    "What holds the score back most: (1) your monthly payments are small; (2) you use 91 % of your limit. "
    "If you repay at least 10 % of the bill (about NT$2,740 now) each month for six months, other things unchanged, "
    "the score would be about 644; with use below 60 % as well, about 653. Lower use alone would not be enough. "
    "Next automatic review: 23 May 2027. This is an estimate, not a promise. You may ask for a person to look again."
)
CASE_B_CHINESE = (
    "本次额度评估未调整。您的评分为 610，提额需要 640。您最近 6 个月均按时还款，这一项已得满分。"
    "影响最大的两项：（1）每月还款金额偏小；（2）额度使用率 91%。"
    "若连续 6 个月每月至少偿还账单的 10%（目前约 NT$2,740），其他不变，评分预计约 644；"
    "再将使用率降到 60% 以下约 653。仅降低使用率不足以达到。"
    "下次自动评估：2027年5月23日。此为估算，并非承诺。您可以申请人工复核。"
)
REQUEST = {"occurred_at": golden.DECIDED, "actor": "customer", "reason": "asked"}


def periodic(policy: Profiles, state: Account, now: datetime = golden.DECIDED) -> LimitIncreaseDecided:
    timer = Timer(builders.ACCOUNT, REVIEW, builders.ACCOUNT, state.credit.reviews, now)
    return only(decide(policy, state, TimerFired(builders.ACCOUNT, timer), moment(now)).events, LimitIncreaseDecided)


def requested(policy: Profiles, state: Account, now: datetime = golden.DECIDED) -> LimitIncreaseDecided:
    event = builders.limit_review_requested(**{**REQUEST, "occurred_at": now})
    return only(decide(policy, state, event, moment(now)).events, LimitIncreaseDecided)


def good(policy: Profiles, *, repaid: int = 15_000, changes: Mapping[str, object] | None = None) -> Account:
    """Return an account that repays whole bills of half its limit, for eight months."""
    terms = changes or {}
    state = golden.told(policy, golden.opened(**terms))
    for n in range(8):
        at = golden.DECIDED - timedelta(days=30 * (8 - n))
        paid = golden.repaid(0, repaid, repayment_id=f"g{n}", repaid_at=at + timedelta(days=5))
        paid = paid.model_copy(update={"credited_on": (at + timedelta(days=5)).date()})
        state = golden.told(policy, golden.statement(n, 15_000, at=at), paid, state=state)
    return state


def test_case_b_is_computed_from_the_table_and_told_word_for_word_in_both_languages() -> None:
    policy = golden.scored()
    fact = periodic(policy, golden.told(policy, *golden.story()))
    assert limit_text(fact, language="en") == CASE_B_ENGLISH
    assert limit_text(fact, language="zh-CN") == CASE_B_CHINESE
    assert (fact.outcome, fact.score, fact.threshold, fact.distance) == ("unchanged", 610, 640, 30)
    assert fact.amount_minor == 3_000_000
    assert fact.currency == "TWD"
    assert fact.path == (
        PathStep(1_000, 273_910, None, 644),
        PathStep(1_000, 273_910, 6_000, 653),
        PathStep(None, None, 2_000, 635),
    )
    assert (fact.model_version, fact.policy_version) == (credit_score().version, policy.of("default").policy_version)


def test_r25_row_925_has_two_reasons_in_order_and_the_rest_are_none() -> None:
    policy = golden.scored()
    fact = periodic(policy, golden.told(policy, *golden.story()))
    assert fact.reasons == (Reason.SMALL_PAYMENTS, Reason.HIGH_UTILISATION)
    points = {factor.reason: factor.centipoints for factor in fact.factors}
    assert points == {
        Reason.SMALL_PAYMENTS: -2_728,
        Reason.HIGH_UTILISATION: -1_212,
        Reason.NOT_ACTIVE: 0,
        Reason.RISING_BALANCE: 10,
        Reason.SMALL_SHARE_OF_BILL: 15,
        Reason.LATE_PAYMENTS: 49,
    }
    table = credit_score()
    assert sum(points.values()) == 61_004 - table.base - sum(table.near_pass.values())
    assert Reason.LATE_PAYMENTS in fact.full_marks


def test_the_same_is_told_in_another_products_money() -> None:
    """In the default product's own money a unit is worth 25 minor: the same features, the same score."""
    twd, cny = golden.scored(), golden.scored({"currency": "CNY", "limit_review.unit_minor": 100})
    one, two = (periodic(policy, golden.told(policy, *golden.story())) for policy in (twd, cny))
    assert (one.score, one.reasons, one.path) == (two.score, two.reasons, two.path)


def test_the_customer_is_told_the_decision_in_the_language_of_the_account() -> None:
    policy = golden.scored()
    fact = periodic(policy, golden.told(policy, *golden.story()))
    texts: dict[Language, str] = {"en": CASE_B_ENGLISH, "zh-CN": CASE_B_CHINESE}
    for language, text in texts.items():
        customer = notifier.Account(builders.ACCOUNT, language, "Asia/Taipei")
        after = notifier.decide(notifier.Channels(("log",)), customer, fact, moment(golden.DECIDED)).state
        (told,) = after.notifications.values()
        assert (told.text, told.template) == (text, "limit_review")


def test_a_good_customer_is_approved_one_and_a_half_times_the_limit_at_most() -> None:
    policy = golden.scored()
    state = good(policy)
    fact = periodic(policy, state)
    assert (fact.outcome, fact.reasons, fact.path, fact.distance) == ("approved", (), (), 0)
    assert fact.amount_minor == 4_500_000
    assert fact.score >= 640
    assert limit_text(fact, language="en").startswith("Your credit limit is raised to NT$45,000.00.")


def test_opentobuy_changes_no_limit_itself_billing_answers() -> None:
    policy = golden.scored()
    state = good(policy)
    timer = Timer(builders.ACCOUNT, REVIEW, builders.ACCOUNT, state.credit.reviews, golden.DECIDED)
    after = decide(policy, state, TimerFired(builders.ACCOUNT, timer), moment(golden.DECIDED)).state
    assert after.credit_limit_minor == state.credit_limit_minor
    answer = builders.credit_limit_changed(credit_limit_minor=4_500_000, currency="TWD", occurred_at=golden.DECIDED)
    after = golden.told(policy, answer, state=after)
    assert requested(policy, after, golden.DECIDED + timedelta(days=1)).reasons == (Reason.RECENT_CHANGE,)


def test_the_cap_of_the_tier_bounds_an_increase_and_is_said_when_nothing_is_left() -> None:
    caps = {"A": 3_100_000, "B": 3_100_000, "C": 3_100_000, "D": 0, "E": 0, "unknown": 0}
    bounded = golden.scored({"limit_review.limit_cap_by_tier": caps})
    assert periodic(bounded, good(bounded)).amount_minor == 3_100_000
    full = golden.scored({"limit_review.limit_cap_by_tier": {**dict.fromkeys(caps, 3_000_000)}})
    fact = periodic(full, good(full))
    assert (fact.outcome, fact.reasons) == ("unchanged", (Reason.LIMIT_AT_CAP,))
    assert "already as high as it goes" in limit_text(fact, language="en")


def test_a_refused_request_says_why_and_the_next_one_too_soon_says_so_without_beginning_anew() -> None:
    policy = golden.scored()
    state = golden.told(policy, *golden.story())
    first = builders.limit_review_requested(**REQUEST)
    decision = decide(policy, state, first, moment(golden.DECIDED))
    fact = only(decision.events, LimitIncreaseDecided)
    assert (fact.outcome, fact.reasons[0]) == ("refused", Reason.SMALL_PAYMENTS)
    assert decision.state.credit.refused_at == golden.DECIDED
    soon = golden.DECIDED + timedelta(days=30)
    again = decide(policy, decision.state, builders.limit_review_requested(occurred_at=soon), moment(soon))
    assert only(again.events, LimitIncreaseDecided).reasons[0] == Reason.RECENT_CHANGE
    assert again.state.credit.refused_at == golden.DECIDED
    later = golden.DECIDED + timedelta(days=90)
    assert Reason.RECENT_CHANGE not in requested(policy, again.state, later).reasons


def test_a_short_history_is_said_and_nothing_is_made_of_what_is_missing() -> None:
    policy = golden.scored()
    state = golden.told(policy, golden.opened(), golden.statement(0, 9_000), golden.repaid(0, 100))
    fact = requested(policy, state)
    assert fact.reasons[0] == Reason.SHORT_HISTORY
    assert not {Reason.SMALL_PAYMENTS, Reason.HIGH_UTILISATION} & set(fact.reasons)
    assert fact.path == ()
    assert "your account is still young" in limit_text(fact, language="en")


def test_late_payments_and_returns_stand_against_an_increase_whatever_the_score() -> None:
    policy = golden.scored()
    state = good(policy)
    returned = replace(state, credit=replace(state.credit, returned_at=golden.DECIDED - timedelta(days=89)))
    assert requested(policy, returned).reasons == (Reason.RECENT_RETURN,)
    over = replace(state, credit=replace(state.credit, returned_at=golden.DECIDED - timedelta(days=90)))
    assert requested(policy, over).outcome == "approved"
    months = [*state.credit.months]
    months[2] = months[2]._replace(late=1)
    late = requested(policy, replace(state, credit=replace(state.credit, months=tuple(months))))
    assert (late.outcome, late.reasons[0]) == ("refused", Reason.LATE_PAYMENTS)


def test_near_the_threshold_a_person_looks_at_an_account_known_for_long() -> None:
    policy = golden.scored({"limit_review.look_below": 900})
    young = good(policy)
    assert periodic(policy, young).outcome == "approved"
    old = good(policy, changes={"occurred_at": golden.DECIDED - timedelta(days=800)})
    fact = periodic(policy, old)
    assert (fact.outcome, fact.refer, fact.amount_minor) == ("unchanged", True, 3_000_000)
    assert "A person looks at it as well" in limit_text(fact, language="en")
    assert "人工也会复核" in limit_text(fact, language="zh-CN")
    assert requested(policy, old).refer


def test_what_a_person_concluded_is_told_with_its_amount() -> None:
    policy = golden.scored()
    state = golden.told(policy, *golden.story())
    concluded = builders.limit_review_concluded(
        outcome="approved", amount_minor=3_500_000, currency="TWD", occurred_at=golden.DECIDED
    )
    fact = only(decide(policy, state, concluded, moment(golden.DECIDED)).events, LimitIncreaseDecided)
    assert (fact.outcome, fact.amount_minor, fact.reasons, fact.refer) == ("approved", 3_500_000, (), False)
    assert fact.caused_by == concluded.event_id


def test_a_review_is_half_yearly_from_the_opening_and_each_is_made_once() -> None:
    policy = golden.scored()
    decision = decide(policy, Account(builders.ACCOUNT), golden.opened(), moment(golden.OPENED))
    (timer,) = decision.timers
    assert (timer.kind, timer.number) == (REVIEW, 1)
    assert timer.due_at == datetime(2026, 5, 23, 1, 0, tzinfo=golden.OPENED.tzinfo)
    state = golden.told(policy, golden.opened())
    fired = TimerFired(builders.ACCOUNT, timer)
    first = decide(policy, state, fired, moment(timer.due_at))
    (following,) = first.timers
    assert following.due_at == golden.DECIDED
    assert only(first.events, LimitIncreaseDecided).next_review_on == date(2026, 11, 23)
    assert decide(policy, first.state, fired, moment(timer.due_at)).outcome == "stale"


def test_an_account_opened_long_ago_keeps_its_rhythm() -> None:
    rules = LimitReview()
    assert next_review(rules, date(2020, 8, 31), date(2026, 2, 27)) == date(2026, 2, 28)
    assert next_review(rules, date(2020, 8, 31), date(2026, 2, 28)) == date(2026, 8, 31)
    assert months_later(date(2026, 12, 31), 2) == date(2027, 2, 28)


def test_a_closed_or_unknown_account_is_not_reviewed_and_a_product_may_take_no_requests() -> None:
    policy = golden.scored()
    closed = builders.account_status_changed(status="closed", reason="asked", occurred_at=golden.DECIDED)
    state = golden.told(policy, *golden.story(), closed)
    outcomes = [decide(policy, state, asking(), moment(golden.DECIDED)) for asking in (request, fired)]
    assert [(one.outcome, one.events) for one in outcomes] == [("stale", ())] * 2
    active = builders.account_status_changed(status="active", reason="paid", occurred_at=golden.DECIDED)
    assert requested(policy, golden.told(policy, active, state=state)).outcome == "refused"
    unknown = decide(policy, Account(builders.ACCOUNT), request(), moment(golden.DECIDED))
    assert (unknown.outcome, unknown.reason) == ("stale", "not_reviewed")
    deaf = golden.scored({"limit_review.on_request": False})
    refused = decide(deaf, golden.told(deaf, *golden.story()), request(), moment(golden.DECIDED))
    assert (refused.outcome, refused.reason) == ("stale", "not_on_request")


def request() -> Event:
    return builders.limit_review_requested(**REQUEST)


def fired() -> TimerFired:
    return TimerFired(builders.ACCOUNT, Timer(builders.ACCOUNT, REVIEW, builders.ACCOUNT, 1, golden.DECIDED))


MONTHS = st.builds(
    Month,
    st.just(0),
    st.integers(0, 50_000),
    st.just(30_000),
    st.just(0),
    st.just(1),
    st.integers(0, 50_000),
    late=st.integers(0, 2),
)


@given(st.lists(MONTHS, min_size=KEPT_MONTHS, max_size=KEPT_MONTHS))
def test_no_advice_ever_lowers_a_score_and_every_figure_of_a_path_is_reached_by_following_it(
    months: list[Month],
) -> None:
    table = credit_score()
    scores = grid(table, months, 1)
    assert len(scores) == len(PAYMENT_SHARES) * len(USES) == 42
    assert scores[None, None] == table.score(features(months, 1))
    steps = path(table, months, 1)
    for step in steps:
        way = (step.payment_share_bps, step.use_bps)
        assert step.score == (table.score(features(planned(months, way), 1)) + 50) // 100
        assert scores[way] > scores[None, None]
    if steps:
        assert max(step.score for step in steps) >= table.threshold


@pytest.mark.parametrize("share", [500, 1_000, 10_000])
def test_more_repaid_scores_no_less(share: int) -> None:
    policy = golden.scored()
    months = golden.told(policy, *golden.story()).credit.months
    scores = grid(credit_score(), months, 100)
    assert [scores[share, use] for use in USES] == sorted(scores[share, use] for use in USES)


def test_a_score_of_exactly_the_threshold_is_enough() -> None:
    policy = golden.scored()
    state, rules = good(policy), policy.of("default")
    score = periodic(policy, state).score
    exact, more = (credit_score().model_copy(update={"threshold": score + n}) for n in (0, 1))
    assert answered(rules, exact, state, golden.DECIDED, requested=False).outcome == "approved"
    assert answered(rules, more, state, golden.DECIDED, requested=False).outcome == "unchanged"
    nothing_left = replace(state, credit_limit_minor=None)
    answer = answered(rules, exact, nothing_left, golden.DECIDED, requested=False)
    assert (answer.conditions, answer.limit_minor) == ((Reason.LIMIT_AT_CAP,), 0)


@pytest.mark.parametrize(
    ("score", "days", "looks"),
    [(600, 1, True), (599, 1, False), (631, 1, True), (632, 1, False), (600, 0, False)],
)
def test_a_person_looks_from_one_score_to_below_another_at_who_is_known_for_more_than_so_many_months(
    score: int, days: int, looks: bool
) -> None:
    rules = LimitReview(
        look_from=600, look_below=632, look_months=24, limit_cap_by_tier=LimitReview().limit_cap_by_tier
    )
    opened = golden.DECIDED.replace(year=golden.DECIDED.year - 2) - timedelta(days=days)
    account = Account(builders.ACCOUNT, credit=Credit(opened_at=opened))
    assert worth_a_look(rules, account, score, golden.DECIDED) is looks
    assert not worth_a_look(rules, Account(builders.ACCOUNT), score, golden.DECIDED)


def test_a_word_on_a_closing_counts_once_and_an_older_one_not_at_all() -> None:
    policy = golden.scored()
    closed = builders.account_status_changed(status="closed", reason="asked", occurred_at=golden.DECIDED)
    before = golden.DECIDED - timedelta(seconds=1)
    older = builders.account_status_changed(status="active", reason="paid", occurred_at=before)
    state = golden.told(policy, golden.opened(), closed)
    assert state.credit.closed_at == golden.DECIDED
    for event in (closed, older):
        again = decide(policy, state, event, moment(golden.DECIDED))
        assert (again.state, again.outcome, again.reason) == (state, "stale", "nothing_new")


def test_a_review_names_its_timer_as_its_cause_and_one_that_is_over_says_so() -> None:
    policy = golden.scored()
    state = golden.told(policy, *golden.story())
    timer = Timer(builders.ACCOUNT, REVIEW, builders.ACCOUNT, state.credit.reviews, golden.DECIDED)
    fact = periodic(policy, state)
    assert fact.caused_by == event_id("TimerFired", timer.key, timer.due_at.isoformat())
    over = TimerFired(builders.ACCOUNT, replace(timer, number=state.credit.reviews + 1))
    decision = decide(policy, state, over, moment(golden.DECIDED))
    assert (decision.state, decision.outcome, decision.reason) == (state, "stale", "not_reviewed")


def test_a_return_is_taken_out_of_the_local_day_its_repayment_counts_from() -> None:
    """At 17:00 UTC it is the next day in Shanghai: what was repaid then missed the due day, and so did its return."""
    policy = golden.scored()
    due = (golden.issued_at(0) + timedelta(days=20)).date()
    at = datetime.combine(due, golden.FIRST.timetz()).replace(hour=17)
    late = golden.repaid(0, 500, repayment_id="late", repaid_at=at, credited_on=due + timedelta(days=1))
    state = golden.told(policy, golden.opened(), golden.statement(0, 9_000), golden.repaid(0, 700), late)
    back = builders.repayment_returned(repayment_id="late", amount_minor=50_000, reallocated=(), occurred_at=at)
    month = golden.told(policy, back, state=state).credit.months[0]
    assert (month.paid_minor, month.in_time_minor) == (70_000, 70_000)
