"""Journeys, their parts, promises and messages, and the immutable facts of what was restored, by the batch."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter

from schemas.event import Segment as Step
from schemas.event import to_millisecond
from schemas.ids import repayment_id
from schemas.reasons import Cause
from schemas.repayment import RepaymentReported
from schemas.review import FeedbackReceived
from services.decision import Input
from services.lag_monitor.model import Fact, Journey, Notice, Part, Promise, Restored, Tally, Told
from services.lag_monitor.segments import Pause
from services.runtime.postgres import Row, instant, listed
from services.runtime.worker import Saved, Store
from services.values import replace

K = TypeVar("K")
T = TypeVar("T")
_INSTANTS = frozenset({"at", "since", "until", "promised_by", "deadline_at", "restored_at", "told_at", "decided_at"})
_INSTANTS |= {"asked_at", "over_at", "repaid_at", "reported_at", "received_at", "settled_at", "assessed_at"}
_READ: Final[dict[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(_INSTANTS, instant),
    "returnable_until": lambda found: found and date.fromisoformat(found),
}
# Journeys by their ids, each with its parts, promises and messages; messages about none; and pauses, which are few.
READS = """
(SELECT json_agg(j) FROM (
  SELECT repayment_id, account_id, source, rail, amount_minor, currency, repaid_at, reported, reported_at, received,
    received_at, settled_at, assessed_at, decided_at, tier, clear, counted, pending, unplaced, outcome, reason,
    returnable_until, version,
    (SELECT json_agg(p) FROM (
      SELECT number, amount_minor, state, cause, since, until, promised_by, basis, caused_by, restored_at, told_at
      FROM lag_monitor.part WHERE repayment_id = j.repayment_id) AS p) AS parts,
    (SELECT json_agg(s) FROM (
      SELECT slo, tranche, deadline_at, outcome, decided_at, over_at FROM lag_monitor.sla_promise
      WHERE repayment_id = j.repayment_id) AS s) AS promises,
    (SELECT json_agg(n) FROM (
      SELECT notification_id, caused_by, channel, template, state, at, asked_at, waits FROM lag_monitor.notice
      WHERE subject = j.repayment_id) AS n) AS notices
  FROM lag_monitor.journey AS j WHERE repayment_id = ANY ($1::text[])) AS j) AS journeys,
(SELECT json_agg(n) FROM (
  SELECT subject, notification_id, caused_by, channel, template, state, at, asked_at, waits FROM lag_monitor.notice
  WHERE subject = ANY ($2::text[])) AS n) AS apart,
(SELECT json_agg(w) FROM (
  SELECT stage, from_at, coalesce(to_at, clock_timestamp()) AS to_at FROM lag_monitor.operator_pause
  WHERE coalesce(to_at, 'infinity') > clock_timestamp() - interval '400 days') AS w) AS pauses
"""
# Writes journeys as they were read, what changed of their parts, promises and messages, and what is new to count.
WRITES = """
guarded AS (
  INSERT INTO lag_monitor.journey AS j SELECT * FROM unnest($1::lag_monitor.journey[])
  ON CONFLICT (repayment_id) DO UPDATE SET account_id = excluded.account_id, source = excluded.source,
    rail = excluded.rail, amount_minor = excluded.amount_minor, currency = excluded.currency,
    repaid_at = excluded.repaid_at, reported = excluded.reported, reported_at = excluded.reported_at,
    received = excluded.received, received_at = excluded.received_at, settled_at = excluded.settled_at,
    assessed_at = excluded.assessed_at, decided_at = excluded.decided_at, tier = excluded.tier, clear = excluded.clear,
    counted = excluded.counted, pending = excluded.pending, unplaced = excluded.unplaced, outcome = excluded.outcome,
    reason = excluded.reason, stage = excluded.stage, cause_class = excluded.cause_class, cause = excluded.cause,
    since = excluded.since, waits_from = excluded.waits_from, due_at = excluded.due_at,
    waiting_minor = excluded.waiting_minor, returnable_until = excluded.returnable_until, version = excluded.version
  WHERE j.version = excluded.version - 1
  RETURNING 1),
parts AS (
  INSERT INTO lag_monitor.part SELECT * FROM unnest($2::lag_monitor.part[])
  ON CONFLICT (repayment_id, number) DO UPDATE SET amount_minor = excluded.amount_minor, currency = excluded.currency,
    state = excluded.state, cause = excluded.cause, since = excluded.since, until = excluded.until,
    promised_by = excluded.promised_by, basis = excluded.basis, caused_by = excluded.caused_by,
    restored_at = excluded.restored_at, told_at = excluded.told_at),
facts AS (
  INSERT INTO lag_monitor.restoration_fact (repayment_id, tranche, account_id, lag_ms, unattributed_ms, amount_minor,
    currency, tier, rail, cause, repaid_at, restored_at)
  SELECT repayment_id, tranche, account_id, lag_ms, unattributed_ms, amount_minor, currency, tier, rail, cause,
    repaid_at, restored_at FROM unnest($3::lag_monitor.restoration_fact[])
  ON CONFLICT (repayment_id, tranche) DO NOTHING),
segments AS (
  INSERT INTO lag_monitor.lag_segment SELECT * FROM unnest($4::lag_monitor.lag_segment[])
  ON CONFLICT (repayment_id, tranche, n) DO NOTHING),
promises AS (
  INSERT INTO lag_monitor.sla_promise SELECT * FROM unnest($5::lag_monitor.sla_promise[])
  ON CONFLICT (repayment_id, tranche, slo) DO UPDATE SET outcome = excluded.outcome, decided_at = excluded.decided_at,
    over_at = excluded.over_at),
notices AS (
  INSERT INTO lag_monitor.notice SELECT * FROM unnest($6::lag_monitor.notice[])
  ON CONFLICT (notification_id) DO UPDATE SET state = excluded.state, at = excluded.at),
tallies AS (
  INSERT INTO lag_monitor.tally (metric, labels, ms, n)
  SELECT metric, labels, ms, n FROM unnest($7::lag_monitor.tally[])),
told AS (
  INSERT INTO lag_monitor.notify_segment SELECT * FROM unnest($8::lag_monitor.notify_segment[])
  ON CONFLICT (repayment_id, tranche, n) DO NOTHING)
"""
_PENDING: TypeAdapter[tuple[Step, ...]] = TypeAdapter(tuple[Step, ...])
_WAITS: TypeAdapter[tuple[tuple[Cause, datetime], ...]] = TypeAdapter(tuple[tuple[Cause, datetime], ...])
_UNPLACED: TypeAdapter[tuple[Restored, ...]] = TypeAdapter(tuple[Restored, ...])
_NOTHING: Final = "[]"
_LISTS = frozenset({"pending", "unplaced", "parts", "promises", "notices"})
APART: Final = ":"
"""Stands in the key of what is not about a repayment: ids of repayments have none."""
_BY_DEFAULT = (None, None, None)
"""Last columns that PostgreSQL gives: when, the transaction and the number."""
Rows = list[tuple[object, ...]]


def key(event: Input) -> str:
    """Return the repayment an input is about; a message or question about none stands apart under its own id."""
    if isinstance(event, RepaymentReported):
        return repayment_id(event.source, event.external_ref)
    if isinstance(event, FeedbackReceived):
        return f"feedback{APART}{event.feedback_id}"
    named: str | None = getattr(event, "repayment_id", None)
    return named or f"message{APART}{getattr(event, 'notification_id', '')}"


def ask(inputs: Sequence[Input]) -> Sequence[object]:
    """Return the repayments of the inputs, and what stands apart."""
    keys = sorted({key(event) for event in inputs})
    return ([at for at in keys if APART not in at], [at for at in keys if APART in at])


def states(inputs: Sequence[Input], row: Row) -> dict[str, Journey]:
    """Return the journey of every input."""
    pauses = tuple(map(_pause, listed(row["pauses"])))
    found = {at: Journey(at, pauses=pauses) for at in map(key, inputs)}
    found.update((kept["repayment_id"], _journey(kept, pauses)) for kept in listed(row["journeys"]))
    for kept in listed(row["apart"]):
        found[kept["subject"]] = replace(found[kept["subject"]], notices=_notices([kept]))
    return found


def save(changes: Sequence[tuple[Journey, Journey]]) -> Saved:
    """Keep what is new."""
    journeys: Rows = []
    parts: Rows = []
    facts: Rows = []
    segments: Rows = []
    promises: Rows = []
    notices: Rows = []
    tallied: Counter[Tally] = Counter()
    told: Rows = []
    for before, after in changes:
        at = after.repayment_id
        if APART not in at:
            journeys.append(_journey_row(after, before.version + 1))
        parts += [_part_row(after, part) for part in _changed(before.parts, after.parts)]
        promises += [_promise_row(at, promise) for promise in _changed(before.promises, after.promises)]
        notices += [_notice_row(at, notice) for notice in _changed(before.notices, after.notices)]
        tallied.update(after.tallies)
        facts += [_fact_row(after, fact) for fact in after.facts]
        segments += [row for fact in after.facts for row in _segment_rows(at, fact)]
        told += [row for each in after.told for row in _told_rows(at, each)]
    tallies = [(tally.metric, list(tally.labels), tally.ms, *_BY_DEFAULT, n) for tally, n in tallied.items()]
    values = (journeys, parts, facts, segments, promises, notices, tallies, told)
    return Saved([rows or None for rows in values], guarded=len(journeys))


def _changed(before: Mapping[K, T], after: Mapping[K, T]) -> Iterable[T]:
    return [value for name, value in after.items() if value is not before.get(name)]


def _journey(row: Row, pauses: tuple[Pause, ...]) -> Journey:
    plain = _plain({name: value for name, value in row.items() if name not in _LISTS})
    promises = [Promise(**_plain(each)) for each in row["promises"] or ()]
    return Journey(
        **plain,
        pauses=pauses,
        pending=_listed(_PENDING, row["pending"]),
        unplaced=_listed(_UNPLACED, row["unplaced"]),
        parts={each["number"]: Part(**_plain(each)) for each in row["parts"] or ()},
        promises={(promise.slo, promise.tranche): promise for promise in promises},
        notices=_notices(row["notices"] or ()),
    )


def _pause(row: Row) -> Pause:
    return Pause(row["stage"], datetime.fromisoformat(row["from_at"]), datetime.fromisoformat(row["to_at"]))


def _notices(rows: Sequence[Row]) -> dict[str, Notice]:
    kept = [_plain(row) for row in rows]
    found = ({**row, "waits": _listed(_WAITS, row["waits"])} for row in kept)
    return {row["notification_id"]: Notice(**{n: row[n] for n in row if n != "subject"}) for row in found}


def _listed(kind: TypeAdapter[tuple[T, ...]], text: str) -> tuple[T, ...]:
    """Return what a column of JSON holds, most often nothing."""
    return () if text == _NOTHING else kind.validate_json(text)


def _text(kind: TypeAdapter[tuple[T, ...]], values: tuple[T, ...]) -> str:
    """Return what a column of JSON is to hold."""
    return kind.dump_json(values).decode() if values else _NOTHING


def _plain(row: Row) -> dict[str, Any]:
    """Return a row of a json_agg() with its instants read."""
    return {name: _READ[name](value) if name in _READ else value for name, value in row.items()}


def _journey_row(j: Journey, version: int) -> tuple[object, ...]:
    about = (j.repayment_id, j.account_id, j.source, j.rail, j.amount_minor, j.currency, j.repaid_at)
    heard = (j.reported, j.reported_at, j.received, j.received_at, j.settled_at, j.assessed_at, j.decided_at)
    verdict = (j.tier, j.clear, j.counted)
    kept = (_text(_PENDING, j.pending), _text(_UNPLACED, j.unplaced), j.outcome, j.reason)
    return (*about, *heard, *verdict, *kept, *_standing_row(j), j.waiting_minor, j.returnable_until, version)


def _standing_row(j: Journey) -> tuple[object, ...]:
    now = j.standing
    if now is None:
        return (None,) * 6
    cause_class = now.cause.partition(".")[0]
    waits_from = now.since if cause_class == "system_delay" else j.repaid_at
    return (now.stage, cause_class, now.cause, now.since, waits_from, now.due_at)


def _part_row(j: Journey, p: Part) -> tuple[object, ...]:
    was = (p.promised_by, p.basis, p.caused_by, p.restored_at, p.told_at)
    return (j.repayment_id, p.number, p.amount_minor, j.currency, p.state, p.cause, p.since, p.until, *was)


def _promise_row(at: str, p: Promise) -> tuple[object, ...]:
    return (at, p.tranche, p.slo, p.deadline_at, p.outcome, p.decided_at, p.over_at)


def _notice_row(at: str, n: Notice) -> tuple[object, ...]:
    asked = (n.asked_at, _text(_WAITS, n.waits))
    return (n.notification_id, at, n.caused_by, n.channel, n.template, n.state, n.at, *asked)


def _fact_row(j: Journey, fact: Fact) -> tuple[object, ...]:
    told, lag = fact.restored, fact.lag
    amount = (told.amount_minor, told.currency, fact.tier, fact.rail, lag.cause)
    when = (to_millisecond(told.repaid_at), to_millisecond(told.restored_at))
    found = (lag.milliseconds, lag.unattributed_ms)
    return (j.repayment_id, told.tranche, j.account_id, *found, *amount, *when, *_BY_DEFAULT)


def _segment_rows(at: str, fact: Fact) -> Rows:
    named = (at, fact.restored.tranche)
    return [
        (*named, n, s.stage, s.cause, s.from_at, s.to_at, s.milliseconds)
        for n, s in enumerate(fact.lag.segments, start=1)
    ]


def _told_rows(at: str, told: Told) -> Rows:
    named = (at, told.tranche)
    return [(*named, n, s.cause, s.from_at, s.to_at, s.milliseconds) for n, s in enumerate(told.segments, start=1)]


STORE = Store(key=key, reads=READS, ask=ask, states=states, writes=WRITES, save=save)
