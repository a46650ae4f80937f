"""Workers, broker and database are killed under load; afterwards the books are what billing was told, to the cent."""

import asyncio
from collections.abc import Iterator

import pytest

from services.billing_simulator.load import Load, accounts_plan, repayments_plan
from services.billing_simulator.send import Sent, play
from services.cli.system import System, open_system, provision, start_workers, wait_ready
from services.cli.workers import EVERYONE
from services.runtime.clock import monotonic
from services.runtime.settings import Settings
from tests.conftest import cache_dir, run_apart
from tests.e2e.books import differences, restored_twice, settled
from tests.e2e.ledger import heard, lag_differences
from tests.e2e.nemesis import Nemesis, table

RATE = 50.0
SESSION_SECONDS = 10.0
RECOVERY_SECONDS_MAX = 15.0
SETTLE_SECONDS = 90.0


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Run a stack of its own: this test kills its servers."""
    asked = Settings(
        state_dir=tmp_path_factory.mktemp("crash") / "state",
        cache_dir=cache_dir(),
        partitions=6,
        dead_letter_share_max=0.2,
        dead_letters_in_a_row_max=1_000,
    )
    system = open_system(asked, tied=True)
    try:
        run_apart(provision(system.settings))
        yield system
    finally:
        system.stack.down()


async def torment(nemesis: Nemesis, kills: int) -> None:
    """Kill workers, then the broker, workers, the database, workers."""
    await nemesis.kill_workers(kills // 3)
    await nemesis.kill("kafka")
    await nemesis.healed()
    await nemesis.kill_workers(kills // 3)
    await nemesis.kill("postgres")
    await nemesis.healed()
    await nemesis.kill_workers(kills - 2 * (kills // 3))


async def under_load(system: System, load: Load, nemesis: Nemesis, kills: int) -> Sent:
    """Send the load while the nemesis is at work; return what Kafka acknowledged."""
    await play(system.settings, accounts_plan(load))
    tormenting = asyncio.create_task(torment(nemesis, kills))
    try:
        sent = await play(system.settings, repayments_plan(load))
        await tormenting
    finally:
        tormenting.cancel()
        await nemesis.close()
    return sent


def allowed_seconds(start_seconds: float) -> float:
    """Return how long a recovery may take: 15 s, on a machine too busy for that its session and two starts."""
    return max(RECOVERY_SECONDS_MAX, SESSION_SECONDS + 2 * start_seconds)


@pytest.mark.timeout(600)
async def test_nothing_is_lost_or_doubled_whatever_is_killed(
    alone: System, seed: int, capsys: pytest.CaptureFixture[str], pytestconfig: pytest.Config
) -> None:
    repayments, kills = pytestconfig.getoption("--repayments"), pytestconfig.getoption("--kills")
    load = Load(seed=seed, run="crash", count=repayments, rate=RATE, returns=0.05, poison=0.01)
    began = monotonic()
    ports = await asyncio.to_thread(start_workers, alone, EVERYONE)
    await wait_ready(ports)
    allowed = allowed_seconds(monotonic() - began)
    nemesis = Nemesis(alone.stack, ports, seed)
    try:
        sent = await under_load(alone, load, nemesis, kills)
    finally:
        with capsys.disabled():
            print(f"\n{table(nemesis)}\nallowed: {allowed:.1f} s")
    await settled(alone.settings, SETTLE_SECONDS)
    assert len(sent.acknowledged) == repayments
    assert await differences(alone.settings, load, sent) == {}
    assert await restored_twice(alone.settings) == []
    await heard(alone.settings, SETTLE_SECONDS)
    assert await lag_differences(alone.settings) == {}
    workers = [kill for kill in nemesis.kills if kill.victim in ports]
    assert len(workers) >= kills
    assert [kill for kill in workers if kill.recovered_seconds is None or kill.recovered_seconds > allowed] == []
