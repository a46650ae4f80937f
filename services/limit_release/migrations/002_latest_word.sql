-- migrate:up
-- When billing last changed the status and each limit (null: as the account was opened): an older word counts no more.
ALTER TABLE account ADD COLUMN status_at timestamptz, ADD COLUMN limit_at timestamptz,
  ADD COLUMN cash_limit_at timestamptz;
