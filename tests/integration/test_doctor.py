"""`otb doctor` on real servers: a right deployment is right; each planted fault is the one finding, with its fix."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import sleep
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiokafka.errors import KafkaError
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourceType,
    ScramMechanism,
    UserScramCredentialDeletion,
)
from pydantic import SecretStr

from schemas.topics import RISK_ACTIVE
from services.cli import doctor, doctor_database, doctor_kafka
from services.cli.access import administrator_of, change, differences, set_passwords
from services.cli.commands import answer
from services.cli.declared import read_access
from services.cli.doctor import diagnose
from services.cli.finding import Finding
from services.cli.grants import bring_up_to_date
from services.cli.system import environment, free_port, make_topics
from services.repayment_ingest.worker import WORKER as INGEST
from services.runtime import publisher, reader
from services.runtime.clock import monotonic, utc_now
from services.runtime.errors import ConfigurationError
from services.runtime.settings import Settings
from tests import builders
from tests.conftest import dsn_of, empty_topics, execute, run_apart
from tests.integration.kafka import send
from tests.integration.secured import secured_broker
from tests.integration.support import Raw
from tests.integration.test_consumer import until

KNOWN = {"rights", "broker disk"}
"""The embedded broker has no authorizer, and the tests' one has its log where tests are."""
MADE_WITH = {"retention.ms": "604800000", "cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime"}
BROKER, TOPIC = ResourceType.BROKER, ResourceType.TOPIC


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk of whoever runs this be as full as it is."""
    monkeypatch.setattr(doctor, "DISK_FREE_MIN", 0.0)


SOON_SECONDS = 20.0


def wrong(settings: Settings) -> dict[str, Finding]:
    """Return what is not right, by check."""
    return {
        each.check: each for each in run_apart(diagnose(settings)) if each.level != "ok" and each.check not in KNOWN
    }


def configured(settings: Settings, kind: Any, name: str, key: str, value: str | None) -> None:
    """Set a setting of a broker or a topic; None takes it back."""
    how = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
    entry = ConfigEntry(key, value, incremental_operation=how)
    admin = administrator_of(settings)  # kept until it has answered
    changed = ConfigResource(kind, name, incremental_configs=[entry])
    for each in admin.incremental_alter_configs([changed]).values():
        each.result(30)


@contextmanager
def planted(settings: Settings, kind: Any, name: str, key: str, value: str) -> Iterator[None]:
    configured(settings, kind, name, key, value)
    try:
        yield
    finally:
        configured(settings, kind, name, key, None)
        if key in MADE_WITH:
            configured(settings, kind, name, key, MADE_WITH[key])


def soon_wrong(settings: Settings) -> dict[str, Finding]:
    """Return what is wrong once anything is: a broker follows a setting of its own some time after it said so."""
    deadline = monotonic() + SOON_SECONDS
    while not (found := wrong(settings)) and monotonic() < deadline:
        sleep(0.2)
    return found


async def made_again(settings: Settings, topic: str) -> None:
    """Make a topic that was deleted; Kafka removes it some time after it said so."""

    async def made() -> bool:
        try:
            return topic in await make_topics(settings)
        except (ConfigurationError, KafkaError):
            return False

    await until(made)


def test_a_right_deployment_has_nothing_to_mend_and_says_all_it_looked_at(empty_kafka: Settings) -> None:
    found = run_apart(diagnose(empty_kafka))
    assert {each.check for each in found if each.level != "ok"} == KNOWN
    assert all(each.found and bool(each.fix) == (each.level != "ok") for each in found)
    assert {each.check for each in found} == {
        "broker", "broker disk", "topics", "partitions", "topic settings", "retention", "leaders", "replication",
        "clients", "OTB_PARTITIONS", "rights", "broker clock", "migrations", "grants", "durability", "clock",
        "encryption", "positions", "unread", "policy", "disk of state folder", "disk of Kafka", "disk of PostgreSQL",
        "billing.account.v1", "billing.repayment.v1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "check"),
    [
        ("retention.ms", "1000", "retention"),
        ("cleanup.policy", "compact", "topic settings"),
        ("message.timestamp.type", "CreateTime", "topic settings"),
        ("max.message.bytes", "1000", "clients"),
        ("min.insync.replicas", "2", "leaders"),
    ],
)
def test_a_topic_set_otherwise_is_named_with_what_to_set(
    empty_kafka: Settings, key: str, value: str, check: str
) -> None:
    with planted(empty_kafka, TOPIC, "repayment.risk.v1", key, value):
        found = wrong(empty_kafka)
    assert found.keys() == {check}
    assert found[check].level == "broken"
    assert "repayment.risk.v1" in found[check].found
    assert found[check].fix
    assert wrong(empty_kafka) == {}


def test_the_topic_that_keeps_the_last_change_for_ever_is_held_to_it(empty_kafka: Settings) -> None:
    with planted(empty_kafka, TOPIC, RISK_ACTIVE.name, "retention.ms", "604800000"):
        found = wrong(empty_kafka)
    configured(empty_kafka, TOPIC, RISK_ACTIVE.name, "retention.ms", "-1")
    assert found.keys() == {"topic settings"}
    assert RISK_ACTIVE.name in found["topic settings"].found
    assert wrong(empty_kafka) == {}


def test_a_broker_that_gives_up_acknowledged_records_is_named(empty_kafka: Settings) -> None:
    with planted(empty_kafka, BROKER, "1", "unclean.leader.election.enable", "true"):
        found = soon_wrong(empty_kafka)
    assert {check: each.level for check, each in found.items()} == {"broker": "broken"}
    assert "unclean.leader.election.enable is true" in found["broker"].found


async def test_a_missing_topic_and_one_with_other_partitions_are_named(empty_kafka: Settings) -> None:
    admin = administrator_of(empty_kafka)
    for each in admin.create_partitions([NewPartitions("customer.feedback.v1", 4)]).values():
        each.result(30)
    try:
        found = wrong(empty_kafka)
        assert found.keys() == {"partitions", "OTB_PARTITIONS"}
        assert "customer.feedback.v1 has 4" in found["partitions"].found
        for each in admin.delete_topics(["customer.feedback.v1"]).values():
            each.result(30)
        found = wrong(empty_kafka)
        assert {check: (each.found, each.fix) for check, each in found.items()} == {
            "topics": ("customer.feedback.v1", "run `otb topics`")
        }
    finally:
        await made_again(empty_kafka, "customer.feedback.v1")
    assert wrong(empty_kafka) == {}


def soon_broken(settings: Settings, checks: set[str]) -> dict[str, Finding]:
    """Return what is found once it is these checks that are broken, or a while later: a broker hears of users late."""
    deadline = monotonic() + SOON_SECONDS
    while True:
        found = {each.check: each for each in run_apart(doctor_kafka.kafka(settings))}
        if {check for check, each in found.items() if each.level == "broken"} == checks or monotonic() > deadline:
            return found
        sleep(0.2)


def test_a_broker_without_rights_users_and_topics_is_told_all_of_it(tmp_path: Path) -> None:
    """Static settings need a broker of their own: it makes topics by itself and wants longer sessions than ours."""
    with secured_broker(tmp_path, "auto.create.topics.enable=true\ngroup.min.session.timeout.ms=15000\n") as broker:
        settings = broker.settings("admin")
        found = {each.check: each for each in run_apart(doctor_kafka.kafka(settings))}
        broken = {check for check, each in found.items() if each.level == "broken"}
        assert broken == {"broker", "clients", "users", "rights", "topics"}
        assert "auto.create.topics.enable is true" in found["broker"].found
        assert "sessions of 15000" in found["clients"].found
        assert "billing" in found["users"].found
        assert found["rights"].fix == "run `otb access`"
        admin, document = administrator_of(settings), read_access()
        run_apart(make_topics(settings))
        set_passwords(admin, document, broker.secrets_dir)
        change(admin, *differences(admin, document))
        found = soon_broken(settings, {"broker", "clients"})
        assert {check for check, each in found.items() if each.level == "broken"} == {"broker", "clients"}
        gone = UserScramCredentialDeletion("notifier", ScramMechanism.SCRAM_SHA_512)
        for each in admin.alter_user_scram_credentials([gone]).values():
            each.result(30)
        found = soon_broken(settings, {"broker", "clients", "users"})
        assert (found["users"].level, found["users"].found) == ("broken", "notifier")


@pytest.mark.parametrize(
    ("statement", "words", "fix"),
    [
        ("DELETE FROM settlement.migration WHERE name LIKE '%001_debt.sql'", "missing: settlement/", "otb migrate"),
        (
            "UPDATE notifier.migration SET checksum = 'x' WHERE name LIKE 'runtime.%'",
            "changed: notifier/",
            "new file",
        ),
        ("INSERT INTO console.migration VALUES ('console.999_later.sql', 'x')", "unknown: console/", "newer build"),
        ("DROP SCHEMA watching CASCADE", "missing: watching/", "otb migrate"),
    ],
)
async def test_migrations_that_are_not_this_builds_are_named(
    settings: Settings, statement: str, words: str, fix: str
) -> None:
    await execute(dsn_of(settings), statement)
    (found,) = await doctor_database.migrations(settings)
    assert found.level == "broken"
    assert words in found.found
    assert fix in found.fix


async def test_rights_given_or_taken_by_hand_are_named_and_mended(settings: Settings) -> None:
    """Each of them as somebody might give it: on a table, a column, a schema, to everybody, to tables yet to come."""
    by_hand = (
        "GRANT SELECT ON settlement.account TO otb_notifier",
        "GRANT UPDATE (outcome) ON settlement.inbox TO otb_settlement",
        "GRANT CREATE ON SCHEMA console TO otb_console",
        "GRANT SELECT ON risk_scoring.account TO PUBLIC",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA notifier GRANT SELECT ON TABLES TO otb_watching",
        "REVOKE INSERT ON limit_release.journal FROM otb_limit_release",
    )
    assert [each.level for each in await doctor_database.grants(settings)] == ["ok"]
    for statement in by_hand:
        await execute(dsn_of(settings), statement)
    (found,) = await doctor_database.grants(settings)
    assert (found.level, found.fix) == ("broken", "run `otb migrate`")
    assert found.found.split("; ") == [
        "missing: otb_limit_release limit_release journal insert",
        "too much: otb_console console  create",
        "too much: otb_notifier settlement account select",
        "too much: otb_settlement settlement inbox update of outcome",
        "too much: otb_watching notifier  tables to come",
        "too much: public risk_scoring account select",
    ]
    assert settings.secrets_dir is not None
    assert await bring_up_to_date(dsn_of(settings), settings.secrets_dir) == []
    assert [each.level for each in await doctor_database.grants(settings)] == ["ok"]


async def test_a_database_whose_commits_a_crash_undoes_is_named(settings: Settings) -> None:
    name = urlsplit(dsn_of(settings)).path.strip("/")
    await execute(dsn_of(settings), f"ALTER DATABASE {name} SET synchronous_commit = off")
    (found,) = await doctor_database.durability(settings)
    assert (found.level, "synchronous_commit" in found.found) == ("broken", True)
    await execute(dsn_of(settings), f"ALTER DATABASE {name} RESET synchronous_commit")
    assert [each.level for each in await doctor_database.durability(settings)] == ["ok"]


@pytest.mark.parametrize("seconds", [-90, 90])
async def test_a_clock_that_differs_is_told_by_how_much(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    monkeypatch.setattr(doctor_database, "utc_now", lambda: utc_now() + timedelta(seconds=seconds))
    (found,) = await doctor_database.clock(settings)
    assert (found.level, f"{seconds:+.1f} s" in found.found) == ("broken", True)


@pytest.mark.parametrize(("hours", "level", "words"), [(1, "broken", "behind"), (-1, "warning", "ahead")])
async def test_a_broker_with_another_time_is_seen_by_our_own_records(
    empty_kafka: Settings, hours: int, level: str, words: str
) -> None:
    await send(empty_kafka, builders.repayment_received(occurred_at=utc_now() + timedelta(hours=hours)))
    (found,) = await doctor_kafka.broker_clock(empty_kafka)
    assert (found.level, words in found.found) == (level, True)


async def test_servers_on_other_machines_are_to_be_encrypted(settings: Settings) -> None:
    there = {"postgres_dsn": SecretStr("postgresql://otb@db.internal/otb"), "kafka_bootstrap_servers": "kafka:9092"}
    away = settings.model_copy(update=there)
    (found,) = await doctor_database.encryption(away)
    assert found.level == "warning"
    assert "db.internal" in found.found
    assert "Kafka at kafka" in found.found


def test_records_the_broker_lost_and_records_it_removed_unread_are_named(empty_kafka: Settings) -> None:
    ahead = "INSERT INTO settlement.progress (topic, partition, first_offset, next_offset) VALUES ($$%s$$, %d, 0, %d)"
    run_apart(execute(dsn_of(empty_kafka), ahead % ("repayment.intake.v1", 0, 10**12)))
    found = wrong(empty_kafka)
    assert found.keys() == {"positions"}
    assert "repayment.intake.v1/0" in found["positions"].found
    assert "otb republish" in found["positions"].fix
    at = publisher.partition_of("account-1", empty_kafka.partitions)
    run_apart(send(empty_kafka, Raw("billing.account.v1", b"{")))
    run_apart(empty_topics(empty_kafka))
    run_apart(execute(dsn_of(empty_kafka), "DELETE FROM settlement.progress", ahead % ("billing.account.v1", at, 0)))
    assert wrong(empty_kafka).keys() == {"unread"}


def test_a_policy_nobody_can_read_is_named(empty_kafka: Settings, tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text('product = "broken"\n')
    found = wrong(empty_kafka.model_copy(update={"policy_dir": tmp_path}))
    assert found.keys() == {"policy"}
    assert "broken.toml" in found["policy"].found


def test_full_disks_are_named(empty_kafka: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DISK_FREE_MIN", 1.1)
    found = wrong(empty_kafka)
    assert found.keys() == {"disk of state folder", "disk of Kafka", "disk of PostgreSQL"}
    assert all("free space under /" in each.fix for each in found.values())


def test_billings_records_are_judged_and_the_answer_is_json_with_a_code(
    empty_kafka: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in environment(empty_kafka).items():
        monkeypatch.setenv(name, text)
    assert answer(["doctor"]) == 0
    run_apart(send(empty_kafka, Raw("billing.repayment.v1", b"{", key=b"k")))
    capsys.readouterr()
    assert answer(["doctor", "--json"]) == 1
    told = {each["check"]: each for each in json.loads(capsys.readouterr().out)}
    assert told["billing.repayment.v1"]["level"] == "broken"
    assert told["billing.repayment.v1"]["fix"]


def test_a_server_that_does_not_answer_leaves_the_rest_to_be_told(
    empty_kafka: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor_kafka, "SECONDS", 1)
    away = empty_kafka.model_copy(update={"kafka_bootstrap_servers": f"127.0.0.1:{free_port()}"})
    found = run_apart(diagnose(away))
    assert {each.check for each in found if each.level == "unknown"} == {
        "kafka", "broker_clock", "disk_of_kafka", "billing",
    }  # fmt: skip
    assert {each.check for each in found if each.level == "ok"} >= {"migrations", "durability", "clock", "policy"}
    assert doctor.code_of(found) == 3


def test_the_session_that_brokers_are_asked_for_is_the_consumers(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: dict[str, object] = {}
    monkeypatch.setattr(reader, "AIOKafkaConsumer", lambda **settings: taken.update(settings))
    reader.consumer_of(Settings(), INGEST)
    assert taken["session_timeout_ms"] == doctor_kafka.SESSION_MS
