-- migrate:up
CREATE TABLE funding_account (
  account_id text NOT NULL,
  funding_account_id text NOT NULL,
  verified boolean NOT NULL,
  PRIMARY KEY (account_id, funding_account_id)
);
CREATE TABLE instant_use (
  repayment_id text PRIMARY KEY,
  account_id text NOT NULL,
  used_at timestamptz NOT NULL,
  amount_minor bigint NOT NULL CHECK (amount_minor > 0)
);
CREATE INDEX instant_use_by_account ON instant_use (account_id, used_at);
