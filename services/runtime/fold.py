"""A batch through a pure decide(): the same result at any cut."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar
from uuid import UUID

from schemas.event import Event
from services.decision import Decision, Input, Malformed, Moment, Timer
from services.runtime.codec import Record
from services.runtime.worker import Saved

S = TypeVar("S")
P = TypeVar("P")
Decide = Callable[[P, S, Input, Moment], Decision[S]]


@dataclass(frozen=True, slots=True)
class Arrived:
    """One input and where it came from; ``set_aside_id`` when it was kept aside before."""

    input: Input | None
    partition: int
    broker_at: datetime
    topic: str = ""
    offset: int = -1
    event_key: UUID | None = None
    digest: int = 0
    record: Record | None = None
    set_aside_id: int | None = None
    parked: bool = False


@dataclass(slots=True)
class Folded(Generic[S]):
    """What a batch came to."""

    states: dict[str, S]
    events: list[Event] = field(default_factory=list)
    timers: list[tuple[int, Timer]] = field(default_factory=list)
    fired: list[str] = field(default_factory=list)
    outcomes: list[tuple[Arrived, str, str]] = field(default_factory=list)
    dead: list[tuple[Arrived, str]] = field(default_factory=list)
    wakes: list[str] = field(default_factory=list)
    saved: Saved | None = None


def fold(
    decide: Decide[P, S],
    policy: P,
    states: Mapping[str, S],
    arrivals: Sequence[tuple[Arrived, str, Moment]],
) -> Folded[S]:
    """Decide each (arrival, state key, moment) in order; a malformed one is set aside alone."""
    result = Folded(dict(states))
    for arrived, key, moment in arrivals:
        if arrived.input is None:
            result.outcomes.append((arrived, "ignored", ""))
            continue
        try:
            decision = decide(policy, result.states[key], arrived.input, moment)
        except Malformed as error:
            result.dead.append((arrived, str(error)))
            continue
        result.states[key] = decision.state
        result.events.extend(decision.events)
        result.timers.extend((arrived.partition, timer) for timer in decision.timers)
        result.outcomes.append((arrived, decision.outcome, decision.reason))
        if decision.wakes:
            result.wakes.append(arrived.input.account_id)
    return result
