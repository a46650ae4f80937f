"""What billing says of an account's standing, limit and funding accounts: the latest word counts in any order."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import permutations

import pytest

from schemas.account import AccountStatusChanged, CreditLimitChanged
from schemas.event import Event
from schemas.restoration import CreditRestored, RestorationParked
from services.decision import AHEAD_MAX, Malformed
from services.limit_release.domain import decide
from services.limit_release.model import Account, State
from services.risk_scoring import domain as risk_scoring
from services.risk_scoring.model import Account as RiskAccount
from tests import builders
from tests.unit.given import FRIDAY, Pipe, all_of, moment, only, profiles

SECOND = timedelta(seconds=1)


def said(status: str, after: int, reason: str = "overdue") -> AccountStatusChanged:
    return builders.account_status_changed(status=status, reason=reason, occurred_at=FRIDAY + after * SECOND)


def limited(limit: int, after: int, cash: int | None = None) -> CreditLimitChanged:
    at = FRIDAY + after * SECOND
    return builders.credit_limit_changed(credit_limit_minor=limit, cash_sub_limit_minor=cash, occurred_at=at)


def told(events: Sequence[Event]) -> Account:
    """Return the account limit-release knows after these news of an open account."""
    state = decide(profiles(), State(Account(builders.ACCOUNT)), builders.account_opened(), moment(FRIDAY)).state
    for event in events:
        state = decide(profiles(), state, event, moment(FRIDAY)).state
    return state.account


def test_e13_e16_a_freeze_that_was_parked_for_its_account_does_not_win_over_a_later_thaw() -> None:
    pipe = Pipe()
    pipe.take(said("frozen", 1))
    assert pipe.outcomes[-1] == ("limit-release", "parked")
    pipe.parked, late = [], pipe.parked  # it waits for its next try while its account is opened
    pipe.open(500_000, principal=100_000)
    pipe.take(said("active", 2, "paid"))
    pipe.parked = late
    (_, freeze) = late[-1]
    pipe.take(freeze)
    assert ("limit-release", "stale") in pipe.outcomes
    assert (pipe.account.status, pipe.account.status_reason) == ("active", "paid")
    assert only(pipe.repay(100_000), CreditRestored).available_credit_minor == 500_000


def test_e16_a_late_thaw_does_not_win_over_a_later_freeze() -> None:
    pipe = Pipe().open(500_000, principal=100_000)
    pipe.take(said("frozen", 2, "risk_review"))
    assert only(pipe.repay(100_000), RestorationParked).amount_minor == 100_000
    assert not all_of(pipe.take(said("active", 1)), CreditRestored)
    assert (pipe.account.status, pipe.account.status_reason) == ("frozen", "risk_review")
    assert only(pipe.take(said("active", 3)), CreditRestored).amount_minor == 100_000


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_e16_standing_and_limits_end_the_same_in_any_order_of_news(order: tuple[int, ...]) -> None:
    news = (said("frozen", 1), limited(300_000, 2, cash=50_000), said("active", 3, "paid"), limited(400_000, 4))
    account = told([news[n] for n in order])
    assert (account.status, account.status_reason) == ("active", "paid")
    assert (account.credit_limit_minor, account.available_minor) == (400_000, 400_000)
    assert account.cash_sub_limit_minor == 50_000, "the later word on the limit says nothing of cash"


def test_e16_the_latest_word_on_cash_counts_in_any_order_of_news_and_one_without_cash_says_nothing_of_it() -> None:
    for news in permutations((limited(300_000, 1, cash=10), limited(400_000, 2, cash=20), limited(200_000, 3))):
        account = told(news)
        assert (account.credit_limit_minor, account.cash_sub_limit_minor) == (200_000, 20)


def test_of_two_words_of_one_instant_the_one_told_last_counts() -> None:
    account = told([said("frozen", 1), said("active", 1, "paid"), limited(300_000, 1, 9), limited(200_000, 1, 8)])
    assert (account.status, account.credit_limit_minor, account.cash_sub_limit_minor) == ("active", 200_000, 8)


def test_an_opening_is_the_first_word_whatever_its_clock_says() -> None:
    state = State(Account(builders.ACCOUNT))
    opened = builders.account_opened(occurred_at=FRIDAY + 9 * SECOND)
    for event in (opened, limited(300_000, 1), said("frozen", 1)):
        state = decide(profiles(), state, event, moment(FRIDAY)).state
    assert (state.account.credit_limit_minor, state.account.status) == (300_000, "frozen")


@pytest.mark.parametrize("event", [said("frozen", 86_401), limited(1, 86_401)])
def test_a_word_further_ahead_than_a_clock_may_be_wrong_is_refused_before_it_outlives_all_others(event: Event) -> None:
    with pytest.raises(Malformed, match="occurred_in_the_future"):
        told([event])
    assert AHEAD_MAX == 86_400 * SECOND
    assert told([said("frozen", 86_400), limited(1, 86_400)]).credit_limit_minor == 1


def assessor(*events: Event) -> RiskAccount:
    """Return the account risk-scoring knows after these news."""
    state = RiskAccount(builders.ACCOUNT)
    for event in events:
        state = risk_scoring.decide(profiles(), state, event, moment(FRIDAY)).state
    return state


def test_e16_risk_scoring_keeps_the_latest_limit_too() -> None:
    opened = builders.account_opened()
    for news in permutations((limited(300_000, 1), limited(400_000, 2), limited(200_000, 2))):
        last = next(one for one in reversed(news) if one.occurred_at == FRIDAY + 2 * SECOND)
        assert assessor(opened, *news).credit_limit_minor == last.credit_limit_minor
    assert assessor(limited(300_000, 1), opened).credit_limit_minor == 300_000


def test_e16_a_late_word_on_a_funding_account_does_not_win_over_a_later_one() -> None:
    def linked(after: int, *, verified: bool) -> Event:
        at = FRIDAY + after * SECOND
        return builders.funding_account_linked(verified=verified, occurred_at=at)

    for news in permutations((linked(1, verified=True), linked(2, verified=False), linked(3, verified=True))):
        assert assessor(*news).funding_account(builders.FUNDING_ACCOUNT).verified


@pytest.mark.parametrize(
    "event", [limited(1, 86_401), builders.funding_account_linked(occurred_at=FRIDAY + 86_401 * SECOND)]
)
def test_risk_scoring_refuses_a_word_from_the_future(event: Event) -> None:
    with pytest.raises(Malformed, match="occurred_in_the_future"):
        assessor(event)
