"""A story billing tells is written down once and told again in another way: its books must say the same."""

import asyncio
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Any

from typing_extensions import override

from schemas.event import BillingEvent, Event
from schemas.topics import TOPIC_OF
from services.cli.workers import WORKERS
from services.runtime.codec import encode
from services.runtime.publisher import partition_of
from tests.simulation import checks
from tests.simulation.billing import LIVES, Billing, Customer
from tests.simulation.kafka import Broker, Record
from tests.simulation.world import Result, Violation, World

STEP_SECONDS = 2.0
"""Between what is told: long enough for the pipeline to have done with it."""
CUSTOMERS = 3
RESTS = 400
Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True)
class Told:
    """One record of billing's, or time that passes all at once; ``at`` in seconds from the beginning."""

    at: float
    account_id: str = ""
    topic: str = ""
    value: bytes = b""
    headers: Headers = ()
    passes: timedelta = timedelta()


class Quiet(World):
    """A world without faults, that runs on its own loop until it rests."""

    def __init__(self, seed: int, partitions: int = 1) -> None:
        super().__init__(seed)
        self.faulty, self.another_partitioner, self.distance = False, False, 1
        self.batch_max = 250
        self.broker = Broker(self, partitions)
        self.living = True

    def played(self) -> "Quiet":
        """Live, and raise what went wrong."""
        result: Result = self.run()
        if result.wrong:
            raise Violation(result.wrong)
        return self

    @override
    async def _life(self) -> None:
        for worker in WORKERS:
            self.start(worker)
        await asyncio.sleep(STEP_SECONDS)
        await self.tell_all()
        await self.rest()
        checks.at_rest(self)

    async def tell_all(self) -> None:
        raise NotImplementedError

    async def rest(self) -> None:
        """Let everything come to its end, each thing at its own time."""
        self.living = False
        for _ in range(RESTS):
            await asyncio.sleep(0.4)
            if self.why:
                raise Violation(self.why)
            if checks.unsettled(self):
                continue
            due = checks.next_due(self)
            if due is None:
                return
            self.jump(max(timedelta(), due - self.now()))
        raise Violation(f"did not come to rest: {checks.unsettled(self)}")


class Plain(Billing):
    """Billing that says everything once, in order, on the right partition; nothing before its world lives."""

    world: "Recorded"

    @override
    def say(self, event: Event) -> None:
        if not self.world.script_open:
            return
        topic = TOPIC_OF[type(event)].name
        headers = self._headers(event) if isinstance(event, BillingEvent) else encode(event).headers()
        value = event.model_dump_json().encode()
        self.world.tell_one(Told(self.world.loop.seconds, event.account_id, topic, value, headers))


class Recorded(Quiet):
    """A few lives, and the script of what was told of them."""

    def __init__(self, seed: int) -> None:
        self.script: list[Told] = []
        self.script_open = False
        super().__init__(seed)
        self.billing = Plain(self)

    def tell_one(self, told: Told) -> None:
        self.script.append(told)
        append(self, told)

    @override
    def jump(self, by: timedelta) -> None:
        if self.living:
            self.script.append(Told(self.loop.seconds, passes=by))
        super().jump(by)

    @override
    async def tell_all(self) -> None:
        self.script_open = True
        billing = self.billing
        billing.customers = [billing._customer(n) for n in range(CUSTOMERS)]
        lives = [self._life_of(customer) for customer in billing.customers]
        for customer in billing.customers:
            billing._open(customer)
        while lives:
            await asyncio.sleep(STEP_SECONDS)
            lives = [life for life in lives if next(life, None) is not None]
        await asyncio.sleep(STEP_SECONDS)
        billing.finish()
        await asyncio.sleep(STEP_SECONDS)

    def _life_of(self, customer: Customer) -> Iterator[float]:
        return self.chance.choice(LIVES)(self.billing, customer)


class Played(Quiet):
    """The script of another world, told again."""

    def __init__(self, of: Recorded, script: Iterable[Told] | None = None, *, partitions: int = 1) -> None:
        super().__init__(of.seed, partitions)
        self.script = list(of.script if script is None else script)
        self.billing = of.billing

    @override
    async def tell_all(self) -> None:
        for told in self.script:
            await asyncio.sleep(max(0.0, told.at - self.loop.seconds))
            if told.passes:
                self.jump(told.passes)
            else:
                append(self, told)
        await asyncio.sleep(STEP_SECONDS)


class ToldTwice(Played):
    """When all is at rest every topic is written again, whole, under new offsets."""

    @override
    async def rest(self) -> None:
        await super().rest()
        for (topic, partition), log in list(self.broker.logs.items()):
            for record in list(log):
                self._again(topic, partition, record)
        await super().rest()

    def _again(self, topic: str, partition: int, record: Record) -> None:
        self.broker.append(topic, partition, record.key, record.value, record.headers)


def append(world: World, told: Told) -> None:
    """Write a record where billing's partitioner puts it."""
    partition = partition_of(told.account_id, world.broker.partitions)
    world.broker.append(told.topic, partition, told.account_id.encode(), told.value, told.headers)


def permuted(script: Sequence[Told]) -> list[Told]:
    """Return the script with its accounts in the other order, wherever they speak at the same instant."""
    found: list[Told] = []
    for _, together in groupby(script, key=lambda told: (told.at, bool(told.passes))):
        found += sorted(together, key=lambda told: told.account_id, reverse=True)
    return found


# What is said of money, dates and reasons, without the instants at which our own processes came to say it.

OURS = frozenset({"progress", "publication", "set_aside", "timers", "inbox"})
VOLATILE = frozenset({"version", "trail", "waits", "publication_id", "n", "traceparent", "shard", "inputs_digest"})
KEPT = frozenset({"repaid_at", "caused_by", "returned_by"})
BETWEEN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:(?!00Z).+Z")
TO_THE_SECOND = re.compile(r"\d\d:\d\d:\d\d")
"""How a message says an instant of our own clock."""
JSON = frozenset({"payload", "record", "books", "latest", "content", "hold"})


def books(world: World) -> dict[str, list[str]]:
    """Return the books of every service, row by row, in an order of their own."""
    return {
        f"{service}.{name}": sorted(json.dumps(_plain(row), sort_keys=True, default=str) for row in table.all())
        for service, own in sorted(world.database.services.items())
        for name, table in sorted(own.tables.items())
        if name not in OURS
    }


def _plain(value: Any, key: str = "") -> Any:
    if isinstance(value, bytes | str) and key in JSON:
        value = json.loads(value)
    if isinstance(value, dict):
        return {name: _plain(each, name) for name, each in value.items() if not _ours(name, each)}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, str) and BETWEEN.fullmatch(value):
        return "ours"
    if key == "text":
        return TO_THE_SECOND.sub("ours", value)
    return str(value) if isinstance(value, datetime | date | bytes) else value


def _ours(name: str, value: Any) -> bool:
    """Tell an instant of our own processes: what a calendar or a person says is on a whole minute."""
    if name == "until":
        return ":00+00:00" not in str(value) and ":00Z" not in str(value)
    return name in VOLATILE or (name not in KEPT and (name.endswith(("_at", "_by")) or isinstance(value, datetime)))
