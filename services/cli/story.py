"""The story of each named repayment in about four lines, from the books."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from schemas.account import Language
from schemas.ids import repayment_id
from schemas.review import LimitIncreaseDecided
from services.billing_simulator.plan import Reference, Repayment
from services.billing_simulator.scenarios import Scenario
from services.cli.explain import explanation
from services.cli.journey import Found, Journey, told_of
from services.cli.lag import phase_of
from services.cli.look import standing_of
from services.cli.pricing import price_lines, priced
from services.cli.servers import Connection
from services.policy import Profiles
from services.runtime.postgres import Row
from services.wording import customer_text, duration_text, limit_text, money_text

REFERENCE = """
SELECT source, external_ref, account_id, amount_minor, currency, rail, kinds FROM repayment_ingest.reference
WHERE source = $1 AND external_ref = $2
"""
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
# What was last decided of an account's limit, and what its customer was told of it.
DECIDED_LIMIT = """
SELECT convert_from(payload, 'UTF8') FROM risk_scoring.outbox
WHERE account_id = $1 AND event_type LIKE '%.LimitIncreaseDecided.%' ORDER BY occurred_at DESC LIMIT 1
"""
TOLD_OF_LIMIT = """
SELECT language, text FROM notifier.notification WHERE account_id = $1 AND template = 'limit_review'
ORDER BY requested_at
"""
WENT_TO: Final = {
    "queue": "queued",
    "processing": "worked on",
    "hold": "held on purpose",
    "other": "before we were told",
}
BOTH_LANGUAGES: Final = (
    *("held_and_explained", "returned_after_restoration", "frozen_then_active", "case_a"),
    *("priced_at_once", "priced_in_part", "priced_held"),
)
"""What the customer was told is said in the other language, too."""
OTHER: Final[dict[Language, tuple[Language, str]]] = {"zh-CN": ("en", "English"), "en": ("zh-CN", "Chinese")}


async def stories(connection: Connection, policy: Profiles, played: Sequence[Scenario]) -> list[tuple[str, list[str]]]:
    """Return a heading and lines for each scenario."""
    told = []
    for each in played:
        lines: list[str] = []
        if each.reviewed:
            lines += await _reviewed(connection, each)
        for repayment in () if each.reviewed else each.repayments:
            lines += await _story(connection, policy, each, repayment)
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


async def _story(connection: Connection, policy: Profiles, each: Scenario, repayment: Repayment) -> list[str]:
    at = repayment_id(*repayment.reference)
    reference = await connection.fetchrow(REFERENCE, *repayment.reference)
    found = await told_of(connection, Found(at, repayment.account_id, reference, repayment.external_ref))
    amount = money_text(repayment.amount_minor, "CNY", "en")
    rail = repayment.rail.replace("_", " ")
    lines = [f"{repayment.external_ref}: {amount} by {rail}; {standing_of(found)}"]
    lines += _time(found)
    lines += await _special(connection, each.name, found, repayment)
    price = await priced(connection, policy, found.account_id, found.repayment_id)
    lines += price_lines(price) if price is not None and price.prices else []
    return [*lines, *_told(found, in_both=each.name in BOTH_LANGUAGES)]


async def _reviewed(connection: Connection, each: Scenario) -> list[str]:
    """Say what was answered when the account's limit was reviewed, from the event that told it."""
    (account_id,) = each.accounts
    fact = await connection.fetchval(DECIDED_LIMIT, account_id)
    if fact is None:
        return ["the review of its limit was not answered"]
    decided = LimitIncreaseDecided.model_validate_json(fact)
    factors = ", ".join(f"{factor.reason.value} {factor.centipoints / 100:+.1f}" for factor in decided.factors)
    on_time = f"{decided.on_time_count} of {decided.due_count} on time"
    score = f"score {decided.score} of {decided.threshold}, {decided.distance} missing"
    lines = [
        f"{account_id}: {on_time}, {score}; limit {decided.outcome}",
        f"points against customers just approved: {factors}",
    ]
    for row in await connection.fetch(TOLD_OF_LIMIT, account_id):
        language, name = OTHER[row["language"]]
        lines.append(f"told: {row['text']}")
        lines.append(f"the same in {name}: {limit_text(decided, language=language)}")
    return lines


def _time(found: Journey) -> list[str]:
    """Say where the time went; it adds up."""
    if not found.timelines:
        return []
    line = max(found.timelines, key=lambda timeline: timeline.milliseconds)
    spent: dict[str, int] = {}
    for stretch in line.stretches:
        words = _went_to(stretch.cause)
        spent[words] = spent.get(words, 0) + stretch.milliseconds
    parts = ", ".join(f"{words} {duration_text(ms, 'en')}" for words, ms in spent.items() if ms)
    whole = duration_text(line.milliseconds, "en")
    after = [
        f"{money_text(row['amount_minor'], 'CNY', 'en')} after {duration_text(timeline.milliseconds, 'en')}"
        for timeline in found.timelines
        for row in found.tranches
        if row["number"] == timeline.tranche
    ]
    several = [f"back: {', '.join(after)}; {_promises(found)}"] if len(after) > 1 else []
    return [*several, f"{whole} from repaid to {'restored' if line.tranche else 'the decision'}: {parts}"]


def _went_to(cause: str) -> str:
    """Say in words what a cause's time went to."""
    if cause.startswith("account_standing."):
        return "waited for the account"
    return WENT_TO[phase_of(cause)]


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


def _told(found: Journey, *, in_both: bool) -> list[str]:
    """Say what the customer was sent, as far as it tells the story; else what would be answered now."""
    if not found.told:
        return [f"asked now: {text}" for text in explanation(found, found.language or "en")]
    states = [row["state"] for row in found.told]
    lines = [f"messages: {', '.join(f'{states.count(state)} {state}' for state in dict.fromkeys(states))}"]
    for row in _telling(found.told):
        lines.append(f"told: {row['text']}")
        lines += [_in_the_other(found, row)] if in_both else []
    answers = list(explanation(found, found.language or "en"))[1:]
    return [*lines, *(f"asked now: {text}" for text in answers)]


def _telling(told: Sequence[Row]) -> list[Row]:
    """Return the first message, what corrected it, and what came after a wait for a condition."""
    shown = list(told[:1])
    for before, row in pairwise(told):
        if row["template"] == "reversed" or before["template"] == "parked":
            shown.append(row)
    return shown


def _in_the_other(found: Journey, row: Row) -> str:
    """Return a message that was sent as the same record reads in the other language."""
    record = next(record for record in found.records if record.version == row["record_version"])
    language, name = OTHER[row["language"]]
    text = customer_text(record, language=language, timezone=found.timezone or "UTC")
    return f"the same in {name}: {text}"
