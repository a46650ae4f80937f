-- migrate:up
-- What is told with another repayment's message was delivered as that was.
CREATE OR REPLACE VIEW message AS
SELECT n.repayment_id, n.requested_at AS at, n.channel, n.template, n.language, n.text, d.state, d.ended_at
FROM notifier.notification n JOIN notifier.delivery d ON d.notification_id = coalesce(n.told_by, n.notification_id)
WHERE n.repayment_id IS NOT NULL;
