"""The live picture on a real Kafka: shown while it lives, and no figure is lost with it."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from deploy.embedded import Program
from services.cli.system import System, environment, free_port
from services.lag_monitor.live import NAME
from services.lag_monitor.worker import WORKER
from services.runtime.clock import monotonic
from services.runtime.settings import Settings
from tests import builders
from tests.conftest import REPOSITORY
from tests.integration.conftest import MakeFeed
from tests.integration.kafka import send
from tests.integration.test_lag_ledger import ledger

SECONDS: Final = 120.0


@pytest.fixture
def live(system: System, settings: Settings) -> Iterator[str]:
    """Run the live picture under the stack's supervisor; return its address."""
    port = free_port()
    command = [sys.executable, "-m", "faust", "-q", "-A", "services.lag_monitor.live", "--workdir", str(REPOSITORY)]
    command += ["worker", "-l", "info", "-p", str(port)]
    folder = str(settings.state_dir)
    system.stack.run([Program(name=NAME, command=command, environment=environment(settings), directory=folder)])
    try:
        yield f"http://127.0.0.1:{port}/live"
    finally:
        system.stack.stop([NAME])


async def shown(address: str, settings: Settings) -> int:
    """Restore a part a second until the picture shows one; return how many it shows."""
    deadline = monotonic() + SECONDS
    async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:
        while True:
            await send(settings, builders.credit_restored())
            try:
                windows: list[dict[str, Any]] = (await client.get(address)).json()
            except httpx.HTTPError:
                windows = []
            parts: int = sum(window["parts"] for window in windows)
            if parts:
                return parts
            assert monotonic() < deadline
            await asyncio.sleep(1)


def pid_of(system: System) -> int:
    (pid,) = [each.pid for each in system.stack.processes() if each.name == NAME]
    assert pid is not None
    return pid


@pytest.mark.timeout(400)
async def test_killing_the_live_picture_loses_no_figure(
    live: str, system: System, settings: Settings, feed_of: MakeFeed
) -> None:
    feed = await feed_of(WORKER)
    await feed.deliver(builders.repayment_received(), builders.risk_assessed(), builders.credit_restored())
    before = await ledger(settings)
    assert before["facts"]
    assert await shown(live, settings) > 0
    killed = await asyncio.to_thread(pid_of, system)
    os.kill(killed, signal.SIGKILL)
    assert await ledger(settings) == before
    assert await shown(live, settings) > 0, "another one begins anew"
    assert await asyncio.to_thread(pid_of, system) != killed
    assert await ledger(settings) == before
