"""A client whose start or stop is cut off leaves no connection open; one that is not answered is given up."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.conn import AIOKafkaConnection

from services import kafka_access
from services.lag_monitor import consumer_lag
from services.lag_monitor import watch as watching
from services.lag_monitor.consumer_lag import admin_of, reader_of
from services.lag_monitor.exporter import Ledger
from services.lag_monitor.watch import Leader
from services.runtime.publisher import producer_of
from services.runtime.settings import Settings
from tests.integration.support import role

MAKE: dict[str, Callable[[Settings], Any]] = {
    "administrator": admin_of,
    "consumer": reader_of,
    "producer": lambda settings: producer_of(settings, "cut"),
}


@pytest.mark.parametrize("kind", sorted(MAKE))
@pytest.mark.parametrize("request_name", ["ApiVersionRequest", "MetadataRequest"])
async def test_a_start_that_is_cut_off_leaves_no_connection_open(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, kind: str, request_name: str
) -> None:
    made: list[AIOKafkaConnection] = []
    cut: list[bool] = []
    send = AIOKafkaConnection.send

    def cutting(self: AIOKafkaConnection, request: Any, **options: Any) -> Any:
        if type(request).__name__ == request_name and not cut:
            cut.append(starting.cancel())
        made.append(self)
        return send(self, request, **options)

    monkeypatch.setattr(AIOKafkaConnection, "send", cutting)
    client = MAKE[kind](settings)
    starting = asyncio.ensure_future(kafka_access.whole(client.start()))
    with pytest.raises(asyncio.CancelledError):
        await starting
    await (client.close() if kind == "administrator" else client.stop())
    assert cut == [True]
    await none_open(made)


async def test_a_leader_that_is_stopped_while_it_closes_leaves_no_connection_open(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[AIOKafkaConnection] = []
    send, stop = AIOKafkaConnection.send, AIOKafkaConsumer.stop

    def noting(self: AIOKafkaConnection, request: Any, **options: Any) -> Any:
        made.append(self)
        return send(self, request, **options)

    async def stopping(self: AIOKafkaConsumer) -> None:
        closing.cancel()
        await asyncio.sleep(0)
        await stop(self)

    monkeypatch.setattr(AIOKafkaConnection, "send", noting)
    monkeypatch.setattr(AIOKafkaConsumer, "stop", stopping)
    async with role(settings, "lag_monitor") as connection:
        leader = Leader(settings, connection, Ledger())
        await leader.start()
        await leader.reader.topics()
        await leader.admin.list_topics()
        assert len({each for each in made if each.connected()}) == 2
        closing = asyncio.ensure_future(kafka_access.whole(leader.close()))
        with pytest.raises(asyncio.CancelledError):
            await closing
    await none_open(made)


async def test_a_leader_whom_kafka_never_answers_gives_the_lead_up(
    empty_kafka: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unanswered(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(watching, "KAFKA_SECONDS", 0.1)
    async with role(empty_kafka, "lag_monitor") as connection:
        leader = Leader(empty_kafka, connection, Ledger())
        await leader.start()
        try:
            with monkeypatch.context() as patched:
                patched.setattr(AIOKafkaConsumer, "end_offsets", unanswered)
                async with asyncio.timeout(20):
                    with pytest.raises(TimeoutError):
                        await leader.sweep()
            with monkeypatch.context() as patched:
                patched.setattr(consumer_lag, "measure", unanswered)
                async with asyncio.timeout(20):
                    with pytest.raises(TimeoutError):
                        await leader.turn()
        finally:
            await leader.close()


@pytest.mark.parametrize("heeds", [True, False])
async def test_who_is_cut_off_waits_no_longer_than_is_said(monkeypatch: pytest.MonkeyPatch, *, heeds: bool) -> None:
    monkeypatch.setattr(kafka_access, "CUT_OFF_SECONDS", 0.05)
    ended: list[str] = []

    async def stalled() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("told to")
            if heeds:
                raise
            await release.wait()

    release = asyncio.Event()
    waiting = asyncio.ensure_future(kafka_access.whole(stalled()))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(5):
            await waiting
    assert ended == ["told to"]
    release.set()


async def none_open(made: list[AIOKafkaConnection]) -> None:
    """Close what was left open, or no loop ends, and say so."""
    left = [connection for connection in made if connection.connected()]
    for connection in left:
        await connection.close()
    assert not left
