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
CREATE TABLE notification (
  account_id text NOT NULL,
  notification_id text PRIMARY KEY,
  repayment_id text NOT NULL,
  caused_by text NOT NULL,
  channel text NOT NULL,
  language text NOT NULL,
  template text NOT NULL,
  text text NOT NULL,
  requested_at timestamptz NOT NULL,
  state text NOT NULL CHECK (state IN ('requested', 'delivered', 'undeliverable', 'suppressed')),
  attempts integer NOT NULL CHECK (attempts >= 0),
  next_attempt_at timestamptz,
  CHECK ((state = 'requested') = (next_attempt_at IS NOT NULL))
) WITH (fillfactor = 70);
CREATE INDEX notification_due ON notification (next_attempt_at) WHERE state = 'requested';
CREATE INDEX notification_by_repayment ON notification (repayment_id);
