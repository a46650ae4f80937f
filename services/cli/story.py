"""The story of each named repayment in about four lines, from the books."""

from collections.abc import Iterable, Sequence
from typing import Final

from schemas.ids import repayment_id
from schemas.restoration import DecisionRecord
from services.billing_simulator.plan import Reference, Repayment, Scenario
from services.cli.explain import explanation
from services.cli.journey import Found, Journey, told_of
from services.cli.lag import PHASES, phase_of
from services.cli.look import standing_of
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
  (SELECT count(*) FROM settlement.repayment WHERE repayment_id = ANY ($1::text[]) AND status = 'rejected') AS refused,
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
    settled, refused, decided = (row["settled"], row["refused"], row["decided"]) if row else (0, 0, 0)
    missing = len(theirs) - min(len(ours), settled, refused + decided)
    words = (
        f"billing's own list has {len(theirs)} repayments that Kafka acknowledged: {len(ours)} are in the books, "
        f"{decided} decided on, {refused} refused before they settled; lost: {missing}"
    )
    return missing, words


async def _story(connection: Connection, each: Scenario, repayment: Repayment) -> list[str]:
    at = repayment_id(*repayment.reference)
    reference = await connection.fetchrow(REFERENCE, *repayment.reference)
    found = await told_of(connection, Found(at, repayment.account_id, reference, repayment.external_ref))
    amount = money_text(repayment.amount_minor, "CNY", "en")
    rail = repayment.rail.replace("_", " ")
    lines = [f"{repayment.external_ref}: {amount} by {rail}; {standing_of(found)}"]
    lines += _time(found)
    lines += await _special(connection, each.name, found, repayment)
    return [*lines, *_told(found), *(await _in_english(connection, found) if each.name in BOTH_LANGUAGES else [])]


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
    whole = duration_text(line.milliseconds, "en")
    after = [
        f"{money_text(row['amount_minor'], 'CNY', 'en')} after {duration_text(timeline.milliseconds, 'en')}"
        for timeline in found.timelines
        for row in found.tranches
        if row["number"] == timeline.tranche
    ]
    several = [f"back: {', '.join(after)}; {_promises(found)}"] if len(after) > 1 else []
    return [*several, f"{whole} from repaid to {'restored' if line.tranche else 'the decision'}: {parts}"]


def _promises(found: Journey) -> str:
    """Say how many of the promised dates were kept."""
    kept = [row["restored_at"] is not None and row["restored_at"] <= row["promised_by"] for row in found.tranches]
    return f"{sum(kept)} of {len(kept)} promises kept"


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


def _told(found: Journey) -> list[str]:
    """Say what the customer was sent: the first message, and what corrected it; else what would be answered now."""
    if not found.told:
        return [f"asked now: {text}" for text in explanation(found, found.language or "en")]
    states = [row["state"] for row in found.told]
    counted = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    shown = [row["text"] for row in found.told if row is found.told[0] or row["template"] == "reversed"]
    answers = list(explanation(found, found.language or "en"))[1:]
    return [f"messages: {counted}", *(f"told: {text}" for text in shown), *(f"asked now: {text}" for text in answers)]


async def _in_english(connection: Connection, found: Journey) -> list[str]:
    """Return the first decision's text in English."""
    row = await connection.fetchrow(FIRST_RECORD, found.repayment_id)
    if row is None:
        return []
    record, timezone = DecisionRecord.model_validate_json(row["record"]), found.timezone or "UTC"
    return [f"the same in English: {customer_text(record, language='en', timezone=timezone)}"]
