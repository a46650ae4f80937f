"""The simulated Kafka: logs that grow and may lose their tail, groups that rebalance, lost acknowledgements."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    ConsumerStoppedError,
    IllegalStateError,
    KafkaConnectionError,
    KafkaTimeoutError,
)

from schemas.topics import TOPICS
from services.runtime.codec import Decoded

if TYPE_CHECKING:
    from tests.simulation.world import Process, World

SESSION_SECONDS = 1.0
"""After so long a silence a member loses its partitions (10 s in production)."""
HEARTBEAT_SECONDS = 0.3


@dataclass(slots=True)
class Record:
    """A record as aiokafka gives it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    decoded: Decoded | None = None
    """What its first reader decoded; only ports.py asks."""


class Broker:
    """Topics of ``partitions`` logs each, and the consumer groups."""

    def __init__(self, world: "World", partitions: int) -> None:
        self.world, self.partitions = world, partitions
        self.down = False
        self.logs: dict[tuple[str, int], list[Record]] = {(t, p): [] for t in TOPICS for p in range(partitions)}
        self.committed: dict[tuple[str, TopicPartition], int] = {}
        self.groups: dict[str, Group] = {}
        self.readers: dict[str, list[Consumer]] = {}

    def append(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]
    ) -> None:
        """Write one record at the end of its log, and wake who waits for it."""
        log = self.logs.setdefault((topic, partition), [])
        stamp = int(self.world.now().timestamp() * 1000)
        log.append(Record(topic, partition, len(log), stamp, key, value, headers))
        self.world.wrote(log[-1])
        for reader in self.readers.get(topic, ()):
            reader.wake()

    def group(self, name: str) -> "Group":
        return self.groups.setdefault(name, Group(self))


class Group:
    """Members of one consumer group; everyone gives up what it has before anyone gets something."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.members: list[Consumer] = []
        self.generation = 0
        self.joined: set[int] = set()
        self.news: list[asyncio.Future[None]] = []

    def add(self, member: "Consumer") -> None:
        self.members.append(member)
        self.members.sort(key=lambda each: each.process.number)
        self._begin()

    def remove(self, member: "Consumer") -> None:
        if member in self.members:
            self.members.remove(member)
            self._begin()

    def _begin(self) -> None:
        self.generation += 1
        self.joined = set()
        self._tell()

    def join(self, member: "Consumer") -> None:
        self.joined.add(member.process.number)
        if self.complete:
            self._tell()

    @property
    def complete(self) -> bool:
        return all(member.process.number in self.joined for member in self.members)

    def _tell(self) -> None:
        waiting, self.news = self.news, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def changed(self) -> None:
        future = self.broker.world.loop.create_future()
        self.news.append(future)
        await future

    def share_of(self, member: "Consumer") -> list[TopicPartition]:
        """Return what range assignment gives: the same partitions of every topic."""
        at, n = self.members.index(member), len(self.members)
        count, more = divmod(self.broker.partitions, n)
        first = at * count + min(at, more)
        mine = range(first, first + count + (at < more))
        return [TopicPartition(topic, p) for topic in member.subscribed for p in mine]


class Consumer:
    """What consumer.py asks of AIOKafkaConsumer."""

    def __init__(self, broker: Broker, process: "Process") -> None:
        self.broker, self.process = broker, process
        self.group = broker.group(process.worker.name)
        self.subscribed: list[str] = []
        self.listener: Any = None
        self.positions: dict[TopicPartition, int] = {}
        self.stopped = False
        self._waiter: asyncio.Future[None] | None = None

    async def start(self) -> None:
        await self._reach("start")

    async def topics(self) -> set[str]:
        return set(TOPICS)

    def subscribe(self, topics: Sequence[str], listener: Any) -> None:
        self.subscribed, self.listener = sorted(topics), listener
        for topic in topics:
            self.broker.readers.setdefault(topic, []).append(self)
        self.process.spawn(self._coordinate())
        self.group.add(self)

    async def stop(self) -> None:
        self.leave()

    def leave(self) -> None:
        self.stopped = True
        for topic in self.subscribed:
            if self in self.broker.readers[topic]:
                self.broker.readers[topic].remove(self)
        self.positions = {}
        self.group.remove(self)
        self.wake()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self.positions)

    def pause(self, *asked: TopicPartition) -> None:
        self._demand(asked)

    def resume(self, *asked: TopicPartition) -> None:
        self._demand(asked)

    def _demand(self, asked: Sequence[TopicPartition]) -> None:
        """Refuse what is not assigned as aiokafka does; the loop asks for no records between the two."""
        if not set(asked) <= set(self.positions):
            raise IllegalStateError("not assigned")

    def seek(self, at: TopicPartition, offset: int) -> None:
        if at in self.positions:
            self.positions[at] = offset

    def highwater(self, at: TopicPartition) -> int:
        return len(self.broker.logs[at.topic, at.partition])

    async def beginning_offsets(self, asked: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        await self._reach("offsets")
        return dict.fromkeys(asked, 0)

    async def end_offsets(self, asked: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        await self._reach("offsets")
        return {at: len(self.broker.logs[at.topic, at.partition]) for at in asked}

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        await self._reach("commit_offsets")
        if self not in self.group.members:
            raise CommitFailedError("not a member any more")
        for at, offset in offsets.items():
            self.broker.committed[self.process.worker.name, at] = offset
            self.broker.world.committed(self.process, at, offset)

    async def getmany(self, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Record]]:
        """Return records from where each partition stands, waiting a while when there are none."""
        loop = self.process.world.loop
        if self.process.dead or self.process.paused_until > loop.seconds:
            await self.process.unpaused()
        ready = self._ready()
        if not ready:
            self._waiter = loop.create_future()
            handle = loop.call_later(timeout_ms / 1000, self.wake)
            await self._waiter
            handle.cancel()
            self._waiter = None
        if self.stopped:
            raise ConsumerStoppedError
        if not (ready or self._ready()):
            return {}
        await self.process.port("poll")
        return self._take(max_records)

    def _ready(self) -> bool:
        if self.broker.down:
            return False
        logs = self.broker.logs
        for at, offset in self.positions.items():  # noqa: SIM110  # every wait asks: a generator takes twice the time
            if offset != len(logs[at]):
                return True
        return False

    def _take(self, most: int) -> dict[TopicPartition, list[Record]]:
        found: dict[TopicPartition, list[Record]] = {}
        names = list(self.positions)  # in order, as share_of() gives them
        first = self.process.world.chance.randrange(len(names)) if names else 0
        for at in names[first:] + names[:first]:
            log, offset = self.broker.logs[at], self.positions[at]
            if offset > len(log):  # out of range: aiokafka goes to where auto_offset_reset says
                self.positions[at] = offset = 0
            taken = log[offset : offset + most]
            if taken and not self.broker.down:
                found[at] = taken
                self.positions[at] = offset + len(taken)
                most -= len(taken)
        return found

    async def _reach(self, port: str) -> None:
        fault = await self.process.port(port)
        if self.broker.down or fault:
            raise KafkaConnectionError("the broker does not answer")

    async def _coordinate(self) -> None:
        """Follow the group: give up, join, wait for the others, take what is assigned."""
        while not self.stopped:
            await asyncio.sleep(HEARTBEAT_SECONDS * self.process.world.chance.random())
            await self.process.unpaused()
            generation = self.group.generation
            await self.listener.on_partitions_revoked(set(self.positions))
            self.positions = {}
            if self not in self.group.members:
                self.group.add(self)
                continue
            if generation != self.group.generation:
                continue
            self.group.join(self)
            while not self.group.complete and generation == self.group.generation:
                await self.group.changed()
            if generation == self.group.generation:
                await self._assigned(generation)

    async def _assigned(self, generation: int) -> None:
        share = self.group.share_of(self)
        told = {at: self.broker.committed.get((self.process.worker.name, at), 0) for at in share}
        self.positions = told
        self.process.world.assigned(self.process, share)
        await self.listener.on_partitions_assigned(set(share))
        self.wake()
        while generation == self.group.generation:
            await self.group.changed()


class Batch:
    """Records that go to one partition together; ``most`` fit."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.records: list[tuple[bytes, bytes, Sequence[tuple[str, bytes]]]] = []

    def append(self, *, timestamp: None, key: bytes, value: bytes, headers: Any) -> object:
        if len(self.records) >= self.most:
            return None
        self.records.append((key, value, headers))
        return self


class Producer:
    """What publisher.py asks of AIOKafkaProducer: in order a partition, broken by its first failure."""

    def __init__(self, broker: Broker, process: "Process") -> None:
        self.broker, self.process = broker, process
        self.broken = self.stopped = False
        self._flying: deque[tuple[str, int, Batch, asyncio.Future[object], str | None]] = deque()

    async def start(self) -> None:
        fault = await self.process.port("start")
        if self.broker.down or fault:
            raise KafkaConnectionError("the broker does not answer")
        self.process.producers.append(self)

    async def stop(self) -> None:
        """Send what is on its way, then close."""
        while self._flying:
            self._land()
        self.stopped = True
        if self in self.process.producers:
            self.process.producers.remove(self)

    def abandon(self) -> None:
        """Die: of what is on its way a part still reaches the broker."""
        for _ in range(self.process.world.chance.randint(0, len(self._flying))):
            self._land()
        self._flying.clear()
        self.stopped = True

    async def partitions_for(self, topic: str) -> range:
        return range(self.broker.partitions)

    def create_batch(self) -> Batch:
        return Batch(self.process.world.batch_records)

    async def send(self, topic: str, *, value: bytes, key: bytes, headers: Any) -> asyncio.Future[object]:
        batch = self.create_batch()
        batch.append(timestamp=None, key=key, value=value, headers=headers)
        return await self.send_batch(batch, topic, partition=0)

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[object]:
        fault = await self.process.port("send")
        loop = self.process.world.loop
        future: asyncio.Future[object] = loop.create_future()
        self._flying.append((topic, partition, batch, future, fault))
        loop.call_later(self.process.world.latency(), self._land)
        return future

    def _land(self) -> None:
        """Let the oldest batch on its way reach the broker, or fail."""
        if not self._flying:
            return
        topic, partition, batch, future, fault = self._flying.popleft()
        refused = self.broken or self.stopped or self.broker.down or fault == "send_failed"
        if not refused:
            for record in batch.records:
                self.broker.append(topic, partition, *record)
        if refused or fault == "ack_lost":
            self.broken = True
        if future.done():
            return
        if self.broken:
            future.set_exception(KafkaTimeoutError())
            future.exception()  # seen here: whether anyone waits for it is the product's business
        else:
            future.set_result(None)
