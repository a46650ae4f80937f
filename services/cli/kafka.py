"""Kafka for commands that look or set up: an administrator, and an onlooker without a group."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from services.runtime.settings import Settings

REQUEST_MS: Final = 30_000
POLL_MS: Final = 500


@asynccontextmanager
async def administrator(settings: Settings, client_id: str) -> AsyncIterator[Any]:
    """Give an administrator's connection."""
    admin = AIOKafkaAdminClient(**settings.kafka(), client_id=client_id, request_timeout_ms=REQUEST_MS)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


@asynccontextmanager
async def onlooker(settings: Settings, client_id: str) -> AsyncIterator[Any]:
    """Give a consumer that joins no group and commits nothing."""
    consumer = AIOKafkaConsumer(**settings.kafka(), client_id=client_id, enable_auto_commit=False)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def partitions_of(settings: Settings, topics: Sequence[str], client_id: str) -> list[TopicPartition]:
    """Return the partitions of those of ``topics`` that exist."""
    async with administrator(settings, client_id) as admin:
        described = await admin.describe_topics(list(topics))
    return sorted(TopicPartition(t["topic"], p["partition"]) for t in described for p in t["partitions"])


async def ends_of(
    settings: Settings, partitions: Sequence[TopicPartition], client_id: str
) -> dict[TopicPartition, int]:
    """Return where each partition ends."""
    async with onlooker(settings, client_id) as consumer:
        ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
        return ends


async def tail(settings: Settings, topic: str, last: int, client_id: str) -> tuple[int, list[Any]]:
    """Return how many partitions a topic has, none when there is no such topic, and its newest ``last`` records.

    They come in the order Kafka's own time gives them.
    """
    partitions = await partitions_of(settings, [topic], client_id)
    if not partitions:
        return 0, []
    found: list[Any] = []
    async with onlooker(settings, client_id) as consumer:
        consumer.assign(partitions)
        begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        for at in partitions:
            consumer.seek(at, max(begins[at], ends[at] - last))
        while any([await consumer.position(at) < ends[at] for at in partitions]):
            taken = await consumer.getmany(timeout_ms=POLL_MS)
            found += [record for records in taken.values() for record in records]
            found = sorted(found, key=_written)[-last:]
    return len(partitions), found


def _written(record: Any) -> tuple[int, int, int]:
    return record.timestamp, record.partition, record.offset
