"""Every Kafka client is made where its safe settings are, and has them."""

import ast
from collections.abc import Iterator

import pytest

from services.lag_monitor import consumer_lag
from services.repayment_ingest.worker import WORKER
from services.runtime import publisher, reader
from services.runtime.settings import Settings
from tests.conftest import REPOSITORY

MADE_IN = {
    "AIOKafkaConsumer": {"services/runtime/reader.py:consumer_of"},
    "AIOKafkaProducer": {"services/runtime/publisher.py:producer_of"},
}
PROBES = {"services/cli/kafka.py:onlooker", "services/lag_monitor/consumer_lag.py:reader_of"}
"""Places that only look, join no group and commit nothing, as path:function."""


def made(tree: ast.AST, where: str, function: str = "") -> Iterator[tuple[str, str]]:
    """Yield each Kafka client that is made, and where."""
    for node in ast.iter_child_nodes(tree):
        inside = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
        if isinstance(node, ast.Call):
            called = (getattr(each, "id", getattr(each, "attr", "")) for each in ast.walk(node.func))
            yield from ((name, f"{where}:{inside}") for name in called if name in MADE_IN)
        yield from made(node, where, inside)


def test_clients_are_made_in_two_functions_only() -> None:
    found: dict[str, set[str]] = {name: set() for name in MADE_IN}
    for path in sorted((REPOSITORY / "services").rglob("*.py")):
        where = str(path.relative_to(REPOSITORY))
        for name, place in made(ast.parse(path.read_text()), where):
            if place not in PROBES:
                found[name].add(place)
    assert found == MADE_IN


def given(module: object, client: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Return what a client is made with."""
    taken: dict[str, object] = {}
    monkeypatch.setattr(module, client, lambda **settings: taken.update(settings))
    return taken


def test_the_consumer_commits_nothing_by_itself_and_skips_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = given(reader, "AIOKafkaConsumer", monkeypatch)
    reader.consumer_of(Settings(), WORKER)
    assert taken["enable_auto_commit"] is False
    assert taken["auto_offset_reset"] == "earliest"
    assert taken["group_id"] == WORKER.name
    assert taken["check_crcs"] is True
    session, heartbeat = taken["session_timeout_ms"], taken["heartbeat_interval_ms"]
    assert isinstance(session, int)
    assert isinstance(heartbeat, int)
    assert 3 * heartbeat <= session <= 10_000


def test_the_monitors_reader_joins_no_group_and_commits_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = given(consumer_lag, "AIOKafkaConsumer", monkeypatch)
    consumer_lag.reader_of(Settings())
    assert taken["group_id"] is None
    assert taken["enable_auto_commit"] is False


def test_the_producer_is_idempotent_and_waits_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = given(publisher, "AIOKafkaProducer", monkeypatch)
    publisher.producer_of(Settings(), "any")
    assert taken["enable_idempotence"] is True
    assert taken["acks"] == "all"
    assert "partitioner" not in taken, "Java's default partitioner is aiokafka's too"
