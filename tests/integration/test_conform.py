"""`otb conform` on a real broker: another client's partitioner is told apart from the right one."""

import pytest
from confluent_kafka import Producer

from schemas.topics import BILLING_REPAYMENT
from services.billing_simulator.headers import billing_headers
from services.cli.commands import answer
from services.runtime.codec import encode
from services.runtime.settings import Settings
from tests import builders

RECORDS = 100
TOPIC = BILLING_REPAYMENT.name


def produced(settings: Settings, **more: str) -> None:
    """Send right records by librdkafka, whose default partitioner is not Java's."""
    options = {name.replace("_", "."): value for name, value in more.items()}
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers or "", "acks": "all", **options})
    for n in range(RECORDS):
        event = builders.repayment_reported(account_id=f"acct_{n}", external_ref=f"dd-{n}")
        headers: list[tuple[str, str | bytes | None]] = [*billing_headers(event, event.source)]
        producer.produce(TOPIC, value=encode(event).payload, key=event.account_id.encode(), headers=headers)
    assert producer.flush(30) == 0


@pytest.fixture
def kafka(empty_kafka: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Name the broker to the command line."""
    monkeypatch.setenv("OTB_KAFKA_BOOTSTRAP_SERVERS", empty_kafka.kafka_bootstrap_servers or "")
    return empty_kafka


def test_librdkafka_by_default_is_red_and_says_the_fix(kafka: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    produced(kafka)
    assert answer(["conform", "--last", str(RECORDS)]) == 1
    said = capsys.readouterr().out
    assert "broken partition" in said
    assert "partitioner=murmur2_random" in said


def test_librdkafka_with_murmur2_is_green(kafka: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    produced(kafka, partitioner="murmur2_random")
    assert answer(["conform"]) == 0
    assert capsys.readouterr().out == f"{RECORDS} records of {TOPIC}: every rule is kept\n"


def test_what_any_client_compresses_is_read(kafka: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    codecs = ("gzip", "snappy", "lz4", "zstd")
    for codec in codecs:
        produced(kafka, partitioner="murmur2_random", compression_type=codec)
    assert answer(["conform"]) == 0
    assert capsys.readouterr().out == f"{len(codecs) * RECORDS} records of {TOPIC}: every rule is kept\n"


def test_only_the_newest_are_looked_at(kafka: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    produced(kafka)
    produced(kafka, partitioner="murmur2_random")
    assert answer(["conform", "--last", str(RECORDS // 2)]) == 0
    assert f"{RECORDS // 2} records" in capsys.readouterr().out


def test_an_empty_topic_is_not_found(kafka: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(["conform"]) == 4
    assert "is empty" in capsys.readouterr().err
