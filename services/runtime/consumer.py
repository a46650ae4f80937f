"""The money loop: take a batch, apply it until it is committed, publish it, read on."""

import asyncio
import gc
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar

import mode
from aiokafka import TopicPartition
from aiokafka.errors import ConsumerStoppedError, KafkaError
from typing_extensions import override

from services.runtime import errors, inbox, metrics, timers
from services.runtime.batch import Batch, Committed, process
from services.runtime.clock import monotonic, utc_now
from services.runtime.dead_letter import Limit
from services.runtime.fold import Arrived
from services.runtime.logs import LOGGER
from services.runtime.postgres import COLLISION, TRANSIENT, Connection, connect, one
from services.runtime.publisher import PUBLISH_FAILED, Publisher
from services.runtime.reader import Listener, check_positions, consumer_of, to_batch
from services.runtime.settings import Settings
from services.runtime.worker import AnyWorker, Step

T = TypeVar("T")
BACK_OFF_SECONDS = (0.1, 5.0)
COLLISIONS_MAX = 20
REFUSALS_MAX = 20
IDLE_SECONDS = 0.5
CHORES_SECONDS = 1.0
AT_ONCE_MAX = 4
RELAY_SECONDS = 5.0
DRAIN_SECONDS = 8.0
WORK_MAX = 5_000
_RANDOM = random.Random()  # noqa: S311  # jitter needs no secrecy


class BatchConsumer(mode.Service):
    """Hosts the loop of one worker in one process; one batch at a time, one connection."""

    def __init__(self, worker: AnyWorker, settings: Settings, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.worker, self.settings = worker, settings
        self.policy: Any = None
        self.step: Step | None = None
        self.publisher = Publisher(settings, worker.name, writes=bool(worker.writes))
        self.kafka: Any = None
        self.connection: Connection | None = None
        self.busy, self.draining, self.wanted = asyncio.Lock(), asyncio.Event(), asyncio.Event()
        self.partitions: tuple[int, ...] = ()
        self.offsets: dict[TopicPartition, int] = {}
        self.generation = self._refusals = 0
        self.assigned, self._republish = False, True
        self.progressed_at = monotonic()
        self.limit = Limit(settings.dead_letter_share_max, settings.dead_letters_in_a_row_max)
        self._timer_at = self._chores_at = self._relay_at = self._gathered_at = 0.0
        self._outage: tuple[float, float, datetime] | None = None
        self._work: deque[Any] = deque(maxlen=WORK_MAX)
        self._idle, self._applying = _Timed(worker.name, "idle"), _Timed(worker.name, "busy")

    @override
    async def on_start(self) -> None:
        """Connect to both servers; a wrong setting, password or topic, or a server away, ends it with one line."""
        try:
            self.policy = self.worker.policy(self.settings)
            self.step = self.worker.step(self.settings) if self.worker.step else None
            await self._database()
            await self.publisher.start()
            self.kafka = consumer_of(self.settings, self.worker)
            await self.kafka.start()
            if missing := {*self.worker.topics, *(t.name for t in self.worker.writes)} - await self.kafka.topics():
                raise errors.ConfigurationError(f"Kafka lacks {', '.join(sorted(missing))}: run `otb topics`")
            gc.freeze()
            self.kafka.subscribe(list(self.worker.topics), listener=Listener(self._revoked, self._assigned))
        except (errors.ConfigurationError, *TRANSIENT, KafkaError) as error:
            LOGGER.error("cannot_start", service=self.worker.name, why=await self.settings.why(error))
            raise SystemExit(1) from None

    @override
    async def on_stop(self) -> None:
        """Finish the batch, tell Kafka where we are, leave the group."""
        self.draining.set()
        async with asyncio.timeout(DRAIN_SECONDS):
            async with self.busy:
                await self._commit_offsets()
            if self.kafka is not None:
                await self.kafka.stop()
            await self.publisher.stop()
            if self.connection is not None:
                await self.connection.close(timeout=1)

    @mode.Service.task
    async def consume(self) -> None:
        """Read and apply until told to stop."""
        while not self.draining.is_set():
            most = self.settings.batch_max * self.worker.at_once
            try:
                with self._idle:
                    records = await self.kafka.getmany(timeout_ms=self._wait_ms(), max_records=most)
            except ConsumerStoppedError:
                return
            self.progressed_at = monotonic()
            held = self._held(records)
            async with self.busy:
                await self._turn(records)
            if held:
                await _wait(self.draining, max(0.0, self._gathered_at - monotonic()))
                self.kafka.resume(*self.kafka.assignment())

    def _held(self, records: Mapping[TopicPartition, Sequence[Any]]) -> bool:
        """Let more come where batches of one would follow closely: nothing is fetched then, a few in a row pass.

        What Kafka has already is not waited for.
        """
        seconds, now = self.worker.gathers_seconds, self.progressed_at
        if not seconds or any(self.kafka.highwater(at) > of[-1].offset + 1 for at, of in records.items() if of):
            return False
        self._gathered_at = max(self._gathered_at, now - AT_ONCE_MAX * seconds) + seconds
        if held := self._gathered_at > now:
            self.kafka.pause(*self.kafka.assignment())
        return held

    @mode.Service.task
    async def watch(self) -> None:
        """End the process when the loop stands still: a container is not restarted for being unhealthy."""
        while not self.draining.is_set():
            await _wait(self.draining, min(5.0, self.settings.stuck_seconds / 2))
            if monotonic() - self.progressed_at > self.settings.stuck_seconds:
                await self.crash(errors.Stuck(f"no progress for {self.settings.stuck_seconds} s"))

    @mode.Service.task
    async def perform(self) -> None:
        """Do the worker's step outside the transaction, if it has one; outcomes come back as inputs."""
        claim_at = 0.0
        while self.step is not None and not self.draining.is_set():
            self.wanted.clear()
            work = [self._work.popleft() for _ in range(min(len(self._work), self.step.at_once_max))]
            if not work and monotonic() >= claim_at:  # what a dead process or a failed try left
                async with self.busy:
                    work = list(await self._retried(self.step.claim) or ())
                claim_at = monotonic() + (0 if work else CHORES_SECONDS)
            if work:
                await self._perform(self.step, work)
            else:
                await _wait(self.wanted, CHORES_SECONDS)

    async def _perform(self, step: Step, work: Sequence[Any]) -> None:
        async with asyncio.timeout(step.seconds_max):
            outcomes = await asyncio.gather(*(step.perform(item) for item in work))
        batch = Batch(taken=monotonic(), arrived=[Arrived(outcome, -1, utc_now()) for outcome in outcomes])
        async with self.busy:
            await self._apply(batch)

    async def _turn(self, records: Mapping[TopicPartition, Sequence[Any]]) -> None:
        """Apply what was read, then timers that are due, then chores."""
        if self._republish and self.assigned:
            await self._recover()
        if records:
            with metrics.BATCH_SECONDS.labels(self.worker.name, "decode").time():
                batch = to_batch(self.worker, records)
            if self._outage and any(a.broker_at < self._outage[2] for a in batch.arrived):
                batch.taken, batch.down = min(batch.taken, self._outage[0]), self._outage[1]  # they waited it out
            if await self._apply(batch):
                self.offsets |= {TopicPartition(m.topic, m.partition): m.next_offset for m in batch.moves}
        now = monotonic()
        if self.partitions and now >= self._timer_at:
            await self._apply(Batch(taken=now, fires_timers_of=self.partitions))
            self._chores_at = now
        if self.partitions and now >= self._chores_at:
            await self._chores(now)

    async def _chores(self, now: float) -> None:
        """Close acknowledgements, handle again what is ready, copy dead letters, tell Kafka where we are."""
        self._chores_at, partitions = now + CHORES_SECONDS, self.partitions
        await self._settled()
        await self._retried(self.publisher.mark)
        todo = await self._retried(lambda c: one(c, timers.CHORES, list(partitions)))
        if todo is None:
            return
        self._timer_at = monotonic() + max(0.0, todo["timer_in"])
        if todo["again"]:
            await self._apply(Batch(taken=now, again_of=partitions))
        try:
            if todo["dead_letters"] and self.worker.writes:  # an observer keeps them and tells nobody
                await self._retried(lambda c: self.publisher.publish_dead_letters(c, partitions))
            if now >= self._relay_at:
                gc.collect()  # here and not inside a batch, which makes tens of thousands of objects and few cycles
                self._relay_at = now + RELAY_SECONDS
                await self._retried(lambda c: self.publisher.republish(c, partitions, older_than_seconds=RELAY_SECONDS))
        except PUBLISH_FAILED as error:
            self._publish_failed(error)
        await self._commit_offsets()

    async def _apply(self, batch: Batch) -> bool:
        """Apply one batch until committed, then publish it; False when it is no longer ours."""
        with self._applying, metrics.BATCH_SECONDS.labels(self.worker.name, "store").time():
            try:
                committed = await self._retried(lambda c: self._process(c, batch), batch)
            except errors.Refused as refusal:
                await self._refused(refusal)
                return False
        if committed is None:
            return False
        self._refusals = 0 if batch.moves else self._refusals
        await self._published(committed)
        return True

    async def _process(self, connection: Connection, batch: Batch) -> Committed:
        closed = set(self.publisher.acknowledged)
        committed = await process(connection, self.worker, self.policy, batch, limit=self.limit, acknowledged=closed)
        self.publisher.acknowledged -= closed
        self.limit = committed.limit
        return committed

    async def _published(self, committed: Committed) -> None:
        """Publish right after the commit; the acknowledgements are awaited before the next batch is published."""
        for outcome, n in committed.counts.items():
            metrics.MESSAGES.labels(self.worker.name, outcome).inc(n)
        metrics.BATCH_EVENTS.labels(self.worker.name).observe(committed.counts.total())
        self._work.extend(committed.work)
        if committed.woke:
            self._chores_at = 0.0
        self._timer_at = min(self._timer_at, monotonic() + committed.timer_in)
        if committed.publication_id is not None and await self._settled():
            try:
                with metrics.BATCH_SECONDS.labels(self.worker.name, "publish").time():
                    await self.publisher.send(committed.publication_id, committed.outgoing)
            except PUBLISH_FAILED as error:
                self._publish_failed(error)
            self.wanted.set()

    async def _settled(self) -> bool:
        """Wait for Kafka to have what was sent; on failure all of the outbox is sent again and False returned."""
        try:
            if not self._republish:
                await self.publisher.settle()
                return True
        except PUBLISH_FAILED as error:
            self._publish_failed(error)
        await self._recover()
        return False

    def _publish_failed(self, error: BaseException) -> None:
        LOGGER.warning("publish_failed", service=self.worker.name, error=repr(error))
        self._republish = True

    async def _recover(self) -> None:
        """Bring Kafka up to the outbox, with a new producer, before anything newer is published."""
        partitions, generation = self.partitions, self.generation
        while not self.draining.is_set() and generation == self.generation:
            try:
                await self.publisher.start()
                sent = await self._retried(lambda c: self.publisher.republish(c, partitions))
            except PUBLISH_FAILED as error:
                LOGGER.warning("republish_failed", service=self.worker.name, error=repr(error))
                await self._back_off(3)
                continue
            self._republish = sent is None
            if sent:
                LOGGER.info("republished", service=self.worker.name, publications=sent)
            return

    async def _retried(self, action: Callable[[Connection], Awaitable[T]], batch: Batch | None = None) -> T | None:
        """Run ``action`` with the connection until the world lets it pass; None when told to stop or rebalanced."""
        attempt, collisions, generation, began = 0, 0, self.generation, monotonic()
        while not self.draining.is_set() and generation == self.generation:
            try:
                return await action(await self._database())
            except COLLISION:
                collisions += 1
                if collisions > COLLISIONS_MAX:
                    raise
            except TRANSIENT as error:
                self._republish = True  # a commit whose answer was lost may have happened: its events are in the outbox
                LOGGER.warning("transient", service=self.worker.name, error=repr(error), attempt=attempt)
            metrics.MESSAGES.labels(self.worker.name, "retried").inc()
            await self._back_off(attempt)
            attempt += 1
            self._outage = (began, monotonic(), utc_now())
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

    async def _refused(self, refusal: errors.Refused) -> None:
        """Follow the books: another process moved them, or we were a zombie."""
        self._refusals, self._republish = self._refusals + 1, True
        LOGGER.warning("refused", service=self.worker.name, why=str(refusal), times=self._refusals)
        if self._refusals > REFUSALS_MAX:
            raise errors.InvariantBroken(f"refused {self._refusals} times in a row: {refusal}")
        await self._seek(sorted(self.kafka.assignment()))

    async def _revoked(self) -> None:
        """Wait for the running batch, which stops retrying, and forget what was ours."""
        self.generation, self.assigned = self.generation + 1, False
        with _Timed(self.worker.name, "rebalancing"):
            async with self.busy:
                self.partitions = ()
                await self._commit_offsets()

    async def _assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Go to where the books are; what breaks here must end the process, aiokafka would only log it."""
        try:
            async with self.busy:
                await self._seek(assigned)
        except Exception as error:  # noqa: BLE001
            await self.crash(error)
            return
        self.partitions = tuple(at.partition for at in assigned if at.topic == next(iter(self.worker.topics)))
        self.assigned = self._republish = True
        self._timer_at = self._chores_at = 0.0
        LOGGER.info("assigned", service=self.worker.name, partitions=list(self.partitions))

    async def _seek(self, assigned: Sequence[TopicPartition]) -> None:
        begins = await self.kafka.beginning_offsets(assigned)
        found = await self._retried(lambda c: inbox.positions(c, begins))
        if found is not None:
            # Asked after the books, which another process may still move on; `otb republish` may move them back.
            check_positions(found[0], begins, await self.kafka.end_offsets(assigned))
            found = await self._retried(lambda c: inbox.positions(c, begins))
        if found is None:
            return
        positions, in_a_row = found
        self.limit = Limit(self.limit.share_max, self.limit.in_a_row_max, in_a_row)
        for (topic, partition), offset in positions.items():
            self.kafka.seek(TopicPartition(topic, partition), offset)

    async def _commit_offsets(self) -> None:
        """Tell Kafka where the books are; it is a hint for people, reading never starts from it."""
        offsets, self.offsets = self.offsets, {}
        try:
            if offsets:
                await self.kafka.commit(offsets)
        except KafkaError as error:
            LOGGER.info("offsets_not_committed", service=self.worker.name, error=repr(error))

    def _wait_ms(self) -> int:
        due = min(self._timer_at, self._chores_at) - monotonic() if self.partitions else IDLE_SECONDS
        return max(1, int(1000 * min(IDLE_SECONDS, due)))


class _Timed:
    """Counts seconds spent in one state, which is entered again and again."""

    def __init__(self, service: str, state: str) -> None:
        self._counter = metrics.TIME.labels(service, state)

    def __enter__(self) -> None:
        self._began = monotonic()

    def __exit__(self, *_: object) -> None:
        self._counter.inc(monotonic() - self._began)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
