-- migrate:up
-- A model in force that a rule ended is told until a person says what is in force from now on.
CREATE OR REPLACE VIEW model_trial AS
SELECT CASE WHEN s.version IS NULL THEN m.status ELSE 'ended' END AS outcome, count(*) AS trials
FROM risk_scoring.risk_models m
LEFT JOIN risk_scoring.risk_trial_stop s ON (s.version, s.began_at) = (m.version, m.activated_at)
WHERE m.status IN ('shadow', 'canary') GROUP BY 1
UNION ALL
SELECT 'gone_back', count(*) FROM (
  SELECT goes_back, actor FROM risk_scoring.risk_activation
  WHERE kind = 'return' AND became = 'champion' ORDER BY id DESC LIMIT 1) AS last
WHERE last.goes_back AND last.actor = 'risk-scoring';
-- What is given back today and not final, by product; a product none of whose repayments is open any more is not in it.
CREATE VIEW exposed AS
SELECT product, coalesce(sum(minor) FILTER (WHERE from_on <= (statement_timestamp() AT TIME ZONE 'UTC')::date), 0)::bigint
  AS minor
FROM risk_scoring.portfolio_exposure WHERE until_on >= (statement_timestamp() AT TIME ZONE 'UTC')::date GROUP BY 1;
