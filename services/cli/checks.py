"""The invariants: every view the services keep, what joins services, and Kafka against the books."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from schemas.audit import AuditAnchored
from schemas.ids import repayment_id
from services.cli import reconcile
from services.cli.audit import differs, told
from services.cli.declared import EVERYONE, WORKERS
from services.cli.kafka import administrator, ends_of, partitions_of
from services.cli.servers import Connection, attached, connected
from services.cli.terminal import EPILOG, FOUND, OK, Json, print_json, seconds_since, stdout, table, working
from services.runtime.clock import monotonic
from services.runtime.postgres import columns
from services.runtime.settings import Settings

VIEWS = """
SELECT schemaname, viewname FROM pg_views WHERE viewname LIKE 'invariant\\_%' ORDER BY viewname, schemaname
"""
# Accepted: billing said the money came, whatever was said of it later.
ACCEPTED = """
SELECT source, array_agg(external_ref) AS refs FROM repayment_ingest.reference WHERE 'succeeded' = ANY (kinds)
GROUP BY 1
"""
# One array: a row each takes longer to read than to find.
IN_SETTLEMENT = "SELECT array_agg(repayment_id) FROM settlement.repayment"
ACCOUNTS_OF = """
SELECT source, external_ref, account_id FROM repayment_ingest.reference
JOIN unnest($1::text[], $2::text[]) AS missing (source, external_ref) USING (source, external_ref)
"""
# Accounts of which settlement has not taken in all it was told, or has set some aside (under_way of lag-monitor).
UNDECIDED = """
SELECT o.account_id FROM repayment_ingest.outbox o WHERE o.occurred_at > clock_timestamp() - interval '1 day'
  AND NOT EXISTS (SELECT FROM settlement.inbox i WHERE i.event_id = o.event_id)
UNION SELECT account_id FROM settlement.set_aside WHERE state IN ('open', 'ready') AND account_id IS NOT NULL
"""
# Which service's tables an unqualified name means from here on.
USE = "SELECT set_config('search_path', $1, true)"
POSITIONS = "SELECT topic, partition, next_offset FROM progress"
UNPUBLISHED = "SELECT publication_id, created_at FROM publication WHERE published_at IS NULL LIMIT 1001"
READY = "SELECT set_aside_id, kind, reason FROM set_aside WHERE state = 'ready' LIMIT 1001"
# Messages nobody tried to deliver yet.
UNTRIED = "SELECT notification_id FROM notifier.delivery WHERE state = 'requested' AND attempts = 0 LIMIT 1001"
# What a verdict is about: how much was looked at.
COUNTS = """
SELECT (SELECT count(*) FROM repayment_ingest.reference) AS repayments,
  (SELECT count(*) FROM limit_release.account) AS accounts,
  (SELECT count(*) FROM limit_release.tranche) AS parts,
  (SELECT count(*) FROM limit_release.tranche WHERE restored_at IS NOT NULL) AS restored_parts,
  (SELECT count(*) FROM limit_release.journal) AS ledger_entries,
  (SELECT count(*) FROM notifier.notification) AS messages,
  (SELECT count(*) FROM repayment_ingest.set_aside WHERE kind = 'dead_letter' AND state = 'open')
    + (SELECT count(*) FROM settlement.set_aside WHERE kind = 'dead_letter' AND state = 'open')
    + (SELECT count(*) FROM risk_scoring.set_aside WHERE kind = 'dead_letter' AND state = 'open')
    + (SELECT count(*) FROM limit_release.set_aside WHERE kind = 'dead_letter' AND state = 'open')
    + (SELECT count(*) FROM notifier.set_aside WHERE kind = 'dead_letter' AND state = 'open') AS open_dead_letters,
  (SELECT count(*) FROM console.case_file WHERE state NOT IN ('resolved', 'closed')) AS open_cases,
  (SELECT count(*) FROM repayment_ingest.conflict) AS conflicts
"""
PREFIX: Final = "invariant_"
IDENTIFIER: Final = re.compile(r"[a-z_][a-z0-9_]*")
VIOLATIONS_MAX: Final = 1_000
HANDS: Final = 2
"""Connections that ask at once."""
JOINS: Final = "lag_monitor"
"""Whose views take longest, so that they are asked first."""
AS_SEEN: Final = "SET TRANSACTION SNAPSHOT '{snapshot}'"
MEMORY: Final = "SET work_mem = '64MB'"
"""Enough that hardly anything of a few hundred thousand repayments is sorted on disk."""
# A bare LIMIT lets PostgreSQL plan for the first rows that break a view, by index and row for row; there are none.
ASK: Final = f"WITH broken AS MATERIALIZED (TABLE {{view}}) TABLE broken LIMIT {VIOLATIONS_MAX + 1}"
EXAMPLES: Final = 3
CLIENT_ID: Final = "otb-check"
READ: Final = sorted({topic for worker in WORKERS for topic in worker.topics})

Offsets = dict[tuple[str, str, int], int]


@dataclass(frozen=True, slots=True)
class Finding:
    """One invariant's verdict; ``violations`` stops counting at a thousand."""

    name: str
    of: str
    violations: int
    examples: tuple[dict[str, Any], ...] = ()

    @property
    def verdict(self) -> str:
        """Return ok or violated."""
        return "violated" if self.violations else "ok"


@dataclass(frozen=True, slots=True)
class Report:
    """All verdicts, how much was looked at, and in what billing's list differs where one was given."""

    findings: tuple[Finding, ...]
    counts: dict[str, int]
    differences: tuple[reconcile.Difference, ...] = ()

    @property
    def violated(self) -> tuple[Finding, ...]:
        """Return what is not as it must be."""
        return tuple(finding for finding in self.findings if finding.violations)


@dataclass(frozen=True, slots=True)
class Kafka:
    """What the broker says: committed offsets and log ends by (service, topic, partition), and where the audit was."""

    committed: Offsets
    ends: Offsets
    anchored: tuple[AuditAnchored, ...] = ()


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("check", epilog=EPILOG)(check)


def check(
    at_rest: Annotated[bool, typer.Option("--at-rest", help="Also assert that nothing is in flight.")] = False,
    sent: Annotated[Path | None, typer.Option(metavar="FILE", help="Billing's own list, a JSON line each.")] = None,
    open_cases: Annotated[bool, typer.Option("--open-cases", help="With --sent: a case for each difference.")] = False,
    as_json: Json = False,
) -> int:
    """Check every invariant; exit 1 when one is violated.

    With --sent also against what billing says it sent: the whole list of its source, as JSON lines with source,
    external_ref, account_id, amount_minor and currency.
    """
    begun = monotonic()
    settings, listed = attached(), None if sent is None else reconcile.read(sent)
    with working("checking"):
        report = asyncio.run(examine(settings, at_rest=at_rest, sent=listed))
        if open_cases:
            asyncio.run(reconcile.open_for(settings, report.differences))
    if as_json:
        findings = [{**asdict(finding), "verdict": finding.verdict} for finding in report.findings]
        print_json({"ok": not report.violated, "counts": report.counts, "findings": findings})
    else:
        shown = table("invariant", "of", "violations", "verdict", right=("violations",))
        for finding in report.findings:
            shown.add_row(finding.name, finding.of, str(finding.violations), finding.verdict)
        stdout().print(shown)
        for line in verdict_lines(report):
            stdout().print(line, markup=False, soft_wrap=True)
        stdout().print(f"checked in {seconds_since(begun)}")
    return FOUND if report.violated else OK


def verdict_lines(report: Report) -> list[str]:
    """Return the verdict in words, with counts and examples of what is wrong."""
    counted = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in report.counts.items())
    lines = [
        f"{finding.name} ({finding.of}), for example: {example}"
        for finding in report.violated
        for example in finding.examples
    ]
    good = len(report.findings) - len(report.violated)
    return [*lines, f"{good} of {len(report.findings)} invariants hold over {counted}"]


async def examine(settings: Settings, *, at_rest: bool = False, sent: Sequence[reconcile.Sent] | None = None) -> Report:
    """Run every check: Kafka is read first and the books after, so that a moving pipe never looks wrong."""
    kafka = await _kafka(settings, ends=at_rest)
    async with connected(settings) as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
        beside = _beside_the_views(connection, kafka, at_rest=at_rest, sent=sent)
        views, report = await asyncio.gather(_views(settings, snapshot), beside)
    return replace(report, findings=(*views, *report.findings))


async def _beside_the_views(
    connection: Connection, kafka: Kafka, *, at_rest: bool, sent: Sequence[reconcile.Sent] | None
) -> Report:
    """Ask on one connection what is no view, and how much there is."""
    counts = await connection.fetchrow(COUNTS)
    anchored = _finding(
        "audit_anchored", "console", [{"wrong": each} for each in await differs(connection, kafka.anchored)]
    )
    findings = [anchored, await _accepted_is_decided(connection), *await _offsets(connection, kafka)]
    if at_rest:
        findings += await _rest(connection, kafka)
    differences = [] if sent is None else await reconcile.differences(connection, sent)
    if sent is not None:
        findings.append(_finding("source_reconciled", "billing", [each._asdict() for each in differences]))
    return Report(tuple(findings), dict(counts or {}), tuple(differences))


async def _views(settings: Settings, snapshot: str) -> list[Finding]:
    """Ask every view, several at once; all of them see the instant of ``snapshot``."""
    found: dict[str, Finding] = {}
    async with connected(settings) as connection:
        views = [(row["schemaname"], row["viewname"]) for row in await connection.fetch(VIEWS)]
    waiting = [each for each in views if all(map(IDENTIFIER.fullmatch, each))]
    left = sorted(waiting, key=lambda each: each[0] == JOINS)

    async def ask() -> None:
        async with (
            connected(settings) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            await connection.execute(f"{AS_SEEN.format(snapshot=snapshot)}; {MEMORY}")
            while left:
                schema, view = left.pop()
                rows = await connection.fetch(ASK.format(view=f"{schema}.{view}"))
                found[f"{schema}.{view}"] = _finding(view.removeprefix(PREFIX), schema.replace("_", "-"), rows)

    await asyncio.gather(*(ask() for _ in range(HANDS)))
    return [found[f"{schema}.{view}"] for schema, view in waiting]


async def _accepted_is_decided(connection: Connection) -> Finding:
    """Every accepted repayment is in settlement, or waits there, or is still under way to it."""
    decided = frozenset(await connection.fetchval(IN_SETTLEMENT) or ())
    unknown = [
        (row["source"], ref)
        for row in await connection.fetch(ACCEPTED)
        for ref in row["refs"]
        if repayment_id(row["source"], ref) not in decided
    ]
    missing: list[Any] = []
    if unknown:
        waiting = {row["account_id"] for row in await connection.fetch(UNDECIDED)}
        found = await connection.fetch(ACCOUNTS_OF, *columns(unknown, 2))
        missing = [row for row in found if row["account_id"] not in waiting]
    return _finding("accepted_is_decided", "services", missing)


async def _offsets(connection: Connection, kafka: Kafka) -> list[Finding]:
    """No group told Kafka more than its service's books say (I12)."""
    found = []
    for worker in EVERYONE:
        books = await _positions(connection, worker.package)
        ahead = [
            {"topic": topic, "partition": partition, "committed": offset, "books": books.get((topic, partition), 0)}
            for (service, topic, partition), offset in kafka.committed.items()
            if service == worker.name and offset > books.get((topic, partition), 0)
        ]
        found.append(_finding("offset_not_ahead", worker.name, ahead))
    return found


async def _rest(connection: Connection, kafka: Kafka) -> list[Finding]:
    """Nothing is in flight: all published, nothing ready to be handled again, every log read to its end."""
    found = [_finding("rest_told", "notifier", await connection.fetch(UNTRIED))]
    for worker in WORKERS:
        books = await _positions(connection, worker.package)
        unread = [
            {"topic": topic, "partition": partition, "end": end, "books": books.get((topic, partition))}
            for (service, topic, partition), end in kafka.ends.items()
            if service == worker.name and end != books.get((topic, partition), 0)
        ]
        found.append(_finding("rest_published", worker.name, await connection.fetch(UNPUBLISHED)))
        found.append(_finding("rest_nothing_ready", worker.name, await connection.fetch(READY)))
        found.append(_finding("rest_read_to_the_end", worker.name, unread))
    return found


async def _positions(connection: Connection, package: str) -> dict[tuple[str, int], int]:
    await connection.execute(USE, package)
    return {(row["topic"], row["partition"]): row["next_offset"] for row in await connection.fetch(POSITIONS)}


async def _kafka(settings: Settings, *, ends: bool) -> Kafka:
    committed, anchored = await asyncio.gather(_committed(settings), told(settings))
    return Kafka(committed, await _ends(settings) if ends else {}, tuple(anchored))


async def _committed(settings: Settings) -> Offsets:
    committed: Offsets = {}
    async with administrator(settings, CLIENT_ID) as admin:
        for worker in EVERYONE:
            offsets = await admin.list_consumer_group_offsets(worker.name)
            committed |= {
                (worker.name, at.topic, at.partition): told.offset
                for at, told in offsets.items()
                if at.topic in worker.topics and told.offset >= 0
            }
    return committed


async def _ends(settings: Settings) -> Offsets:
    """Return where every log that a service reads ends."""
    ends = await ends_of(settings, await partitions_of(settings, READ, CLIENT_ID), CLIENT_ID)
    return {
        (worker.name, at.topic, at.partition): end
        for worker in WORKERS
        for at, end in ends.items()
        if at.topic in worker.topics
    }


def _finding(name: str, of: str, rows: Sequence[Any]) -> Finding:
    examples = tuple(dict(row) for row in rows[:EXAMPLES])
    return Finding(name, of, min(len(rows), VIOLATIONS_MAX), examples)
