"""Rows are written as values of their table's type: what a worker meets when a newer build's migration widened it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from services.repayment_ingest.worker import WORKER as INGEST
from services.runtime.postgres import TRANSIENT, one
from services.runtime.settings import Settings
from tests import builders
from tests.integration.support import Feed, owner, role, violations

BOOKS = """
SELECT (SELECT coalesce(sum(next_offset), 0) FROM progress), (SELECT count(*) FROM inbox),
 (SELECT count(*) FROM outbox),
 (SELECT count(*) FROM reference), (SELECT count(*) FROM set_aside)
"""
WIDEN = "ALTER TABLE repayment_ingest.{table} ADD COLUMN newer text"
NARROW = "ALTER TABLE repayment_ingest.{table} DROP COLUMN newer"


@asynccontextmanager
async def ingest(settings: Settings) -> AsyncIterator[Feed]:
    """Return a worker at its books, on a connection of its own."""
    async with role(settings, "repayment_ingest") as connection:
        yield await Feed(INGEST, settings, connection).start()


async def books(settings: Settings) -> tuple[object, ...]:
    async with role(settings, "repayment_ingest") as connection:
        return tuple((await one(connection, BOOKS)).values())


@pytest.mark.parametrize("table", ["inbox", "outbox", "progress", "reference"])
@pytest.mark.parametrize("connected", ["before", "after"])
async def test_an_older_worker_stops_at_a_wider_table_and_writes_nothing(
    settings: Settings, table: str, connected: str
) -> None:
    """So workers stop before a migration and start after it: meanwhile nothing moves, and nothing is lost."""
    async with ingest(settings) as at_work, ingest(settings) as starting, owner(settings) as changing:
        await at_work.deliver(builders.repayment_reported())
        before = await books(settings)
        second = at_work.batch(builders.repayment_reported(external_ref="second", event_id="2" * 32))
        await changing.execute(WIDEN.format(table=table))
        with pytest.raises((ValueError, asyncpg.PostgresError, asyncpg.InterfaceError)) as stopped:
            await (at_work if connected == "before" else starting).apply(second)
        assert not isinstance(stopped.value, TRANSIENT), "it ends the worker: this does not pass by waiting"
        assert await books(settings) == before
        await changing.execute(NARROW.format(table=table))
    async with ingest(settings) as again:
        assert (await again.apply(second)).counts["applied"] == 1
    assert await violations(settings) == {}
