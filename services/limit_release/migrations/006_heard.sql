-- migrate:up
-- What settlement last said is owed, with what billing told since, and billing's facts read lately, which may be newer
-- than what settlement says next.
ALTER TABLE account ADD COLUMN heard text NOT NULL DEFAULT '[null,[],0,false]' CHECK (heard IS JSON ARRAY);
-- The overpayments that are held here and in settlement's books already: what they pay there may be owed here.
ALTER TABLE account ADD COLUMN unjoined_minor bigint NOT NULL DEFAULT 0;
UPDATE account AS a SET unjoined_minor = r.minor
FROM (SELECT account_id, sum(credit_balance_minor + reallocated_balance_minor) AS minor FROM repayment
  WHERE NOT joined AND NOT returned GROUP BY 1) AS r
WHERE r.account_id = a.account_id AND r.minor <> 0;
