"""Counters and deadlines of the lag ledger: equal to the facts by SQL, whatever dies, and each promise decided once."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest

from services.lag_monitor import projector, sweeper
from services.lag_monitor.exporter import Ledger
from services.lag_monitor.watch import Leader
from services.lag_monitor.worker import WORKER
from services.metrics.catalogue import BY_NAME, RESTORATION_LAG, SECONDS, SLA_OUTCOMES, STAGE_DURATION
from services.runtime.clock import monotonic, utc_now
from services.runtime.postgres import Connection
from services.runtime.publisher import partition_of
from services.runtime.settings import Settings
from tests import builders
from tests.conftest import dsn_of
from tests.integration.conftest import MakeFeed
from tests.integration.kafka import ends, send
from tests.integration.support import owner, role
from tests.unit.test_lag_ledger import EVERYTHING, observed

# Facts counted by SQL alone, bucket by bucket: how many are at most each edge, and not at most the one before.
BY_SQL = """
SELECT ARRAY[tier, split_part(cause, '.', 2)] AS labels, count(*) AS n, sum(lag_ms) AS sum_ms,
  (SELECT count(*) FROM unnest($1::double precision[]) AS edge WHERE edge * 1000 < lag_ms) AS bucket
FROM lag_monitor.restoration_fact GROUP BY 1, 4
"""
HISTOGRAM = "SELECT labels, n, sum_ms, bucket FROM lag_monitor.metric_hist WHERE metric = $1"
COUNTS = "SELECT labels, n FROM lag_monitor.metric_count WHERE metric = $1"
# One restored tranche; $2 milliseconds after it was repaid.
RESTORE = """
INSERT INTO lag_monitor.restoration_fact (repayment_id, tranche, account_id, lag_ms, unattributed_ms, amount_minor,
  currency, tier, rail, cause, repaid_at, restored_at)
SELECT $1, 1, 'a', $2::bigint, 0, 100, 'CNY', 'low', 'wallet', 'system_delay.processing', at,
  at + $2::bigint * interval '1 millisecond'
FROM (SELECT timestamptz '2026-01-01Z' AS at) AS t ON CONFLICT DO NOTHING
"""
KILLS = 5
PROJECTING = """
import asyncio, sys, asyncpg
from services.lag_monitor.projector import project
async def main():
    connection = await asyncpg.connect(sys.argv[1])
    print("ready", flush=True)
    while True:
        await project(connection, facts_max=50)
asyncio.run(main())
"""


def rows(found: Any) -> dict[tuple[Any, ...], tuple[int, int]]:
    return {(*row["labels"], row["bucket"]): (row["n"], row["sum_ms"]) for row in found}


async def counts(settings: Settings, metric: str) -> Mapping[tuple[str, ...], int]:
    async with owner(settings) as connection:
        return {tuple(row["labels"]): int(row["n"]) for row in await connection.fetch(COUNTS, metric)}


async def check_equal(settings: Settings) -> int:
    """Assert that every bucket is what SQL counts; return how many facts there are."""
    async with owner(settings) as connection:
        kept = rows(await connection.fetch(HISTOGRAM, RESTORATION_LAG.name))
        assert kept == rows(await connection.fetch(BY_SQL, list(SECONDS)))
    return sum(n for n, _ in kept.values())


async def projected(connection: Connection, **how: int) -> int:
    """Project until nothing is left; a database that is being made for the next test holds the horizon for a while."""
    taken, deadline = 0, monotonic() + 30
    while await projector.delay_seconds(connection):
        taken += await projector.project_all(connection, **how)
        assert monotonic() < deadline
    return taken


async def test_every_bucket_and_counter_is_what_the_facts_come_to(feed_of: MakeFeed, settings: Settings) -> None:
    feed = await feed_of(WORKER)
    await feed.deliver(*EVERYTHING)
    await projected(feed.connection, facts_max=2)
    facts = [fact for journey in observed(EVERYTHING).values() for fact in journey.facts]
    assert await check_equal(settings) == len(facts)
    attributed = await counts(settings, "credit_restoration_attributed_seconds_total")
    assert sum(attributed.values()) == sum(fact.lag.milliseconds for fact in facts)
    withheld = await counts(settings, "credit_withheld_minor_seconds_total")
    assert sum(withheld.values()) == sum(f.lag.milliseconds * f.restored.amount_minor for f in facts)
    assert await counts(settings, "credit_unattributed_ms_total") == {(): 0}
    told = [tally for journey in observed(EVERYTHING).values() for tally in journey.tallies]
    for metric in {tally.metric for tally in told if tally.ms is None}:
        expected = [tally.labels for tally in told if tally.metric == metric]
        assert await counts(settings, metric) == {labels: expected.count(labels) for labels in set(expected)}


async def test_every_counted_label_set_is_of_the_catalogue(feed_of: MakeFeed) -> None:
    feed = await feed_of(WORKER)
    await feed.deliver(*EVERYTHING)
    await projected(feed.connection)
    known = {"currency": ("CNY",), "source": (builders.SOURCE,)}
    for table in ("metric_count", "metric_hist"):
        for row in await feed.connection.fetch(f"SELECT DISTINCT metric, labels FROM {table}"):  # noqa: S608
            assert tuple(row["labels"]) in BY_NAME[row["metric"]].label_sets(known), row


async def test_a_stage_s_time_is_one_duration_a_part_and_phase(feed_of: MakeFeed) -> None:
    feed = await feed_of(WORKER)
    events = [builders.repayment_received(), builders.risk_assessed(), builders.credit_restored()]
    await feed.deliver(*events)
    await projected(feed.connection)
    found = {
        tuple(row["labels"]): (row["n"], row["sum_ms"])
        for row in await feed.connection.fetch(HISTOGRAM, STAGE_DURATION.name)
    }
    assert found["release", "queue"] == (1, 14)
    assert found["release", "process"] == (1, 21)
    assert found["report", "wait"] == (1, 1_200)


@pytest.mark.parametrize(("ms", "bucket"), [(0, 0), (1, 0), (2, 1), (3, 2), (5, 2), (6, 3), (60_000, 14), (60_001, 15)])
async def test_an_edge_belongs_to_its_bucket(settings: Settings, ms: int, bucket: int) -> None:
    async with role(settings, "lag_monitor") as connection:
        await connection.execute(RESTORE, "r", ms)
        assert await projected(connection) == 1
        (row,) = await connection.fetch(HISTOGRAM, RESTORATION_LAG.name)
    assert row["bucket"] == bucket
    assert (SECONDS[bucket - 1] * 1000 if bucket else -1) < ms <= SECONDS[bucket] * 1000


async def test_a_fact_that_commits_late_is_not_jumped_over(settings: Settings) -> None:
    async with role(settings, "lag_monitor") as slow, role(settings, "lag_monitor") as quick:
        transaction: Any = slow.transaction()
        await transaction.start()
        await slow.execute(RESTORE, "late", 5)
        await quick.execute(RESTORE, "early", 7)
        assert await projector.project_all(quick) == 0, "what is above the horizon waits"
        assert await projector.delay_seconds(quick) > 0
        await transaction.commit()
        assert await projected(quick) == 2
        assert await projector.delay_seconds(quick) == 0
    assert await check_equal(settings) == 2


async def test_two_projectors_at_once_count_everything_once(settings: Settings) -> None:
    async with role(settings, "lag_monitor") as one, role(settings, "lag_monitor") as two:
        for n in range(200):
            await one.execute(RESTORE, f"r{n}", n)
        taken = await asyncio.gather(*(projected(each, facts_max=10) for each in (one, two)))
    assert sum(taken) == 200
    assert await check_equal(settings) == 200


async def test_a_killed_projector_leaves_all_of_a_turn_or_nothing(settings: Settings) -> None:
    """Facts come with duplicates and rollbacks while the projector is killed again and again."""
    writing = asyncio.create_task(_written(settings))
    kills = 0
    while not writing.done() or kills < KILLS:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROJECTING, dsn_of(settings), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        await asyncio.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
        kills += 1
    written = await writing
    async with role(settings, "lag_monitor") as connection:
        await projected(connection)
    assert await check_equal(settings) == written


async def _written(settings: Settings) -> int:
    """Write facts in transactions of ten, each third undone, each fact twice; return how many stay."""
    kept: set[str] = set()
    async with role(settings, "lag_monitor") as connection:
        for n in range(150):
            transaction: Any = connection.transaction()
            await transaction.start()
            names = [f"r{n}-{i}" for i in range(10)]
            for name in (*names, *names):
                await connection.execute(RESTORE, name, n * 7)
            if n % 3:
                await transaction.commit()
                kept.update(names)
            else:
                await transaction.rollback()
            await asyncio.sleep(0.01)
    return len(kept)


def soon(**passed: float) -> datetime:
    return utc_now().replace(microsecond=0) - timedelta(**passed)


async def test_a_deadline_that_passes_is_breached_once_and_a_late_restore_changes_nothing(
    feed_of: MakeFeed, settings: Settings
) -> None:
    feed = await feed_of(WORKER)
    await feed.deliver(builders.repayment_settled(settled_at=soon(seconds=61)))
    now = utc_now()
    assert await sweeper.sweep(feed.connection, now) == 1
    assert await sweeper.sweep(feed.connection, now) == 0
    await feed.deliver(builders.risk_assessed(), builders.credit_restored(occurred_at=now))
    await projected(feed.connection)
    found = await counts(settings, SLA_OUTCOMES.name)
    assert found["decided_60s", "breached"] == 1
    assert ("decided_60s", "met") not in found
    assert await feed.value("SELECT over_at IS NOT NULL FROM sla_promise WHERE slo = 'decided_60s'")


async def test_what_was_in_time_is_met_though_heard_after_its_deadline(feed_of: MakeFeed, settings: Settings) -> None:
    feed = await feed_of(WORKER)
    settled_at = soon(hours=1)
    at = settled_at + timedelta(seconds=59)
    await feed.deliver(builders.repayment_settled(settled_at=settled_at))
    await feed.deliver(builders.hold_placed(occurred_at=at))
    await sweeper.sweep(feed.connection, utc_now())
    await projected(feed.connection)
    assert (await counts(settings, SLA_OUTCOMES.name))["decided_60s", "met"] == 1


async def test_a_deadline_is_not_due_before_what_was_committed_is_told(feed_of: MakeFeed, settings: Settings) -> None:
    feed = await feed_of(WORKER)
    async with owner(settings) as connection:
        await connection.execute(
            "INSERT INTO limit_release.publication (partitions, created_at) VALUES ('{0}', $1)", soon(seconds=20)
        )
        until = await sweeper.told_until(feed.connection)
        assert utc_now() - until > timedelta(seconds=19)
        await connection.execute("UPDATE limit_release.publication SET published_at = clock_timestamp()")
        assert utc_now() - await sweeper.told_until(feed.connection) < timedelta(seconds=19)
        await connection.execute(
            "INSERT INTO console.publication (partitions, created_at) VALUES ('{0}', $1)", soon(seconds=20)
        )
        assert utc_now() - await sweeper.told_until(feed.connection) < timedelta(seconds=19), "it keeps no promise"
        await connection.execute("UPDATE console.publication SET published_at = clock_timestamp()")


async def test_a_batch_that_read_a_promise_before_it_was_swept_decides_again(
    feed_of: MakeFeed, settings: Settings
) -> None:
    feed = await feed_of(WORKER)
    await feed.deliver(builders.repayment_settled(settled_at=soon(seconds=61)))
    version = await feed.value("SELECT version FROM journey")
    await sweeper.sweep(feed.connection, utc_now())
    assert await feed.value("SELECT version FROM journey") == version + 1


async def test_a_decided_promise_is_never_changed(feed_of: MakeFeed) -> None:
    feed = await feed_of(WORKER)
    await feed.deliver(builders.repayment_settled(settled_at=soon(seconds=61)))
    await sweeper.sweep(feed.connection, utc_now())
    for change in ("outcome = 'met'", "deadline_at = deadline_at + interval '1 second'"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await feed.connection.execute(f"UPDATE sla_promise SET {change}")  # noqa: S608


async def test_under_steady_traffic_a_deadline_is_breached_once_all_told_before_it_was_heard(
    feed_of: MakeFeed, empty_kafka: Settings
) -> None:
    """What is read by the second is never at the ends of the topics, only past those of a moment ago."""
    feed = await feed_of(WORKER)
    earlier, later = (builders.repayment_reported(external_ref=ref) for ref in ("earlier", "later"))
    feed.partition = partition_of(earlier.account_id, empty_kafka.partitions)
    for (topic, partition), end in (await ends(empty_kafka, WORKER.topics)).items():
        moved = "UPDATE progress SET first_offset = $3, next_offset = $3 WHERE topic = $1 AND partition = $2"
        await feed.connection.execute(moved, topic, partition, end)
        feed.next[topic] = end if partition == feed.partition else feed.next[topic]
    await feed.deliver(builders.repayment_settled(settled_at=soon(seconds=90)))
    breached = "SELECT count(*) FROM sla_promise WHERE outcome = 'breached'"
    leader = Leader(empty_kafka, feed.connection, Ledger())
    await leader.start()
    try:
        await send(empty_kafka, earlier)
        await leader.sweep()
        assert await feed.value(breached) == 0, "it may tell that the promise was kept"
        await send(empty_kafka, later)
        await feed.deliver(earlier)
        await leader.sweep()
        assert await feed.value(breached) == 1
    finally:
        await leader.close()
