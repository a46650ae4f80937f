-- migrate:up
-- The same invariants, asked so that large books take less: what is counted and joined is first narrowed to what can
-- break one. Sums of milliseconds are kept in bigint, which raises where it is too small; sum() makes a numeric a group.
CREATE AGGREGATE total(bigint) (SFUNC = int8pl, STYPE = bigint, COMBINEFUNC = int8pl, PARALLEL = SAFE);

-- I24: segments are numbered from 1. Each inner instant comes once as the end of the n-th and once as the beginning of the
-- one after it exactly when what is left of their hashes is the fact's own first beginning and last end.
DROP VIEW invariant_lag_tiles;
CREATE VIEW invariant_lag_tiles AS
SELECT f.repayment_id, f.tranche, f.lag_ms, f.unattributed_ms, coalesce(s.ms, 0) AS segments_ms, s.segments,
  s.left_over = timestamptz_hash_extended(f.restored_at, s.segments) # timestamptz_hash_extended(f.repaid_at, 0)
    AS in_a_row
FROM restoration_fact f
LEFT JOIN (
  SELECT repayment_id, tranche, total(ms) AS ms, count(*) AS segments,
    bit_xor(timestamptz_hash_extended(to_at, n) # timestamptz_hash_extended(from_at, n - 1)) AS left_over
  FROM lag_segment GROUP BY 1, 2) AS s USING (repayment_id, tranche)
WHERE f.lag_ms <> coalesce(s.ms, 0) OR f.unattributed_ms <> 0 OR (f.lag_ms > 0 AND s.left_over
  <> timestamptz_hash_extended(f.restored_at, s.segments) # timestamptz_hash_extended(f.repaid_at, 0));

-- I10: a repayment without any message is found without counting; counted are those that were decided more than once, of
-- which all but one decision have another version than 1. What time it is is asked once.
CREATE OR REPLACE VIEW invariant_restored_is_told AS
WITH several AS MATERIALIZED (
  SELECT DISTINCT repayment_id FROM limit_release.decision_record WHERE version <> 1),
unheard AS MATERIALIZED (
  SELECT d.repayment_id, d.version FROM limit_release.decision_record d
  WHERE NOT EXISTS (SELECT FROM notifier.notification n WHERE n.repayment_id = d.repayment_id)),
doubt AS MATERIALIZED (
  SELECT repayment_id, account_id, count(*) AS decisions, 0::bigint AS messages
  FROM limit_release.decision_record JOIN unheard USING (repayment_id, version)
  WHERE decided_at < (SELECT clock_timestamp()) - interval '60 seconds' GROUP BY 1, 2
  UNION ALL
  SELECT d.repayment_id, d.account_id, d.decisions, t.messages
  FROM (SELECT repayment_id, account_id, count(*) AS decisions
        FROM limit_release.decision_record JOIN several USING (repayment_id)
        WHERE decided_at < (SELECT clock_timestamp()) - interval '60 seconds' GROUP BY 1, 2) AS d
  JOIN (SELECT repayment_id, count(DISTINCT caused_by) AS messages
        FROM notifier.notification JOIN several USING (repayment_id) GROUP BY 1) AS t USING (repayment_id)
  WHERE d.decisions > t.messages)
SELECT d.* FROM doubt d
WHERE NOT EXISTS (SELECT FROM under_way u WHERE u.account_id = d.account_id AND u.reader = 'notifier')
UNION ALL
SELECT n.repayment_id, n.account_id, 1, 0 FROM notifier.delivery d JOIN notifier.notification n USING (notification_id)
WHERE d.state = 'requested' AND d.next_attempt_at < clock_timestamp() - interval '60 seconds';

-- I16: the repayment itself is only looked up where nothing is booked: it was returned, or had nothing to restore.
CREATE OR REPLACE VIEW invariant_settled_is_booked AS
WITH unlike AS MATERIALIZED (
  SELECT s.repayment_id, s.account_id, s.status, s.restorable_minor, j.pending_minor AS booked_minor
  FROM settlement.repayment s
  LEFT JOIN limit_release.journal j ON j.account_id = s.account_id AND j.kind = 'SETTLE' AND j.ref = s.repayment_id
  WHERE s.status IN ('settled', 'returned') AND (j.ref IS NULL OR j.pending_minor <> s.restorable_minor)),
doubt AS MATERIALIZED (
  SELECT u.* FROM unlike u
  WHERE u.booked_minor IS NOT NULL OR NOT EXISTS (SELECT FROM limit_release.repayment r
    WHERE r.repayment_id = u.repayment_id AND (r.returned OR (r.assessed AND u.restorable_minor = 0))))
SELECT d.* FROM doubt d WHERE d.booked_minor IS NOT NULL
  OR NOT EXISTS (SELECT FROM under_way u
    WHERE u.account_id = d.account_id AND u.reader IN ('risk-scoring', 'limit-release'));
