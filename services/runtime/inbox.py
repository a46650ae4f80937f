"""Which records are new, and whether these offsets are still ours: one statement a batch."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from schemas.event import to_millisecond
from services.runtime.errors import InvariantBroken, Refused
from services.runtime.postgres import Connection, Row, columns

# Moves progress on only if nobody else did, and tells which events are known and what time it is.
CLAIM = """
WITH moved AS (
  UPDATE progress AS p SET next_offset = b.next_offset, gaps = p.gaps + b.gaps
  FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[], $5::bigint[])
    AS b(topic, partition, first_offset, next_offset, gaps)
  WHERE p.topic = b.topic AND p.partition = b.partition AND p.next_offset = b.first_offset
  RETURNING 1)
SELECT (SELECT count(*) FROM moved) AS moved, clock_timestamp() AS now,
  ARRAY(SELECT event_id FROM inbox WHERE event_id = ANY ($6::uuid[]) ORDER BY event_id) AS known,
  ARRAY(SELECT digest FROM inbox WHERE event_id = ANY ($6::uuid[]) ORDER BY event_id) AS digests
"""
# Counts records whose event was known already.
COUNT_DUPLICATES = """
UPDATE progress AS p SET duplicates = p.duplicates + b.n
FROM unnest($1::text[], $2::integer[], $3::bigint[]) AS b(topic, partition, n)
WHERE p.topic = b.topic AND p.partition = b.partition
"""
# Starts partitions never read before at the first offset the broker holds.
START = """
INSERT INTO progress (topic, partition, first_offset, next_offset)
SELECT topic, partition, first_offset, first_offset
FROM unnest($1::text[], $2::integer[], $3::bigint[]) AS b(topic, partition, first_offset)
ON CONFLICT DO NOTHING
"""
# Remembers how many dead letters came in a row, across restarts.
COUNT_IN_A_ROW = """
UPDATE progress AS p SET dead_in_a_row = $3 FROM unnest($1::text[], $2::integer[]) AS b(topic, partition)
WHERE p.topic = b.topic AND p.partition = b.partition
"""
# Where the books say reading goes on.
POSITIONS = """
SELECT topic, partition, next_offset, dead_in_a_row FROM progress
WHERE (topic, partition) IN (SELECT * FROM unnest($1::text[], $2::integer[]))
"""


@dataclass(frozen=True, slots=True)
class Move:
    """A stretch of one partition: offsets from ``first_offset`` up to, not including, ``next_offset``."""

    topic: str
    partition: int
    first_offset: int
    next_offset: int
    gaps: int


@dataclass(frozen=True, slots=True)
class Claim:
    """The database's clock, and the digests of the events known before."""

    now: datetime
    known: dict[UUID, int]


async def claim(connection: Connection, moves: Sequence[Move], keys: Collection[UUID]) -> Claim:
    """Move progress over ``moves`` and look ``keys`` up; raise Refused when another process moved it."""
    rows = [(m.topic, m.partition, m.first_offset, m.next_offset, m.gaps) for m in moves]
    row = await connection.fetchrow(CLAIM, *columns(rows, 5), list(keys))
    if row is None:
        raise InvariantBroken("the claim gave no row")
    if row["moved"] != len(moves):
        raise Refused(f"{len(moves) - row['moved']} of {len(moves)} partitions are not where this batch begins")
    return Claim(to_millisecond(row["now"]), dict(zip(row["known"], row["digests"], strict=True)))


async def count_duplicates(connection: Connection, counts: dict[tuple[str, int], int]) -> None:
    """Add to the duplicates of each (topic, partition)."""
    await connection.execute(COUNT_DUPLICATES, *columns([(*at, n) for at, n in counts.items()], 3))


async def count_in_a_row(connection: Connection, moves: Sequence[Move], n: int) -> None:
    """Remember ``n`` dead letters in a row at the partitions of ``moves``."""
    await connection.execute(COUNT_IN_A_ROW, *columns([(m.topic, m.partition) for m in moves], 2), n)


async def positions(
    connection: Connection, beginnings: dict[tuple[str, int], int]
) -> tuple[dict[tuple[str, int], int], int]:
    """Return the next offset of each (topic, partition), new ones at ``beginnings``; and dead letters in a row."""
    await connection.execute(START, *columns([(*at, offset) for at, offset in sorted(beginnings.items())], 3))
    rows: Sequence[Row] = await connection.fetch(POSITIONS, *columns(sorted(beginnings), 2))
    in_a_row = max((row["dead_in_a_row"] for row in rows), default=0)
    return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}, in_a_row
