"""Who may do what, from Worker declarations and migrations: the text of deploy/access.yaml."""

from collections.abc import Mapping
from typing import Any, Final

from schemas.topics import BILLING_REPAYMENT, TOPICS, dead_letter_topic
from services.cli.relations import relations
from services.cli.workers import CONTROLS, EVERYONE, OBSERVERS, READERS
from services.lag_monitor import PICTURE, PROBE, windows
from services.runtime.worker import AnyWorker

CONTROLLED: Final[Mapping[str, Mapping[str, Mapping[str, list[str]]]]] = {
    "relief_control": {
        "risk_scoring": {"changes": ["cap_relief"], "appends": ["cap_relief_step"], "reads": ["risk_outcome"]},
        "lag_monitor": {"reads": ["sla_promise"]},
    },
}
"""What each control needs of others' tables (cli/relief.py)."""


def access() -> dict[str, Any]:
    """Return who reads, writes and owns what: services, who else writes a topic, people's tools, who changes a rule."""
    ours = {worker.name for worker in EVERYONE}
    outside = sorted({topic.writer for topic in TOPICS.values()} - ours)
    clients = [*(_client(name) for name in outside), _client(PROBE, writer=BILLING_REPAYMENT.writer), _picture()]
    readers = [{"name": name, "postgres": _postgres(name)} for name in READERS]
    controls = [{"name": name, "postgres": _control(name)} for name in CONTROLS]
    services = [_service(worker) for worker in EVERYONE]
    return {"services": services, "clients": clients, "readers": readers, "controls": controls}


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


def _control(name: str) -> list[dict[str, Any]]:
    """Return what a control may do in the schemas of others."""
    return [{"role": f"otb_{name}", "schema": schema, **may} for schema, may in CONTROLLED[name].items()]


def _client(name: str, writer: str | None = None) -> dict[str, Any]:
    """Return who writes the topics of ``writer``, by default its own; the probe alone writes beside billing."""
    written = [topic.name for topic in TOPICS.values() if topic.writer == (writer or name)]
    return {"name": name, "kafka": {"principal": f"User:{name}", "writes": written}}


def _picture() -> dict[str, Any]:
    """Return who only looks: the live picture reads one topic in a group of its own, and has no tables."""
    kafka = {"principal": f"User:{PICTURE}", "group": PICTURE, "reads": [windows.TOPIC.name], "writes": []}
    return {"name": PICTURE, "kafka": kafka}
