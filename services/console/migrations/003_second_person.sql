-- migrate:up
-- Over an amount two people say the same: the first one's word is an entry of its own.
DO $$
DECLARE
  named text;
BEGIN
  SELECT conname INTO STRICT named FROM pg_constraint
  WHERE conrelid = 'audit'::regclass AND contype = 'c' AND pg_get_constraintdef(oid) LIKE '%release_hold%';
  EXECUTE format('ALTER TABLE audit DROP CONSTRAINT %I', named);
END $$;
ALTER TABLE audit ADD CONSTRAINT audit_action CHECK (action IN ('assign', 'review', 'escalate', 'resolve', 'object',
  'release_hold', 'extend_hold', 'take_feedback', 'replay', 'discard', 'ask_release', 'ask_resolve'));
CREATE INDEX audit_by_actor ON audit (actor, at);

-- What a part, or with number 0 a whole repayment, comes to.
CREATE VIEW at_stake AS
SELECT repayment_id, number, amount_minor FROM limit_release.tranche
UNION ALL SELECT repayment_id, 0, amount_minor FROM limit_release.repayment;

-- What a person may do is limited a day, whatever program asks: ACTS_A_DAY_MAX of services/console/model.py.
CREATE OR REPLACE FUNCTION chain_audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = console, pg_temp AS $$
BEGIN
  UPDATE audit_head SET seq = seq + 1 RETURNING seq, hash INTO NEW.seq, NEW.previous;
  IF (SELECT count(*) FROM audit a WHERE a.actor = NEW.actor AND a.at > NEW.at - interval '1 day') >= 200 THEN
    RAISE EXCEPTION '% did enough for a day', NEW.actor USING ERRCODE = 'OT003';
  END IF;
  NEW.hash := audit_hash(NEW);
  UPDATE audit_head SET hash = NEW.hash;
  RETURN NEW;
END $$;
