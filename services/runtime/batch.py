"""The way of one batch: read, decide, write. Everything that matters happens here."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from schemas.event import to_millisecond
from schemas.reasons import Cause
from services.decision import Input, Moment, TimerFired
from services.runtime import dead_letter, inbox, outbox, timers
from services.runtime.clock import monotonic
from services.runtime.codec import Outgoing, encode
from services.runtime.dead_letter import Aside, Limit
from services.runtime.fold import Arrived, Folded, fold
from services.runtime.inbox import Move, Progress
from services.runtime.postgres import Connection
from services.runtime.worker import AnyWorker


@dataclass(slots=True)
class Batch:
    """Inputs taken together at ``taken`` (monotonic seconds); ``down`` is when the last failed attempt ended."""

    taken: float
    arrived: list[Arrived] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    unreadable: list[Aside] = field(default_factory=list)
    fires_timers_of: tuple[int, ...] = ()
    again_of: tuple[int, ...] = ()
    down: float | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """What a committed batch leaves to do: events to publish, figures, the seconds to the first timer it set."""

    publication_id: int | None
    outgoing: list[Outgoing]
    counts: Counter[str]
    limit: Limit
    timer_in: float
    woke: bool
    work: Sequence[Any] = ()


async def process(
    connection: Connection,
    worker: AnyWorker,
    policy: object,
    batch: Batch,
    *,
    limit: Limit,
    acknowledged: Collection[int],
) -> Committed:
    """Apply ``batch`` exactly once, or not at all; what Kafka acknowledged meanwhile is closed with it.

    One statement reads, one writes and is its own transaction; what is rare makes it a transaction of several.
    Raises Refused when the offsets are no longer ours, Transient errors as they come, InvariantBroken for our own.
    """
    if not (batch.fires_timers_of or batch.again_of):
        return await _applied(connection, worker, policy, batch, limit, acknowledged)
    async with connection.transaction():  # due timers and set-aside records stay locked until they are handled
        return await _applied(connection, worker, policy, batch, limit, acknowledged)


async def _applied(
    connection: Connection, worker: AnyWorker, policy: object, batch: Batch, limit: Limit, acknowledged: Collection[int]
) -> Committed:
    arrived, unreadable = await _inputs(connection, worker, batch)
    now, folded, reused, repeated = await _decide(connection, worker, policy, batch, arrived)
    outgoing = [encode(event) for event in folded.events]
    asides = [*unreadable, *(Aside("parked" if a.parked else "dead_letter", a, why) for a, why in folded.dead + reused)]
    asides += [Aside("parked", a, why) for a, outcome, why in folded.outcomes if outcome == "parked"]
    counts = Counter([outcome for _, outcome, _ in folded.outcomes])
    dead = len(asides) - counts["parked"]  # what comes back was counted when it came
    counts["duplicate"], counts["dead_lettered"] = len(repeated), dead
    after = limit if batch.again_of else limit.after(good=counts.total() - dead, dead=dead)
    again = Counter((a.topic, a.partition) for a in repeated if a.set_aside_id is None) if repeated else {}
    progress = Progress(batch.moves, again, after.in_a_row)
    several = bool(asides or folded.wakes or batch.again_of)
    async with connection.transaction() if several else nullcontext():
        publication_id = await outbox.record(
            connection, progress, folded, outgoing, acknowledged=acknowledged, writes=worker.keeps.writes
        )
        if several:
            await _rare(connection, folded, asides, repeated)
    timer_in = min(((timer.due_at - now).total_seconds() for _, timer in folded.timers), default=float("inf"))
    work = folded.saved.work if folded.saved else ()
    return Committed(publication_id, outgoing, counts, after, timer_in, bool(folded.wakes), work)


async def _inputs(connection: Connection, worker: AnyWorker, batch: Batch) -> tuple[list[Arrived], list[Aside]]:
    """Add due timers and records that may be handled again to what Kafka brought."""
    arrived, unreadable = list(batch.arrived), list(batch.unreadable)
    if batch.fires_timers_of:
        arrived.extend(await timers.due(connection, batch.fires_timers_of))
    if batch.again_of:
        again, still = await dead_letter.ready(connection, worker, batch.again_of)
        arrived.extend(again)
        unreadable.extend(still)
    return arrived, unreadable


async def _decide(
    connection: Connection, worker: AnyWorker, policy: object, batch: Batch, arrived: Sequence[Arrived]
) -> tuple[datetime, Folded[Any], list[tuple[Arrived, str]], list[Arrived]]:
    """Read what is known and the state at one instant, then decide in memory."""
    store = worker.keeps
    inputs: list[Input] = [a.input for a in arrived if a.input is not None]
    asked = store.ask(inputs) if inputs else None
    keys = [a.event_key for a in arrived if a.event_key]
    row = await inbox.read(connection, keys, "" if asked is None else store.reads, asked or ())
    fresh, reused, repeated = _fresh(arrived, inbox.known_digests(row))
    before = store.states(inputs, row) if inputs else {}
    clock = _Clock(to_millisecond(row["now"]), batch)
    keyed = [(a, store.key(a.input) if a.input is not None else "", clock.moment(a)) for a in fresh]
    folded = fold(worker.decide, policy, before, keyed)
    changed = [(before[at], state) for at, state in folded.states.items() if state is not before[at]]
    if changed:
        folded.saved = store.save(changed)
    folded.fired.extend(a.input.timer.key for a in fresh if isinstance(a.input, TimerFired))
    return clock.now, folded, reused, repeated


class _Clock:
    """Turns this process's monotonic readings into instants of the database's clock."""

    def __init__(self, now: datetime, batch: Batch) -> None:
        elapsed = monotonic()
        self.now = now
        self.taken_at = to_millisecond(now - timedelta(seconds=elapsed - batch.taken))
        down = None if batch.down is None else to_millisecond(now - timedelta(seconds=elapsed - batch.down))
        self.down_waits: tuple[tuple[Cause, datetime], ...] = (
            () if down is None else (("system_delay.dependency_down", down),)
        )

    def moment(self, arrived: Arrived) -> Moment:
        """Return the instants of one input."""
        if arrived.set_aside_id is None:
            return Moment(self.now, self.taken_at, arrived.broker_at, self.down_waits)
        waited: Cause = "system_delay.processing" if arrived.parked else "system_delay.dead_letter"
        return Moment(self.now, arrived.broker_at, arrived.broker_at, ((waited, self.now),))


def _fresh(
    arrived: Sequence[Arrived], known: Mapping[UUID, int]
) -> tuple[list[Arrived], list[tuple[Arrived, str]], list[Arrived]]:
    """Split into new inputs, ids reused for other content, and repeated records."""
    fresh: list[Arrived] = []
    reused: list[tuple[Arrived, str]] = []
    repeated: list[Arrived] = []
    seen = dict(known)
    for a in arrived:
        if a.event_key is None or a.parked:
            fresh.append(a)
        elif a.event_key not in seen:
            seen[a.event_key] = a.digest
            fresh.append(a)
        elif seen[a.event_key] == a.digest:
            repeated.append(a)
        else:
            reused.append((a, "event_id_reused"))
    return fresh, reused, repeated


async def _rare(
    connection: Connection, folded: Folded[Any], asides: Sequence[Aside], repeated: Sequence[Arrived]
) -> None:
    """Write what most batches do not have."""
    closed = [a.set_aside_id for a, _, _ in folded.outcomes if a.set_aside_id is not None]
    dropped = [a.set_aside_id for a in repeated if a.set_aside_id is not None]
    if closed:
        await dead_letter.close(connection, closed, "done")
    if dropped:
        await dead_letter.close(connection, dropped, "discarded")
    if asides:
        await dead_letter.put_aside(connection, asides)
    if folded.wakes:
        await connection.execute(dead_letter.WAKE, folded.wakes)
