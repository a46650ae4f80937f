-- migrate:up
-- What the portfolio's budget kept back lately is asked for all the time; it is rare.
CREATE INDEX outcome_over_budget ON risk_outcome (assessed_at) WHERE over_budget;
