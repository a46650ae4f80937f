-- migrate:up
-- What Grafana may ask: views only, in a schema of their own, for a role that only reads (its SQL is not checked by Grafana).

-- What waits and can still be restored, with the nearest promise of its parts.
CREATE VIEW waiting AS
SELECT j.repayment_id, j.account_id, j.stage, j.cause_class, j.cause, j.tier, j.rail, j.amount_minor, j.currency, j.repaid_at,
  j.since, j.waits_from, j.due_at, p.promised_by, extract(epoch FROM clock_timestamp() - j.waits_from) AS waiting_seconds
FROM lag_monitor.journey j
LEFT JOIN LATERAL (
  SELECT min(promised_by) AS promised_by FROM lag_monitor.part
  WHERE part.repayment_id = j.repayment_id AND state IN ('promised', 'held', 'parked')) p ON true
WHERE j.outcome IS NULL AND j.stage IS NOT NULL;

CREATE VIEW journey AS
SELECT repayment_id, account_id, source, rail, amount_minor, currency, tier, repaid_at, stage, cause_class, cause, since, due_at,
  outcome, nullif(reason, '') AS reason
FROM lag_monitor.journey;

CREATE VIEW segment AS
SELECT repayment_id, tranche, n, stage, cause, from_at, to_at, ms FROM lag_monitor.lag_segment;

-- A repayment's trace has its id.
CREATE VIEW restoration AS
SELECT repayment_id, tranche, amount_minor, currency, tier, cause, repaid_at, restored_at, lag_ms, repayment_id AS trace_id
FROM lag_monitor.restoration_fact;

-- What was owed by when; late is how long after its deadline it ended, or how long it is overdue.
CREATE VIEW promise AS
SELECT repayment_id, tranche, slo, deadline_at, outcome, over_at,
  greatest(0, round(1000 * extract(epoch FROM coalesce(over_at, clock_timestamp()) - deadline_at)))::bigint AS late_ms
FROM lag_monitor.sla_promise;

CREATE VIEW message AS
SELECT n.repayment_id, n.requested_at AS at, n.channel, n.template, n.language, n.text, d.state, d.ended_at
FROM notifier.notification n JOIN notifier.delivery d USING (notification_id)
WHERE n.repayment_id IS NOT NULL;

GRANT SELECT ON waiting, journey, segment, restoration, promise, message TO otb_watching;
