-- migrate:up
-- What joins services (reliability 2): every service's books seen at one instant, under the observer's name.

-- Accounts of which a service has told something that the next one has not taken in, or has set aside; what was lost on
-- the way is no longer under way after a day. Who asks names the readers it is about.
CREATE VIEW under_way AS
SELECT 'risk-scoring' AS reader, o.account_id FROM settlement.outbox o
WHERE o.occurred_at > clock_timestamp() - interval '1 day'
  AND NOT EXISTS (SELECT FROM risk_scoring.inbox i WHERE i.event_id = o.event_id)
UNION ALL SELECT 'risk-scoring', account_id FROM risk_scoring.set_aside WHERE state IN ('open', 'ready')
UNION ALL SELECT 'limit-release', o.account_id FROM settlement.outbox o
WHERE o.occurred_at > clock_timestamp() - interval '1 day'
  AND NOT EXISTS (SELECT FROM limit_release.inbox i WHERE i.event_id = o.event_id)
UNION ALL SELECT 'limit-release', o.account_id FROM risk_scoring.outbox o
WHERE o.occurred_at > clock_timestamp() - interval '1 day' AND o.topic = 'repayment.risk.v1'
  AND NOT EXISTS (SELECT FROM limit_release.inbox i WHERE i.event_id = o.event_id)
UNION ALL SELECT 'limit-release', account_id FROM limit_release.set_aside WHERE state IN ('open', 'ready')
UNION ALL SELECT 'notifier', o.account_id FROM limit_release.outbox o
WHERE o.occurred_at > clock_timestamp() - interval '1 day'
  AND NOT EXISTS (SELECT FROM notifier.inbox i WHERE i.event_id = o.event_id)
UNION ALL SELECT 'notifier', account_id FROM notifier.set_aside WHERE state IN ('open', 'ready')
UNION ALL SELECT 'console', o.account_id FROM limit_release.outbox o
WHERE o.occurred_at > clock_timestamp() - interval '1 day'
  AND NOT EXISTS (SELECT FROM console.inbox i WHERE i.event_id = o.event_id)
UNION ALL SELECT 'console', account_id FROM console.set_aside WHERE state IN ('open', 'ready');

-- I16: what settlement says may be restored, limit-release booked.
CREATE VIEW invariant_settled_is_booked AS
WITH doubt AS MATERIALIZED (
  SELECT s.repayment_id, s.account_id, s.status, s.restorable_minor, j.pending_minor AS booked_minor
  FROM settlement.repayment s
  LEFT JOIN limit_release.journal j ON j.account_id = s.account_id AND j.kind = 'SETTLE' AND j.ref = s.repayment_id
  LEFT JOIN limit_release.repayment r ON r.repayment_id = s.repayment_id
  WHERE s.status IN ('settled', 'returned')
    AND (j.pending_minor <> s.restorable_minor
      OR (j.ref IS NULL AND s.restorable_minor > 0 AND NOT coalesce(r.returned, false))
      OR (j.ref IS NULL AND NOT coalesce(r.assessed OR r.returned, false))))
SELECT d.* FROM doubt d WHERE d.booked_minor IS NOT NULL
  OR NOT EXISTS (SELECT FROM under_way u
    WHERE u.account_id = d.account_id AND u.reader IN ('risk-scoring', 'limit-release'));

-- I16, and back: nothing is booked that settlement did not settle, where a settlement runs.
CREATE VIEW invariant_booked_is_settled AS
SELECT j.ref AS repayment_id, j.account_id, j.pending_minor FROM limit_release.journal j
LEFT JOIN settlement.repayment s ON s.repayment_id = j.ref
WHERE j.kind = 'SETTLE' AND (s.repayment_id IS NULL OR s.status NOT IN ('settled', 'returned'))
  AND EXISTS (SELECT FROM settlement.progress);

-- I18: a return that settlement accepted is taken back.
CREATE VIEW invariant_returns_applied AS
WITH doubt AS MATERIALIZED (
  SELECT s.repayment_id, s.account_id FROM settlement.repayment s
  LEFT JOIN limit_release.repayment r ON r.repayment_id = s.repayment_id
  WHERE s.status = 'returned' AND NOT coalesce(r.returned, false))
SELECT d.* FROM doubt d
WHERE NOT EXISTS (SELECT FROM under_way u WHERE u.account_id = d.account_id AND u.reader = 'limit-release');

-- I10: every decision older than a minute has a message, and a message whose time has come is tried.
CREATE VIEW invariant_restored_is_told AS
WITH doubt AS MATERIALIZED (
  SELECT d.repayment_id, d.account_id, d.decisions, coalesce(t.messages, 0) AS messages
  FROM (SELECT repayment_id, account_id, count(*) AS decisions FROM limit_release.decision_record
        WHERE decided_at < clock_timestamp() - interval '60 seconds' GROUP BY 1, 2) AS d
  LEFT JOIN (SELECT repayment_id, count(DISTINCT caused_by) AS messages FROM notifier.notification GROUP BY 1) AS t
    USING (repayment_id)
  WHERE d.decisions > coalesce(t.messages, 0))
SELECT d.* FROM doubt d
WHERE NOT EXISTS (SELECT FROM under_way u WHERE u.account_id = d.account_id AND u.reader = 'notifier')
UNION ALL
SELECT n.repayment_id, n.account_id, 1, 0 FROM notifier.delivery d JOIN notifier.notification n USING (notification_id)
WHERE d.state = 'requested' AND d.next_attempt_at < clock_timestamp() - interval '60 seconds';

-- A promise told as broken is a case, where a console runs.
CREATE VIEW invariant_broken_is_a_case AS
WITH doubt AS MATERIALIZED (
  SELECT b.repayment_id, b.number, b.account_id FROM (
    SELECT account_id, repayment_id, number FROM limit_release.tranche WHERE delayed
    UNION SELECT account_id, repayment_id, 1 FROM limit_release.repayment WHERE late) AS b
  LEFT JOIN console.case_file c
    ON c.repayment_id = b.repayment_id AND c.tranche = b.number AND c.kind = 'promise_broken'
  WHERE c.case_id IS NULL AND EXISTS (SELECT FROM console.progress WHERE topic = 'credit.restoration.v1'))
SELECT d.* FROM doubt d
WHERE NOT EXISTS (SELECT FROM under_way u WHERE u.account_id = d.account_id AND u.reader = 'console');

-- I17: both ledgers owe the same. In limit-release that is USED(debt) and the charges beside it, less the credit balance
-- and the overpayments that wait for their last hold; principal always uses the limit. Judged while both have read as
-- much of what billing tells of accounts, and of accounts of which nothing is under way.
CREATE VIEW invariant_debt_reconciles AS
WITH overpaid AS (
  SELECT account_id, sum(credit_balance_minor + reallocated_balance_minor) AS minor FROM limit_release.repayment
  WHERE assessed AND NOT joined AND NOT returned GROUP BY 1),
both_ledgers AS (
  SELECT r.account_id, r.used_debt_minor, s.principal_minor,
    r.used_debt_minor + r.charges_minor - r.credit_balance_minor - coalesce(o.minor, 0) AS here_minor,
    s.penalty_minor + s.fee_minor + s.interest_minor + s.principal_minor - s.credit_balance_minor AS there_minor
  FROM limit_release.account r JOIN settlement.account s USING (account_id) LEFT JOIN overpaid o USING (account_id)
  WHERE r.status <> 'closed'),
doubt AS MATERIALIZED (
  SELECT * FROM both_ledgers WHERE here_minor <> there_minor OR used_debt_minor < principal_minor)
SELECT d.* FROM doubt d
WHERE NOT EXISTS (
    SELECT FROM settlement.progress s
    FULL JOIN limit_release.progress r ON r.topic = s.topic AND r.partition = s.partition
    WHERE coalesce(s.topic, r.topic) = 'billing.account.v1' AND s.next_offset IS DISTINCT FROM r.next_offset)
  AND NOT EXISTS (SELECT FROM settlement.set_aside a WHERE a.account_id = d.account_id AND a.state IN ('open', 'ready'))
  AND NOT EXISTS (SELECT FROM under_way u
    WHERE u.account_id = d.account_id AND u.reader IN ('risk-scoring', 'limit-release'));

-- I19: what came back after its promise was told as delayed, with a cause: by the case that telling it opened, or by the
-- fact itself where no case tells of it yet.
CREATE VIEW invariant_late_is_explained AS
WITH doubt AS MATERIALIZED (
  SELECT t.repayment_id, t.number, t.account_id, t.promised_by, t.restored_at FROM limit_release.tranche t
  LEFT JOIN console.case_file c
    ON c.repayment_id = t.repayment_id AND c.tranche = t.number AND c.kind = 'promise_broken' AND c.detail LIKE '_%._%'
  WHERE t.restored_at > t.promised_by AND c.case_id IS NULL)
SELECT d.* FROM doubt d
WHERE NOT EXISTS (
  SELECT FROM limit_release.outbox o
  CROSS JOIN LATERAL (SELECT convert_from(o.payload, 'UTF8')::json AS told) p
  WHERE o.account_id = d.account_id AND o.event_type = 'opentobuy.credit.restoration.RestorationDelayed.v1'
    AND p.told ->> 'repayment_id' = d.repayment_id AND (p.told ->> 'tranche')::integer = d.number
    AND p.told ->> 'cause' LIKE '_%._%');

-- I20: a repayment, its account in both ledgers, and so its journals, are in one currency.
CREATE VIEW invariant_currency_matches AS
SELECT a.account_id, NULL AS repayment_id, a.currency, s.currency AS other
FROM limit_release.account a JOIN settlement.account s USING (account_id) WHERE a.currency <> s.currency
UNION ALL
SELECT r.account_id, r.repayment_id, a.currency, r.currency
FROM limit_release.repayment r JOIN limit_release.account a USING (account_id)
WHERE r.currency NOT IN ('', a.currency)
UNION ALL
SELECT r.account_id, r.repayment_id, r.currency, j.currency
FROM limit_release.repayment r JOIN lag_monitor.journey j USING (repayment_id)
WHERE r.currency <> '' AND j.currency NOT IN ('', r.currency);

-- I21: what the workers noted by one clock is in order.
CREATE VIEW invariant_steps_in_order AS
SELECT j.repayment_id, j.settled_at, j.assessed_at, j.decided_at, p.number, p.restored_at
FROM lag_monitor.journey j LEFT JOIN lag_monitor.part p USING (repayment_id)
WHERE j.settled_at > j.assessed_at OR j.settled_at > j.decided_at OR p.restored_at < j.decided_at;

-- I15: a dead letter stands where its service has read, and a minute later its copy is on the dead-letter topic of the
-- services that have one.
CREATE VIEW invariant_dead_letters_accounted AS
WITH letter AS (
  SELECT 'repayment-ingest' AS service, topic, partition, "offset", published_at, first_seen_at
  FROM repayment_ingest.set_aside WHERE kind = 'dead_letter'
  UNION ALL SELECT 'settlement', topic, partition, "offset", published_at, first_seen_at
  FROM settlement.set_aside WHERE kind = 'dead_letter'
  UNION ALL SELECT 'risk-scoring', topic, partition, "offset", published_at, first_seen_at
  FROM risk_scoring.set_aside WHERE kind = 'dead_letter'
  UNION ALL SELECT 'limit-release', topic, partition, "offset", published_at, first_seen_at
  FROM limit_release.set_aside WHERE kind = 'dead_letter'
  UNION ALL SELECT 'notifier', topic, partition, "offset", published_at, first_seen_at
  FROM notifier.set_aside WHERE kind = 'dead_letter'
  UNION ALL SELECT 'console', topic, partition, "offset", published_at, first_seen_at
  FROM console.set_aside WHERE kind = 'dead_letter')
SELECT l.service, l.topic, l.partition, l."offset" FROM letter l
LEFT JOIN reading r USING (service, topic, partition)
WHERE l."offset" >= coalesce(r.next_offset, 0)
  OR l.published_at IS NULL AND l.first_seen_at < clock_timestamp() - interval '60 seconds';
