"""The broker comes back without its last records: whoever read them stops until the books are told where it is now."""

import asyncio
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
from aiokafka import TopicPartition
from typing_extensions import override

from services.cli.workers import WORKERS
from services.repayment_ingest.worker import WORKER as INGEST
from tests.simulation.kafka import Consumer, Record
from tests.simulation.losses import LOST, republish
from tests.simulation.script import STEP_SECONDS, Played, Recorded, append, books
from tests.simulation.world import BASE, World

SECONDS = 6.0


@cache
def recorded(seed: int) -> Recorded:
    story = Recorded(seed)
    story.played()
    return story


class TailLost(Played):
    """At rest every log loses its last ``most`` records; ``otb republish`` and billing say again what was in them."""

    def __init__(self, of: Recorded, most: int) -> None:
        super().__init__(of)
        self.most = most
        self.stopped: set[str] = set()
        self.behind: set[str] = set()

    @override
    def wrong(self, told: str) -> None:
        if LOST in told:
            self.stopped.add(told.split("/")[0])
        else:
            super().wrong(told)

    @override
    async def rest(self) -> None:
        await super().rest()
        lost = self.lose()
        read = self.progress()
        await asyncio.sleep(SECONDS)
        assert self.progress() == read, "nobody starts elsewhere by itself"
        await self.recover(lost)
        await asyncio.sleep(STEP_SECONDS)
        await super().rest()

    async def recover(self, lost: list[Record]) -> None:
        """Do what the runbook says."""
        republish(self, BASE)
        self.tell_again(lost)

    def lose(self) -> list[Record]:
        """Cut the logs, and have every group find out; return what of billing's is gone."""
        lost = []
        for (topic, partition), log in self.broker.logs.items():
            cut = max(0, len(log) - self.most)
            self.behind |= {worker.name for worker in WORKERS if topic in worker.topics and log[cut:]}
            lost += log[cut:] if topic.startswith("billing.") else []
            del self.broker.logs[topic, partition][cut:]
        for group in self.broker.groups.values():
            group._begin()
        return lost

    def progress(self) -> dict[str, Any]:
        return {package: dict(own.progress.rows) for package, own in self.database.services.items()}

    def tell_again(self, lost: list[Record]) -> None:
        """Let billing send again what its broker lost."""
        values = {record.value for record in lost}
        for told in self.script:
            if told.value in values:
                append(self, told)


@pytest.mark.parametrize(("seed", "most"), [(0, 1), (1, 2), (2, 3), (3, 5)])
def test_a_lost_tail_stops_its_readers_and_what_was_in_it_is_told_again(seed: int, most: int) -> None:
    story = TailLost(recorded(seed), most)
    story.played()
    assert story.stopped == story.behind >= {"settlement", "limit-release"}
    assert books(story) == books(recorded(seed))


class ToldWhileOneStarts(TailLost):
    """All of it is done after a worker that starts has read the books, and before Kafka says where it ends."""

    @override
    async def recover(self, lost: list[Record]) -> None:
        done = self.loop.create_future()
        asked = Consumer.end_offsets

        async def meanwhile(consumer: Consumer, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
            if consumer.process.worker.name == INGEST.name and not done.done():
                republish(self, BASE)
                self.tell_again(lost)
                done.set_result(None)
            return await asked(consumer, partitions)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Consumer, "end_offsets", meanwhile)
            await done


@pytest.mark.parametrize(("seed", "most"), [(0, 1), (1, 2), (2, 3), (3, 5)])
def test_who_starts_while_its_books_are_moved_reads_from_where_they_are_now(seed: int, most: int) -> None:
    story = ToldWhileOneStarts(recorded(seed), most)
    story.played()
    assert "repayment-ingest" in story.behind
    assert books(story) == books(recorded(seed))


class Stormy(World):
    """The broker may lose its tail at any moment, while everybody works."""

    @override
    def _weather(self) -> None:
        super()._weather()
        if self.chance.random() < 0.07:
            self.tail.lose()


# Of the first five an event was told, lost or written where its reader had been, and closed by an acknowledgement from
# before. Then risk-scoring read a return before its repayment, twice, and limit-release one before a replay.
@pytest.mark.parametrize("seed", [20063, 20107, 20266, 20317, 20375, 20089, 20467, 20654])
def test_what_a_tail_takes_while_everybody_works_is_told_again(seed: int) -> None:
    world = Stormy(seed, off=frozenset({"lost_tail"}))
    assert world.run().wrong == ""
    assert world.situations["lost_tail"]
