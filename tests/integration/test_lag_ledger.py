"""The observer at its books: the same ledger at any cut, twice is once, and what another process wrote is respected."""

import random
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from schemas.event import Event
from schemas.reasons import CAUSES
from services.cli.journey import NOTIFIED, ledger_of
from services.cli.servers import connected
from services.lag_monitor.store import STORE
from services.lag_monitor.worker import WORKER
from services.runtime.settings import Settings
from tests import builders
from tests.integration.conftest import MakeFeed
from tests.integration.support import Feed, load, owner, role, save
from tests.unit.given import rid
from tests.unit.test_lag_ledger import EVERYTHING, OF_EVERY_CAUSE, PAUSED, observed

# What the ledger says, without what differs from run to run: who wrote it, in what order, when it was reported.
LEDGER = {
    "journeys": "SELECT repayment_id, account_id, source, rail, amount_minor, currency, repaid_at, reported, received, "
    "received_at, settled_at, assessed_at, tier, unplaced, outcome, reason, stage, cause, due_at "
    "FROM journey ORDER BY repayment_id",
    "parts": "SELECT * FROM part ORDER BY repayment_id, number",
    "segments": "SELECT * FROM lag_segment ORDER BY repayment_id, tranche, n",
    "told": "SELECT * FROM notify_segment ORDER BY repayment_id, tranche, n",
    "facts": "SELECT repayment_id, tranche, lag_ms, unattributed_ms, amount_minor, currency, tier, cause, repaid_at, "
    "restored_at FROM restoration_fact ORDER BY repayment_id, tranche",
}


async def ledger(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    async with owner(settings) as connection:
        await connection.execute("SET search_path = lag_monitor")
        return {what: [dict(row) for row in await connection.fetch(query)] for what, query in LEDGER.items()}


def cut(events: Sequence[Event], dice: random.Random) -> list[list[Event]]:
    """Return ``events`` in batches of any size."""
    batches: list[list[Event]] = [[]]
    for event in events:
        if dice.random() < 0.4:
            batches.append([])
        batches[-1].append(event)
    return [batch for batch in batches if batch]


async def test_the_books_are_what_the_domain_says_at_any_cut(feed_of: MakeFeed, settings: Settings, seed: int) -> None:
    feed = await feed_of(WORKER)
    for batch in cut(EVERYTHING, random.Random(seed)):  # noqa: S311  # a cut, not a secret
        await feed.deliver(*batch)
    found = await ledger(settings)
    told = observed(EVERYTHING)
    assert {row["repayment_id"]: row["outcome"] for row in found["journeys"]} == {
        at: journey.outcome for at, journey in told.items()
    }
    kept = {(row["repayment_id"], row["tranche"]): (row["lag_ms"], row["cause"], row["tier"]) for row in found["facts"]}
    assert kept == {
        (at, fact.restored.tranche): (fact.lag.milliseconds, fact.lag.cause, fact.tier)
        for at, journey in told.items()
        for fact in journey.facts
    }
    told_apart = [(row["repayment_id"], row["tranche"], row["cause"], row["ms"]) for row in found["told"]]
    assert sorted(told_apart) == sorted(
        (at, each.tranche, segment.cause, segment.milliseconds)
        for at, journey in told.items()
        for each in journey.told
        for segment in each.segments
    )
    assert told_apart
    split = [(row["repayment_id"], row["tranche"], row["stage"], row["cause"], row["ms"]) for row in found["segments"]]
    assert sorted(split) == sorted(
        (at, fact.restored.tranche, segment.stage, segment.cause, segment.milliseconds)
        for at, journey in told.items()
        for fact in journey.facts
        for segment in fact.lag.segments
    )


async def test_redelivered_records_and_topics_produced_again_change_nothing(
    feed_of: MakeFeed, settings: Settings
) -> None:
    feed = await feed_of(WORKER)
    await feed.deliver(*EVERYTHING)
    once = await ledger(settings)
    again = await feed.deliver(*EVERYTHING)
    assert again.counts["duplicate"] == len(EVERYTHING)
    assert await ledger(settings) == once


async def test_a_batch_rolled_back_and_taken_again_is_applied_once(feed_of: MakeFeed, settings: Settings) -> None:
    feed = await feed_of(WORKER)
    batch = feed.batch(*EVERYTHING)
    undone: Any = feed.connection.transaction()
    await undone.start()
    await feed.apply(batch)
    await undone.rollback()
    assert (await ledger(settings))["facts"] == []
    await feed.apply(batch)
    restored = sum(len(journey.facts) for journey in observed(EVERYTHING).values())
    assert len((await ledger(settings))["facts"]) == restored


async def test_a_journey_another_process_wrote_meanwhile_is_read_again(settings: Settings) -> None:
    event = builders.repayment_received()
    async with role(settings, "lag_monitor") as connection:
        await Feed(WORKER, settings, connection).start()
        before = (await load(STORE, connection, [event]))[builders.REPAYMENT]
        after = observed([event])[builders.REPAYMENT]
        await save(STORE, connection, [(before, after)])
        with pytest.raises(asyncpg.SerializationError):
            await save(STORE, connection, [(before, after)])
        kept = (await load(STORE, connection, [event]))[builders.REPAYMENT]
    assert kept.received == after.received
    assert kept.version == 1


async def test_a_pause_that_was_recorded_is_where_the_time_went(feed_of: MakeFeed, settings: Settings) -> None:
    trail = builders.trail(through="release")
    feed = await feed_of(WORKER)
    async with owner(settings) as connection:
        await connection.execute(
            "INSERT INTO lag_monitor.operator_pause VALUES ('settlement', 'settlement', $1, $2, 'a', 'r', 'a')",
            trail[2][2],
            trail[4][2],
        )
    await feed.deliver(builders.repayment_received(), builders.risk_assessed(), builders.credit_restored())
    found = [row for row in (await ledger(settings))["segments"] if row["stage"] == "settlement"]
    assert [(row["cause"], row["ms"]) for row in found] == [
        ("system_delay.operator_pause", 12),
        ("system_delay.operator_pause", 9),
    ]


async def test_every_cause_there_is_stands_in_the_ledger(feed_of: MakeFeed, settings: Settings) -> None:
    feed = await feed_of(WORKER)
    async with owner(settings) as connection:
        await connection.execute(
            "INSERT INTO lag_monitor.operator_pause VALUES ($1, $1, $2, $3, 'a', 'r', 'a')",
            *(PAUSED.stage, PAUSED.from_at, PAUSED.to_at),
        )
    for batch in cut(OF_EVERY_CAUSE, random.Random(1)):  # noqa: S311  # a cut, not a secret
        await feed.deliver(*batch)
    found = await ledger(settings)
    assert {row["cause"] for what in ("segments", "told") for row in found[what]} == set(CAUSES)
    assert {row["unattributed_ms"] for row in found["facts"]} == {0}
    async with connected(settings) as connection:
        (told,) = await ledger_of(connection, NOTIFIED, rid("prompt"))
    assert [stretch.cause for stretch in told.stretches][-1] == "external.channel_wait"
    assert told.tiles


async def test_facts_and_segments_are_never_changed(feed_of: MakeFeed, settings: Settings) -> None:
    feed = await feed_of(WORKER)
    await feed.deliver(*EVERYTHING)
    for statement in ("UPDATE lag_segment SET cause = ''", "DELETE FROM restoration_fact", "DELETE FROM lag_segment"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await feed.connection.execute(statement)
        async with owner(settings) as connection:
            await connection.execute(f"SET search_path TO {WORKER.package}")
            with pytest.raises(asyncpg.RestrictViolationError):
                await connection.execute(statement)
