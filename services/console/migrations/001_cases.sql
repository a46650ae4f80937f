-- migrate:up
-- Who reads is told apart from who writes: what limit-release parked, for the case of what is parked for long.
CREATE VIEW parked_tranche AS
SELECT repayment_id, number FROM limit_release.tranche WHERE state = 'parked';

-- And what the money services could not read and a person has not dealt with; nobody's account is 'unknown'.
CREATE VIEW dead_letter AS
SELECT d.service || ':' || d.set_aside_id AS place, coalesce(d.account_id, 'unknown') AS account_id FROM (
  SELECT 'repayment-ingest' AS service, set_aside_id, account_id FROM repayment_ingest.set_aside
  WHERE kind = 'dead_letter' AND state = 'open'
  UNION ALL SELECT 'settlement', set_aside_id, account_id FROM settlement.set_aside
  WHERE kind = 'dead_letter' AND state = 'open'
  UNION ALL SELECT 'risk-scoring', set_aside_id, account_id FROM risk_scoring.set_aside
  WHERE kind = 'dead_letter' AND state = 'open'
  UNION ALL SELECT 'limit-release', set_aside_id, account_id FROM limit_release.set_aside
  WHERE kind = 'dead_letter' AND state = 'open') AS d;

CREATE TABLE case_file (
  case_id text PRIMARY KEY,
  account_id text NOT NULL,
  kind text NOT NULL CHECK (kind IN ('promise_broken', 'referred', 'pattern_seen', 'conflicting_report', 'rail_silent',
    'account_unknown', 'return_unmatched', 'parked_long', 'returned_after_final', 'paid_twice', 'dead_letter', 'question',
    'complaint')),
  priority text NOT NULL CHECK (priority IN ('high', 'normal', 'low')),
  opened_by text NOT NULL UNIQUE,
  opened_at timestamptz NOT NULL,
  due_at timestamptz NOT NULL,
  repayment_id text,
  tranche integer CHECK (tranche BETWEEN 1 AND 99),
  detail text NOT NULL,
  record_version integer CHECK (record_version >= 1),
  state text NOT NULL CHECK (state IN ('open', 'assigned', 'in_review', 'escalated', 'resolved', 'closed')),
  assignee text NOT NULL,
  outcome text CHECK (outcome IN ('credit_restored', 'hold_kept', 'books_corrected', 'explained', 'nothing_to_do')),
  answer text NOT NULL,
  resolved_at timestamptz,
  version integer NOT NULL CHECK (version >= 1),
  CHECK (due_at >= opened_at AND resolved_at >= opened_at),
  CHECK ((state IN ('resolved', 'closed')) = (resolved_at IS NOT NULL)),
  CHECK ((resolved_at IS NULL) = (outcome IS NULL)),
  CHECK (state = 'open' OR assignee <> '')
) WITH (fillfactor = 80);
CREATE INDEX case_file_waiting ON case_file (due_at) WHERE state NOT IN ('resolved', 'closed');
CREATE UNIQUE INDEX case_file_of_a_dead_letter ON case_file (detail) WHERE kind = 'dead_letter';
CREATE INDEX case_file_by_repayment ON case_file (repayment_id);

-- Every step of a case, once and for ever; the pairs are LANE of model.py, and each begins where the last one ended.
CREATE TABLE case_step (
  case_id text NOT NULL,
  n integer NOT NULL CHECK (n >= 1),
  before text,
  state text NOT NULL,
  at timestamptz NOT NULL,
  actor text NOT NULL CHECK (actor <> ''),
  reason text NOT NULL CHECK (reason <> ''),
  PRIMARY KEY (case_id, n)
);
CREATE TRIGGER case_step_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON case_step
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE FUNCTION lane_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.before IS DISTINCT FROM (SELECT s.state FROM console.case_step s
      WHERE s.case_id = NEW.case_id AND s.n = NEW.n - 1)
    OR (coalesce(NEW.before, ''), NEW.state) NOT IN
      (('', 'open'), ('open', 'assigned'), ('assigned', 'in_review'), ('in_review', 'escalated'),
       ('in_review', 'resolved'), ('escalated', 'resolved'), ('resolved', 'closed'), ('resolved', 'in_review'))
    OR (NEW.before IS NULL) <> (NEW.n = 1) THEN
    RAISE EXCEPTION 'case % cannot go from % to % as its step %', NEW.case_id, NEW.before, NEW.state, NEW.n
      USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER case_step_lane BEFORE INSERT ON case_step FOR EACH ROW EXECUTE FUNCTION lane_only();

-- At commit a case is where its last step led; what it is about never changes, and a closed one not at all.
CREATE FUNCTION steps_lead_here() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.state IS DISTINCT FROM (SELECT s.state FROM console.case_step s
      WHERE s.case_id = NEW.case_id ORDER BY s.n DESC LIMIT 1)
    AND NEW.version = (SELECT c.version FROM console.case_file c WHERE c.case_id = NEW.case_id) THEN
    RAISE EXCEPTION 'case % is % and its steps lead elsewhere', NEW.case_id, NEW.state
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER case_file_steps AFTER INSERT OR UPDATE ON case_file DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION steps_lead_here();
CREATE FUNCTION case_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.state = 'closed' OR (OLD.case_id, OLD.account_id, OLD.kind, OLD.opened_by, OLD.opened_at)
    IS DISTINCT FROM (NEW.case_id, NEW.account_id, NEW.kind, NEW.opened_by, NEW.opened_at) THEN
    RAISE EXCEPTION 'case % is %: that stays', OLD.case_id, OLD.state USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER case_file_stays BEFORE UPDATE ON case_file FOR EACH ROW EXECUTE FUNCTION case_stays();

-- What people did, each entry hashed with the one before it. The head is the chain's only mutable row, changed by the
-- trigger alone: an entry cut off its end leaves the head behind.
CREATE TABLE audit_head (
  head boolean PRIMARY KEY DEFAULT true CHECK (head),
  seq bigint NOT NULL,
  hash text NOT NULL
);
INSERT INTO audit_head (seq, hash) VALUES (0, repeat('0', 64));
CREATE TABLE audit (
  seq bigint PRIMARY KEY,
  at timestamptz NOT NULL,
  actor text NOT NULL CHECK (actor <> ''),
  action text NOT NULL CHECK (action IN ('assign', 'review', 'escalate', 'resolve', 'object', 'release_hold',
    'extend_hold', 'take_feedback', 'replay', 'discard')),
  account_id text NOT NULL,
  subject text NOT NULL,
  reason text NOT NULL CHECK (reason <> ''),
  content text NOT NULL CHECK (content IS JSON OBJECT),
  previous text NOT NULL,
  hash text NOT NULL
);
CREATE INDEX audit_by_subject ON audit (subject);
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
-- SHA-256 of the parts, each prefixed by its length in characters, so that no two lists of parts look alike.
CREATE FUNCTION audit_hash(entry audit) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT encode(sha256(convert_to(string_agg(length(p.part) || ':' || p.part, '' ORDER BY p.n), 'UTF8')), 'hex')
  FROM unnest(ARRAY[entry.previous, entry.seq::text,
    to_char(entry.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), entry.actor, entry.action, entry.account_id,
    entry.subject, entry.reason, entry.content]) WITH ORDINALITY AS p(part, n)
$$;
CREATE FUNCTION chain_audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = console, pg_temp AS $$
BEGIN
  UPDATE audit_head SET seq = seq + 1 RETURNING seq, hash INTO NEW.seq, NEW.previous;
  NEW.hash := audit_hash(NEW);
  UPDATE audit_head SET hash = NEW.hash;
  RETURN NEW;
END $$;
CREATE TRIGGER audit_chain BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION chain_audit();
REVOKE INSERT, UPDATE, DELETE ON audit_head FROM otb_console;
REVOKE UPDATE, DELETE ON audit FROM otb_console;
REVOKE UPDATE, DELETE ON case_step FROM otb_console;

-- What waits for a person: how much, and since when something is late.
CREATE VIEW case_board AS
SELECT kind, priority, count(*) AS cases, count(*) FILTER (WHERE due_at < clock_timestamp()) AS overdue,
  min(due_at) AS oldest_due_at
FROM case_file WHERE state NOT IN ('resolved', 'closed') GROUP BY kind, priority;

-- I22: entries are dense, each carries the hash of the one before and its own, and the head is the last one's.
CREATE VIEW invariant_audit_chain AS
SELECT c.seq, c.action, c.subject FROM
  (SELECT a.seq, a.action, a.subject, a.previous, a.hash, audit_hash(a) AS counted,
     lag(a.seq, 1, 0::bigint) OVER o AS seq_before, lag(a.hash, 1, repeat('0', 64)) OVER o AS hash_before
   FROM audit a WINDOW o AS (ORDER BY a.seq)) c
WHERE c.seq <> c.seq_before + 1 OR c.previous <> c.hash_before OR c.hash <> c.counted
UNION ALL
SELECT h.seq, 'head', h.hash FROM audit_head h
LEFT JOIN (SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1) l ON true
WHERE (h.seq, h.hash) <> (coalesce(l.seq, 0), coalesce(l.hash, repeat('0', 64)));

-- The case lane: a case is where its last step led, and its steps are dense.
CREATE VIEW invariant_case_lane AS
SELECT c.case_id, c.state, l.state AS led_to, l.steps FROM case_file c
LEFT JOIN (SELECT case_id, count(*) AS steps, max(n) AS last, (array_agg(state ORDER BY n DESC))[1] AS state
           FROM case_step GROUP BY 1) l USING (case_id)
WHERE l.state IS DISTINCT FROM c.state OR l.steps <> l.last;

-- One fact opens one case: what was taken in as opening one did, and nothing else has one.
CREATE VIEW invariant_case_opened AS
SELECT i.event_id::text AS opened_by, i.reason AS kind FROM inbox i
LEFT JOIN case_file c ON c.opened_by::uuid = i.event_id
WHERE i.outcome = 'applied' AND i.reason <> '' AND c.kind IS DISTINCT FROM i.reason
UNION ALL
SELECT c.opened_by, c.kind FROM case_file c
LEFT JOIN inbox i ON i.event_id = c.opened_by::uuid
WHERE i.event_id IS NULL AND c.kind NOT IN ('parked_long', 'dead_letter', 'question', 'complaint');

-- I9 of the case lane: what is resolved has the date on which it closes, what is in review the date it is owed by; a
-- dead letter has no account whose partition could fire it.
CREATE VIEW invariant_case_waits AS
SELECT c.case_id, c.state FROM case_file c
LEFT JOIN timers d ON d.timer_key = 'case_closes:' || c.case_id || ':0' AND d.partition >= 0
WHERE c.state = 'resolved' AND d.due_at IS NULL
UNION ALL
SELECT c.case_id, c.state FROM case_file c
LEFT JOIN timers d ON d.timer_key = 'case_due:' || c.case_id || ':0' AND d.partition >= 0
WHERE c.state IN ('open', 'assigned', 'in_review') AND c.kind <> 'dead_letter'
  AND c.due_at > clock_timestamp() AND d.due_at IS DISTINCT FROM c.due_at;
