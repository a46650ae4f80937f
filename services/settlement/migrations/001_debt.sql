-- migrate:up
CREATE TABLE account (
  account_id text PRIMARY KEY,
  product text NOT NULL,
  currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
  penalty_minor bigint NOT NULL DEFAULT 0 CHECK (penalty_minor >= 0),
  fee_minor bigint NOT NULL DEFAULT 0 CHECK (fee_minor >= 0),
  interest_minor bigint NOT NULL DEFAULT 0 CHECK (interest_minor >= 0),
  principal_minor bigint NOT NULL DEFAULT 0 CHECK (principal_minor >= 0),
  credit_balance_minor bigint NOT NULL DEFAULT 0 CHECK (credit_balance_minor >= 0)
) WITH (fillfactor = 80);

CREATE TABLE repayment (
  repayment_id text PRIMARY KEY,
  account_id text NOT NULL,
  status text NOT NULL CHECK (status IN ('waiting', 'settled', 'rejected', 'returned', 'returned_first')),
  amount_minor bigint NOT NULL CHECK (amount_minor > 0),
  penalty_minor bigint NOT NULL CHECK (penalty_minor >= 0),
  fee_minor bigint NOT NULL CHECK (fee_minor >= 0),
  interest_minor bigint NOT NULL CHECK (interest_minor >= 0),
  principal_minor bigint NOT NULL CHECK (principal_minor >= 0),
  credit_balance_minor bigint NOT NULL CHECK (credit_balance_minor >= 0),
  restorable_minor bigint NOT NULL CHECK (restorable_minor >= 0),
  repaid_at timestamptz,
  credited_on date,
  final_on date,
  CHECK (status NOT IN ('settled', 'returned') OR amount_minor
    = penalty_minor + fee_minor + interest_minor + principal_minor + credit_balance_minor)
);

-- Purchases and refunds that were booked: each counts once, whatever event id it comes under.
CREATE TABLE entry (
  account_id text NOT NULL,
  entry text NOT NULL,
  PRIMARY KEY (account_id, entry)
);

-- Lanes only move forward: settled -> returned, waiting -> settled or rejected, returned_first -> rejected.
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
