"""When each repayment came out of a pipeline, and what that says; one rule for every contender.

Out is the broker's LogAppendTime of the record the last stage wrote about the repayment, which is cut to the
millisecond: half of one is added.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition

from services.runtime.clock import from_epoch_ms, monotonic
from services.runtime.settings import Settings
from tests.benchmarks.bed import Stalled

POLL_SECONDS: Final = 0.1
STALLED_SECONDS: Final = 30.0
HALF_A_MILLISECOND: Final = timedelta(microseconds=500)
GROWING: Final = 1.5
Offsets = Mapping[TopicPartition, int]
Identify = Callable[[Any], str | None]
"""Given a record, the repayment it says is done; None when it says something else."""


@dataclass(frozen=True, slots=True)
class Latency:
    """End to end, from the intended instant of sending, in milliseconds; None when saturated."""

    rate: float
    sent: int
    p50: float | None
    p99: float | None
    highest: float | None
    saturated: bool
    left_at_end: int
    sender_late_p99: float


@dataclass(frozen=True, slots=True)
class Drain:
    """How a backlog left: between 10 % and 90 % of the completions, and from release to the last of them."""

    repayments: int
    per_second: float
    per_second_whole: float


class Outlet:
    """The end of a pipeline: counts what was written without reading it, and reads it afterwards."""

    def __init__(self, settings: Settings, topic: str, identify: Identify) -> None:
        self._servers = settings.kafka_bootstrap_servers
        self._partitions = [TopicPartition(topic, n) for n in range(settings.partitions)]
        self._identify = identify
        self._watcher: Any = AIOKafkaConsumer(bootstrap_servers=self._servers, enable_auto_commit=False)

    async def __aenter__(self) -> Self:
        await self._watcher.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._watcher.stop()

    async def ends(self) -> Offsets:
        """Return where each partition ends now."""
        found: Offsets = await self._watcher.end_offsets(self._partitions)
        return found

    async def completions(
        self,
        expected: Sequence[str],
        since: Offsets,
        outputs: int,
        progress: Callable[[float], None] = lambda share: None,
    ) -> dict[str, datetime]:
        """Wait until every expected repayment is out, with all it makes; return when each was."""
        wanted = frozenset(expected)
        needed = len(wanted) * outputs
        while True:
            ends = await self._grown(since, needed, progress)
            found = {at: when for at, when in (await self._read(since, ends)).items() if at in wanted}
            if len(found) == len(wanted):
                return found
            needed = sum(ends.values()) - sum(since.values()) + len(wanted) - len(found)

    async def _grown(self, since: Offsets, needed: int, progress: Callable[[float], None]) -> Offsets:
        """Wait for ``needed`` more records; raise Stalled when nothing moves any more."""
        written, moved_at = 0, monotonic()
        while True:
            ends = await self.ends()
            count = sum(ends.values()) - sum(since.values())
            if count > written:
                written, moved_at = count, monotonic()
                progress(count / needed)
            if count >= needed:
                return ends
            if monotonic() - moved_at > STALLED_SECONDS:
                raise Stalled(f"{count} of {needed} records came out, then nothing for {STALLED_SECONDS:.0f} s")
            await asyncio.sleep(POLL_SECONDS)

    async def _read(self, since: Offsets, ends: Offsets) -> dict[str, datetime]:
        """Return when each repayment was out for the first time; a consumer that lives no longer than this reads."""
        grown = [at for at in self._partitions if ends[at] > since[at]]
        found: dict[str, datetime] = {}
        reader: Any = AIOKafkaConsumer(bootstrap_servers=self._servers, enable_auto_commit=False)
        await reader.start()
        try:
            reader.assign(grown)
            for at in grown:
                reader.seek(at, since[at])
            while any([await reader.position(at) < ends[at] for at in grown]):
                for records in (await reader.getmany(timeout_ms=500, max_records=5_000)).values():
                    _note(found, records, self._identify)
        finally:
            await reader.stop()
        return found


def _note(found: dict[str, datetime], records: Sequence[Any], identify: Identify) -> None:
    for record in records:
        at = identify(record)
        if at is not None:
            when = from_epoch_ms(record.timestamp) + HALF_A_MILLISECOND
            found[at] = min(when, found.get(at, when))


def latency(
    rate: float, intended: Mapping[str, datetime], completed: Mapping[str, datetime], late: Sequence[float]
) -> Latency:
    """Return percentiles, or that the backlog grew: more than a second's worth was left when sending ended.

    It grew when it was also half as much again as at half-time; otherwise it is a steady, long latency.
    """
    begin, end = min(intended.values()), max(intended.values())
    left, left_half = _left(intended, completed, end), _left(intended, completed, begin + (end - begin) / 2)
    saturated = left > rate and left > GROWING * left_half
    took = sorted((completed[at] - when).total_seconds() * 1000 for at, when in intended.items())
    return Latency(
        rate=rate,
        sent=len(intended),
        p50=None if saturated else median(took),
        p99=None if saturated else percentile(took, 99),
        highest=None if saturated else took[-1],
        saturated=saturated,
        left_at_end=left,
        sender_late_p99=percentile(sorted(late), 99) * 1000,
    )


def _left(intended: Mapping[str, datetime], completed: Mapping[str, datetime], at: datetime) -> int:
    """Return how many were sent and not out at an instant."""
    return sum(when <= at < completed[each] for each, when in intended.items())


def drain(completed: Mapping[str, datetime], released_at: datetime) -> Drain:
    """Return how fast a backlog that was released at an instant left."""
    stamps = sorted(completed.values())
    first, last = len(stamps) // 10, len(stamps) * 9 // 10
    window = max(0.001, (stamps[last] - stamps[first]).total_seconds())
    whole = max(0.001, (stamps[-1] - released_at).total_seconds())
    return Drain(len(stamps), (last - first) / window, len(stamps) / whole)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the nearest rank of sorted values."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
