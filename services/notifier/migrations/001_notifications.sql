-- migrate:up
CREATE TABLE account (
  account_id text PRIMARY KEY,
  language text NOT NULL,
  timezone text NOT NULL
);
CREATE TABLE disabled_channel (
  channel text PRIMARY KEY,
  disabled_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- What was said, once and for ever.
CREATE TABLE notification (
  account_id text NOT NULL,
  notification_id text PRIMARY KEY,
  repayment_id text,
  caused_by text NOT NULL,
  channel text NOT NULL,
  language text NOT NULL,
  template text NOT NULL,
  record_version integer NOT NULL CHECK (record_version >= 1),
  text text NOT NULL,
  requested_at timestamptz NOT NULL,
  CHECK ((template = 'limit_review') = (repayment_id IS NULL))
);
CREATE INDEX notification_by_repayment ON notification (repayment_id);
CREATE TRIGGER notification_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON notification
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What was shown of a repayment to someone who asked, once and for ever; record_version is NULL before a decision.
CREATE TABLE shown (
  shown_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  account_id text NOT NULL,
  repayment_id text NOT NULL,
  record_version integer CHECK (record_version >= 1),
  audience text NOT NULL CHECK (audience IN ('customer', 'agent', 'audit')),
  channel text NOT NULL,
  language text NOT NULL,
  text text NOT NULL,
  shown_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX shown_by_repayment ON shown (repayment_id);
CREATE TRIGGER shown_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON shown
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- How its delivery stands; next_attempt_at is also the lease of whoever tries it now.
CREATE TABLE delivery (
  notification_id text PRIMARY KEY,
  state text NOT NULL CHECK (state IN ('requested', 'delivered', 'undeliverable', 'suppressed')),
  attempts integer NOT NULL CHECK (attempts >= 0),
  next_attempt_at timestamptz,
  ended_at timestamptz,
  CHECK ((state = 'requested') = (next_attempt_at IS NOT NULL)),
  CHECK ((state = 'requested') = (ended_at IS NULL))
) WITH (fillfactor = 60);
-- A change of a delivery of which so many tries were known.
CREATE TYPE delivery_change AS (notification_id text, state text, attempts integer, next_attempt_at timestamptz,
  ended_at timestamptz, attempts_before integer);
CREATE INDEX delivery_due ON delivery (next_attempt_at) WHERE state = 'requested';
