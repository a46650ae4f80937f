"""Feeds records to batch.process as the loop does, and looks at what it left in PostgreSQL."""

import json
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
from aiokafka import TopicPartition

from schemas.event import BillingEvent, Event
from schemas.topics import TOPIC_OF
from services.billing_simulator.headers import billing_headers
from services.decision import Input
from services.profiles import returns
from services.runtime import inbox, outbox
from services.runtime.batch import Batch, Committed, process
from services.runtime.clock import monotonic, utc_now
from services.runtime.codec import encode
from services.runtime.dead_letter import Limit
from services.runtime.fold import Folded
from services.runtime.postgres import Connection, Row, connect
from services.runtime.reader import to_batch
from services.runtime.settings import Settings
from services.runtime.worker import AnyWorker, Store
from tests.conftest import dsn_of

S = TypeVar("S")
SOURCE = "core"
VIEWS = """
SELECT schemaname || '.' || viewname AS name FROM pg_views
WHERE viewname LIKE 'invariant\\_%' ORDER BY 1
"""


@dataclass(frozen=True)
class Record:
    """A Kafka record as aiokafka gives it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


@dataclass(frozen=True)
class Raw:
    """Bytes of our own on a topic."""

    topic: str
    value: bytes | None
    key: bytes | None = b"account-1"
    headers: Sequence[tuple[str, bytes]] = ()


def written(event: Event) -> Raw:
    """Return the bytes of an event as its writer sends them."""
    topic, key = TOPIC_OF[type(event)].name, event.account_id.encode()
    if isinstance(event, BillingEvent):
        return Raw(topic, event.model_dump_json().encode(), key, billing_headers(event, SOURCE))
    return Raw(topic, encode(event).payload, key, encode(event).headers())


async def load(store: Store[S], connection: Connection, inputs: Sequence[Input]) -> dict[str, S]:
    """Read what a store knows of ``inputs``, as a batch does."""
    asked = store.ask(inputs)
    row = await inbox.read(connection, [], "" if asked is None else store.reads, asked or ())
    return store.states(inputs, row)


async def save(store: Store[S], connection: Connection, changes: Sequence[tuple[S, S]]) -> None:
    """Write (before, after) pairs, as a batch does."""
    await outbox.record(connection, inbox.Progress(), Folded({}, saved=store.save(changes)), (), writes=store.writes)


class Feed:
    """One worker at its books: gives every record the next offset of its partition."""

    def __init__(self, worker: AnyWorker, settings: Settings, connection: Connection, partition: int = 0) -> None:
        self.worker = worker
        self.settings = settings
        self.connection = connection
        self.partition = partition
        self.policy = worker.policy(settings)
        self.limit = Limit(share_max=1, in_a_row_max=1_000)
        self.next = dict.fromkeys(worker.topics, 0)

    async def start(self) -> "Feed":
        """Begin every partition at offset 0."""
        at = {(topic, n): 0 for topic in self.worker.topics for n in range(self.settings.partitions)}
        await inbox.positions(self.connection, at)
        return self

    def batch(self, *given: Event | Raw, gap: int = 0) -> Batch:
        """Return what the reader makes of records at the next offsets; ``gap`` offsets after the first are missing."""
        records: dict[TopicPartition, list[Record]] = {}
        for each in given:
            raw = each if isinstance(each, Raw) else written(each)
            offset, now = self.next[raw.topic], int(utc_now().timestamp() * 1000)
            self.next[raw.topic] += 1 + (gap if not records else 0)
            at = TopicPartition(raw.topic, self.partition)
            record = Record(raw.topic, self.partition, offset, now, raw.key, raw.value, raw.headers)
            records.setdefault(at, []).append(record)
        return to_batch(self.worker, records)

    async def apply(self, batch: Batch, acknowledged: Collection[int] = ()) -> Committed:
        """Run one batch."""
        committed = await process(
            self.connection, self.worker, self.policy, batch, limit=self.limit, acknowledged=acknowledged
        )
        self.limit = committed.limit
        return committed

    async def deliver(self, *given: Event | Raw) -> Committed:
        """Put records on the next offsets and run them as one batch."""
        return await self.apply(self.batch(*given))

    async def again(self) -> Committed:
        """Handle what is ready to be handled again, as housekeeping does."""
        return await self.apply(Batch(taken=monotonic(), again_of=(self.partition,)))

    async def fire(self) -> Committed:
        """Fire the timers that are due."""
        return await self.apply(Batch(taken=monotonic(), fires_timers_of=(self.partition,)))

    async def value(self, query: str, *args: object) -> Any:
        """Return the first value of a query."""
        row = await self.connection.fetchrow(query, *args)
        return None if row is None else next(iter(row.values()))


@asynccontextmanager
async def role(settings: Settings, package: str) -> AsyncIterator[Connection]:
    """Connect as a service."""
    connection = await connect(settings, package)
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


@asynccontextmanager
async def owner(settings: Settings) -> AsyncIterator[Any]:
    """Connect as the owner of everything."""
    connection = await asyncpg.connect(dsn_of(settings))
    try:
        yield connection
    finally:
        await connection.close()


async def violations(settings: Settings) -> dict[str, list[Row]]:
    """Return the rows of every invariant view that has any."""
    found: dict[str, list[Row]] = {}
    async with owner(settings) as connection:
        for view in await connection.fetch(VIEWS):
            rows = await connection.fetch(f"SELECT * FROM {view['name']}")  # noqa: S608  # names come from pg_views
            if rows:
                found[view["name"]] = [dict(row) for row in rows]
    return found


def another_table(folder: Path, version: str) -> Path:
    """Write a table of returns that calls every repayment ten times as likely to come back."""
    told = json.loads(returns().model_dump_json())
    told["version"], told["bank"]["base"] = version, 0.04
    path = folder / f"{version}.json"
    path.write_text(json.dumps(told))
    return path
