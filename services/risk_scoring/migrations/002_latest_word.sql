-- migrate:up
-- When billing last changed the limit (null: as the account was opened), and last said whether a funding account is
-- verified: an older word counts no more.
ALTER TABLE account ADD COLUMN limit_at timestamptz;
ALTER TABLE funding_account ADD COLUMN linked_at timestamptz;
