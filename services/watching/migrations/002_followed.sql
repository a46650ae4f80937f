-- migrate:up
-- In which order restored parts became facts, for who follows them: a transaction below the snapshot's xmin is over.
CREATE OR REPLACE VIEW restoration AS
SELECT repayment_id, tranche, amount_minor, currency, tier, cause, repaid_at, restored_at, lag_ms, repayment_id AS trace_id,
  xid, id
FROM lag_monitor.restoration_fact;
