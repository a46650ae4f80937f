"""The live picture and the probe on a real Kafka: each has its rights only; no figure is lost with the picture."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from services.cli.access import administrator_of, change, differences, set_passwords
from services.cli.declared import read_access
from services.cli.system import System, environment, free_port, hosted, make_topics, wait_ready
from services.cli.windows import MODULE, address, start_picture
from services.lag_monitor import PICTURE as NAME
from services.lag_monitor import PROBE
from services.lag_monitor.probe import ALIVE, Probe, bought, opened, paid, slot_of
from services.lag_monitor.worker import WORKER
from services.runtime.clock import monotonic, utc_now
from services.runtime.settings import Settings
from tests import builders
from tests.conftest import run_apart
from tests.integration.conftest import MakeFeed
from tests.integration.kafka import send
from tests.integration.secured import Secured, secured_broker
from tests.integration.test_lag_ledger import ledger

SECONDS: Final = 120.0


@pytest.fixture
def live(system: System, settings: Settings) -> Iterator[str]:
    """Run the live picture under the stack's supervisor; return its address."""
    port = start_picture(System(settings, system.stack))
    try:
        run_apart(wait_ready({NAME: port}))
        yield address(port)
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


@contextmanager
def looking(broker: Secured, folder: Path) -> Iterator[int]:
    """Run the live picture as its principal; yield its web port, then see that it was refused nothing."""
    port, log = free_port(), folder / "log"
    given = {name: text for name, text in os.environ.items() if not name.startswith("OTB_")}
    given |= environment(broker.settings(NAME))
    with log.open("wb") as file:
        running = subprocess.Popen([*hosted(MODULE), "-p", str(port)], env=given, stdout=file, stderr=file)
    try:
        yield port
    finally:
        running.terminate()
        running.wait()
    assert "uthorization" not in log.read_text()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Run a broker on which each principal may do what deploy/access.yaml says and no more."""
    with secured_broker(tmp_path_factory.mktemp("secured")) as broker:
        admin = broker.settings("admin")
        run_apart(make_topics(admin))
        kafka, document = administrator_of(admin), read_access()
        set_passwords(kafka, document, broker.secrets_dir)
        change(kafka, *differences(kafka, document))
        yield broker


@pytest.mark.timeout(400)
async def test_the_live_picture_needs_no_right_but_its_own(secured: Secured, tmp_path: Path) -> None:
    with looking(secured, tmp_path) as port:
        await wait_ready({NAME: port})
        assert await shown(address(port), secured.settings("limit-release")) > 0


async def test_the_probe_needs_no_right_but_its_own(secured: Secured) -> None:
    ALIVE.unlink(missing_ok=True)
    probe, now = Probe(secured.settings(PROBE)), utc_now()
    assert await probe.send([opened(), bought(slot_of(now), now), paid(slot_of(now), now)])
    assert ALIVE.exists(), "what its container's health looks at"
    probe.stopping.set()
    await probe.run()
