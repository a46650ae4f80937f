"""Books of any size: a few accounts are played through the real services, then every row of them is copied by SQL.

The copies are made as fast as PostgreSQL takes them: no index is kept while rows come (all are built afterwards, so a
key that two copies share is still refused), and nothing is logged, because nobody restores a benchmark.
"""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from schemas.event import Event, to_millisecond
from schemas.ids import repayment_id
from services.cli.workers import EVERYONE
from services.runtime.clock import utc_now
from services.runtime.settings import Settings
from tests import builders
from tests.integration.relay import relay
from tests.integration.support import owner

EACH: Final = 4
"""Repayments of one account."""
SHOP: Final = {"wallet": 4, "instant_transfer": 2, "direct_debit": 2}
"""How many accounts repay by each rail; the last of direct debits is returned after, the last of wallets overpays."""
HANDS: Final = 2
"""Connections that copy at once: a backend uses one core."""
COLUMNS: Final = """
SELECT column_name AS name, data_type AS kind FROM information_schema.columns
WHERE table_schema = $1 AND table_name = $2 AND (is_identity = 'NO' OR table_name = 'publication')
ORDER BY ordinal_position
"""
# The repayments that were played, and under which id each copy of them is known.
NAMED: Final = "CREATE TABLE public.named (old text, n integer, new text, PRIMARY KEY (old, n))"
SIZES: Final = """
SELECT relnamespace::regnamespace || '.' || relname AS name, reltuples::bigint AS rows FROM pg_class
WHERE relnamespace::regnamespace::text = ANY ($1::text[]) AND relkind = 'r' AND reltuples > 10000 ORDER BY 2 DESC
"""
# Every offset up to here was read: the inbox is dense.
READ_SO_FAR: Final = """
UPDATE progress AS p SET next_offset = p.first_offset + i.n
FROM (SELECT topic, partition, count(*) AS n FROM inbox GROUP BY 1, 2) AS i
WHERE p.topic = i.topic AND p.partition = i.partition
"""
# Rows are taken in without their indexes, which REINDEX makes of all rows at once.
WITHOUT_INDEXES: Final = (
    "UPDATE pg_index SET indisready = false, indisvalid = false WHERE indrelid = $1::text::regclass"
)
# The triggers guard one change at a time; what was copied is asked of the invariants.
SESSION: Final = """
SET session_replication_role = replica; SET maintenance_work_mem = '256MB'; SET work_mem = '64MB'; SET jit = off
"""
# Sums over accounts have no row an account: each copy adds as much again.
PORTFOLIO: Final = "UPDATE risk_scoring.portfolio_exposure SET minor = minor * ($1::integer + 1)"
FINISH: Final = """
UPDATE notifier.delivery SET state = 'delivered', ended_at = clock_timestamp(), next_attempt_at = NULL
WHERE state = 'requested'
"""
_HEX: Final = "md5(replace(t.{0}::text, '-', '') || c.n)"
_SUBJECT: Final = f"coalesce(b.new, {_HEX.format('subject')})"
RULES: Final[Mapping[str, str]] = {
    "account_id": "t.account_id || '_' || c.n",
    "external_ref": "t.external_ref || '_' || c.n",
    "repayment_id": "coalesce(b.new, t.repayment_id)",
    "event_id": f"{_HEX.format('event_id')}::uuid",
    "notification_id": _HEX.format("notification_id"),
    "caused_by": _HEX.format("caused_by"),
    "case_id": _HEX.format("case_id"),
    "opened_by": _HEX.format("opened_by"),
    "offset": 't."offset" + c.n * $2',
    "publication_id": "t.publication_id + c.n * $2",
    "ref": "coalesce(b.new || substr(t.ref, 33), t.ref)",
    "subject": _SUBJECT,
    "timer_key": f"t.kind || ':' || {_SUBJECT} || ':' || t.number",
}
"""What a column says in copy ``c.n``; what is not named stays. ``b.new`` is the id of the repayment it speaks of."""
REFS: Final = {"journal": "ref", "timers": "subject", "notice": "subject", "entry": "subject"}
"""Columns that begin with the id of a repayment under another name."""
KEPT: Final[Mapping[str, tuple[str, ...]]] = {
    "repayment_ingest": ("reference", "publication", "outbox", "inbox"),
    "settlement": ("account", "entry", "repayment", "publication", "outbox", "inbox"),
    "risk_scoring": ("account", "assessment", "risk_outcome", "exposure", "publication", "outbox", "inbox"),
    "limit_release": (
        *("account", "journal", "repayment", "tranche", "decision_record", "timers", "publication", "outbox"),
        "inbox",
    ),
    "notifier": ("account", "notification", "delivery", "publication", "outbox", "inbox"),
    "console": ("case_file", "case_step", "timers", "inbox"),
    "lag_monitor": (*("journey", "part", "sla_promise", "notice", "lag_segment", "restoration_fact", "inbox"),),
}
"""What is copied, by service."""


def stories() -> list[list[Event]]:
    """Return what billing tells of each account that is copied."""
    told = []
    for rail, count in SHOP.items():
        for number in range(count):
            last = number == count - 1
            told.append(_story(f"{rail}_{number}", rail, overpays=last and rail == "wallet", returned=last))
    return told


def _story(account: str, rail: str, *, overpays: bool, returned: bool) -> list[Event]:
    mine = {"account_id": account}
    events: list[Event] = [
        builders.account_opened(**mine, event_id=f"o_{account}", credit_limit_minor=1_000_000),
        builders.purchase_posted(**mine, event_id=f"p_{account}", purchase_id=f"p_{account}", amount_minor=600_000),
        builders.charges_accrued(**mine, event_id=f"c_{account}"),
    ]
    for number in range(EACH):
        now = to_millisecond(utc_now())
        at = {"repaid_at": now - timedelta(seconds=EACH - number), "occurred_at": now}
        paid = 500_000 if overpays else 100_000
        what = {**mine, "rail": rail, "amount_minor": paid, "external_ref": f"r_{account}_{number}", **at}
        events.append(builders.repayment_reported(**what, event_id=f"r_{account}_{number}"))
    if returned and rail == "direct_debit":
        back = {**mine, "rail": rail, "amount_minor": 100_000, "external_ref": f"r_{account}_0"}
        events.append(builders.repayment_return_reported(**back, event_id=f"b_{account}"))
    return events


async def fill(settings: Settings, repayments: int) -> dict[str, int]:
    """Fill every service's books with at least so many repayments; return how much there is of what."""
    told = stories()
    async with relay(settings) as relayed:
        for story in told:
            await relayed.tell(*story)
    copies = -(-repayments // (EACH * len(told))) - 1
    async with owner(settings) as connection:
        await connection.execute(FINISH)
        await connection.execute(NAMED)
        found = await connection.fetch("SELECT source, external_ref FROM repayment_ingest.reference")
        named = [
            (repayment_id(row["source"], row["external_ref"]), n, _new(row["source"], row["external_ref"], n))
            for row in found
            for n in range(1, copies + 1)
        ]
        await connection.copy_records_to_table("named", records=named, schema_name="public")
        await connection.execute("ANALYZE public.named")
        await connection.execute(PORTFOLIO, copies)
    tables = [(worker.package, table) for worker in EVERYONE for table in KEPT[worker.package]]
    await asyncio.gather(*(_copies(settings, tables, copies) for _ in range(HANDS)))
    async with owner(settings) as connection:
        for worker in EVERYONE:
            await _read_so_far(connection, worker.package)
        rows = await connection.fetch(SIZES, list(KEPT))
    return {row["name"]: row["rows"] for row in rows}


async def _copies(settings: Settings, tables: list[tuple[str, str]], copies: int) -> None:
    """Copy one table after another until there is none left."""
    async with owner(settings) as connection:
        await connection.execute(SESSION)
        while tables:
            package, table = tables.pop()
            name = f"{package}.{table}"
            await connection.execute(f"ALTER TABLE {name} SET UNLOGGED")
            await connection.execute(WITHOUT_INDEXES, name)
            await _copy(connection, package, table, copies)
            await connection.execute(f"REINDEX TABLE {name}", timeout=600)
            await connection.execute(f"VACUUM (ANALYZE) {name}", timeout=600)


def _new(source: str, external_ref: str, n: int) -> str:
    return repayment_id(source, f"{external_ref}_{n}")


async def _read_so_far(connection: Any, package: str) -> None:
    await connection.execute(f"SET search_path = {package}")
    await connection.execute(READ_SO_FAR)


async def _copy(connection: Any, package: str, table: str, copies: int) -> None:
    """Copy every row of a table ``copies`` times under keys of their own."""
    names = [row["name"] for row in await connection.fetch(COLUMNS, package, table)]
    about = REFS.get(table, "repayment_id" if "repayment_id" in names else None)
    joined = "" if about is None else f"LEFT JOIN public.named b ON b.old = left(t.{about}, 32) AND b.n = c.n"
    counted = "max(publication_id)" if "publication_id" in names else "count(*)"
    span = await connection.fetchval(f"SELECT {counted} FROM {package}.{table}")  # noqa: S608  # our own names
    values = ", ".join(RULES.get(name, f't."{name}"') for name in names)
    listed = ", ".join(f'"{name}"' for name in names)
    await connection.execute(
        f"INSERT INTO {package}.{table} ({listed}) OVERRIDING SYSTEM VALUE "  # noqa: S608
        f"SELECT {values} FROM (SELECT * FROM {package}.{table}) AS t "
        f"CROSS JOIN generate_series(1, $1::integer) AS c(n) {joined} WHERE $2::bigint >= 0",
        *(copies, span or 0),
        timeout=600,
    )
