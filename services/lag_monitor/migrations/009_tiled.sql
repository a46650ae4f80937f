-- migrate:up
-- I24, asked again without sorting every segment: the n-th ends where the one after it begins exactly when each inner
-- instant comes once as an end and once as a beginning under the same number. What is left of the sums is the first
-- beginning and the last end; the hash is of 62 bits, with the number as its seed.
DROP VIEW invariant_lag_tiles;
CREATE VIEW invariant_lag_tiles AS
SELECT f.repayment_id, f.tranche, f.lag_ms, f.unattributed_ms, coalesce(s.ms, 0) AS segments_ms, s.from_at, s.to_at,
  s.left_over = (timestamptz_hash_extended(s.to_at, s.last) >> 2)
    - (timestamptz_hash_extended(s.from_at, s.first - 1) >> 2) AS in_a_row
FROM restoration_fact f
LEFT JOIN (
  SELECT repayment_id, tranche, sum(ms) AS ms, min(from_at) AS from_at, max(to_at) AS to_at, min(n) AS first,
    max(n) AS last, sum((timestamptz_hash_extended(to_at, n) >> 2) - (timestamptz_hash_extended(from_at, n - 1) >> 2))
      AS left_over
  FROM lag_segment GROUP BY 1, 2) AS s USING (repayment_id, tranche)
WHERE f.lag_ms <> coalesce(s.ms, 0) OR f.unattributed_ms <> 0 OR (f.lag_ms > 0 AND (
  (s.from_at, s.to_at) IS DISTINCT FROM (f.repaid_at, f.restored_at)
  OR s.left_over <> (timestamptz_hash_extended(s.to_at, s.last) >> 2)
    - (timestamptz_hash_extended(s.from_at, s.first - 1) >> 2)));
