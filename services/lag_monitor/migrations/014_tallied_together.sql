-- migrate:up
-- What a batch counts more than once alike is one row of so many.
ALTER TABLE tally ADD COLUMN n bigint NOT NULL DEFAULT 1 CHECK (n > 0);
