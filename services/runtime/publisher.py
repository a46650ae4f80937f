"""Sends committed events to Kafka in the order they were committed; what is not acknowledged stays in the outbox."""

import asyncio
from collections.abc import Awaitable, Collection, Sequence
from functools import lru_cache
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from schemas.topics import dead_letter_topic
from services.runtime import dead_letter, outbox
from services.runtime.codec import Outgoing, headers_from_bytes
from services.runtime.postgres import Connection
from services.runtime.settings import Settings

PUBLISH_FAILED = (KafkaError, OSError, TimeoutError)
"""What was not sent stays in the outbox."""
BATCH_BYTES = 512_000
REQUEST_MS = 20_000
ACKNOWLEDGE_SECONDS = 45
DEAD_LETTERS_MAX = 200


def producer_of(settings: Settings, client_id: str) -> AIOKafkaProducer:
    """Return a producer with settings that lose nothing: idempotent, acknowledged by all."""
    return AIOKafkaProducer(
        **settings.kafka(),
        client_id=client_id,
        enable_idempotence=True,
        acks="all",
        linger_ms=0,
        max_batch_size=BATCH_BYTES,
        request_timeout_ms=REQUEST_MS,
    )


@lru_cache(maxsize=16_384)
def partition_of(account_id: str, partitions: int) -> int:
    """Return the partition Java's default partitioner gives an account."""
    hashed: int = murmur2(account_id.encode())
    return (hashed & 0x7FFFFFFF) % partitions


class Publisher:
    """One process's way to Kafka; ``pending`` holds what was sent and not yet acknowledged."""

    def __init__(self, settings: Settings, group: str, *, writes: bool = True) -> None:
        # An observer writes nothing, and has no right to.
        self._settings, self._group, self._writes = settings, group, writes
        self._producer: Any = None
        self._pending: dict[int, list[Awaitable[object]]] = {}
        self.acknowledged: set[int] = set()

    async def start(self) -> None:
        """Connect; a second start makes a new producer, for one whose send failed."""
        await self.stop()
        if self._writes:
            self._producer = producer_of(self._settings, self._group)
            await self._producer.start()

    async def stop(self) -> None:
        """Disconnect; what is pending stays in the outbox."""
        producer, self._producer = self._producer, None
        self._pending.clear()
        if producer is not None:
            await producer.stop()

    async def send(self, publication_id: int, outgoing: Sequence[Outgoing]) -> None:
        """Hand one publication to the producer; settle() waits for its acknowledgement."""
        self._pending[publication_id] = await self._send(outgoing)

    async def settle(self) -> None:
        """Wait until all that was sent is acknowledged; raise what the producer raises otherwise, once."""
        if not self._pending:
            return
        pending, self._pending = self._pending, {}  # what failed stays failed: it is sent again from the outbox
        async with asyncio.timeout(ACKNOWLEDGE_SECONDS):
            for publication_id, futures in pending.items():
                await asyncio.gather(*futures)
                self.acknowledged.add(publication_id)

    async def republish(
        self, connection: Connection, partitions: Sequence[int], *, older_than_seconds: float = 0
    ) -> int:
        """Send what is in the outbox and not known to be in Kafka, oldest first; return how many publications."""
        count = 0
        while True:
            await self.settle()
            known: Collection[int] = tuple(self.acknowledged)
            found = await outbox.unpublished(
                connection, partitions, older_than_seconds=older_than_seconds, except_for=known
            )
            for publication_id, outgoing in found.items():
                await self.send(publication_id, outgoing)
            count += len(found)
            if not found:
                return count

    async def mark(self, connection: Connection) -> None:
        """Close in the outbox what Kafka acknowledged."""
        marked = set(self.acknowledged)
        if marked:
            await connection.execute(outbox.ACKNOWLEDGE, list(marked))
            self.acknowledged -= marked

    async def publish_dead_letters(self, connection: Connection, partitions: Sequence[int]) -> None:
        """Copy dead letters to their topics; the row is the truth, the copy may come twice."""
        rows = await connection.fetch(dead_letter.UNPUBLISHED, list(partitions), DEAD_LETTERS_MAX)
        sent = []
        for row in rows:
            place = f"{row['topic']}/{row['partition']}/{row['offset']}"
            added = [("otb_reason", row["reason"].encode()), ("otb_place", place.encode())]
            headers = [*headers_from_bytes(row["headers"]), *added]
            topic = dead_letter_topic(row["topic"], self._group)
            sent.append(await self._producer.send(topic, value=row["value"], key=row["key"] or b"", headers=headers))
        if sent:
            async with asyncio.timeout(ACKNOWLEDGE_SECONDS):
                await asyncio.gather(*sent)
            await connection.execute(dead_letter.MARK_PUBLISHED, [row["set_aside_id"] for row in rows])

    async def _send(self, outgoing: Sequence[Outgoing]) -> list[Awaitable[object]]:
        """Send one Kafka batch a partition: far cheaper than a future a record, in the same order."""
        by_partition: dict[tuple[str, int], list[Outgoing]] = {}
        sizes = {topic: len(await self._producer.partitions_for(topic)) for topic in {o.topic for o in outgoing}}
        for o in outgoing:
            by_partition.setdefault((o.topic, partition_of(o.account_id, sizes[o.topic])), []).append(o)
        futures: list[Awaitable[object]] = []
        for (topic, partition), events in by_partition.items():
            builder = self._producer.create_batch()
            for o in events:
                record = {"key": o.account_id.encode(), "value": o.payload, "headers": o.headers()}
                if builder.append(timestamp=None, **record) is None:
                    futures.append(await self._producer.send_batch(builder, topic, partition=partition))
                    builder = self._producer.create_batch()
                    builder.append(timestamp=None, **record)
            futures.append(await self._producer.send_batch(builder, topic, partition=partition))
        return futures
