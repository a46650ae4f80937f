-- migrate:up
-- The same is asked for again only after its time (ASKED_AGAIN of model.py), also by two who ask at one instant: who waited
-- for the head of the chain sees the other's entry and decides again.
CREATE OR REPLACE FUNCTION chain_audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = console, pg_temp AS $$
BEGIN
  UPDATE audit_head SET seq = seq + 1 RETURNING seq, hash INTO NEW.seq, NEW.previous;
  IF NEW.action <> 'activate_model'
    AND (SELECT count(*) FROM audit a WHERE a.actor = NEW.actor AND a.at > NEW.at - interval '1 day') >= 200 THEN
    RAISE EXCEPTION '% did enough for a day', NEW.actor USING ERRCODE = 'OT003';
  END IF;
  IF NEW.action IN ('request_review', 'appeal_review') AND EXISTS (
    SELECT FROM audit a WHERE a.subject = NEW.subject AND a.action = NEW.action
      AND a.at > NEW.at - CASE NEW.action WHEN 'appeal_review' THEN interval '90 days' ELSE interval '1 day' END) THEN
    RAISE EXCEPTION '% was asked meanwhile', NEW.subject USING ERRCODE = '40001';
  END IF;
  NEW.hash := audit_hash(NEW);
  UPDATE audit_head SET hash = NEW.hash;
  RETURN NEW;
END $$;
