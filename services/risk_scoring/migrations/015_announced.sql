-- migrate:up
-- Who changes which model decides, a person or the rule that put it back, tells it: a trigger keeps the announcement in
-- the transaction of the change, so there is exactly one. Partition 0 has one owner at a time, so announcements reach
-- their topic in the order of the changes and the last one it keeps is the last change.
CREATE FUNCTION announce(change risk_activation) RETURNS void LANGUAGE plpgsql SET search_path = risk_scoring, pg_temp AS $$
DECLARE
  told_at timestamptz := date_trunc('milliseconds', change.activated_at);
  id uuid := md5(concat_ws(':', 'ModelActivated', change.kind, change.id, extract(epoch FROM change.activated_at)))::uuid;
  hex text := replace(id::text, '-', '');
  place bigint;
BEGIN
  INSERT INTO publication (partitions) VALUES ('{0}') RETURNING publication_id INTO place;
  INSERT INTO outbox (publication_id, n, event_id, event_type, topic, account_id, occurred_at, traceparent, payload)
  VALUES (place, 0, id, 'opentobuy.risk.active.ModelActivated.v1', 'risk.active.v1', 'model:' || change.kind, told_at,
    format('00-%s-%s-01', hex, left(hex, 16)), convert_to(json_build_object('event_id', hex,
      'account_id', 'model:' || change.kind,
      'occurred_at', to_char(told_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
      'model', change.kind, 'change', change.id, 'model_version', change.version,
      'replaced', (SELECT a.version FROM risk_activation a
        WHERE a.kind = change.kind AND a.became = 'champion' AND a.id < change.id ORDER BY a.id DESC LIMIT 1),
      'goes_back', change.goes_back, 'unproven', change.unproven, 'actor', change.actor,
      'reason', change.reason)::text, 'UTF8'));
END $$;
CREATE FUNCTION announce_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM risk_scoring.announce(NEW);
  RETURN NULL;
END $$;
CREATE TRIGGER activation_announced AFTER INSERT ON risk_activation FOR EACH ROW WHEN (NEW.became = 'champion')
  EXECUTE FUNCTION announce_change();
-- What decided when this was installed is told, too.
SELECT announce(a) FROM risk_activation a WHERE a.became = 'champion' AND NOT EXISTS (
  SELECT FROM risk_activation b WHERE b.became = 'champion' AND b.kind = a.kind AND b.id > a.id);
