"""Puts the simulated world where the runtime meets the real one: clock, chance, drivers, metrics and logs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Any

from schemas.event import Event
from schemas.topics import Topic
from services.runtime import batch, consumer, publisher, reader
from services.runtime.codec import Decoded
from services.runtime.postgres import Connection
from services.runtime.settings import Settings
from services.runtime.worker import AnyWorker
from tests.simulation import kafka

if TYPE_CHECKING:
    from tests.simulation.world import Process, World


NO_TIME = nullcontext()


class _Nothing:
    """Metrics that nobody reads."""

    def __getattr__(self, name: str) -> "_Nothing":
        setattr(self, name, self)  # asked for once
        return self

    def labels(self, *values: str) -> "_Nothing":
        return self

    def time(self) -> nullcontext[None]:
        return NO_TIME

    def inc(self, amount: float = 1) -> None:
        pass

    def observe(self, amount: float) -> None:
        pass


class _NoCollector:
    """The garbage collector left alone: the test collects between seeds."""

    @staticmethod
    def collect() -> None:
        pass

    @staticmethod
    def freeze() -> None:
        pass


class _Logger:
    """Hands log lines to the story."""

    def __init__(self, world: "World") -> None:
        self.world = world

    def info(self, action: str, **told: Any) -> None:
        self.world.logged("info", action, told)

    def warning(self, action: str, **told: Any) -> None:
        self.world.logged("warning", action, told)

    def error(self, action: str, **told: Any) -> None:
        self.world.logged("error", action, told)


def _reads_once(decode: Callable[..., Decoded]) -> Callable[..., Decoded]:
    """Let the first reader of a record decode it; another one that handles its event is given the same frozen one."""

    def read(topic: Topic, record: kafka.Record, handled: frozenset[type[Event]]) -> Decoded:
        known = record.decoded
        if known is None or known.event is None:
            known = record.decoded = decode(topic, record, handled)
            return known
        return known if type(known.event) in handled else Decoded(None, known.event_key, known.digest)

    return read


def _of(world: "World", settings: Settings) -> "Process":
    return world.processes[settings.instance or ""]


@contextmanager
def to(world: "World") -> Iterator[None]:
    """Let every process of this thread meet ``world`` and nothing else."""

    def monotonic() -> float:
        return world.loop.seconds

    def utc_now() -> datetime:
        return world.now()

    async def connect(settings: Settings, package: str) -> Connection:
        return await world.database.connect(_of(world, settings))

    def consumer_of(settings: Settings, worker: AnyWorker) -> kafka.Consumer:
        process = _of(world, settings)
        process.kafka = kafka.Consumer(world.broker, process)
        return process.kafka

    def producer_of(settings: Settings, client_id: str) -> kafka.Producer:
        return kafka.Producer(world.broker, _of(world, settings))

    replaced: list[tuple[Any, dict[str, Any]]] = [
        (batch, {"monotonic": monotonic}),
        (reader, {"monotonic": monotonic, "decode": _reads_once(vars(reader)["decode"])}),
        (publisher, {"producer_of": producer_of}),
        (
            consumer,
            {
                "monotonic": monotonic,
                "utc_now": utc_now,
                "connect": connect,
                "consumer_of": consumer_of,
                "metrics": _Nothing(),
                "LOGGER": _Logger(world),
                "gc": _NoCollector,
                "IDLE_SECONDS": 1.0,
                "_RANDOM": world.chance,
            },
        ),
    ]
    kept = [(module, {name: getattr(module, name) for name in names}) for module, names in replaced]
    _put(replaced)
    try:
        yield
    finally:
        _put(kept)


def _put(values: list[tuple[Any, dict[str, Any]]]) -> None:
    for module, names in values:
        for name, value in names.items():
            setattr(module, name, value)
