-- migrate:up
-- buckets: past due, due, in advance; each penalty, fee, interest, principal. books: the debts in them, statements whose
-- day is not over, and the day until which the books are; view bucket gives every one its name.
CREATE TABLE account (
  account_id text PRIMARY KEY,
  product text NOT NULL,
  currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
  buckets bigint[] NOT NULL CHECK (cardinality(buckets) = 12 AND 0 <= ALL (buckets)),
  credit_balance_minor bigint NOT NULL CHECK (credit_balance_minor >= 0),
  books jsonb NOT NULL,
  last_at timestamptz,
  latest jsonb,
  kept integer NOT NULL CHECK (kept >= 0),
  fold_at integer NOT NULL CHECK (fold_at > 0),
  penalty_minor bigint NOT NULL CHECK (penalty_minor = buckets[1] + buckets[5] + buckets[9]),
  fee_minor bigint NOT NULL CHECK (fee_minor = buckets[2] + buckets[6] + buckets[10]),
  interest_minor bigint NOT NULL CHECK (interest_minor = buckets[3] + buckets[7] + buckets[11]),
  principal_minor bigint NOT NULL CHECK (principal_minor = buckets[4] + buckets[8] + buckets[12]),
  version bigint NOT NULL,
  CHECK (credit_balance_minor = 0 OR 0 = ALL (buckets))
) WITH (fillfactor = 80);

CREATE TABLE repayment (
  repayment_id text PRIMARY KEY,
  account_id text NOT NULL,
  status text NOT NULL CHECK (status IN ('waiting', 'settled', 'rejected', 'returned', 'returned_first')),
  amount_minor bigint NOT NULL CHECK (amount_minor > 0),
  method text CHECK (method IN ('auto', 'manual')),
  repaid_at timestamptz,
  credited_on date,
  final_on date,
  portions jsonb NOT NULL,
  penalty_minor bigint NOT NULL CHECK (penalty_minor >= 0),
  fee_minor bigint NOT NULL CHECK (fee_minor >= 0),
  interest_minor bigint NOT NULL CHECK (interest_minor >= 0),
  principal_minor bigint NOT NULL CHECK (principal_minor >= 0),
  credit_balance_minor bigint NOT NULL CHECK (credit_balance_minor >= 0),
  restorable_minor bigint NOT NULL CHECK (restorable_minor >= 0),
  reallocated_minor bigint NOT NULL CHECK (restorable_minor + reallocated_minor BETWEEN 0 AND amount_minor),
  folded boolean NOT NULL,
  CHECK (status NOT IN ('settled', 'returned') OR repaid_at IS NOT NULL AND credited_on IS NOT NULL
    AND final_on IS NOT NULL AND method IS NOT NULL AND amount_minor
    = penalty_minor + fee_minor + interest_minor + principal_minor + credit_balance_minor)
) WITH (fillfactor = 90);
CREATE INDEX repayment_history ON repayment (account_id) WHERE status = 'settled' AND NOT folded;

-- What billing told of the debt: each counts once, whatever event id it comes under, and is replayed until it is folded.
CREATE TABLE entry (
  account_id text NOT NULL,
  entry text NOT NULL,
  kind text NOT NULL CHECK (kind IN ('purchase', 'charges', 'refund', 'statement', 'payout')),
  at timestamptz NOT NULL,
  day date NOT NULL,
  subject text NOT NULL,
  content jsonb NOT NULL,
  folded boolean NOT NULL,
  PRIMARY KEY (account_id, entry)
);
CREATE INDEX entry_history ON entry (account_id) WHERE NOT folded;

-- What the facts that are folded came to: a replay begins here.
CREATE TABLE base (
  account_id text PRIMARY KEY,
  books jsonb NOT NULL,
  credit_balance_minor bigint NOT NULL CHECK (credit_balance_minor >= 0)
);

CREATE VIEW bucket AS SELECT account_id, currency,
  buckets[1] AS past_due_penalty_minor, buckets[2] AS past_due_fee_minor, buckets[3] AS past_due_interest_minor,
  buckets[4] AS past_due_principal_minor, buckets[5] AS due_penalty_minor, buckets[6] AS due_fee_minor,
  buckets[7] AS due_interest_minor, buckets[8] AS due_principal_minor, buckets[9] AS in_advance_penalty_minor,
  buckets[10] AS in_advance_fee_minor, buckets[11] AS in_advance_interest_minor,
  buckets[12] AS in_advance_principal_minor, credit_balance_minor
FROM account;

-- The debts of an account add up to its buckets.
CREATE VIEW invariant_debts_fill_the_buckets AS SELECT a.account_id, a.buckets, a.books FROM account a
WHERE (SELECT coalesce(sum((d ->> 2)::bigint), 0) FROM jsonb_array_elements(a.books -> 0) d)
  <> (SELECT sum(b) FROM unnest(a.buckets) b);

-- Lanes only move forward; the table is LANE of services/settlement/model.py.
CREATE FUNCTION forward_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.status <> NEW.status AND (OLD.status, NEW.status) NOT IN
    (('waiting', 'settled'), ('waiting', 'rejected'), ('settled', 'returned'), ('returned_first', 'rejected')) THEN
    RAISE EXCEPTION 'repayment % cannot go from % to %', OLD.repayment_id, OLD.status, NEW.status
      USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER repayment_forward_only BEFORE UPDATE ON repayment FOR EACH ROW EXECUTE FUNCTION forward_only();
