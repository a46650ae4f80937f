"""The running system: servers (embedded or your own), schemas, topics and the workers as processes."""

import asyncio
import socket
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from deploy.embedded import Part, Program, Stack
from schemas.topics import DAY_MS, TOPICS
from services.cli.declared import EVERYONE, WORKERS, Named, Service
from services.cli.grants import bring_up_to_date
from services.lag_monitor import PROBE
from services.runtime.clock import monotonic
from services.runtime.errors import ConfigurationError
from services.runtime.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
READY_SECONDS = 60.0
DEAD_LETTERS_KEPT: Final[Mapping[str, str | int]] = {"cleanup.policy": "delete", "retention.ms": 30 * DAY_MS}
MEMORY: Final = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""Read by glibc: a worker gives back what a large batch took, and stays flat (`make memory`)."""


@dataclass(frozen=True)
class System:
    """Settings that name both servers, and the embedded stack that also supervises the workers."""

    settings: Settings
    stack: Stack


def open_system(settings: Settings, *, tied: bool = False) -> System:
    """Start what the user did not bring and return where everything answers; blocks, raises StackError.

    What is started ``tied`` ends with this process.
    """
    state_dir = settings.state_dir.resolve()
    stack = Stack(state_dir, settings.cache_dir, tied=tied)
    own_kafka, own_postgres = settings.kafka_bootstrap_servers is not None, settings.postgres_dsn is not None
    parts: tuple[tuple[Part, bool], ...] = (("postgres", own_postgres), ("kafka", own_kafka))
    endpoints = stack.up(tuple(part for part, own in parts if not own))
    update: dict[str, object] = {"state_dir": state_dir, "secrets_dir": settings.secrets_dir or state_dir / "secrets"}
    if not own_kafka:
        update["kafka_bootstrap_servers"] = endpoints.kafka_bootstrap_servers
    if not own_postgres:
        update["postgres_dsn"] = SecretStr(endpoints.postgres_dsn)
    return System(settings.model_copy(update=update), stack)


async def provision(settings: Settings, *, partitions: int | None = None) -> tuple[list[str], list[str]]:
    """Apply migrations and make topics, of ``partitions`` when nothing else decides; return what was new."""
    if settings.postgres_dsn is None or settings.secrets_dir is None:
        raise ConfigurationError("OTB_POSTGRES_DSN is not set")
    migrated = await bring_up_to_date(settings.postgres_dsn.get_secret_value(), settings.secrets_dir)
    return migrated, await make_topics(settings, partitions=partitions)


def all_topics(services: Iterable[Service] = EVERYONE) -> dict[str, Mapping[str, str | int]]:
    """Return every topic with what Kafka is told of keeping it, dead-letter topics of those that write included.

    Who writes nothing has none: what it cannot read it keeps, and the worker it is for tells it.
    """
    names: dict[str, Mapping[str, str | int]] = {name: topic.kept for name, topic in TOPICS.items()}
    return names | {letters: DEAD_LETTERS_KEPT for service in services for letters in service.dead_letters}


async def make_topics(settings: Settings, *, partitions: int | None = None) -> list[str]:
    """Create missing topics with as many partitions as OTB_PARTITIONS says, else the others have, else ``partitions``.

    Raises ConfigurationError when an existing topic has another number of partitions than OTB_PARTITIONS asks for.
    """
    from services.cli.kafka import administrator  # Kafka's client, which what runs no command of topics does without

    async with administrator(settings, "otb-topics") as admin:
        known = {t["topic"]: len(t["partitions"]) for t in await admin.describe_topics(await admin.list_topics())}
        wanted = all_topics()
        for name in wanted.keys() & known.keys():
            if known[name] != settings.partitions and "partitions" in settings.model_fields_set:
                raise ConfigurationError(
                    f"topic {name} has {known[name]} partitions, OTB_PARTITIONS says {settings.partitions}: "
                    "repartitioning would move accounts"
                )
        new = sorted(wanted.keys() - known.keys())
        there = {known[name] for name in wanted.keys() & known.keys()}
        asked = partitions if partitions and "partitions" not in settings.model_fields_set else settings.partitions
        count = there.pop() if len(there) == 1 else asked
        await admin.create_topics([_new_topic(name, count, wanted[name]) for name in new])
        return new


def environment(settings: Settings) -> dict[str, str]:
    """Return the settings that differ from their defaults as OTB_ variables for a child process."""
    found: dict[str, str] = {}
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        if value is None or value == field.default:
            continue
        found[PREFIX + name.upper()] = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    return found


def start_workers(system: System, workers: Iterable[Named] = WORKERS) -> Mapping[str, int]:
    """Start worker processes under the stack's supervisor; return each one's web port."""
    ports = {worker.name: free_port() for worker in workers}
    variables = {**environment(system.settings), **MEMORY, "OTB_INSTANCE": system.settings.instance or "1"}
    system.stack.run(
        Program(
            name=name,
            command=[*faust_command(name), "-p", str(port)],
            environment=variables,
            directory=str(system.settings.state_dir),
        )
        for name, port in ports.items()
    )
    return ports


def start_probe(system: System) -> None:
    """Start the synthetic probe under the stack's supervisor, without the database's address."""
    variables = {
        **environment(system.settings.model_copy(update={"postgres_dsn": None})),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "services.lag_monitor.probe"]
    directory = str(system.settings.state_dir)
    system.stack.run([Program(name=PROBE, command=command, environment=variables, directory=directory)])


def faust_command(name: str) -> list[str]:
    """Return the command that runs a worker."""
    return hosted(f"services.{name.replace('-', '_')}.worker")


def hosted(module: str) -> list[str]:
    """Return the command by which Faust runs the app of ``module``."""
    return [sys.executable, "-m", "faust", "-q", "-A", module, "--workdir", str(ROOT), "worker", "-l", "info"]


async def wait_ready(ports: Mapping[str, int], seconds: float = READY_SECONDS) -> None:
    """Wait until every worker answers ready; raise ConfigurationError naming the ones that do not."""
    import httpx

    deadline = monotonic() + seconds
    waiting = dict(ports)
    async with httpx.AsyncClient(timeout=2.0, trust_env=False) as client:
        while waiting and monotonic() < deadline:
            for name, port in list(waiting.items()):
                if await _answers(client, f"http://127.0.0.1:{port}/readyz"):
                    del waiting[name]
            await asyncio.sleep(0.1 if waiting else 0)
    if waiting:
        raise ConfigurationError(f"not ready after {seconds:.0f} s: {', '.join(waiting)}; see the logs folder")


def free_port() -> int:
    """Return a port of 127.0.0.1 nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _answers(client: Any, url: str) -> bool:
    from httpx import HTTPError

    try:
        return bool((await client.get(url)).status_code == 200)
    except HTTPError:
        return False


def _new_topic(name: str, partitions: int, kept: Mapping[str, str | int]) -> Any:
    from aiokafka.admin import NewTopic

    settings = {"message.timestamp.type": "LogAppendTime", **{key: str(value) for key, value in kept.items()}}
    return NewTopic(name, partitions, 1, topic_configs=settings)
