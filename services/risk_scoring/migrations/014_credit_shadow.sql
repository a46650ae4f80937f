-- migrate:up
-- What the credit score's challenger says of an account beside the score in force (cli/challenger.py): for comparing, never
-- for a customer. `of_version` is the account's when it was scored; scores are hundredths of a point.
CREATE TABLE credit_shadow (
  account_id text PRIMARY KEY,
  of_version bigint NOT NULL,
  champion integer NOT NULL,
  challenger integer NOT NULL,
  model text NOT NULL,
  scored_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- No worker knows of it: a process of its own writes it as the owner.
REVOKE INSERT, UPDATE, DELETE ON credit_shadow FROM otb_risk_scoring;
