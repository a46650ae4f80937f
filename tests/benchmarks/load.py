"""Repayments that are restored at once, of the wallet rail if not asked otherwise, in an open loop or as a backlog."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final, Self

from schemas.ids import RepaymentId, repayment_id
from services.billing_simulator.plan import Billing, Planned, Repayment
from services.runtime.clock import utc_now
from services.runtime.publisher import producer_of
from services.runtime.settings import Settings

PRODUCT: Final = "default"
RAIL: Final = "wallet"
DEBT_MINOR: Final = 10**9
AMOUNT_MINOR: Final = (100, 2_000)
IN_FLIGHT_MAX: Final = 5_000


def account_id(index: int) -> str:
    """Return the reference of an account."""
    return f"acct_bench_{index:06d}"


def openings(accounts: int, start: datetime) -> list[Planned]:
    """Return what opens the accounts with a debt no benchmark repays."""
    billing = Billing(start, PRODUCT)
    names = [account_id(index) for index in range(accounts)]
    return [
        *(billing.opened(0, name, limit_minor=2 * DEBT_MINOR) for name in names),
        *(billing.purchase(0, name, amount_minor=DEBT_MINOR) for name in names),
    ]


def dice(*parts: object) -> Random:
    """Return dice that fall the same for the same ``parts``, so that contenders get the same load."""
    return Random("/".join(map(str, parts)))  # noqa: S311  # a load, not a secret


def slots(rate: float, seconds: float, chance: Random) -> list[float]:
    """Return one instant at random in each slot of 1/rate seconds: an exact rate at no fixed phase."""
    return [(n + chance.random()) / rate for n in range(round(rate * seconds))]


def repayments(
    run: str, instants: Sequence[float], accounts: int, start: datetime, chance: Random, rail: str = RAIL
) -> list[Planned]:
    """Return a report for each instant, in seconds after ``start``; ``run`` keeps the references apart."""
    return _reports(run, [(at, chance.randrange(accounts)) for at in instants], start, chance, rail)


def piled_up(run: str, count: int, accounts: int, now: datetime, chance: Random, rail: str = RAIL) -> list[Planned]:
    """Return a backlog of reports of ``now``, those of one account a millisecond apart.

    Settlement would take a second repayment of the same instant for late news, and replay its account.
    """
    seen: Counter[int] = Counter()
    planned = []
    for account in [chance.randrange(accounts) for _ in range(count)]:
        planned.append((seen[account] / 1000, account))
        seen[account] += 1
    return _reports(run, planned, now, chance, rail)


def _reports(
    run: str, planned: Sequence[tuple[float, int]], start: datetime, chance: Random, rail: str
) -> list[Planned]:
    billing = Billing(start, PRODUCT)
    return [
        billing.report(
            at,
            Repayment(
                account_id=account_id(account),
                external_ref=f"rep_{run}_{n:06d}",
                amount_minor=chance.randint(*AMOUNT_MINOR),
                rail=rail,
                repaid_seconds=at,
            ),
        )
        for n, (at, account) in enumerate(planned)
    ]


def identity(planned: Planned) -> RepaymentId:
    """Return the id under which a report's repayment comes out."""
    if planned.reference is None:
        raise ValueError("not about a repayment")
    return repayment_id(*planned.reference)


class Sender:
    """One producer that sends on time and never waits for what becomes of a repayment."""

    def __init__(self, settings: Settings) -> None:
        self._producer: Any = producer_of(settings, "benchmark")

    async def __aenter__(self) -> Self:
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def open_loop(self, topic: str, planned: Sequence[Planned], start: datetime) -> list[float]:
        """Send each at its intended instant; return by how many seconds each was late.

        A thread sleeps: the event loop's own timer is late by up to a millisecond, which every contender would carry.
        """
        late: list[float] = []
        sent = []
        for each in planned:
            intended = start + timedelta(seconds=each.at_seconds)
            wait = (intended - utc_now()).total_seconds()
            if wait > 0:
                await asyncio.to_thread(time.sleep, wait)
            late.append((utc_now() - intended).total_seconds())
            sent.append(await self._send(topic, each))
        await asyncio.gather(*sent)
        return late

    async def at_once(self, topic: str, planned: Iterable[Planned]) -> None:
        """Send as fast as Kafka takes them; return once it has them all."""
        sent = []
        for each in planned:
            sent.append(await self._send(topic, each))
            if len(sent) >= IN_FLIGHT_MAX:
                await asyncio.gather(*sent)
                sent.clear()
        await asyncio.gather(*sent)

    async def _send(self, topic: str, planned: Planned) -> Any:
        return await self._producer.send(topic, value=planned.value, key=planned.key, headers=list(planned.headers))
