-- migrate:up
-- Where the audit was told to end, on a topic: whoever rewrites it here as well does not reach what Kafka has.
CREATE TABLE audit_anchor (
  seq bigint PRIMARY KEY CHECK (seq >= 1),
  hash text NOT NULL,
  count bigint NOT NULL CHECK (count >= 1),
  at timestamptz NOT NULL
);
CREATE INDEX audit_anchor_at ON audit_anchor (at);
CREATE TRIGGER audit_anchor_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_anchor
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
REVOKE UPDATE, DELETE ON audit_anchor FROM otb_console;
