"""Naive in plain Faust: an agent a stage, at least once, a transaction a message, the next topic as its sink."""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from typing import Any, Final

import faust
import uvloop

from services.cli.system import System
from services.runtime.clock import from_epoch_ms
from services.runtime.codec import Outgoing
from services.runtime.settings import Settings, load_settings
from tests.benchmarks.bed import execute, make_topics
from tests.benchmarks.contenders import BOOKS, Contender, told
from tests.benchmarks.contenders import naive_stages as stages
from tests.benchmarks.contenders.programs import start_programs

SCHEMA: Final = "naive_faust"
STAGES: Final = tuple(f"faust-{stage.name}" for stage in stages.STAGES)
TOPICS: Final = tuple(f"benchmark.faust.{number}" for number in range(len(STAGES) + 1))


def app_of(settings: Settings, number: int) -> faust.App:
    """Return the app of one stage."""
    app = faust.App(
        STAGES[number],
        broker=f"kafka://{settings.kafka_bootstrap_servers}",
        store="memory://",
        datadir=tempfile.gettempdir(),
        autodiscover=False,
        processing_guarantee="at_least_once",
        key_serializer="raw",
        value_serializer="raw",
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=10.0,
        broker_heartbeat_interval=3.0,
        stream_wait_empty=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        worker_redirect_stdouts=False,
    )
    _agent(app, stages.Pipeline(settings, stages.STAGES[number], SCHEMA), TOPICS[number], TOPICS[number + 1])
    return app


def _agent(app: faust.App, pipeline: stages.Pipeline, source: str, target: str) -> None:
    sink = app.topic(target, value_serializer="raw")

    async def publish(outgoing: Outgoing) -> None:
        # Faust flushes its producer before it commits: nobody needs to wait for each acknowledgement.
        _ = await sink.send(key=outgoing.account_id.encode(), value=outgoing.payload, headers=dict(outgoing.headers()))

    @app.agent(app.topic(source, value_serializer="raw"), sink=[publish])
    async def handle(stream: Any) -> AsyncIterator[Outgoing]:
        await pipeline.open()
        async for event in stream.events():
            kind = event.headers["ce_type"].decode()
            reported_at = from_epoch_ms(round(event.message.timestamp * 1000))
            for outgoing in await pipeline.handle(kind, event.value, reported_at):
                yield outgoing


async def _prepare(system: System) -> None:
    await execute(system.settings, f"CREATE SCHEMA {SCHEMA}")
    await execute(system.settings, stages.TABLES, schema=SCHEMA)
    await make_topics(system.settings, TOPICS)


async def _start(system: System) -> None:
    await start_programs(system, __name__, STAGES)


NAIVE_FAUST: Final = Contender(
    name="faust",
    stages=STAGES,
    inlet=TOPICS[0],
    outlet=TOPICS[-1],
    identify=told,
    prepare=_prepare,
    start=_start,
    naive=True,
    effects=stages.EFFECTS,
    effects_each=BOOKS,
    schema=SCHEMA,
)


if __name__ == "__main__":
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    faust.Worker(app_of(load_settings(), int(sys.argv[1])), loglevel="info").execute_from_commandline()
