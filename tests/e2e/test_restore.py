"""A backup taken in the middle of the work is put back: old offsets, old effects, and then everything happens once."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Iterator
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
from tests.integration.kafka import ends, records
from tests.integration.support import owner, violations

LOAD: Final = Load(
    seed=7, run="restored", count=240, accounts=11, rate=60.0, duplicate=0.1, swaps=0.1, returns=0.1, poison=0.01
)
BEFORE: Final = 160
COPY_AFTER: Final = 60
SECONDS: Final = 90.0
WHO: Final = ["--yes", "--actor", "operator_1", "--reason", "disk_lost"]
READ: Final = "SELECT coalesce(sum(next_offset), 0) FROM settlement.progress WHERE topic = 'repayment.intake.v1'"
SEEN: Final = """
SELECT (SELECT count(*) FROM repayment_ingest.reference) AS reported,
  (SELECT count(*) FROM settlement.repayment WHERE status = 'settled') AS settled,
  (SELECT count(*) FROM limit_release.tranche WHERE state = 'restored') AS restored
"""
READ_TO: Final = " UNION ALL ".join(
    f"SELECT '{worker.name}' AS service, topic, partition, next_offset FROM {worker.package}.progress"  # noqa: S608
    for worker in EVERYONE
)


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    """Run a stack of its own: this test takes its database away."""
    asked = Settings(
        state_dir=tmp_path / "state",
        cache_dir=cache_dir(),
        partitions=3,
        dead_letter_share_max=0.2,
        dead_letters_in_a_row_max=100,
    )
    system = open_system(asked, tied=True)
    try:
        run_apart(provision(system.settings))
        for name, text in environment(system.settings).items():
            monkeypatch.setenv(name, text)
        yield system
    finally:
        system.stack.down()


class Billing:
    """Sends one load in parts; the same start makes the same bytes."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.start, self.ledger = settings, utc_now(), Ledger()
        self.messages = list(repayments_of(LOAD, self.start, lead_seconds=1.0))

    async def send(self, messages: Iterable[Planned]) -> None:
        chosen = list(messages)
        await play(self.settings, lambda _: iter(chosen), ledger=self.ledger)


async def read_up_to(settings: Settings, count: int) -> None:
    deadline = monotonic() + SECONDS
    async with owner(settings) as connection:
        while await connection.fetchval(READ) < count:
            assert monotonic() < deadline
            await asyncio.sleep(0.02)


async def counted(settings: Settings, query: str = SEEN) -> list[dict[str, Any]]:
    async with owner(settings) as connection:
        return [dict(row) for row in await connection.fetch(query)]


async def read_by_everyone(settings: Settings) -> None:
    """Wait until whoever only looks on has read everything, too."""
    until = await ends(settings, sorted({topic for worker in EVERYONE for topic in worker.topics}))
    deadline = monotonic() + SECONDS
    while any(row["next_offset"] < until[row["topic"], row["partition"]] for row in await counted(settings, READ_TO)):
        assert monotonic() < deadline
        await asyncio.sleep(0.5)


async def told_again(settings: Settings) -> dict[str, int]:
    """Return how many of our events are on Kafka under one id more than once, and how many with other content."""
    bytes_of: dict[str, list[bytes]] = {}
    for record in await records(settings, "repayment.intake.v1", "repayment.settlement.v1", "repayment.risk.v1"):
        bytes_of.setdefault(record.event["event_id"], []).append(record.value or b"")
    several = [found for found in bytes_of.values() if len(found) > 1]
    return {"again": len(several), "otherwise": sum(len(set(found)) > 1 for found in several)}


async def aside(settings: Settings) -> dict[str, int]:
    """Return how many records each service set aside as unreadable."""
    union = " UNION ALL ".join(
        f"SELECT '{w.name}' AS service, count(*) AS n FROM {w.package}.set_aside WHERE kind = 'dead_letter'"  # noqa: S608
        for w in EVERYONE
    )
    return {row["service"]: row["n"] for row in await counted(settings, union) if row["n"]}


async def at_work_while_copied(billing: Billing, copy: Path) -> None:
    """Take the backup while billing sends and every worker works."""
    sending = asyncio.create_task(billing.send(islice(billing.messages, BEFORE)))
    await read_up_to(billing.settings, COPY_AFTER)
    assert await asyncio.to_thread(answer, ["backup", str(copy)]) == 0
    await sending
    await settled(billing.settings, SECONDS)
    await billing.send(islice(billing.messages, BEFORE, None))
    await settled(billing.settings, SECONDS)


def told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, Any, str]:
    capsys.readouterr()
    code = answer([*arguments, "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out or "null"), err


@pytest.mark.timeout(600)
def test_a_backup_put_back_brings_offsets_and_effects_together_and_nothing_twice(
    alone: System, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, copy = alone.settings, tmp_path / "books.dump"
    billing = Billing(settings)
    run_apart(play(settings, lambda _: accounts_of(LOAD, billing.start), ledger=billing.ledger))
    ports = start_workers(alone, EVERYONE)
    run_apart(wait_ready(ports, SECONDS))
    run_apart(at_work_while_copied(billing, copy))
    assert copy.stat().st_mode & 0o077 == 0, "only its owner may read it"
    (after,) = run_apart(counted(settings))
    assert run_apart(differences(settings, LOAD, billing.ledger.sent())) == {}
    run_apart(read_by_everyone(settings))
    poisoned = run_apart(aside(settings))

    code, _, why = told(["restore", str(copy), *WHO], capsys)
    assert code == 1
    assert "otb_settlement" in why, "it names who still works"
    alone.stack.stop(list(ports))
    assert told(["restore", str(copy)], capsys)[0] == 0
    assert run_apart(counted(settings)) == [after], "without --yes nothing changes"
    code, done, why = told(["restore", str(copy), *WHO], capsys)
    assert (code, why) == (0, "")
    assert done["moved"] > 0

    (old,) = run_apart(counted(settings))
    assert 0 < old["reported"] < after["reported"], "the copy was made in the middle"
    assert old["settled"] < after["settled"]
    assert run_apart(violations(settings)).keys() <= {f"{w.package}.invariant_outbox_drained" for w in EVERYONE}
    run_apart(wait_ready(start_workers(alone, EVERYONE), SECONDS))
    run_apart(settled(settings, SECONDS))
    assert run_apart(counted(settings)) == [after]
    assert run_apart(differences(settings, LOAD, billing.ledger.sent())) == {}
    assert run_apart(restored_twice(settings)) == []
    run_apart(read_by_everyone(settings))
    assert run_apart(aside(settings)) == poisoned, "no event told again was taken for another"
    assert run_apart(told_again(settings))["otherwise"] > 0, "what was decided again was told with other instants"
    code, verdict, _ = told(["check"], capsys)
    assert code == 0, verdict
    assert Counter(row["service"] for row in run_apart(counted(settings, READ_TO))).keys() >= {"lag-monitor", "console"}
