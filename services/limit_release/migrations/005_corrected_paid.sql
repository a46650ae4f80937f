-- migrate:up
-- What of the charges billing took off had been paid (until settlement says whose money that is): a held overpayment that
-- paid it gets it back, whatever the credit balance did with it in between.
ALTER TABLE account ADD COLUMN corrected_minor bigint NOT NULL DEFAULT 0 CHECK (corrected_minor >= 0);
