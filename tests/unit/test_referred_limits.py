"""A limit a person looks at: the band, its case, what a person may make of it, and who is told (risk 7)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.ids import event_id
from schemas.review import LimitIncreaseDecided, LimitReviewConcluded
from services.console.domain import CASE_CLOSES, MoveCase
from services.console.domain import decide as console_decides
from services.console.model import CONCLUDES, SECOND_PERSON_MINOR, Case, CaseOutcome, Desk, Limit
from services.decision import Decision, Timer, TimerFired
from services.risk_scoring.accounts import REVIEW
from services.risk_scoring.domain import decide as risk_decides
from services.risk_scoring.limits import planned, worth_a_look
from services.risk_scoring.model import Account
from services.scorecard import LimitReview
from services.wording import limit_text
from tests import builders
from tests.unit import golden
from tests.unit.given import moment, only

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
LONG_AGO = golden.DECIDED - timedelta(days=800)
REFERRED = builders.limit_increase_decided(refer=True, score=635)
LIMIT = Limit(3_000_000, "TWD")


def opened(limit: Limit | None = LIMIT) -> Desk:
    desk = console_decides(None, Desk(builders.ACCOUNT), REFERRED, moment(NOW)).state
    return replace(desk, limit=limit)


def case_of(desk: Desk) -> Case:
    (case,) = desk.cases.values()
    return case


def ended(
    desk: Desk, outcome: CaseOutcome, limit: int | None = None, *, actor: str = "reviewer_1", now: datetime = NOW
) -> Decision[Desk]:
    at = case_of(desk).case_id
    command = MoveCase(builders.ACCOUNT, actor, "good_standing", at, "resolve", outcome, "", limit)
    return console_decides(None, desk, command, moment(now))


def near_the_threshold() -> Account:
    """Return Case B's account, known for long, as if it had repaid a tenth of its bill each month."""
    _, *events = golden.story()
    state = golden.told(golden.scored(), golden.opened(occurred_at=LONG_AGO), *events)
    months = tuple(planned(state.credit.months, (1_000, None)))
    return replace(state, credit=replace(state.credit, months=months))


def reviewed(state: Account) -> LimitIncreaseDecided:
    timer = Timer(builders.ACCOUNT, REVIEW, builders.ACCOUNT, state.credit.reviews, golden.DECIDED)
    decision = risk_decides(golden.scored(), state, TimerFired(builders.ACCOUNT, timer), moment(golden.DECIDED))
    return only(decision.events, LimitIncreaseDecided)


@pytest.mark.parametrize(("score", "looks"), [(631, False), (632, True), (640, True), (647, True), (648, False)])
def test_a_person_looks_from_632_to_below_648_points_of_an_account_known_for_two_years(score: int, looks: bool) -> None:
    old = golden.told(golden.scored(), golden.opened(occurred_at=LONG_AGO))
    assert worth_a_look(LimitReview(), old, score, golden.DECIDED) is looks
    young = golden.told(golden.scored(), golden.opened(occurred_at=golden.DECIDED - timedelta(days=700)))
    assert not worth_a_look(LimitReview(), young, score, golden.DECIDED)


def test_a_review_near_the_threshold_is_a_case_and_what_a_person_decides_of_it_reaches_the_customer() -> None:
    state = near_the_threshold()
    fact = reviewed(state)
    assert 632 <= fact.score < 648
    assert (fact.outcome, fact.refer, fact.amount_minor) == ("unchanged", True, 3_000_000)
    assert "A person looks at it as well" in limit_text(fact, language="en")

    decision = console_decides(None, Desk(builders.ACCOUNT, limit=LIMIT), fact, moment(golden.DECIDED))
    case = case_of(decision.state)
    assert (case.kind, case.priority, case.detail) == ("limit_referred", "normal", f"score_{fact.score}")
    assert (case.repayment_id, case.due_at) == (None, golden.DECIDED + timedelta(hours=72))
    resolved = ended(decision.state, "limit_raised", 3_500_000, now=golden.DECIDED)
    concluded = only(resolved.events, LimitReviewConcluded)
    assert case_of(resolved.state).state == "resolved"
    assert [timer.kind for timer in resolved.timers] == [CASE_CLOSES]
    assert (concluded.outcome, concluded.amount_minor, concluded.currency) == ("approved", 3_500_000, "TWD")
    assert (concluded.actor, concluded.reason, concluded.caused_by) == ("reviewer_1", "good_standing", fact.event_id)
    (entry,) = resolved.state.audits
    assert (entry.actor, entry.action) == ("reviewer_1", "resolve")
    assert '"limit_minor":3500000' in entry.content

    told = only(risk_decides(golden.scored(), state, concluded, moment(golden.DECIDED)).events, LimitIncreaseDecided)
    assert (told.outcome, told.amount_minor, told.refer, told.reasons) == ("approved", 3_500_000, False, ())
    assert "NT$35,000.00" in limit_text(told, language="en")


@pytest.mark.parametrize(("outcome", "says"), [("limit_kept", "unchanged"), ("limit_refused", "refused")])
def test_a_limit_that_is_not_raised_stays_as_it_is(outcome: CaseOutcome, says: str) -> None:
    fact = only(ended(opened(), outcome).events, LimitReviewConcluded)
    assert (fact.outcome, fact.amount_minor, fact.currency) == (says, 3_000_000, "TWD")
    assert fact.event_id == event_id("LimitReviewConcluded", case_of(opened()).case_id, NOW.isoformat())
    state = golden.told(golden.scored(), golden.opened(occurred_at=LONG_AGO))
    told = only(risk_decides(golden.scored(), state, fact, moment(golden.DECIDED)).events, LimitIncreaseDecided)
    assert (told.outcome, told.amount_minor, told.refer) == (says, 3_000_000, False)


@pytest.mark.parametrize(
    ("outcome", "limit", "known", "why"),
    [
        ("explained", None, LIMIT, "outcome_of_another_kind"),
        ("limit_raised", None, LIMIT, "limit_goes_with_raising"),
        ("limit_kept", 3_500_000, LIMIT, "limit_goes_with_raising"),
        ("limit_raised", 3_000_000, LIMIT, "not_an_increase"),
        ("limit_kept", None, None, "limit_unknown"),
    ],
)
def test_what_does_not_fit_a_review_of_a_limit_ends_nothing(
    outcome: Any, limit: int | None, known: Limit | None, why: str
) -> None:
    desk = opened(known)
    refused = ended(desk, outcome, limit)
    assert (refused.outcome, refused.reason, refused.events) == ("stale", why, ())
    assert refused.state is desk


@pytest.mark.parametrize("outcome", CONCLUDES)
def test_no_other_case_ends_so(outcome: Any) -> None:
    late = console_decides(None, Desk(builders.ACCOUNT), builders.restoration_delayed(), moment(NOW)).state
    raised = 5 if outcome == "limit_raised" else None
    assert ended(replace(late, limit=Limit(1, "TWD")), outcome, raised).reason == "outcome_of_another_kind"
    assert ended(late, "explained", 5).reason == "limit_goes_with_raising"


def test_a_limit_raised_by_much_takes_two_people_who_name_the_same_limit() -> None:
    desk = opened(Limit(1_000_000, "TWD"))
    much = 1_000_000 + SECOND_PERSON_MINOR
    assert len(ended(desk, "limit_raised", much - 1).events) == 1
    first = ended(desk, "limit_raised", much)
    assert (first.outcome, first.reason, first.events) == ("applied", "needs_another_person", ())
    assert case_of(first.state).state == "open"
    assert ended(first.state, "limit_raised", much + 1, actor="reviewer_2").events == ()
    assert ended(first.state, "limit_raised", much).events == (), "the same person twice is one person"
    second = ended(first.state, "limit_raised", much, actor="reviewer_2")
    assert only(second.events, LimitReviewConcluded).amount_minor == much


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"amount_minor": 3_000_000}, "not_an_increase"),
        ({"amount_minor": 4_500_001}, "beyond_the_cap"),
        ({"amount_minor": 3_500_000, "currency": "CNY"}, "other_currency"),
    ],
)
def test_risk_scoring_has_the_last_word(changes: dict[str, Any], why: str) -> None:
    said = builders.limit_review_concluded(**{"outcome": "approved", "currency": "TWD", **changes})
    decision = risk_decides(golden.scored(), near_the_threshold(), said, moment(golden.DECIDED))
    assert (decision.outcome, decision.reason, decision.events) == ("stale", why, ())


def test_one_and_a_half_times_the_limit_is_within_its_bounds() -> None:
    said = builders.limit_review_concluded(outcome="approved", currency="TWD", amount_minor=4_500_000)
    decision = risk_decides(golden.scored(), near_the_threshold(), said, moment(golden.DECIDED))
    assert only(decision.events, LimitIncreaseDecided).amount_minor == 4_500_000


def test_while_a_person_looks_at_a_limit_no_second_case_of_it_is_opened() -> None:
    waits = case_of(opened())
    again, other = replace(waits, case_id="again"), replace(waits, case_id="other", kind="complaint")
    done = replace(waits, state="closed")
    assert Desk(builders.ACCOUNT, {waits.case_id: waits}).opened(waits) == "opened_before"
    assert Desk(builders.ACCOUNT, {waits.case_id: waits}).opened(again) == "looked_at_already"
    assert Desk(builders.ACCOUNT, {waits.case_id: waits}).opened(other) == ""
    assert Desk(builders.ACCOUNT, {other.case_id: other}).opened(again) == ""
    assert Desk(builders.ACCOUNT, {done.case_id: done}).opened(again) == ""
