-- migrate:up
-- The same invariants, asked so that large books take less. sum() of bigint is a numeric, which costs more than all the
-- rest where every repayment is a group; amounts are bounded far below what a bigint holds, and beyond it this raises.
CREATE AGGREGATE total(bigint) (SFUNC = int8pl, STYPE = bigint, COMBINEFUNC = int8pl, PARALLEL = SAFE);

-- I2: as before, summed in bigint.
CREATE OR REPLACE VIEW invariant_limit_identity AS
SELECT a.account_id, a.credit_limit_minor, j.limit_minor::numeric AS limit_minor, a.available_minor,
  j.available_minor::numeric AS journal_available
FROM account a
JOIN (SELECT account_id, total(limit_minor) AS limit_minor, total(available_minor) AS available_minor,
        total(used_debt_minor) AS used_debt_minor, total(used_authorisation_minor) AS used_authorisation_minor,
        total(pending_minor) AS pending_minor FROM journal GROUP BY 1) j USING (account_id)
WHERE (a.credit_limit_minor, a.available_minor, a.used_debt_minor, a.used_authorisation_minor, a.pending_minor)
  <> (j.limit_minor, j.available_minor, j.used_debt_minor, j.used_authorisation_minor, j.pending_minor)
  OR a.available_minor + a.used_debt_minor + a.used_authorisation_minor + a.pending_minor <> a.credit_limit_minor;

-- I3: as before, summed in bigint.
CREATE OR REPLACE VIEW invariant_restorable_conserved AS
SELECT r.repayment_id, r.restorable_minor, r.reallocated_minor, r.reallocated_available_minor,
  coalesce(t.amount_minor, 0)::numeric AS in_tranches
FROM repayment r LEFT JOIN (SELECT repayment_id, total(amount_minor) AS amount_minor FROM tranche GROUP BY 1) t
  USING (repayment_id)
WHERE r.assessed
  AND r.restorable_minor + r.reallocated_minor <> coalesce(t.amount_minor, 0) + r.reallocated_available_minor
  AND NOT (r.returned AND t.amount_minor IS NULL);

-- I5: in the tranche's own account, and row by row only where the two sides are not the same as a whole: the sum of a hash
-- of each with its amount, which nothing that is missing, doubled or of another amount leaves as it was.
CREATE OR REPLACE VIEW invariant_restored_once AS
WITH t AS NOT MATERIALIZED (
  SELECT account_id, repayment_id || ':' || number AS ref, amount_minor AS minor FROM tranche
  WHERE restored_at IS NOT NULL),
j AS NOT MATERIALIZED (SELECT account_id, ref, available_minor AS minor FROM journal WHERE kind = 'RELEASE')
SELECT coalesce(t.ref, j.ref) AS ref FROM t FULL JOIN j USING (account_id, ref)
WHERE (t.ref IS NULL OR j.ref IS NULL OR t.minor <> j.minor)
  AND (SELECT sum(hashtextextended(account_id || ' ' || ref, minor)) FROM t) IS DISTINCT FROM
    (SELECT sum(hashtextextended(account_id || ' ' || ref, minor)) FROM j);

-- I8: as before, summed in bigint.
CREATE OR REPLACE VIEW invariant_shown_is_true AS
SELECT a.account_id, a.shown_minor, a.zero_reason, j.available_minor
FROM account a
JOIN (SELECT account_id, total(available_minor) AS available_minor FROM journal GROUP BY 1) j USING (account_id)
CROSS JOIN LATERAL (SELECT CASE WHEN a.status <> 'active' THEN 0 ELSE greatest(0, j.available_minor
  + CASE WHEN a.spendable THEN a.credit_balance_minor ELSE 0 END) END AS shown_minor) t
CROSS JOIN LATERAL (SELECT CASE
  WHEN t.shown_minor > 0 THEN NULL
  WHEN a.status = 'closed' THEN 'ACCOUNT_CLOSED'
  WHEN a.status = 'frozen' AND a.status_reason IN ('overdue', 'overdue_elsewhere') THEN 'ACCOUNT_OVERDUE'
  WHEN a.status = 'frozen' THEN 'ACCOUNT_FROZEN'
  WHEN a.limit_lowered_at IS NOT NULL THEN 'LIMIT_LOWERED'
  WHEN j.available_minor < 0 THEN 'OVER_LIMIT' END AS zero_reason) w
WHERE a.shown_minor <> t.shown_minor OR a.zero_reason IS DISTINCT FROM w.zero_reason;
