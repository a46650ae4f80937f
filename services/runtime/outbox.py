"""The one statement that writes what a batch leaves: progress, inbox, outbox, timers, and the service's own books."""

import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

import asyncpg

from services.runtime.codec import Outgoing
from services.runtime.errors import InvariantBroken, Refused
from services.runtime.fold import Folded
from services.runtime.inbox import Progress
from services.runtime.postgres import Connection, Row, one, shifted

# Moves progress on from where this batch began, remembers its events, keeps what it publishes, sets and clears timers,
# closes what Kafka acknowledged. A store's writes follow. A row is a value of its table's type: PostgreSQL reads an
# array of rows several times faster than an array a column.
RECORD = """moved AS (
  UPDATE progress AS p SET next_offset = b.next_offset, gaps = p.gaps + b.gaps,
    duplicates = p.duplicates + b.duplicates, dead_in_a_row = b.dead_in_a_row
  FROM unnest($1::progress[]) AS b
  WHERE p.topic = b.topic AND p.partition = b.partition AND p.next_offset = b.first_offset
  RETURNING 1),
remembered AS (INSERT INTO inbox SELECT * FROM unnest($2::inbox[])),
published AS (
  INSERT INTO publication (partitions) SELECT $3::integer[] WHERE $3 IS NOT NULL RETURNING publication_id),
kept AS (
  INSERT INTO outbox SELECT id, n, event_id, event_type, topic, account_id, occurred_at, traceparent, payload
  FROM (SELECT publication_id AS id FROM published) AS p, unnest($4::outbox[]) AS o),
set_timers AS (
  INSERT INTO timers SELECT * FROM unnest($5::timers[])
  ON CONFLICT (timer_key) DO UPDATE SET due_at = excluded.due_at),
cleared AS (DELETE FROM timers WHERE timer_key = ANY ($6::text[])),
acknowledged AS (UPDATE publication SET published_at = clock_timestamp() WHERE publication_id = ANY ($7::bigint[]))"""
PARAMETERS = 7
# What is told of the parts: the publication; whether the batch's partitions are where it begins, another process has
# them otherwise; and whether the rows it decided on are as they were read.
TOLD = {
    "published": "(SELECT publication_id FROM published) AS publication_id",
    "moved": "expect((SELECT count(*) FROM moved), cardinality($1::progress[]), 'OT001')",
    "guarded": "expect((SELECT count(*) FROM guarded), $8, '40001')",
}
REFUSED = "OT001"
_PARTS = re.compile(r",\n(?=\w+ AS \()")
_PARAMETER = re.compile(r"\$(\d+)")
# Closes what Kafka acknowledged when no batch comes to do it.
ACKNOWLEDGE = "UPDATE publication SET published_at = clock_timestamp() WHERE publication_id = ANY ($1::bigint[])"
# What is not known to have reached Kafka, in the order it was committed; what a clock set back since made is old, too.
UNPUBLISHED = """
SELECT o.publication_id, o.event_id, o.event_type, o.topic, o.account_id, o.occurred_at, o.traceparent, o.payload
FROM outbox o JOIN (SELECT publication_id FROM publication
      WHERE published_at IS NULL AND (partitions && $1::integer[] OR partitions = '{}')
        AND ($2::double precision = 0 OR created_at NOT BETWEEN clock_timestamp() - make_interval(secs => $2)
          AND clock_timestamp())
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
    values = (*_values(progress, folded, outgoing), list(acknowledged) or None, *stored)
    empty = frozenset(n for n, value in enumerate(values) if value is None or (n == PARAMETERS and value == 0))
    statement, taken = recording("" if saved is None else writes, empty)
    if not taken:
        return None
    try:
        row = await one(connection, statement, *[values[n] for n in taken])
    except asyncpg.PostgresError as error:
        if error.sqlstate == REFUSED:
            raise Refused(f"not all of {len(progress.moves)} partitions are where this batch begins") from error
        raise
    publication_id: int | None = row.get("publication_id")
    if publication_id is None and outgoing:
        raise InvariantBroken("events were decided but not kept")
    return publication_id


def _values(progress: Progress, folded: Folded[Any], outgoing: Sequence[Outgoing]) -> list[object]:
    """Return the rows of each part of RECORD but the last; None is no rows."""
    inbox = [
        (a.event_key, a.digest, a.topic, a.partition, a.offset, outcome, reason)
        for a, outcome, reason in folded.outcomes
        if a.event_key is not None and not a.parked
    ]
    out = [
        (None, n, o.event_id, o.event_type, o.topic, o.account_id, o.occurred_at, o.traceparent, o.payload)
        for n, o in enumerate(outgoing)
    ]
    last = {t.key: (t.key, at, t.account_id, t.kind, t.subject, t.number, t.due_at) for at, t in folded.timers}
    partitions = sorted({a.partition for a, _, _ in folded.outcomes if a.partition >= 0})
    return [
        progress.rows or None,
        inbox or None,
        partitions if out else None,
        out or None,
        [*last.values()] or None,
        [key for key in folded.fired if key not in last] or None,
    ]


@lru_cache(maxsize=512)
def recording(writes: str, empty: frozenset[int] = frozenset()) -> tuple[str, list[int]]:
    """Return the statement without parts whose values are all in ``empty``, and which values it takes, from 0.

    Opening a table and its indexes costs PostgreSQL more than writing a row: what has nothing to write is left out, but
    never a guard that must find rows.
    """
    ctes = _PARTS.split(f"{RECORD},{shifted(writes, PARAMETERS + 1)}" if writes else RECORD)
    kept = [cte for cte in ctes if not _numbers(cte + TOLD.get(cte.split(" ")[0], "")) <= empty]
    told = [text for name, text in TOLD.items() if any(cte.startswith(f"{name} AS") for cte in kept)]
    text = f"WITH {', '.join(kept)} SELECT {', '.join(told) or 1}"
    taken = sorted(_numbers(text))
    return _PARAMETER.sub(lambda found: f"${taken.index(int(found[1]) - 1) + 1}", text), taken


def _numbers(sql: str) -> set[int]:
    return {int(number) - 1 for number in _PARAMETER.findall(sql)}


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
