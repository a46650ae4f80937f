"""How the observer reads: seldom, and together what all topics tell of the same accounts.

Who only looks on takes nothing from who gives credit back: a burst is read when it is over. A repayment of which eight
topics tell is then read and written once or twice, and not once a topic.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from typing_extensions import override

from services.runtime.clock import monotonic

REST_SECONDS: Final = (0.5, 3.0)
"""From the begin of a turn to that of the next, at least and at most: what waits longer is read on without a rest."""
RECORD_SECONDS: Final = 0.05
"""In between, so long for each record of the turn."""
BURST_PER_SECOND: Final = 2_000
"""Records of all topics, of which eight tell of a repayment: while so many come it rests on."""
BURST_SECONDS: Final = 10.0
"""From the begin of a turn to that of the next, also in a burst: what is shown is later by no more than that."""
LOOK_SECONDS: Final = 0.5
"""From one look at how the topics grow to the next."""
ASKED_SECONDS: Final = 5.0
"""Kafka is not waited for any longer: after a broker's restart its client may wait for ever."""
ANSWER_BYTES: Final = 1_000_000
"""Of one answer of the brokers: it is all in memory, and there are two hundred partitions."""
MOST: Final = 1_000
"""Records at once where nobody says otherwise."""
Records = Mapping[TopicPartition, Sequence[Any]]


class Gathering(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka is untyped
    """Reads in turns, each up to the ends that its partitions had when it began; between turns it fetches nothing.

    Of what the brokers brought it gives one partition number after the other: an account has the same in every topic.
    """

    def __init__(self, *topics: str, **options: Any) -> None:
        super().__init__(*topics, **{**options, "fetch_max_bytes": ANSWER_BYTES})
        self._numbers: deque[int] = deque()
        self._ends: Mapping[TopicPartition, int] = {}
        self._reads = False
        self._taken = 0
        self._seen: tuple[float, Mapping[TopicPartition, int]] = (0.0, {})
        self._began_at = self._next_at = self._latest_at = 0.0

    @override
    async def getmany(self, *_: TopicPartition, timeout_ms: int = 0, max_records: int | None = None) -> Records:
        """Return records of some partition numbers, ``max_records`` at most; nothing while it rests."""
        if not self._reads and (left := await self._left()) > 0:
            await asyncio.sleep(min(left, timeout_ms / 1000))
            return {}
        found = {} if self._numbers else dict(await self._next(timeout_ms))
        room = (max_records or MOST) - len(found)
        while self._numbers and room > 0:
            of = [at for at in self.assignment() if at.partition == self._numbers[0]]
            more: Records = await super().getmany(*of, timeout_ms=0, max_records=room) if of else {}
            room -= (size := sum(map(len, more.values())))
            for at, records in more.items():
                found[at] = [*found.get(at, ()), *records]
            if room > 0 or not size:
                self._numbers.popleft()
        self._taken += sum(map(len, found.values()))
        if self._reads and not self._numbers and not await self._behind():
            self._rest()
        return found

    async def _next(self, timeout_ms: int) -> Records:
        """Wait for what the brokers bring, and give the first record of it; that begins a turn."""
        self.resume(*self.paused())
        found: Records = await super().getmany(timeout_ms=timeout_ms, max_records=1)
        if found:
            first, numbers = {at.partition for at in found}, {at.partition for at in self.assignment()}
            self._numbers.extend(sorted(numbers, key=lambda number: (number not in first, number)))
        if found and not self._reads:
            self._reads, self._began_at = True, monotonic()
            self._ends = await self._grown()
            self._seen = self._began_at, self._ends
        return found

    async def _left(self) -> float:
        """Return the seconds of rest that are left, in a burst those to the next look at it."""
        now = monotonic()
        if self._next_at <= now < self._latest_at:
            bursts = await self._bursts(now)
            self._next_at = min(now + LOOK_SECONDS, self._latest_at) if bursts else now
            self._latest_at = self._latest_at if bursts else now
        return self._next_at - now

    async def _bursts(self, now: float) -> bool:
        """Tell whether more came since it looked last than in a burst."""
        (since, before), ends = self._seen, await self._grown()
        self._seen = now, ends
        return sum(end - before.get(at, end) for at, end in ends.items()) > BURST_PER_SECOND * (now - since)

    async def _grown(self) -> Mapping[TopicPartition, int]:
        """Return where its partitions end, nothing when Kafka does not say: the next turn asks again."""
        with suppress(KafkaError, TimeoutError):
            async with asyncio.timeout(ASKED_SECONDS):
                ends: Mapping[TopicPartition, int] = await self.end_offsets(self.assignment())
                return ends
        return {}

    async def _behind(self) -> bool:
        """Tell whether this turn is still before an end."""
        mine = self.assignment()
        with suppress(KafkaError, TimeoutError):  # a partition that was taken away meanwhile has no position
            async with asyncio.timeout(ASKED_SECONDS):
                return any([await self.position(at) < end for at, end in self._ends.items() if at in mine])
        return True

    def _rest(self) -> None:
        """End the turn; what is fetched already is given in the next."""
        least, longest = REST_SECONDS
        self._next_at = self._began_at + min(longest, max(least, self._taken * RECORD_SECONDS))
        self._latest_at = self._began_at + BURST_SECONDS
        self._reads, self._ends, self._taken = False, {}, 0
        self.pause(*self.assignment())
