-- migrate:up
-- The console reads, writes and sets aside as the five do: it is watched as they are.
CREATE OR REPLACE VIEW outbox_waiting AS
SELECT 'repayment-ingest' AS service, count(*) AS publications, min(created_at) AS oldest_at
FROM repayment_ingest.publication WHERE published_at IS NULL
UNION ALL SELECT 'settlement', count(*), min(created_at) FROM settlement.publication WHERE published_at IS NULL
UNION ALL SELECT 'risk-scoring', count(*), min(created_at) FROM risk_scoring.publication WHERE published_at IS NULL
UNION ALL SELECT 'limit-release', count(*), min(created_at) FROM limit_release.publication WHERE published_at IS NULL
UNION ALL SELECT 'notifier', count(*), min(created_at) FROM notifier.publication WHERE published_at IS NULL
UNION ALL SELECT 'console', count(*), min(created_at) FROM console.publication WHERE published_at IS NULL;

CREATE OR REPLACE VIEW reading AS
SELECT 'repayment-ingest' AS service, topic, partition, next_offset FROM repayment_ingest.progress
UNION ALL SELECT 'settlement', topic, partition, next_offset FROM settlement.progress
UNION ALL SELECT 'risk-scoring', topic, partition, next_offset FROM risk_scoring.progress
UNION ALL SELECT 'limit-release', topic, partition, next_offset FROM limit_release.progress
UNION ALL SELECT 'notifier', topic, partition, next_offset FROM notifier.progress
UNION ALL SELECT 'console', topic, partition, next_offset FROM console.progress
UNION ALL SELECT 'lag-monitor', topic, partition, next_offset FROM progress;

-- The console stands in no stage: its letters are counted under its own name.
CREATE OR REPLACE VIEW dead_letter_open AS
SELECT 'ingest' AS stage, reason, first_seen_at FROM repayment_ingest.set_aside
WHERE kind = 'dead_letter' AND state = 'open'
UNION ALL SELECT 'settlement', reason, first_seen_at FROM settlement.set_aside
WHERE kind = 'dead_letter' AND state = 'open'
UNION ALL SELECT 'risk', reason, first_seen_at FROM risk_scoring.set_aside
WHERE kind = 'dead_letter' AND state = 'open'
UNION ALL SELECT 'release', reason, first_seen_at FROM limit_release.set_aside
WHERE kind = 'dead_letter' AND state = 'open'
UNION ALL SELECT 'notify', reason, first_seen_at FROM notifier.set_aside
WHERE kind = 'dead_letter' AND state = 'open'
UNION ALL SELECT 'console', reason, first_seen_at FROM console.set_aside
WHERE kind = 'dead_letter' AND state = 'open';
