-- migrate:up
-- A model just put in force is watched as a canary is, beside what decided before it (trials.py). What that is: promotions
-- add to it, going back takes the last away, as promoted() of services/cli/models.py counts; no version: the shipped table.
ALTER TABLE risk_activation ADD COLUMN before text;
CREATE FUNCTION decided_before(now_in_force text, going_back boolean) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = risk_scoring, pg_temp AS $$
DECLARE
  history text[] := ARRAY[NULL]::text[];
  change record;
BEGIN
  FOR change IN
    SELECT version, goes_back FROM (
      SELECT id, version, goes_back FROM risk_activation WHERE kind = 'return' AND became = 'champion'
      UNION ALL SELECT NULL, now_in_force, going_back) AS changes ORDER BY id NULLS LAST
  LOOP
    IF change.goes_back AND cardinality(history) > 1 THEN
      history := trim_array(history, 1);
    ELSIF NOT change.goes_back AND change.version IS DISTINCT FROM history[cardinality(history)] THEN
      history := array_append(history, change.version);
    END IF;
  END LOOP;
  RETURN history[cardinality(history) - 1];
END $$;
CREATE FUNCTION note_before() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.kind = 'return' AND NEW.became = 'champion' THEN
    NEW.before := risk_scoring.decided_before(NEW.version, NEW.goes_back);
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER activation_before BEFORE INSERT ON risk_activation FOR EACH ROW EXECUTE FUNCTION note_before();

-- What a rule ended while it was in force goes back one step, in the transaction that found it; the worker itself may
-- not change the registry. Who changes it by hand holds the same lock first.
CREATE FUNCTION go_back() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = risk_scoring, pg_temp AS $$
DECLARE
  former text;
BEGIN
  LOCK TABLE risk_activation IN SHARE ROW EXCLUSIVE MODE;
  IF EXISTS (SELECT FROM risk_models WHERE kind = 'return' AND status = 'champion'
      AND (version, activated_at) = (NEW.version, NEW.began_at)) THEN
    SELECT a.before INTO former FROM risk_activation a
    WHERE a.kind = 'return' AND a.became = 'champion' ORDER BY a.id DESC LIMIT 1;
    UPDATE risk_models SET status = 'retired' WHERE kind = 'return' AND status = 'champion';
    UPDATE risk_models SET status = 'champion', approved_by = 'risk-scoring', activated_at = clock_timestamp()
    WHERE kind = 'return' AND version = former;
    INSERT INTO risk_activation (kind, version, became, actor, reason, goes_back)
    VALUES ('return', former, 'champion', 'risk-scoring', NEW.rule, true);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER trial_stop_goes_back AFTER INSERT ON risk_trial_stop FOR EACH ROW EXECUTE FUNCTION go_back();
-- What a canary, or a model in force that is watched, came to, by age in days; lately is this hour or the last.
CREATE VIEW risk_trial_stage AS
SELECT version, began_at, floor(extract(epoch FROM statement_timestamp() - hour) / 86400)::integer AS age,
  hour > statement_timestamp() - interval '2 hours' AS lately, sum(champion_held)::bigint AS champion_held,
  sum(candidate_held)::bigint AS candidate_held, sum(expected) AS expected, sum(returned)::bigint AS returned
FROM risk_trial_count WHERE by_candidate AND hour > statement_timestamp() - interval '14 days' GROUP BY 1, 2, 3, 4;
