"""What the observer knows of one repayment: where it is, why it waits, and what became of its parts."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Literal, NamedTuple

from schemas.event import Segment as Step
from schemas.reasons import Cause, Stage
from schemas.risk import Tier as RiskTier
from services.lag_monitor.segments import Lag

Tier = Literal["low", "medium", "high", "unknown"]
Status = Literal["pending", "succeeded", "failed"]
PartState = Literal["held", "parked", "restored", "voided"]
Outcome = Literal["restored", "nothing_to_restore", "returned", "lapsed", "rejected"]
TIER: Final[Mapping[RiskTier, Tier]] = {
    "A": "low",
    "B": "low",
    "C": "medium",
    "D": "high",
    "E": "high",
    "unknown": "unknown",
}
"""The tiers as they are shown: five of the scorecard, three on a dashboard."""


class Restored(NamedTuple):
    """A tranche that is usable again, as CreditRestored told it."""

    tranche: int
    amount_minor: int
    currency: str
    repaid_at: datetime
    restored_at: datetime
    trail: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """One tranche; ``cause`` is why it waits, until ``until`` when it is held."""

    number: int
    amount_minor: int
    state: PartState
    cause: Cause
    since: datetime
    until: datetime | None = None

    @property
    def waits(self) -> bool:
        """Tell whether it may still be restored."""
        return self.state in ("held", "parked")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a repayment is now, why, since when it waits for that, and until when it is held."""

    stage: Stage
    cause: Cause
    since: datetime
    due_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """A restored tranche with its whole lag, written once."""

    restored: Restored
    tier: Tier
    lag: Lag


@dataclass(frozen=True, slots=True)
class Journey:
    """One repayment, built from whatever was heard of it in any order of the topics.

    ``reported`` is what billing said last and ``received`` what was taken in of it. ``unplaced`` are restored tranches
    whose tier or first report was not heard yet; ``facts`` are new. ``version`` counts what was written, for the store
    alone.
    """

    repayment_id: str
    account_id: str = ""
    source: str = ""
    rail: str = ""
    amount_minor: int = 0
    currency: str = ""
    repaid_at: datetime | None = None
    reported: Status | None = None
    reported_at: datetime | None = None
    received: Status | None = None
    received_at: datetime | None = None
    settled_at: datetime | None = None
    assessed_at: datetime | None = None
    tier: Tier | None = None
    pending: tuple[Step, ...] = ()
    parts: Mapping[int, Part] = field(default_factory=dict)
    outcome: Outcome | None = None
    reason: str = ""
    unplaced: tuple[Restored, ...] = ()
    facts: tuple[Fact, ...] = ()
    version: int = 0

    def put(self, *parts: Part) -> "Journey":
        """Return it with ``parts`` replaced or added."""
        return replace(self, parts={**self.parts, **{part.number: part for part in parts}})

    @property
    def waiting(self) -> tuple[Part, ...]:
        """Return the parts that may still be restored, by number."""
        return tuple(part for _, part in sorted(self.parts.items()) if part.waits)

    @property
    def standing(self) -> Standing | None:
        """Return where it waits and why; None when it is over, or was only heard to be."""
        if self.outcome is not None or self.repaid_at is None:
            return None
        if self.waiting:
            part = min(self.waiting, key=lambda part: (part.until is None, part.until or part.since, part.number))
            return Standing("release", part.cause, part.since, part.until)
        ours = self.reported_at or self.received_at or self.repaid_at
        if self.received == "pending" and self.reported != "succeeded" and self.settled_at is None:
            return Standing("settlement", "external.settlement_wait", self.received_at or ours)
        return Standing(self._stage, "system_delay.kafka_queue", ours)

    @property
    def _stage(self) -> Stage:
        """Return the stage it waits for when nothing but us is in the way."""
        if self.assessed_at is not None:
            return "release"
        if self.settled_at is not None:
            return "risk"
        return "settlement" if self.received in ("succeeded", "failed") else "ingest"
