-- migrate:up
-- How an account was used and repaid, for the credit score: at most seven statements of nine figures each, newest first
-- (services/statements.py), what was made of them, and when its limit is reviewed next.
ALTER TABLE account
  ADD COLUMN product text,
  ADD COLUMN currency text,
  ADD COLUMN opened_at timestamptz,
  ADD COLUMN months bigint[] NOT NULL DEFAULT '{}',
  ADD COLUMN score integer,
  ADD COLUMN tier text NOT NULL DEFAULT 'unknown' CHECK (tier IN ('A', 'B', 'C', 'D', 'E', 'unknown')),
  ADD COLUMN returned_at timestamptz,
  ADD COLUMN refused_at timestamptz,
  ADD COLUMN closed_at timestamptz,
  ADD COLUMN review_on date,
  ADD COLUMN reviews integer NOT NULL DEFAULT 0 CHECK (reviews >= 0),
  ADD CONSTRAINT months_are_whole CHECK (cardinality(months) % 9 = 0 AND cardinality(months) <= 63),
  ADD CONSTRAINT tier_has_a_score CHECK ((tier = 'unknown') = (score IS NULL));
-- When what was assessed had been repaid: a return takes it out of that month.
ALTER TABLE assessment ADD COLUMN repaid_at timestamptz;
