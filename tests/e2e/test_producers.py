"""Billing's producer kits: the golden headers, bytes and partitions, and a thousand repayments through the pipeline."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from schemas.repayment import RepaymentReported
from schemas.topics import BILLING_REPAYMENT
from services.billing_simulator.headers import billing_headers
from services.cli.conformity import examine
from services.cli.kafka import tail
from services.cli.system import System
from services.runtime.clock import monotonic, utc_now
from services.runtime.codec import encode
from services.runtime.publisher import partition_of
from services.runtime.settings import Settings
from tests import builders
from tests.conftest import REPOSITORY, cache_dir
from tests.integration.kafka import Seen, records, send
from tests.integration.support import owner, violations

CLIENTS = REPOSITORY / "schemas" / "clients"
JARS = ("kafka-clients", "slf4j-api")
ACCOUNTS, REPAYMENTS = 50, 1_000
COMPILE_SECONDS, SEND_SECONDS, RESTORE_SECONDS = 240, 60, 120
RESTORED = "SELECT count(*) FROM limit_release.repayment WHERE assessed"
Build = Callable[[Path], list[str]]


def python(folder: Path) -> list[str]:
    return [sys.executable, str(CLIENTS / "python" / "producer.py")]


def java(folder: Path) -> list[str]:
    jars = ":".join(str(path) for name in JARS for path in (cache_dir().resolve() / "jars").glob(f"{name}-[0-9]*.jar"))
    source = str(CLIENTS / "java" / "RepaymentProducer.java")
    compiled([tool("javac"), "-Xlint:all", "-Werror", "-cp", jars, "-d", str(folder), source], folder)
    return [tool("java"), "-cp", f"{jars}:{folder}", "RepaymentProducer"]


def go(folder: Path) -> list[str]:
    shutil.copytree(CLIENTS / "go", folder / "go")
    compiled([tool("go"), "build", "-o", str(folder / "producer"), "."], folder / "go")
    return [str(folder / "producer")]


def tool(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"{name} is missing on this build machine"
    return found


def compiled(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=COMPILE_SECONDS)
    assert done.returncode == 0, done.stderr[-2_000:]


def fed(command: Sequence[str], settings: Settings, reports: Iterable[RepaymentReported]) -> None:
    """Run a kit on the rows of an outbox."""
    rows = []
    for report in reports:
        instant = report.occurred_at.isoformat().replace("+00:00", "Z")
        names = f"{report.account_id}\t{report.event_id}\t{report.source}\t{instant}"
        rows.append(names.encode() + b"\t" + encode(report).payload + b"\n")
    asked = [*command, settings.kafka_bootstrap_servers or ""]
    done = subprocess.run(asked, input=b"".join(rows), capture_output=True, timeout=SEND_SECONDS)
    assert done.returncode == 0, done.stderr[-2_000:].decode()


def same(seen: Seen, report: RepaymentReported, partitions: int) -> bool:
    headers = {name: value.decode() for name, value in billing_headers(report, report.source)}
    found = (seen.key, seen.value, seen.headers, seen.partition)
    key = report.account_id
    return found == (key.encode(), encode(report).payload, headers, partition_of(key, partitions))


async def restored(settings: Settings) -> int:
    async with owner(settings) as connection:
        count: int = await connection.fetchval(RESTORED)
        return count


@pytest.mark.parametrize(
    "build",
    [python, pytest.param(java, marks=pytest.mark.compilers), pytest.param(go, marks=pytest.mark.compilers)],
)
async def test_a_kit_sends_what_the_guide_asks_and_its_repayments_come_back(
    build: Build, workers: System, tmp_path: Path
) -> None:
    settings, now = workers.settings, utc_now().replace(microsecond=0)
    accounts = [f"acct_{build.__name__}_{n}" for n in range(ACCOUNTS)]
    bought = {"amount_minor": 400_000, "currency": "CNY", "occurred_at": now}
    await send(settings, *(builders.account_opened(account_id=each, product="demo") for each in accounts))
    await send(settings, *(builders.purchase_posted(account_id=each, **bought) for each in accounts))
    reports = [
        builders.repayment_reported(
            account_id=accounts[n % ACCOUNTS], external_ref=f"dd-{n}", amount_minor=1_000 + n, rail="wallet",
            repaid_at=now, occurred_at=now,
        )
        for n in range(REPAYMENTS)
    ]  # fmt: skip
    command = build(tmp_path)
    fed(command, settings, reports)

    expected: dict[str, RepaymentReported] = {report.event_id: report for report in reports}
    found = await records(settings, BILLING_REPAYMENT.name)
    assert len(found) == REPAYMENTS
    assert all(same(seen, expected[seen.headers["ce_id"]], settings.partitions) for seen in found)
    partitions, newest = await tail(settings, BILLING_REPAYMENT.name, REPAYMENTS, "test")
    assert examine(BILLING_REPAYMENT, partitions, newest) == []

    fed(command, settings, reports[:10])  # the outbox after a crash: sent again as it stands
    deadline = monotonic() + RESTORE_SECONDS
    while await restored(settings) < REPAYMENTS:
        assert monotonic() < deadline, f"{await restored(settings)} of {REPAYMENTS} came through"
        await asyncio.sleep(0.5)
    assert await restored(settings) == REPAYMENTS
    assert await violations(settings) == {}
