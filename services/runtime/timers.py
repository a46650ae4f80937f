"""Due timers of the partitions this process reads; firing one deletes it in the same transaction."""

from collections.abc import Sequence
from datetime import datetime

from schemas.ids import AccountId
from services.decision import Timer, TimerFired
from services.runtime.fold import Arrived
from services.runtime.postgres import Connection, Row

FIRED_MAX = 500
# Timers that are due, locked so that one process fires each.
DUE = """
SELECT timer_key, partition, account_id, kind, subject, number, due_at FROM timers
WHERE partition = ANY ($1::integer[]) AND due_at <= clock_timestamp()
ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED
"""
# Seconds until the next timer is due; none without timers.
NEXT = """
SELECT extract(epoch FROM min(due_at) - clock_timestamp())::double precision AS seconds
FROM timers WHERE partition = ANY ($1::integer[])
"""


async def due(connection: Connection, partitions: Sequence[int]) -> list[Arrived]:
    """Return due timers as inputs, at most FIRED_MAX, oldest first."""
    rows: Sequence[Row] = await connection.fetch(DUE, list(partitions), FIRED_MAX)
    return [_arrived(row) for row in rows]


async def seconds_to_next(connection: Connection, partitions: Sequence[int]) -> float | None:
    """Return seconds until the next timer, negative when overdue, None when there is none."""
    row = await connection.fetchrow(NEXT, list(partitions))
    return None if row is None else row["seconds"]


def _arrived(row: Row) -> Arrived:
    account, due_at = AccountId(row["account_id"]), _instant(row["due_at"])
    timer = Timer(account, row["kind"], row["subject"], row["number"], due_at)
    return Arrived(TimerFired(account, timer), row["partition"], due_at)


def _instant(value: datetime) -> datetime:
    return value
