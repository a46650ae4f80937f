-- migrate:up
-- One row a repayment: where it is now and why. What was not heard yet is null; topics may be heard in any order.
CREATE TABLE journey (
  repayment_id text PRIMARY KEY,
  account_id text NOT NULL,
  source text NOT NULL,
  rail text NOT NULL,
  amount_minor bigint NOT NULL CHECK (amount_minor >= 0),
  currency text NOT NULL,
  repaid_at timestamptz,
  reported text CHECK (reported IN ('pending', 'succeeded')),
  reported_at timestamptz,
  received text CHECK (received IN ('pending', 'succeeded', 'failed')),
  received_at timestamptz,
  settled_at timestamptz,
  assessed_at timestamptz,
  decided_at timestamptz,
  tier text CHECK (tier IN ('low', 'medium', 'high', 'unknown')),
  clear boolean,
  counted boolean NOT NULL,
  pending text NOT NULL CHECK (pending IS JSON ARRAY),
  unplaced text NOT NULL CHECK (unplaced IS JSON ARRAY),
  outcome text CHECK (outcome IN ('restored', 'nothing_to_restore', 'returned', 'lapsed', 'rejected')),
  reason text NOT NULL,
  stage text,
  cause_class text,
  cause text,
  since timestamptz,
  -- From when the wait counts: since we could have gone on where the delay is ours, else since it was repaid.
  waits_from timestamptz,
  due_at timestamptz,
  -- What of it waits, minor units; and until when what was given back can still be taken away.
  waiting_minor bigint NOT NULL DEFAULT 0 CHECK (waiting_minor >= 0),
  returnable_until date,
  version bigint NOT NULL,
  CHECK ((stage IS NULL) = (cause IS NULL) AND (cause IS NULL) = (cause_class IS NULL)),
  CHECK (stage IS NULL OR (outcome IS NULL AND waits_from IS NOT NULL))
) WITH (fillfactor = 70);
-- The oldest that waits, by stage and cause class, without touching the rows (lag 3.4).
CREATE INDEX journey_waiting ON journey (stage, cause_class, waits_from) INCLUDE (waiting_minor) WHERE outcome IS NULL;
CREATE INDEX journey_returnable ON journey (returnable_until) WHERE returnable_until IS NOT NULL;
CREATE INDEX journey_of_probe ON journey (reported_at) WHERE account_id = 'probe';
CREATE INDEX journey_reported ON journey (reported_at);
CREATE INDEX journey_due ON journey (due_at) WHERE outcome IS NULL AND due_at IS NOT NULL;

CREATE TABLE part (
  repayment_id text NOT NULL,
  number integer NOT NULL CHECK (number BETWEEN 1 AND 99),
  amount_minor bigint NOT NULL CHECK (amount_minor > 0),
  currency text NOT NULL,
  state text NOT NULL CHECK (state IN ('promised', 'held', 'parked', 'restored', 'returned', 'reversed', 'lapsed')),
  cause text NOT NULL,
  since timestamptz NOT NULL,
  until timestamptz,
  promised_by timestamptz,
  basis text CHECK (basis IN ('clear', 'hold')),
  caused_by text NOT NULL,
  restored_at timestamptz,
  told_at timestamptz,
  PRIMARY KEY (repayment_id, number),
  CHECK ((promised_by IS NULL) = (basis IS NULL))
) WITH (fillfactor = 80);
CREATE INDEX part_waiting ON part (cause, promised_by) INCLUDE (amount_minor, currency) WHERE state IN ('held', 'parked');

-- What is owed by when: eligibility and the first deadline are fixed when the row is made; met or breached once.
CREATE TABLE sla_promise (
  repayment_id text NOT NULL,
  tranche integer NOT NULL,
  slo text NOT NULL CHECK (slo IN ('decided_60s', 'low_risk_5s', 'low_risk_60s', 'hold_promise', 'notify_60s',
    'probe_60s')),
  deadline_at timestamptz NOT NULL,
  outcome text CHECK (outcome IN ('met', 'breached', 'void')),
  decided_at timestamptz,
  over_at timestamptz,
  PRIMARY KEY (repayment_id, tranche, slo),
  CHECK ((outcome IS NULL) = (decided_at IS NULL))
) WITH (fillfactor = 80);
CREATE INDEX sla_promise_open ON sla_promise (deadline_at) WHERE outcome IS NULL;
CREATE INDEX sla_promise_overdue ON sla_promise (slo) WHERE outcome = 'breached' AND over_at IS NULL;
CREATE FUNCTION decided_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.deadline_at <> OLD.deadline_at OR (OLD.outcome IS NOT NULL AND NEW.outcome IS DISTINCT FROM OLD.outcome) THEN
    RAISE EXCEPTION 'promise % of %:% is fixed', OLD.slo, OLD.repayment_id, OLD.tranche
      USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER sla_promise_decided_once BEFORE UPDATE ON sla_promise FOR EACH ROW EXECUTE FUNCTION decided_once();

-- Messages to the customer; one that is about no repayment stands apart.
CREATE TABLE notice (
  notification_id text PRIMARY KEY,
  subject text NOT NULL,
  caused_by text NOT NULL,
  channel text NOT NULL,
  template text NOT NULL,
  state text NOT NULL CHECK (state IN ('requested', 'delivered', 'undeliverable', 'suppressed')),
  at timestamptz NOT NULL
);
CREATE INDEX notice_by_subject ON notice (subject);

-- When a person had a service stand still, who and why; open while it lasts. Its queue's time is then the pause's.
CREATE TABLE operator_pause (
  service text NOT NULL,
  stage text NOT NULL CHECK (stage IN ('ingest', 'settlement', 'risk', 'release', 'notify')),
  from_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  to_at timestamptz,
  actor text NOT NULL,
  reason text NOT NULL,
  ended_by text,
  PRIMARY KEY (service, from_at),
  CHECK (to_at > from_at),
  CHECK ((to_at IS NULL) = (ended_by IS NULL))
);
CREATE UNIQUE INDEX operator_pause_open ON operator_pause (service) WHERE to_at IS NULL;

-- What tiles [repaid_at, restored_at] of a restored tranche, in whole milliseconds (lag 1).
CREATE TABLE lag_segment (
  repayment_id text NOT NULL,
  tranche integer NOT NULL,
  n integer NOT NULL,
  stage text NOT NULL CHECK (stage IN ('report', 'ingest', 'settlement', 'risk', 'release')),
  cause text NOT NULL,
  from_at timestamptz NOT NULL,
  to_at timestamptz NOT NULL,
  ms bigint NOT NULL,
  PRIMARY KEY (repayment_id, tranche, n),
  CHECK (ms > 0 AND to_at = from_at + ms * interval '1 millisecond')
);
CREATE TABLE restoration_fact (
  repayment_id text NOT NULL,
  tranche integer NOT NULL,
  account_id text NOT NULL,
  lag_ms bigint NOT NULL CHECK (lag_ms >= 0),
  unattributed_ms bigint NOT NULL CHECK (unattributed_ms BETWEEN 0 AND lag_ms),
  amount_minor bigint NOT NULL CHECK (amount_minor > 0),
  currency text NOT NULL,
  tier text NOT NULL,
  rail text NOT NULL,
  cause text NOT NULL,
  repaid_at timestamptz NOT NULL,
  restored_at timestamptz NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  id bigint GENERATED ALWAYS AS IDENTITY,
  PRIMARY KEY (repayment_id, tranche),
  CHECK (restored_at = repaid_at + lag_ms * interval '1 millisecond')
);
CREATE UNIQUE INDEX restoration_fact_order ON restoration_fact (xid, id);
CREATE INDEX restoration_fact_by_time ON restoration_fact (restored_at);
-- What else is counted, one row a count; a duration where ms is given.
CREATE TABLE tally (
  metric text NOT NULL,
  labels text[] NOT NULL,
  ms bigint CHECK (ms >= 0),
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  id bigint GENERATED ALWAYS AS IDENTITY,
  PRIMARY KEY (xid, id)
);
CREATE TRIGGER tally_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON tally
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER lag_segment_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON lag_segment
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER restoration_fact_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON restoration_fact
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What is exported: counts by metric and labels in the catalogue's order, and how far each kind of fact was projected.
-- A bucket counts durations above the edge before it up to its own; its latest fact is the exemplar.
CREATE TABLE metric_hist (
  metric text NOT NULL,
  labels text[] NOT NULL,
  bucket integer NOT NULL,
  n bigint NOT NULL,
  sum_ms bigint NOT NULL,
  trace_id text,
  trace_ms bigint,
  trace_at timestamptz,
  PRIMARY KEY (metric, labels, bucket)
) WITH (fillfactor = 50);
CREATE TABLE metric_count (
  metric text NOT NULL,
  labels text[] NOT NULL,
  n numeric NOT NULL,
  PRIMARY KEY (metric, labels)
) WITH (fillfactor = 50);
CREATE TABLE metric_cursor (
  name text PRIMARY KEY,
  xid xid8 NOT NULL,
  id bigint NOT NULL
) WITH (fillfactor = 50);
INSERT INTO metric_cursor VALUES ('restoration', '0', 0), ('tally', '0', 0);

-- I24: the segments of every restored tranche tile its lag to the millisecond, and nothing of it is unexplained.
CREATE VIEW invariant_lag_tiles AS
SELECT f.repayment_id, f.tranche, f.lag_ms, f.unattributed_ms, coalesce(s.ms, 0) AS segments_ms, s.gaps
FROM restoration_fact f
LEFT JOIN (
  SELECT repayment_id, tranche, sum(ms) AS ms, min(from_at) AS from_at, max(to_at) AS to_at,
    count(*) FILTER (WHERE from_at <> came_from) AS gaps
  FROM (SELECT *, lag(to_at, 1, from_at) OVER (PARTITION BY repayment_id, tranche ORDER BY n) AS came_from
        FROM lag_segment) AS each
  GROUP BY 1, 2) AS s USING (repayment_id, tranche)
WHERE f.lag_ms <> coalesce(s.ms, 0) OR f.unattributed_ms <> 0 OR s.gaps > 0
  OR (f.lag_ms > 0 AND (s.from_at, s.to_at) IS DISTINCT FROM (f.repaid_at, f.restored_at));

-- I24: every restored tranche of which all was heard is measured.
CREATE VIEW invariant_restored_is_measured AS
SELECT p.repayment_id, p.number, p.restored_at FROM part p
JOIN journey j USING (repayment_id)
LEFT JOIN restoration_fact f ON f.repayment_id = p.repayment_id AND f.tranche = p.number
WHERE p.restored_at IS NOT NULL AND f.repayment_id IS NULL AND j.unplaced = '[]';

-- I24: what waits has a stage and a cause.
CREATE VIEW invariant_waits_have_a_cause AS
SELECT repayment_id, outcome, stage, cause FROM journey
WHERE outcome IS NULL AND repaid_at IS NOT NULL AND stage IS NULL AND account_id <> 'probe';

-- What each service has committed and Kafka has not acknowledged.
CREATE VIEW outbox_waiting AS
SELECT 'repayment-ingest' AS service, count(*) AS publications, min(created_at) AS oldest_at
FROM repayment_ingest.publication WHERE published_at IS NULL
UNION ALL SELECT 'settlement', count(*), min(created_at) FROM settlement.publication WHERE published_at IS NULL
UNION ALL SELECT 'risk-scoring', count(*), min(created_at) FROM risk_scoring.publication WHERE published_at IS NULL
UNION ALL SELECT 'limit-release', count(*), min(created_at) FROM limit_release.publication WHERE published_at IS NULL
UNION ALL SELECT 'notifier', count(*), min(created_at) FROM notifier.publication WHERE published_at IS NULL;

-- What each service reads, and how far its books are.
CREATE VIEW reading AS
SELECT 'repayment-ingest' AS service, topic, partition, next_offset FROM repayment_ingest.progress
UNION ALL SELECT 'settlement', topic, partition, next_offset FROM settlement.progress
UNION ALL SELECT 'risk-scoring', topic, partition, next_offset FROM risk_scoring.progress
UNION ALL SELECT 'limit-release', topic, partition, next_offset FROM limit_release.progress
UNION ALL SELECT 'notifier', topic, partition, next_offset FROM notifier.progress
UNION ALL SELECT 'lag-monitor', topic, partition, next_offset FROM progress;

-- Dead letters nobody closed, by the stage of the service they stopped in.
CREATE VIEW dead_letter_open AS
SELECT 'ingest' AS stage, reason, first_seen_at FROM repayment_ingest.set_aside
WHERE kind = 'dead_letter' AND state = 'open'
UNION ALL SELECT 'settlement', reason, first_seen_at FROM settlement.set_aside
WHERE kind = 'dead_letter' AND state = 'open'
UNION ALL SELECT 'risk', reason, first_seen_at FROM risk_scoring.set_aside
WHERE kind = 'dead_letter' AND state = 'open'
UNION ALL SELECT 'release', reason, first_seen_at FROM limit_release.set_aside
WHERE kind = 'dead_letter' AND state = 'open'
UNION ALL SELECT 'notify', reason, first_seen_at FROM notifier.set_aside
WHERE kind = 'dead_letter' AND state = 'open';

-- Cases a person has not resolved; the console keeps them.
CREATE VIEW case_waiting AS
SELECT kind, priority, cases, oldest_due_at FROM console.case_board;

-- What the availability ledger is off by, which must be nothing.
CREATE VIEW imbalance AS
SELECT currency, sum(abs(available_minor + used_debt_minor + used_authorisation_minor + pending_minor
  - credit_limit_minor)) AS minor
FROM limit_release.account GROUP BY 1;

-- How many rows break each invariant of every service, at most a thousand and one of each: the views are the services',
-- and this is all that a reader of the ledger is told of them.
CREATE FUNCTION invariant_counts() RETURNS TABLE (invariant text, violations bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
  named record;
  found bigint;
BEGIN
  FOR named IN SELECT schemaname, viewname FROM pg_views WHERE viewname LIKE 'invariant\_%' ORDER BY 1, 2 LOOP
    EXECUTE format('SELECT count(*) FROM (SELECT FROM %I.%I LIMIT 1001) AS broken', named.schemaname, named.viewname)
      INTO found;
    invariant := named.schemaname || '.' || substr(named.viewname, 11);
    violations := found;
    RETURN NEXT;
  END LOOP;
END $$;
