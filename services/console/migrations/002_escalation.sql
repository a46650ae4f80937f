-- migrate:up
-- What nobody took, or took and did not look at, is escalated by its date, too; nobody need be named for that.
DO $$
DECLARE
  named text;
BEGIN
  SELECT conname INTO STRICT named FROM pg_constraint
  WHERE conrelid = 'case_file'::regclass AND contype = 'c' AND pg_get_constraintdef(oid) LIKE '%assignee%';
  EXECUTE format('ALTER TABLE case_file DROP CONSTRAINT %I', named);
END $$;
ALTER TABLE case_file ADD CONSTRAINT case_file_assigned CHECK (state IN ('open', 'escalated') OR assignee <> '');
CREATE OR REPLACE FUNCTION lane_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.before IS DISTINCT FROM (SELECT s.state FROM console.case_step s
      WHERE s.case_id = NEW.case_id AND s.n = NEW.n - 1)
    OR (coalesce(NEW.before, ''), NEW.state) NOT IN
      (('', 'open'), ('open', 'assigned'), ('assigned', 'in_review'), ('open', 'escalated'), ('assigned', 'escalated'),
       ('in_review', 'escalated'), ('in_review', 'resolved'), ('escalated', 'resolved'), ('resolved', 'closed'),
       ('resolved', 'in_review'))
    OR (NEW.before IS NULL) <> (NEW.n = 1) THEN
    RAISE EXCEPTION 'case % cannot go from % to % as its step %', NEW.case_id, NEW.before, NEW.state, NEW.n
      USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN NEW;
END $$;
