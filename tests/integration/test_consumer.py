"""The money loop against a real Kafka and a real PostgreSQL: rebalances, outages, lost answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas.event import Event
from schemas.topics import BILLING_REPAYMENT, INTAKE, NOTIFICATION
from services.cli.republish import _republish
from services.notifier.worker import WORKER as NOTIFIER
from services.repayment_ingest.worker import WORKER as INGEST
from services.runtime import batch, inbox
from services.runtime import consumer as consumers
from services.runtime.batch import Committed
from services.runtime.clock import monotonic, utc_now
from services.runtime.consumer import BatchConsumer
from services.runtime.errors import InvariantBroken
from services.runtime.publisher import partition_of
from services.runtime.settings import Settings
from services.runtime.worker import AnyWorker
from services.settlement.worker import WORKER as SETTLE
from tests import builders
from tests.integration.kafka import Seen, ends, records, send
from tests.integration.proxy import behind_proxy
from tests.integration.support import Feed, Raw, owner, role, violations, written

SECONDS = 20.0


@asynccontextmanager
async def running(worker: AnyWorker, settings: Settings) -> AsyncIterator[BatchConsumer]:
    """Run the loop of a worker in this process."""
    loop = BatchConsumer(worker, settings)
    await loop.start()
    try:
        yield loop
    finally:
        await loop.stop()


async def until(met: Callable[[], Awaitable[Any]], seconds: float = SECONDS) -> Any:
    """Wait until ``met`` returns something, and return it."""
    deadline = monotonic() + seconds
    while not (found := await met()):
        assert monotonic() < deadline, "not in time"
        await asyncio.sleep(0.05)
    return found


def reports(count: int, first: int = 0, accounts: int = 40) -> list[Event]:
    now = utc_now()
    return [
        builders.repayment_reported(account_id=f"account-{n % accounts}", external_ref=f"ref-{n}", repaid_at=now)
        for n in range(first, first + count)
    ]


async def booked(settings: Settings) -> int:
    async with owner(settings) as connection:
        return int(await connection.fetchval("SELECT count(*) FROM repayment_ingest.reference"))


async def received(settings: Settings, count: int) -> list[Seen]:
    """Wait until so many different events are on repayment.intake.v1; return all records."""

    async def enough() -> list[Seen]:
        seen = await records(settings, INTAKE.name)
        return seen if len({record.headers["ce_id"] for record in seen}) >= count else []

    found: list[Seen] = await until(enough)
    return found


async def assigned(*loops: BatchConsumer) -> None:
    async def all_of_them() -> bool:
        return all(loop.assigned for loop in loops)

    await until(all_of_them)


async def crash_of(loop: BatchConsumer) -> None:
    """Wait until the loop stopped because its books or its topics are wrong."""

    async def crashed() -> bool:
        return loop.crashed

    await until(crashed)
    assert isinstance(loop.crash_reason, InvariantBroken)


async def test_a_rebalance_between_two_processes_loses_and_doubles_nothing(empty_kafka: Settings) -> None:
    async with running(INGEST, empty_kafka) as first:
        await assigned(first)
        await send(empty_kafka, *reports(300))
        async with running(INGEST, empty_kafka) as second:
            sending = asyncio.create_task(send(empty_kafka, *reports(300, first=300)))
            await assigned(first, second)
            await sending
            assert {*first.partitions, *second.partitions} == {0, 1, 2}
            assert not set(first.partitions) & set(second.partitions)
            await send(empty_kafka, *reports(300, first=600))
        await send(empty_kafka, *reports(300, first=900))
        seen = await received(empty_kafka, 1_200)
    assert await booked(empty_kafka) == 1_200
    assert len({record.headers["ce_id"] for record in seen}) == 1_200
    assert await violations(empty_kafka) == {}


@pytest.mark.parametrize("left", [0, 5])
async def test_a_log_that_ends_below_the_books_stops_the_worker(empty_kafka: Settings, left: int) -> None:
    await send(empty_kafka, *reports(left, accounts=1))
    async with role(empty_kafka, "repayment_ingest") as connection:
        feed = await Feed(INGEST, empty_kafka, connection).start()
        await connection.execute("UPDATE progress SET first_offset = 0, next_offset = 1000000, gaps = 1000000")
        assert feed.next
    async with running(INGEST, empty_kafka) as loop:
        await crash_of(loop)
    assert await booked(empty_kafka) == 0


async def test_who_starts_while_its_books_are_moved_reads_from_where_they_are_now(
    empty_kafka: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`otb republish` and billing come between what a worker reads of its books and where Kafka says it ends."""
    told, done = reports(6, accounts=1), asyncio.Event()
    at = TopicPartition(BILLING_REPAYMENT.name, partition_of("account-0", empty_kafka.partitions))
    begins = await ends(empty_kafka, [at.topic])
    read = begins[at] + len(told)
    await send(empty_kafka, *told[:-1])
    async with role(empty_kafka, "repayment_ingest") as connection:
        await inbox.positions(connection, begins)
        feed = Feed(INGEST, empty_kafka, connection, at.partition)
        feed.next[at.topic] = begins[at]
        await feed.deliver(*told)
    async with AIOKafkaConsumer(**empty_kafka.kafka(), group_id=INGEST.name) as group:
        group.assign([at])
        await group.commit({at: read - 1})

    async def meanwhile(self: AIOKafkaConsumer, asked: Any) -> Any:
        if not done.is_set():
            done.set()
            strays, *_ = await _republish(empty_kafka, utc_now(), ("operator_1", "disk_lost"), restored=False)
            assert [(stray.read_to, stray.goes_to) for stray in strays] == [(read, read - 1)]
            await send(empty_kafka, told[-1])
        return await real(self, asked)

    async def duplicates() -> Any:
        async with owner(empty_kafka) as connection:
            return await connection.fetchval("SELECT sum(duplicates) FROM repayment_ingest.progress")

    real = AIOKafkaConsumer.end_offsets
    monkeypatch.setattr(AIOKafkaConsumer, "end_offsets", meanwhile)
    async with running(INGEST, empty_kafka):
        assert await until(duplicates) == 1
    assert await booked(empty_kafka) == 6
    assert await violations(empty_kafka) == {}


async def test_a_database_away_for_three_seconds_loses_nothing_and_is_told_in_the_trail(empty_kafka: Settings) -> None:
    async with behind_proxy(empty_kafka) as (settings, proxy), running(INGEST, settings) as loop:
        await assigned(loop)
        await send(settings, *reports(50))
        await received(settings, 50)
        await proxy.cut()
        await send(settings, *reports(50, first=50))
        await asyncio.sleep(3)
        await proxy.mend()
        seen = await received(settings, 100)
    assert await booked(empty_kafka) == 100
    late = [record.event for record in seen if int(record.event["external_ref"].removeprefix("ref-")) >= 50]
    assert len(late) == 50
    for event in late:
        waits = [cause for stage, cause, _ in event["trail"] if stage == "ingest"]
        assert "system_delay.dependency_down" in waits
        assert waits.index("system_delay.dependency_down") < waits.index("system_delay.processing")
    assert await violations(empty_kafka) == {}


async def test_events_of_a_commit_whose_answer_was_lost_are_published_before_newer_ones(
    empty_kafka: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[int] = []

    async def process(*args: Any, **kwargs: Any) -> Committed:
        committed: Committed = await real(*args, **kwargs)
        if committed.outgoing and not lost:
            lost.append(1)
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        return committed

    real = batch.process
    async with running(INGEST, empty_kafka) as loop:
        await assigned(loop)
        monkeypatch.setattr(consumers, "process", process)
        for n in range(5):
            await send(empty_kafka, *reports(1, first=n, accounts=1))
            await asyncio.sleep(0.3)
        seen = await received(empty_kafka, 5)
    assert lost
    order = [record.event["external_ref"] for record in seen if record.event["account_id"] == "account-0"]
    assert list(dict.fromkeys(order)) == [f"ref-{n}" for n in range(5)]


async def test_reports_that_come_one_by_one_gather(empty_kafka: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    async def process(*args: Any, **kwargs: Any) -> Committed:
        if args[3].moves:
            sizes.append(len(args[3].arrived))
        committed: Committed = await real(*args, **kwargs)
        return committed

    real = batch.process
    monkeypatch.setattr(consumers, "process", process)
    worker = replace(INGEST, gathers_seconds=0.2)
    producer = AIOKafkaProducer(bootstrap_servers=empty_kafka.kafka_bootstrap_servers)
    async with running(worker, empty_kafka) as loop, producer:
        await assigned(loop)
        began = monotonic()
        for event in reports(100):
            raw = written(event)
            await producer.send_and_wait(raw.topic, value=raw.value, key=raw.key, headers=list(raw.headers))
            await asyncio.sleep(0.005)
        await received(empty_kafka, 100)
        took = monotonic() - began
    assert sum(sizes) == 100
    assert len(sizes) <= consumers.AT_ONCE_MAX + 1 + took / worker.gathers_seconds
    assert await violations(empty_kafka) == {}


async def test_what_is_behind_catches_up_without_gathering(empty_kafka: Settings) -> None:
    await send(empty_kafka, *reports(1_000))
    worker = replace(INGEST, gathers_seconds=5.0, at_once=2)
    async with asyncio.timeout(100), running(worker, empty_kafka.model_copy(update={"batch_max": 10})):
        await received(empty_kafka, 1_000)
    assert await violations(empty_kafka) == {}


async def test_a_message_owed_before_the_start_is_told(empty_kafka: Settings) -> None:
    async with role(empty_kafka, "notifier") as connection:
        feed = await Feed(NOTIFIER, empty_kafka, connection, partition=2).start()
        await feed.deliver(builders.account_opened(), builders.credit_restored())
        await connection.execute("UPDATE delivery SET next_attempt_at = now()")
    async with owner(empty_kafka) as connection:
        await connection.execute("TRUNCATE notifier.progress")
    async with running(NOTIFIER, empty_kafka):

        async def told() -> bool:
            return any(seen.name == "NotificationDelivered" for seen in await records(empty_kafka, NOTIFICATION.name))

        await until(told)


async def test_an_opened_account_wakes_its_parked_events_within_the_loop(empty_kafka: Settings) -> None:
    async with running(SETTLE, empty_kafka) as loop:
        await assigned(loop)
        await send(empty_kafka, builders.repayment_received())

        async def parked() -> bool:
            async with owner(empty_kafka) as connection:
                return bool(await connection.fetchval("SELECT count(*) FROM settlement.set_aside"))

        await until(parked)
        await send(empty_kafka, builders.account_opened(), builders.purchase_posted())
        began = monotonic()

        async def settled() -> list[Seen]:
            return await records(empty_kafka, "repayment.settlement.v1")

        (seen,) = await until(settled)
        assert monotonic() - began < 3
    assert seen.name == "RepaymentSettled"
    assert [cause for stage, cause, _ in seen.event["trail"] if stage == "settlement"][-1] == "system_delay.processing"
    assert await violations(empty_kafka) == {}


async def test_offsets_without_records_between_two_batches_stop_the_worker_loudly(
    empty_kafka: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commit markers of a producer with transactions take offsets: the topics are promised to be dense."""
    monkeypatch.setattr(consumers, "REFUSALS_MAX", 3)
    producer = AIOKafkaProducer(bootstrap_servers=empty_kafka.kafka_bootstrap_servers, transactional_id="billing")
    async with running(INGEST, empty_kafka) as loop, producer:
        await assigned(loop)
        for n in range(2):
            async with producer.transaction():
                for event in reports(2, first=2 * n, accounts=1):
                    raw: Raw = written(event)
                    await producer.send(raw.topic, value=raw.value, key=raw.key, headers=list(raw.headers))
            await received(empty_kafka, 2)
        await crash_of(loop)
    assert await booked(empty_kafka) == 2
    assert await violations(empty_kafka) == {}
