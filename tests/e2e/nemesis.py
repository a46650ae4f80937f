"""Kills what runs under a stack's supervisor, by pid and by a seeded schedule, and measures the recovery."""

import asyncio
import os
import random
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from deploy.embedded import Stack, StackError
from services.runtime.clock import monotonic

GIVE_UP_SECONDS = 120.0
BETWEEN_SECONDS = (1.0, 4.0)
POLL_SECONDS = 0.1


@dataclass
class Kill:
    """One SIGKILL; ``recovered_seconds`` is the time until the victim answered ready again."""

    victim: str
    pid: int
    at_seconds: float
    recovered_seconds: float | None = None


@dataclass
class Nemesis:
    """Kills workers one after another, several of them down at once, and each server when asked."""

    stack: Stack
    ports: Mapping[str, int]
    seed: int
    began: float = field(default_factory=monotonic)
    kills: list[Kill] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)  # noqa: S311  # a schedule, not a secret
        self.client = httpx.AsyncClient(timeout=1.0, trust_env=False)
        self.watching: list[asyncio.Task[None]] = []

    async def kill_workers(self, count: int) -> None:
        """Kill ``count`` ready workers at random instants; each is ready again when this returns."""
        for _ in range(count):
            await asyncio.sleep(self.dice.uniform(*BETWEEN_SECONDS))
            victims = [name for name in sorted(self.ports) if name not in self._down()]
            await self.kill(self.dice.choice(victims or sorted(self.ports)))
        await self.healed()

    async def kill(self, victim: str) -> None:
        """Kill one program and watch it come back; a server is back when every worker is ready."""
        pid = await self._pid(victim)
        os.kill(pid, signal.SIGKILL)
        kill = Kill(victim, pid, monotonic() - self.began)
        self.kills.append(kill)
        self.watching.append(asyncio.create_task(self._watch(kill)))

    async def healed(self) -> None:
        """Wait until everything killed is back."""
        watching, self.watching = self.watching, []
        await asyncio.gather(*watching)

    async def close(self) -> None:
        """End what still watches."""
        for task in self.watching:
            task.cancel()
        await asyncio.gather(*self.watching, return_exceptions=True)
        await self.client.aclose()

    def _down(self) -> set[str]:
        return {kill.victim for kill in self.kills if kill.recovered_seconds is None}

    async def _watch(self, kill: Kill) -> None:
        began = monotonic()
        asked = [kill.victim] if kill.victim in self.ports else sorted(self.ports)
        while monotonic() - began < GIVE_UP_SECONDS:
            await asyncio.sleep(POLL_SECONDS)
            if await self._restarted(kill) and all([await self._ready(name) for name in asked]):
                kill.recovered_seconds = monotonic() - began
                return
        raise AssertionError(f"{kill.victim} did not come back in {GIVE_UP_SECONDS} s")

    async def _restarted(self, kill: Kill) -> bool:
        """Tell whether another process runs, and takes connections when it is a server."""
        processes = await asyncio.to_thread(self.stack.processes)
        if not any(each.name == kill.victim and each.pid not in (None, kill.pid) for each in processes):
            return False
        if kill.victim in self.ports:
            return True
        try:
            return kill.victim in await asyncio.to_thread(self._answering)
        except StackError:
            return False

    def _answering(self) -> list[str]:
        """Return the servers that answer; up() waits for those that are starting."""
        self.stack.up()
        return ["kafka", "postgres"]

    async def _pid(self, name: str) -> int:
        while True:
            for each in await asyncio.to_thread(self.stack.processes):
                if each.name == name and each.pid is not None:
                    return each.pid
            await asyncio.sleep(POLL_SECONDS)

    async def _ready(self, name: str) -> bool:
        try:
            return (await self.client.get(f"http://127.0.0.1:{self.ports[name]}/readyz")).status_code == 200
        except httpx.HTTPError:
            return False


def table(nemesis: Nemesis) -> str:
    """Return what was killed when, and how long it took to be ready again."""
    lines = [f"seed {nemesis.seed}", f"{'at s':>6}  {'killed':<18}{'ready after s':>14}"]
    for kill in nemesis.kills:
        recovered = "never" if kill.recovered_seconds is None else f"{kill.recovered_seconds:.1f}"
        lines.append(f"{kill.at_seconds:>6.1f}  {kill.victim:<18}{recovered:>14}")
    return "\n".join(lines)
