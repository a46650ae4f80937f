"""Everything known of one repayment, read from the services' own tables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any, Final

from pydantic import TypeAdapter

from schemas.account import Language
from schemas.event import Segment, Trail, milliseconds_between
from schemas.ids import repayment_id
from schemas.restoration import DecisionRecord
from services.cli.servers import Connection
from services.cli.terminal import NOT_FOUND, USAGE, Problem
from services.runtime.postgres import Row

# Billing's reference as it was given: external_ref alone, or source:external_ref cut at each colon.
BY_REFERENCE = """
SELECT source, external_ref, account_id, amount_minor, currency, rail, kinds FROM repayment_ingest.reference
WHERE external_ref = $1 OR (source, external_ref) IN (SELECT * FROM unnest($2::text[], $3::text[]))
ORDER BY source, external_ref LIMIT 5
"""
# References that begin so.
BY_REFERENCE_PREFIX = """
SELECT source, external_ref, account_id, amount_minor, currency, rail, kinds FROM repayment_ingest.reference
WHERE starts_with(external_ref, $1) ORDER BY source, external_ref LIMIT 5
"""
# Repayments whose id begins so; ids are hexadecimal, so the range is a prefix.
BY_ID = """
SELECT repayment_id, account_id FROM settlement.repayment WHERE repayment_id >= $1 AND repayment_id < $1 || 'g'
UNION SELECT repayment_id, account_id FROM limit_release.repayment
WHERE repayment_id >= $1 AND repayment_id < $1 || 'g' LIMIT 5
"""
# The reference of a repayment known by its id: its account's references are few.
REFERENCES_OF = """
SELECT source, external_ref, account_id, amount_minor, currency, rail, kinds FROM repayment_ingest.reference
WHERE account_id = $1
"""
SETTLED = """
SELECT status, restorable_minor, credit_balance_minor, credited_on, final_on FROM settlement.repayment
WHERE repayment_id = $1
"""
TRANCHES = """
SELECT number, amount_minor, state, until, reason, promised_by, restored_at FROM limit_release.tranche
WHERE repayment_id = $1 ORDER BY number
"""
ACCOUNT = "SELECT language, timezone FROM notifier.account WHERE account_id = $1"
STATUS = "SELECT status, status_reason FROM limit_release.account WHERE account_id = $1"
RECORDS = "SELECT record FROM limit_release.decision_record WHERE repayment_id = $1 ORDER BY version"
# What the customer was sent, oldest first.
TOLD = """
SELECT n.template, n.channel, n.language, n.record_version, d.state, d.attempts, n.requested_at, d.next_attempt_at,
  d.ended_at, n.text, n.told_by
FROM notifier.notification n JOIN notifier.delivery d ON d.notification_id = coalesce(n.told_by, n.notification_id)
WHERE n.repayment_id = $1 ORDER BY n.requested_at
"""
# What was shown to those who asked, oldest first.
SHOWN = """
SELECT record_version, audience, channel, language, text, shown_at FROM notifier.shown
WHERE repayment_id = $1 ORDER BY shown_at, shown_id
"""
CONFLICTS = """
SELECT amount_minor, currency, rail, account_id, differs, received_at FROM repayment_ingest.conflict
WHERE source = $1 AND external_ref = $2 ORDER BY received_at
"""
# Every event about a repayment that any service told, in the order of the pipeline.
EVENTS = """
SELECT 1 AS n, event_type, occurred_at, convert_from(payload, 'UTF8') AS payload FROM repayment_ingest.outbox
WHERE account_id = $1 AND position($2::bytea IN payload) > 0
UNION ALL SELECT 2, event_type, occurred_at, convert_from(payload, 'UTF8') FROM settlement.outbox
WHERE account_id = $1 AND position($2::bytea IN payload) > 0
UNION ALL SELECT 3, event_type, occurred_at, convert_from(payload, 'UTF8') FROM risk_scoring.outbox
WHERE account_id = $1 AND position($2::bytea IN payload) > 0
UNION ALL SELECT 4, event_type, occurred_at, convert_from(payload, 'UTF8') FROM limit_release.outbox
WHERE account_id = $1 AND position($2::bytea IN payload) > 0
ORDER BY n, occurred_at
"""
# What is set aside about a repayment, by its id or billing's reference inside the kept bytes. What risk-scoring parks
# is a return that waits for its repayment to be read: no credit does, and its account is known.
ASIDE = """
SELECT 'repayment-ingest' AS service, set_aside_id, kind, state, topic, reason, first_seen_at
FROM repayment_ingest.set_aside WHERE state IN ('open', 'ready')
  AND (position($1::bytea IN value) > 0 OR position($2::bytea IN value) > 0)
UNION ALL SELECT 'settlement', set_aside_id, kind, state, topic, reason, first_seen_at
FROM settlement.set_aside WHERE state IN ('open', 'ready') AND position($1::bytea IN value) > 0
UNION ALL SELECT 'risk-scoring', set_aside_id, kind, state, topic, reason, first_seen_at
FROM risk_scoring.set_aside WHERE kind = 'dead_letter' AND state IN ('open', 'ready')
  AND position($1::bytea IN value) > 0
UNION ALL SELECT 'limit-release', set_aside_id, kind, state, topic, reason, first_seen_at
FROM limit_release.set_aside WHERE state IN ('open', 'ready') AND position($1::bytea IN value) > 0
UNION ALL SELECT 'notifier', set_aside_id, kind, state, topic, reason, first_seen_at
FROM notifier.set_aside WHERE state IN ('open', 'ready') AND position($1::bytea IN value) > 0
ORDER BY first_seen_at
"""
# A reference that is known from an unreadable report only.
BY_ASIDE = """
SELECT coalesce(account_id, convert_from(key, 'UTF8'), '') AS account_id FROM repayment_ingest.set_aside
WHERE state IN ('open', 'ready') AND position($1::bytea IN value) > 0 ORDER BY set_aside_id LIMIT 1
"""
# What a person has or had to look at about it, oldest first.
CASES = """
SELECT case_id, kind, priority, state, tranche, detail, opened_at, due_at, assignee, outcome, answer
FROM console.case_file WHERE repayment_id = $1 ORDER BY opened_at, case_id
"""
# Is there a lag ledger? What did it measure of a repayment's restored parts, and of telling the customer of them?
KEPT = "SELECT to_regclass('lag_monitor.notify_segment') IS NOT NULL"
MEASURED = """
SELECT tranche, f.repaid_at AS began_at, s.stage, s.cause, s.to_at, s.ms FROM lag_monitor.restoration_fact f
LEFT JOIN lag_monitor.lag_segment s USING (repayment_id, tranche) WHERE repayment_id = $1 ORDER BY tranche, s.n
"""
NOTIFIED = """
SELECT tranche, min(from_at) OVER (PARTITION BY tranche) AS began_at, 'notify' AS stage, cause, to_at, ms
FROM lag_monitor.notify_segment WHERE repayment_id = $1 ORDER BY tranche, n
"""
NOW = "SELECT clock_timestamp()"
_TRAIL: Final[TypeAdapter[tuple[Segment, ...]]] = TypeAdapter(Trail)
HEX: Final = frozenset("0123456789abcdef")
AMBIGUOUS_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the lag, or of the wait so far: stage, cause, end and milliseconds."""

    stage: str
    cause: str
    until: datetime
    milliseconds: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """The stretches of one tranche, or of a repayment still on its way; they tile the whole.

    ``ledger`` tells that the observer measured it, else the events told it.
    """

    tranche: int | None
    repaid_at: datetime
    stretches: tuple[Stretch, ...]
    ended_at: datetime
    ledger: bool = False

    @property
    def milliseconds(self) -> int:
        """Return the whole from repaid to the end."""
        return milliseconds_between(self.repaid_at, self.ended_at)

    @property
    def tiles(self) -> bool:
        """Tell whether the stretches add up to the whole, to the millisecond."""
        return sum(stretch.milliseconds for stretch in self.stretches) == self.milliseconds


@dataclass(frozen=True, slots=True)
class Journey:
    """One repayment: billing's words, where it is, what was decided, what the customer was told.

    ``timelines`` are as the events tell them, ``measured`` those of restored parts in the lag ledger, which also
    knows of pauses and of a wait for the rail; ``notified`` are its timelines from restored to told.
    """

    repayment_id: str
    account_id: str
    reference: Row | None
    settled: Row | None
    tranches: Sequence[Row]
    records: tuple[DecisionRecord, ...]
    told: Sequence[Row]
    shown: Sequence[Row]
    conflicts: Sequence[Row]
    aside: Sequence[Row]
    timelines: tuple[Timeline, ...]
    language: Language | None
    timezone: str | None
    status: str | None
    now: datetime
    refused: str | None
    cases: Sequence[Row] = ()
    measured: tuple[Timeline, ...] = ()
    notified: tuple[Timeline, ...] = ()

    @property
    def name(self) -> str:
        """Return billing's reference, or the id where billing's is not known."""
        return self.reference["external_ref"] if self.reference else self.repayment_id

    @property
    def lines(self) -> tuple[Timeline, ...]:
        """Return a timeline a part: the ledger's, else what the events tell."""
        known = {line.tranche: line for line in self.measured}
        return tuple(known.get(line.tranche, line) for line in self.timelines)

    @property
    def record(self) -> DecisionRecord | None:
        """Return the decision in force now."""
        return self.records[-1] if self.records else None


@dataclass(frozen=True, slots=True)
class Found:
    """Which repayment a person means."""

    repayment_id: str
    account_id: str
    reference: Row | None
    named: str = ""


async def journey(connection: Connection, named: str) -> Journey:
    """Return all that is known of the repayment a person named; raise Problem when none or several are meant."""
    return await told_of(connection, await find(connection, named))


async def find(connection: Connection, named: str) -> Found:
    """Return the repayment of an id, a unique prefix of one, or billing's reference."""
    cuts = [i for i, letter in enumerate(named) if letter == ":"]
    sources, refs = [named[:i] for i in cuts], [named[i + 1 :] for i in cuts]
    references = await connection.fetch(BY_REFERENCE, named, sources, refs)
    if not references and len(named) >= 4 and HEX.issuperset(named):
        found = await connection.fetch(BY_ID, named)
        if found:
            _only([row["repayment_id"] for row in found], named)
            return await _by_id(connection, found[0])
    if not references and len(named) >= 4:
        references = await connection.fetch(BY_REFERENCE_PREFIX, named)
    if not references:
        return await _unreadable(connection, named)
    _only([f"{row['source']}:{row['external_ref']}" for row in references], named)
    row = references[0]
    return Found(repayment_id(row["source"], row["external_ref"]), row["account_id"], row)


async def told_of(connection: Connection, found: Found) -> Journey:
    """Read the services' tables about one repayment."""
    at, account_id, reference = found.repayment_id, found.account_id, found.reference
    external_ref = reference["external_ref"] if reference else found.named
    tranches = await connection.fetch(TRANCHES, at)
    events = await connection.fetch(EVENTS, account_id, at.encode())
    about = await connection.fetchrow(ACCOUNT, account_id)
    status = await connection.fetchrow(STATUS, account_id)
    records = await connection.fetch(RECORDS, at)
    now = await connection.fetchval(NOW)
    conflicts = await connection.fetch(CONFLICTS, reference["source"], external_ref) if reference else []
    return Journey(
        repayment_id=at,
        account_id=account_id,
        reference=reference,
        settled=await connection.fetchrow(SETTLED, at),
        tranches=tranches,
        records=tuple(DecisionRecord.model_validate_json(row["record"]) for row in records),
        told=await connection.fetch(TOLD, at),
        shown=await connection.fetch(SHOWN, at),
        conflicts=conflicts,
        aside=await connection.fetch(ASIDE, at.encode(), f'"{external_ref}"'.encode()),
        timelines=timelines(events, tranches, now),
        language=about["language"] if about else None,
        timezone=about["timezone"] if about else None,
        status=status["status"] if status else None,
        now=now,
        refused=next((why for why in map(_refused, events) if why), None),
        cases=await connection.fetch(CASES, at),
        measured=await ledger_of(connection, MEASURED, at),
        notified=await ledger_of(connection, NOTIFIED, at),
    )


async def ledger_of(connection: Connection, query: str, at: str) -> tuple[Timeline, ...]:
    """Return what the lag ledger kept of each restored part, by MEASURED or NOTIFIED; nothing where there is none."""
    rows = await connection.fetch(query, at) if await connection.fetchval(KEPT) else ()
    return tuple(
        timeline_of(part[0]["began_at"], tranche, [row for row in part if row["stage"] is not None])
        for tranche, part in ((n, list(part)) for n, part in groupby(rows, key=itemgetter("tranche")))
    )


def timeline_of(repaid_at: datetime, tranche: int, rows: Sequence[Mapping[str, Any]]) -> Timeline:
    """Return the ledger's segments of one restored part as a timeline."""
    stretches = tuple(Stretch(row["stage"], row["cause"], row["to_at"], row["ms"]) for row in rows)
    return Timeline(tranche, repaid_at, stretches, stretches[-1].until if stretches else repaid_at, ledger=True)


def timelines(events: Sequence[Row], tranches: Sequence[Row], now: datetime) -> tuple[Timeline, ...]:
    """Return one finished timeline a restored tranche; without any, the last known trail and the wait since."""
    payloads = [(name_of(row["event_type"]), json.loads(row["payload"])) for row in events]
    restored = [body for name, body in payloads if name == "CreditRestored"]
    if restored:
        return tuple(sorted((_finished(body) for body in restored), key=lambda line: line.tranche or 0))
    nothing = [body for name, body in payloads if name == "NothingToRestore"]
    if nothing:
        return (_ended(nothing[-1]),)
    trailed = [body for _, body in payloads if "trail" in body]
    waits = not any(name in ("RepaymentRejected", "RestorationReversed") for name, _ in payloads)
    return (_waiting(trailed[-1], tranches, now) if waits else _ended(trailed[-1]),) if trailed else ()


def _refused(row: Row) -> str | None:
    """Return why a repayment was refused before it settled."""
    if name_of(row["event_type"]) != "RepaymentRejected":
        return None
    return str(json.loads(row["payload"])["reason"])


def name_of(event_type: str) -> str:
    """Return the event's name in a CloudEvents type."""
    return event_type.rpartition(".")[0].rpartition(".")[2]


def _finished(body: dict[str, Any]) -> Timeline:
    repaid_at, trail = _instant(body["repaid_at"]), _trail(body)
    return Timeline(body["tranche"], repaid_at, _stretches(repaid_at, trail), _instant(body["restored_at"]))


def _ended(body: dict[str, Any]) -> Timeline:
    repaid_at, trail = _instant(body["repaid_at"]), _trail(body)
    return Timeline(None, repaid_at, _stretches(repaid_at, trail), trail[-1][2] if trail else repaid_at)


def _waiting(body: dict[str, Any], tranches: Sequence[Row], now: datetime) -> Timeline:
    """Add what the repayment has waited since its last event, as what it waits for."""
    line = _ended(body)
    end = now.replace(microsecond=now.microsecond // 1000 * 1000)
    if end <= line.ended_at:
        return line
    stage, cause = _open_wait(line, tranches)
    rest = Stretch(stage, cause, end, milliseconds_between(line.ended_at, end))
    return Timeline(None, line.repaid_at, (*line.stretches, rest), end)


def _open_wait(line: Timeline, tranches: Sequence[Row]) -> tuple[str, str]:
    after = {"report": "ingest", "ingest": "settlement", "settlement": "risk", "risk": "release", "release": "release"}
    last = line.stretches[-1].stage if line.stretches else "report"
    if any(tranche["state"] == "parked" for tranche in tranches):
        return "release", "account_standing.frozen"
    return after[last], "risk_observation.risk_hold" if tranches else "system_delay.kafka_queue"


def _stretches(repaid_at: datetime, trail: Sequence[Segment]) -> tuple[Stretch, ...]:
    ends = [repaid_at, *(until for _, _, until in trail)]
    return tuple(
        Stretch(stage, cause, until, milliseconds_between(start, until))
        for (stage, cause, _), (start, until) in zip(trail, pairwise(ends), strict=True)
    )


def _trail(body: dict[str, Any]) -> tuple[Segment, ...]:
    return _TRAIL.validate_python(body["trail"])


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def _by_id(connection: Connection, row: Row) -> Found:
    at, account_id = row["repayment_id"], row["account_id"]
    for reference in await connection.fetch(REFERENCES_OF, account_id):
        if repayment_id(reference["source"], reference["external_ref"]) == at:
            return Found(at, account_id, reference)
    return Found(at, account_id, None)


async def _unreadable(connection: Connection, named: str) -> Found:
    """Return a repayment whose only report could not be read."""
    row = await connection.fetchrow(BY_ASIDE, f'"{named}"'.encode())
    if row is None:
        raise Problem(f"no repayment {named}", NOT_FOUND)
    return Found(repayment_id("billing", named), row["account_id"], None, named)


def _only(candidates: Sequence[str], named: str) -> None:
    if len(candidates) > 1:
        listed = ", ".join(candidates[:AMBIGUOUS_MAX])
        raise Problem(f"{named} is more than one repayment: {listed}{', ...' if len(candidates) > 4 else ''}", USAGE)
