"""Naive in FastStream: a subscriber and a publisher a stage, a transaction a message, then the acknowledgement."""

import sys
from datetime import datetime
from typing import Final

import uvloop
from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker, KafkaMessage

from services.cli.system import System
from services.runtime.clock import from_epoch_ms
from services.runtime.settings import Settings, load_settings
from tests.benchmarks.bed import execute, make_topics
from tests.benchmarks.contenders import BOOKS, Contender, told
from tests.benchmarks.contenders import naive_stages as stages
from tests.benchmarks.contenders.programs import start_programs

SCHEMA: Final = "naive_faststream"
STAGES: Final = tuple(f"faststream-{stage.name}" for stage in stages.STAGES)
TOPICS: Final = tuple(f"benchmark.faststream.{number}" for number in range(len(STAGES) + 1))


def app_of(settings: Settings, number: int) -> FastStream:
    """Return the app of one stage."""
    # Its two log lines a message are off: they would cost it time nobody asked for.
    broker = KafkaBroker(
        settings.kafka_bootstrap_servers or "", acks="all", enable_idempotence=True, linger_ms=0, logger=None
    )
    pipeline = stages.Pipeline(settings, stages.STAGES[number], SCHEMA)
    _subscriber(broker, pipeline, number)
    return FastStream(broker, on_startup=[pipeline.open], after_shutdown=[pipeline.close])


def _subscriber(broker: KafkaBroker, pipeline: stages.Pipeline, number: int) -> None:
    publisher = broker.publisher(TOPICS[number + 1])

    @broker.subscriber(
        TOPICS[number],
        group_id=STAGES[number],
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.NACK_ON_ERROR,
        session_timeout_ms=10_000,
        heartbeat_interval_ms=3_000,
        decoder=_undecoded,
    )
    async def handle(body: bytes, message: KafkaMessage) -> None:
        for outgoing in await pipeline.handle(_kind(message), body, _reported_at(message)):
            headers = {name: text.decode() for name, text in outgoing.headers()}
            await publisher.publish(outgoing.payload, key=outgoing.account_id.encode(), headers=headers)


async def _undecoded(message: KafkaMessage) -> bytes:
    """Leave the body to the event's own model: decoding JSON twice would cost it time."""
    return message.body


def _kind(message: KafkaMessage) -> str:
    return str(message.headers["ce_type"])


def _reported_at(message: KafkaMessage) -> datetime:
    record = message.raw_message
    return from_epoch_ms((record[0] if isinstance(record, tuple) else record).timestamp)


async def _prepare(system: System) -> None:
    await execute(system.settings, f"CREATE SCHEMA {SCHEMA}")
    await execute(system.settings, stages.TABLES, schema=SCHEMA)
    await make_topics(system.settings, TOPICS)


async def _start(system: System) -> None:
    await start_programs(system, __name__, STAGES)


NAIVE_FASTSTREAM: Final = Contender(
    name="faststream",
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
    uvloop.run(app_of(load_settings(), int(sys.argv[1])).run())
