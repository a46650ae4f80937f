"""Fill the services' real tables: rows that are there are copied under other keys, whatever columns they have."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from services.cli.system import System
from services.cli.workers import WORKERS
from services.runtime.settings import Settings
from tests.benchmarks.bed import BenchmarkError, execute, fetch
from tests.benchmarks.load import account_id

COLUMNS: Final = """
SELECT column_name FROM information_schema.columns
WHERE table_schema = $1 AND table_name = $2 AND is_generated = 'NEVER' ORDER BY ordinal_position
"""
ACCOUNT: Final = "'acct_bench_' || lpad(n::text, 6, '0')"
"""As tests.benchmarks.load.account_id says it."""


@dataclass(frozen=True, slots=True)
class Copies:
    """Copies of the rows of ``table`` that satisfy ``where``; ``keys`` are SQL, of the number ``n``, by column."""

    schema: str
    table: str
    where: str
    keys: Mapping[str, str]


TEMPLATE: Final = f"account_id = '{account_id(0)}'"
ACCOUNTS: Final = (
    Copies("settlement", "account", TEMPLATE, {"account_id": ACCOUNT}),
    Copies("limit_release", "account", TEMPLATE, {"account_id": ACCOUNT}),
    Copies("limit_release", "journal", TEMPLATE, {"account_id": ACCOUNT, "ref": "md5(ref || n)"}),
    Copies("notifier", "account", TEMPLATE, {"account_id": ACCOUNT}),
)
# Of a topic nobody reads: the count of offsets (I13) is of what was read.
INBOX: Final = {"event_id": "md5('preloaded' || n)::uuid", "topic": "'preloaded'", "offset": "n", "digest": "n"}


# How many rows were preloaded, in the search path of one service.
PRELOADED: Final = "SELECT count(*) FROM inbox WHERE topic = 'preloaded'"


async def preload_accounts(system: System, accounts: range) -> None:
    """Add accounts like the first one, which no repayment touched yet."""
    for copies in ACCOUNTS:
        await _copy(system.settings, copies, accounts.start, accounts.stop - 1)


async def preload_inboxes(system: System, rows: int) -> None:
    """Add rows to every service's inbox, which has one already; then let PostgreSQL look at its tables."""
    for worker in WORKERS:
        await _copy(system.settings, Copies(worker.package, "inbox", "true", INBOX), 1, rows, limit=1)
        found = await fetch(system.settings, PRELOADED, schema=worker.package)
        if found[0][0] != rows:
            raise BenchmarkError(f"{found[0][0]} of {rows} rows came into the inbox of {worker.name}")
    await execute(system.settings, "VACUUM ANALYZE")
    await execute(system.settings, "CHECKPOINT")


async def _copy(settings: Settings, copies: Copies, first: int, last: int, *, limit: int = 1_000) -> None:
    names = [row["column_name"] for row in await fetch(settings, COLUMNS, copies.schema, copies.table)]
    target = f'{copies.schema}."{copies.table}"'
    listed = ", ".join(f'"{name}"' for name in names)
    values = ", ".join(copies.keys.get(name, f'"{name}"') for name in names)
    template = f"SELECT * FROM {target} WHERE {copies.where} LIMIT {limit}"  # noqa: S608  # our own names
    copied = f"SELECT {values} FROM ({template}) AS t, generate_series({first}, {last}) AS n"  # noqa: S608
    await execute(settings, f"INSERT INTO {target} ({listed}) {copied}")
