"""Journeys, their parts, and the immutable facts of what was restored, by the batch."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from schemas.event import Segment as Step
from schemas.event import to_millisecond
from schemas.ids import repayment_id
from schemas.repayment import RepaymentReported
from services.decision import Input
from services.lag_monitor.model import Fact, Journey, Part, Restored
from services.runtime.postgres import Row, columns, instant, listed
from services.runtime.worker import Saved, Store

# Journeys by their ids, each with its parts.
READS = """
(SELECT json_agg(j) FROM (
  SELECT repayment_id, account_id, source, rail, amount_minor, currency, repaid_at, reported, reported_at, received,
    received_at, settled_at, assessed_at, tier, pending, unplaced, outcome, reason, version,
    (SELECT json_agg(p) FROM (
      SELECT number, amount_minor, state, cause, since, until FROM lag_monitor.part
      WHERE repayment_id = j.repayment_id) AS p) AS parts
  FROM lag_monitor.journey AS j WHERE repayment_id = ANY ($1::text[])) AS j) AS journeys
"""
# Writes journeys as they were read, parts that changed, and new facts with their segments.
WRITES = """
guarded AS (
  INSERT INTO lag_monitor.journey AS j (repayment_id, account_id, source, rail, amount_minor, currency, repaid_at,
    reported, reported_at, received, received_at, settled_at, assessed_at, tier, pending, unplaced, outcome, reason,
    stage, cause_class, cause, since, waits_from, due_at, version)
  SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::timestamptz[],
    $8::text[], $9::timestamptz[], $10::text[], $11::timestamptz[], $12::timestamptz[], $13::timestamptz[], $14::text[],
    $15::text[], $16::text[], $17::text[], $18::text[], $19::text[], $20::text[], $21::text[], $22::timestamptz[],
    $23::timestamptz[], $24::timestamptz[], $25::bigint[])
  ON CONFLICT (repayment_id) DO UPDATE SET account_id = excluded.account_id, source = excluded.source,
    rail = excluded.rail, amount_minor = excluded.amount_minor, currency = excluded.currency,
    repaid_at = excluded.repaid_at, reported = excluded.reported, reported_at = excluded.reported_at,
    received = excluded.received, received_at = excluded.received_at, settled_at = excluded.settled_at,
    assessed_at = excluded.assessed_at, tier = excluded.tier, pending = excluded.pending, unplaced = excluded.unplaced,
    outcome = excluded.outcome, reason = excluded.reason, stage = excluded.stage, cause_class = excluded.cause_class,
    cause = excluded.cause, since = excluded.since, waits_from = excluded.waits_from, due_at = excluded.due_at,
    version = excluded.version
  WHERE j.version = excluded.version - 1
  RETURNING 1),
parts AS (
  INSERT INTO lag_monitor.part (repayment_id, number, amount_minor, currency, state, cause, since, until)
  SELECT * FROM unnest($26::text[], $27::integer[], $28::bigint[], $29::text[], $30::text[], $31::text[],
    $32::timestamptz[], $33::timestamptz[])
  ON CONFLICT (repayment_id, number) DO UPDATE SET amount_minor = excluded.amount_minor, currency = excluded.currency,
    state = excluded.state, cause = excluded.cause, since = excluded.since, until = excluded.until),
facts AS (
  INSERT INTO lag_monitor.restoration_fact (repayment_id, tranche, account_id, lag_ms, unattributed_ms, amount_minor,
    currency, tier, cause, repaid_at, restored_at)
  SELECT * FROM unnest($34::text[], $35::integer[], $36::text[], $37::bigint[], $38::bigint[], $39::bigint[],
    $40::text[], $41::text[], $42::text[], $43::timestamptz[], $44::timestamptz[])
  ON CONFLICT (repayment_id, tranche) DO NOTHING),
segments AS (
  INSERT INTO lag_monitor.lag_segment (repayment_id, tranche, n, stage, cause, from_at, to_at, ms)
  SELECT * FROM unnest($45::text[], $46::integer[], $47::integer[], $48::text[], $49::text[], $50::timestamptz[],
    $51::timestamptz[], $52::bigint[])
  ON CONFLICT (repayment_id, tranche, n) DO NOTHING)
"""
_PENDING: TypeAdapter[tuple[Step, ...]] = TypeAdapter(tuple[Step, ...])
_UNPLACED: TypeAdapter[tuple[Restored, ...]] = TypeAdapter(tuple[Restored, ...])
_INSTANTS = frozenset({"repaid_at", "reported_at", "received_at", "settled_at", "assessed_at"})
_ELSEWHERE = frozenset({"pending", "unplaced", "parts"})
Rows = list[tuple[object, ...]]


def key(event: Input) -> str:
    """Return the repayment an input is about."""
    if isinstance(event, RepaymentReported):
        return repayment_id(event.source, event.external_ref)
    return str(getattr(event, "repayment_id", ""))


def ask(inputs: Sequence[Input]) -> Sequence[object]:
    """Return the repayments of the inputs."""
    return (sorted({key(event) for event in inputs}),)


def states(inputs: Sequence[Input], row: Row) -> dict[str, Journey]:
    """Return the journey of every input."""
    found = {at: Journey(at) for at in map(key, inputs)}
    found.update((kept["repayment_id"], _journey(kept)) for kept in listed(row["journeys"]))
    return found


def save(changes: Sequence[tuple[Journey, Journey]]) -> Saved:
    """Keep what is new."""
    journeys: Rows = []
    parts: Rows = []
    facts: Rows = []
    segments: Rows = []
    for before, after in changes:
        journeys.append(_journey_row(after, before.version + 1))
        parts += [_part_row(after, part) for n, part in after.parts.items() if before.parts.get(n) is not part]
        for fact in after.facts:
            facts.append(_fact_row(after, fact))
            segments += _segment_rows(after, fact)
    values = (*columns(journeys, 25), *columns(parts, 8), *columns(facts, 11), *columns(segments, 8))
    return Saved(values, guarded=len(journeys))


def _journey(row: Row) -> Journey:
    plain: dict[str, Any] = {
        name: instant(row[name]) if name in _INSTANTS else row[name] for name in row if name not in _ELSEWHERE
    }
    return Journey(
        **plain,
        pending=_PENDING.validate_json(row["pending"]),
        unplaced=_UNPLACED.validate_json(row["unplaced"]),
        parts={p["number"]: _part(p) for p in row["parts"] or ()},
    )


def _part(row: Row) -> Part:
    since, until = datetime.fromisoformat(row["since"]), instant(row["until"])
    return Part(row["number"], row["amount_minor"], row["state"], row["cause"], since, until)


def _journey_row(j: Journey, version: int) -> tuple[object, ...]:
    about = (j.repayment_id, j.account_id, j.source, j.rail, j.amount_minor, j.currency, j.repaid_at)
    heard = (j.reported, j.reported_at, j.received, j.received_at, j.settled_at, j.assessed_at, j.tier)
    kept = (_PENDING.dump_json(j.pending).decode(), _UNPLACED.dump_json(j.unplaced).decode(), j.outcome, j.reason)
    return (*about, *heard, *kept, *_standing_row(j), version)


def _standing_row(j: Journey) -> tuple[object, ...]:
    now = j.standing
    if now is None:
        return (None,) * 6
    cause_class = now.cause.partition(".")[0]
    waits_from = now.since if cause_class == "system_delay" else j.repaid_at
    return (now.stage, cause_class, now.cause, now.since, waits_from, now.due_at)


def _part_row(j: Journey, p: Part) -> tuple[object, ...]:
    return (j.repayment_id, p.number, p.amount_minor, j.currency, p.state, p.cause, p.since, p.until)


def _fact_row(j: Journey, fact: Fact) -> tuple[object, ...]:
    told, lag = fact.restored, fact.lag
    amount = (told.amount_minor, told.currency, fact.tier, lag.cause)
    when = (to_millisecond(told.repaid_at), to_millisecond(told.restored_at))
    return (j.repayment_id, told.tranche, j.account_id, lag.milliseconds, lag.unattributed_ms, *amount, *when)


def _segment_rows(j: Journey, fact: Fact) -> Rows:
    at = (j.repayment_id, fact.restored.tranche)
    return [
        (*at, n, s.stage, s.cause, s.from_at, s.to_at, s.milliseconds) for n, s in enumerate(fact.lag.segments, start=1)
    ]


STORE = Store(key=key, reads=READS, ask=ask, states=states, writes=WRITES, save=save)
