-- migrate:up
-- Models a decision may pin, as the very text that was hashed; one champion a kind. Without one, the shipped table decides.
CREATE TABLE risk_models (
  kind text NOT NULL CHECK (kind IN ('return')),
  version text NOT NULL,
  sha256 text NOT NULL,
  artefact text NOT NULL CHECK (artefact IS JSON OBJECT),
  schema_version integer NOT NULL,
  metrics jsonb NOT NULL DEFAULT '{}',
  train_window tstzrange,
  status text NOT NULL CHECK (status IN ('shadow', 'challenger', 'champion', 'retired')),
  approved_by text,
  activated_at timestamptz,
  PRIMARY KEY (kind, version),
  CHECK (sha256 = encode(sha256(convert_to(artefact, 'UTF8')), 'hex')),
  CHECK (status <> 'champion' OR (approved_by IS NOT NULL AND activated_at IS NOT NULL))
);
CREATE UNIQUE INDEX one_champion_a_kind ON risk_models (kind) WHERE status = 'champion';
-- Every change of the champion, in order, with who and why; no version: the shipped table.
CREATE TABLE risk_activation (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind text NOT NULL,
  version text,
  actor text NOT NULL,
  reason text NOT NULL,
  activated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  FOREIGN KEY (kind, version) REFERENCES risk_models
);
-- The worker only reads which model is in force; people change it, through `otb risk`.
REVOKE INSERT, UPDATE, DELETE ON risk_models, risk_activation FROM otb_risk_scoring;
