-- migrate:up
-- The limit (none: its account is not known yet) and the statement cycle's restorable sums (R15).
CREATE TABLE account (
  account_id text PRIMARY KEY,
  credit_limit_minor bigint CHECK (credit_limit_minor >= 0),
  cycle_started_at timestamptz,
  settled_minor bigint NOT NULL CHECK (settled_minor >= 0),
  before_minor bigint NOT NULL CHECK (before_minor >= 0),
  version bigint NOT NULL,
  CHECK (cycle_started_at IS NOT NULL OR before_minor = 0)
);
CREATE TABLE funding_account (
  account_id text NOT NULL,
  funding_account_id text NOT NULL,
  verified boolean NOT NULL,
  PRIMARY KEY (account_id, funding_account_id)
);
-- A return counts once, on the funding account it came from (R8, E20).
CREATE TABLE strike (
  repayment_id text PRIMARY KEY,
  account_id text NOT NULL,
  funding_account_id text NOT NULL,
  struck_at timestamptz NOT NULL
);
CREATE INDEX strike_by_account ON strike (account_id, struck_at);
-- What is kept of the verdict on a repayment its rail may take back: the use of the instant cap (R14), and the verdict
-- itself while its dates may still move earlier.
CREATE TABLE assessment (
  repayment_id text PRIMARY KEY,
  account_id text NOT NULL,
  funding_account_id text,
  assessed_at timestamptz NOT NULL,
  instant_minor bigint NOT NULL CHECK (instant_minor >= 0),
  hold text CHECK (hold IS JSON OBJECT),
  held_until timestamptz,
  CHECK ((hold IS NULL) = (held_until IS NULL)),
  CHECK (held_until > assessed_at)
);
CREATE INDEX instant_use_by_account ON assessment (account_id, assessed_at) WHERE instant_minor > 0;
CREATE INDEX running_hold_by_account ON assessment (account_id, held_until) WHERE hold IS NOT NULL;
