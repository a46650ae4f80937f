"""The story of each named repayment in about four lines, from the books."""

from collections.abc import Iterable, Sequence
from typing import Final

from schemas.ids import repayment_id
from schemas.restoration import DecisionRecord
from services.billing_simulator.plan import Reference, Repayment, Scenario
from services.cli.journey import Found, Journey, told_of
from services.cli.lag import PHASES, phase_of
from services.cli.look import explanation, standing_of
from services.cli.servers import Connection
from services.wording import customer_text, duration_text, money_text

REFERENCE = """
SELECT source, external_ref, account_id, amount_minor, currency, rail, kinds FROM repayment_ingest.reference
WHERE source = $1 AND external_ref = $2
"""
FIRST_RECORD = "SELECT record FROM limit_release.decision_record WHERE repayment_id = $1 ORDER BY version LIMIT 1"
AVAILABLE = "SELECT available_minor, credit_limit_minor, currency FROM limit_release.account WHERE account_id = $1"
# How often a repayment's credit was given back, by the ledger.
RELEASES = """
SELECT count(*) AS n, coalesce(sum(available_minor), 0)::bigint AS minor FROM limit_release.journal
WHERE kind = 'RELEASE' AND starts_with(ref, $1)
"""
# Unreadable reports of an account.
DEAD_LETTERS = """
SELECT set_aside_id, reason FROM repayment_ingest.set_aside
WHERE kind = 'dead_letter' AND key = convert_to($1, 'UTF8') ORDER BY set_aside_id
"""
# Which of billing's references the books hold, and which of those were decided on.
HELD_REFERENCES = """
SELECT source, external_ref FROM repayment_ingest.reference
WHERE (source, external_ref) IN (SELECT * FROM unnest($1::text[], $2::text[]))
"""
DECIDED = """
SELECT (SELECT count(*) FROM settlement.repayment WHERE repayment_id = ANY ($1::text[])) AS settled,
  (SELECT count(*) FROM limit_release.repayment
    WHERE repayment_id = ANY ($1::text[]) AND (assessed OR returned)) AS decided
"""
BOTH_LANGUAGES: Final = ("case_a",)


async def stories(connection: Connection, played: Sequence[Scenario]) -> list[tuple[str, list[str]]]:
    """Return a heading and lines for each scenario."""
    told = []
    for each in played:
        lines: list[str] = []
        for repayment in each.repayments:
            lines += await _story(connection, each, repayment)
        told.append((each.name.replace("_", " "), lines))
    return told


async def books_line(connection: Connection, acknowledged: Iterable[Reference]) -> tuple[int, str]:
    """Return how many repayments of billing's own list the books lack, and a line that says so."""
    theirs = sorted(acknowledged)
    sources, refs = [source for source, _ in theirs], [ref for _, ref in theirs]
    ours = {(row["source"], row["external_ref"]) for row in await connection.fetch(HELD_REFERENCES, sources, refs)}
    row = await connection.fetchrow(DECIDED, [repayment_id(*reference) for reference in theirs])
    settled, decided = (row["settled"], row["decided"]) if row else (0, 0)
    missing = len(theirs) - len(ours)
    words = (
        f"billing's own list: {len(theirs)} repayments acknowledged by Kafka; in the books {len(ours)}, "
        f"in the debt ledger {settled}, decided {decided}; lost {missing}"
    )
    return missing, words


async def _story(connection: Connection, each: Scenario, repayment: Repayment) -> list[str]:
    at = repayment_id(*repayment.reference)
    reference = await connection.fetchrow(REFERENCE, *repayment.reference)
    found = await told_of(connection, Found(at, repayment.account_id, reference, repayment.external_ref))
    language = found.language if found.language in ("zh-CN", "en") else "en"
    amount = money_text(repayment.amount_minor, "CNY", "en")
    lines = [f"{repayment.external_ref}: {amount} by {repayment.rail} -> {standing_of(found)}"]
    lines += _time(found)
    lines += await _special(connection, each.name, found, repayment)
    if each.name in BOTH_LANGUAGES:
        lines += await _first_told(connection, found)
    else:
        lines += [f"told: {text}" for text in explanation(found, language)]  # type: ignore[arg-type]
    return lines


def _time(found: Journey) -> list[str]:
    """Say where the time went; it adds up."""
    if not found.timelines:
        return []
    line = max(found.timelines, key=lambda timeline: timeline.milliseconds)
    spent = dict.fromkeys(PHASES, 0)
    for stretch in line.stretches:
        spent[phase_of(stretch.cause)] += stretch.milliseconds
    words = {"queue": "queued", "processing": "worked on", "hold": "held on purpose", "other": "before we were told"}
    parts = ", ".join(f"{words[phase]} {duration_text(ms, 'en')}" for phase, ms in spent.items() if ms)
    return [
        f"{duration_text(line.milliseconds, 'en')} from repaid to {'restored' if line.tranche else 'decided'}: {parts}"
    ]


async def _special(connection: Connection, name: str, found: Journey, repayment: Repayment) -> list[str]:
    """Say what this scenario is there to show."""
    if name == "duplicate":
        row = await connection.fetchrow(RELEASES, f"{found.repayment_id}:")
        return [f"the ledger gave credit back {row['n']} time: {money_text(row['minor'], 'CNY', 'en')}"] if row else []
    if name == "returned_after_restoration":
        row = await connection.fetchrow(AVAILABLE, repayment.account_id)
        return [f"available in the books: {money_text(row['available_minor'], 'CNY', 'en')}"] if row else []
    if name == "poison":
        rows = await connection.fetch(DEAD_LETTERS, repayment.account_id)
        return [
            f"dead letters: {', '.join(f'''repayment-ingest:{row['set_aside_id']} {row['reason']}''' for row in rows)}"
        ]
    return []


async def _first_told(connection: Connection, found: Journey) -> list[str]:
    """Return the first decision's text in both languages."""
    row = await connection.fetchrow(FIRST_RECORD, found.repayment_id)
    if row is None:
        return []
    record, timezone = DecisionRecord.model_validate_json(row["record"]), found.timezone or "UTC"
    return [f"told: {customer_text(record, language=language, timezone=timezone)}" for language in ("zh-CN", "en")]
