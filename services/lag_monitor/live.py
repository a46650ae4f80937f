"""The live picture, of its own process: ``python -m services.lag_monitor.live``, then ``/live`` on its web port.

A Faust agent counts what is restored into windows in memory. No figure comes from them: killed, they are gone, and the
lag ledger is what it was. They begin with what comes after the start, and a record read twice costs a bar of a chart.
"""

from importlib.metadata import version
from typing import Any, Final

import faust
from aiohttp.web import Response
from mode import CrashingSupervisor
from prometheus_client.exposition import choose_encoder

from schemas.restoration import CreditRestored
from services.decision import Malformed
from services.hosted import Observer, datadir
from services.kafka_access import MECHANISM
from services.lag_monitor import PICTURE as NAME
from services.lag_monitor.windows import TOPIC, Picture
from services.runtime import logs, metrics
from services.runtime.codec import decode
from services.runtime.run import main
from services.runtime.settings import Settings, load_settings

AT_ONCE_MAX: Final = 500
WITHIN_SECONDS: Final = 0.05
RESTORED: Final = frozenset({CreditRestored})
PICTURE: Final = Picture()
READS: Final = set[Any]()
"""The partitions it reads now."""
app = faust.App(
    NAME,
    key_serializer="raw",
    value_serializer="raw",
    store="memory://",
    datadir=datadir(),
    Worker=Observer,
    autodiscover=False,
    agent_supervisor=CrashingSupervisor,
    stream_wait_empty=False,
    broker_commit_interval=0.5,
    broker_session_timeout=10.0,
    broker_heartbeat_interval=3.0,
    consumer_auto_offset_reset="latest",
    table_standby_replicas=0,
    topic_allow_declare=False,
    topic_disable_leader=True,
    web_bind="127.0.0.1",
    web_router_enabled=False,
    web_tables_enabled=False,
    worker_redirect_stdouts=False,
    logging_config=logs.configure(),
)


@app.on_configured.connect
def configure(app: Any, /, *given: Any, signal: Any, **_: Any) -> None:
    """Say where Kafka is; settings are read here, never at import."""
    (conf,), settings = given, load_settings()
    logs.set_level(settings.log_level)
    metrics.BUILD.labels(version("opentobuy"), NAME).set(1)
    conf.broker = [f"aiokafka://{server}" for server in (settings.kafka_bootstrap_servers or "").split(",")]
    conf.broker_credentials = credentials(settings)


@app.on_partitions_assigned.connect
async def begin_reading(app: Any, /, *given: Any, signal: Any, **_: Any) -> None:
    """Remember what it was given to read."""
    READS.update(*given)


@app.on_partitions_revoked.connect
async def end_reading(app: Any, /, *given: Any, signal: Any, **_: Any) -> None:
    """Forget what it reads no more."""
    READS.difference_update(*given)


def credentials(settings: Settings) -> faust.SASLCredentials | faust.SSLCredentials | None:
    """Return the principal as Faust takes it, None where Kafka asks for none."""
    known = settings.kafka()
    context = known.get("ssl_context")
    if "sasl_plain_username" in known:
        named = {"username": known["sasl_plain_username"], "password": known["sasl_plain_password"]}
        return faust.SASLCredentials(**named, mechanism=MECHANISM, ssl_context=context)
    return faust.SSLCredentials(context=context) if context is not None else None


@app.agent(app.topic(TOPIC.name, key_type=bytes, value_type=bytes), concurrency=1)
async def watch(stream: Any) -> None:
    """Count what comes, then say that it was read."""
    async for events in stream.noack().noack_take(AT_ONCE_MAX, within=WITHIN_SECONDS):
        PICTURE.add(event for each in events if (event := restored(each.message)) is not None)
        for each in events:
            await stream.ack(each)


def restored(message: Any) -> CreditRestored | None:
    """Return what a record tells of a restored part; what cannot be read is the ledger's to tell of."""
    try:
        found = decode(TOPIC, message, RESTORED).event
    except Malformed:
        return None
    return found if isinstance(found, CreditRestored) else None


@app.page("/live")
async def live(view: Any, request: Any) -> Any:
    """Answer with the windows."""
    return view.json(PICTURE.described())


@app.page("/metrics")
async def metrics_page(view: Any, request: Any) -> Any:
    """Answer with what is scraped: that it runs, and which build."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return Response(body=encode(metrics.REGISTRY), headers={"Content-Type": content_type})


@app.page("/readyz")
async def readyz(view: Any, request: Any) -> Any:
    """Answer whether it was given partitions to read."""
    return Response(text="ok" if READS else "no partitions assigned", status=200 if READS else 503)


@app.page("/livez")
async def livez(view: Any, request: Any) -> Any:
    """Answer that the process runs."""
    return Response(text="ok")


if __name__ == "__main__":
    main("services.lag_monitor.live")
