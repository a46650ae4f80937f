"""The one statement that writes what a batch leaves: progress, inbox, outbox, timers, and the service's own books."""

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any
from uuid import UUID

import asyncpg

from services.runtime.codec import Outgoing
from services.runtime.errors import InvariantBroken, Refused
from services.runtime.fold import Folded
from services.runtime.inbox import Progress
from services.runtime.postgres import Connection, Row, columns, one, shifted

# Moves progress on from where this batch began, remembers its events, keeps what it publishes, sets and clears timers,
# closes what Kafka acknowledged. A store's writes follow.
RECORD = """
WITH moved AS (
  UPDATE progress AS p SET next_offset = b.next_offset, gaps = p.gaps + b.gaps,
    duplicates = p.duplicates + b.duplicates, dead_in_a_row = $7
  FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
    AS b(topic, partition, first_offset, next_offset, gaps, duplicates)
  WHERE p.topic = b.topic AND p.partition = b.partition AND p.next_offset = b.first_offset
  RETURNING 1),
remembered AS (
  INSERT INTO inbox (event_id, digest, topic, partition, "offset", outcome, reason)
  SELECT * FROM unnest($8::uuid[], $9::bigint[], $10::text[], $11::integer[], $12::bigint[], $13::text[], $14::text[])),
published AS (
  INSERT INTO publication (partitions) SELECT $15::integer[] WHERE cardinality($17::uuid[]) > 0
  RETURNING publication_id),
kept AS (
  INSERT INTO outbox (publication_id, n, event_id, event_type, topic, account_id, occurred_at, traceparent, payload)
  SELECT publication_id, o.* FROM published, unnest($16::integer[], $17::uuid[], $18::text[], $19::text[], $20::text[],
    $21::timestamptz[], $22::text[], $23::bytea[]) AS o),
set_timers AS (
  INSERT INTO timers (timer_key, partition, account_id, kind, subject, number, due_at)
  SELECT * FROM unnest($24::text[], $25::integer[], $26::text[], $27::text[], $28::text[], $29::integer[],
    $30::timestamptz[])
  ON CONFLICT (timer_key) DO UPDATE SET due_at = excluded.due_at),
cleared AS (DELETE FROM timers WHERE timer_key = ANY ($31::text[])),
acknowledged AS (UPDATE publication SET published_at = clock_timestamp() WHERE publication_id = ANY ($32::bigint[]))"""
PARAMETERS = 32
# Refuses a batch whose partitions are not where it begins: another process has them.
OURS = """
SELECT (SELECT publication_id FROM published) AS publication_id,
  expect((SELECT count(*) FROM moved), coalesce(cardinality($1::text[]), 0), 'OT001')"""
# Refuses a batch that decided on rows another process has changed since.
UNCHANGED = ", expect((SELECT count(*) FROM guarded), $33, '40001')"
REFUSED = "OT001"
# Closes what Kafka acknowledged when no batch comes to do it.
ACKNOWLEDGE = "UPDATE publication SET published_at = clock_timestamp() WHERE publication_id = ANY ($1::bigint[])"
# What is not known to have reached Kafka, in the order it was committed.
UNPUBLISHED = """
SELECT o.publication_id, o.event_id, o.event_type, o.topic, o.account_id, o.occurred_at, o.traceparent, o.payload
FROM outbox o
JOIN (SELECT publication_id FROM publication
      WHERE published_at IS NULL AND (partitions && $1::integer[] OR partitions = '{}')
        AND ($2::double precision = 0 OR created_at <= clock_timestamp() - make_interval(secs => $2))
        AND publication_id <> ALL ($3::bigint[])
      ORDER BY publication_id LIMIT 200) AS p USING (publication_id)
ORDER BY o.publication_id, o.n
"""


async def record(
    connection: Connection,
    progress: Progress,
    folded: Folded[Any],
    outgoing: Sequence[Outgoing],
    *,
    acknowledged: Collection[int] = (),
    writes: str = "",
) -> int | None:
    """Write all of it in one statement, with a store's ``writes``; return the publication's id, None when none.

    Raises Refused when another process moved the partitions, and a serialization error when it changed the rows.
    """
    saved = folded.saved
    stored = () if saved is None else (saved.guarded, *saved.values)
    values = (*_values(progress, folded, outgoing), list(acknowledged), *stored)
    try:
        row = await one(connection, recording("" if saved is None else writes), *values)
    except asyncpg.PostgresError as error:
        if error.sqlstate == REFUSED:
            raise Refused(f"not all of {len(progress.moves)} partitions are where this batch begins") from error
        raise
    if row["publication_id"] is None and outgoing:
        raise InvariantBroken("events were decided but not kept")
    publication_id: int | None = row["publication_id"]
    return publication_id


def _values(progress: Progress, folded: Folded[Any], outgoing: Sequence[Outgoing]) -> list[object]:
    inbox = [
        (a.event_key, a.digest, a.topic, a.partition, a.offset, outcome, reason)
        for a, outcome, reason in folded.outcomes
        if a.event_key is not None and not a.parked
    ]
    out = [
        (n, o.event_id, o.event_type, o.topic, o.account_id, o.occurred_at, o.traceparent, o.payload)
        for n, o in enumerate(outgoing)
    ]
    last = {t.key: (t.key, at, t.account_id, t.kind, t.subject, t.number, t.due_at) for at, t in folded.timers}
    return [
        *columns(progress.rows, 6),
        progress.dead_in_a_row,
        *columns(inbox, 7),
        sorted({a.partition for a, _, _ in folded.outcomes if a.partition >= 0}),
        *columns(out, 8),
        *columns(list(last.values()), 7),
        [key for key in folded.fired if key not in last],
    ]


@cache
def recording(writes: str) -> str:
    """Return the whole statement that writes."""
    if not writes:
        return f"{RECORD}{OURS}"
    return f"{RECORD},{shifted(writes, PARAMETERS + 1)}{OURS}{UNCHANGED}"


async def unpublished(
    connection: Connection, partitions: Sequence[int], *, older_than_seconds: float, except_for: Collection[int]
) -> dict[int, list[Outgoing]]:
    """Return at most 200 publications of ``partitions`` that may not have reached Kafka, oldest first."""
    rows: Sequence[Row] = await connection.fetch(
        UNPUBLISHED, list(partitions), float(older_than_seconds), list(except_for)
    )
    found: dict[int, list[Outgoing]] = {}
    for row in rows:
        kind = (UUID(bytes=row["event_id"].bytes), row["event_type"], row["topic"], row["account_id"])
        outgoing = Outgoing(*kind, row["occurred_at"], row["traceparent"], row["payload"])
        found.setdefault(row["publication_id"], []).append(outgoing)
    return found
