"""deploy/access.yaml on a real broker: every cell of principals x topics x operations, allowed or refused."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError, KafkaConnectionError
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka import TopicPartition as At
from confluent_kafka.admin import (
    AclOperation,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from services.cli.access import change, differences, granted, set_passwords
from services.cli.declared import Right, principals, read_access, rights
from services.cli.system import all_topics, make_topics
from tests.conftest import run_apart
from tests.integration.secured import Secured, secured_broker

DOCUMENT = read_access()
RIGHTS = rights(DOCUMENT)
NAMES = [who["name"] for who in principals(DOCUMENT)]
GROUPS = [who["kafka"]["group"] for who in principals(DOCUMENT) if "group" in who["kafka"]]
TOPICS = sorted(all_topics())
SECONDS = 30.0
QUIET = {"log_level": "2"}
REFUSED = KafkaError.TOPIC_AUTHORIZATION_FAILED


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Run the broker with topics, users and rights as a deployment makes them, and one record on every topic."""
    with secured_broker(tmp_path_factory.mktemp("secured")) as broker:
        run_apart(make_topics(broker.settings("admin")))
        admin = administrator(broker, "admin")
        set_passwords(admin, DOCUMENT, broker.secrets_dir)
        change(admin, *differences(admin, DOCUMENT))
        assert written(broker, "admin") == set(TOPICS)
        yield broker


def client(broker: Secured, name: str, **more: Any) -> dict[str, Any]:
    return {**broker.settings(name).librdkafka(), **QUIET, **more}


def administrator(broker: Secured, name: str) -> AdminClient:
    return AdminClient(client(broker, name))


def allowed(name: str, operation: str, kind: str = "topic") -> set[str]:
    who = f"User:{name}"
    return {right.name for right in RIGHTS if (right.principal, right.kind, right.operation) == (who, kind, operation)}


def written(broker: Secured, name: str, topics: Collection[str] = TOPICS) -> set[str]:
    """Return which topics took a record; every other one must have refused it."""
    outcomes: dict[str, Any] = {}
    producer = Producer(client(broker, name))
    for topic in topics:
        producer.produce(
            topic, b"{}", b"k", on_delivery=lambda error, message: outcomes.update({message.topic(): error})
        )
    assert producer.flush(SECONDS) == 0
    assert {error.code() for error in outcomes.values() if error} <= {REFUSED}
    return {topic for topic, error in outcomes.items() if error is None}


def read(broker: Secured, name: str, topics: Collection[str] = TOPICS) -> set[str]:
    """Return of which topics a record arrived; every other one must have refused, the unseen ones even their ends."""
    seen = described(broker, name) & set(topics)
    found: dict[str, bool] = {}
    consumer = Consumer(client(broker, name, **{"group.id": name, "enable.auto.commit": False}))
    try:
        for topic in set(topics) - seen:
            with pytest.raises(KafkaException):
                consumer.get_watermark_offsets(At(topic, 0), timeout=SECONDS)
        consumer.assign([At(topic, 0, 0) for topic in seen])
        while found.keys() != seen:
            message = consumer.poll(SECONDS)
            assert message is not None, f"no answer for {seen - found.keys()}"
            error = message.error()
            if error is not None and error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                continue  # a client without a group is told so, and reads without one
            assert error is None or error.code() == REFUSED
            found.setdefault(str(message.topic()), error is None)
    finally:
        consumer.close()
    return {topic for topic, arrived in found.items() if arrived}


def described(broker: Secured, name: str) -> set[str]:
    return set(administrator(broker, name).list_topics(timeout=SECONDS).topics) - {"__consumer_offsets"}


def codes(answers: dict[Any, Any]) -> set[int]:
    """Return how every answer was refused, 0 for one that was not."""
    found = set()
    for answer in answers.values():
        try:
            answer.result(SECONDS)
            found.add(0)
        except KafkaException as error:
            found.add(error.args[0].code())
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_topic_is_written_read_and_seen_by_those_who_may_alone(secured: Secured, name: str) -> None:
    may_write, may_read = allowed(name, "write"), allowed(name, "read")
    assert written(secured, name) == may_write
    assert read(secured, name) == may_read
    assert described(secured, name) == may_write | may_read


@pytest.mark.parametrize("name", NAMES)
def test_nobody_but_the_administrator_makes_alters_or_removes_a_topic(secured: Secured, name: str) -> None:
    admin = administrator(secured, name)
    entry = ConfigEntry("retention.ms", "1000", incremental_operation=AlterConfigOpType.SET)
    altered = [ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry]) for topic in TOPICS]
    assert codes(admin.delete_topics(TOPICS)) == {REFUSED}
    assert codes(admin.create_partitions([NewPartitions(topic, 2) for topic in TOPICS])) == {REFUSED}
    assert codes(admin.incremental_alter_configs(altered)) == {REFUSED}
    assert codes(admin.create_topics([NewTopic("mine", 1, 1)])) == {REFUSED}


@pytest.mark.parametrize("name", NAMES)
async def test_nobody_moves_the_group_of_another(secured: Secured, name: str) -> None:
    topic = min(allowed(name, "read"), default=TOPICS[0])
    moved = {group for group in GROUPS if await moves(secured, name, group, TopicPartition(topic, 0))}
    assert moved == allowed(name, "read", "group")


async def moves(broker: Secured, name: str, group: str, at: TopicPartition) -> bool:
    """Tell whether a principal may commit an offset of a group, or is refused."""
    consumer = AIOKafkaConsumer(group_id=group, enable_auto_commit=False, **broker.settings(name).kafka())
    await consumer.start()
    try:
        consumer.assign([at])
        await consumer.commit({at: 0})
    except GroupAuthorizationFailedError:
        return False
    finally:
        await consumer.stop()
    return True


def test_what_was_granted_by_hand_is_revoked_and_nothing_else(secured: Secured) -> None:
    admin = administrator(secured, "admin")
    assert differences(admin, DOCUMENT) == ([], [])
    by_hand = Right("User:notifier", "topic", "repayment.risk.v1", "write")
    change(admin, [by_hand], [])
    assert differences(admin, DOCUMENT) == ([], [by_hand])
    change(admin, [], [by_hand])
    assert granted(admin).keys() == RIGHTS
    assert {binding.operation for binding in granted(admin).values()} <= {
        AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE,
    }  # fmt: skip


def test_a_changed_password_counts_from_then_on_and_the_old_one_no_more(secured: Secured) -> None:
    path = secured.secrets_dir / "kafka_notifier"
    old = administrator(secured, "notifier")
    assert old.list_topics(timeout=SECONDS).topics
    kept = path.read_text()
    path.write_text("rotated")
    set_passwords(administrator(secured, "admin"), DOCUMENT, secured.secrets_dir)
    assert administrator(secured, "notifier").list_topics(timeout=SECONDS).topics
    path.write_text(kept)
    with pytest.raises(KafkaException):
        administrator(secured, "notifier").list_topics(timeout=3.0)
    set_passwords(administrator(secured, "admin"), DOCUMENT, secured.secrets_dir)


async def test_who_may_not_start_is_told_that_kafka_refused_the_password(secured: Secured, tmp_path: Path) -> None:
    wrong = tmp_path / "kafka_notifier"
    wrong.write_text("wrong")
    settings = secured.settings("notifier").model_copy(update={"kafka_password_file": wrong})
    consumer = AIOKafkaConsumer(**settings.kafka())
    with pytest.raises(KafkaConnectionError) as caught:
        await consumer.start()
    await consumer.stop()
    assert await settings.why(caught.value) == f"Kafka refused notifier: mend {wrong}, or run `otb access`"
    assert await secured.settings("notifier").why(caught.value) == str(caught.value)
