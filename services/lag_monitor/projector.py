"""From facts to what is exported: one statement takes what is behind the horizon, counts it and moves on (lag 3.2).

Facts are ordered by (transaction, number). A transaction below the snapshot's xmin is over for every reader, so a fact
that commits late is never jumped over, as a cursor on a sequence alone would. A crash anywhere leaves all or nothing.
"""

from typing import Final

from services.metrics.catalogue import SECONDS
from services.runtime.postgres import Connection, one

FACTS_MAX: Final = 5_000
EDGES_MS: Final = [int(edge * 1000) for edge in SECONDS]
"""Upper edges of the buckets in whole milliseconds: a whole number is at most 2.5 when it is at most 2."""
# What follows the CTE ``seen`` (metric, labels, ms, trace_id, at) and ``counted`` (metric, labels, n).
_KEEP = """
spread AS (
  INSERT INTO lag_monitor.metric_hist AS h (metric, labels, bucket, n, sum_ms, trace_id, trace_ms, trace_at)
  SELECT metric, labels, width_bucket(ms - 1, $2::bigint[]), count(*), sum(ms),
    (array_agg(trace_id ORDER BY at DESC))[1], (array_agg(ms ORDER BY at DESC))[1], max(at)
  FROM seen GROUP BY 1, 2, 3
  ON CONFLICT (metric, labels, bucket) DO UPDATE SET n = h.n + excluded.n, sum_ms = h.sum_ms + excluded.sum_ms,
    trace_id = excluded.trace_id, trace_ms = excluded.trace_ms, trace_at = excluded.trace_at),
added AS (
  INSERT INTO lag_monitor.metric_count AS c (metric, labels, n)
  SELECT metric, labels, sum(n) FROM counted GROUP BY 1, 2
  ON CONFLICT (metric, labels) DO UPDATE SET n = c.n + excluded.n),
moved AS (
  UPDATE lag_monitor.metric_cursor AS m SET xid = last.xid, id = last.id
  FROM (SELECT xid, id FROM taken ORDER BY xid DESC, id DESC LIMIT 1) AS last WHERE m.name = $3)
SELECT count(*) AS taken FROM taken
"""
_BEHIND = "xid < pg_snapshot_xmin(pg_current_snapshot())"
# Counts restored tranches but the probe's: the lag, what it was made of, and the credit it kept back.
RESTORATIONS = f"""
WITH place AS (SELECT xid, id FROM lag_monitor.metric_cursor WHERE name = $3 FOR UPDATE),
taken AS (
  SELECT f.* FROM place, LATERAL (
    SELECT * FROM lag_monitor.restoration_fact
    WHERE {_BEHIND} AND (xid, id) > (place.xid, place.id) ORDER BY xid, id LIMIT $1) AS f),
business AS (SELECT * FROM taken WHERE account_id <> 'probe'),
pieces AS (
  SELECT t.repayment_id, t.tranche, t.tier, t.rail, t.currency, t.amount_minor, t.restored_at, s.stage, s.ms,
    split_part(s.cause, '.', 1) AS cause_class, split_part(s.cause, '.', 2) AS cause
  FROM business t JOIN lag_monitor.lag_segment s USING (repayment_id, tranche)),
seen AS (
  SELECT 'credit_restoration_lag_seconds' AS metric, ARRAY[tier, split_part(cause, '.', 2)] AS labels, lag_ms AS ms,
    repayment_id AS trace_id, restored_at AS at FROM business
  UNION ALL
  SELECT 'credit_stage_duration_seconds', ARRAY[stage, CASE cause WHEN 'kafka_queue' THEN 'queue'
    WHEN 'processing' THEN 'process' ELSE 'wait' END], sum(ms)::bigint, NULL, max(restored_at)
  FROM pieces GROUP BY repayment_id, tranche, 2),
counted AS (
  SELECT 'credit_restorations_total' AS metric, ARRAY[tier] AS labels, 1::numeric AS n FROM business
  UNION ALL SELECT 'credit_restored_minor_units_total', ARRAY[tier, rail, currency], amount_minor FROM business
  UNION ALL SELECT 'credit_unattributed_ms_total', '{{}}', unattributed_ms FROM business
  UNION ALL SELECT 'credit_restoration_attributed_seconds_total', ARRAY[tier, stage, cause, cause_class], ms FROM pieces
  UNION ALL SELECT 'credit_withheld_minor_seconds_total', ARRAY[currency, cause_class], amount_minor * ms::numeric
  FROM pieces
  UNION ALL SELECT 'credit_observed_minor_seconds_total', ARRAY[tier, rail, currency], amount_minor * ms::numeric
  FROM pieces WHERE cause_class = 'risk_observation'),
{_KEEP}"""  # noqa: S608  # parts of our own
# Counts everything else that is counted.
TALLIES = f"""
WITH place AS (SELECT xid, id FROM lag_monitor.metric_cursor WHERE name = $3 FOR UPDATE),
taken AS (
  SELECT f.* FROM place, LATERAL (
    SELECT * FROM lag_monitor.tally
    WHERE {_BEHIND} AND (xid, id) > (place.xid, place.id) ORDER BY xid, id LIMIT $1) AS f),
seen AS (SELECT metric, labels, ms, NULL AS trace_id, at FROM taken WHERE ms IS NOT NULL),
counted AS (SELECT metric, labels, 1::numeric AS n FROM taken WHERE ms IS NULL),
{_KEEP}"""  # noqa: S608  # parts of our own
# Age of the oldest fact that is not in the counters yet, seconds.
DELAY = """
SELECT coalesce(extract(epoch FROM clock_timestamp() - least(
  (SELECT at FROM lag_monitor.restoration_fact WHERE (xid, id) > (SELECT xid, id FROM lag_monitor.metric_cursor
    WHERE name = 'restoration') ORDER BY xid, id LIMIT 1),
  (SELECT at FROM lag_monitor.tally WHERE (xid, id) > (SELECT xid, id FROM lag_monitor.metric_cursor
    WHERE name = 'tally') ORDER BY xid, id LIMIT 1)))::double precision, 0) AS seconds
"""


async def project(connection: Connection, *, facts_max: int = FACTS_MAX) -> int:
    """Count at most ``facts_max`` facts of each kind; return how many were taken."""
    restored = await one(connection, RESTORATIONS, facts_max, EDGES_MS, "restoration")
    tallied = await one(connection, TALLIES, facts_max, EDGES_MS, "tally")
    return int(restored["taken"] + tallied["taken"])


async def project_all(connection: Connection, *, facts_max: int = FACTS_MAX) -> int:
    """Count until nothing more is behind the horizon; return how many facts were taken."""
    total = 0
    while taken := await project(connection, facts_max=facts_max):
        total += taken
    return total


async def delay_seconds(connection: Connection) -> float:
    """Return the age of the oldest fact that is not counted yet."""
    return float((await one(connection, DELAY))["seconds"])
