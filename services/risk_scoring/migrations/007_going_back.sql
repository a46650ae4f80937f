-- migrate:up
-- Whether a change went back to what decided before. What was kept until now counts as going forward.
ALTER TABLE risk_activation ADD COLUMN goes_back boolean NOT NULL DEFAULT false;
