-- migrate:up
-- A candidate beside the champion: as a shadow it judges without effect, as a canary it decides for a few accounts
-- (trials.py). One trial a kind; it is known by its version and by when it began.
ALTER TABLE risk_models DROP CONSTRAINT risk_models_status_check,
  ADD CONSTRAINT risk_models_status_check CHECK (status IN ('shadow', 'canary', 'challenger', 'champion', 'retired')),
  ADD CONSTRAINT trial_began CHECK (status NOT IN ('shadow', 'canary') OR activated_at IS NOT NULL);
CREATE UNIQUE INDEX one_trial_a_kind ON risk_models (kind) WHERE status IN ('shadow', 'canary');
-- What a model became by a change of the registry; until now only champions were made.
ALTER TABLE risk_activation ADD COLUMN became text NOT NULL DEFAULT 'champion'
  CHECK (became IN ('shadow', 'canary', 'challenger', 'champion'));
-- What both models said of the same repayment: a sample of each day, in a place of its own that a later day takes, so
-- that the table has no more rows than places (trials.py).
CREATE TABLE risk_comparison (
  place integer PRIMARY KEY,
  repayment_id text NOT NULL,
  account_id text NOT NULL,
  version text NOT NULL,
  began_at timestamptz NOT NULL,
  by_candidate boolean NOT NULL,
  assessed_at timestamptz NOT NULL,
  restorable_minor bigint NOT NULL CHECK (restorable_minor > 0),
  champion_verdict text NOT NULL CHECK (champion_verdict IN ('clear', 'observe', 'refer')),
  champion_at_once_minor bigint NOT NULL,
  champion_until timestamptz,
  champion_likely double precision NOT NULL,
  candidate_verdict text NOT NULL CHECK (candidate_verdict IN ('clear', 'observe', 'refer')),
  candidate_at_once_minor bigint NOT NULL,
  candidate_until timestamptz,
  candidate_likely double precision NOT NULL
);
-- Every comparison of a trial, counted by the hour and by who decided; of what the candidate gave back at once how many
-- returns it expected, and how many came. A session adds to rows of its own: only the sum over the shards means anything.
CREATE TABLE risk_trial_count (
  version text NOT NULL,
  began_at timestamptz NOT NULL,
  by_candidate boolean NOT NULL,
  hour timestamptz NOT NULL,
  shard integer NOT NULL,
  judged bigint NOT NULL,
  differing bigint NOT NULL,
  champion_held bigint NOT NULL,
  candidate_held bigint NOT NULL,
  released bigint NOT NULL,
  expected double precision NOT NULL,
  returned bigint NOT NULL,
  PRIMARY KEY (version, began_at, by_candidate, hour, shard)
);
-- A trial that broke a rule and was ended by it; the candidate neither decides nor judges from then on.
CREATE TABLE risk_trial_stop (
  version text NOT NULL,
  began_at timestamptz NOT NULL,
  rule text NOT NULL,
  figures text NOT NULL,
  stopped_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (version, began_at)
);
REVOKE INSERT, UPDATE, DELETE ON risk_activation FROM otb_risk_scoring;
