-- migrate:up
-- Which return models are tried beside the one in force, and how many were ended by a rule they broke.
CREATE VIEW model_trial AS
SELECT CASE WHEN s.version IS NULL THEN m.status ELSE 'ended' END AS outcome, count(*) AS trials
FROM risk_scoring.risk_models m
LEFT JOIN risk_scoring.risk_trial_stop s ON (s.version, s.began_at) = (m.version, m.activated_at)
WHERE m.status IN ('shadow', 'canary') GROUP BY 1;
-- What the portfolio's spent budget kept back lately.
CREATE VIEW over_budget AS
SELECT count(*) AS repayments FROM risk_scoring.risk_outcome
WHERE over_budget AND assessed_at > clock_timestamp() - interval '15 minutes';
