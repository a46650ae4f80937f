"""Deadlines that passed: breached once, at the deadline, whether or not anything ever completes (lag 3.3)."""

from datetime import datetime
from typing import Final

from services.runtime.postgres import Connection, one

AT_ONCE_MAX: Final = 500
GRACE_SECONDS: Final = 2.0
"""From reading the clock to the commit a worker's batch takes this long at most; the restore of one that takes longer
may be counted as late though its instant is not."""
# Breaches what is due before $1, the oldest first. A journey that a batch is writing is left for the next turn; one
# that is swept gets another version, so that a batch which read it before decides again.
SWEEP = """
WITH due AS (
  SELECT repayment_id, tranche, slo FROM lag_monitor.sla_promise
  WHERE outcome IS NULL AND deadline_at < $1 ORDER BY deadline_at LIMIT $2),
mine AS (
  SELECT repayment_id FROM lag_monitor.journey WHERE repayment_id IN (SELECT repayment_id FROM due)
  FOR UPDATE SKIP LOCKED),
breached AS (
  UPDATE lag_monitor.sla_promise AS p SET outcome = 'breached', decided_at = clock_timestamp()
  FROM due JOIN mine USING (repayment_id)
  WHERE p.repayment_id = due.repayment_id AND p.tranche = due.tranche AND p.slo = due.slo AND p.outcome IS NULL
  RETURNING p.repayment_id, p.slo),
touched AS (
  UPDATE lag_monitor.journey SET version = version + 1 WHERE repayment_id IN (SELECT repayment_id FROM breached)),
tallies AS (
  INSERT INTO lag_monitor.tally (metric, labels)
  SELECT CASE slo WHEN 'probe_60s' THEN 'credit_probe_lost_total' ELSE 'credit_sla_outcomes_total' END,
    CASE slo WHEN 'probe_60s' THEN '{}' ELSE ARRAY[slo, 'breached'] END FROM breached)
SELECT count(*) AS breached FROM breached
"""
# What every service has committed and not yet told Kafka, the oldest of it, and what time it is. What the console has
# not told keeps no promise and breaks none: nobody has heard of it.
TOLD_UNTIL = """
SELECT least(clock_timestamp(), (
  SELECT min(oldest_at) FROM lag_monitor.outbox_waiting WHERE service <> 'console')) AS until
"""
# How far the observer has read.
READ = "SELECT topic, partition, next_offset FROM lag_monitor.progress"


async def told_until(connection: Connection) -> datetime:
    """Return an instant before which everything committed is in Kafka, so that reading to its end is hearing it."""
    until: datetime = (await one(connection, TOLD_UNTIL))["until"]
    return until


async def positions(connection: Connection) -> dict[tuple[str, int], int]:
    """Return the observer's next offset of each partition."""
    return {(row["topic"], row["partition"]): row["next_offset"] for row in await connection.fetch(READ)}


async def sweep(connection: Connection, until: datetime, *, at_once_max: int = AT_ONCE_MAX) -> int:
    """Breach what was due before ``until``, at most ``at_once_max``; return how many were."""
    return int((await one(connection, SWEEP, until, at_once_max))["breached"])
