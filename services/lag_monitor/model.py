"""What the observer knows of one repayment: where it is, why it waits, what was promised, what became of its parts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal, NamedTuple

from schemas.event import Segment as Step
from schemas.ids import PROBE_ACCOUNT
from schemas.reasons import Cause, Stage
from services.lag_monitor.segments import Lag, Pause, Segment
from services.values import at_once, replace

Status = Literal["pending", "succeeded", "failed"]
PartState = Literal["promised", "held", "parked", "restored", "returned", "reversed", "lapsed"]
Outcome = Literal["restored", "nothing_to_restore", "returned", "lapsed", "rejected"]
Slo = Literal["decided_60s", "low_risk_5s", "low_risk_60s", "hold_promise", "notify_60s", "probe_60s"]
"""The objectives; the last is the synthetic probe's, which is owed nothing else."""
NoticeState = Literal["requested", "delivered", "undeliverable", "suppressed", "told_together"]
Verdict = Literal["met", "breached", "void"]
"""How a promise ended: ``void`` when what it was about ended otherwise before its deadline, and counts for nothing."""


class Restored(NamedTuple):
    """A tranche that is usable again, as CreditRestored told it."""

    tranche: int
    amount_minor: int
    currency: str
    repaid_at: datetime
    restored_at: datetime
    trail: tuple[Step, ...]


class Tally(NamedTuple):
    """One thing to count under a metric's labels, in the catalogue's order; ``ms`` where it is a duration."""

    metric: str
    labels: tuple[str, ...]
    ms: int | None = None


@at_once
@dataclass(frozen=True)
class Part:
    """One tranche: why it waits, since when and until when, what was promised first, and the commit it was restored in.

    ``since`` is when it came into its state; ``restored_at`` stays when it is taken back, and ``told_at`` is when its
    customer was told of it.
    """

    number: int
    amount_minor: int
    state: PartState
    cause: Cause
    since: datetime
    until: datetime | None = None
    promised_by: datetime | None = None
    basis: Literal["clear", "hold"] | None = None
    caused_by: str = ""
    restored_at: datetime | None = None
    told_at: datetime | None = None


@at_once
@dataclass(frozen=True)
class Promise:
    """One objective owed to one tranche (0: to the repayment); its deadline is fixed when it is made (lag 3.1).

    ``over_at`` is when what it was about came about, late or not.
    """

    slo: Slo
    tranche: int
    deadline_at: datetime
    outcome: Verdict | None = None
    decided_at: datetime | None = None
    over_at: datetime | None = None


@at_once
@dataclass(frozen=True)
class Notice:
    """A message to the customer, about the commit ``caused_by``.

    ``asked_at`` is when it was asked for and ``waits`` are the notifier's stretches before that; ``at`` is when it came
    into its state.
    """

    notification_id: str
    caused_by: str
    channel: str
    template: str
    state: NoticeState
    at: datetime
    asked_at: datetime | None = None
    waits: tuple[tuple[Cause, datetime], ...] = ()


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
    tier: str
    rail: str
    lag: Lag


class Told(NamedTuple):
    """What passed between a tranche's restoration and its customer's being told, beside its lag; written once."""

    tranche: int
    segments: tuple[Segment, ...]


@at_once
@dataclass(frozen=True)
class Journey:
    """One repayment, built from whatever was heard of it in any order of the topics.

    ``reported`` is what billing said last and ``received`` what was taken in of it; ``decided_at`` is when it was first
    decided on and ``clear`` tells that the verdict held nothing. ``pauses`` are those of all services. ``unplaced`` are
    restored tranches whose tier or first report was not heard yet; ``facts``, ``told`` and ``tallies`` are new.
    ``version`` counts what was written, for the store.
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
    decided_at: datetime | None = None
    tier: str | None = None
    clear: bool | None = None
    counted: bool = False
    returnable_until: date | None = None
    pending: tuple[Step, ...] = ()
    outcome: Outcome | None = None
    reason: str = ""
    parts: Mapping[int, Part] = field(default_factory=dict)
    promises: Mapping[tuple[Slo, int], Promise] = field(default_factory=dict)
    notices: Mapping[str, Notice] = field(default_factory=dict)
    pauses: tuple[Pause, ...] = ()
    unplaced: tuple[Restored, ...] = ()
    facts: tuple[Fact, ...] = ()
    told: tuple[Told, ...] = ()
    tallies: tuple[Tally, ...] = ()
    version: int = 0

    def put(self, *parts: Part) -> "Journey":
        """Return it with ``parts`` replaced or added."""
        return replace(self, parts={**self.parts, **{part.number: part for part in parts}}) if parts else self

    def owe(self, *promises: Promise) -> "Journey":
        """Return it with ``promises`` replaced or added."""
        return replace(self, promises={**self.promises, **{(p.slo, p.tranche): p for p in promises}})

    def count(self, *tallies: Tally) -> "Journey":
        """Return it with more to count."""
        return replace(self, tallies=(*self.tallies, *tallies)) if tallies else self

    def of(self, *states: PartState) -> tuple[Part, ...]:
        """Return the parts in ``states``, by number."""
        return tuple(part for _, part in sorted(self.parts.items()) if part.state in states)

    @property
    def waiting(self) -> tuple[Part, ...]:
        """Return the parts that may still be restored, by number."""
        return self.of("held", "parked")

    @property
    def probe(self) -> bool:
        """Tell whether it is the synthetic probe's, which is in no business figure."""
        return self.account_id == PROBE_ACCOUNT

    @property
    def waiting_minor(self) -> int:
        """Return what of it waits, minor units; of an unassessed one all of it."""
        if self.outcome is not None:
            return 0
        return sum(part.amount_minor for part in self.waiting) if self.parts else self.amount_minor

    @property
    def standing(self) -> Standing | None:
        """Return where it waits and why; None when it is over, was only heard to be, or is a probe's."""
        if self.outcome is not None or self.repaid_at is None or self.probe:
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
