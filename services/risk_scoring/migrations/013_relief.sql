-- migrate:up
-- The instant cap of a product's tiers A and B is wider for a while, because our own delay burns an objective (L17): one
-- at a time a product, over by itself at `until` unless it is renewed, and at once when it is ended. `spent_minor` is
-- what is expected to be lost of what it gave back sooner, never more than the budget but by what is in flight.
CREATE TABLE cap_relief (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  product text NOT NULL,
  factor_bps integer NOT NULL CHECK (factor_bps > 10000),
  budget_minor bigint NOT NULL CHECK (budget_minor > 0),
  spent_minor bigint NOT NULL DEFAULT 0 CHECK (spent_minor >= 0),
  began_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  until timestamptz NOT NULL,
  ended_at timestamptz,
  CHECK (until > began_at)
);
CREATE UNIQUE INDEX one_relief_a_product ON cap_relief (product) WHERE ended_at IS NULL;
CREATE INDEX relief_began ON cap_relief (product, began_at);
-- Every step of it, in order: by whom, why, and what was seen.
CREATE TABLE cap_relief_step (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  relief_id bigint NOT NULL REFERENCES cap_relief,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  step text NOT NULL CHECK (step IN ('began', 'renewed', 'ended')),
  actor text NOT NULL,
  reason text NOT NULL,
  seen jsonb NOT NULL
);
CREATE TRIGGER relief_step_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON cap_relief_step
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
-- The worker only reads what is in force; who controls it is not the worker.
REVOKE INSERT, UPDATE, DELETE ON cap_relief FROM otb_risk_scoring;
REVOKE INSERT, UPDATE, DELETE ON cap_relief_step FROM otb_risk_scoring;
-- What of a cap is wider now, for the worker.
CREATE VIEW relief_in_force AS
SELECT product, factor_bps FROM cap_relief WHERE ended_at IS NULL AND until > statement_timestamp();
-- What a relief gave back sooner is asked for all the time it lasts; it is rare.
CREATE INDEX outcome_widened ON risk_outcome (product, assessed_at) WHERE position('widened_minor' IN inputs) > 0;
