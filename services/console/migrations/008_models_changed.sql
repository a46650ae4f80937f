-- migrate:up
-- Who put another model in force is in the audit, too: it was done already, so no limit of a day refuses its entry.
ALTER TABLE audit DROP CONSTRAINT audit_action;
ALTER TABLE audit ADD CONSTRAINT audit_action CHECK (action IN ('assign', 'review', 'escalate', 'resolve', 'object',
  'release_hold', 'extend_hold', 'take_feedback', 'replay', 'discard', 'ask_release', 'ask_resolve', 'request_review',
  'appeal_review', 'activate_model'));
CREATE OR REPLACE FUNCTION chain_audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = console, pg_temp AS $$
BEGIN
  UPDATE audit_head SET seq = seq + 1 RETURNING seq, hash INTO NEW.seq, NEW.previous;
  IF NEW.action <> 'activate_model'
    AND (SELECT count(*) FROM audit a WHERE a.actor = NEW.actor AND a.at > NEW.at - interval '1 day') >= 200 THEN
    RAISE EXCEPTION '% did enough for a day', NEW.actor USING ERRCODE = 'OT003';
  END IF;
  NEW.hash := audit_hash(NEW);
  UPDATE audit_head SET hash = NEW.hash;
  RETURN NEW;
END $$;
