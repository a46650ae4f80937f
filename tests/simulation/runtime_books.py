"""What every service keeps beside its own books, and the runtime's own statements on it (services/runtime)."""

import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

import asyncpg

from services.runtime import dead_letter, inbox, outbox, timers
from services.runtime.postgres import shifted
from tests.simulation.tables import Change, RowTuple, Table, Values, check, listing, zipped

PROGRESS = "topic partition first_offset next_offset duplicates gaps dead_in_a_row"
INBOX = "event_id digest topic partition offset outcome reason"
PUBLICATION = "publication_id partitions created_at published_at"
OUTBOX = "publication_id n event_id event_type topic account_id occurred_at traceparent payload"
TIMERS = "timer_key partition account_id kind subject number due_at"
SET_ASIDE = (
    "set_aside_id kind state topic partition offset broker_at account_id key headers value reason attempts "
    "first_seen_at last_seen_at closed_reason published_at"
)
PUBLICATIONS_MAX = 200
OWN_PARTS = 12
RECORDINGS: dict[tuple[str, str], list[int]] = {}
"""Which parts each statement that writes has, once it was recognised."""
_PART = re.compile(r"(\w+) AS \(")
Clock = Callable[[], datetime]


class NotOurs(asyncpg.PostgresError):
    """What expect() raises for offsets that are another process's."""

    sqlstate = outbox.REFUSED


class OwnBooks(Protocol):
    """A service's own tables: what its reads find, and what its writes leave with how many rows were as read."""

    def read(self, values: Values, now: datetime) -> dict[str, Any]: ...
    def write(self, parts: Values, now: datetime) -> int: ...
    def check(self) -> None: ...


class Books:
    """One schema: the runtime's tables and the service's own."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.undo: list[Change] = []
        self.tables: dict[str, Table] = {}
        self.progress = self.table("progress", PROGRESS, 2)
        self.inbox = self.table("inbox", INBOX, 1)
        self.publication = self.table("publication", PUBLICATION, 1)
        self.outbox = self.table("outbox", OUTBOX, 2)
        self.timers = self.table("timers", TIMERS, 1)
        self.set_aside = self.table("set_aside", SET_ASIDE, 1)
        self.publications = self.asides = self.collisions = 0
        self.own: OwnBooks | None = None
        self.statements: dict[str, Callable[[Values], Any]] = {
            inbox.START: self.start,
            inbox.POSITIONS: self.positions,
            outbox.ACKNOWLEDGE: self.acknowledge,
            outbox.UNPUBLISHED: self.unpublished,
            timers.DUE: self.due,
            timers.CHORES: self.chores,
            dead_letter.SET_ASIDE: self.put_aside,
            dead_letter.WAKE: self.wake,
            dead_letter.READY: self.ready,
            dead_letter.CLOSE: self.close,
            dead_letter.UNPUBLISHED: self.dead_unpublished,
            dead_letter.MARK_PUBLISHED: self.dead_published,
            inbox.reading(""): self.read,
        }
        self.writes = ""

    def table(self, name: str, columns: str, keys: int) -> Table:
        made = self.tables[name] = Table(name, columns, keys, self.undo)
        return made

    def serve(self, reads: str, writes: str, own: OwnBooks) -> None:
        """Understand the two statements of a store."""
        self.own, self.writes = own, writes
        self.statements[inbox.reading(reads)] = self.read

    def run(self, query: str, values: Values) -> Any:
        """Run one statement, whole or not at all; the caller forgets or runs the undo log."""
        handler = self.statements.get(query)
        if handler is not None:
            return handler(values)
        taken = RECORDINGS.get((self.writes, query)) or self._recognised(query)
        parts: list[Any] = [None] * (max(taken) + 1 if taken else 0)
        for n, value in zip(taken, values, strict=True):
            parts[n] = value
        return self.record(parts)

    def _recognised(self, query: str) -> list[int]:
        """Return which parts a statement that writes has, when it is the one the runtime makes of them."""
        everything, _ = outbox.recording(self.writes)
        named = set(_PART.findall(query))
        whole = f"{outbox.RECORD},{shifted(self.writes, outbox.PARAMETERS + 1)}" if self.writes else outbox.RECORD
        ctes = outbox._PARTS.split(whole)
        kept = {n for cte in ctes if _PART.match(cte.strip())[1] in named for n in outbox._numbers(cte)}  # type: ignore[index]
        text, taken = outbox.recording(self.writes, frozenset(outbox._numbers(everything)) - kept)
        if text != query:
            raise NotImplementedError(f"the simulated database does not know this statement: {query}")
        RECORDINGS[self.writes, query] = taken
        return taken

    def rollback(self, mark: int = 0) -> None:
        """Undo everything since ``mark`` entries of the undo log."""
        while len(self.undo) > mark:
            rows, key, old = self.undo.pop()
            if old is None:
                del rows[key]
            else:
                rows[key] = old

    # inbox.py, outbox.py

    def read(self, values: Values) -> dict[str, Any]:
        now = self.clock()
        known = {str(at): row[1] for at in listing(values[0]) if (row := self.inbox.get(at)) is not None}
        found: dict[str, Any] = {"now": now, "known": json.dumps(known) if known else None}
        if self.own is not None and len(values) > 1:
            found.update(self.own.read(values[1:], now))
        return found

    def record(self, parts: Values) -> dict[str, Any]:
        """Write the parts of outbox.RECORD in the order PostgreSQL looks at them, then the service's own."""
        now = self.clock()
        parts = [*parts, *[None] * (outbox.PARAMETERS + 1 + OWN_PARTS - len(parts))]
        moves, remembered, partitions, events, timers, cleared, acknowledged, meant = parts[: outbox.PARAMETERS + 1]
        publication_id = None if events is None else self._publish(partitions, events, now)
        self._move(listing(moves))
        own = parts[outbox.PARAMETERS + 1 :]
        if self.own is not None and any(part is not None for part in own):
            guarded = self.own.write(own, now)
            if meant is not None and guarded != meant:
                self.collisions += 1
                raise asyncpg.SerializationError(f"{guarded} of {meant} rows are as they were")
        for row in listing(remembered):
            self.inbox.insert(row)
        for row in listing(timers):
            old = self.timers.get(row[0])
            self.timers.put(row if old is None else self.timers.changed(old, due_at=row[6]))
        for key in listing(cleared):
            self.timers.delete(key)
        self.acknowledge((acknowledged,))
        if self.own is not None:
            self.own.check()
        return {"publication_id": publication_id}

    def _publish(self, partitions: Sequence[int], events: Sequence[RowTuple], now: datetime) -> int:
        self.publications += 1  # a sequence never goes back
        self.publication.insert((self.publications, tuple(partitions), now, None))
        for row in events:
            self.outbox.insert((self.publications, *row[1:]))
        return self.publications

    def _move(self, moves: Sequence[RowTuple]) -> None:
        moved = 0
        for topic, partition, first, following, duplicates, gaps, dead_in_a_row in moves:
            old = self.progress.get((topic, partition))
            if old is None or old[3] != first:
                continue
            moved += 1
            check(following >= first, "progress_check")
            self.progress.put((topic, partition, old[2], following, old[4] + duplicates, old[5] + gaps, dead_in_a_row))
        if moved != len(moves):
            raise NotOurs(f"{moved} of {len(moves)} rows are as they were")

    def start(self, values: Values) -> None:
        for topic, partition, offset in zipped(values):
            if (topic, partition) not in self.progress.rows:
                self.progress.insert((topic, partition, offset, offset, 0, 0, 0))

    def positions(self, values: Values) -> list[dict[str, Any]]:
        found = [self.progress.get(at) for at in zipped(values)]
        return [self.progress.named(row) for row in found if row is not None]

    def acknowledge(self, values: Values) -> None:
        for at in listing(values[0]):
            row = self.publication.get(at)
            if row is not None:
                self.publication.put((*row[:3], self.clock()))

    def unpublished(self, values: Values) -> list[dict[str, Any]]:
        mine, older_than, known = set(values[0]), values[1], set(values[2])
        now = self.clock()
        wanted = sorted(
            at
            for at, row in self.publication.rows.items()
            if row[3] is None
            and (not row[1] or not mine.isdisjoint(row[1]))
            and (older_than == 0 or not now - timedelta(seconds=older_than) <= row[2] <= now)
            and at not in known
        )[:PUBLICATIONS_MAX]
        if not wanted:
            return []
        keys = set(wanted)
        rows = sorted((row for row in self.outbox.rows.values() if row[0] in keys), key=lambda row: row[:2])
        return [self.outbox.named(row) for row in rows]

    # timers.py

    def due(self, values: Values) -> list[dict[str, Any]]:
        now, mine = self.clock(), set(values[0])
        rows = [row for row in self.timers.rows.values() if row[1] in mine and row[6] <= now]
        rows.sort(key=lambda row: (row[6], row[0]))
        return [self.timers.named(row) for row in rows[: values[1]]]

    def chores(self, values: Values) -> dict[str, Any]:
        now, mine = self.clock(), set(values[0])
        due, aside = [row[6] for row in self.timers.rows.values() if row[1] in mine], self.set_aside.rows.values()
        return {
            "timer_in": (min(due) - now).total_seconds() if due else float("inf"),
            "again": bool(aside) and any(row[4] in mine and self._returns(row, now) for row in aside),
            "dead_letters": bool(aside) and any(row[1] == "dead_letter" and row[16] is None for row in aside),
        }

    # dead_letter.py

    def _returns(self, row: RowTuple, now: datetime) -> bool:
        if row[2] == "ready":
            return True
        waited = timedelta(minutes=min(row[12], 60))
        return bool(row[1] == "parked" and row[2] == "open" and row[14] < now - waited)

    def put_aside(self, values: Values) -> None:
        now = self.clock()
        known = {(row[1], row[3], row[4], row[5]): row for row in self.set_aside.rows.values()}
        for kind, topic, partition, offset, broker_at, account_id, *bytes_, reason in zipped(values[:10]):
            self.asides += 1
            row = known.get((kind, topic, partition, offset))
            if row is None:
                at = (topic, partition, offset, broker_at, account_id)
                self.set_aside.insert((self.asides, kind, "open", *at, *bytes_, reason, 1, now, now, None, None))
            else:
                again = {"state": "open", "attempts": row[12] + 1, "last_seen_at": now, "reason": reason}
                self.set_aside.put(self.set_aside.changed(row, **again))

    def wake(self, values: Values) -> None:
        accounts = set(values[0])
        for row in list(self.set_aside.rows.values()):
            if row[1] == "parked" and row[2] == "open" and row[7] in accounts:
                self.set_aside.put(self.set_aside.changed(row, state="ready"))

    def ready(self, values: Values) -> list[dict[str, Any]]:
        now, mine = self.clock(), set(values[0])
        rows = [row for _, row in sorted(self.set_aside.rows.items()) if row[4] in mine and self._returns(row, now)]
        return [self.set_aside.named(row) for row in rows[: values[1]]]

    def close(self, values: Values) -> None:
        for at in values[0]:
            row = self.set_aside.get(at)
            if row is not None:
                closed = {"state": values[1], "closed_reason": row[15] or values[1], "last_seen_at": self.clock()}
                self.set_aside.put(self.set_aside.changed(row, **closed))

    def dead_unpublished(self, values: Values) -> list[dict[str, Any]]:
        mine = set(values[0])
        rows = [
            row
            for _, row in sorted(self.set_aside.rows.items())
            if row[1] == "dead_letter" and row[16] is None and row[4] in mine
        ]
        return [self.set_aside.named(row) for row in rows[: values[1]]]

    def dead_published(self, values: Values) -> None:
        for at in values[0]:
            row = self.set_aside.get(at)
            if row is not None:
                self.set_aside.put(self.set_aside.changed(row, published_at=self.clock()))
