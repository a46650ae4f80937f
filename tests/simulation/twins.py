"""The same batches on the real PostgreSQL and on the simulated one, at one pinned instant: no difference is seen."""

import json
import re
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from types import SimpleNamespace
from typing import Any, Final
from uuid import UUID

import asyncpg
from aiokafka import TopicPartition

from services.cli.workers import WORKERS
from services.runtime.batch import Batch, Committed, process
from services.runtime.dead_letter import Limit
from services.runtime.errors import Refused
from services.runtime.inbox import positions
from services.runtime.postgres import Connection, Row
from services.runtime.reader import to_batch
from services.runtime.worker import AnyWorker
from tests.simulation.billing import Billing
from tests.simulation.kafka import Record
from tests.simulation.runtime_books import Books
from tests.simulation.service_books import OWN
from tests.simulation.world import policy_of

NOW: Final = "current_setting('otb.now')::timestamptz"
SHARD: Final = re.compile(r"pg_backend_pid\(\) % \d+")
# Columns that are filled by the database's clock.
CLOCKED = """
SELECT format('ALTER TABLE %I.%I ALTER COLUMN %I SET DEFAULT current_setting(''otb.now'')::timestamptz',
  table_schema, table_name, column_name)
FROM information_schema.columns WHERE column_default = 'clock_timestamp()'
"""
# Takes every row away, append-only tables too, and begins counting again.
EMPTY = """
SELECT format('DELETE FROM %I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = ANY ($1::text[])
UNION ALL SELECT format('ALTER SEQUENCE %I.%I RESTART', schemaname, sequencename)
FROM pg_sequences WHERE schemaname = ANY ($1::text[])
"""
BEGINS = datetime(2026, 11, 16, 1, 0, tzinfo=UTC)


class Pinned:
    """A connection whose statements read the clock they are told."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def fetch(self, query: str, *args: object) -> Sequence[Row]:
        found: Sequence[Row] = await self.inner.fetch(_pinned(query), *args)
        return found

    async def fetchrow(self, query: str, *args: object) -> Row | None:
        row: Row | None = await self.inner.fetchrow(_pinned(query), *args)
        return row

    async def execute(self, query: str, *args: object) -> str:
        return str(await self.inner.execute(_pinned(query), *args))

    def transaction(self) -> AbstractAsyncContextManager[object]:
        made: AbstractAsyncContextManager[object] = self.inner.transaction()
        return made

    async def close(self, *, timeout: float | None = None) -> None:
        await self.inner.close(timeout=timeout)

    def is_closed(self) -> bool:
        return bool(self.inner.is_closed())


def _pinned(query: str) -> str:
    """Return a statement that reads the pinned clock, and of whichever session writes into the first shard."""
    return SHARD.sub("0", query.replace("clock_timestamp()", NOW).replace("statement_timestamp()", NOW))


class InMemory:
    """A connection to simulated books, without a world around it."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.depth = 0

    def _run(self, query: str, args: Sequence[object]) -> Any:
        mark = len(self.books.undo)
        try:
            found = self.books.run(query, args)
        except BaseException:
            self.books.rollback(mark)
            raise
        if not self.depth:
            self.books.undo.clear()
        return found

    async def fetch(self, query: str, *args: object) -> Sequence[Row]:
        found: Sequence[Row] = self._run(query, args)
        return found

    async def fetchrow(self, query: str, *args: object) -> Row | None:
        row: Row | None = self._run(query, args)
        return row

    async def execute(self, query: str, *args: object) -> str:
        self._run(query, args)
        return "OK"

    @asynccontextmanager
    async def transaction(self) -> Any:
        self.depth += 1
        try:
            yield self
        except BaseException:
            self.books.rollback()
            raise
        finally:
            self.depth -= 1

    async def close(self, *, timeout: float | None = None) -> None:
        """Nothing is open."""

    def is_closed(self) -> bool:
        return False


class Twins:
    """Five workers on both databases, a log a topic between them, and billing's lives to feed them."""

    def __init__(self, connections: dict[str, Any], owner: Any, chance: Random) -> None:
        self.real: dict[str, Connection] = {name: Pinned(each) for name, each in connections.items()}
        self.owner, self.chance = owner, chance
        self.clock = BEGINS
        self.books = {package: Books(self.now) for package in OWN}
        for package, own in OWN.items():
            own(self.books[package])
        self.memory: dict[str, Connection] = {package: InMemory(books) for package, books in self.books.items()}
        self.limits = {package: Limit(share_max=1, in_a_row_max=1_000) for package in OWN}
        self.logs: dict[str, list[Record]] = {}
        self.read: dict[tuple[str, str], int] = {}
        self.last: dict[str, Batch] = {}
        self.billing = Billing(self._world())

    def _world(self) -> Any:
        """Return what billing needs of a world."""
        return SimpleNamespace(
            chance=self.chance,
            now=self.now,
            jump=self.pass_time,
            another_partitioner=False,
            situations=_Counts(),
            loop=self,
            broker=SimpleNamespace(partitions=1, append=self.append),
            database=SimpleNamespace(services=self.books),
        )

    @property
    def seconds(self) -> float:
        return (self.clock - BEGINS).total_seconds()

    def now(self) -> datetime:
        return self.clock

    def pass_time(self, by: timedelta) -> None:
        self.clock += by

    def append(self, topic: str, partition: int, key: Any, value: Any, headers: Any) -> None:
        log = self.logs.setdefault(topic, [])
        stamp = int(self.clock.timestamp() * 1000)
        log.append(Record(topic, partition, len(log), stamp, key, value, headers))

    async def begin(self) -> None:
        """Empty the real database and begin every topic at its first offset, in both."""
        await self.owner.execute("SET session_replication_role = replica")
        packages = list(OWN)
        statements = [row[0] for row in await self.owner.fetch(EMPTY, packages)]
        await self.owner.execute("; ".join(statements))
        for worker in WORKERS:
            for connection in (self.real[worker.package], self.memory[worker.package]):
                await positions(connection, {(topic, 0): 0 for topic in worker.topics})

    async def turn(self, worker: AnyWorker, most: int) -> None:
        """Let a worker take at most ``most`` records of what it has not read, on both."""
        records = {}
        for topic in worker.topics:
            at = self.read.get((worker.name, topic), 0)
            taken = self.logs.get(topic, [])[at : at + most]
            if taken:
                records[TopicPartition(topic, 0)] = taken
                self.read[worker.name, topic] = at + len(taken)
                most -= len(taken)
        if records:
            self.last[worker.package] = to_batch(worker, records)
            self.last[worker.package].taken = 0.0
            await self.apply(worker, self.last[worker.package])

    async def fire(self, worker: AnyWorker) -> None:
        """Fire what is due."""
        await self.apply(worker, Batch(taken=0.0, fires_timers_of=(0,)))

    async def again(self, worker: AnyWorker) -> None:
        """Handle again what may be."""
        await self.apply(worker, Batch(taken=0.0, again_of=(0,)))

    async def repeat(self, worker: AnyWorker) -> None:
        """Apply the last batch once more, as a zombie would: both refuse it."""
        if worker.package in self.last:
            for connection in (self.real[worker.package], self.memory[worker.package]):
                try:
                    await self._process(connection, worker, self.last[worker.package])
                except Refused:
                    continue
                raise AssertionError(f"{worker.name} took the same offsets twice on {type(connection).__name__}")

    async def apply(self, worker: AnyWorker, batch: Batch) -> None:
        """Run one batch on both databases: what it leads to is the same, and is published."""
        await self.pin()
        one = await self._process(self.real[worker.package], worker, batch)
        two = await self._process(self.memory[worker.package], worker, batch)
        assert (one.outgoing, one.counts, one.publication_id) == (two.outgoing, two.counts, two.publication_id)
        assert (one.timer_in, one.work) == (two.timer_in, two.work)
        self.limits[worker.package] = one.limit
        for event in one.outgoing:
            self.append(event.topic, 0, event.account_id.encode(), event.payload, event.headers())

    async def _process(self, connection: Connection, worker: AnyWorker, batch: Batch) -> Committed:
        limit = self.limits[worker.package]
        return await process(connection, worker, policy_of(worker), batch, limit=limit, acknowledged=())

    async def pin(self) -> None:
        """Tell every real session what time it is."""
        for connection in self.real.values():
            await connection.fetchrow("SELECT set_config('otb.now', $1, false)", self.clock.isoformat())

    async def compare(self) -> None:
        """Assert that every table is the same, row by row."""
        for package, books in self.books.items():
            for name, table in books.tables.items():
                columns = ", ".join(f'"{column}"' for column in table.columns)
                real = await self.owner.fetch(f"SELECT {columns} FROM {package}.{name}")  # noqa: S608  # our own names
                kinds = {row["attname"]: row["kind"] for row in await self.owner.fetch(TYPES, f"{package}.{name}")}
                found = {table.key_of(row): row for row in (_plain(tuple(row), table.columns, kinds) for row in real)}
                assert found == {key: _listed(row) for key, row in table.rows.items()}, f"{package}.{name}"


# Which columns hold JSON.
TYPES = "SELECT attname, atttypid::regtype::text AS kind FROM pg_attribute WHERE attrelid = $1::text::regclass"


def _plain(row: tuple[Any, ...], columns: Sequence[str], kinds: dict[str, str]) -> tuple[Any, ...]:
    """Return a row of asyncpg's as the simulated table has it."""
    made = [json.loads(v) if kinds[c] == "jsonb" and v is not None else v for c, v in zip(columns, row, strict=True)]
    return _listed(tuple(UUID(bytes=v.bytes) if isinstance(v, UUID) else v for v in made))


def _listed(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(list(value) if isinstance(value, tuple) else value for value in row)


class _Counts(dict[str, int]):
    def __missing__(self, key: str) -> int:
        return 0


async def pinned(owner: asyncpg.Connection) -> None:
    """Let a database fill its columns from the pinned clock."""
    for row in await owner.fetch(CLOCKED):
        await owner.execute(row[0])
