-- migrate:up
-- When a message was asked for, and the notifier's own stretches before that: (cause, until), from the decision on.
-- Of a message that was over before this migration neither is known, and of one still asked for only the instant.
ALTER TABLE notice ADD COLUMN asked_at timestamptz,
  ADD COLUMN waits text NOT NULL DEFAULT '[]' CHECK (waits IS JSON ARRAY);
UPDATE notice SET asked_at = at WHERE state = 'requested';

-- What tiles [restored_at, told_at] of a restored tranche, in whole milliseconds: beside its lag, no part of it (lag 1).
CREATE TABLE notify_segment (
  repayment_id text NOT NULL,
  tranche integer NOT NULL,
  n integer NOT NULL,
  cause text NOT NULL,
  from_at timestamptz NOT NULL,
  to_at timestamptz NOT NULL,
  ms bigint NOT NULL,
  PRIMARY KEY (repayment_id, tranche, n),
  CHECK (ms > 0 AND to_at = from_at + ms * interval '1 millisecond')
);
CREATE TRIGGER notify_segment_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON notify_segment
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- I24: where it is known when a message was asked for, what passed until the customer was told is tiled.
CREATE VIEW invariant_told_tiles AS
SELECT p.repayment_id, p.number, p.restored_at, p.told_at, s.ms, s.gaps
FROM part p
LEFT JOIN (
  SELECT repayment_id, tranche, sum(ms) AS ms, min(from_at) AS from_at, max(to_at) AS to_at,
    count(*) FILTER (WHERE from_at <> came_from) AS gaps
  FROM (SELECT *, lag(to_at, 1, from_at) OVER (PARTITION BY repayment_id, tranche ORDER BY n) AS came_from
        FROM notify_segment) AS each
  GROUP BY 1, 2) AS s ON s.repayment_id = p.repayment_id AND s.tranche = p.number
WHERE p.told_at > p.restored_at
  AND (s.gaps > 0 OR (s.from_at, s.to_at) IS DISTINCT FROM (p.restored_at, p.told_at)
    OR s.ms IS DISTINCT FROM round(extract(epoch FROM p.told_at - p.restored_at) * 1000))
  AND EXISTS (SELECT FROM notice n WHERE n.subject = p.repayment_id AND n.caused_by = p.caused_by
    AND n.asked_at IS NOT NULL);
