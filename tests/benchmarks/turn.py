"""One contender's turn: its processes start, warm up, are measured and stop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from services.cli.system import System
from services.runtime.clock import monotonic, utc_now
from tests.benchmarks.bed import BenchmarkError, Stalled, fetch
from tests.benchmarks.contenders import Contender
from tests.benchmarks.load import RAIL, Sender, dice, identity, piled_up, repayments, slots
from tests.benchmarks.measure import Drain, Latency, Outlet, drain, latency
from tests.benchmarks.processes import Cpu, Memory, cpu, last_lines, pids, resume, suspend

WARM_RATE: Final = 20.0
LEAD: Final = timedelta(seconds=1)
SUSPENDED_SECONDS: Final = 8.0
"""A suspended group member is put out of its group after 10 s."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What to measure in a turn; ``run`` names it in every reference, ``rail`` is that of its repayments."""

    run: str
    accounts: int
    backlog: int
    rates: tuple[float, ...] = ()
    latency_seconds: float = 20.0
    warm_seconds: float = 3.0
    rail: str = RAIL


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn told; CPU seconds are those of a thousand repayments of the drain."""

    contender: str
    latencies: tuple[Latency, ...]
    drain: Drain
    cpu_per_thousand: Cpu
    rss_mb: Mapping[str, float]


async def take_turn(system: System, contender: Contender, asked: Asked) -> Turn:
    """Start the contender's workers, measure, stop them; raise BenchmarkError when its books are not right."""
    before = await _effects(system, contender)
    async with running(system, contender) as bench:
        latencies = await bench.latencies(asked)
        drained, used = await bench.drained(asked)
        memory = bench.memory.highest()
    await _check_effects(system, contender, before, bench.sent)
    return Turn(contender.name, latencies, drained, used.per_thousand(asked.backlog), memory)


@asynccontextmanager
async def running(system: System, contender: Contender) -> AsyncIterator["Bench"]:
    """Run a contender's workers; whatever happens they are stopped."""
    await contender.start(system)
    try:
        outlet = Outlet(system.settings, contender.outlet, contender.identify)
        async with Sender(system.settings) as sender, outlet:
            bench = Bench(system, contender, sender, outlet)
            sampling = asyncio.create_task(bench.memory.sample())
            try:
                yield bench
                pids(system, contender.stages)
            except Stalled as error:
                raise BenchmarkError(f"{contender.name}: {error}\n{last_lines(system, contender.stages)}") from error
            finally:
                sampling.cancel()
    finally:
        await asyncio.to_thread(system.stack.stop, contender.stages)


class Bench:
    """A running contender and what measures it."""

    def __init__(self, system: System, contender: Contender, sender: Sender, outlet: Outlet) -> None:
        self._contender = contender
        self._sender = sender
        self._outlet = outlet
        self._workers = pids(system, contender.stages)
        self._servers = pids(system, ("postgres", "kafka"))
        self._share = 0.0
        self.memory = Memory(self._workers, lambda: self._share)
        self.sent = 0

    async def latencies(self, asked: Asked) -> tuple[Latency, ...]:
        """Warm up, then measure each rate in an open loop."""
        if asked.warm_seconds:
            await self._open_loop(asked, "warm", WARM_RATE, asked.warm_seconds)
        return tuple([await self._open_loop(asked, f"at{rate:g}", rate, asked.latency_seconds) for rate in asked.rates])

    async def drained(self, asked: Asked) -> tuple[Drain, Cpu]:
        """Put a backlog before the first stage while it is suspended, release it, measure until all of it is out."""
        chance = dice(asked.run, "drain")
        run = f"{asked.run}_{self._contender.name}_drain"
        backlog = piled_up(run, asked.backlog, asked.accounts, utc_now(), chance, asked.rail)
        since = await self._outlet.ends()
        with suspended(self._workers[self._contender.stages[0]]) as release:
            await self._sender.at_once(self._contender.inlet, backlog)
            before = self._cpu()
            released_at = release()
        self.sent += len(backlog)
        names = [identity(each) for each in backlog]
        completed = await self._outlet.completions(names, since, self._contender.outputs, self._progressed)
        return drain(completed, released_at), self._cpu().since(before)

    async def flood(self, asked: Asked) -> None:
        """Send everything as fast as Kafka takes it and wait until all of it is out."""
        backlog = piled_up(asked.run, asked.backlog, asked.accounts, utc_now(), dice(asked.run))
        since = await self._outlet.ends()
        self.memory.take()
        await self._sender.at_once(self._contender.inlet, backlog)
        names = [identity(each) for each in backlog]
        await self._outlet.completions(names, since, self._contender.outputs, self._progressed)
        self.memory.take()

    async def _open_loop(self, asked: Asked, phase: str, rate: float, seconds: float) -> Latency:
        instants = slots(rate, seconds, dice(asked.run, phase))
        start = utc_now() + LEAD
        run = f"{asked.run}_{self._contender.name}_{phase}"
        planned = repayments(run, instants, asked.accounts, start, dice(asked.run, phase, "accounts"), asked.rail)
        intended = {str(identity(each)): start + timedelta(seconds=each.at_seconds) for each in planned}
        since = await self._outlet.ends()
        late = await self._sender.open_loop(self._contender.inlet, planned, start)
        self.sent += len(planned)
        completed = await self._outlet.completions(list(intended), since, self._contender.outputs)
        return latency(rate, intended, completed, late)

    def _cpu(self) -> Cpu:
        return cpu(self._workers, self._servers)

    def _progressed(self, share: float) -> None:
        self._share = share


@contextmanager
def suspended(pid: int) -> Iterator[Callable[[], datetime]]:
    """Suspend a process; yield what lets it go on and tells when that was."""
    began = monotonic()
    suspend(pid)

    def release() -> datetime:
        if monotonic() - began > SUSPENDED_SECONDS:
            raise BenchmarkError("the backlog took too long to send: ask for a smaller one")
        resume((pid,))
        return utc_now()

    try:
        yield release
    finally:
        resume((pid,))


async def _effects(system: System, contender: Contender) -> Mapping[str, int]:
    if not contender.effects:
        return {}
    rows: Sequence[Mapping[str, int]] = await fetch(system.settings, contender.effects, schema=contender.schema)
    return dict(rows[0])


async def _check_effects(system: System, contender: Contender, before: Mapping[str, int], sent: int) -> None:
    """Compare what was added to the books with what the repayments sent must add."""
    after = await _effects(system, contender)
    for name, each in (contender.effects_each or {}).items():
        added = after[name] - before[name]
        if added != each * sent:
            raise BenchmarkError(f"{contender.name}: {sent} repayments added {added} to {name}, not {each * sent}")
