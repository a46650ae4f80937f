"""What became of a repayment its rail may take back: what is exposed until it is final, and what may be learnt when."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from schemas.reasons import Reason
from schemas.risk import Given, RiskAssessed, Tier
from schemas.settlement import RepaymentReturned, RepaymentSettled
from services.policy import Calendar, Profile
from services.values import built, replace

By = Literal["bank", "customer", "issuer"]
"""Who took a repayment back: the payer's bank, the customer who did not authorise it, or our own error."""
Verdict = Literal["clear", "observe", "refer"]
FAST_BANKING_DAYS: Final = 5
FAST_DAYS: Final = timedelta(days=7)
"""A return within so many banking days is the fast label; news of it is given until so long after the settlement."""
Span = tuple[date, date]
"""From when on credit is given back, and the last day its rail may take it back: UTC days, both included."""


class Part(NamedTuple):
    """A part of a repayment and the UTC day from which on it is given back."""

    minor: int
    from_on: date


class Labels(NamedTuple):
    """What may be learnt of a repayment by a day; None is not known yet, or not to be learnt from."""

    fast: bool | None
    slow: bool | None


@dataclass(frozen=True)
class Outcome:
    """A repayment its rail may take back, from its verdict on.

    ``fast_until`` is the end of the fifth banking day, ``fast_at`` and ``slow_at`` are when each label is mature.
    ``over_budget`` says that the portfolio's budget kept back what else would have been given at once. ``rule`` is the
    first reason of a hold, None where nothing was held or before it was kept.
    """

    repayment_id: str
    account_id: str
    product: str
    currency: str
    rail: str
    tier: Tier
    verdict: Verdict
    repaid_at: datetime
    settled_at: datetime
    assessed_at: datetime
    fast_until: datetime
    fast_at: datetime
    slow_at: datetime
    final_on: date
    amount_minor: int
    restorable_minor: int
    credit_balance_minor: int
    parts: tuple[Part, ...]
    inputs: tuple[Given, ...]
    over_budget: bool
    model_version: str
    policy_version: str
    returned_at: datetime | None = None
    returned_by: By | None = None
    rule: Reason | None = None

    @property
    def spans(self) -> dict[Span, int]:
        """Return what is exposed from which day until which; nothing of what was returned."""
        found: dict[Span, int] = {}
        for part in self.parts if self.returned_at is None else ():
            span = part.from_on, self.final_on
            found[span] = found.get(span, 0) + part.minor
        return found

    def labels(self, now: datetime) -> Labels:
        """Return what may be learnt by ``now``: a label counts from its date on, whatever was heard before.

        A return that is known early and a repayment that may still come back would else be learnt of unequally. Our own
        error teaches nothing about customers (E20).
        """
        if self.returned_by == "issuer":
            return Labels(None, None)
        fast = self.returned_at is not None and self.returned_at < self.fast_until
        slow = self.returned_by == "customer"
        return Labels(fast if now >= self.fast_at else None, slow if now >= self.slow_at else None)

    def taken_back(self, event: RepaymentReturned) -> "Outcome":
        """Return it as returned; the first word of a return counts."""
        if self.returned_at is not None:
            return self
        return replace(self, returned_at=event.occurred_at, returned_by=who(event))

    def dated(self, fact: RiskAssessed) -> "Outcome":
        """Return it with the dates of a later verdict, which are never later ones."""
        dated = zip(self.parts, parts_of(fact), strict=True)
        return replace(self, parts=tuple(was._replace(from_on=min(was.from_on, now.from_on)) for was, now in dated))

    def released(self, number: int, on: date) -> "Outcome":
        """Return it with part ``number`` given back from ``on`` on, if that is sooner."""
        moved = [
            part._replace(from_on=min(part.from_on, on)) if n == number else part
            for n, part in enumerate(self.parts, start=1)
        ]
        return replace(self, parts=tuple(moved))

    def moved(self, delta_minor: int) -> "Outcome":
        """Return it after a replay gave it more or less to restore: the last part takes it, then the one before."""
        left, parts = delta_minor, list(self.parts)
        for n in reversed(range(len(parts))):
            taken = max(left, -parts[n].minor)
            parts[n] = parts[n]._replace(minor=parts[n].minor + taken)
            left -= taken
        return replace(self, parts=tuple(parts), restorable_minor=max(0, self.restorable_minor + delta_minor))


_make_outcome = built(Outcome)


def outcome_of(profile: Profile, event: RepaymentSettled, fact: RiskAssessed) -> Outcome:
    """Return the outcome a first verdict begins."""
    fast_until = _fast_until(profile.banking, profile.timezone, profile.banking_day(event.repaid_at))
    return _make_outcome(
        repayment_id=event.repayment_id,
        account_id=event.account_id,
        product=event.product,
        currency=event.currency,
        rail=event.rail,
        tier=fact.tier,
        verdict=fact.outcome,
        repaid_at=event.repaid_at,
        settled_at=event.settled_at,
        assessed_at=fact.occurred_at,
        fast_until=fast_until,
        fast_at=max(fast_until, event.settled_at + FAST_DAYS),
        slow_at=_end_of(profile.timezone, event.final_on),
        final_on=event.final_on,
        amount_minor=event.amount_minor,
        restorable_minor=event.restorable_minor,
        credit_balance_minor=event.credit_balance_minor,
        parts=parts_of(fact),
        inputs=fact.inputs,
        over_budget=dict(fact.inputs).get("over_budget") is True,
        model_version=fact.model_version,
        policy_version=fact.policy_version,
        rule=None if fact.outcome == "clear" else fact.reasons[0],
    )


def parts_of(fact: RiskAssessed) -> tuple[Part, ...]:
    """Return the parts of a verdict, each from the day it is due or was decided on."""
    dated = [(each.amount_minor, max(each.due_at, fact.occurred_at)) for each in fact.tranches]
    return tuple([Part(minor, due.astimezone(UTC).date()) for minor, due in dated])


def who(event: RepaymentReturned) -> By:
    """Return who took a repayment back, as far as the bank's code says it."""
    if event.fault == "issuer":
        return "issuer"
    return "customer" if event.return_class == Reason.RETURNED_UNAUTHORISED else "bank"


def changed(before: Outcome | None, after: Outcome) -> dict[Span, int]:
    """Return how the exposure changed, by span; what stayed is not in it."""
    found = after.spans
    for span, minor in before.spans.items() if before is not None else ():
        found[span] = found.get(span, 0) - minor
    return {span: minor for span, minor in found.items() if minor}


@lru_cache(maxsize=4_096)
def _fast_until(banking: Calendar, timezone: str, day: date) -> datetime:
    """Return the end of the fifth banking day after banking day ``day``."""
    return _end_of(timezone, banking.after(day, FAST_BANKING_DAYS))


@lru_cache(maxsize=4_096)
def _end_of(timezone: str, day: date) -> datetime:
    """Return the instant a local day ends."""
    return datetime.combine(day + timedelta(days=1), time.min, ZoneInfo(timezone)).astimezone(UTC)
