-- migrate:up
CREATE TABLE account (
  account_id text PRIMARY KEY,
  product text NOT NULL,
  currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
  status text NOT NULL CHECK (status IN ('active', 'frozen', 'closed')),
  status_reason text NOT NULL,
  credit_limit_minor bigint NOT NULL CHECK (credit_limit_minor >= 0),
  available_minor bigint NOT NULL,
  used_debt_minor bigint NOT NULL CHECK (used_debt_minor >= 0),
  used_authorisation_minor bigint NOT NULL CHECK (used_authorisation_minor >= 0),
  pending_minor bigint NOT NULL CHECK (pending_minor >= 0),
  credit_balance_minor bigint NOT NULL CHECK (credit_balance_minor >= 0),
  charges_minor bigint NOT NULL CHECK (charges_minor >= 0),
  overpaid_minor bigint NOT NULL CHECK (overpaid_minor >= 0),
  overpaid_until timestamptz,
  limit_lowered_at timestamptz,
  spendable boolean NOT NULL,
  cash_sub_limit_minor bigint CHECK (cash_sub_limit_minor >= 0),
  cash_used_minor bigint NOT NULL,
  shown_minor bigint NOT NULL CHECK (shown_minor >= 0),
  zero_reason text,
  version bigint NOT NULL,
  CHECK (credit_balance_minor = 0 OR used_debt_minor = 0),
  CHECK (zero_reason IS NULL OR shown_minor = 0),
  CHECK (available_minor + used_debt_minor + used_authorisation_minor + pending_minor = credit_limit_minor),
  CHECK (available_minor <= credit_limit_minor)
) WITH (fillfactor = 80);

-- One row a journal, a column a ledger account; the contra leg is -limit_minor, so a row sums to 0 by its CHECK.
CREATE TABLE journal (
  kind text NOT NULL CHECK (kind IN ('OPEN', 'RAISE', 'CUT', 'AUTHORISE', 'UNAUTHORISE', 'POST', 'PURCHASE', 'CHARGE',
    'REFUND', 'SETTLE', 'RELEASE', 'VOID', 'REVERSE', 'REALLOCATE', 'ABSORB', 'UNCOVER')),
  ref text NOT NULL,
  account_id text NOT NULL,
  limit_minor bigint NOT NULL,
  available_minor bigint NOT NULL,
  used_debt_minor bigint NOT NULL,
  used_authorisation_minor bigint NOT NULL,
  pending_minor bigint NOT NULL,
  booked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (account_id, kind, ref),
  CHECK (available_minor + used_debt_minor + used_authorisation_minor + pending_minor - limit_minor = 0),
  CHECK (limit_minor = 0 OR kind IN ('OPEN', 'RAISE', 'CUT'))
);
CREATE TRIGGER journal_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON journal
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE repayment (
  account_id text NOT NULL,
  repayment_id text PRIMARY KEY,
  assessed boolean NOT NULL,
  returned boolean NOT NULL,
  late boolean NOT NULL,
  joined boolean NOT NULL,
  amount_minor bigint NOT NULL CHECK (amount_minor >= 0),
  restorable_minor bigint NOT NULL CHECK (restorable_minor BETWEEN 0 AND amount_minor),
  credit_balance_minor bigint NOT NULL CHECK (credit_balance_minor >= 0),
  reallocated_minor bigint NOT NULL,
  reallocated_available_minor bigint NOT NULL,
  reallocated_balance_minor bigint NOT NULL,
  currency text NOT NULL,
  rail text NOT NULL,
  repaid_at timestamptz,
  version integer NOT NULL,
  revision integer NOT NULL,
  trail text NOT NULL,
  reasons text NOT NULL,
  faster text NOT NULL,
  policy_version text NOT NULL,
  model_version text NOT NULL,
  calendar_version text NOT NULL,
  clear_seconds integer NOT NULL,
  hold_slack_seconds integer NOT NULL
);

CREATE TABLE tranche (
  account_id text NOT NULL,
  repayment_id text NOT NULL,
  number integer NOT NULL CHECK (number BETWEEN 1 AND 99),
  amount_minor bigint NOT NULL CHECK (amount_minor > 0 OR (amount_minor = 0 AND state = 'voided')),
  state text NOT NULL CHECK (state IN ('held', 'parked', 'restored', 'voided', 'reversed', 'lapsed')),
  until timestamptz NOT NULL,
  reason text NOT NULL,
  promised_by timestamptz NOT NULL,
  restored_at timestamptz,
  promises integer NOT NULL CHECK (promises >= 0),
  extensions integer NOT NULL CHECK (extensions >= 0),
  delayed boolean NOT NULL,
  PRIMARY KEY (repayment_id, number),
  CHECK ((state IN ('restored', 'reversed')) = (restored_at IS NOT NULL))
);
CREATE INDEX tranche_waiting ON tranche (account_id) WHERE state IN ('held', 'parked');
CREATE INDEX tranche_promised ON tranche (promised_by) WHERE state IN ('held', 'parked');

-- The credit lane of domain section 3.2, several steps of one batch at once: the closure of LANE in model.py.
-- What left PENDING_RELEASE keeps its amount and its instant.
CREATE FUNCTION lane_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN
    (('held', 'lapsed'), ('held', 'parked'), ('held', 'restored'), ('held', 'reversed'), ('held', 'voided'),
     ('lapsed', 'voided'),
     ('parked', 'held'), ('parked', 'lapsed'), ('parked', 'restored'), ('parked', 'reversed'), ('parked', 'voided'),
     ('restored', 'reversed')) THEN
    RAISE EXCEPTION 'tranche %:% cannot go from % to %', OLD.repayment_id, OLD.number, OLD.state, NEW.state
      USING ERRCODE = 'restrict_violation';
  END IF;
  IF OLD.state IN ('restored', 'reversed', 'voided')
    AND (OLD.amount_minor, OLD.restored_at) IS DISTINCT FROM (NEW.amount_minor, NEW.restored_at) THEN
    RAISE EXCEPTION 'tranche %:% is %: its amount and instant stay', OLD.repayment_id, OLD.number, OLD.state
      USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER tranche_lane BEFORE UPDATE ON tranche FOR EACH ROW EXECUTE FUNCTION lane_only();

-- At commit the tranches of an assessed repayment add up to what may be restored of it, replays included.
CREATE FUNCTION tranches_add_up() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  wrong text;
BEGIN
  SELECT r.repayment_id INTO wrong FROM limit_release.repayment r
  CROSS JOIN LATERAL (SELECT sum(t.amount_minor) AS parts FROM limit_release.tranche t
                      WHERE t.repayment_id = r.repayment_id) p
  WHERE r.repayment_id = coalesce(NEW.repayment_id, OLD.repayment_id) AND r.assessed
    AND r.restorable_minor + r.reallocated_minor <> coalesce(p.parts, 0) + r.reallocated_available_minor
    AND NOT (r.returned AND p.parts IS NULL);
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION 'the tranches of % do not add up to what may be restored', wrong USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER repayment_adds_up AFTER INSERT OR UPDATE ON repayment DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW WHEN (NEW.assessed) EXECUTE FUNCTION tranches_add_up();
CREATE CONSTRAINT TRIGGER tranche_adds_up AFTER UPDATE ON tranche DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW WHEN (OLD.amount_minor <> NEW.amount_minor) EXECUTE FUNCTION tranches_add_up();
CREATE CONSTRAINT TRIGGER tranche_removed AFTER DELETE ON tranche DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION tranches_add_up();

CREATE TABLE authorisation (
  account_id text NOT NULL,
  authorisation_id text NOT NULL,
  amount_minor bigint NOT NULL CHECK (amount_minor >= 0),
  PRIMARY KEY (account_id, authorisation_id)
);

CREATE TABLE decision_record (
  repayment_id text NOT NULL,
  version integer NOT NULL,
  account_id text NOT NULL,
  decided_at timestamptz NOT NULL,
  record text NOT NULL,
  PRIMARY KEY (repayment_id, version)
);
CREATE TRIGGER decision_record_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON decision_record
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What a customer may spend now, beside the ledger's own number, with the reason of a shown 0 (domain 4.2, R20).
CREATE VIEW available_credit AS
SELECT account_id, currency, status, credit_limit_minor, shown_minor AS available_credit_minor,
  available_minor AS available_raw_minor, used_debt_minor, used_authorisation_minor, pending_minor, credit_balance_minor,
  zero_reason, limit_lowered_at, cash_sub_limit_minor,
  CASE WHEN cash_sub_limit_minor IS NOT NULL
    THEN greatest(0, least(cash_sub_limit_minor - cash_used_minor, shown_minor)) END AS cash_available_minor
FROM account;

-- Every promise that counts and how it stands; while its account is frozen it is suspended (domain 7).
CREATE VIEW promise AS
SELECT t.account_id, t.repayment_id, t.number, t.amount_minor, t.promised_by, t.promises - 1 AS revision, t.restored_at,
  CASE
    WHEN t.state IN ('held', 'parked') AND a.status = 'frozen' THEN 'suspended'
    WHEN t.restored_at <= t.promised_by THEN 'met'
    WHEN t.delayed OR t.restored_at IS NOT NULL THEN 'broken'
    WHEN t.state IN ('held', 'parked') THEN 'open'
    ELSE 'void'
  END AS standing,
  CASE WHEN t.state IN ('held', 'parked') AND a.status = 'frozen' THEN 'account_active' END AS condition
FROM tranche t JOIN account a USING (account_id) WHERE t.promises > 0;

-- I2: the account row equals the sum of its journals, and the identity holds.
CREATE VIEW invariant_limit_identity AS
SELECT a.account_id, a.credit_limit_minor, j.limit_minor, a.available_minor, j.available_minor AS journal_available
FROM account a
JOIN (SELECT account_id, sum(limit_minor) AS limit_minor, sum(available_minor) AS available_minor,
        sum(used_debt_minor) AS used_debt_minor, sum(used_authorisation_minor) AS used_authorisation_minor,
        sum(pending_minor) AS pending_minor FROM journal GROUP BY 1) j USING (account_id)
WHERE (a.credit_limit_minor, a.available_minor, a.used_debt_minor, a.used_authorisation_minor, a.pending_minor)
  <> (j.limit_minor, j.available_minor, j.used_debt_minor, j.used_authorisation_minor, j.pending_minor)
  OR a.available_minor + a.used_debt_minor + a.used_authorisation_minor + a.pending_minor <> a.credit_limit_minor;

-- I1: every journal sums to 0.
CREATE VIEW invariant_journal_balanced AS
SELECT kind, ref FROM journal
WHERE available_minor + used_debt_minor + used_authorisation_minor + pending_minor <> limit_minor;

-- I3: what may be restored is held, parked, restored, voided, reversed or lapsed, or a replay moved it past them.
CREATE VIEW invariant_restorable_conserved AS
SELECT r.repayment_id, r.restorable_minor, r.reallocated_minor, r.reallocated_available_minor,
  coalesce(t.amount_minor, 0) AS in_tranches
FROM repayment r LEFT JOIN (SELECT repayment_id, sum(amount_minor) AS amount_minor FROM tranche GROUP BY 1) t
  USING (repayment_id)
WHERE r.assessed
  AND r.restorable_minor + r.reallocated_minor <> coalesce(t.amount_minor, 0) + r.reallocated_available_minor
  AND NOT (r.returned AND t.amount_minor IS NULL);

-- I4: what is pending is held, parked or lapsed.
CREATE VIEW invariant_pending_equals_holds AS
SELECT a.account_id, a.pending_minor, coalesce(t.amount_minor, 0) AS in_tranches
FROM account a LEFT JOIN (SELECT account_id, sum(amount_minor) AS amount_minor FROM tranche
  WHERE state IN ('held', 'parked', 'lapsed') GROUP BY 1) t USING (account_id)
WHERE a.pending_minor <> coalesce(t.amount_minor, 0);

-- I5: one RELEASE journal for every tranche that was restored, and for no other.
CREATE VIEW invariant_restored_once AS
SELECT coalesce(t.ref, j.ref) AS ref FROM
  (SELECT repayment_id || ':' || number AS ref, amount_minor FROM tranche WHERE restored_at IS NOT NULL) t
  FULL JOIN (SELECT ref, available_minor FROM journal WHERE kind = 'RELEASE') j USING (ref)
WHERE t.ref IS NULL OR j.ref IS NULL OR t.amount_minor <> j.available_minor;

-- I6: no more is taken back than was restorable.
CREATE VIEW invariant_not_over_reversed AS
SELECT t.repayment_id FROM tranche t JOIN repayment r USING (repayment_id)
WHERE t.state IN ('voided', 'reversed')
GROUP BY t.repayment_id, r.restorable_minor, r.reallocated_minor, r.reallocated_available_minor
HAVING sum(t.amount_minor) + r.reallocated_available_minor > r.restorable_minor + r.reallocated_minor;

-- I7: no more is available than the limit.
CREATE VIEW invariant_available_at_most_limit AS
SELECT account_id FROM account WHERE available_minor > credit_limit_minor;

-- I8: what is shown is the ledger's number, never below 0, with its reason; both numbers follow from the journals.
CREATE VIEW invariant_shown_is_true AS
SELECT a.account_id, a.shown_minor, a.zero_reason, j.available_minor
FROM account a
JOIN (SELECT account_id, sum(available_minor)::bigint AS available_minor FROM journal GROUP BY 1) j USING (account_id)
CROSS JOIN LATERAL (SELECT CASE WHEN a.status <> 'active' THEN 0 ELSE greatest(0, j.available_minor
  + CASE WHEN a.spendable THEN a.credit_balance_minor ELSE 0 END) END AS shown_minor) t
CROSS JOIN LATERAL (SELECT CASE
  WHEN t.shown_minor > 0 THEN NULL
  WHEN a.status = 'closed' THEN 'ACCOUNT_CLOSED'
  WHEN a.status = 'frozen' AND a.status_reason IN ('overdue', 'overdue_elsewhere') THEN 'ACCOUNT_OVERDUE'
  WHEN a.status = 'frozen' THEN 'ACCOUNT_FROZEN'
  WHEN a.limit_lowered_at IS NOT NULL THEN 'LIMIT_LOWERED'
  WHEN j.available_minor < 0 THEN 'OVER_LIMIT' END AS zero_reason) w
WHERE a.shown_minor <> t.shown_minor OR a.zero_reason IS DISTINCT FROM w.zero_reason;

-- I9: what waits has a timer, at most 60 s past; a parked tranche waits for its account, an undecided one was told.
CREATE VIEW invariant_waits_explained AS
SELECT t.repayment_id, t.number, t.until FROM tranche t JOIN account a USING (account_id)
LEFT JOIN timers d ON d.timer_key = 'hold_due:' || t.repayment_id || ':' || t.number
WHERE (t.state = 'held' AND (t.until < clock_timestamp() - interval '60 seconds' OR d.due_at IS DISTINCT FROM t.until))
   OR (t.state = 'parked' AND a.status = 'active')
UNION ALL
SELECT r.repayment_id, 0, d.due_at FROM repayment r JOIN account a USING (account_id)
LEFT JOIN timers d ON d.timer_key = 'decision_due:' || r.repayment_id || ':0'
WHERE NOT r.assessed AND NOT r.returned AND NOT r.late AND r.repaid_at IS NOT NULL AND a.status <> 'closed'
  AND (d.due_at IS NULL OR d.due_at < clock_timestamp() - interval '60 seconds');

-- I19, the part of it seen here: what was restored after its promise was told as delayed.
CREATE VIEW invariant_late_is_told AS
SELECT repayment_id, number, promised_by, restored_at FROM tranche WHERE restored_at > promised_by AND NOT delayed;

-- I21: restored after repaid.
CREATE VIEW invariant_time_ordered AS
SELECT t.repayment_id, t.number FROM tranche t JOIN repayment r USING (repayment_id)
WHERE t.restored_at < r.repaid_at - interval '5 minutes';
