-- migrate:up
-- The events of billing's that were booked last, but for statements, and how many events said what the account owes after
-- them, both since this migration: readers learn from it how far such a word goes, and whether one before is still to come.
ALTER TABLE account ADD COLUMN read_to text NOT NULL DEFAULT '', ADD COLUMN told bigint NOT NULL DEFAULT 0;
