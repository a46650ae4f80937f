"""Follows the lag ledger and tells an OpenTelemetry collector of each restored part: python -m services.watching.traces

It needs the extra ``tracing``. OTEL_EXPORTER_OTLP_ENDPOINT names the collector, as OpenTelemetry has it. What is
restored while it runs is told; a collector that does not answer is told later, and told twice it is the same spans.
"""

import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.runtime import logs
from services.runtime.errors import ConfigurationError
from services.runtime.postgres import TRANSIENT, Connection, Row, connect
from services.runtime.settings import Settings, load_settings

if TYPE_CHECKING:
    from services.watching.spans import Part

SERVICE: Final = "traces"
AT_ONCE_MAX: Final = 200
EVERY_SECONDS: Final = 2.0
AGAIN_SECONDS: Final = 5.0
ENVIRONMENT: Final = 3
ALIVE: Final = Path(tempfile.gettempdir()) / "opentobuy-traces.alive"
"""Touched whenever the ledger answered: the container's health."""
# Where the facts end now.
END = """
SELECT xid::text AS xid, id FROM watching.restoration WHERE xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY xid DESC, id DESC LIMIT 1
"""
# The next facts in the order they were made, with what each lag was made of.
NEXT = """
SELECT r.xid::text AS xid, r.id, r.repayment_id, r.tranche, r.tier, r.cause,
  (SELECT json_agg(json_build_array(s.stage, s.cause, s.from_at, s.to_at) ORDER BY s.n)::text FROM watching.segment s
   WHERE s.repayment_id = r.repayment_id AND s.tranche = r.tranche) AS stretches
FROM watching.restoration r
WHERE (r.xid, r.id) > ($1::text::xid8, $2::bigint) AND r.xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY r.xid, r.id LIMIT $3
"""
Place = tuple[str, int]
Tell = Callable[[Sequence["Part"]], bool]
"""Tells the collector and returns whether it took them; blocks."""


async def end(connection: Connection) -> Place:
    """Return the place of the last fact there is."""
    rows = await connection.fetch(END)
    return (rows[0]["xid"], rows[0]["id"]) if rows else ("0", 0)


async def step(connection: Connection, place: Place, tell: Tell) -> Place:
    """Tell of the facts after ``place``; return the place of the last one the collector took."""
    rows = await connection.fetch(NEXT, *place, AT_ONCE_MAX)
    if not rows or not await asyncio.to_thread(tell, [part_of(row) for row in rows]):
        return place
    return rows[-1]["xid"], rows[-1]["id"]


def part_of(row: Row) -> "Part":
    """Return the part a row is about; one that waited for nothing has no stretches."""
    from services.watching.spans import Part, Stretch

    told: list[list[str]] = json.loads(row["stretches"] or "[]")
    at = datetime.fromisoformat
    stretches = [Stretch(stage, cause, at(begin), at(until)) for stage, cause, begin, until in told]
    return Part(row["repayment_id"], row["tranche"], row["tier"], row["cause"], stretches)


def collector() -> Tell:
    """Return what tells the collector named in the environment."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    from services.watching.spans import Traces

    traces, exporter = Traces(), OTLPSpanExporter()

    def tell(parts: Sequence["Part"]) -> bool:
        return exporter.export(traces.of(parts)) is SpanExportResult.SUCCESS

    return tell


async def follow(settings: Settings, tell: Tell, stopping: asyncio.Event) -> None:
    """Tell of what is restored from now on until stopped; a database that does not answer is asked again."""
    place: Place | None = None
    while not stopping.is_set():
        try:
            connection = await connect(settings, "watching")
        except TRANSIENT as error:
            logs.LOGGER.warning("not_connected", service=SERVICE, error=repr(error))
            await _pause(stopping, AGAIN_SECONDS)
            continue
        try:
            place = place or await end(connection)
            while not stopping.is_set():
                before, place = place, await step(connection, place, tell)
                ALIVE.touch()
                await _pause(stopping, EVERY_SECONDS if place == before else 0)
        except TRANSIENT as error:
            logs.LOGGER.warning("connection_lost", service=SERVICE, error=repr(error))
        finally:
            await connection.close()


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)


async def run() -> None:
    """Follow until SIGTERM or SIGINT."""
    settings = load_settings()
    logs.configure()
    logs.set_level(settings.log_level)
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await follow(settings, collector(), stopping)


def main() -> int:
    """Return 0 when stopped, 3 when what it needs is not there."""
    try:
        asyncio.run(run())
    except ModuleNotFoundError as error:
        sys.stderr.write(f"{error.name} is missing: install the extra tracing\n")
        return ENVIRONMENT
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return ENVIRONMENT
    return 0


if __name__ == "__main__":
    sys.exit(main())
