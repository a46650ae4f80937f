-- migrate:up
-- The last relief of each product: whether it is in force, and what reliefs of the last day are expected to lose of it.
CREATE VIEW relief AS
SELECT DISTINCT ON (product) product, budget_minor,
  (ended_at IS NULL AND until > clock_timestamp())::integer AS in_force,
  CASE WHEN coalesce(ended_at, until) > clock_timestamp() - interval '1 day' THEN spent_minor ELSE 0 END AS spent_minor
FROM risk_scoring.cap_relief ORDER BY product, id DESC;
