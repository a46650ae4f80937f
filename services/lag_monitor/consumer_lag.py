"""How far behind a consumer group is, in messages and in seconds: read, never estimated (lag 5).

The committed offset is read first and the log's end after it, so no lag is negative. Seconds are the age of the very
record that is next: not of the last one, not of a rate. A partition without a committed offset has no lag at all, and
is counted as such. A group's offset in Kafka is a hint of ours, behind the books by one batch at most.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from services.metrics.catalogue import CONSUMER_LAG, CONSUMER_LAG_SECONDS, UNCOMMITTED
from services.runtime.clock import from_epoch_ms, monotonic, utc_now
from services.runtime.settings import Settings

REQUEST_MS: Final = 10_000
READ_SECONDS: Final = 5.0
POLL_MS: Final = 200
RECORD_BYTES: Final = 4_096
"""Of each partition no more is fetched than its next record, which comes whole however long it is."""


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """One group's lag on one partition; ``seconds`` is None when the next record could not be read in time."""

    group: str
    topic: str
    partition: int
    messages: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Lags:
    """All lags, and by (group, topic) how many partitions have no committed offset."""

    partitions: tuple[PartitionLag, ...]
    uncommitted: Mapping[tuple[str, str], int]


def reader_of(settings: Settings) -> AIOKafkaConsumer:
    """Return a consumer of no group, that commits nothing and is told by hand where to read."""
    return AIOKafkaConsumer(
        **settings.kafka(),
        client_id="lag-monitor-reader",
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        request_timeout_ms=REQUEST_MS,
        fetch_max_wait_ms=POLL_MS,
        max_partition_fetch_bytes=RECORD_BYTES,
    )


def admin_of(settings: Settings) -> AIOKafkaAdminClient:
    """Return a client that asks for groups' offsets."""
    return AIOKafkaAdminClient(
        **settings.kafka(),
        client_id="lag-monitor-offsets",
        request_timeout_ms=REQUEST_MS,
    )


async def measure(admin: Any, reader: Any, read: Mapping[str, Sequence[TopicPartition]]) -> Lags:
    """Return the lag of each group on the partitions it reads."""
    found: list[PartitionLag] = []
    uncommitted: Counter[tuple[str, str]] = Counter()
    for group, partitions in read.items():
        committed = await _committed(admin, group)
        uncommitted.update({(group, at.topic): 0 for at in partitions})
        uncommitted.update((group, at.topic) for at in partitions if at not in committed)
        found += await _behind(reader, group, {at: committed[at] for at in partitions if at in committed})
    return Lags(tuple(found), uncommitted)


def gauges_of(lags: Lags) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return what is exported of lags; of what is not known there is no series."""
    found: dict[tuple[str, tuple[str, ...]], float] = {}
    for lag in lags.partitions:
        at = (lag.group, lag.topic, str(lag.partition))
        found[CONSUMER_LAG.name, at] = float(lag.messages)
        if lag.seconds is not None:
            found[CONSUMER_LAG_SECONDS.name, at] = lag.seconds
    return found | {(UNCOMMITTED.name, at): float(n) for at, n in lags.uncommitted.items()}


async def _committed(admin: Any, group: str) -> dict[TopicPartition, int]:
    offsets = await admin.list_consumer_group_offsets(group)
    return {at: told.offset for at, told in offsets.items() if told.offset >= 0}


async def _behind(reader: Any, group: str, committed: Mapping[TopicPartition, int]) -> list[PartitionLag]:
    """Return the lags of one group: the log's ends and beginnings now, and the next record of what is behind."""
    if not committed:
        return []
    ends = await reader.end_offsets(list(committed))
    begins = await reader.beginning_offsets(list(committed))
    start = {at: max(offset, begins[at]) for at, offset in committed.items()}
    late = {at: offset for at, offset in start.items() if offset < ends[at]}
    nexts = await _next_records(reader, late, ends)
    lags = []
    for at, offset in start.items():
        messages, seconds = max(0, ends[at] - offset), 0.0 if at not in late else None
        if at in nexts:
            first, stamped = nexts[at]
            messages = max(0, ends[at] - first)
            seconds = 0.0 if stamped is None else max(0.0, (utc_now() - stamped).total_seconds())
        lags.append(PartitionLag(group, at.topic, at.partition, messages, seconds))
    return lags


async def _next_records(
    reader: Any, late: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> dict[TopicPartition, tuple[int, datetime | None]]:
    """Read the first record at or after each offset: (its offset, its timestamp), or (end, None) when there is none.

    Compaction and transactions leave offsets without a record: reading past them to the end says that nothing is left.
    """
    found: dict[TopicPartition, tuple[int, datetime | None]] = {}
    if not late:
        return found
    reader.assign(list(late))
    for at, offset in late.items():
        reader.seek(at, offset)
    deadline = monotonic() + READ_SECONDS
    while len(found) < len(late) and monotonic() < deadline:
        waiting = [at for at in late if at not in found]
        for at, records in (await reader.getmany(*waiting, timeout_ms=POLL_MS)).items():
            if records and at not in found:
                found[at] = (records[0].offset, from_epoch_ms(records[0].timestamp))
        for at in waiting:
            if at not in found and await reader.position(at) >= ends[at]:
                found[at] = (ends[at], None)
    return found
