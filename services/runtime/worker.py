"""What a worker is: a value that says what it reads, decides, keeps and writes."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from schemas.event import Event
from schemas.topics import Topic
from services.decision import Decision, Input, Internal, Moment
from services.runtime.postgres import Connection
from services.runtime.settings import Settings

S = TypeVar("S")
P = TypeVar("P")


@dataclass(frozen=True)
class Store(Generic[S]):
    """How a service's state comes and goes, by the batch.

    ``load`` locks and returns a state for every key of the inputs, new ones empty; ``save`` writes changed ones,
    each given as (before, after), and returns work for the worker's step that this process leases to itself.
    """

    key: Callable[[Input], str]
    load: Callable[[Connection, Sequence[Input]], Awaitable[dict[str, S]]]
    save: Callable[[Connection, Sequence[tuple[S, S]]], Awaitable[Sequence[Any]]]


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
    """The declaration of a service; ``name`` is also its consumer group."""

    name: str
    reads: tuple[Topic, ...]
    handles: frozenset[type[Event]]
    writes: tuple[Topic, ...]
    policy: Callable[[Settings], P]
    decide: Callable[[P, S, Input, Moment], Decision[S]]
    keeps: Store[S]
    step: Callable[[Settings], Step] | None = None
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
