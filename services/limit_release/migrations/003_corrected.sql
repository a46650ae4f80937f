-- migrate:up
-- When billing last took charges off (null: never): what a repayment paid of them is overpaid since then, not before.
ALTER TABLE account ADD COLUMN corrected_at timestamptz;
