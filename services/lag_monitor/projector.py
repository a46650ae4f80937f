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
# What follows the CTEs ``spreads`` (a row a metric, labels and bucket) and ``counts`` (a row a metric and labels).
_KEEP = """
spread AS (
  INSERT INTO lag_monitor.metric_hist AS h (metric, labels, bucket, n, sum_ms, trace_id, trace_ms, trace_at)
  SELECT * FROM spreads
  ON CONFLICT (metric, labels, bucket) DO UPDATE SET n = h.n + excluded.n, sum_ms = h.sum_ms + excluded.sum_ms,
    trace_id = excluded.trace_id, trace_ms = excluded.trace_ms, trace_at = excluded.trace_at),
added AS (
  INSERT INTO lag_monitor.metric_count AS c (metric, labels, n) SELECT * FROM counts
  ON CONFLICT (metric, labels) DO UPDATE SET n = c.n + excluded.n),
moved AS (
  UPDATE lag_monitor.metric_cursor AS m SET xid = last.xid, id = last.id
  FROM (SELECT xid, id FROM taken ORDER BY xid DESC, id DESC LIMIT 1) AS last WHERE m.name = $3)
SELECT count(*) AS taken FROM taken
"""
_BEHIND = "xid < pg_snapshot_xmin(pg_current_snapshot())"
# Counts restored tranches but the probe's: the lag, what it was made of, and the credit it kept back. Rows are added up
# by plain columns first; labels are made of the few sums. OFFSET 0 makes segments be looked up by key, however many
# parts the planner expects.
RESTORATIONS = f"""
WITH place AS (SELECT xid, id FROM lag_monitor.metric_cursor WHERE name = $3 FOR UPDATE),
taken AS (
  SELECT f.* FROM place, LATERAL (
    SELECT * FROM lag_monitor.restoration_fact
    WHERE {_BEHIND} AND (xid, id) > (place.xid, place.id) ORDER BY xid, id LIMIT $1) AS f),
business AS (SELECT * FROM taken WHERE account_id <> 'probe'),
pieces AS (
  SELECT t.id, t.tier, t.rail, t.currency, t.amount_minor, s.stage, s.cause, s.ms
  FROM business t, LATERAL (
    SELECT stage, cause, ms FROM lag_monitor.lag_segment
    WHERE repayment_id = t.repayment_id AND tranche = t.tranche OFFSET 0) AS s),
spent AS (
  SELECT tier, rail, currency, stage, split_part(cause, '.', 1) AS cause_class, split_part(cause, '.', 2) AS cause,
    sum(ms) AS ms, sum(weighed) AS weighed
  FROM (SELECT tier, rail, currency, stage, cause, sum(ms) AS ms, sum(amount_minor * ms::numeric) AS weighed
        FROM pieces GROUP BY 1, 2, 3, 4, 5) AS each GROUP BY 1, 2, 3, 4, 5, 6),
phases AS (
  SELECT stage, CASE cause WHEN 'system_delay.kafka_queue' THEN 'queue' WHEN 'system_delay.processing' THEN 'process'
    ELSE 'wait' END AS phase, sum(ms)::bigint AS ms
  FROM pieces GROUP BY id, 1, 2),
spreads AS (
  SELECT 'credit_restoration_lag_seconds' AS metric, ARRAY[tier, split_part(cause, '.', 2)] AS labels, bucket,
    count(*), sum(lag_ms), (array_agg(repayment_id ORDER BY restored_at DESC))[1],
    (array_agg(lag_ms ORDER BY restored_at DESC))[1], max(restored_at)
  FROM (SELECT *, width_bucket(lag_ms - 1, $2::bigint[]) AS bucket FROM business) AS lag GROUP BY tier, cause, bucket
  UNION ALL
  SELECT 'credit_stage_duration_seconds', ARRAY[stage, phase], bucket, count(*), sum(ms), NULL, NULL, NULL
  FROM (SELECT *, width_bucket(ms - 1, $2::bigint[]) AS bucket FROM phases) AS lasted GROUP BY stage, phase, bucket),
counts AS (
  SELECT 'credit_restorations_total' AS metric, ARRAY[tier] AS labels, count(*)::numeric AS n FROM business
  GROUP BY tier
  UNION ALL SELECT 'credit_restored_minor_units_total', ARRAY[tier, rail, currency], sum(amount_minor) FROM business
  GROUP BY tier, rail, currency
  UNION ALL SELECT 'credit_unattributed_ms_total', '{{}}', sum(unattributed_ms) FROM business HAVING count(*) > 0
  UNION ALL SELECT 'credit_restoration_attributed_seconds_total', ARRAY[tier, stage, cause, cause_class], sum(ms)
  FROM spent GROUP BY tier, stage, cause, cause_class
  UNION ALL SELECT 'credit_withheld_minor_seconds_total', ARRAY[currency, cause_class], sum(weighed)
  FROM spent GROUP BY currency, cause_class
  UNION ALL SELECT 'credit_observed_minor_seconds_total', ARRAY[tier, rail, currency], sum(weighed)
  FROM spent WHERE cause_class = 'risk_observation' GROUP BY tier, rail, currency),
{_KEEP}"""  # noqa: S608  # parts of our own
# Counts everything else that is counted; what a batch counted more than once alike is one row.
TALLIES = f"""
WITH place AS (SELECT xid, id FROM lag_monitor.metric_cursor WHERE name = $3 FOR UPDATE),
taken AS (
  SELECT f.* FROM place, LATERAL (
    SELECT * FROM lag_monitor.tally
    WHERE {_BEHIND} AND (xid, id) > (place.xid, place.id) ORDER BY xid, id LIMIT $1) AS f),
spreads AS (
  SELECT metric, labels, width_bucket(ms - 1, $2::bigint[]), sum(n), sum(ms * n), NULL, NULL::bigint, NULL::timestamptz
  FROM taken WHERE ms IS NOT NULL GROUP BY 1, 2, 3),
counts AS (SELECT metric, labels, sum(n) FROM taken WHERE ms IS NULL GROUP BY 1, 2),
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
