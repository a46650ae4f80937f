"""The money loop: take a batch, apply it until it is committed, publish it, read on."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Any

import mode
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from typing_extensions import override

from services.runtime import inbox, metrics, timers
from services.runtime.batch import Batch, Committed, process
from services.runtime.clock import monotonic
from services.runtime.dead_letter import Limit
from services.runtime.errors import COLLISION, PUBLISH_FAILED, TRANSIENT, InvariantBroken, Refused, Stuck
from services.runtime.fold import Arrived
from services.runtime.logs import LOGGER
from services.runtime.postgres import Connection, connect
from services.runtime.publisher import Publisher
from services.runtime.reader import Listener, check_positions, consumer_of, to_batch
from services.runtime.settings import Settings
from services.runtime.worker import AnyWorker

BACK_OFF_SECONDS = (0.1, 5.0)
COLLISIONS_MAX = 20
REFUSALS_MAX = 20
IDLE_MS = 500
HOUSEKEEPING_SECONDS = 1.0
RELAY_SECONDS = 5.0
DRAIN_SECONDS = 8.0
_RANDOM = random.Random()


class BatchConsumer(mode.Service):
    """Hosts the loop of one worker in one process; one batch at a time, one connection."""

    def __init__(self, worker: AnyWorker, settings: Settings, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.worker = worker
        self.settings = settings
        self.policy = worker.policy(settings)
        self.publisher = Publisher(settings, worker.name)
        self.kafka: Any = None
        self.connection: Connection | None = None
        self.busy = asyncio.Lock()
        self.draining = asyncio.Event()
        self.committed = asyncio.Event()
        self.partitions: tuple[int, ...] = ()
        self.offsets: dict[TopicPartition, int] = {}
        self.generation = 0
        self.assigned = False
        self.progressed_at = monotonic()
        self.limit = Limit(settings.dead_letter_share_max, settings.dead_letters_in_a_row_max)
        self._republish = True
        self._timer_at = 0.0
        self._house_at = 0.0
        self._relay_at = 0.0
        self._refusals = 0

    @override
    async def on_start(self) -> None:
        """Connect to both servers; a wrong password or a missing topic ends the start with one line."""
        await self._database()
        await self.publisher.start()
        self.kafka = consumer_of(self.settings, self.worker)
        self.kafka.subscribe(list(self.worker.topics), listener=Listener(self._revoked, self._assigned))
        await self.kafka.start()

    @override
    async def on_stop(self) -> None:
        """Finish the batch, tell Kafka where we are, leave the group."""
        self.draining.set()
        async with asyncio.timeout(DRAIN_SECONDS), self.busy:
            if self.kafka is not None:
                await self._commit_offsets()
                await self.kafka.stop()
            await self.publisher.stop()
            if self.connection is not None:
                await self.connection.close(timeout=1)

    @mode.Service.task
    async def consume(self) -> None:
        """Read and apply until told to stop."""
        while not self.draining.is_set():
            with _Timed(self.worker.name, "idle"):
                records = await self.kafka.getmany(timeout_ms=self._wait_ms(), max_records=self.settings.batch_max)
            self.progressed_at = monotonic()
            async with self.busy:
                if self.draining.is_set():
                    return
                await self._turn(records)

    @mode.Service.task
    async def watch(self) -> None:
        """End the process when the loop stands still: a container is not restarted for being unhealthy."""
        while not self.draining.is_set():
            await asyncio.sleep(min(5.0, self.settings.stuck_seconds / 2))
            if monotonic() - self.progressed_at > self.settings.stuck_seconds:
                await self.crash(Stuck(f"no progress for {self.settings.stuck_seconds} s"))

    @mode.Service.task
    async def perform(self) -> None:
        """Do the worker's step outside the transaction, if it has one; outcomes come back as inputs."""
        if self.worker.step is None:
            return
        step = self.worker.step(self.settings)
        while not self.draining.is_set():
            async with self.busy:
                work = await self._retried(lambda connection: step.claim(connection))
            if not work:
                self.committed.clear()
                await _wait(self.committed, HOUSEKEEPING_SECONDS)
                continue
            async with asyncio.timeout(step.seconds_max):
                outcomes = await asyncio.gather(*(step.perform(item) for item in work))
            batch = Batch(taken=monotonic())
            batch.arrived = [Arrived(outcome, -1, self._now) for outcome in outcomes]
            async with self.busy:
                await self._apply(batch)

    async def _turn(self, records: Mapping[TopicPartition, Sequence[Any]]) -> None:
        """Apply what was read, then timers that are due, then housekeeping."""
        if self._republish and self.assigned:
            await self._recover()
        if records:
            with metrics.BATCH_SECONDS.labels(self.worker.name, "decode").time():
                batch = to_batch(self.worker, records)
            if await self._apply(batch):
                self.offsets |= {TopicPartition(m.topic, m.partition): m.next_offset for m in batch.moves}
        now = monotonic()
        if self.partitions and now >= self._timer_at:
            await self._fire()
        if self.partitions and now >= self._house_at:
            self._house_at = now + HOUSEKEEPING_SECONDS
            await self._housekeeping(now)

    async def _fire(self) -> None:
        batch = Batch(taken=monotonic(), fires_timers_of=self.partitions)
        self._timer_at = monotonic() + HOUSEKEEPING_SECONDS
        await self._apply(batch)
        partitions = self.partitions
        next_in = await self._retried(lambda connection: timers.seconds_to_next(connection, partitions))
        self._timer_at = monotonic() + min(HOUSEKEEPING_SECONDS, max(0.0, next_in if next_in is not None else 1.0))

    async def _housekeeping(self, now: float) -> None:
        """Handle again what is ready, publish dead letters, close acknowledgements, tell Kafka where we are."""
        await self._apply(Batch(taken=now, again_of=self.partitions))
        await self._settled()
        await self._retried(self.publisher.mark)
        try:
            partitions = self.partitions
            await self._retried(lambda c: self.publisher.publish_dead_letters(c, partitions))
            if now >= self._relay_at:
                self._relay_at = now + RELAY_SECONDS
                await self._retried(
                    lambda c: self.publisher.republish(c, partitions, older_than_seconds=RELAY_SECONDS)
                )
        except PUBLISH_FAILED as error:
            self._failed(error)
        await self._commit_offsets()

    async def _apply(self, batch: Batch) -> bool:
        """Apply one batch until committed; False when it is no longer ours."""
        generation, name = self.generation, self.worker.name
        with _Timed(name, "busy"), metrics.BATCH_SECONDS.labels(name, "store").time():
            try:
                committed = await self._retried(lambda c: self._process(c, batch), batch, generation)
            except Refused as refusal:
                await self._refused(refusal)
                return False
        if committed is None:
            return False
        self._refusals = 0
        await self._published(committed)
        return True

    async def _process(self, connection: Connection, batch: Batch) -> Committed:
        closed = set(self.publisher.acknowledged)
        committed = await process(connection, self.worker, self.policy, batch, closed)
        self.publisher.acknowledged -= closed
        return committed

    async def _published(self, committed: Committed) -> None:
        """Publish right after the commit; the acknowledgements are awaited before the next batch is published."""
        self._now = committed.now
        counts = committed.counts
        for outcome, n in counts.items():
            metrics.MESSAGES.labels(self.worker.name, outcome).inc(n)
        metrics.BATCH_EVENTS.labels(self.worker.name).observe(counts.total())
        if committed.publication_id is not None:
            await self._settled()
            try:
                await self.publisher.send(committed.publication_id, committed.outgoing)
            except PUBLISH_FAILED as error:
                self._failed(error)
            self.committed.set()
        if committed.next_timer_at is not None:
            wait = (committed.next_timer_at - committed.now).total_seconds()
            self._timer_at = min(self._timer_at, monotonic() + wait)
        self.limit.count(good=counts.total() - counts["dead_lettered"], dead=counts["dead_lettered"])

    async def _settled(self) -> None:
        """Wait for Kafka to have what was sent; on failure start a new producer and send again from the outbox."""
        try:
            await self.publisher.settle()
        except PUBLISH_FAILED as error:
            self._failed(error)
            await self._recover()

    def _failed(self, error: BaseException) -> None:
        LOGGER.warning("publish_failed", service=self.worker.name, error=repr(error))
        self._republish = True

    async def _recover(self) -> None:
        """Bring Kafka up to the outbox before anything newer is published."""
        partitions = self.partitions
        while not self.draining.is_set():
            try:
                await self.publisher.start()
                sent = await self._retried(lambda c: self.publisher.republish(c, partitions))
            except PUBLISH_FAILED as error:
                LOGGER.warning("republish_failed", service=self.worker.name, error=repr(error))
                await self._back_off(3)
                continue
            self._republish = False
            if sent:
                LOGGER.info("republished", service=self.worker.name, publications=sent)
            return

    async def _retried(self, action: Any, batch: Batch | None = None, generation: int | None = None) -> Any:
        """Run ``action`` with the connection until the world lets it pass; None when told to stop or rebalanced."""
        attempt = collisions = 0
        while not self.draining.is_set() and generation in (None, self.generation):
            try:
                return await action(await self._database())
            except COLLISION:
                collisions += 1
                if collisions > COLLISIONS_MAX:
                    raise
            except TRANSIENT as error:
                LOGGER.warning("transient", service=self.worker.name, error=repr(error), attempt=attempt)
            metrics.MESSAGES.labels(self.worker.name, "retried").inc()
            await self._back_off(attempt)
            attempt += 1
            if batch is not None:
                batch.down = monotonic()
        return None

    async def _back_off(self, attempt: int) -> None:
        """Wait with full jitter: U(0, min(5 s, 0.1 s x 2^n))."""
        least, most = BACK_OFF_SECONDS
        with _Timed(self.worker.name, "backing_off"):
            await _wait(self.draining, _RANDOM.uniform(0, min(most, least * 2 ** min(attempt, 10))))

    async def _database(self) -> Connection:
        if self.connection is None or self.connection.is_closed():
            self.connection = await connect(self.settings, self.worker.package)
        return self.connection

    async def _refused(self, refusal: Refused) -> None:
        """Follow the books: another process moved them, or we were a zombie."""
        self._refusals += 1
        LOGGER.warning("refused", service=self.worker.name, why=str(refusal), times=self._refusals)
        if self._refusals > REFUSALS_MAX:
            raise InvariantBroken(f"refused {self._refusals} times in a row: {refusal}")
        await self._seek(sorted(self.kafka.assignment()))

    async def _revoked(self) -> None:
        self.generation += 1
        self.assigned = False
        with _Timed(self.worker.name, "rebalancing"):
            async with self.busy:
                self.partitions = ()
                await self._commit_offsets()
                self.offsets.clear()

    async def _assigned(self, assigned: Sequence[TopicPartition]) -> None:
        await self._seek(assigned)
        first = next(iter(self.worker.topics))
        self.partitions = tuple(at.partition for at in assigned if at.topic == first)
        self.assigned = self._republish = True
        LOGGER.info("assigned", service=self.worker.name, partitions=list(self.partitions))

    async def _seek(self, assigned: Sequence[TopicPartition]) -> None:
        beginnings, ends = await self.kafka.beginning_offsets(assigned), await self.kafka.end_offsets(assigned)
        first = {(at.topic, at.partition): offset for at, offset in beginnings.items()}
        positions = await self._retried(lambda c: inbox.positions(c, first))
        check_positions(positions or {}, first, {(at.topic, at.partition): offset for at, offset in ends.items()})
        for (topic, partition), offset in (positions or {}).items():
            self.kafka.seek(TopicPartition(topic, partition), offset)

    async def _commit_offsets(self) -> None:
        """Tell Kafka where the books are; it is a hint for people, reading never starts from it."""
        offsets, self.offsets = self.offsets, {}
        if not offsets:
            return
        try:
            await self.kafka.commit(offsets)
        except (CommitFailedError, IllegalStateError, KafkaError) as error:
            LOGGER.info("offsets_not_committed", service=self.worker.name, error=repr(error))

    def _wait_ms(self) -> int:
        wait = min(self._timer_at, self._house_at) - monotonic()
        return max(1, min(IDLE_MS, int(wait * 1000)))


class _Timed:
    """Counts seconds spent in one state."""

    def __init__(self, service: str, state: str) -> None:
        self._counter = metrics.TIME.labels(service, state)

    def __enter__(self) -> None:
        self._began = monotonic()

    def __exit__(self, *_: object) -> None:
        self._counter.inc(monotonic() - self._began)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
