-- migrate:up
-- A worker's session knows one plan, by key and row for row, which is right for a batch. The invariants read whole tables:
-- planned so, 8,000 repayments took 7 s and 16,000 more than a statement may take.
ALTER FUNCTION invariant_counts() SET enable_seqscan = on;
ALTER FUNCTION invariant_counts() SET enable_hashjoin = on;
ALTER FUNCTION invariant_counts() SET enable_mergejoin = on;
