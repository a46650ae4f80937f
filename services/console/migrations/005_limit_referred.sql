-- migrate:up
-- A limit somebody has to look at is a case, which ends with what becomes of the limit.
DO $$
DECLARE
  named text;
BEGIN
  SELECT conname INTO STRICT named FROM pg_constraint
  WHERE conrelid = 'case_file'::regclass AND contype = 'c' AND pg_get_constraintdef(oid) LIKE '%hold_kept%';
  EXECUTE format('ALTER TABLE case_file DROP CONSTRAINT %I', named);
END $$;
ALTER TABLE case_file ADD CONSTRAINT case_file_outcome CHECK (outcome IN ('credit_restored', 'hold_kept',
  'books_corrected', 'explained', 'nothing_to_do', 'limit_raised', 'limit_kept', 'limit_refused'));
ALTER TABLE case_file DROP CONSTRAINT case_file_kind;
ALTER TABLE case_file ADD CONSTRAINT case_file_kind CHECK (kind IN ('promise_broken', 'referred', 'pattern_seen',
  'conflicting_report', 'rail_silent', 'account_unknown', 'return_unmatched', 'parked_long', 'returned_after_final',
  'paid_twice', 'dead_letter', 'source_differs', 'question', 'complaint', 'limit_referred'));

-- The limit and currency of an account, as the service that reviews limits has them.
CREATE VIEW limit_in_force AS
SELECT account_id, credit_limit_minor, currency FROM risk_scoring.account
WHERE credit_limit_minor IS NOT NULL AND currency IS NOT NULL;
