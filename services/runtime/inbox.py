"""Which records are new, what a batch knows before it decides, and how far each partition was read."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from uuid import UUID

from pydantic_core import from_json

from services.runtime.postgres import Connection, Row, columns, one, shifted

# What time it is, and which events are known; a store's own reads follow.
READ = """
SELECT clock_timestamp() AS now,
  (SELECT json_object_agg(event_id, digest) FROM inbox WHERE event_id = ANY ($1::uuid[])) AS known"""
# Starts partitions never read before at the first offset the broker holds.
START = """
INSERT INTO progress (topic, partition, first_offset, next_offset)
SELECT topic, partition, first_offset, first_offset
FROM unnest($1::text[], $2::integer[], $3::bigint[]) AS b(topic, partition, first_offset)
ON CONFLICT DO NOTHING
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
class Progress:
    """How far a batch goes, the duplicates in it by (topic, partition), and dead letters in a row after it."""

    moves: Sequence[Move] = ()
    duplicates: Mapping[tuple[str, int], int] = field(default_factory=dict)
    dead_in_a_row: int = 0

    @property
    def rows(self) -> list[tuple[object, ...]]:
        """Return what moves progress, in the order of its columns."""
        again, dead = self.duplicates, self.dead_in_a_row
        return [
            (m.topic, m.partition, m.first_offset, m.next_offset, again.get((m.topic, m.partition), 0), m.gaps, dead)
            for m in self.moves
        ]


async def read(connection: Connection, keys: Collection[UUID], reads: str, values: Sequence[object]) -> Row:
    """Return the row of READ and of a store's ``reads``, if it has any, seen at one instant."""
    return await one(connection, reading(reads), list(keys), *values)


@cache
def reading(reads: str) -> str:
    """Return the whole statement that reads."""
    return f"{READ},{shifted(reads, 1)}" if reads else READ


def known_digests(row: Row) -> dict[UUID, int]:
    """Return the digest of each event that is known."""
    return {UUID(event_id): digest for event_id, digest in from_json(row["known"] or "{}").items()}


async def positions(
    connection: Connection, beginnings: dict[tuple[str, int], int]
) -> tuple[dict[tuple[str, int], int], int]:
    """Return the next offset of each (topic, partition), new ones at ``beginnings``; and dead letters in a row."""
    await connection.execute(START, *columns([(*at, offset) for at, offset in sorted(beginnings.items())], 3))
    rows: Sequence[Row] = await connection.fetch(POSITIONS, *columns(sorted(beginnings), 2))
    in_a_row = max((row["dead_in_a_row"] for row in rows), default=0)
    return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}, in_a_row
