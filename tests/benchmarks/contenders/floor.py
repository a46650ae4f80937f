"""The floor: five bare hops with our consumer and producer settings, no database, no logic, the same bytes on."""

import asyncio
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import uvloop
from aiokafka import TopicPartition

from schemas.ids import repayment_id
from services.cli.system import System
from services.cli.workers import WORKERS
from services.runtime.clock import monotonic
from services.runtime.publisher import producer_of
from services.runtime.reader import consumer_of
from services.runtime.settings import Settings, load_settings
from tests.benchmarks.bed import make_topics
from tests.benchmarks.contenders import Contender
from tests.benchmarks.contenders.programs import start_programs

HOPS: Final = len(WORKERS)
STAGES: Final = tuple(f"floor-{number}" for number in range(HOPS))
TOPICS: Final = tuple(f"benchmark.floor.{number}" for number in range(HOPS + 1))
IDLE_MS: Final = 500
COMMIT_SECONDS: Final = 1.0


class Hop:
    """Forwards one topic to the next, a batch at a time."""

    def __init__(self, settings: Settings, number: int) -> None:
        worker = replace(WORKERS[number], name=STAGES[number])
        self._batch_max = settings.batch_max
        self._target = TOPICS[number + 1]
        self._consumer: Any = consumer_of(settings, worker)
        self._consumer.subscribe([TOPICS[number]])
        self._producer: Any = producer_of(settings, worker.name)
        self._sent: list[Any] = []
        self._offsets: dict[TopicPartition, int] = {}
        self._commit_at = 0.0

    async def run(self, stopped: asyncio.Event) -> None:
        """Forward until told to stop; then wait for Kafka, commit and leave."""
        await self._producer.start()
        await self._consumer.start()
        try:
            while not stopped.is_set():
                records = await self._consumer.getmany(timeout_ms=IDLE_MS, max_records=self._batch_max)
                await self._forward(records)
                if monotonic() > self._commit_at:
                    await self._commit()
            await self._acknowledged()
            await self._commit()
        finally:
            await self._consumer.stop()
            await self._producer.stop()

    async def _forward(self, records: Mapping[TopicPartition, Sequence[Any]]) -> None:
        """Send a batch once the one before is acknowledged."""
        await self._acknowledged()
        for at, batch in records.items():
            for record in batch:
                self._sent.append(
                    await self._producer.send(
                        self._target, value=record.value, key=record.key, headers=list(record.headers)
                    )
                )
            self._offsets[at] = batch[-1].offset + 1

    async def _acknowledged(self) -> None:
        sent, self._sent = self._sent, []
        await asyncio.gather(*sent)

    async def _commit(self) -> None:
        self._commit_at = monotonic() + COMMIT_SECONDS
        offsets, self._offsets = self._offsets, {}
        if offsets:
            await self._consumer.commit(offsets)


def _reported(record: Any) -> str:
    report = json.loads(record.value)
    return repayment_id(report["source"], report["external_ref"])


async def _prepare(system: System) -> None:
    await make_topics(system.settings, TOPICS)


async def _start(system: System) -> None:
    await start_programs(system, __name__, STAGES)


FLOOR: Final = Contender(
    name="floor",
    stages=STAGES,
    inlet=TOPICS[0],
    outlet=TOPICS[-1],
    identify=_reported,
    prepare=_prepare,
    start=_start,
)


async def _main(number: int) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await Hop(load_settings(), number).run(stopped)


if __name__ == "__main__":
    uvloop.run(_main(int(sys.argv[1])))
