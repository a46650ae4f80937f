-- migrate:up
-- What the guards before the formula ask (guards.py): what billing warned of, and until when.
CREATE TABLE warning (
  account_id text NOT NULL,
  kind text NOT NULL CHECK (kind IN ('disputed', 'overdue_elsewhere')),
  name text NOT NULL,
  at timestamptz NOT NULL,
  ended_at timestamptz,
  PRIMARY KEY (account_id, kind, name)
);
-- When an account first repaid from a funding account: how long that is known, and how many customers share it.
CREATE TABLE funding_use (
  funding_account_id text NOT NULL,
  account_id text NOT NULL,
  first_at timestamptz NOT NULL,
  PRIMARY KEY (funding_account_id, account_id)
);
INSERT INTO funding_use SELECT funding_account_id, account_id, min(coalesce(repaid_at, assessed_at)) FROM assessment
WHERE funding_account_id IS NOT NULL GROUP BY 1, 2;
-- What an account repaid lately.
CREATE INDEX outcome_by_account ON risk_outcome (account_id, repaid_at);
