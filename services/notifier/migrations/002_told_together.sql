-- migrate:up
-- The message that tells of this repayment too, where one fact did something to several: it has no delivery of its own.
ALTER TABLE notification ADD COLUMN told_by text CHECK (told_by <> notification_id);
CREATE INDEX notification_told_by ON notification (told_by) WHERE told_by IS NOT NULL;
