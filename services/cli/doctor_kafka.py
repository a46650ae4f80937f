"""What `otb doctor` asks Kafka: settings of brokers and topics, rights and users, what our clients need, its clock."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from confluent_kafka.admin import ConfigResource, ResourceType

from schemas.topics import INTAKE, TOPICS
from services.cli.access import administrator_of, differences
from services.cli.declared import principals, read_access
from services.cli.finding import Finding, told
from services.cli.kafka import tail
from services.cli.system import all_topics
from services.runtime.clock import from_epoch_ms
from services.runtime.publisher import BATCH_BYTES
from services.runtime.settings import Settings

CLIENT_ID: Final = "otb-doctor"
SECONDS: Final = 10
REPLICAS: Final = 3
SESSION_MS: Final = 10_000
"""The session of every consumer of ours (services/runtime/reader.py)."""
BROKER_WANTED: Final = {"auto.create.topics.enable": "false", "unclean.leader.election.enable": "false"}
FOR_EVER: Final = -1
"""As retention.ms: no age removes a record."""
STAMPED: Final = {"message.timestamp.type": "LogAppendTime"}
FORGETFUL: Final = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108  # where a broker's log must not be
RECENT: Final = 100
CLOCK_MAX: Final = timedelta(seconds=1)
CONFIGURE: Final = "kafka-configs.sh --bootstrap-server {where} --alter --entity-type topics --entity-name TOPIC"

Configured = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Cluster:
    """What Kafka says of itself: settings in force by broker and by topic of ours, partitions by topic."""

    where: str
    brokers: Configured
    topics: Configured
    partitions: Mapping[str, Any]
    administrator: Any


async def kafka(settings: Settings) -> list[Finding]:
    """Check brokers, topics, clients and rights."""
    cluster = await asyncio.to_thread(_ask, settings)
    found: list[Finding] = []
    for check in (brokers, topics, replication, clients):
        found += check(cluster)
    if settings.partitions and "partitions" in settings.model_fields_set:
        found += _asked_for(cluster, settings.partitions)
    return [*found, *await asyncio.to_thread(rights, cluster)]


def brokers(cluster: Cluster) -> list[Finding]:
    """Check that topics are made by the deployment alone and that no acknowledged record is given up or forgotten."""
    fix = "set it in server.properties and restart the broker"
    folders = {
        f"broker {name}: log.dirs is {said['log.dirs']}"
        for name, said in cluster.brokers.items()
        if any(folder.startswith(FORGETFUL) for folder in said.get("log.dirs", "").split(","))
    }
    return [
        told("broker", _differing(cluster.brokers, BROKER_WANTED), f"{len(cluster.brokers)} as they must be", fix),
        told(
            "broker disk", folders, "the log is on a disk of its own", "put log.dirs on a volume that stays", "warning"
        ),
    ]


def topics(cluster: Cluster) -> list[Finding]:
    """Check that every topic is there, split as the others are, stamped by the broker and kept as long as designed."""
    wanted = all_topics()
    there = {name: len(cluster.partitions[name]) for name in wanted if name in cluster.partitions}
    counts = {there[name] for name in TOPICS if name in there}
    unequal = [f"{name} has {there[name]}" for name in TOPICS if name in there] if len(counts) > 1 else []
    short = [
        f"{name}: retention.ms is {said['retention.ms']}, not {wanted[name]['retention.ms']}"
        for name, said in cluster.topics.items()
        if 0 <= int(said["retention.ms"]) < int(wanted[name]["retention.ms"])
    ]
    kept = {
        name: {key: str(value) for key, value in wanted[name].items() if key != "retention.ms" or value == FOR_EVER}
        for name in cluster.topics
    }
    otherwise = [one for name in kept for one in _differing({name: cluster.topics[name]}, {**STAMPED, **kept[name]})]
    fix = f"{CONFIGURE.format(where=cluster.where)} --add-config NAME=VALUE"
    return [
        told("topics", wanted.keys() - there.keys(), f"all {len(wanted)} are there", "run `otb topics`"),
        told("partitions", unequal, "equal everywhere", "an account needs one partition number: make topics anew"),
        told("topic settings", otherwise, "as they must be", fix),
        told("retention", short, "as designed or longer", fix),
    ]


def replication(cluster: Cluster) -> list[Finding]:
    """Check that every partition is led, takes records, and survives a broker where there are enough of them."""
    led: set[str] = set()
    few: set[str] = set()
    for name, said in cluster.topics.items():
        least = int(said["min.insync.replicas"])
        for partition in cluster.partitions[name].values():
            if partition.leader < 0 or len(partition.isrs) < least:
                led.add(f"{name}/{partition.id} has {len(partition.isrs)} of {least} replicas it needs")
            if len(cluster.brokers) >= REPLICAS and (len(partition.replicas) < REPLICAS or least < REPLICAS - 1):
                few.add(f"{name} has {len(partition.replicas)} replicas, min.insync.replicas {least}")
    fix = "deploy/kafka/topics.yaml: 3 replicas, min.insync.replicas 2 (kafka-reassign-partitions.sh, kafka-configs.sh)"
    return [
        told("leaders", led, "every partition takes records", "start the brokers that are missing"),
        told("replication", few, f"right for {len(cluster.brokers)} brokers", fix, "warning"),
    ]


def clients(cluster: Cluster) -> list[Finding]:
    """Check that brokers and topics allow what our consumers and producers are set to."""
    wrong = []
    for name, said in cluster.brokers.items():
        least, most = (int(said[f"group.{bound}.session.timeout.ms"]) for bound in ("min", "max"))
        if not least <= SESSION_MS <= most:
            wrong.append(f"broker {name} wants sessions of {least} to {most} ms, ours is {SESSION_MS}")
    sizes = {name: int(said["max.message.bytes"]) for name, said in cluster.topics.items()}
    wrong += [f"{name} takes {size} bytes, we send {BATCH_BYTES}" for name, size in sizes.items() if size < BATCH_BYTES]
    fix = "set group.min.session.timeout.ms <= 10000 and message.max.bytes, max.message.bytes >= 1048588"
    return [told("clients", wrong, "our clients' settings are allowed", fix)]


def rights(cluster: Cluster) -> list[Finding]:
    """Check users and ACLs against deploy/access.yaml."""
    if not any(said.get("authorizer.class.name") for said in cluster.brokers.values()):
        nobody = "no authorizer: whoever reaches the broker may write every topic"
        return [Finding("rights", "warning", nobody, "deploy/kafka/server.properties shows one; then `otb access`")]
    document = read_access()
    missing, surplus = differences(cluster.administrator, document)
    users = cluster.administrator.describe_user_scram_credentials(request_timeout=SECONDS).result()
    unknown = [who["name"] for who in principals(document) if who["name"] not in users]
    wrong = [
        *(f"missing: {' '.join(right)}" for right in missing),
        *(f"too much: {' '.join(right)}" for right in surplus),
    ]
    return [
        told("users", unknown, "everybody of deploy/access.yaml has a password", "run `otb access`"),
        told("rights", wrong, "ACLs are deploy/access.yaml's", "run `otb access`"),
    ]


async def broker_clock(settings: Settings) -> list[Finding]:
    """Compare Kafka's clock with the database's: records are told at its time right after they were committed."""
    _, records = await tail(settings, INTAKE.name, RECENT, CLIENT_ID)
    late = sorted(from_epoch_ms(record.timestamp) - committed for record in records if (committed := _told_at(record)))
    if not late:
        return [Finding("broker clock", "ok", f"{INTAKE.name} is empty: nothing to compare yet")]
    least = late[0]
    behind = [f"{-least.total_seconds():.1f} s behind the database"] if least < -CLOCK_MAX else []
    ahead = (
        [f"ahead of the database by {least.total_seconds():.1f} s, or slow to get records"] if least > CLOCK_MAX else []
    )
    fix = "synchronise the broker's clock (NTP)"
    if ahead:
        return [told("broker clock", ahead, "", fix, "warning")]
    return [told("broker clock", behind, "agrees with the database's", fix)]


async def data_folder(settings: Settings) -> Path | None:
    """Return where a broker keeps its log, on its machine."""
    cluster = await asyncio.to_thread(_ask, settings)
    folder = next((said.get("log.dirs", "") for said in cluster.brokers.values()), "").split(",")[0]
    return Path(folder) if folder else None


def _ask(settings: Settings) -> Cluster:
    administrator = administrator_of(settings)
    metadata = administrator.list_topics(timeout=SECONDS)
    ours = [name for name in all_topics() if name in metadata.topics]
    # One broker a request: each answers for itself.
    brokers = {str(name): _configs(administrator, ResourceType.BROKER, [str(name)]) for name in metadata.brokers}
    return Cluster(
        where=settings.kafka_bootstrap_servers or "",
        brokers={name: said[name] for name, said in brokers.items()},
        topics=_configs(administrator, ResourceType.TOPIC, ours),
        partitions={name: metadata.topics[name].partitions for name in ours},
        administrator=administrator,
    )


def _configs(administrator: Any, kind: Any, names: Iterable[str]) -> Configured:
    asked = [ConfigResource(kind, name) for name in names]
    answers = administrator.describe_configs(asked, request_timeout=SECONDS) if asked else {}
    return {
        resource.name: {entry.name: entry.value or "" for entry in answer.result(SECONDS).values()}
        for resource, answer in answers.items()
    }


def _differing(said: Configured, wanted: Mapping[str, str]) -> list[str]:
    return [
        f"{name}: {key} is {values.get(key)}, not {value}"
        for name, values in said.items()
        for key, value in wanted.items()
        if values.get(key) != value
    ]


def _asked_for(cluster: Cluster, partitions: int) -> list[Finding]:
    other = {f"{name} has {len(them)}" for name, them in cluster.partitions.items() if len(them) != partitions}
    right = f"OTB_PARTITIONS={partitions} is what topics have"
    return [told("OTB_PARTITIONS", other, right, "set it to what topics have: it cannot be changed later")]


def _told_at(record: Any) -> datetime | None:
    """Return the committed instant a record of ours carries."""
    for name, value in record.headers:
        if name == "ce_time":
            return datetime.fromisoformat(value.decode())
    return None


CHECKS: Final[tuple[Callable[[Settings], Awaitable[list[Finding]]], ...]] = (kafka, broker_clock)
