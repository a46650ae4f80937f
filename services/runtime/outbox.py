"""One statement that writes what a batch leaves beside its books: inbox, outbox, timers, acknowledgements."""

from collections.abc import Collection, Sequence
from uuid import UUID

from services.decision import Timer
from services.runtime.codec import Outgoing
from services.runtime.errors import InvariantBroken
from services.runtime.fold import Arrived
from services.runtime.postgres import Connection, Row, columns

# Remembers the batch's events, keeps what it publishes, sets and clears timers, closes what Kafka acknowledged.
RECORD = """
WITH remembered AS (
  INSERT INTO inbox (event_id, digest, topic, partition, "offset", outcome, reason)
  SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::integer[], $5::bigint[], $6::text[], $7::text[])),
published AS (
  INSERT INTO publication (partitions) SELECT $8::integer[] WHERE cardinality($10::uuid[]) > 0
  RETURNING publication_id),
kept AS (
  INSERT INTO outbox (publication_id, n, event_id, event_type, topic, account_id, occurred_at, traceparent, payload)
  SELECT publication_id, o.* FROM published, unnest($9::integer[], $10::uuid[], $11::text[], $12::text[], $13::text[],
    $14::timestamptz[], $15::text[], $16::bytea[]) AS o),
set_timers AS (
  INSERT INTO timers (timer_key, partition, account_id, kind, subject, number, due_at)
  SELECT * FROM unnest($17::text[], $18::integer[], $19::text[], $20::text[], $21::text[], $22::integer[],
    $23::timestamptz[])
  ON CONFLICT (timer_key) DO UPDATE SET due_at = excluded.due_at),
cleared AS (DELETE FROM timers WHERE timer_key = ANY ($24::text[])),
acknowledged AS (UPDATE publication SET published_at = clock_timestamp() WHERE publication_id = ANY ($25::bigint[]))
SELECT publication_id FROM published
"""
# Closes what Kafka acknowledged when no batch comes to do it.
ACKNOWLEDGE = "UPDATE publication SET published_at = clock_timestamp() WHERE publication_id = ANY ($1::bigint[])"
# What is not known to have reached Kafka, in the order it was committed.
UNPUBLISHED = """
SELECT o.publication_id, o.event_id, o.event_type, o.topic, o.account_id, o.occurred_at, o.traceparent, o.payload
FROM outbox o
JOIN (SELECT publication_id FROM publication
      WHERE published_at IS NULL AND (partitions && $1::integer[] OR partitions = '{}')
        AND created_at <= clock_timestamp() - make_interval(secs => $2::double precision)
        AND publication_id <> ALL ($3::bigint[])
      ORDER BY publication_id LIMIT 200) AS p USING (publication_id)
ORDER BY o.publication_id, o.n
"""


async def record(
    connection: Connection,
    *,
    outcomes: Sequence[tuple[Arrived, str, str]],
    outgoing: Sequence[Outgoing],
    timers: Sequence[tuple[int, Timer]],
    fired: Sequence[str],
    acknowledged: Collection[int],
) -> int | None:
    """Write all of it in one statement; return the publication's id, None when nothing is published."""
    inbox = [
        (a.event_key, a.digest, a.topic, a.partition, a.offset, outcome, reason)
        for a, outcome, reason in outcomes
        if a.event_key is not None and not a.parked
    ]
    out = [
        (n, o.event_id, o.event_type, o.topic, o.account_id, o.occurred_at, o.traceparent, o.payload)
        for n, o in enumerate(outgoing)
    ]
    last = {t.key: (t.key, partition, t.account_id, t.kind, t.subject, t.number, t.due_at) for partition, t in timers}
    partitions = sorted({a.partition for a, _, _ in outcomes if a.partition >= 0})
    row = await connection.fetchrow(
        RECORD,
        *columns(inbox, 7),
        partitions,
        *columns(out, 8),
        *columns(list(last.values()), 7),
        [key for key in fired if key not in last],
        list(acknowledged),
    )
    if row is None:
        if outgoing:
            raise InvariantBroken("events were decided but not kept")
        return None
    publication_id: int = row["publication_id"]
    return publication_id


async def acknowledge(connection: Connection, publications: Collection[int]) -> None:
    """Mark publications that Kafka has."""
    await connection.execute(ACKNOWLEDGE, list(publications))


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
