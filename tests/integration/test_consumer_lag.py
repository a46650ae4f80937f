"""Lag that is read: the cases in which tools that estimate it are known to lie."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.admin.records_to_delete import RecordsToDelete

from services.cli.system import System
from services.lag_monitor.consumer_lag import Lags, PartitionLag, admin_of, gauges_of, measure, reader_of
from services.runtime.clock import monotonic
from services.runtime.publisher import producer_of
from services.runtime.settings import Settings

NUMBERS = count(1)
APPEND = {"message.timestamp.type": "LogAppendTime"}
COMPACT = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", "segment.ms": "100", **APPEND}
COMPACTED_SECONDS = 90.0


@dataclass
class Log:
    """A topic of one partition and a group that reads it."""

    settings: Settings
    topic: str
    group: str
    admin: Any
    reader: Any
    producer: Any

    @property
    def partition(self) -> TopicPartition:
        return TopicPartition(self.topic, 0)

    async def write(self, records: int, *, key: bytes = b"k") -> None:
        for n in range(records):
            await self.producer.send_and_wait(self.topic, key=key, value=b"%d" % n, partition=0)

    async def commit(self, offset: int) -> None:
        """Commit as a consumer of the group that then goes away."""
        consumer = self.consumer()
        await consumer.start()
        try:
            consumer.assign([self.partition])
            await consumer.commit({self.partition: offset})
        finally:
            await consumer.stop()

    def consumer(self) -> Any:
        return AIOKafkaConsumer(
            bootstrap_servers=self.settings.kafka_bootstrap_servers,
            group_id=self.group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=6_000,
        )

    async def lags(self) -> Lags:
        return await measure(self.admin, self.reader, {self.group: [self.partition]})

    async def lag(self) -> PartitionLag:
        (found,) = (await self.lags()).partitions
        return found


@pytest.fixture
async def clients(system: System) -> AsyncIterator[Mapping[str, Any]]:
    settings = system.settings
    admin, reader, producer = admin_of(settings), reader_of(settings), producer_of(settings, "lag-test")
    for each in (admin, reader, producer):
        await each.start()
    yield {"settings": settings, "admin": admin, "reader": reader, "producer": producer}
    await producer.stop()
    await reader.stop()
    await admin.close()


async def log_of(clients: Mapping[str, Any], config: Mapping[str, str] | None = None) -> Log:
    topic = f"lag.test.{next(NUMBERS)}"
    await clients["admin"].create_topics([NewTopic(topic, 1, 1, topic_configs=dict(config or APPEND))])
    return Log(topic=topic, group=f"{topic}-readers", **clients)


async def test_an_idle_topic_read_to_its_end_is_not_behind_however_old_it_is(clients: Mapping[str, Any]) -> None:
    log = await log_of(clients)
    await log.write(3)
    await log.commit(3)
    await asyncio.sleep(0.3)
    lag = await log.lag()
    assert (lag.messages, lag.seconds) == (0, 0.0)


async def test_seconds_are_the_age_of_the_next_record_not_of_the_last(clients: Mapping[str, Any]) -> None:
    log = await log_of(clients)
    began = monotonic()
    await log.write(1)
    await asyncio.sleep(0.5)
    await log.write(2)
    await log.commit(1)
    newer = await log.lag()
    await log.commit(0)
    older = await log.lag()
    assert (older.messages, newer.messages) == (3, 2)
    assert older.seconds is not None
    assert newer.seconds is not None
    assert older.seconds <= monotonic() - began
    assert older.seconds - newer.seconds >= 0.5


async def test_a_compacted_topic_is_behind_by_what_is_left_of_it(clients: Mapping[str, Any]) -> None:
    log = await log_of(clients, COMPACT)
    await log.write(50)
    await log.commit(5)
    assert (await log.lag()).messages == 45
    deadline = monotonic() + COMPACTED_SECONDS
    while (await log.lag()).messages > 40:
        assert monotonic() < deadline, "the broker did not compact"
        await log.write(1)  # rolls the segment, which the cleaner never touches while it is active
        await asyncio.sleep(1)
    lag = await log.lag()
    assert lag.messages >= 1
    assert lag.seconds is not None


async def test_offsets_that_hold_no_record_are_nothing_to_read(clients: Mapping[str, Any]) -> None:
    """A transaction's end takes an offset: the group that read its last record is not behind."""
    log = await log_of(clients)
    transactional = AIOKafkaProducer(
        bootstrap_servers=log.settings.kafka_bootstrap_servers, transactional_id=f"{log.topic}-writer"
    )
    await transactional.start()
    try:
        async with transactional.transaction():
            await transactional.send_and_wait(log.topic, b"one", partition=0)
    finally:
        await transactional.stop()
    assert (await log.reader.end_offsets([log.partition]))[log.partition] == 2
    await log.commit(1)
    lag = await log.lag()
    assert (lag.messages, lag.seconds) == (0, 0.0)


async def test_a_paused_consumer_falls_behind_though_it_is_alive(clients: Mapping[str, Any]) -> None:
    log = await log_of(clients)
    await log.write(2)
    consumer = log.consumer()
    await consumer.start()
    try:
        consumer.subscribe([log.topic])
        await consumer.getone()
        await consumer.commit({log.partition: 1})
        consumer.pause(log.partition)
        before = await log.lag()
        await log.write(3)
        after = await log.lag()
    finally:
        await consumer.stop()
    assert (before.messages, after.messages) == (1, 4)
    assert before.seconds is not None
    assert after.seconds is not None
    assert after.seconds > before.seconds


async def test_a_dead_group_s_lag_goes_on_growing(clients: Mapping[str, Any]) -> None:
    log = await log_of(clients)
    await log.write(1)
    await log.commit(1)
    await log.write(4)
    first = await log.lag()
    await asyncio.sleep(0.2)
    later = await log.lag()
    assert (first.messages, later.messages) == (4, 4)
    assert first.seconds is not None
    assert later.seconds is not None
    assert later.seconds > first.seconds > 0


async def test_a_rebalance_changes_nothing_of_a_lag(clients: Mapping[str, Any]) -> None:
    log = await log_of(clients)
    await log.write(3)
    await log.commit(1)
    consumers = [log.consumer(), log.consumer()]
    try:
        seen = []
        for consumer in consumers:
            await consumer.start()
            consumer.subscribe([log.topic])
            seen.append((await log.lag()).messages)
        await consumers[0].getmany(timeout_ms=500)
        seen.append((await log.lag()).messages)
    finally:
        for consumer in consumers:
            await consumer.stop()
    seen.append((await log.lag()).messages)
    assert seen == [2, 2, 2, 2]


async def test_a_rewound_group_is_behind_by_all_it_will_read_again(clients: Mapping[str, Any]) -> None:
    log = await log_of(clients)
    await log.write(4)
    await log.commit(4)
    assert (await log.lag()).messages == 0
    await log.commit(1)
    assert (await log.lag()).messages == 3


async def test_without_a_committed_offset_there_is_no_lag_and_that_is_said(clients: Mapping[str, Any]) -> None:
    log = await log_of(clients)
    await log.write(2)
    found = await log.lags()
    assert found.partitions == ()
    assert found.uncommitted == {(log.group, log.topic): 1}
    exported = gauges_of(found)
    assert exported == {("credit_consumer_uncommitted_partitions", (log.group, log.topic)): 1.0}
    await log.commit(0)
    assert (await log.lags()).uncommitted == {(log.group, log.topic): 0}


async def test_records_removed_by_retention_are_not_waited_for(clients: Mapping[str, Any]) -> None:
    log = await log_of(clients)
    await log.write(5)
    await log.commit(1)
    await log.admin.delete_records({log.partition: RecordsToDelete(before_offset=4)})
    lag = await log.lag()
    assert lag.messages == 1
    assert lag.seconds is not None


async def test_a_group_ahead_of_a_log_that_was_cut_is_never_negative(clients: Mapping[str, Any]) -> None:
    log = await log_of(clients)
    await log.write(2)
    await log.commit(7)
    lag = await log.lag()
    assert (lag.messages, lag.seconds) == (0, 0.0)
