"""The services as deploy/access.yaml has them, and what it means in Kafka.

The workers themselves (services/cli/workers.py) bring Faust and every rule with them, which takes a second.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import yaml

FILE: Final = Path(__file__).parents[2] / "deploy" / "access.yaml"
BESIDE: Final = ("console", "lag-monitor")
"""Those that no money waits for."""
DEAD_LETTERS: Final = ".dlq"


class Right(NamedTuple):
    """One thing a principal may do to a topic or a group; whatever is not listed is refused."""

    principal: str
    kind: str
    name: str
    operation: str


class Named(Protocol):
    """A service, or its worker."""

    @property
    def name(self) -> str: ...


class Service(NamedTuple):
    """One service: its name, the schema of its package, and topics by name, where its dead letters go apart."""

    name: str
    package: str
    topics: tuple[str, ...]
    writes: tuple[str, ...]
    dead_letters: tuple[str, ...]


def read_access(path: Path = FILE) -> dict[str, Any]:
    """Return the file in force."""
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def services_of(document: Mapping[str, Any]) -> tuple[Service, ...]:
    """Return the services of ``document``, those of the pipeline first and in its order."""
    return tuple(map(_service, document["services"]))


def rights(document: Mapping[str, Any]) -> set[Right]:
    """Return what the principals of ``document`` may do in Kafka."""
    return {right for who in principals(document) for right in _rights_of(who["kafka"])}


def principals(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return everyone with a login in Kafka."""
    return [*document["services"], *document["clients"]]


def _rights_of(kafka: Mapping[str, Any]) -> Iterable[Right]:
    who = kafka["principal"]
    for topic in kafka.get("reads", ()):
        yield Right(who, "topic", topic, "read")
    for topic in kafka["writes"]:
        yield Right(who, "topic", topic, "write")
    if "group" in kafka:
        yield Right(who, "group", kafka["group"], "read")
    for group in kafka.get("watches", ()):
        yield Right(who, "group", group, "describe")


def _service(entry: Mapping[str, Any]) -> Service:
    kafka = entry["kafka"]
    events = tuple(topic for topic in kafka["writes"] if not topic.endswith(DEAD_LETTERS))
    letters = tuple(topic for topic in kafka["writes"] if topic.endswith(DEAD_LETTERS))
    return Service(entry["name"], entry["postgres"]["schema"], tuple(kafka["reads"]), events, letters)


_IN_FORCE: Final = read_access()
EVERYONE: Final = services_of(_IN_FORCE)
WORKERS: Final = tuple(service for service in EVERYONE if service.name not in BESIDE)
OBSERVERS: Final = tuple(service for service in EVERYONE if service.name in BESIDE)
READERS: Final = tuple(reader["name"] for reader in _IN_FORCE["readers"])
CONTROLS: Final = tuple(control["name"] for control in _IN_FORCE["controls"])
