-- migrate:up
-- Whether a person put a model on trial or in force although the checks did not allow it (risk_training/promotion.py).
ALTER TABLE risk_activation ADD COLUMN unproven boolean NOT NULL DEFAULT false;
