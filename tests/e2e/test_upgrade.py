"""The build before this one with data in every stage, then this one: migrated once, all old events read, none lost."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

import psutil
import pytest
from pydantic import SecretStr

from deploy.embedded import Stack
from services.billing_simulator.load import Load, accounts_of, repayments_of
from services.billing_simulator.send import Ledger, play
from services.cli.commands import answer
from services.cli.grants import bring_up_to_date
from services.cli.system import System, environment, open_system, provision, start_workers, wait_ready
from services.cli.workers import EVERYONE
from services.migrate import drift
from services.runtime.clock import monotonic, utc_now
from services.runtime.settings import Settings
from tests.conftest import REPOSITORY, cache_dir, dsn_of, run_apart
from tests.e2e.books import differences, restored_twice, settled
from tests.integration.support import owner

LOAD: Final = Load(
    seed=11, run="upgrade", count=300, accounts=40, rate=None, duplicate=0.1, swaps=0.1, returns=0.05, poison=0.01
)
DONE: Final = 150
HALFWAY: Final = 230
SECONDS: Final = 90.0
EARLY: Final = ["repayment-ingest", "settlement"]
EVERY: Final = [worker.name for worker in EVERYONE]
PACKAGES: Final = [worker.package for worker in EVERYONE]
SETTLED: Final = "SELECT coalesce(sum(next_offset), 0) FROM settlement.progress WHERE topic = 'repayment.intake.v1'"
INTAKES: Final = "SELECT count(*) FROM repayment_ingest.outbox WHERE topic = 'repayment.intake.v1'"
LIMITS: Final = {"OTB_DEAD_LETTER_SHARE_MAX": "0.2", "OTB_DEAD_LETTERS_IN_A_ROW_MAX": "100", "OTB_PARTITIONS": "3"}


@pytest.fixture
def older(tmp_path: Path, pytestconfig: pytest.Config) -> Iterator[Path]:
    """Check the older build out beside this one."""
    folder, commit = tmp_path / "older", str(pytestconfig.getoption("--from-commit"))
    git("worktree", "add", "--detach", str(folder), commit)
    try:
        yield folder
    finally:
        git("worktree", "remove", "--force", str(folder))


def git(*arguments: str) -> None:
    command = [shutil.which("git") or "git", "-C", str(REPOSITORY), *arguments]
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


class Older:
    """The older build's own command line, with its own code."""

    def __init__(self, folder: Path, state_dir: Path) -> None:
        self.folder, self.stack = folder, Stack(state_dir, cache_dir())
        kept = {name: text for name, text in os.environ.items() if not name.startswith("OTB_")}
        where = {"OTB_STATE_DIR": str(state_dir), "OTB_CACHE_DIR": str(cache_dir().resolve())}
        self.environment = {**kept, **LIMITS, **where, "PYTHONPATH": str(folder)}

    def otb(self, *arguments: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "services.cli.main", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=pipe, stderr=pipe, text=True)

    def done(self, *arguments: str) -> None:
        ran = self.otb(*arguments)
        out, err = ran.communicate(timeout=180)
        assert ran.returncode == 0, f"{arguments}: {out}{err}"

    @contextmanager
    def running(self, *names: str) -> Iterator[None]:
        """Run workers of the older build until the block ends."""
        ran = self.otb("run", *names)
        try:
            deadline = monotonic() + SECONDS
            while {each.name for each in self.stack.processes() if each.pid} < {*names, "kafka", "postgres"}:
                assert ran.poll() is None, ran.communicate()
                assert monotonic() < deadline
            pids = [each.pid for each in self.stack.processes() if each.name in names and each.pid]
            assert {psutil.Process(pid).environ()["PYTHONPATH"] for pid in pids} == {str(self.folder)}
            yield
        finally:
            ran.send_signal(signal.SIGINT)
            ran.communicate(timeout=90)


async def taken(settings: Settings) -> None:
    """Wait until settlement read everything it was told."""
    deadline = monotonic() + SECONDS
    async with owner(settings) as connection:
        last = -1
        while True:
            told, read = await connection.fetchval(INTAKES), await connection.fetchval(SETTLED)
            if told == last and read >= told:
                return
            last = told
            assert monotonic() < deadline, (told, read)
            await asyncio.sleep(2)


async def missing(settings: Settings) -> list[str]:
    """Return the migrations of this build that are not applied."""
    async with owner(settings) as connection:
        found = await drift(connection, PACKAGES, ["watching"])
    assert not found["changed"], "a migration that was applied is never edited"
    return sorted(found["missing"])


async def migrated_by_two(settings: Settings) -> list[str]:
    """Let two jobs migrate at the same time; return what was applied."""
    assert settings.secrets_dir is not None
    job = (dsn_of(settings), settings.secrets_dir)
    both = await asyncio.gather(bring_up_to_date(*job), bring_up_to_date(*job))
    return sorted(name for applied in both for name in applied)


async def set_aside(settings: Settings) -> dict[str, int]:
    """Return how many records each service could not read, but for ingest, which meets billing's poison."""
    async with owner(settings) as connection:
        return {
            package: n
            for package in PACKAGES
            if package not in ("repayment_ingest", "lag_monitor")
            and (n := await connection.fetchval(f"SELECT count(*) FROM {package}.set_aside WHERE kind = 'dead_letter'"))  # noqa: S608
        }


@pytest.mark.release
@pytest.mark.timeout(600)
def test_the_build_before_this_one_is_upgraded_with_events_in_every_stage(
    older: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Settings(state_dir=tmp_path / "state", cache_dir=cache_dir(), partitions=3)
    before = Older(older, asked.state_dir)
    before.done("stack", "up")
    try:
        for job in ("migrate", "topics"):
            before.done(job)
        at = before.stack.endpoints()
        where = {"kafka_bootstrap_servers": at.kafka_bootstrap_servers, "postgres_dsn": SecretStr(at.postgres_dsn)}
        settings = asked.model_copy(update=where)
        ledger, start = Ledger(), utc_now()
        messages = list(repayments_of(LOAD, start))
        run_apart(play(settings, lambda _: accounts_of(LOAD, start), ledger=ledger))
        run_apart(play(settings, lambda _: islice(iter(messages), DONE), ledger=ledger))
        with before.running(*EVERY):
            run_apart(settled(settings, SECONDS))
        run_apart(play(settings, lambda _: islice(iter(messages), DONE, HALFWAY), ledger=ledger))
        with before.running(*EARLY):
            run_apart(taken(settings))
        run_apart(play(settings, lambda _: islice(iter(messages), HALFWAY, None), ledger=ledger))
    finally:
        before.done("stack", "down")
    upgraded(asked, ledger, monkeypatch)


def upgraded(asked: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start this build on the older one's data."""
    limits = {"dead_letter_share_max": 0.2, "dead_letters_in_a_row_max": 100}
    system = open_system(asked.model_copy(update=limits))
    try:
        settings = system.settings
        owed = run_apart(missing(settings))
        assert run_apart(migrated_by_two(settings)) == owed, "each once, by one of the two"
        assert run_apart(provision(settings))[0] == []
        run_apart(wait_ready(start_workers(System(settings, system.stack), EVERYONE), SECONDS))
        run_apart(settled(settings, SECONDS))
        assert run_apart(differences(settings, LOAD, ledger.sent())) == {}
        assert run_apart(restored_twice(settings)) == []
        assert run_apart(set_aside(settings)) == {}
        for name, text in environment(settings).items():
            monkeypatch.setenv(name, text)
        assert answer(["check"]) == 0
        print(f"upgraded: {len(owed)} migrations ({', '.join(owed) or 'none'}), {LOAD.repayments} repayments")
    finally:
        system.stack.down()
