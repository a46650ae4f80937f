"""The border between deciding and doing: what a pure ``decide()`` is given and what it gives back."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Generic, Literal, NamedTuple, TypeVar

from schemas.event import Event
from schemas.ids import AccountId
from schemas.reasons import Cause

S = TypeVar("S")
Outcome = Literal["applied", "stale", "conflict", "parked", "ignored"]
"""What an event did: ``stale`` changed nothing for a reason, ``parked`` waits for its account or for what it names."""
AHEAD_MAX: Final = timedelta(days=1)
"""A fact further ahead of its own record is a wrong clock's: it would outlive every later word of the same thing."""


class Malformed(Exception):
    """This record can never be handled as it is: it becomes a dead letter and the rest goes on."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The instants of one input: all UTC, millisecond precision, monotone within a batch.

    ``reported_at`` is the broker's timestamp of the record, ``taken_at`` when the batch was read, ``now`` when the
    transaction that writes read the database's clock; ``waits`` are further stretches between them, in order.
    """

    now: datetime
    taken_at: datetime
    reported_at: datetime
    waits: tuple[tuple[Cause, datetime], ...] = ()

    def refuse_ahead(self, occurred_at: datetime) -> None:
        """Raise Malformed when a fact claims to be further ahead of its record than AHEAD_MAX."""
        if occurred_at > self.reported_at + AHEAD_MAX:
            raise Malformed("occurred_in_the_future")

    def stretches(self) -> tuple[tuple[Cause, datetime], ...]:
        """Return the waits of this stage, ready for schemas.event.extended."""
        return (
            ("system_delay.kafka_queue", self.taken_at),
            *self.waits,
            ("system_delay.processing", self.now),
        )


@dataclass(frozen=True, slots=True)
class Internal:
    """An input that is not on the wire, about one account."""

    account_id: AccountId


@dataclass(frozen=True, slots=True)
class Timer(Internal):
    """Something to decide at ``due_at``; ``subject`` and ``number`` say about what."""

    kind: str
    subject: str
    number: int
    due_at: datetime

    @property
    def key(self) -> str:
        """Return the key that makes setting the same timer twice harmless."""
        return f"{self.kind}:{self.subject}:{self.number}"


@dataclass(frozen=True, slots=True)
class TimerFired(Internal):
    """A timer came due; it is decided on like any event."""

    timer: Timer


Input = Event | Internal


def latest(occurred_at: datetime, known_at: datetime | None) -> bool:
    """Tell whether a word that replaces the one before counts: not when it happened before what is known.

    News may come in any order (parked, another partition); of two of one instant the one told last counts, because
    billing tells an account in order and may tell to the second.
    """
    return known_at is None or occurred_at >= known_at


class Decision(NamedTuple, Generic[S]):
    """What follows from one input: the new state, facts to publish, timers to set.

    ``wakes`` asks that what was parked for this account be handled again.
    """

    state: S
    events: tuple[Event, ...] = ()
    timers: tuple[Timer, ...] = ()
    outcome: Outcome = "applied"
    reason: str = ""
    wakes: bool = False
