"""The stack a benchmark runs on: a temporary state folder, opened accounts, everything stopped at the end."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NoReturn

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from schemas.topics import BILLING_ACCOUNT
from services.cli.system import System, open_system, provision, start_workers, wait_ready
from services.cli.workers import WORKERS
from services.runtime.clock import monotonic, utc_now
from services.runtime.settings import Settings
from tests.benchmarks.load import DEBT_MINOR, Sender, openings

REPOSITORY: Final = Path(__file__).parents[2]
OPEN_SECONDS: Final = 300.0
ENDING: Final = (signal.SIGTERM, signal.SIGHUP)
# How many accounts every service knows, with their debt.
OPENED = """
SELECT least(
  (SELECT count(*) FROM settlement.account WHERE principal_minor = $1),
  (SELECT count(*) FROM limit_release.account WHERE used_debt_minor = $1),
  (SELECT count(*) FROM notifier.account))
"""


class BenchmarkError(Exception):
    """The benchmark cannot tell a figure."""


class Stalled(BenchmarkError):
    """Nothing comes out of a pipeline any more."""


@contextmanager
def bed() -> Iterator[System]:
    """Run an embedded stack of its own, whatever servers the environment names."""
    with TemporaryDirectory(prefix="otb-bench-", ignore_cleanup_errors=True) as folder, _signals(_ended, *ENDING):
        system = open_system(
            Settings(
                state_dir=Path(folder) / "state",
                cache_dir=Settings().cache_dir or REPOSITORY / ".otb" / "cache",
                kafka_bootstrap_servers=None,
                postgres_dsn=None,
                secrets_dir=None,
            ),
            tied=True,
        )
        try:
            yield system
        finally:
            with _signals(signal.SIG_IGN, *ENDING, signal.SIGINT):
                system.stack.down()


@contextmanager
def _signals(handler: Any, *numbers: signal.Signals) -> Iterator[None]:
    before = {each: signal.signal(each, handler) for each in numbers}
    try:
        yield
    finally:
        for each, known in before.items():
            signal.signal(each, known)


def _ended(number: int, frame: object) -> NoReturn:
    """Turn a signal into an exception, so that the stack is stopped whatever ends the benchmark."""
    sys.exit(128 + number)


async def open_accounts(system: System, accounts: int) -> None:
    """Provision the system and open accounts with a debt through the real workers; then stop the workers."""
    await provision(system.settings)
    await wait_ready(await asyncio.to_thread(start_workers, system))
    async with Sender(system.settings) as sender:
        await sender.at_once(BILLING_ACCOUNT.name, openings(accounts, utc_now()))
    await until(lambda: _opened(system.settings, accounts), OPEN_SECONDS, "accounts opened")
    await asyncio.to_thread(system.stack.stop, [worker.name for worker in WORKERS])


async def _opened(settings: Settings, accounts: int) -> bool:
    rows = await fetch(settings, OPENED, DEBT_MINOR)
    return bool(rows[0][0] >= accounts)


async def until(met: Callable[[], Awaitable[bool]], seconds: float, what: str) -> None:
    """Poll until ``met``; raise BenchmarkError naming ``what`` did not come."""
    deadline = monotonic() + seconds
    while not await met():
        if monotonic() > deadline:
            raise BenchmarkError(f"not within {seconds:.0f} s: {what}")
        await asyncio.sleep(0.1)


async def fetch(settings: Settings, query: str, *values: object, schema: str = "public") -> list[Any]:
    """Return the rows of one query, asked as the owner."""
    connection = await asyncpg.connect(dsn(settings), server_settings={"search_path": schema})
    try:
        rows: list[Any] = await connection.fetch(query, *values)
        return rows
    finally:
        await connection.close()


async def execute(settings: Settings, script: str, *, schema: str = "public") -> None:
    """Run a script as the owner; unqualified names are those of ``schema``."""
    connection = await asyncpg.connect(dsn(settings), server_settings={"search_path": schema})
    try:
        await connection.execute(script)
    finally:
        await connection.close()


def dsn(settings: Settings) -> str:
    """Return the owner's address of the database."""
    if settings.postgres_dsn is None:
        raise BenchmarkError("the stack is not up")
    return settings.postgres_dsn.get_secret_value()


async def make_topics(settings: Settings, names: tuple[str, ...]) -> None:
    """Make topics like the system's own: as many partitions, the broker's timestamps."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await admin.start()
    try:
        stamped = {"message.timestamp.type": "LogAppendTime"}
        await admin.create_topics([NewTopic(name, settings.partitions, 1, topic_configs=stamped) for name in names])
    finally:
        await admin.close()
