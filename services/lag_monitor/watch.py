"""The leader's work beside reading: project, sweep, export. One process leads, any other takes over within seconds."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import mode
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from services import kafka_access
from services.lag_monitor import consumer_lag, exporter, gauges, projector, sweeper
from services.lag_monitor.exporter import Ledger
from services.lag_monitor.gauges import Values
from services.runtime import errors
from services.runtime.clock import monotonic
from services.runtime.logs import LOGGER
from services.runtime.postgres import TRANSIENT, Connection, connect, one
from services.runtime.settings import Settings, load_settings

TURN_SECONDS: Final = 0.5
EXPORT_SECONDS: Final = 5.0
PROBE_SECONDS: Final = 10.0
INVARIANT_SECONDS: Final = 60.0
CHECK_REST: Final = 10
"""Counting what breaks an invariant takes one part in so many of the time: five seconds of it take a minute."""
STANDBY_SECONDS: Final = 1.0
CLOSE_SECONDS: Final = 2.0
KAFKA_SECONDS: Final = 45.0
"""What Kafka is asked for at once is answered within this, or another session asks: after a broker's restart its client
may wait for ever, and nothing would be counted meanwhile."""
LOCK: Final = 7_261_095
# Leads while this session lives.
LEAD = "SELECT pg_try_advisory_lock($1) AS leads"
# A leader whose machine is gone is noticed within seven seconds.
KEEPALIVE: Final = (
    "SET tcp_keepalives_idle = 3",
    "SET tcp_keepalives_interval = 2",
    "SET tcp_keepalives_count = 2",
)
READING = "SELECT service, topic, partition FROM lag_monitor.reading ORDER BY 1, 2, 3"
LEDGER: Final = Ledger()


class Leader:
    """Does the work of one session that leads."""

    def __init__(self, settings: Settings, connection: Connection, ledger: Ledger) -> None:
        self.settings, self.connection, self.ledger = settings, connection, ledger
        self.reader: Any = None
        self.admin: Any = None
        self._export_at = self._probe_at = self._check_at = 0.0
        self._asked: tuple[datetime, Mapping[Any, int]] | None = None
        self._probed: Values = {}
        self._checked: Values = {}
        self._checking: asyncio.Task[Values] | None = None
        self._began = 0.0

    async def start(self) -> None:
        """Connect to Kafka, of which only log ends, offsets and single records are read."""
        self.reader = consumer_lag.reader_of(self.settings)
        await kafka_access.whole(self.reader.start())
        self.admin = consumer_lag.admin_of(self.settings)
        await kafka_access.whole(self.admin.start())

    async def turn(self) -> None:
        """Breach what is due, count what is new, and read what is exported when it is time."""
        await self.sweep()
        await projector.project_all(self.connection)
        if monotonic() >= self._probe_at:
            self._probed = await self._lags()
            self._probe_at = monotonic() + PROBE_SECONDS
        self._check()
        if monotonic() >= self._export_at:
            found = await exporter.read(self.connection)
            self.ledger.snapshot = replace(found, gauges={**found.gauges, **self._probed, **self._checked})
            self._export_at = monotonic() + EXPORT_SECONDS

    def _check(self) -> None:
        """Have the invariants counted beside the rest; of those that were not in time nothing is exported."""
        if self._checking is None and monotonic() >= self._check_at:
            self._began = monotonic()
            self._checking = asyncio.create_task(_invariants(self.settings))
        elif self._checking is not None and self._checking.done():
            done, self._checking = self._checking, None
            self._check_at = self._began + INVARIANT_SECONDS
            try:
                self._checked = done.result()
            except TRANSIENT as error:
                self._checked = {}
                LOGGER.warning("not_checked", service="lag-monitor", error=repr(error))

    async def sweep(self) -> None:
        """Breach deadlines up to the last instant of which everything was heard (sweeper.told_until).

        The ends of the topics as they were after that instant are waited for over the turns: under steady traffic those
        of now are never reached.
        """
        if self._asked is None:
            until = await sweeper.told_until(self.connection) - timedelta(seconds=sweeper.GRACE_SECONDS)
            known = await sweeper.positions(self.connection)
            async with asyncio.timeout(KAFKA_SECONDS):
                self._asked = until, await self.reader.end_offsets([TopicPartition(*at) for at in known])
        (until, ends), heard = self._asked, await sweeper.positions(self.connection)
        if all(heard[at.topic, at.partition] >= end for at, end in ends.items()):
            self._asked = None
            while await sweeper.sweep(self.connection, until) == sweeper.AT_ONCE_MAX:
                pass

    async def _lags(self) -> Values:
        """Return the lag of every group on what its books say that it reads."""
        read: dict[str, list[TopicPartition]] = {}
        for row in await self.connection.fetch(READING):
            read.setdefault(row["service"], []).append(TopicPartition(row["topic"], row["partition"]))
        async with asyncio.timeout(KAFKA_SECONDS):
            return consumer_lag.gauges_of(await consumer_lag.measure(self.admin, self.reader, read))

    async def close(self) -> None:
        """Leave both servers."""
        self.ledger.snapshot = None
        if self._checking is not None:
            self._checking.cancel()
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await asyncio.gather(self._checking, return_exceptions=True)
        for stop in (self.reader and self.reader.stop, self.admin and self.admin.close):
            with suppress(*TRANSIENT, KafkaError):
                if stop is not None:
                    await stop()
        with suppress(*TRANSIENT):
            await self.connection.close(timeout=1)


async def _invariants(settings: Settings) -> Values:
    """Count on a connection of its own: what reads all books takes seconds, and everything else goes on."""
    connection = await connect(settings, "lag_monitor")
    try:
        return await gauges.invariants(connection, CHECK_REST)
    finally:
        await connection.close(timeout=1)


class Watch(mode.Service):
    """Leads when no other process does."""

    def __init__(self, settings: Settings | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.settings = settings
        self.ledger = LEDGER
        self.leads = False

    @mode.Service.task
    async def lead(self) -> None:
        """Try to lead until told to stop; what breaks on the way costs the lead, never the process."""
        settings = self.settings or load_settings()
        while not self.should_stop:
            try:
                await self._session(settings)
            except (*TRANSIENT, KafkaError, errors.ConfigurationError) as error:
                LOGGER.warning("lead_lost", service="lag-monitor", error=repr(error))
            await self.sleep(STANDBY_SECONDS)

    async def _session(self, settings: Settings) -> None:
        """Lead for as long as one session lives, if it may."""
        connection = await connect(settings, "lag_monitor")
        leader = Leader(settings, connection, self.ledger)
        try:
            for setting in KEEPALIVE:
                await connection.execute(setting)
            while not self.should_stop and not (await one(connection, LEAD, LOCK))["leads"]:
                await self.sleep(STANDBY_SECONDS)
            if not self.should_stop:
                await leader.start()
                self.leads = True
                LOGGER.info("leads", service="lag-monitor")
            while not self.should_stop:
                await leader.turn()
                await self.sleep(TURN_SECONDS)
        finally:
            self.leads = False
            await kafka_access.whole(leader.close())
