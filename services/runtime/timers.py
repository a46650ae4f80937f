"""Due timers of the partitions this process reads; firing one deletes it in the same transaction."""

from collections.abc import Sequence

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
# What there is to do without Kafka: the seconds to the next timer, negative when it is overdue; records that may be
# handled again; dead letters to copy.
CHORES = """
SELECT coalesce(extract(epoch FROM (SELECT min(due_at) FROM timers WHERE partition = ANY ($1::integer[]))
    - clock_timestamp())::double precision, 'Infinity') AS timer_in,
  EXISTS (SELECT FROM set_aside WHERE partition = ANY ($1::integer[]) AND state = 'ready')
    OR EXISTS (SELECT FROM set_aside WHERE partition = ANY ($1::integer[]) AND kind = 'parked' AND state = 'open'
      AND last_seen_at < clock_timestamp() - make_interval(mins => least(attempts, 60))) AS again,
  EXISTS (SELECT FROM set_aside WHERE kind = 'dead_letter' AND published_at IS NULL) AS dead_letters
"""


async def due(connection: Connection, partitions: Sequence[int]) -> list[Arrived]:
    """Return due timers as inputs, at most FIRED_MAX, oldest first."""
    rows: Sequence[Row] = await connection.fetch(DUE, list(partitions), FIRED_MAX)
    return [_arrived(row) for row in rows]


def _arrived(row: Row) -> Arrived:
    account = AccountId(row["account_id"])
    timer = Timer(account, row["kind"], row["subject"], row["number"], row["due_at"])
    return Arrived(TimerFired(account, timer), row["partition"], row["due_at"])
