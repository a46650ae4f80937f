"""References and conflicts, by the batch."""

from collections.abc import Sequence
from typing import get_args

from schemas.repayment import ReportedRepayment
from services.decision import Input
from services.repayment_ingest.domain import Content, Kind, Reference
from services.runtime.postgres import Row, columns, listed
from services.runtime.worker import Saved, Store

# What is known of these references.
READS = """
(SELECT json_agg(r) FROM (
  SELECT source, external_ref, account_id, amount_minor, currency, rail, kinds FROM repayment_ingest.reference
  WHERE (source, external_ref) IN (SELECT * FROM unnest($1::text[], $2::text[]))) AS r) AS reported
"""
# Keeps references for ever: a return may be redelivered on day 59. A new key taken meanwhile fails the batch, and so
# does one whose kinds are not those read.
WRITES = """
created AS (
  INSERT INTO repayment_ingest.reference SELECT * FROM unnest($1::repayment_ingest.reference[])),
guarded AS (
  UPDATE repayment_ingest.reference AS r SET kinds = n.kinds
  FROM unnest($2::repayment_ingest.reference_change[]) AS n
  WHERE r.source = n.source AND r.external_ref = n.external_ref AND r.kinds = n.kinds_before
  RETURNING 1),
conflicts AS (
  INSERT INTO repayment_ingest.conflict
    (event_id, source, external_ref, account_id, amount_minor, currency, rail, kind, differs)
  SELECT event_id, source, external_ref, account_id, amount_minor, currency, rail, kind, differs
  FROM unnest($3::repayment_ingest.conflict[])
  ON CONFLICT DO NOTHING)
"""
KINDS = get_args(Kind)


def key(event: Input) -> str:
    """Return the key of a report's reference."""
    return f"{len(event.source)}:{event.source}{event.external_ref}" if isinstance(event, ReportedRepayment) else ""


def ask(inputs: Sequence[Input]) -> Sequence[object]:
    """Return the names of every reference reported."""
    reports = {(event.source, event.external_ref) for event in inputs if isinstance(event, ReportedRepayment)}
    return columns(sorted(reports), 2)


def states(inputs: Sequence[Input], row: Row) -> dict[str, Reference]:
    """Return what is known of every reference reported."""
    reports = {key(event): event for event in inputs if isinstance(event, ReportedRepayment)}
    found = {at: Reference(event.source, event.external_ref) for at, event in reports.items()}
    for known in listed(row["reported"]):
        content = Content(known["account_id"], known["amount_minor"], known["currency"], known["rail"])
        source, external_ref = known["source"], known["external_ref"]
        at = f"{len(source)}:{source}{external_ref}"
        found[at] = Reference(source, external_ref, content, frozenset(known["kinds"]))
    return {"": Reference("", "")} | found


def save(changes: Sequence[tuple[Reference, Reference]]) -> Saved:
    """Keep new and changed references, and conflicts."""
    created, changed, conflicts = [], [], []
    for before, after in changes:
        at, c = (after.source, after.external_ref), after.content
        if before.content is not None:
            changed.append((*at, _ordered(after.kinds), _ordered(before.kinds)))
        elif c is not None:
            created.append((*at, c.account_id, c.amount_minor, c.currency, c.rail, _ordered(after.kinds)))
        for x in after.conflicts:
            content = (x.content.account_id, x.content.amount_minor, x.content.currency, x.content.rail)
            conflicts.append((x.event_id, *at, *content, x.kind, list(x.differs), None))
    return Saved((created or None, changed or None, conflicts or None), guarded=len(changed))


def _ordered(kinds: frozenset[str]) -> list[str]:
    return [kind for kind in KINDS if kind in kinds]


STORE = Store(key=key, reads=READS, ask=ask, states=states, writes=WRITES, save=save)
