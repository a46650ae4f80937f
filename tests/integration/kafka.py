"""Reads and writes Kafka as a bystander: no group, no offsets of its own."""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.event import Event
from services.runtime.publisher import producer_of
from services.runtime.settings import Settings
from tests.integration.support import Raw, written


@dataclass(frozen=True)
class Seen:
    """A record on a topic with its headers as text."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, str]

    @property
    def event(self) -> dict[str, Any]:
        """Return the payload."""
        found: dict[str, Any] = json.loads(self.value or b"null")
        return found

    @property
    def name(self) -> str:
        """Return the event's name, for example CreditRestored."""
        return self.headers["ce_type"].split(".")[-2]


@asynccontextmanager
async def bystander(settings: Settings, topics: Iterable[str]) -> AsyncIterator[tuple[Any, list[TopicPartition]]]:
    """Give a consumer without a group, and the partitions of these topics assigned to it."""
    partitions = [TopicPartition(topic, n) for topic in topics for n in range(settings.partitions)]
    consumer = AIOKafkaConsumer(**settings.kafka(), enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(partitions)
        yield consumer, partitions
    finally:
        await consumer.stop()


async def ends(settings: Settings, topics: Iterable[str]) -> dict[tuple[str, int], int]:
    """Return the end of every partition."""
    async with bystander(settings, topics) as (consumer, partitions):
        found = await consumer.end_offsets(partitions)
        return {(at.topic, at.partition): offset for at, offset in found.items()}


async def records(settings: Settings, *topics: str) -> list[Seen]:
    """Return every record of these topics, by partition in its order."""
    seen: list[Seen] = []
    async with bystander(settings, topics) as (consumer, partitions):
        await consumer.seek_to_beginning(*partitions)
        until = await consumer.end_offsets(partitions)
        while any([await consumer.position(at) < until[at] for at in partitions]):
            taken = await consumer.getmany(*partitions, timeout_ms=500)
            seen += [_seen(record) for of_partition in taken.values() for record in of_partition]
    return sorted(seen, key=lambda each: (each.topic, each.partition, each.offset))


def _seen(record: Any) -> Seen:
    headers = {name: value.decode("latin-1") for name, value in record.headers}
    return Seen(record.topic, record.partition, record.offset, record.key, record.value, headers)


async def send(settings: Settings, *given: Event | Raw) -> None:
    """Send records in order and wait until Kafka has them."""
    producer = producer_of(settings, "test")
    await producer.start()
    try:
        for each in given:
            raw = each if isinstance(each, Raw) else written(each)
            await producer.send(raw.topic, value=raw.value, key=raw.key, headers=list(raw.headers))
        await producer.flush()
    finally:
        await producer.stop()
