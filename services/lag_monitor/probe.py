"""A synthetic repayment every ten seconds through the whole pipeline: ``python -m services.lag_monitor.probe``.

It pays one minor unit of a debt of one on a final rail, under a reserved account and source. The ids are those of the
ten seconds they are sent in, so two probes running at once, or one started again, send nothing twice. It is the only
writer of billing's topics beside billing, with a principal of its own, and it ends before any push.
"""

import asyncio
import signal
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from schemas.account import AccountOpened, PurchasePosted
from schemas.event import BillingEvent, to_millisecond
from schemas.ids import PROBE_ACCOUNT, PROBE_SOURCE, event_id
from schemas.repayment import RepaymentReported
from schemas.topics import TOPIC_OF, TYPE_OF
from services import kafka_access
from services.lag_monitor import PROBE
from services.runtime import logs
from services.runtime.clock import utc_now
from services.runtime.codec import binary_headers
from services.runtime.publisher import PUBLISH_FAILED, producer_of
from services.runtime.settings import Settings, load_settings

EVERY_SECONDS: Final = 10
BOUGHT_BEFORE_SECONDS: Final = 5
"""A purchase is sent so long before the repayment that pays it: they are on two topics, read side by side."""
SEND_SECONDS: Final = 5
ALIVE: Final = Path(tempfile.gettempdir()) / "opentobuy-probe.alive"
"""Touched whenever Kafka acknowledged: the container's health."""
OPENED_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)
PRODUCT: Final = "default"
RAIL: Final = "wallet"
CURRENCY: Final = "CNY"
LIMIT_MINOR: Final = 10**12
"""So high that one unit every ten seconds is never a pattern of its use."""


def opened() -> AccountOpened:
    """Return the account; the same event at every start."""
    return AccountOpened(
        event_id=event_id("AccountOpened", PROBE_SOURCE),
        account_id=PROBE_ACCOUNT,
        occurred_at=OPENED_AT,
        product=PRODUCT,
        credit_limit_minor=LIMIT_MINOR,
        currency=CURRENCY,
        language="en",
        timezone="UTC",
    )


def slot_of(now: datetime) -> int:
    """Return the number of the ten seconds ``now`` is in."""
    return int(now.timestamp()) // EVERY_SECONDS


def bought(slot: int, now: datetime) -> PurchasePosted:
    """Return the purchase that the repayment of ``slot`` pays."""
    return PurchasePosted(
        event_id=event_id("PurchasePosted", PROBE_SOURCE, str(slot)),
        account_id=PROBE_ACCOUNT,
        occurred_at=to_millisecond(now),
        purchase_id=f"{PROBE_SOURCE}-{slot}",
        amount_minor=1,
        currency=CURRENCY,
    )


def paid(slot: int, now: datetime) -> RepaymentReported:
    """Return the repayment of ``slot``."""
    return RepaymentReported(
        event_id=event_id("RepaymentReported", PROBE_SOURCE, str(slot)),
        account_id=PROBE_ACCOUNT,
        occurred_at=to_millisecond(now),
        source=PROBE_SOURCE,
        external_ref=f"{PROBE_SOURCE}-{slot}",
        amount_minor=1,
        currency=CURRENCY,
        rail=RAIL,
        method="auto",
        status="succeeded",
        repaid_at=to_millisecond(now),
    )


class Probe:
    """Sends until told to stop; what Kafka does not take in time is given up, the next comes soon enough."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stopping = asyncio.Event()
        self._producer: Any = None

    async def run(self) -> None:
        """Open the account, then buy and pay in every slot; what was not bought is not paid."""
        while not (await self.send([opened()]) or self.stopping.is_set()):
            await self._until(utc_now() + timedelta(seconds=EVERY_SECONDS))
        while not self.stopping.is_set():
            slot = slot_of(utc_now()) + 1
            due = datetime.fromtimestamp(slot * EVERY_SECONDS, UTC)
            await self._until(due - timedelta(seconds=BOUGHT_BEFORE_SECONDS))
            known = await self.send([bought(slot, utc_now())])
            await self._until(due)
            if known:
                await self.send([paid(slot, utc_now())])
        await self._close()

    async def send(self, events: Sequence[BillingEvent]) -> bool:
        """Send events in order; tell whether Kafka acknowledged them in time."""
        if self.stopping.is_set():
            return False
        try:
            async with asyncio.timeout(SEND_SECONDS):
                if self._producer is None:
                    self._producer = producer_of(self.settings, PROBE)
                    await kafka_access.whole(self._producer.start())
                for event in events:
                    await self._producer.send_and_wait(**message(event))
        except (*PUBLISH_FAILED, TimeoutError) as error:
            logs.LOGGER.warning("probe_not_sent", service=PROBE, error=repr(error))
            await self._close()
            return False
        ALIVE.touch()
        return True

    async def _until(self, due: datetime) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, (due - utc_now()).total_seconds())):
                await self.stopping.wait()

    async def _close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(*PUBLISH_FAILED, TimeoutError):
                async with asyncio.timeout(SEND_SECONDS):
                    await producer.stop()


def message(event: BillingEvent) -> dict[str, Any]:
    """Return what a producer sends of an event, as billing would under the reserved source."""
    kind, at, subject = TYPE_OF[type(event)], event.occurred_at, event.account_id
    return {
        "topic": TOPIC_OF[type(event)].name,
        "key": event.account_id.encode(),
        "value": event.model_dump_json().encode(),
        "headers": binary_headers(kind, f"/{PROBE_SOURCE}", id=event.event_id, time=at, subject=subject),
    }


async def main() -> None:
    """Probe until SIGTERM or SIGINT."""
    settings = load_settings()
    logs.configure()
    logs.set_level(settings.log_level)
    probe = Probe(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, probe.stopping.set)
    await probe.run()


if __name__ == "__main__":
    asyncio.run(main())
