"""Reading Kafka by the batch, from where the books say, never from where the broker remembers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from services.decision import Malformed
from services.runtime.batch import Batch
from services.runtime.clock import from_epoch_ms, monotonic
from services.runtime.codec import decode
from services.runtime.dead_letter import Aside
from services.runtime.errors import InvariantBroken
from services.runtime.fold import Arrived
from services.runtime.inbox import Move
from services.runtime.settings import Settings
from services.runtime.worker import AnyWorker

FETCH_BYTES = 100_000


def consumer_of(settings: Settings, worker: AnyWorker) -> AIOKafkaConsumer:
    """Return a consumer that commits nothing by itself and gives one member the same partitions of every topic."""
    return (worker.consumer or AIOKafkaConsumer)(
        **settings.kafka(),
        group_id=worker.name,
        client_id=worker.name,
        group_instance_id=None if settings.instance is None else f"{worker.name}-{settings.instance}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=10_000,
        heartbeat_interval_ms=3_000,
        max_poll_interval_ms=300_000,
        max_partition_fetch_bytes=FETCH_BYTES,
        partition_assignment_strategy=(RangePartitionAssignor,),
        check_crcs=True,
    )


class Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """Tells the loop of partitions that go and come."""

    def __init__(self, revoked: Callable[[], Any], assigned: Callable[[Sequence[TopicPartition]], Any]) -> None:
        self._revoked = revoked
        self._assigned = assigned

    async def on_partitions_revoked(self, revoked: object) -> None:
        """Wait for the running batch."""
        await self._revoked()

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Go to where the books are."""
        await self._assigned(sorted(assigned))


def to_batch(worker: AnyWorker, records: Mapping[TopicPartition, Sequence[Any]]) -> Batch:
    """Decode what getmany returned; what cannot be read is set aside with its reason."""
    batch = Batch(taken=monotonic())
    for at in sorted(records):
        taken = records[at]
        if not taken:
            continue
        first, last = taken[0].offset, taken[-1].offset
        batch.moves.append(Move(at.topic, at.partition, first, last + 1, last + 1 - first - len(taken)))
        for record in taken:
            _decode_into(batch, worker, record)
    return batch


def _decode_into(batch: Batch, worker: AnyWorker, record: Any) -> None:
    at, broker_at = (record.topic, record.partition, record.offset), from_epoch_ms(record.timestamp)
    try:
        found = decode(worker.topics[record.topic], record, worker.handles)
    except Malformed as error:
        arrived = Arrived(None, at[1], broker_at, topic=at[0], offset=at[2], record=record)
        batch.unreadable.append(Aside("dead_letter", arrived, str(error)))
        return
    batch.arrived.append(Arrived(found.event, at[1], broker_at, at[0], at[2], found.event_key, found.digest, record))


def check_positions(
    positions: Mapping[tuple[str, int], int], beginnings: Mapping[tuple[str, int], int], ends: Mapping[Any, int]
) -> None:
    """Raise InvariantBroken when the broker lost what the books have read, or removed what they have not."""
    for at, offset in positions.items():
        if offset > ends[at]:
            raise InvariantBroken(f"{at[0]}/{at[1]} ends at {ends[at]} but {offset} was read: records were lost")
        if offset < beginnings[at]:
            raise InvariantBroken(f"{at[0]}/{at[1]} begins at {beginnings[at]}, {offset} was never read")
