"""What watching costs: five workers with the lag monitor beside them and all six scraped, against five alone, in pairs.

python -m tests.benchmarks.watching [--pairs 4] [--latency-seconds 20] [--backlog 20000] [--scrape-seconds 15]
"""

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any, Final

import httpx
from rich.console import Console
from rich.table import Table

from services.cli.system import System, start_workers, wait_ready
from services.lag_monitor.worker import WORKER as LAG_MONITOR
from services.runtime.settings import Settings
from tests.benchmarks.bed import BenchmarkError, bed, fetch, open_accounts, until
from tests.benchmarks.contenders import Contender
from tests.benchmarks.contenders.ours import OURS
from tests.benchmarks.facts import facts
from tests.benchmarks.report import write_json
from tests.benchmarks.turn import Asked, Turn, take_turn
from tests.integration.kafka import ends

WATCHED: Final = "watched"
COST_MAX: Final = 0.05
SCRAPE_SECONDS_MAX: Final = 10.0
ACCEPT: Final = {"Accept": "application/openmetrics-text; version=1.0.0"}
RATES: Final = (20.0, 100.0)
HEARD_SECONDS: Final = 300.0
READ: Final = "SELECT topic, partition, next_offset FROM lag_monitor.progress"
Pair = Mapping[str, Turn]


class Scraper:
    """Asks every process of the watched side for its metrics, as Prometheus does."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.ports: dict[str, int] = {}
        self.series = 0

    async def start(self, system: System) -> None:
        """Let the monitor hear what happened without it before the workers begin."""
        monitor = await asyncio.to_thread(start_workers, system, (LAG_MONITOR,))
        await wait_ready(monitor)
        await until(lambda: _heard(system.settings), HEARD_SECONDS, "the monitor read every topic")
        workers = await asyncio.to_thread(start_workers, system)
        await wait_ready(workers)
        self.ports = {**monitor, **workers}

    @asynccontextmanager
    async def scraping(self) -> AsyncIterator[None]:
        """Scrape while the block runs whatever was started; raise what a scrape raised."""
        stop = asyncio.Event()
        task = asyncio.create_task(self._scrape(stop))
        try:
            yield
        finally:
            stop.set()
            await task

    async def _scrape(self, stop: asyncio.Event) -> None:
        async with httpx.AsyncClient(timeout=SCRAPE_SECONDS_MAX, trust_env=False, headers=ACCEPT) as client:
            while not stop.is_set():
                with suppress(httpx.TransportError):  # who starts or stops is not scraped either
                    asked = [client.get(f"http://127.0.0.1:{port}/metrics") for port in self.ports.values()]
                    told = [line for page in await asyncio.gather(*asked) for line in page.text.splitlines()]
                    self.series = max(self.series, sum(not line.startswith("#") for line in told))
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), self.seconds)

    @property
    def side(self) -> Contender:
        """Return the five workers watched."""
        return replace(OURS, name=WATCHED, stages=(*OURS.stages, LAG_MONITOR.name), start=self.start)


async def _heard(settings: Settings) -> bool:
    read = {(row["topic"], row["partition"]): row["next_offset"] for row in await fetch(settings, READ)}
    return all(read.get(at, 0) >= end for at, end in (await ends(settings, sorted(LAG_MONITOR.topics))).items())


async def measure(system: System, asked: argparse.Namespace) -> tuple[list[Pair], dict[str, object]]:
    """Measure pairs; which side goes first alternates."""
    machine = await facts(system)
    await open_accounts(system, asked.accounts)
    pairs: list[Pair] = []
    scraper = Scraper(asked.scrape_seconds)
    sides = (OURS, scraper.side)
    for number in range(asked.pairs):
        turns: dict[str, Turn] = {}
        for side in sides if number % 2 == 0 else sides[::-1]:
            sys.stderr.write(f"pair {number + 1} of {asked.pairs}: {side.name}\n")
            scraper.ports.clear()
            async with scraper.scraping():
                turns[side.name] = await take_turn(system, side, _asked(asked, number))
        pairs.append(turns)
    load = round(os.getloadavg()[0], 2)
    return pairs, {**machine, "scraped_series": scraper.series, "load_average_after": load}


def _asked(asked: argparse.Namespace, number: int) -> Asked:
    return Asked(
        run=f"w{number}",
        accounts=asked.accounts,
        backlog=asked.backlog,
        rates=RATES,
        latency_seconds=asked.latency_seconds,
    )


def figures(turn: Turn) -> dict[str, float | None]:
    """Return what is compared; each grows with the cost, so throughput is the time of one repayment.

    CPU seconds of 1,000 repayments are of all processes of the side, servers included.
    """
    p50 = {f"p50 at {each.rate:g}/s, ms": each.p50 for each in turn.latencies}
    used = turn.cpu_per_thousand
    cpu = {"CPU s of 1,000": used.workers + used.postgres + used.kafka}
    return {**p50, "ms a repayment of a backlog": 1000 / turn.drain.per_second, **cpu}


def costs(pairs: Sequence[Pair], names: tuple[str, str] = (OURS.name, WATCHED)) -> dict[str, dict[str, Any]]:
    """Return each figure of both sides, and what the second costs; None when saturated.

    The side that goes second in a pair tends to be slower, whichever it is: the cost is the geometric mean of the
    median ratios of both orders, less one.
    """
    found: dict[str, dict[str, Any]] = {}
    without, beside = names
    sides = [(figures(pair[without]), figures(pair[beside])) for pair in pairs]
    for name in sides[0][0]:
        both = [(alone[name], watched[name]) for alone, watched in sides]
        known = [watched / alone for alone, watched in both if alone and watched]
        orders = [order for order in (known[::2], known[1::2]) if order]
        cost = geometric_mean(map(median, orders)) - 1 if len(known) == len(both) else None
        found[name] = {"alone_watched": both, "cost": cost, "met": cost is not None and cost <= COST_MAX}
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when watching costs at most so much, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.watching", description=__doc__)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--accounts", type=int, default=2_000)
    parser.add_argument("--latency-seconds", type=float, default=20.0, help="length of each open loop")
    parser.add_argument("--backlog", type=int, default=20_000, help="repayments drained by each side")
    parser.add_argument("--scrape-seconds", type=float, default=15.0, help="as prometheus.yml has it by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    asked = parser.parse_args(arguments)
    try:
        with bed() as system:
            pairs, machine = asyncio.run(measure(system, asked))
    except BenchmarkError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    found = costs(pairs)
    show(found, machine, "Watched and scraped against neither, each pair", ("alone", WATCHED))
    told = [{name: asdict(turn) for name, turn in pair.items()} for pair in pairs]
    write_json(asked.json, {"machine": machine, "pairs": told, "costs": found})
    return int(not all(each["met"] for each in found.values()))


def show(
    found: Mapping[str, Mapping[str, Any]], machine: Mapping[str, object], title: str, names: tuple[str, str]
) -> None:
    """Print each figure of both sides, pair by pair, and what the second costs."""
    shown = Table(title=title, title_justify="left")
    for head in ("figure", *names, "cost", f"at most {COST_MAX:.0%}"):
        shown.add_column(head, justify="left" if head == "figure" else "right")
    for name, each in found.items():
        alone, watched = (" ".join(_text(value) for value in side) for side in zip(*each["alone_watched"], strict=True))
        cost = "saturated" if each["cost"] is None else f"{each['cost']:+.1%}"
        shown.add_row(name, alone, watched, cost, "yes" if each["met"] else "no")
    console = Console()
    console.print(shown)
    console.print(machine)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
