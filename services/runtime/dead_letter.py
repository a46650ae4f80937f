"""Records set aside: dead letters for a person, parked events for their account; both come back the same way."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Literal, NamedTuple

from schemas.topics import TOPICS
from services.decision import Malformed
from services.runtime.codec import decode, headers_from_bytes, headers_to_bytes
from services.runtime.errors import InvariantBroken
from services.runtime.fold import Arrived
from services.runtime.postgres import Connection, Row, columns
from services.runtime.worker import AnyWorker

READY_MAX = 200
WINDOW = 10_000
SHARE_FLOOR = 1_000
BUILD = version("opentobuy")
# Keeps records with all their bytes; a record set aside before is left as it was.
SET_ASIDE = """
INSERT INTO set_aside (kind, topic, partition, "offset", broker_at, account_id, key, headers, value, reason, build)
SELECT o.*, $11 FROM unnest($1::text[], $2::text[], $3::integer[], $4::bigint[], $5::timestamptz[], $6::text[],
  $7::bytea[], $8::bytea[], $9::bytea[], $10::text[]) AS o
ON CONFLICT (kind, topic, partition, "offset") DO UPDATE
SET state = 'open', attempts = set_aside.attempts + 1, last_seen_at = clock_timestamp(), reason = excluded.reason
"""
# Lets what waited for these accounts be handled again.
WAKE = """
UPDATE set_aside SET state = 'ready' WHERE kind = 'parked' AND state = 'open' AND account_id = ANY ($1::text[])
"""
# What may be handled again, oldest first, locked so that one process takes each. Parked events also come back by
# themselves, ever more rarely: their account may have opened while they were being parked.
READY = """
SELECT * FROM set_aside WHERE partition = ANY ($1::integer[]) AND (state = 'ready' OR kind = 'parked'
  AND state = 'open' AND last_seen_at < clock_timestamp() - make_interval(mins => least(attempts, 60)))
ORDER BY set_aside_id LIMIT $2 FOR UPDATE SKIP LOCKED
"""
# Closes what was handled: done, or dropped because its event had come another way.
CLOSE = """
UPDATE set_aside SET state = $2, closed_reason = coalesce(closed_reason, $2), last_seen_at = clock_timestamp()
WHERE set_aside_id = ANY ($1::bigint[])
"""
# Dead letters whose copy on the dead-letter topic is still owed.
UNPUBLISHED = """
SELECT set_aside_id, topic, partition, "offset", reason, key, headers, value FROM set_aside
WHERE kind = 'dead_letter' AND published_at IS NULL AND partition = ANY ($1::integer[])
ORDER BY set_aside_id LIMIT $2
"""
MARK_PUBLISHED = "UPDATE set_aside SET published_at = clock_timestamp() WHERE set_aside_id = ANY ($1::bigint[])"


class Aside(NamedTuple):
    """A record to set aside, with all its bytes, as a dead letter or parked for its account."""

    kind: Literal["dead_letter", "parked"]
    arrived: Arrived
    reason: str


@dataclass(frozen=True, slots=True)
class Limit:
    """Stops a worker that would drain a topic into dead letters: a share of the flow, or many in a row.

    Asked before the commit, so that what is over the limit stays in Kafka; ``in_a_row`` is kept in progress.
    """

    share_max: float
    in_a_row_max: int
    in_a_row: int = 0
    good: int = 0
    dead: int = 0

    def after(self, *, good: int, dead: int) -> "Limit":
        """Return the limit after one more batch; raise InvariantBroken when it would be passed."""
        in_a_row = 0 if good else self.in_a_row + dead
        good, dead = self.good + good, self.dead + dead
        if in_a_row >= self.in_a_row_max:
            raise InvariantBroken(f"{in_a_row} dead letters in a row: refusing to go on")
        if good + dead >= SHARE_FLOOR and dead > (good + dead) * self.share_max:
            raise InvariantBroken(f"{dead} dead letters in {good + dead} records: refusing to go on")
        half = 2 if good + dead > WINDOW else 1
        return Limit(self.share_max, self.in_a_row_max, in_a_row, good // half, dead // half)


async def put_aside(connection: Connection, asides: Sequence[Aside]) -> None:
    """Keep records for later."""
    await connection.execute(SET_ASIDE, *columns([_row(aside) for aside in asides], 10), BUILD)


def _row(aside: Aside) -> tuple[object, ...]:
    a, kept = aside.arrived, aside.arrived.record
    if kept is None:
        raise InvariantBroken(f"an input without a record cannot be set aside: {aside.reason}")
    account_id = None if a.input is None else str(a.input.account_id)
    at = (aside.kind, a.topic, a.partition, a.offset, a.broker_at, account_id)
    return (*at, kept.key, headers_to_bytes(kept.headers), kept.value, aside.reason)


async def close(connection: Connection, set_aside_ids: Collection[int], state: str) -> None:
    """Close what was handled (done) or had come another way (discarded)."""
    await connection.execute(CLOSE, list(set_aside_ids), state)


async def ready(
    connection: Connection, worker: AnyWorker, partitions: Sequence[int]
) -> tuple[list[Arrived], list[Aside]]:
    """Return what may be handled again, and what still cannot be read."""
    arrived: list[Arrived] = []
    unreadable: list[Aside] = []
    rows: Sequence[Row] = await connection.fetch(READY, list(partitions), READY_MAX)
    for row in rows:
        record = Kept(row["key"], row["value"], headers_from_bytes(row["headers"]))
        kept = Arrived(
            None,
            row["partition"],
            row["broker_at"],
            topic=row["topic"],
            offset=row["offset"],
            record=record,
            set_aside_id=row["set_aside_id"],
            parked=row["kind"] == "parked",
        )
        try:
            decoded = decode(TOPICS[kept.topic], record, worker.handles)
        except Malformed as error:
            unreadable.append(Aside(row["kind"], kept, str(error)))
        else:
            found = replace(kept, input=decoded.event, event_key=decoded.event_key, digest=decoded.digest)
            arrived.append(found)
    return arrived, unreadable


@dataclass(frozen=True, slots=True)
class Kept:
    """A kept record in the form the codec reads."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
