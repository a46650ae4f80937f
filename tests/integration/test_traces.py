"""Traces on real PostgreSQL, told over HTTP to a collector that keeps them: what the ledger has, once it has it."""

import asyncio
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from typing_extensions import override

from services.lag_monitor.worker import WORKER
from services.runtime.settings import Settings
from services.watching.traces import collector, end, follow, step
from tests import builders
from tests.integration.conftest import MakeFeed
from tests.integration.support import owner, role
from tests.integration.test_consumer import until

SECONDS: Final = 30.0
# Whether the follower asked for what comes after the facts it found.
FOLLOWING: Final = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'watching' AND query LIKE '%s.stage, s.cause%'
"""
SPENT: Final = "SELECT stage, cause, ms FROM lag_monitor.lag_segment ORDER BY n"


class Collector(ThreadingHTTPServer):
    """Keeps the spans of every request, or refuses all."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Call)
        self.spans: list[Any] = []
        self.refuses = False


class Call(BaseHTTPRequestHandler):
    """One export."""

    def do_POST(self) -> None:
        assert isinstance(self.server, Collector)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.refuses:
            self.send_response(400)
        else:
            told = ExportTraceServiceRequest.FromString(body)
            self.server.spans += [span for r in told.resource_spans for s in r.scope_spans for span in s.spans]
            self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Run the collector that OpenTelemetry's own variable names."""
    with Collector() as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        serving = Thread(target=server.serve_forever)
        serving.start()
        yield server
        server.shutdown()
        serving.join()


async def restore(feed_of: MakeFeed) -> None:
    feed = await feed_of(WORKER)
    await feed.deliver(builders.repayment_received(), builders.risk_assessed(), builders.credit_restored())


async def test_a_restored_part_is_told_as_the_ledger_has_it_and_again_until_it_was_taken(
    kept: Collector, feed_of: MakeFeed, settings: Settings
) -> None:
    tell = collector()
    async with role(settings, "watching") as connection:
        begun = await end(connection)
        assert await step(connection, begun, tell) == begun
        await restore(feed_of)
        kept.refuses = True
        assert await step(connection, begun, tell) == begun, "the collector did not take it"
        kept.refuses = False
        at = begun
        async with asyncio.timeout(SECONDS):  # what is written is read once no older transaction of the server is open
            while at == begun:
                at = await step(connection, begun, tell)
                await asyncio.sleep(0.02)
        assert at == await end(connection)
    async with owner(settings) as connection:
        spent = [(row["stage"], row["cause"], row["ms"]) for row in await connection.fetch(SPENT)]
    assert spent
    told = [({each.key: each.value.string_value for each in span.attributes}, span) for span in kept.spans]
    lasted = [(span.end_time_unix_nano - span.start_time_unix_nano) // 1_000_000 for span in kept.spans]
    children = [
        (known["credit.stage"], known["credit.cause"], ms)
        for (known, span), ms in zip(told, lasted, strict=True)
        if span.parent_span_id
    ]
    assert children == spent
    assert {span.trace_id.hex() for span in kept.spans} == {builders.credit_restored().repayment_id}


async def test_it_follows_what_is_restored_while_it_runs(
    kept: Collector, feed_of: MakeFeed, settings: Settings
) -> None:
    stopping = asyncio.Event()

    async def asked() -> bool:
        async with owner(settings) as connection:
            return bool(await connection.fetchval(FOLLOWING))

    async def told() -> bool:
        return bool(kept.spans)

    following = asyncio.create_task(follow(settings, collector(), stopping))
    try:
        await until(asked, SECONDS)
        await restore(feed_of)
        await until(told, SECONDS)
    finally:
        stopping.set()
        await following
