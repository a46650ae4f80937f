"""What a worker is: a value that says what it reads, decides, keeps and writes."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from schemas.event import Event
from schemas.topics import Topic
from services.decision import Decision, Input, Internal, Moment
from services.runtime.postgres import Connection, Row
from services.runtime.settings import Settings

S = TypeVar("S")
P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Saved:
    """The values of a store's writes, how many rows its guard must find, and work this process leases to itself."""

    values: Sequence[object]
    guarded: int = 0
    work: Sequence[Any] = ()


@dataclass(frozen=True)
class Store(Generic[S]):
    """How a service's state comes and goes, by the batch: one statement that reads and one that writes.

    ``reads`` are items of a SELECT of one row, ``writes`` are data-modifying CTEs; the runtime adds its own to both,
    and parameters count from $1 in each. ``ask`` gives the values of the reads, None when the inputs need none;
    ``states`` makes a state for every key of the inputs of the row found, new ones empty; ``save`` gives the values of
    the writes for (before, after) pairs. Nothing is locked in between: a CTE named ``guarded`` returns a row for each
    row written that was still as it was read, and a batch that finds fewer than ``Saved.guarded`` leaves nothing and
    comes again.
    """

    key: Callable[[Input], str]
    reads: str
    ask: Callable[[Sequence[Input]], Sequence[object] | None]
    states: Callable[[Sequence[Input], Row], dict[str, S]]
    writes: str
    save: Callable[[Sequence[tuple[S, S]]], Saved]


@dataclass(frozen=True)
class Step:
    """Work outside the transaction with its outcome as an input: claim under a lease, perform with a deadline.

    Work returned by ``save`` is leased already; ``claim`` takes what a dead process or a failed try left.
    """

    claim: Callable[[Connection], Awaitable[Sequence[Any]]]
    perform: Callable[[Any], Awaitable[Internal]]
    seconds_max: float
    at_once_max: int


@dataclass(frozen=True)
class Worker(Generic[S, P]):
    """The declaration of a service; ``name`` is also its consumer group.

    ``gathers_seconds`` is the least time from batch to batch while many come: what comes meanwhile shares the next, of
    ``at_once`` times OTB_BATCH_MAX records at most; what Kafka has already is not waited for.
    ``consumer`` is made instead of aiokafka's own.
    """

    name: str
    reads: tuple[Topic, ...]
    handles: frozenset[type[Event]]
    writes: tuple[Topic, ...]
    policy: Callable[[Settings], P]
    decide: Callable[[P, S, Input, Moment], Decision[S]]
    keeps: Store[S]
    step: Callable[[Settings], Step] | None = None
    gathers_seconds: float = 0.0
    at_once: int = 1
    consumer: Callable[..., Any] | None = None
    topics: Mapping[str, Topic] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "topics", {topic.name: topic for topic in self.reads})

    @property
    def package(self) -> str:
        """Return the package, schema and role suffix."""
        return package_of(self.name)


AnyWorker = Worker[Any, Any]


def package_of(name: str) -> str:
    """Return the package of a service, for example risk_scoring of risk-scoring."""
    return name.replace("-", "_")
