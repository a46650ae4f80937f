-- migrate:up
CREATE TABLE reference (
  source text NOT NULL,
  external_ref text NOT NULL,
  account_id text NOT NULL,
  amount_minor bigint NOT NULL CHECK (amount_minor > 0),
  currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
  rail text NOT NULL,
  kinds text[] NOT NULL CHECK (kinds <@ ARRAY['pending', 'succeeded', 'failed', 'returned']),
  PRIMARY KEY (source, external_ref)
);
-- A change of a reference that was known with other kinds.
CREATE TYPE reference_change AS (source text, external_ref text, kinds text[], kinds_before text[]);
CREATE TABLE conflict (
  event_id text PRIMARY KEY,
  source text NOT NULL,
  external_ref text NOT NULL,
  account_id text NOT NULL,
  amount_minor bigint NOT NULL,
  currency text NOT NULL,
  rail text NOT NULL,
  kind text NOT NULL,
  differs text[] NOT NULL,
  received_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
