"""What every event has, and the trail that tells where each millisecond since repaid_at went."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from schemas.ids import AccountId, EventId, RepaymentId
from schemas.reasons import CAUSES, Cause, Stage

Instant = Annotated[AwareDatetime, Field(ge=datetime(2000, 1, 1, tzinfo=UTC), lt=datetime(2200, 1, 1, tzinfo=UTC))]
"""A timezone-aware instant of the years 2000 to 2199."""
MILLISECOND = timedelta(milliseconds=1)
Segment = tuple[Stage, Cause, AwareDatetime]
"""A stretch of the lag (stage, cause, until): it began where the one before ended."""
Trail = Annotated[tuple[Segment, ...], Field(max_length=32)]
"""Consecutive segments; the first begins at repaid_at."""


class Event(BaseModel):
    """A fact in the past tense; frozen, strict, tolerant of keys it does not know."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    event_id: EventId
    account_id: AccountId
    occurred_at: Instant


class BillingEvent(Event):
    """A fact billing reports; what caused it is billing's to say or not."""

    caused_by: EventId | None = None


class DerivedEvent(Event):
    """A fact one of our services concluded from the event ``caused_by``."""

    caused_by: EventId


class RepaymentEvent(DerivedEvent):
    """A fact about one repayment, with its journey so far."""

    repayment_id: RepaymentId
    repaid_at: Instant
    trail: Trail


def milliseconds_between(start: datetime, end: datetime) -> int:
    """Return whole milliseconds from ``start`` to ``end``; both at millisecond precision."""
    return (end - start) // MILLISECOND


def to_millisecond(instant: datetime) -> datetime:
    """Return ``instant`` in UTC, cut to the millisecond."""
    utc = instant if instant.tzinfo is UTC else instant.astimezone(UTC)
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)


def extended(
    repaid_at: datetime, trail: Sequence[Segment], stage: Stage, *waits: tuple[Cause, datetime]
) -> tuple[Segment, ...]:
    """Append ``waits`` of ``stage`` to ``trail``; each end is clamped to the one before, empty ones are left out.

    Clamping keeps the segments tiling the lag when two clocks disagree (lag 2).
    """
    end = trail[-1][2] if trail else repaid_at
    added: list[Segment] = []
    for cause, until in waits:
        if until > end:
            added.append((stage, cause, until))
            end = until
    return (*trail, *added)


def lag_by_cause(repaid_at: datetime, trail: Sequence[Segment]) -> dict[tuple[Stage, Cause], int]:
    """Return milliseconds by (stage, cause); they add up to the whole lag."""
    split: dict[tuple[Stage, Cause], int] = {}
    start = repaid_at
    for stage, cause, until in trail:
        split[stage, cause] = split.get((stage, cause), 0) + milliseconds_between(start, until)
        start = until
    return split


def dominant_cause(repaid_at: datetime, trail: Sequence[Segment]) -> Cause:
    """Return the cause with most time; ties go to the order of the list of causes."""
    total: dict[Cause, timedelta] = {}
    start = repaid_at
    for _, cause, until in trail:
        total[cause] = total[cause] + (until - start) if cause in total else until - start
        start = until
    most = max(total.values(), default=timedelta())
    found = [cause for cause, spent in total.items() if spent == most]
    return min(found, key=CAUSES.index, default="system_delay.processing")
