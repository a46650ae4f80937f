"""One seed: five real workers on a simulated Kafka, PostgreSQL, clock and endpoint, under faults and then healed."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from hashlib import blake2b
from random import Random
from typing import Any, cast

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from services.cli.workers import WORKERS
from services.notifier.domain import Attempted, Channels
from services.notifier.gateway import _outcome
from services.notifier.store import CLAIM_MAX, Message, claim
from services.policy import Profile
from services.profiles import credit_score, load_profiles
from services.runtime.consumer import BatchConsumer
from services.runtime.settings import Settings
from services.runtime.worker import AnyWorker, Step
from tests.simulation import checks, ports
from tests.simulation.billing import Billing
from tests.simulation.database import Database
from tests.simulation.kafka import SESSION_SECONDS, Broker, Consumer, Producer, Record
from tests.simulation.loop import Loop, StandsStill, a_round
from tests.simulation.losses import Tail

BASE = datetime(2026, 11, 16, 1, 0, tzinfo=UTC)
RATE = 0.04
"""Of a hundred calls to a port, how many meet a fault."""
FAULTS: dict[str, tuple[str, ...]] = {
    "statement": (
        *("lost_connection",) * 4, *("lost_answer",) * 5, *("deadlock",) * 4, *("timeout",) * 2, *("slow",) * 4,
        *("crash",) * 3, *("crash_after",) * 4, "pause",
    ),
    "commit": ("lost_connection", "lost_answer", "lost_answer", "crash", "crash_after", "crash_after"),
    "connect": ("refused",),
    "start": ("unreachable",),
    "offsets": ("unreachable",),
    "commit_offsets": ("unreachable", "unreachable", "crash", "slow"),
    "poll": ("slow", "slow", "slow", "crash", "crash", "pause"),
    "send": ("send_failed", "send_failed", "ack_lost", "ack_lost", "crash", "slow"),
    "endpoint": ("slow", "crash"),
    "answer": ("crash",),
}  # fmt: skip
CLASSES = tuple(
    sorted(
        {fault for found in FAULTS.values() for fault in found}
        | {"outage", "join", "answer", "clock_back", "offsets_reset", "lost_tail"}
    )
)
ANSWERS = (*(200,) * 14, 503, 503, 500, 429, "late", "late", "late", "late", 404, 410)
STEPS_TO_DRAIN = 220
CLOCKS_DIFFER = timedelta(minutes=4)
"""How far clocks are set back in all: two of them differ by no more than the five minutes that are let pass (I21)."""


class Violation(Exception):
    """What may never happen happened."""


@cache
def settings() -> Settings:
    """Read once: simulated workers ask no environment."""
    return Settings(notify_channels="log,webhook")


@lru_cache(maxsize=1_024)
def settings_of(number: int, batch_max: int) -> Settings:
    return settings().model_copy(update={"instance": str(number), "batch_max": batch_max})


@cache
def profiles() -> Any:
    return replace(load_profiles(settings()), credit=credit_score())


def policy_of(worker: AnyWorker) -> Any:
    """Return what a worker decides by: both channels, or every product's profile."""
    return Channels(("log", "webhook")) if worker.step else profiles()


@dataclass(frozen=True)
class Result:
    """What became of one seed; ``wrong`` is empty when all went well."""

    seed: int
    digest: str
    wrong: str
    situations: frozenset[str]
    faults: int
    steps: int
    story: tuple[str, ...] = ()


class Process:
    """One process of a worker: the product's own loop, which may die or be stopped at any call to a port."""

    def __init__(self, world: "World", worker: AnyWorker, number: int) -> None:
        self.world, self.number = world, number
        self.worker = replace(
            worker,
            policy=lambda _: policy_of(worker),
            step=(lambda _: Step(claim, self.deliver, 20.0, CLAIM_MAX)) if worker.step else None,
        )
        self.name = f"{worker.name}/{number}"
        self.dead = False
        self.extra = False
        self.paused_until = 0.0
        self.tasks: list[asyncio.Task[None]] = []
        self.producers: list[Producer] = []
        self.kafka: Consumer | None = None
        self.money = BatchConsumer(self.worker, settings_of(number, world.batch_max), loop=world.loop)
        self.money.crash = self._crash  # type: ignore[method-assign]
        self.spawn(self._main())

    def spawn(self, work: Awaitable[Any]) -> None:
        task = self.world.loop.create_task(self._guarded(work))
        task.add_done_callback(lambda _: cast(Any, work).close())  # it may have ended before it began
        self.tasks.append(task)
        self.world.tasks.append(task)

    async def _main(self) -> None:
        await self.money.on_start()
        if self.money.step is not None:
            self.spawn(BatchConsumer.perform(self.money))
        await BatchConsumer.consume.fun(self.money)

    async def _guarded(self, work: Awaitable[Any]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  # SystemExit, too, ends this process and not the simulation
            self.failed(error)

    async def _crash(self, reason: BaseException) -> None:
        self.failed(reason)

    def failed(self, error: BaseException) -> None:
        """End because of an error; only the world's errors are good reasons."""
        if self.dead:
            return
        good = isinstance(error, SystemExit | KafkaError | OSError | TimeoutError)
        if not good and not self.world.tail.explains(error):
            self.world.wrong(f"{self.name} stopped: {error!r}")
        self.world.tell(self.name, f"ends: {error!r}")
        self.kill("ended_by_error")

    def kill(self, why: str) -> None:
        """kill -9: nothing more runs, whatever was on its way may still arrive; started again a while later."""
        if self.dead:
            return
        self.dead = True
        self.world.happened(why, self)
        for task in self.tasks:
            task.cancel()
        for connection in [c for c in self.world.database.connections if c.process is self]:
            connection.end()
        for producer in self.producers:
            producer.abandon()
        if self.kafka is not None:
            self.kafka.leave()
        self.world.ended(self)

    async def die(self, why: str) -> None:
        self.kill(why)
        await self.world.loop.create_future()

    async def stop(self) -> None:
        """SIGTERM: finish the batch, leave the group, end."""
        self.world.happened("stopped", self)
        try:
            await self.money.on_stop()
        except TimeoutError:
            self.world.tell(self.name, "is killed: it did not stop in time")
        self.kill("gone")

    async def unpaused(self) -> None:
        """Stand still while stopped by SIGSTOP."""
        if self.paused_until > self.world.loop.seconds:
            await asyncio.sleep(self.paused_until - self.world.loop.seconds)
        if self.dead:
            raise asyncio.CancelledError

    async def port(self, name: str) -> str | None:
        """One call to the world: it takes a moment, may fail, and may be this process's last."""
        world = self.world
        if self.dead or self.paused_until > world.loop.seconds:
            await self.unpaused()
        fault = world.fault(name) if world.faulty and world.chance.random() < world.rate else None
        world.steps += 1
        if fault or world.digesting:
            world.step(self, name, fault)
        if fault in ("crash", "crash_before"):
            await self.die("crash")
        if fault == "slow":
            await asyncio.sleep(0.1 + world.chance.random())
        elif fault == "pause":
            world.pause(self)
            await self.unpaused()
        else:
            await (world.loop.sleep(world.latency()) if world.chance.random() < 0.4 else a_round())
        if self.dead:
            raise asyncio.CancelledError
        return fault

    async def deliver(self, message: Message) -> Attempted:
        """Play the endpoint: it may refuse, ask for patience, or accept and never say so."""
        await self.port("endpoint")
        answer = self.world.answer()
        if answer in (200, "late"):
            self.world.received.append((message.notification_id, message.channel, message.text))
        await self.port("answer")
        if answer == "late":
            self.world.happened("endpoint_accepted_then_timed_out", self)
            return Attempted(message.account_id, message.notification_id, "retry")
        return _outcome(message, int(answer), "7" if answer == 429 else "")


class World:
    """Everything of one seed."""

    def __init__(
        self, seed: int, *, off: frozenset[str] = frozenset(), telling: bool = False, digesting: bool = True
    ) -> None:
        self.seed, self.off, self.telling, self.digesting = seed, off, telling, digesting
        self.chance = Random(seed)  # noqa: S311  # it must be repeatable
        self.loop = Loop()
        self.loop.set_exception_handler(lambda loop, context: None)
        self.jumped = timedelta(hours=self.chance.randint(0, 200))
        self.latest = self._now = BASE
        self._now_at = -1.0
        self.batch_max = self.chance.choice((1, 2, 5, 50, 250))
        self.batch_records = self.chance.choice((1, 3, 100))
        self.faulty = True
        self.rate = RATE * self.chance.choice((0.5, 1, 1, 1.5))
        self.situations: Counter[str] = Counter()
        self.faults = self.steps = 0
        self.story: list[str] = []
        self.told: list[str] = []
        self.received: list[tuple[str, str, str]] = []
        self.why = ""
        self.database = Database(self)
        self.broker = Broker(self, self.chance.choice((1, 2, 3)))
        self.tail = Tail(self)
        self.another_partitioner = self.chance.random() < 0.12
        """Billing keys many records as another client would: two processes meet on one account."""
        self.distance = 60 if self.another_partitioner else self.chance.choice((1, 1, 1, 1, 1, 10))
        self.processes: dict[str, Process] = {}
        self.tasks: list[asyncio.Task[None]] = []
        self.numbers = 0
        self.billing = Billing(self)

    # What the ports see of the world.

    def now(self) -> datetime:
        if self._now_at != self.loop.seconds:
            self._now_at = self.loop.seconds
            self._now = BASE + self.jumped + timedelta(seconds=self._now_at)
        return self._now

    def profile(self, product: str) -> Profile:
        return cast(Profile, profiles().of(product))

    def latency(self) -> float:
        return (0.0002 + 0.004 * self.chance.random() ** 3) * self.distance

    def fault(self, port: str) -> str | None:
        found = self.chance.choice(FAULTS[port])
        if found in self.off:
            return None
        self.faults += 1
        self.situations[found] += 1
        return found

    def answer(self) -> Any:
        if not self.faulty:
            return 200
        found = self.chance.choice(ANSWERS)
        if found == 200 or "answer" in self.off:
            return 200
        self.faults += 1
        return found

    def step(self, process: Process, port: str, fault: str | None) -> None:
        if self.digesting:
            self.told.append(f"{self.loop.seconds:.6f}{process.name}{port}{fault}")
        if fault:
            self.tell(process.name, f"{port}: {fault}")

    def happened(self, what: str, process: Process) -> None:
        self.situations[what] += 1
        self.tell(process.name, what)

    def tell(self, who: str, what: str) -> None:
        if self.telling:
            self.story.append(f"{self.loop.seconds:9.3f}  {self.now():%a %d %b %H:%M:%S}  {who:<20} {what}")

    def wrong(self, told: str) -> None:
        """Remember the first thing that may never happen."""
        self.tell("WRONG", told)
        self.why = self.why or told

    def wrote(self, record: Record) -> None:
        if not (self.digesting or self.telling):
            return
        kind = dict(record.headers).get("ce_type", b"?").decode("latin-1").removeprefix("opentobuy.")
        self.told.append(f"{record.topic}{record.partition}{kind}")
        if self.telling:
            at = f"{record.topic}/{record.partition}/{record.offset}"
            about = (record.value or b"").decode("latin-1")[:400]
            self.tell(at, f"{kind.split('.')[-2]} {about}")

    def committed(self, process: Process, at: TopicPartition, offset: int) -> None:
        """No group tells Kafka more than its books say, or said before Kafka lost it (I12)."""
        row = self.database.services[process.worker.package].progress.get((at.topic, at.partition))
        if row is None or offset > max(row[3], self.tail.ends.get(at, 0)):
            self.wrong(f"offset_not_ahead: {process.name} committed {at} {offset}")

    def assigned(self, process: Process, share: Sequence[TopicPartition]) -> None:
        self.situations["rebalance"] += 1
        self.tell(process.name, f"is assigned {sorted({at.partition for at in share})}")

    def logged(self, level: str, action: str, told: dict[str, Any]) -> None:
        if action == "refused":
            self.situations["zombie_refused"] += 1
        if self.telling:
            self.tell(str(told.pop("service", "")), f"{level} {action} {told}")

    # Processes.

    def start(self, worker: AnyWorker) -> Process:
        self.numbers += 1
        number = self.numbers
        made = self.processes[str(number)] = Process(self, worker, number)
        self.tell(made.name, "starts")
        return made

    def ended(self, process: Process) -> None:
        del self.processes[str(process.number)]
        if not process.extra:
            self.loop.call_later(0.2 + self.chance.random(), lambda: self.start(process.worker))

    def pause(self, process: Process) -> None:
        """SIGSTOP for longer than a session: another one gets its partitions meanwhile."""
        self.happened("paused", process)
        process.paused_until = self.loop.seconds + SESSION_SECONDS * (0.5 + 2 * self.chance.random())
        self.loop.call_later(SESSION_SECONDS, self._evict, process)
        twin = self.start(process.worker)
        twin.extra = True
        self.loop.call_later(SESSION_SECONDS * 4, self._retire, twin)

    def _evict(self, process: Process) -> None:
        if not process.dead and process.paused_until > self.loop.seconds and process.kafka is not None:
            self.happened("evicted", process)
            process.kafka.group.remove(process.kafka)

    def _retire(self, twin: Process) -> None:
        if not twin.dead:
            twin.tasks.append(self.loop.create_task(twin.stop()))
            self.tasks.append(twin.tasks[-1])

    # The life of a seed.

    def run(self) -> Result:
        """Live through the seed, both phases, and say what became of it."""
        with ports.to(self):
            try:
                self.loop.run_until_complete(self._life())
            except (Violation, StandsStill) as error:
                self.wrong(str(error))
            finally:
                self._close()
        found = frozenset(self.situations) | checks.situations(self)
        digest = self._digest() if self.digesting else ""
        return Result(self.seed, digest, self.why, found, self.faults, self.steps, tuple(self.story))

    def _digest(self) -> str:
        """Return what two stories have in common only when they are the same: every step, event and row."""
        for service, books in sorted(self.database.services.items()):
            for name, table in sorted(books.tables.items()):
                for key in sorted(table.rows):
                    self.told.append(f"{service}.{name}{table.rows[key]!r}")
        return blake2b("".join(self.told).encode(), digest_size=16).hexdigest()

    async def _life(self) -> None:
        for worker in WORKERS:
            self.start(worker)
            if self.another_partitioner:
                self.join(worker, 8)
        await asyncio.sleep(0.5)
        acts = self.chance.randint(14, 24)
        while acts:
            if self.chance.random() < (0.35 if self.another_partitioner else 0.7):
                await asyncio.sleep(0.7 * self.chance.random() ** 2)
            if not self.billing.act():
                await asyncio.sleep(0.1)
                continue
            acts -= 1
            self._weather()
            if acts % 4 == 0:
                self._still_right()
        await self._heal()
        await self._drain()
        checks.at_rest(self)

    def _still_right(self) -> None:
        checks.always(self)
        if self.why:
            raise Violation

    def _weather(self) -> None:
        """What happens to everyone: time, an outage, a colleague."""
        draw = self.chance.random()
        if draw < 0.06:
            self.jump(timedelta(seconds=self.chance.choice((30, 90, 4_000, 40_000, 200_000))))
        elif draw < 0.09 and "outage" not in self.off:
            self._outage(self.chance.choice(("database", "broker")))
        elif draw < 0.12 and "join" not in self.off:
            self.join(self.chance.choice(WORKERS), 0.5 + 2 * self.chance.random())
        elif draw < 0.14 and "clock_back" not in self.off:
            self.jump(-timedelta(seconds=self.chance.choice((0.5, 3, 20, 70, 240))))
        elif draw < 0.16 and "offsets_reset" not in self.off:
            self._reset_offsets(self.chance.choice(WORKERS))
        elif draw < 0.163 and "lost_tail" not in self.off:
            self.tail.lose()

    def join(self, worker: AnyWorker, seconds: float) -> None:
        """Start another process of a worker for a while."""
        twin = self.start(worker)
        twin.extra = True
        self.happened("joined", twin)
        self.loop.call_later(seconds, self._retire, twin)

    def jump(self, by: timedelta) -> None:
        """Set everybody's clock by so much; back never further than clocks may differ, however often it is set.

        Twice back by four minutes would be one clock eight minutes wrong: what was repaid by the clock before it would
        rightly be told as restored too early.
        """
        back = by < timedelta()
        self.latest = max(self.latest, self.now())
        self.jumped += max(by, self.latest - CLOCKS_DIFFER - self.now()) if back else by
        self._now_at = -1.0
        self.faults += back
        self.situations["clock_back" if back else "clock_jump"] += 1
        self.tell("clock", f"goes {-by} back" if back else f"goes {by} ahead")

    def _reset_offsets(self, worker: AnyWorker) -> None:
        """Somebody sets a group to where its topics begin; its members are told at the next rebalance."""
        self.faults += 1
        self.situations["offsets_reset"] += 1
        self.tell("broker", f"forgets what {worker.name} read")
        for name, at in self.broker.committed:
            if name == worker.name:
                self.broker.committed[name, at] = 0

    def _outage(self, what: str) -> None:
        self.faults += 1
        self.situations[f"{what}_outage"] += 1
        self.tell(what, "is down")
        if what == "database":
            self.database.stop()
        else:
            self.broker.down = True
        self.loop.call_later(0.2 + self.chance.random(), self._up)

    def _up(self) -> None:
        self.database.down = self.broker.down = False
        for readers in self.broker.readers.values():
            for reader in readers:
                reader.wake()

    async def _heal(self) -> None:
        """No fault from here on; what billing still owes it says."""
        self.tell("world", "heals")
        self.faulty = False
        self._up()
        self.billing.finish()
        await asyncio.sleep(1.5)

    async def _drain(self) -> None:
        """Everything must come to rest, whatever it took: what is left to wait for is only time."""
        fine = self.chance.randint(0, 4)
        for n in range(STEPS_TO_DRAIN):
            await asyncio.sleep(0.4)
            if self.why:
                raise Violation
            if checks.unsettled(self):
                continue
            due = checks.next_due(self)
            if due is None:
                return
            ahead = max(timedelta(), due - self.now())
            self.jump(ahead if n < fine else ahead + timedelta(days=25))
        raise Violation(f"did not come to rest: {checks.unsettled(self) or 'timers'}")

    def _close(self) -> None:
        for process in list(self.processes.values()):
            process.extra = True
            process.dead = True
        for task in self.tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()


def simulate(seed: int, *, off: frozenset[str] = frozenset(), telling: bool = False, digesting: bool = True) -> Result:
    """Run one seed; ``digesting`` changes nothing of it, and costs what only a comparison of two runs needs."""
    return World(seed, off=off, telling=telling, digesting=digesting).run()
