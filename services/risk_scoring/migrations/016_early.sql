-- migrate:up
-- What settlements moved of repayments that were not read yet, by their ids: it counts when those are read.
ALTER TABLE account ADD COLUMN early text NOT NULL DEFAULT '{}' CHECK (early IS JSON OBJECT);
