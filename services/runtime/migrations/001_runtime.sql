-- migrate:up
-- What every service keeps beside its own books. Runs once in each service's schema.

CREATE TABLE progress (
  topic text NOT NULL,
  partition integer NOT NULL,
  first_offset bigint NOT NULL,
  next_offset bigint NOT NULL,
  duplicates bigint NOT NULL DEFAULT 0,
  gaps bigint NOT NULL DEFAULT 0,
  dead_in_a_row integer NOT NULL DEFAULT 0,
  PRIMARY KEY (topic, partition),
  CHECK (next_offset >= first_offset AND duplicates >= 0 AND gaps >= 0)
) WITH (fillfactor = 20);

CREATE TABLE inbox (
  event_id uuid PRIMARY KEY,
  digest bigint NOT NULL,
  topic text NOT NULL,
  partition integer NOT NULL,
  "offset" bigint NOT NULL,
  outcome text NOT NULL,
  reason text NOT NULL
);

CREATE TABLE publication (
  publication_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  partitions integer[] NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  published_at timestamptz
) WITH (fillfactor = 70);
CREATE INDEX publication_unpublished ON publication (publication_id) WHERE published_at IS NULL;

CREATE TABLE outbox (
  publication_id bigint NOT NULL,
  n integer NOT NULL,
  event_id uuid NOT NULL,
  event_type text NOT NULL,
  topic text NOT NULL,
  account_id text NOT NULL,
  occurred_at timestamptz NOT NULL,
  traceparent text NOT NULL,
  payload bytea NOT NULL,
  PRIMARY KEY (publication_id, n)
);

CREATE TABLE timers (
  timer_key text PRIMARY KEY,
  partition integer NOT NULL,
  account_id text NOT NULL,
  kind text NOT NULL,
  subject text NOT NULL,
  number integer NOT NULL,
  due_at timestamptz NOT NULL
);
CREATE INDEX timers_due ON timers (partition, due_at);

-- Records that could not be handled where they stood: dead letters, and events whose account is not known yet.
CREATE TABLE set_aside (
  set_aside_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind text NOT NULL CHECK (kind IN ('dead_letter', 'parked')),
  state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'ready', 'done', 'discarded')),
  topic text NOT NULL,
  partition integer NOT NULL,
  "offset" bigint NOT NULL,
  broker_at timestamptz NOT NULL,
  account_id text,
  key bytea,
  headers bytea NOT NULL,
  value bytea,
  reason text NOT NULL,
  attempts integer NOT NULL DEFAULT 1,
  build text NOT NULL,
  first_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  last_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  closed_by text,
  closed_reason text,
  published_at timestamptz,
  UNIQUE (kind, topic, partition, "offset")
);
CREATE INDEX set_aside_open ON set_aside (kind, account_id) WHERE state = 'open';
CREATE INDEX set_aside_ready ON set_aside (partition) WHERE state = 'ready';
CREATE INDEX set_aside_parked ON set_aside (partition, last_seen_at) WHERE kind = 'parked' AND state = 'open';
CREATE INDEX set_aside_unpublished ON set_aside (partition) WHERE kind = 'dead_letter' AND published_at IS NULL;

-- Undoes a statement that wrote other than it meant to: its condition, not its rows, is what is wrong.
CREATE FUNCTION expect(rows bigint, meant bigint, code text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  IF rows <> meant THEN
    RAISE EXCEPTION '% of % rows are as they were', rows, meant USING ERRCODE = code;
  END IF;
  RETURN true;
END $$;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation'; END $$;
CREATE TRIGGER inbox_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON inbox
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- I13: every offset is accounted for.
CREATE VIEW invariant_no_offset_skipped AS
SELECT p.topic, p.partition, p.next_offset - p.first_offset AS expected, coalesce(i.n, 0) + coalesce(d.n, 0)
  + p.duplicates + p.gaps AS counted
FROM progress p
LEFT JOIN (SELECT topic, partition, count(*) AS n FROM inbox GROUP BY 1, 2) i USING (topic, partition)
LEFT JOIN (SELECT topic, partition, count(*) AS n FROM set_aside WHERE kind = 'dead_letter' AND state <> 'done'
  GROUP BY 1, 2) d
  USING (topic, partition)
WHERE p.next_offset - p.first_offset <> coalesce(i.n, 0) + coalesce(d.n, 0) + p.duplicates + p.gaps;

-- I14: nothing waits for its publisher.
CREATE VIEW invariant_outbox_drained AS
SELECT publication_id, created_at FROM publication
WHERE published_at IS NULL AND created_at < clock_timestamp() - interval '30 seconds';
