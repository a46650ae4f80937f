"""Accounts and repayments of the debt ledger, by the batch."""

from collections.abc import Sequence

from schemas.intake import RepaymentReceived, ReturnReceived
from services.decision import Input
from services.runtime.postgres import Connection, Row, columns
from services.runtime.worker import Store
from services.settlement.domain import Account, Repayment, entry_of

# The debt of these accounts, locked in the order of their keys.
LOAD_ACCOUNTS = """
SELECT account_id, product, currency, penalty_minor, fee_minor, interest_minor, principal_minor, credit_balance_minor
FROM settlement.account WHERE account_id = ANY ($1::text[]) ORDER BY account_id FOR UPDATE
"""
# The repayments this batch speaks of.
LOAD_REPAYMENTS = """
SELECT repayment_id, account_id, status, amount_minor, penalty_minor, fee_minor, interest_minor, principal_minor,
  credit_balance_minor, restorable_minor, repaid_at, credited_on, final_on
FROM settlement.repayment WHERE repayment_id = ANY ($1::text[])
"""
# Which of these purchases and refunds were booked before.
LOAD_ENTRIES = """
SELECT account_id, entry FROM settlement.entry
WHERE (account_id, entry) IN (SELECT * FROM unnest($1::text[], $2::text[]))
"""
# Writes changed accounts, repayments and what was booked.
SAVE = """
WITH entries AS (
  INSERT INTO settlement.entry (account_id, entry) SELECT * FROM unnest($22::text[], $23::text[])),
accounts AS (
  INSERT INTO settlement.account AS a (account_id, product, currency, penalty_minor, fee_minor, interest_minor,
    principal_minor, credit_balance_minor)
  SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
    $8::bigint[])
  ON CONFLICT (account_id) DO UPDATE SET penalty_minor = excluded.penalty_minor, fee_minor = excluded.fee_minor,
    interest_minor = excluded.interest_minor, principal_minor = excluded.principal_minor,
    credit_balance_minor = excluded.credit_balance_minor)
INSERT INTO settlement.repayment AS r (repayment_id, account_id, status, amount_minor, penalty_minor, fee_minor,
  interest_minor, principal_minor, credit_balance_minor, restorable_minor, repaid_at, credited_on, final_on)
SELECT * FROM unnest($9::text[], $10::text[], $11::text[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[],
  $16::bigint[], $17::bigint[], $18::bigint[], $19::timestamptz[], $20::date[], $21::date[])
ON CONFLICT (repayment_id) DO UPDATE SET status = excluded.status, amount_minor = excluded.amount_minor,
  penalty_minor = excluded.penalty_minor, fee_minor = excluded.fee_minor, interest_minor = excluded.interest_minor,
  principal_minor = excluded.principal_minor, credit_balance_minor = excluded.credit_balance_minor,
  restorable_minor = excluded.restorable_minor, repaid_at = excluded.repaid_at, credited_on = excluded.credited_on,
  final_on = excluded.final_on
"""


def key(event: Input) -> str:
    """Return the account of an input."""
    return event.account_id


async def load(connection: Connection, inputs: Sequence[Input]) -> dict[str, Account]:
    """Return the account of every input, with the repayments the inputs speak of."""
    accounts = sorted({event.account_id for event in inputs})
    named = [event.repayment_id for event in inputs if isinstance(event, RepaymentReceived | ReturnReceived)]
    repayments: dict[str, dict[str, Repayment]] = {}
    found = {row["account_id"]: row for row in await connection.fetch(LOAD_ACCOUNTS, accounts)}
    for row in await connection.fetch(LOAD_REPAYMENTS, named) if named else ():
        repayments.setdefault(row["account_id"], {})[row["repayment_id"]] = _repayment(row)
    told = [(event.account_id, entry_of(event)) for event in inputs if entry_of(event)]
    entries: dict[str, set[str]] = {}
    for row in await connection.fetch(LOAD_ENTRIES, *columns(told, 2)) if told else ():
        entries.setdefault(row["account_id"], set()).add(row["entry"])
    return {at: _account(at, found.get(at), repayments.get(at, {}), entries.get(at, set())) for at in accounts}


async def save(connection: Connection, changes: Sequence[tuple[Account, Account]]) -> tuple[()]:
    """Write accounts, and the repayments that changed."""
    accounts, repayments, entries = [], [], []
    for before, a in changes:
        debt = (a.penalty_minor, a.fee_minor, a.interest_minor, a.principal_minor, a.credit_balance_minor)
        accounts.append((a.account_id, a.product, a.currency, *debt))
        repayments += [_row(a.account_id, r) for at, r in a.repayments.items() if before.repayments.get(at) is not r]
        entries += [(a.account_id, entry) for entry in sorted(a.entries - before.entries)]
    await connection.execute(SAVE, *columns(accounts, 8), *columns(repayments, 13), *columns(entries, 2))
    return ()


def _row(account_id: str, r: Repayment) -> tuple[object, ...]:
    parts = (r.penalty_minor, r.fee_minor, r.interest_minor, r.principal_minor, r.credit_balance_minor)
    days = (r.repaid_at, r.credited_on, r.final_on)
    return (r.repayment_id, account_id, r.status, r.amount_minor, *parts, r.restorable_minor, *days)


def _account(account_id: str, row: Row | None, repayments: dict[str, Repayment], entries: set[str]) -> Account:
    if row is None:
        return Account(account_id, repayments=repayments)
    return Account(**{**row, "repayments": repayments, "entries": frozenset(entries)})


def _repayment(row: Row) -> Repayment:
    return Repayment(**{name: value for name, value in row.items() if name != "account_id"})


STORE = Store(key=key, load=load, save=save)
