"""Sends a plan to Kafka in an open loop: on time, never waiting for earlier messages, through broker restarts."""

import asyncio
from asyncio import Future
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from services import kafka_access
from services.billing_simulator.plan import Kind, Plan, Planned, Reference
from services.runtime.clock import monotonic, utc_now
from services.runtime.errors import ConfigurationError
from services.runtime.publisher import PUBLISH_FAILED, producer_of
from services.runtime.settings import Settings

CLIENT_ID: Final = "billing-simulator"
IN_FLIGHT_MAX: Final = 5_000
GIVE_UP_SECONDS: Final = 120.0
STALLED_SECONDS: Final = 30.0
"""Without an acknowledgement for so long, another producer takes over what is in flight."""
STOP_SECONDS: Final = 5.0
BACKOFF_SECONDS: Final = (0.2, 0.5, 1.0, 2.0)
YIELD_EVERY: Final = 64
"""Messages after which a sender in haste lets acknowledgements in."""


class DeliveryError(Exception):
    """Kafka acknowledged nothing for so long that sending was given up."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What Kafka acknowledged; each planned message counts once, however often it was tried.

    ``reports`` are all readable reports, of which ``distinct_repayments`` named a reference for the first time.
    ``acknowledged`` and ``returned`` are the references of repayments and of returns, to compare with the books.
    ``late_seconds_max`` is how far the sender itself fell behind its plan; ``retried`` are messages tried again.
    """

    messages: int
    reports: int
    distinct_repayments: int
    duplicates: int
    conflicts: int
    returns: int
    poison: int
    acknowledged: frozenset[Reference]
    returned: frozenset[Reference]
    late_seconds_max: float
    retried: int


@dataclass(slots=True)
class Ledger:
    """What Kafka acknowledged so far; pass one to play() to read it meanwhile, or after it was cancelled."""

    counts: Counter[Kind] = field(default_factory=Counter)
    acknowledged: set[Reference] = field(default_factory=set)
    returned: set[Reference] = field(default_factory=set)
    late_seconds_max: float = 0.0
    retried: int = 0

    def acknowledge(self, planned: Planned) -> None:
        """Count a message Kafka has."""
        self.counts[planned.kind] += 1
        if planned.reference is None:
            return
        if planned.kind == "return":
            self.returned.add(planned.reference)
        elif planned.kind in ("report", "duplicate"):
            self.acknowledged.add(planned.reference)

    def sent(self) -> Sent:
        """Return what was acknowledged until now."""
        counts = self.counts
        return Sent(
            messages=counts.total(),
            reports=counts["report"] + counts["duplicate"] + counts["conflict"],
            distinct_repayments=counts["report"],
            duplicates=counts["duplicate"],
            conflicts=counts["conflict"],
            returns=counts["return"],
            poison=counts["poison"],
            acknowledged=frozenset(self.acknowledged),
            returned=frozenset(self.returned),
            late_seconds_max=self.late_seconds_max,
            retried=self.retried,
        )


async def play(
    settings: Settings,
    plan: Plan,
    *,
    ledger: Ledger | None = None,
    on_sent: Callable[[Planned], None] | None = None,
    give_up_seconds: float = GIVE_UP_SECONDS,
) -> Sent:
    """Send a plan and return once all of it is acknowledged; it starts when Kafka answers.

    ``on_sent`` is told each message when it is handed to Kafka for the first time. Raise DeliveryError when
    nothing was acknowledged for ``give_up_seconds``; what was until then is in ``ledger``.
    """
    if settings.kafka_bootstrap_servers is None:
        raise ConfigurationError("OTB_KAFKA_BOOTSTRAP_SERVERS is not set")
    ledger = Ledger() if ledger is None else ledger
    flight = _Flight(settings, ledger, give_up_seconds)
    try:
        await flight.connect()
        begun, start = monotonic(), utc_now()
        for number, planned in enumerate(plan(start)):
            ahead = begun + planned.at_seconds - monotonic()
            if ahead > 0 or number % YIELD_EVERY == 0:
                await asyncio.sleep(max(0.0, ahead))
            if planned.at_seconds:
                late = monotonic() - begun - planned.at_seconds
                ledger.late_seconds_max = max(ledger.late_seconds_max, late)
            await flight.send(number, planned)
            if on_sent is not None:
                on_sent(planned)
        await flight.land(0)
    finally:
        await flight.stop()
    return ledger.sent()


class _Flight:
    """Messages sent and not yet acknowledged, in the order of sending, and the producer that carries them."""

    def __init__(self, settings: Settings, ledger: Ledger, give_up_seconds: float) -> None:
        self._settings = settings
        self._ledger = ledger
        self._give_up_seconds = give_up_seconds
        self._producer: Any = None
        self._generation = 0
        self._pending: dict[int, Planned] = {}
        self._failure: BaseException | None = None
        self._changed = asyncio.Event()
        self._heard_at = monotonic()

    async def send(self, number: int, planned: Planned) -> None:
        """Hand one message to Kafka; wait only while too many are in flight or Kafka is being reached again."""
        await self.land(IN_FLIGHT_MAX - 1)
        if not self._pending:
            self._heard_at = monotonic()
        self._pending[number] = planned
        await self._hand_over(number, planned)

    async def land(self, pending_max: int) -> None:
        """Wait until at most ``pending_max`` messages are in flight, none of them failed."""
        while self._failure is not None or len(self._pending) > pending_max:
            if self._failure is None:
                await self._wait()
            else:
                await self._take_over()

    async def connect(self) -> None:
        """Start a producer, trying again until it is time to give up."""
        tries = 0
        while True:
            producer = producer_of(self._settings, CLIENT_ID)
            try:
                async with asyncio.timeout(STALLED_SECONDS):
                    await kafka_access.whole(producer.start())
            except PUBLISH_FAILED as error:
                await _stopped(producer)
                self._check_deadline(error)
                await asyncio.sleep(BACKOFF_SECONDS[min(tries, len(BACKOFF_SECONDS) - 1)])
                tries += 1
            except asyncio.CancelledError:
                await _stopped(producer)
                raise
            else:
                self._producer = producer
                return

    async def stop(self) -> None:
        """Disconnect; what is in flight may or may not arrive."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stopped(producer)

    async def _wait(self) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(STALLED_SECONDS):
                await self._changed.wait()
        except TimeoutError as error:
            self._failure = error

    async def _take_over(self) -> None:
        """Let another producer send again, with the same ids and bytes, what is not acknowledged."""
        failure, old = self._failure, self._producer
        self._check_deadline(failure)
        self._producer = None
        try:
            await self.connect()
        finally:
            await _stopped(old)
        self._generation += 1
        self._failure = None
        self._ledger.retried += len(self._pending)
        for number, planned in list(self._pending.items()):
            if self._failure is None:
                await self._hand_over(number, planned)

    async def _hand_over(self, number: int, planned: Planned) -> None:
        try:
            future = await self._producer.send(
                planned.topic, value=planned.value, key=planned.key, headers=list(planned.headers)
            )
        except PUBLISH_FAILED as error:
            self._fail(error)
        else:
            future.add_done_callback(partial(self._settled, number, self._generation))

    def _settled(self, number: int, generation: int, future: "Future[object]") -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            if generation == self._generation:
                self._fail(error)
            return
        planned = self._pending.pop(number, None)
        if planned is not None:
            self._ledger.acknowledge(planned)
        self._heard_at = monotonic()
        self._changed.set()

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        self._changed.set()

    def _check_deadline(self, failure: BaseException | None) -> None:
        if monotonic() - self._heard_at > self._give_up_seconds:
            silence = f"nothing acknowledged for {self._give_up_seconds:g} s, {len(self._pending)} messages in flight"
            raise DeliveryError(silence) from failure


async def _stopped(producer: Any) -> None:
    """Stop a producer; one that waits for a broker that is gone is left behind."""
    with suppress(*PUBLISH_FAILED):
        async with asyncio.timeout(STOP_SECONDS):
            await producer.stop()
