-- migrate:up
-- A customer asks for a review of a limit, or for a person to look at it again.
ALTER TABLE audit DROP CONSTRAINT audit_action;
ALTER TABLE audit ADD CONSTRAINT audit_action CHECK (action IN ('assign', 'review', 'escalate', 'resolve', 'object',
  'release_hold', 'extend_hold', 'take_feedback', 'replay', 'discard', 'ask_release', 'ask_resolve', 'request_review',
  'appeal_review'));
