"""Who may do what, from Worker declarations and migrations: the text of deploy/access.yaml; what it means in Kafka."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from schemas.topics import BILLING_REPAYMENT, TOPICS, dead_letter_topic
from services.cli.relations import relations
from services.cli.workers import EVERYONE, OBSERVERS, READERS
from services.lag_monitor import probe, windows
from services.runtime.worker import AnyWorker

ROOT: Final = Path(__file__).parents[2]
FILE: Final = ROOT / "deploy" / "access.yaml"


class Right(NamedTuple):
    """One thing a principal may do to a topic or a group; whatever is not listed is refused."""

    principal: str
    kind: str
    name: str
    operation: str


def access() -> dict[str, Any]:
    """Return who reads, writes and owns what: our services, those outside who write a topic, and people's tools."""
    ours = {worker.name for worker in EVERYONE}
    outside = sorted({topic.writer for topic in TOPICS.values()} - ours)
    clients = [*(_client(name) for name in outside), _client(probe.NAME, writer=BILLING_REPAYMENT.writer), _picture()]
    readers = [{"name": name, "postgres": _postgres(name)} for name in READERS]
    return {"services": [_service(worker) for worker in EVERYONE], "clients": clients, "readers": readers}


def read_access(path: Path = FILE) -> dict[str, Any]:
    """Return the file in force."""
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


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


def _service(worker: AnyWorker) -> dict[str, Any]:
    dead_letters = [dead_letter_topic(topic.name, worker.name) for topic in worker.reads] if worker.writes else []
    watches = (
        [each.name for each in EVERYONE if each is not worker] if worker in OBSERVERS and not worker.writes else []
    )
    return {
        "name": worker.name,
        "postgres": _postgres(worker.package),
        "kafka": {
            "principal": f"User:{worker.name}",
            "group": worker.name,
            "reads": [topic.name for topic in worker.reads],
            "writes": [*(topic.name for topic in worker.writes), *dead_letters],
            **({"watches": watches} if watches else {}),
        },
    }


def _postgres(package: str) -> dict[str, Any]:
    return {"role": f"otb_{package}", "schema": package, **relations(package, READERS)}


def _client(name: str, writer: str | None = None) -> dict[str, Any]:
    """Return who writes the topics of ``writer``, by default its own; the probe alone writes beside billing."""
    written = [topic.name for topic in TOPICS.values() if topic.writer == (writer or name)]
    return {"name": name, "kafka": {"principal": f"User:{name}", "writes": written}}


def _picture() -> dict[str, Any]:
    """Return who only looks: the live picture reads one topic in a group of its own, and has no tables."""
    kafka = {"principal": f"User:{windows.NAME}", "group": windows.NAME, "reads": [windows.TOPIC.name], "writes": []}
    return {"name": windows.NAME, "kafka": kafka}
