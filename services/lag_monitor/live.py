"""The live picture, of its own process: ``python -m services.lag_monitor.live``, then ``/live`` on its web port.

A Faust agent counts what is restored into windows in memory. No figure comes from them: killed, they are gone, and the
lag ledger is what it was. They begin with what comes after the start, and a record read twice costs a bar of a chart.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import faust
from aiohttp.web import Response
from faust.windows import TumblingWindow
from mode import CrashingSupervisor

from schemas.event import milliseconds_between
from schemas.restoration import CreditRestored
from schemas.topics import TOPIC_OF
from services.decision import Malformed
from services.kafka_access import MECHANISM
from services.runtime import logs
from services.runtime.clock import from_epoch_ms
from services.runtime.codec import decode
from services.runtime.run import main
from services.runtime.settings import Settings, load_settings

NAME: Final = "lag-monitor-live"
WINDOW_SECONDS: Final = 10.0
KEPT: Final = 60
AT_ONCE_MAX: Final = 500
WITHIN_SECONDS: Final = 0.05
RESTORED: Final = frozenset({CreditRestored})
TOPIC: Final = TOPIC_OF[CreditRestored]
TUMBLING: Final = TumblingWindow(WINDOW_SECONDS)


@dataclass(slots=True)
class Window:
    """What was restored within ten seconds: parts, their milliseconds by the cause that took most, the longest."""

    parts: int = 0
    longest_ms: int = 0
    spent_ms: Counter[str] = field(default_factory=Counter)

    def add(self, event: CreditRestored) -> None:
        """Count one part."""
        ms = milliseconds_between(event.repaid_at, event.restored_at)
        self.parts += 1
        self.longest_ms = max(self.longest_ms, ms)
        self.spent_ms[event.cause] += ms


class Picture:
    """The newest windows by when they begin, seconds since 1970; older ones are let go."""

    def __init__(self) -> None:
        self.windows: dict[float, Window] = {}

    def add(self, events: Iterable[CreditRestored]) -> None:
        """Count restored parts into the windows they were restored in."""
        for event in events:
            begin, _ = TUMBLING.current(event.restored_at.timestamp())
            self.windows.setdefault(begin, Window()).add(event)
        for begin in sorted(self.windows)[:-KEPT]:
            del self.windows[begin]

    def described(self) -> list[dict[str, Any]]:
        """Return the windows for programs, the oldest first."""
        return [
            {
                "from": _instant(begin),
                "until": _instant(begin) + timedelta(seconds=WINDOW_SECONDS),
                "parts": window.parts,
                "mean_ms": round(window.spent_ms.total() / window.parts),
                "longest_ms": window.longest_ms,
                "by_cause_ms": dict(window.spent_ms),
            }
            for begin, window in sorted(self.windows.items())
        ]


def _instant(seconds: float) -> datetime:
    return from_epoch_ms(round(seconds * 1000))


PICTURE: Final = Picture()
app = faust.App(
    NAME,
    key_serializer="raw",
    value_serializer="raw",
    store="memory://",
    datadir=f"{tempfile.gettempdir()}/opentobuy-{os.getuid()}",
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
    conf.broker = [f"aiokafka://{server}" for server in (settings.kafka_bootstrap_servers or "").split(",")]
    conf.broker_credentials = credentials(settings)


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


@app.page("/livez")
async def livez(view: Any, request: Any) -> Any:
    """Answer that the process runs."""
    return Response(text="ok")


if __name__ == "__main__":
    main("services.lag_monitor.live")
