"""Cases, their steps and the audit of what people did, by the batch."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from schemas.event import Event
from schemas.ids import AccountId
from schemas.review import LimitIncreaseDecided
from services.console.domain import (
    PARKED_LONG,
    AskReview,
    Command,
    DeadLettered,
    MoveCase,
    ReleaseHold,
    timed,
)
from services.console.model import (
    CONCLUDES,
    Audit,
    AuditMoved,
    Case,
    Desk,
    Limit,
    SourceDiffers,
    case_id,
    differs_id,
    review_subject,
)
from services.console.opening import dead_letter_id, opening
from services.decision import Input, TimerFired
from services.runtime.postgres import Connection, Row, columns, instant, listed
from services.runtime.worker import Saved, Store

DEAD_LETTERS_MAX = 100
FOUND_MAX = DEAD_LETTERS_MAX + 1
NOBODY = AccountId("unknown")
NEVER = datetime(2000, 1, 1, tzinfo=UTC)
# The cases these inputs may open or speak of or that look at a limit, which of the tranches named are parked now;
# of what people say, the money it is about, what was done last with its subject, how much its actor did in a day, and
# the limit whose review ends.
READS = """
(SELECT json_agg(c) FROM (
  SELECT case_id, account_id, kind, priority, opened_by, opened_at, due_at, repayment_id, tranche, detail,
    record_version, state, assignee, outcome, answer, resolved_at, version
  FROM console.case_file WHERE case_id = ANY ($1::text[])
    OR (account_id = ANY ($9::text[]) AND kind = 'limit_referred' AND state NOT IN ('resolved', 'closed'))
) AS c) AS cases,
(SELECT json_agg(t) FROM (
  SELECT repayment_id, number FROM console.parked_tranche
  WHERE (repayment_id, number) IN (SELECT * FROM unnest($2::text[], $3::integer[]))) AS t) AS parked,
(SELECT json_agg(s) FROM (
  SELECT repayment_id, number, amount_minor FROM console.at_stake
  WHERE (repayment_id, number) IN (SELECT * FROM unnest($4::text[], $5::integer[]))
  UNION SELECT s.repayment_id, s.number, s.amount_minor FROM console.case_file c
  JOIN console.at_stake s ON s.repayment_id = c.repayment_id AND s.number = coalesce(c.tranche, 0)
  WHERE c.case_id = ANY ($6::text[])) AS s) AS stakes,
(SELECT json_agg(w) FROM (
  SELECT DISTINCT ON (subject) at, actor, action, subject, reason, content FROM console.audit
  WHERE subject = ANY ($6::text[]) ORDER BY subject, seq DESC) AS w) AS words,
(SELECT json_agg(d) FROM (
  SELECT actor, count(*) AS n FROM console.audit
  WHERE actor = ANY ($7::text[]) AND at > clock_timestamp() - interval '1 day' GROUP BY 1) AS d) AS acts,
(SELECT json_agg(l) FROM (
  SELECT account_id, credit_limit_minor, currency FROM console.limit_in_force
  WHERE account_id = ANY ($8::text[])) AS l) AS limits
"""
# Writes cases as they were read, their steps, and what people did.
WRITES = """
guarded AS (
  INSERT INTO console.case_file AS c SELECT * FROM unnest($1::console.case_file[])
  ON CONFLICT (case_id) DO UPDATE SET priority = excluded.priority, due_at = excluded.due_at, state = excluded.state,
    assignee = excluded.assignee, outcome = excluded.outcome, answer = excluded.answer,
    resolved_at = excluded.resolved_at, version = excluded.version
  WHERE c.version = excluded.version - 1
  RETURNING 1),
stepped AS (
  INSERT INTO console.case_step
  SELECT s.case_id, s.n + (SELECT count(*) FROM console.case_step k WHERE k.case_id = s.case_id), s.before, s.state,
    s.at, s.actor, s.reason
  FROM unnest($2::console.case_step[]) AS s ORDER BY s.case_id, s.n),
audited AS (
  INSERT INTO console.audit (at, actor, action, account_id, subject, reason, content)
  SELECT at, actor, action, account_id, subject, reason, content FROM unnest($3::console.audit[])),
anchored AS (
  INSERT INTO console.audit_anchor SELECT * FROM unnest($4::console.audit_anchor[]) ON CONFLICT DO NOTHING)
"""
# Records the money services could not read, and that no case is about yet.
DEAD_LETTERS = """
SELECT d.account_id, d.place FROM console.dead_letter d
WHERE NOT EXISTS (SELECT FROM console.case_file c WHERE c.kind = 'dead_letter' AND c.detail = d.place)
ORDER BY d.place LIMIT $1
"""
# Where the audit ends, when it grew since it was anchored last, more than a minute ago.
AUDIT_MOVED = """
SELECT h.seq, h.hash, (SELECT count(*) FROM console.audit) AS count FROM console.audit_head h
WHERE h.seq > (SELECT coalesce(max(a.seq), 0) FROM console.audit_anchor a)
  AND NOT EXISTS (SELECT FROM console.audit_anchor a WHERE a.at > clock_timestamp() - interval '60 seconds')
"""


async def dead_letters(connection: Connection) -> Sequence[DeadLettered]:
    """Return dead letters a person has to look at, at most DEAD_LETTERS_MAX."""
    rows = await connection.fetch(DEAD_LETTERS, DEAD_LETTERS_MAX)
    return [DeadLettered(AccountId(row["account_id"]), row["place"]) for row in rows]


async def audit_moved(connection: Connection) -> Sequence[AuditMoved]:
    """Return where the audit ends when that is to be anchored, at most once a minute."""
    rows = await connection.fetch(AUDIT_MOVED)
    return [AuditMoved(NOBODY, row["seq"], row["hash"], row["count"]) for row in rows]


async def found_by_itself(connection: Connection) -> Sequence[DeadLettered | AuditMoved]:
    """Return what no event tells, at most FOUND_MAX."""
    return [*await dead_letters(connection), *await audit_moved(connection)]


def key(event: Input) -> str:
    """Return the account of an input."""
    return event.account_id


def ask(inputs: Sequence[Input]) -> Sequence[object] | None:
    """Return the cases the inputs may open or speak of, the tranches to look at, and what people say of which money."""
    cases = {case for event in inputs if (case := _case_of(event))}
    parked = sorted(
        {
            (event.timer.subject, event.timer.number)
            for event in inputs
            if isinstance(event, TimerFired) and event.timer.kind == PARKED_LONG
        }
    )
    said = [event for event in inputs if isinstance(event, Command)]
    if not (cases or parked or said):
        return None
    holds = sorted({(event.repayment_id, event.tranche) for event in said if isinstance(event, ReleaseHold)})
    moved = {event.case_id for event in said if isinstance(event, MoveCase)}
    asked = {review_subject(event.account_id, event.action) for event in said if isinstance(event, AskReview)}
    subjects = sorted({f"{ref}:{number}" for ref, number in holds} | moved | asked)
    actors = sorted({event.actor for event in said})
    ends = sorted({event.account_id for event in said if isinstance(event, MoveCase) and event.outcome in CONCLUDES})
    looked = sorted({event.account_id for event in inputs if isinstance(event, LimitIncreaseDecided) and event.refer})
    return (sorted(cases), *columns(parked, 2), *columns(holds, 2), subjects, actors, ends, looked)


def states(inputs: Sequence[Input], row: Row) -> dict[str, Desk]:
    """Return the desk of every input's account, with the cases the inputs name."""
    parked = frozenset((t["repayment_id"], t["number"]) for t in listed(row.get("parked")))
    stakes = {(s["repayment_id"], s["number"]): s["amount_minor"] for s in listed(row.get("stakes"))}
    words = {w["subject"]: Audit(**{**w, "at": instant(w["at"])}) for w in listed(row.get("words"))}
    acts = {a["actor"]: a["n"] for a in listed(row.get("acts"))}
    found = {str(event.account_id): Desk(event.account_id, {}, parked, stakes, words, acts) for event in inputs}
    for at in listed(row.get("limits")):
        limit = Limit(at["credit_limit_minor"], at["currency"])
        found[at["account_id"]] = replace(found[at["account_id"]], limit=limit)
    for c in listed(row.get("cases")):
        if c["account_id"] in found:
            found[c["account_id"]] = found[c["account_id"]].put(_case(c))
    return found


def save(changes: Sequence[tuple[Desk, Desk]]) -> Saved:
    """Write cases that changed with their steps, and what people did."""
    files: list[tuple[object, ...]] = []
    steps: list[tuple[object, ...]] = []
    audits: list[tuple[object, ...]] = []
    anchors: list[tuple[object, ...]] = []
    for before, after in changes:
        for at, case in after.cases.items():
            if before.cases.get(at) is not case:
                files.append(_row(after.account_id, case))
                steps += [(at, n, *step) for n, step in enumerate(case.steps, start=1)]
        audits += [_audit(after.account_id, entry) for entry in after.audits]
        anchors += [tuple(anchor) for anchor in after.anchors]
    return Saved((files or None, steps or None, audits or None, anchors or None), guarded=len(files))


def _case_of(event: Input) -> str:
    """Return the case an input may open or speaks of; empty for none."""
    match event:
        case MoveCase():
            return event.case_id
        case DeadLettered(place=place):
            return case_id(dead_letter_id(place))
        case SourceDiffers():
            return case_id(differs_id(event))
        case TimerFired(timer=timer):
            return case_id(timed(timer)) if timer.kind == PARKED_LONG else timer.subject
        case Event():
            case = opening(event, NEVER)
            return "" if case is None else case.case_id
        case _:
            return ""


def _row(account_id: str, c: Case) -> tuple[object, ...]:
    about = (c.repayment_id, c.tranche, c.detail, c.record_version)
    stands = (c.state, c.assignee, c.outcome, c.answer, c.resolved_at, c.version + 1)
    return (c.case_id, account_id, c.kind, c.priority, c.opened_by, c.opened_at, c.due_at, *about, *stands)


def _audit(account_id: str, a: Audit) -> tuple[object, ...]:
    """Return an entry whose number and hashes the chain gives."""
    return (None, a.at, a.actor, a.action, account_id, a.subject, a.reason, a.content, None, None)


def _case(row: Row) -> Case:
    plain = {name: value for name, value in row.items() if name != "account_id"}
    return Case(**{**plain, **{name: instant(row[name]) for name in ("opened_at", "due_at", "resolved_at")}})


STORE = Store(key=key, reads=READS, ask=ask, states=states, writes=WRITES, save=save)
