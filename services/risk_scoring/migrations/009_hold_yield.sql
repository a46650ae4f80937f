-- migrate:up
-- What held a repayment: the first reason of its first verdict; null where nothing was held, or before it was kept.
ALTER TABLE risk_outcome ADD COLUMN rule text;
-- What the holds of a rule caught and what they were charged, by month of the verdict and by whole UTC days (L6): a hold
-- caught something when a part of it was still to come on a later day than it was taken back; minor units times days are
-- those that customers waited whose repayment was not taken back. Our own errors teach nothing (E20).
CREATE VIEW hold_yield AS
SELECT o.product, o.currency, coalesce(o.rule, 'not kept') AS rule,
  to_char(o.assessed_at AT TIME ZONE 'UTC', 'YYYY-MM') AS month,
  count(*) AS holds,
  count(*) FILTER (WHERE p.kept_minor > 0) AS caught,
  count(*) FILTER (WHERE o.returned_at IS NULL) AS good,
  coalesce(sum(p.minor_days) FILTER (WHERE o.returned_at IS NULL), 0)::bigint AS good_minor_days,
  coalesce(sum(p.kept_minor), 0)::bigint AS kept_minor,
  min(o.assessed_at) AS first_at,
  max(o.assessed_at) FILTER (WHERE p.kept_minor > 0) AS last_caught_at
FROM risk_outcome o CROSS JOIN LATERAL (
  SELECT sum(e.minor * greatest(0, e.from_on - (o.assessed_at AT TIME ZONE 'UTC')::date)) AS minor_days,
    sum(e.minor) FILTER (WHERE e.from_on > (o.returned_at AT TIME ZONE 'UTC')::date) AS kept_minor
  FROM (SELECT (part ->> 0)::bigint AS minor, (part ->> 1)::date AS from_on
        FROM json_array_elements(o.parts::json) AS parts (part)) AS e) AS p
WHERE o.verdict <> 'clear' AND o.fast_at <= now() AND o.returned_by IS DISTINCT FROM 'issuer'
GROUP BY 1, 2, 3, 4;
