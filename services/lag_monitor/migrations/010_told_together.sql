-- migrate:up
-- A message that was not sent because another repayment's told of this one, too.
ALTER TABLE notice DROP CONSTRAINT notice_state_check,
  ADD CONSTRAINT notice_state_check
    CHECK (state IN ('requested', 'delivered', 'undeliverable', 'suppressed', 'told_together'));
