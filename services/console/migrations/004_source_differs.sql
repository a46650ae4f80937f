-- migrate:up
-- A difference with billing's own list is a case.
DO $$
DECLARE
  named text;
BEGIN
  SELECT conname INTO STRICT named FROM pg_constraint
  WHERE conrelid = 'case_file'::regclass AND contype = 'c' AND pg_get_constraintdef(oid) LIKE '%pattern_seen%';
  EXECUTE format('ALTER TABLE case_file DROP CONSTRAINT %I', named);
END $$;
ALTER TABLE case_file ADD CONSTRAINT case_file_kind CHECK (kind IN ('promise_broken', 'referred', 'pattern_seen',
  'conflicting_report', 'rail_silent', 'account_unknown', 'return_unmatched', 'parked_long', 'returned_after_final',
  'paid_twice', 'dead_letter', 'source_differs', 'question', 'complaint'));
CREATE OR REPLACE VIEW invariant_case_opened AS
SELECT i.event_id::text AS opened_by, i.reason AS kind FROM inbox i
LEFT JOIN case_file c ON c.opened_by::uuid = i.event_id
WHERE i.outcome = 'applied' AND i.reason <> '' AND c.kind IS DISTINCT FROM i.reason
UNION ALL
SELECT c.opened_by, c.kind FROM case_file c
LEFT JOIN inbox i ON i.event_id = c.opened_by::uuid
WHERE i.event_id IS NULL
  AND c.kind NOT IN ('parked_long', 'dead_letter', 'source_differs', 'question', 'complaint');
