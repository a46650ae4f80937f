-- migrate:up
-- What became of each repayment its rail may take back: what was decided and on which inputs, from when on which part of
-- it was given back, and whether it was returned. What may be learnt of it, and when, is outcomes.py's.
CREATE TABLE risk_outcome (
  repayment_id text PRIMARY KEY,
  account_id text NOT NULL,
  product text NOT NULL,
  currency text NOT NULL,
  rail text NOT NULL,
  tier text NOT NULL,
  verdict text NOT NULL CHECK (verdict IN ('clear', 'observe', 'refer')),
  repaid_at timestamptz NOT NULL,
  settled_at timestamptz NOT NULL,
  assessed_at timestamptz NOT NULL,
  fast_until timestamptz NOT NULL,
  fast_at timestamptz NOT NULL,
  slow_at timestamptz NOT NULL,
  final_on date NOT NULL,
  amount_minor bigint NOT NULL CHECK (amount_minor > 0),
  restorable_minor bigint NOT NULL CHECK (restorable_minor >= 0),
  credit_balance_minor bigint NOT NULL CHECK (credit_balance_minor >= 0),
  parts text NOT NULL CHECK (parts IS JSON ARRAY),
  inputs text NOT NULL CHECK (inputs IS JSON ARRAY),
  over_budget boolean NOT NULL,
  model_version text NOT NULL,
  policy_version text NOT NULL,
  returned_at timestamptz,
  returned_by text CHECK (returned_by IN ('bank', 'customer', 'issuer')),
  CHECK (fast_at >= fast_until),
  CHECK ((returned_at IS NULL) = (returned_by IS NULL))
);
CREATE INDEX outcome_by_final_date ON risk_outcome (final_on);
-- Released and not final, by account: what is given back from one day on and final after another, UTC days, both
-- included. Its rows are sums: a return takes its part out again.
CREATE TABLE exposure (
  account_id text NOT NULL,
  until_on date NOT NULL,
  from_on date NOT NULL,
  minor bigint NOT NULL,
  PRIMARY KEY (account_id, until_on, from_on)
);
-- The same of a whole product. A session adds to rows of its own, so that workers do not wait for each other; only the
-- sum over the shards means anything.
CREATE TABLE portfolio_exposure (
  product text NOT NULL,
  until_on date NOT NULL,
  from_on date NOT NULL,
  shard integer NOT NULL,
  minor bigint NOT NULL,
  PRIMARY KEY (until_on, from_on, product, shard)
);
-- Both say the same of what is not final yet, and it is what the outcomes say.
CREATE VIEW invariant_exposure AS
WITH said AS (
  SELECT o.product, o.final_on AS until_on, (p.part ->> 1)::date AS from_on, sum((p.part ->> 0)::bigint) AS minor
  FROM risk_outcome o, json_array_elements(o.parts::json) AS p (part)
  WHERE o.returned_at IS NULL AND o.final_on >= (now() AT TIME ZONE 'UTC')::date GROUP BY 1, 2, 3),
counted AS (
  SELECT product, until_on, from_on, sum(minor) AS minor FROM portfolio_exposure
  WHERE until_on >= (now() AT TIME ZONE 'UTC')::date GROUP BY 1, 2, 3),
by_account AS (
  SELECT until_on, from_on, sum(minor) AS minor FROM exposure
  WHERE until_on >= (now() AT TIME ZONE 'UTC')::date GROUP BY 1, 2)
SELECT 'portfolio' AS of, product, until_on, from_on, s.minor AS said, c.minor AS counted
FROM said s FULL JOIN counted c USING (product, until_on, from_on)
WHERE coalesce(s.minor, 0) <> coalesce(c.minor, 0)
UNION ALL
SELECT 'accounts', NULL, until_on, from_on, s.minor, a.minor
FROM (SELECT until_on, from_on, sum(minor) AS minor FROM said GROUP BY 1, 2) s
FULL JOIN by_account a USING (until_on, from_on)
WHERE coalesce(s.minor, 0) <> coalesce(a.minor, 0);
