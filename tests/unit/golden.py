"""The golden customer of the credit score, as billing and settlement would tell of it (row 925, domain 8.4)."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.event import Event
from schemas.settlement import RepaymentSettled
from services.billing_simulator.scenarios import CASE_B_LIMIT, CASE_B_MONTHS
from services.policy import Profiles
from services.profiles import credit_score
from services.risk_scoring.domain import decide
from services.risk_scoring.model import Account
from tests import builders
from tests.unit.given import moment, profile

OPENED = datetime(2025, 11, 23, 4, 0, tzinfo=UTC)
FIRST = datetime(2026, 6, 15, 4, 0, tzinfo=UTC)
DECIDED = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)
TAIWAN: Mapping[str, object] = {
    "currency": "TWD",
    "limit_review.unit_minor": 100,
    "limit_review.limit_cap_by_tier": {"A": 9_000_000, "B": 6_000_000, "C": 4_500_000, "D": 0, "E": 0, "unknown": 0},
}


def scored(changes: Mapping[str, object] | None = None) -> Profiles:
    """Return the default product in Taiwan's money, with the shipped table."""
    return Profiles({"default": profile({**TAIWAN, **(changes or {})})}, credit=credit_score())


def opened(**changes: Any) -> Event:
    terms = {"credit_limit_minor": 100 * CASE_B_LIMIT, "currency": "TWD", "occurred_at": OPENED}
    return builders.account_opened(**{**terms, **changes})


def issued_at(n: int) -> datetime:
    """Return when statement ``n`` of the six was issued."""
    return FIRST + timedelta(days=30 * n)


def statement(n: int, due: int, *, at: datetime | None = None, **changes: Any) -> Event:
    at = at or issued_at(n)
    terms = {"due_minor": 100 * due, "minimum_minor": min(100 * due, 100_000), "due_on": (at + timedelta(20)).date()}
    return builders.statement_issued(**{"occurred_at": at, "currency": "TWD", **terms, **changes})


def repaid(n: int, amount: int, *, days: float = 10, **changes: Any) -> RepaymentSettled:
    """Return a repayment so many days after statement ``n``."""
    at = issued_at(n) + timedelta(days=days)
    money = {"amount_minor": 100 * amount, "restorable_minor": 100 * amount, "currency": "TWD"}
    when = {"repaid_at": at, "settled_at": at + timedelta(seconds=2), "credited_on": at.date()}
    return builders.repayment_settled(**{"repayment_id": f"r{n}", **money, **when, **changes})


def story() -> Iterator[Event]:
    """Yield what is told of the golden customer, in order."""
    yield opened()
    for n, (due, paid) in enumerate(CASE_B_MONTHS):
        yield statement(n, due)
        if paid:
            yield repaid(n, paid)


def told(policy: Profiles, *events: Event, state: Account | None = None) -> Account:
    """Return the account after these events, each taken when it happened."""
    state = state or Account(builders.ACCOUNT)
    for event in events:
        at = event.settled_at if isinstance(event, RepaymentSettled) else event.occurred_at
        state = decide(policy, state, event, moment(at)).state
    return state
