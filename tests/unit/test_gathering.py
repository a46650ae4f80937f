"""The observer's reading: in turns, a rest between them, and what all topics tell of the same accounts together."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError

from services.lag_monitor import gathering
from services.lag_monitor.gathering import (
    BURST_PER_SECOND,
    BURST_SECONDS,
    LOOK_SECONDS,
    RECORD_SECONDS,
    REST_SECONDS,
    Gathering,
)
from services.lag_monitor.worker import WORKER
from services.runtime import reader
from services.runtime.settings import Settings

FEW, MANY = TopicPartition("few", 0), TopicPartition("many", 0)
APART = TopicPartition("few", 1)
MOST = 1_000
LEAST, LONGEST = REST_SECONDS
MANY_RECORDS = round(LONGEST / RECORD_SECONDS)


class Record(NamedTuple):
    """What is asked of one."""

    offset: int
    timestamp: int


def stamped(*stamps: int, first: int = 0) -> list[Record]:
    return [Record(first + n, at) for n, at in enumerate(stamps)]


@dataclass
class Broker:
    """A Kafka of lists that brings so many records of each partition at once, and a clock that stands still."""

    logs: dict[TopicPartition, list[Record]]
    brings: int = 10
    now: float = 1_000.0
    asked: int = 0
    looked: int = 0
    away: bool = False
    silent: bool = False
    growth: float = 0.0
    brought: dict[TopicPartition, list[Record]] = field(default_factory=dict)
    positions: dict[TopicPartition, int] = field(default_factory=dict)
    resting: set[TopicPartition] = field(default_factory=set)
    mine: set[TopicPartition] = field(default_factory=set)

    def answer(self) -> None:
        """Bring what there is of every partition that is not resting."""
        self.asked += 1
        for at in sorted(self.mine - self.resting):
            begin = self.positions.get(at, 0)
            if records := self.logs[at][begin : begin + self.brings]:
                self.brought[at] = records

    async def answers(self) -> None:
        """Say something, or nothing."""
        if self.away:
            raise KafkaConnectionError
        if self.silent:
            await asyncio.Event().wait()

    def given(self, partitions: Sequence[TopicPartition], most: int) -> dict[TopicPartition, list[Record]]:
        found: dict[TopicPartition, list[Record]] = {}
        for at in [at for at in self.brought if at in (partitions or self.brought) and at in self.mine]:
            if most:
                found[at], self.brought[at] = self.brought[at][:most], self.brought[at][most:]
                most -= len(found[at])
                self.positions[at] = found[at][-1].offset + 1
                if not self.brought[at]:
                    del self.brought[at]
        return found


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    known = Broker({FEW: [], MANY: [], APART: []})
    known.mine = set(known.logs)

    async def getmany(_: Any, *partitions: TopicPartition, timeout_ms: int, max_records: int) -> Any:
        if timeout_ms and not known.brought:
            known.answer()
        return known.given(partitions, max_records)

    async def sleep(seconds: float) -> None:
        known.now += seconds
        known.logs[MANY] += stamped(*range(round(seconds * known.growth)), first=len(known.logs[MANY]))

    async def end_offsets(_: Any, partitions: set[TopicPartition]) -> dict[TopicPartition, int]:
        known.looked += 1
        await known.answers()
        return {at: len(known.logs[at]) for at in partitions}

    async def position(_: Any, at: TopicPartition) -> int:
        await known.answers()
        return known.positions.get(at, 0)

    def seek(_: Any, at: TopicPartition, offset: int) -> None:
        known.positions[at] = offset
        known.brought.pop(at, None)

    told = {
        "__init__": lambda self, *_, **__: None,
        "__del__": lambda self: None,
        "getmany": getmany,
        "seek": seek,
        "assignment": lambda self: known.mine,
        "end_offsets": end_offsets,
        "position": position,
        "paused": lambda self: known.resting,
        "pause": lambda self, *at: known.resting.update(at),
        "resume": lambda self, *at: known.resting.difference_update(at),
    }
    for name, does in told.items():
        monkeypatch.setattr(AIOKafkaConsumer, name, does)
    monkeypatch.setattr(gathering, "monotonic", lambda: known.now)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    return known


async def read(consumer: Gathering, most: int = MOST) -> dict[TopicPartition, list[int]]:
    """Return the offsets of what is given next."""
    found = await consumer.getmany(timeout_ms=500, max_records=most)
    return {at: [record.offset for record in records] for at, records in found.items()}


async def test_after_a_turn_nothing_is_asked_for_until_the_rest_is_over(broker: Broker) -> None:
    broker.logs[FEW], broker.brings = stamped(*range(MANY_RECORDS)), MANY_RECORDS
    consumer, began = Gathering(), broker.now
    assert sum(map(len, (await read(consumer)).values())) == MANY_RECORDS
    broker.logs[FEW] += stamped(*range(1_000), first=MANY_RECORDS)
    while broker.now < began + LONGEST:
        assert await read(consumer) == {}
    assert broker.asked == 1
    assert broker.now == began + LONGEST
    assert (await read(consumer))[FEW][0] == MANY_RECORDS


async def test_a_few_records_cost_a_moment_of_rest(broker: Broker) -> None:
    broker.logs[FEW], broker.brings = stamped(*range(30)), 30
    consumer, began = Gathering(), broker.now
    assert await read(consumer) == {FEW: [*range(30)]}
    broker.logs[FEW] += stamped(31, first=30)
    assert [await read(consumer) for _ in range(3)] == [{}, {}, {}]
    assert broker.now == pytest.approx(began + 30 * RECORD_SECONDS)
    assert await read(consumer) == {FEW: [30]}
    assert await read(consumer) == {}
    assert broker.now == pytest.approx(began + 30 * RECORD_SECONDS + LEAST)


async def test_nothing_is_not_rested_from(broker: Broker) -> None:
    consumer, began = Gathering(), broker.now
    assert [await read(consumer) for _ in range(3)] == [{}, {}, {}]
    assert (broker.now, broker.asked) == (began, 3)
    assert not broker.resting


async def test_a_turn_goes_on_to_the_ends_as_it_found_them_and_no_further(broker: Broker) -> None:
    broker.logs[FEW] = stamped(*range(25))
    consumer = Gathering()
    assert await read(consumer) == {FEW: [*range(10)]}
    broker.logs[FEW] += stamped(*range(25, 100), first=25)
    assert await read(consumer) == {FEW: [*range(10, 20)]}
    assert await read(consumer) == {FEW: [*range(20, 30)]}, "what was at the end is in it"
    assert await read(consumer) == {}
    assert broker.asked == 3


async def test_a_turn_that_took_longer_than_a_rest_is_followed_by_the_next(broker: Broker) -> None:
    broker.logs[FEW] = stamped(*range(MANY_RECORDS + 10))
    broker.brings = MANY_RECORDS
    consumer = Gathering()
    await read(consumer)
    broker.now += LONGEST + 1
    assert await read(consumer) == {FEW: [*range(MANY_RECORDS, MANY_RECORDS + 10)]}
    broker.logs[FEW] += stamped(1_000, first=MANY_RECORDS + 10)
    assert await read(consumer) == {FEW: [MANY_RECORDS + 10]}


async def test_what_all_topics_tell_of_the_same_accounts_comes_together(broker: Broker) -> None:
    for at in (FEW, APART, MANY):
        broker.logs[at] = stamped(*range(10))
    consumer = Gathering()
    assert await read(consumer, 20) == {FEW: [*range(10)], MANY: [*range(10)]}
    assert await read(consumer, 20) == {APART: [*range(10)]}
    assert (broker.asked, broker.resting) == (1, broker.mine)


async def test_no_more_than_asked_for_is_given_and_the_rest_comes_next(broker: Broker) -> None:
    for at in broker.logs:
        broker.logs[at] = stamped(*range(10))
    consumer = Gathering()
    given = [await read(consumer, 8) for _ in range(4)]
    assert [sum(map(len, each.values())) for each in given] == [8, 8, 8, 6]
    for at in broker.logs:
        assert [offset for each in given for offset in each.get(at, [])] == [*range(10)]
    assert await read(consumer) == {}


async def test_a_turn_that_is_behind_goes_on_when_an_answer_is_just_as_long_as_a_batch(broker: Broker) -> None:
    broker.logs[FEW] = stamped(*range(25))
    consumer, began = Gathering(), broker.now
    given = [found[FEW] for _ in range(8) if (found := await read(consumer, 10))]
    assert [offset for each in given for offset in each] == [*range(25)]
    assert broker.now - began < LONGEST
    assert broker.asked == 3


async def test_what_reading_goes_elsewhere_from_is_not_waited_for(broker: Broker) -> None:
    broker.logs[FEW], broker.logs[MANY] = stamped(*range(50)), stamped(*range(10))
    consumer, began = Gathering(), broker.now
    assert await read(consumer) == {FEW: [*range(10)], MANY: [*range(10)]}
    consumer.seek(FEW, 45)
    assert await read(consumer) == {FEW: [45, 46, 47, 48, 49]}
    assert await read(consumer) == {}
    assert broker.now > began


async def test_a_partition_that_another_process_reads_now_holds_no_turn_open(broker: Broker) -> None:
    broker.logs[FEW], broker.logs[MANY] = stamped(*range(50)), stamped(*range(20))
    consumer = Gathering()
    assert await read(consumer) == {FEW: [*range(10)], MANY: [*range(10)]}
    broker.mine = {MANY}
    assert await read(consumer) == {MANY: [*range(10, 20)]}
    broker.logs[MANY] += stamped(20, first=20)
    assert await read(consumer) == {}
    assert broker.resting == {MANY}


async def test_a_partition_that_an_answer_left_out_holds_the_turn_open(broker: Broker) -> None:
    """A batch of more than is asked for of a partition comes alone: brokers bring such of one partition at once."""
    broker.logs[FEW], broker.logs[APART] = stamped(*range(10)), stamped(*range(10))
    consumer, began = Gathering(), broker.now
    broker.resting = {APART}
    broker.answer()
    assert await read(consumer) == {FEW: [*range(10)]}
    assert await read(consumer) == {APART: [*range(10)]}
    assert broker.now == began


async def test_a_broker_that_does_not_say_where_its_ends_are_costs_a_rest(broker: Broker) -> None:
    broker.logs[FEW], broker.away = stamped(*range(20)), True
    consumer = Gathering()
    assert await read(consumer) == {FEW: [*range(10)]}
    assert await read(consumer) == {}
    assert await read(consumer) == {FEW: [*range(10, 20)]}


async def rested(broker: Broker, consumer: Gathering) -> dict[TopicPartition, list[int]]:
    """Return what is read after a rest."""
    while not (found := await read(consumer)):
        pass
    return found


async def test_a_burst_is_read_when_it_is_over(broker: Broker) -> None:
    broker.logs[FEW], broker.brings = stamped(*range(MANY_RECORDS)), 1_000_000
    consumer, began = Gathering(), broker.now
    await read(consumer)
    broker.growth = 2 * BURST_PER_SECOND
    while broker.now < began + LONGEST + 2:
        assert await read(consumer) == {}
    broker.growth = 0.0
    over, written = broker.now, len(broker.logs[MANY])
    assert (await rested(broker, consumer))[MANY] == [*range(written)][:MOST]
    assert broker.now <= over + 2 * LOOK_SECONDS < began + BURST_SECONDS


async def test_a_burst_that_lasts_makes_nothing_later_than_it_may_be(broker: Broker) -> None:
    broker.logs[FEW], broker.brings = stamped(*range(30)), 1_000
    consumer, began = Gathering(), broker.now
    await read(consumer)
    broker.growth = 2 * BURST_PER_SECOND
    assert await rested(broker, consumer)
    assert broker.now == pytest.approx(began + BURST_SECONDS)


async def test_what_comes_steadily_is_no_burst(broker: Broker) -> None:
    broker.logs[FEW], broker.brings = stamped(*range(MANY_RECORDS)), 1_000_000
    consumer, began = Gathering(), broker.now
    await read(consumer)
    broker.growth = BURST_PER_SECOND
    assert await rested(broker, consumer)
    assert broker.now == pytest.approx(began + LONGEST)


async def test_where_nothing_comes_it_is_looked_once_and_what_comes_then_is_read_at_once(broker: Broker) -> None:
    broker.logs[FEW] = stamped(*range(10))
    consumer = Gathering()
    await read(consumer)
    await asyncio.sleep(LEAST)
    assert [await read(consumer) for _ in range(3)] == [{}, {}, {}]
    assert broker.looked == 2, "where the turn began, and after it"
    broker.growth = 2 * BURST_PER_SECOND
    await asyncio.sleep(LOOK_SECONDS)
    assert await read(consumer)


@pytest.mark.parametrize("silent", [True, False])
async def test_a_broker_that_says_nothing_of_its_ends_makes_nothing_later(
    broker: Broker, silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "ASKED_SECONDS", 0.01)
    broker.logs[FEW] = stamped(*range(20))
    broker.silent, broker.away = silent, not silent
    consumer, began = Gathering(), broker.now
    broker.growth = 2 * BURST_PER_SECOND
    assert (await read(consumer))[FEW] == [*range(10)]
    assert (await rested(broker, consumer))[FEW] == [*range(10, 20)]
    assert broker.now <= began + LONGEST


async def test_a_position_that_is_not_told_is_not_waited_for(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "ASKED_SECONDS", 0.01)
    broker.logs[FEW] = stamped(*range(30))
    consumer = Gathering()
    assert await read(consumer) == {FEW: [*range(10)]}
    broker.silent = True
    assert await read(consumer) == {FEW: [*range(10, 20)]}
    broker.silent = False
    assert await read(consumer) == {FEW: [*range(20, 30)]}
    assert await read(consumer) == {}


def test_the_observer_reads_so_and_whoever_moves_money_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: dict[str, Any] = {}
    monkeypatch.setattr(AIOKafkaConsumer, "__init__", lambda self, *_, **given: taken.update(given))
    monkeypatch.setattr(AIOKafkaConsumer, "__del__", lambda self: None)
    assert isinstance(reader.consumer_of(Settings(), WORKER), Gathering)
    assert taken["enable_auto_commit"] is False
