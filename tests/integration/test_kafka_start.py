"""A client whose start is cut off leaves no connection open."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka.conn import AIOKafkaConnection

from services import kafka_access
from services.lag_monitor.consumer_lag import admin_of, reader_of
from services.runtime.publisher import producer_of
from services.runtime.settings import Settings

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
    starting = asyncio.ensure_future(kafka_access.start(client))
    with pytest.raises(asyncio.CancelledError):
        await starting
    await (client.close() if kind == "administrator" else client.stop())
    assert cut == [True]
    left = [connection for connection in made if connection.connected()]
    for connection in left:
        await connection.close()
    assert not left
