"""The broker comes back without its last records: what the outboxes hold is told again, and everybody takes it once."""

import asyncio
import json
import shutil
from collections.abc import Callable, Coroutine, Iterable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pytest

from services.billing_simulator.load import Load, accounts_of, repayments_of
from services.billing_simulator.plan import Planned
from services.billing_simulator.send import Ledger, play
from services.cli.commands import answer
from services.cli.system import System, environment, open_system, provision, start_workers, wait_ready
from services.cli.workers import EVERYONE
from services.runtime.clock import monotonic, utc_now
from services.runtime.settings import Settings
from tests.conftest import cache_dir, run_apart
from tests.e2e.books import differences, restored_twice, settled
from tests.integration.kafka import ends
from tests.integration.support import owner, violations

LOAD: Final = Load(seed=1, run="lost", count=60, accounts=7, rate=None, duplicate=0, swaps=0)
BEFORE: Final = 25
NAMES: Final = [worker.name for worker in EVERYONE]
EARLY: Final = [worker for worker in EVERYONE if worker.name in ("repayment-ingest", "settlement", "risk-scoring")]
SECONDS: Final = 90.0
READ: Final = "SELECT coalesce(sum(next_offset), 0) FROM risk_scoring.progress WHERE topic = 'repayment.settlement.v1'"
UNSENT: Final = "SELECT count(*) FROM risk_scoring.publication WHERE published_at IS NULL"

Messages = Callable[[Load, datetime], Iterable[Planned]]


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[System]:
    """Run a stack of its own: this test takes records from its broker."""
    asked = Settings(state_dir=tmp_path / "state", cache_dir=cache_dir(), partitions=2)
    system = open_system(asked, tied=True)
    try:
        run_apart(provision(system.settings))
        yield system
    finally:
        system.stack.down()


def sent(
    system: System, start: datetime, messages: Callable[[Load, datetime], Iterable[Planned]], ledger: Ledger
) -> None:
    """Send billing's messages; the same start makes the same bytes."""
    run_apart(play(system.settings, lambda _: iter(messages(LOAD, start)), ledger=ledger))


def worked(system: System, workers: Iterable[Any], until: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Run workers until something is so, and stop them."""
    chosen = list(workers)
    run_apart(wait_ready(start_workers(system, chosen), SECONDS))
    try:
        run_apart(until())
    finally:
        system.stack.stop([worker.name for worker in chosen])


async def decided(settings: Settings, count: int) -> None:
    """Wait until risk-scoring read ``count`` settlements and Kafka has what it decided."""
    deadline = monotonic() + SECONDS
    async with owner(settings) as connection:
        while await connection.fetchval(READ) < count or await connection.fetchval(UNSENT):
            assert monotonic() < deadline
            await asyncio.sleep(0.2)


def told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = answer([*arguments, "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, found


@pytest.mark.timeout(600)
def test_what_the_broker_lost_is_told_again_and_taken_once(
    alone: System, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last 35 repayments were settled and assessed, nobody released them, and Kafka has none of it any more."""
    settings, start, ledger = alone.settings, utc_now(), Ledger()
    for name, text in environment(settings).items():
        monkeypatch.setenv(name, text)
    log = settings.state_dir / "kafka" / "data"
    sent(alone, start, accounts_of, ledger)
    sent(alone, start, lambda load, at: islice(repayments_of(load, at), BEFORE), ledger)
    worked(alone, EVERYONE, lambda: settled(settings, SECONDS))
    alone.stack.stop(["kafka"])
    shutil.copytree(log, settings.state_dir / "earlier")
    alone.stack.up()
    sent(alone, start, lambda load, at: islice(repayments_of(load, at), BEFORE, None), ledger)
    worked(alone, EARLY, lambda: decided(settings, LOAD.repayments))
    alone.stack.stop(["kafka"])
    shutil.rmtree(log)
    shutil.move(settings.state_dir / "earlier", log)
    alone.stack.up()

    run_apart(refused(alone))
    assert told(["doctor"], capsys)[0] == 1
    code, seen = told(["republish"], capsys)
    assert code == 1
    assert {away["service"] for away in seen["away"]} == {worker.name for worker in EARLY}
    assert seen["from"]
    done = ["republish", "--from", seen["from"], "--yes", "--actor", "operator_1", "--reason", "disk_lost"]
    code, seen = told(done, capsys)
    assert (code, seen["changed"]) == (0, True)
    assert seen["publications"]["risk-scoring"] > 0
    assert told(["republish"], capsys) == (0, {"away": [], "from": None, "publications": {}, "changed": False})
    assert run_apart(violations(settings)).keys() <= {
        f"{worker.package}.invariant_outbox_drained" for worker in EVERYONE
    }, "it is unpublished again"

    worked(alone, EVERYONE, lambda: settled(settings, SECONDS))
    lost = run_apart(unsent_by_billing(settings))
    assert lost == LOAD.repayments - BEFORE, "billing's own records are billing's to send again"
    sent(alone, start, repayments_of, ledger)
    worked(alone, EVERYONE, lambda: settled(settings, SECONDS))
    assert run_apart(differences(settings, LOAD, ledger.sent())) == {}
    assert run_apart(restored_twice(settings)) == []


async def refused(system: System) -> None:
    """Workers that read further than Kafka goes do not read on from somewhere else."""
    start_workers(system, EARLY)
    deadline = monotonic() + SECONDS
    logs = [system.stack.logs_dir / f"{worker.name}.log" for worker in EARLY]
    while not all("records were lost" in log.read_text(errors="replace") for log in logs):
        assert monotonic() < deadline
        await asyncio.sleep(0.2)
    system.stack.stop([worker.name for worker in EARLY])


async def unsent_by_billing(settings: Settings) -> int:
    """Return how many repayments are in the books and no longer on billing's topic."""
    left = sum((await ends(settings, ["billing.repayment.v1"])).values())
    async with owner(settings) as connection:
        booked: int = await connection.fetchval("SELECT count(*) FROM settlement.repayment")
    return booked - left
