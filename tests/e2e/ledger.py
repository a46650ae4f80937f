"""Compares the lag ledger with the availability ledger, and what is exported with the facts, all by SQL."""

import asyncio
from typing import Any

from services.lag_monitor.worker import WORKER as LAG_MONITOR
from services.metrics.catalogue import RESTORATION_LAG, SECONDS
from services.runtime.clock import monotonic
from services.runtime.settings import Settings
from tests.integration.kafka import ends
from tests.integration.support import owner
from tests.integration.test_lag_counters import BY_SQL, HISTOGRAM, rows

READ = "SELECT topic, partition, next_offset FROM lag_monitor.progress"
PROJECTED = """
SELECT (SELECT count(*) FROM lag_monitor.restoration_fact f, lag_monitor.metric_cursor c
  WHERE c.name = 'restoration' AND (f.xid, f.id) > (c.xid, c.id))
  + (SELECT count(*) FROM lag_monitor.tally t, lag_monitor.metric_cursor c
  WHERE c.name = 'tally' AND (t.xid, t.id) > (c.xid, c.id)) AS waiting
"""
DIFFERENCES = {
    "restored and not measured, or otherwise": """
SELECT t.repayment_id, t.number, t.restored_at, f.restored_at AS measured_at FROM limit_release.tranche t
FULL JOIN lag_monitor.restoration_fact f ON f.repayment_id = t.repayment_id AND f.tranche = t.number
WHERE (t.restored_at IS NOT NULL OR f.restored_at IS NOT NULL) AND t.restored_at IS DISTINCT FROM f.restored_at
""",
    "a lag that is not from repaid to restored": """
SELECT f.repayment_id, f.tranche, f.lag_ms FROM lag_monitor.restoration_fact f
JOIN limit_release.repayment r USING (repayment_id)
WHERE f.lag_ms <> floor(1000 * extract(epoch FROM f.restored_at - date_trunc('milliseconds', r.repaid_at)))
""",
    "causes that do not tile, or unexplained": "SELECT * FROM lag_monitor.invariant_lag_tiles",
    "restorations counted otherwise": """
SELECT tier, n, counted FROM (SELECT tier, count(*) AS n FROM lag_monitor.restoration_fact GROUP BY 1) f
FULL JOIN (SELECT labels[1] AS tier, n AS counted FROM lag_monitor.metric_count
  WHERE metric = 'credit_restorations_total') c USING (tier) WHERE n IS DISTINCT FROM counted
""",
    "causes counted otherwise": """
SELECT labels, ms, counted FROM (
  SELECT ARRAY[f.tier, s.stage, split_part(s.cause, '.', 2), split_part(s.cause, '.', 1)] AS labels, sum(s.ms) AS ms
  FROM lag_monitor.restoration_fact f JOIN lag_monitor.lag_segment s USING (repayment_id, tranche) GROUP BY 1) f
FULL JOIN (SELECT labels, n AS counted FROM lag_monitor.metric_count
  WHERE metric = 'credit_restoration_attributed_seconds_total') c USING (labels) WHERE ms IS DISTINCT FROM counted
""",
    "credit withheld counted otherwise": """
SELECT labels, minor, counted FROM (
  SELECT ARRAY[f.currency, split_part(s.cause, '.', 1)] AS labels, sum(f.amount_minor * s.ms::numeric) AS minor
  FROM lag_monitor.restoration_fact f JOIN lag_monitor.lag_segment s USING (repayment_id, tranche) GROUP BY 1) f
FULL JOIN (SELECT labels, n AS counted FROM lag_monitor.metric_count
  WHERE metric = 'credit_withheld_minor_seconds_total') c USING (labels) WHERE minor IS DISTINCT FROM counted
""",
    "first verdicts counted otherwise": """
SELECT labels, n, counted FROM (
  SELECT ARRAY[CASE WHEN told ->> 'tier' IN ('A', 'B') THEN 'low' WHEN told ->> 'tier' = 'C' THEN 'medium'
    WHEN told ->> 'tier' IN ('D', 'E') THEN 'high' ELSE 'unknown' END, told ->> 'rail',
    CASE told ->> 'outcome' WHEN 'clear' THEN 'at_once' ELSE 'held' END] AS labels, count(*) AS n
  FROM (SELECT convert_from(payload, 'UTF8')::json AS told FROM risk_scoring.outbox
    WHERE event_type LIKE '%.RiskAssessed.%') o
  WHERE (told ->> 'revision')::integer = 0 AND (told ->> 'restorable_minor')::bigint > 0 GROUP BY 1) v
FULL JOIN (SELECT labels, m.n AS counted FROM lag_monitor.metric_count m
  WHERE metric = 'credit_assessed_repayments_total') c USING (labels) WHERE n IS DISTINCT FROM counted
""",
    "promises counted otherwise": """
SELECT labels, n, counted FROM (
  SELECT ARRAY[slo, outcome] AS labels, count(*) AS n FROM lag_monitor.sla_promise
  WHERE outcome IN ('met', 'breached') GROUP BY 1) p
FULL JOIN (SELECT labels, m.n AS counted FROM lag_monitor.metric_count m
  WHERE metric = 'credit_sla_outcomes_total') c USING (labels) WHERE n IS DISTINCT FROM counted
""",
    "promises judged against their instants": """
SELECT repayment_id, tranche, slo, deadline_at, over_at, outcome FROM lag_monitor.sla_promise
WHERE outcome <> 'void' AND over_at IS NOT NULL AND (outcome = 'met') <> (over_at <= deadline_at)
""",
    "messages counted otherwise": """
SELECT n.n, c.n AS counted FROM (SELECT count(*) AS n FROM notifier.delivery WHERE state = 'delivered') n,
  (SELECT coalesce(sum(n), 0) AS n FROM lag_monitor.metric_count
   WHERE metric = 'credit_notifications_total' AND labels[3] = 'delivered') c WHERE n.n <> c.n
""",
}


async def heard(settings: Settings, seconds: float) -> None:
    """Wait until the observer read everything and its leader counted it."""
    deadline = monotonic() + seconds
    until = await ends(settings, sorted(LAG_MONITOR.topics))
    async with owner(settings) as connection:
        while True:
            read = {(row["topic"], row["partition"]): row["next_offset"] for row in await connection.fetch(READ)}
            behind = {at: end - read.get(at, 0) for at, end in until.items() if read.get(at, 0) < end}
            waiting = await connection.fetchval(PROJECTED)
            if not behind and not waiting:
                return
            assert monotonic() < deadline, (behind, waiting)
            await asyncio.sleep(0.5)


async def lag_differences(settings: Settings) -> dict[str, Any]:
    """Return every way in which the lag ledger or its counters are not what the books say, nothing when they agree."""
    found: dict[str, Any] = {}
    async with owner(settings) as connection:
        for what, query in DIFFERENCES.items():
            if different := await connection.fetch(f"{query} LIMIT 5"):
                found[what] = [dict(row) for row in different]
        kept = rows(await connection.fetch(HISTOGRAM, RESTORATION_LAG.name))
        if kept != rows(await connection.fetch(BY_SQL, list(SECONDS))):
            found["buckets"] = kept
        if not kept:
            found["nothing measured"] = True
    return found
