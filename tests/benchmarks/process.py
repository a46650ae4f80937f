"""CPU of each worker's decode and process() a repayment, on a real PostgreSQL and without Kafka.

python -m tests.benchmarks.process [--repayments 4000] [--batch 250]
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from statistics import median
from time import process_time
from typing import Final

from schemas.event import Event, to_millisecond
from services.cli.system import System, provision
from services.cli.workers import WORKERS
from services.runtime.clock import utc_now
from tests import builders
from tests.benchmarks.bed import bed
from tests.integration.support import Feed, Raw, role, written

ACCOUNTS: Final = 500
DEBT_MINOR: Final = 10_000_000
Spent = dict[str, list[float]]
"""CPU seconds of each batch by worker."""


async def measure(system: System, asked: argparse.Namespace) -> Spent:
    """Open accounts, then let batches of repayments go through all five workers."""
    await provision(system.settings)
    async with AsyncExitStack() as stack:
        feeds = {}
        for worker in WORKERS:
            connection = await stack.enter_async_context(role(system.settings, worker.package))
            feeds[worker.name] = await Feed(worker, system.settings, connection).start()
        seen: dict[str, list[int]] = {name: [] for name in feeds}
        await _hand_on(feeds, seen, list(map(written, _openings())))
        spent: Spent = {name: [] for name in feeds}
        for first in range(0, asked.repayments, asked.batch):
            told = list(map(written, _repayments(range(first, first + asked.batch))))
            for name, seconds in (await _hand_on(feeds, seen, told)).items():
                spent[name].append(seconds)
    return spent


async def _hand_on(feeds: Mapping[str, Feed], seen: dict[str, list[int]], told: list[Raw]) -> dict[str, float]:
    """Give each worker in turn what it reads, with what those before it told; return the CPU seconds of each."""
    spent = {}
    for name, feed in feeds.items():
        mine = [raw for raw in told if raw.topic in feed.next]
        began = process_time()
        committed = await feed.apply(feed.batch(*mine), acknowledged=seen[name])
        spent[name] = process_time() - began
        seen[name] = [] if committed.publication_id is None else [committed.publication_id]
        told += [Raw(each.topic, each.payload, each.account_id.encode(), each.headers()) for each in committed.outgoing]
    return spent


def _openings() -> Iterator[Event]:
    for n in range(ACCOUNTS):
        mine = {"account_id": f"a{n}"}
        yield builders.account_opened(**mine, event_id=f"o{n}", credit_limit_minor=2 * DEBT_MINOR)
        yield builders.purchase_posted(**mine, event_id=f"p{n}", purchase_id=f"p{n}", amount_minor=DEBT_MINOR)


def _repayments(numbers: range) -> Iterator[Event]:
    now = to_millisecond(utc_now())
    for n in numbers:
        at = now + timedelta(milliseconds=n - numbers[-1])
        what = {"account_id": f"a{n % ACCOUNTS}", "external_ref": f"r{n}", "event_id": f"r{n}", "rail": "wallet"}
        yield builders.repayment_reported(**what, amount_minor=10_000, repaid_at=at, occurred_at=at)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print microseconds a repayment by worker: the median batch, and the best and the worst."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.process", description=__doc__)
    parser.add_argument("--repayments", type=int, default=4_000)
    parser.add_argument("--batch", type=int, default=250)
    asked = parser.parse_args(arguments)
    with bed() as system:
        spent = asyncio.run(measure(system, asked))
    whole = [sum(each) for each in zip(*spent.values(), strict=True)]
    for name, seconds in {**spent, "all five": whole}.items():
        each = sorted(1e6 * one / asked.batch for one in seconds)
        sys.stdout.write(f"{name:<17} {median(each):7.0f} us ({each[0]:.0f} to {each[-1]:.0f})\n")
    sys.stdout.write(f"load average {os.getloadavg()[0]:.1f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
