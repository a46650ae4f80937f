"""References and conflicts, by the batch."""

from collections.abc import Sequence
from typing import get_args

from schemas.repayment import ReportedRepayment
from services.decision import Input
from services.repayment_ingest.domain import Content, Kind, Reference
from services.runtime.postgres import Connection, columns
from services.runtime.worker import Store

# What is known of these references, locked in the order of their keys.
LOAD = """
SELECT source, external_ref, account_id, amount_minor, currency, rail, kinds FROM repayment_ingest.reference
WHERE (source, external_ref) IN (SELECT * FROM unnest($1::text[], $2::text[]))
ORDER BY source, external_ref FOR UPDATE
"""
# Keeps references for ever: a return may be redelivered on day 59. A new key taken meanwhile fails the batch.
SAVE = """
WITH new AS (
  INSERT INTO repayment_ingest.reference (source, external_ref, account_id, amount_minor, currency, rail, kinds)
  SELECT source, external_ref, account_id, amount_minor, currency, rail, string_to_array(kinds, ',')
  FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::boolean[])
    AS n(source, external_ref, account_id, amount_minor, currency, rail, kinds, is_new) WHERE is_new),
known AS (
  UPDATE repayment_ingest.reference AS r SET kinds = string_to_array(n.kinds, ',')
  FROM unnest($1::text[], $2::text[], $7::text[], $8::boolean[]) AS n(source, external_ref, kinds, is_new)
  WHERE NOT n.is_new AND r.source = n.source AND r.external_ref = n.external_ref)
INSERT INTO repayment_ingest.conflict
  (event_id, source, external_ref, account_id, amount_minor, currency, rail, kind, differs)
SELECT event_id, source, external_ref, account_id, amount_minor, currency, rail, kind, string_to_array(differs, ',')
FROM unnest($9::text[], $10::text[], $11::text[], $12::text[], $13::bigint[], $14::text[], $15::text[], $16::text[],
  $17::text[]) AS c(event_id, source, external_ref, account_id, amount_minor, currency, rail, kind, differs)
ON CONFLICT DO NOTHING
"""
KINDS = get_args(Kind)


def key(event: Input) -> str:
    """Return the key of a report's reference."""
    return f"{len(event.source)}:{event.source}{event.external_ref}" if isinstance(event, ReportedRepayment) else ""


async def load(connection: Connection, inputs: Sequence[Input]) -> dict[str, Reference]:
    """Return what is known of every reference reported."""
    reports = {key(event): event for event in inputs if isinstance(event, ReportedRepayment)}
    names = sorted({(event.source, event.external_ref) for event in reports.values()})
    states = {at: Reference(event.source, event.external_ref) for at, event in reports.items()}
    for row in await connection.fetch(LOAD, *columns(names, 2)):
        content = Content(row["account_id"], row["amount_minor"], row["currency"], row["rail"])
        source, external_ref = row["source"], row["external_ref"]
        at = f"{len(source)}:{source}{external_ref}"
        states[at] = Reference(source, external_ref, content, frozenset(row["kinds"]))
    return {"": Reference("", "")} | states


async def save(connection: Connection, changes: Sequence[tuple[Reference, Reference]]) -> tuple[()]:
    """Keep new and changed references, and conflicts."""
    references, conflicts = [], []
    for before, after in changes:
        at, c = (after.source, after.external_ref), after.content
        if c is not None:
            kinds = ",".join(kind for kind in KINDS if kind in after.kinds)
            references.append((*at, c.account_id, c.amount_minor, c.currency, c.rail, kinds, before.content is None))
        for x in after.conflicts:
            content = (x.content.account_id, x.content.amount_minor, x.content.currency, x.content.rail)
            conflicts.append((x.event_id, *at, *content, x.kind, ",".join(x.differs)))
    await connection.execute(SAVE, *columns(references, 8), *columns(conflicts, 9))
    return ()


STORE = Store(key=key, load=load, save=save)
