"""Accounts, their facts and their repayments in the debt ledger, by the batch."""

import json
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any

from schemas.account import PurchaseRefunded
from schemas.intake import RepaymentReceived, ReturnReceived
from services.decision import Input, TimerFired
from services.runtime.postgres import Connection, Row, columns
from services.runtime.worker import Store
from services.settlement.domain import ref_of, value_at
from services.settlement.model import COMPONENTS, STANDINGS, Account, Books, Cycle, Debt, Entry, Latest, Repayment

# The debt of these accounts, locked in the order of their keys.
LOAD_ACCOUNTS = """
SELECT account_id, product, currency, credit_balance_minor, books, last_at, latest, kept, fold_at
FROM settlement.account WHERE account_id = ANY ($1::text[]) ORDER BY account_id FOR UPDATE
"""
# The repayments this batch speaks of, and every one that may be replayed of the accounts where something comes late.
LOAD_REPAYMENTS = """
SELECT repayment_id, account_id, status, amount_minor, method, repaid_at, credited_on, final_on, portions,
  credit_balance_minor, restorable_minor, reallocated_minor, folded
FROM settlement.repayment WHERE repayment_id = ANY ($1::text[])
UNION ALL
SELECT repayment_id, account_id, status, amount_minor, method, repaid_at, credited_on, final_on, portions,
  credit_balance_minor, restorable_minor, reallocated_minor, folded
FROM settlement.repayment WHERE account_id = ANY ($2::text[]) AND status = 'settled' AND NOT folded
"""
# Which of these facts were booked before, and every one that may be replayed where something comes late.
LOAD_ENTRIES = """
SELECT account_id, entry, kind, at, day, subject, content, folded FROM settlement.entry
WHERE (account_id, entry) IN (SELECT * FROM unnest($1::text[], $2::text[]))
UNION ALL
SELECT account_id, entry, kind, at, day, subject, content, folded FROM settlement.entry
WHERE account_id = ANY ($3::text[]) AND NOT folded
UNION ALL
SELECT p.account_id, p.entry, p.kind, p.at, p.day, p.subject, p.content, p.folded
FROM settlement.entry r JOIN settlement.entry p ON p.account_id = r.account_id AND p.entry = 'purchase:' || r.subject
WHERE r.account_id = ANY ($3::text[]) AND NOT r.folded AND r.kind = 'refund'
"""
# What the facts that are not replayed any more came to.
LOAD_BASES = "SELECT account_id, books, credit_balance_minor FROM settlement.base WHERE account_id = ANY ($1::text[])"
# Writes changed accounts, repayments, facts and bases.
SAVE = """
WITH entries AS (
  INSERT INTO settlement.entry AS e (account_id, entry, kind, at, day, subject, content, folded)
  SELECT * FROM unnest($27::text[], $28::text[], $29::text[], $30::timestamptz[], $31::date[], $32::text[],
    $33::jsonb[], $34::boolean[])
  ON CONFLICT (account_id, entry) DO UPDATE SET folded = excluded.folded),
bases AS (
  INSERT INTO settlement.base AS b (account_id, books, credit_balance_minor)
  SELECT * FROM unnest($35::text[], $36::jsonb[], $37::bigint[])
  ON CONFLICT (account_id) DO UPDATE SET books = excluded.books, credit_balance_minor = excluded.credit_balance_minor),
accounts AS (
  INSERT INTO settlement.account AS a (account_id, product, currency, buckets, credit_balance_minor, books, last_at,
    latest, kept, fold_at, penalty_minor, fee_minor, interest_minor, principal_minor)
  SELECT account_id, product, currency, b, credit_balance_minor, books, last_at, latest, kept, fold_at,
    b[1] + b[5] + b[9], b[2] + b[6] + b[10], b[3] + b[7] + b[11], b[4] + b[8] + b[12]
  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::jsonb[], $7::timestamptz[],
    $8::jsonb[], $9::integer[], $10::integer[]) AS n(account_id, product, currency, buckets, credit_balance_minor,
    books, last_at, latest, kept, fold_at), LATERAL (SELECT n.buckets::bigint[]) AS l(b)
  ON CONFLICT (account_id) DO UPDATE SET buckets = excluded.buckets, books = excluded.books,
    credit_balance_minor = excluded.credit_balance_minor, last_at = excluded.last_at, latest = excluded.latest,
    kept = excluded.kept, fold_at = excluded.fold_at, penalty_minor = excluded.penalty_minor,
    fee_minor = excluded.fee_minor, interest_minor = excluded.interest_minor,
    principal_minor = excluded.principal_minor)
INSERT INTO settlement.repayment AS r (repayment_id, account_id, status, amount_minor, method, repaid_at, credited_on,
  final_on, portions, penalty_minor, fee_minor, interest_minor, principal_minor, credit_balance_minor, restorable_minor,
  reallocated_minor, folded)
SELECT * FROM unnest($11::text[], $12::text[], $13::text[], $14::bigint[], $15::text[], $16::timestamptz[],
  $17::date[], $18::date[], $19::jsonb[], $20::bigint[], $21::bigint[], $22::bigint[], $23::bigint[], $24::bigint[],
  $25::bigint[], $26::bigint[], $38::boolean[])
ON CONFLICT (repayment_id) DO UPDATE SET status = excluded.status, amount_minor = excluded.amount_minor,
  method = excluded.method, repaid_at = excluded.repaid_at, credited_on = excluded.credited_on,
  final_on = excluded.final_on, portions = excluded.portions, penalty_minor = excluded.penalty_minor,
  fee_minor = excluded.fee_minor, interest_minor = excluded.interest_minor, principal_minor = excluded.principal_minor,
  credit_balance_minor = excluded.credit_balance_minor, restorable_minor = excluded.restorable_minor,
  reallocated_minor = excluded.reallocated_minor, folded = excluded.folded
"""


def key(event: Input) -> str:
    """Return the account of an input."""
    return event.account_id


async def load(connection: Connection, inputs: Sequence[Input]) -> dict[str, Account]:
    """Return the account of every input with what the inputs speak of, and its history where something comes late."""
    accounts = sorted({event.account_id for event in inputs})
    found = {row["account_id"]: row for row in await connection.fetch(LOAD_ACCOUNTS, accounts)}
    late = late_of(found, inputs)
    named = [repayment_of(event) for event in inputs if repayment_of(event)]
    told = [(event.account_id, ref) for event in inputs for ref in refs_of(event)]
    repayments: dict[str, dict[str, Repayment]] = {at: {} for at in accounts}
    for row in await connection.fetch(LOAD_REPAYMENTS, named, late) if named or late else ():
        if row["account_id"] in repayments:
            repayments[row["account_id"]][row["repayment_id"]] = _repayment(row)
    entries: dict[str, dict[str, Entry]] = {at: {} for at in accounts}
    for row in await connection.fetch(LOAD_ENTRIES, *columns(told, 2), late) if told or late else ():
        entries[row["account_id"]][row["entry"]] = _entry(row)
    bases = {row["account_id"]: _books(row) for row in await connection.fetch(LOAD_BASES, late)} if late else {}
    whole = set(late)
    return {
        at: account_of(
            at, found.get(at), repayments[at], entries[at], base=bases.get(at, Books()), complete=at in whole
        )
        for at in accounts
    }


def late_of(found: dict[str, Row], inputs: Sequence[Input]) -> list[str]:
    """Return the accounts whose history a decision may need: a return, a fact before another one, or facts to fold."""
    last: dict[str, datetime | None] = {at: row["last_at"] for at, row in found.items()}
    left = {at: row["fold_at"] - row["kept"] for at, row in found.items()}
    late = set()
    for event in inputs:
        at, when = event.account_id, value_at(event)
        if at not in found:
            continue
        if isinstance(event, ReturnReceived):
            late.add(at)
        if when is None:
            continue
        known = last[at]
        if not isinstance(event, TimerFired):
            left[at] -= 1
            if left[at] <= 0 or (known is not None and when <= known):
                late.add(at)
        last[at] = when if known is None else max(known, when)
    return sorted(late)


def repayment_of(event: Input) -> str:
    """Return the repayment an input speaks of; empty for none."""
    match event:
        case RepaymentReceived() | ReturnReceived():
            return event.repayment_id
        case TimerFired(timer=timer):
            return timer.subject
        case _:
            return ""


def refs_of(event: Input) -> tuple[str, ...]:
    """Return the facts to look up for an input: itself, and the purchase a refund is of."""
    ref = ref_of(event)
    if isinstance(event, PurchaseRefunded):
        return ref, f"purchase:{event.purchase_id}"
    return (ref,) if ref else ()


async def save(connection: Connection, changes: Sequence[tuple[Account, Account]]) -> tuple[()]:
    """Write accounts, and the repayments, facts and bases that changed."""
    repayments = [
        repayment_row(after.account_id, repayment)
        for before, after in changes
        for at, repayment in after.repayments.items()
        if before.repayments.get(at) is not repayment
    ]
    entries = [
        _entry_row(after.account_id, entry)
        for before, after in changes
        for ref, entry in after.entries.items()
        if before.entries.get(ref) is not entry
    ]
    bases = [
        (after.account_id, books_of(after.base), after.base.credit_balance_minor)
        for before, after in changes
        if after.base is not before.base
    ]
    lanes = columns(repayments, 17)
    await connection.execute(
        SAVE,
        *columns([account_row(after) for _, after in changes], 10),
        *lanes[:16],
        *columns(entries, 8),
        *columns(bases, 3),
        lanes[16],
    )
    return ()


def books_of(books: Books) -> str:
    """Return books as JSON: debts, statements not over, and the day."""
    debts = [[*debt[:5], _day(debt.due_on), *debt[6:]] for debt in books.debts]
    cycles = [[_day(cycle.due_on), cycle.left_minor] for cycle in books.cycles]
    return json.dumps([debts, cycles, _day(books.day)], separators=(",", ":"))


def buckets_of(debts: Iterable[Debt]) -> str:
    """Return the 12 buckets as an array: past due, due, in advance, each penalty, fee, interest, principal."""
    total = [0] * (len(STANDINGS) * len(COMPONENTS))
    for debt in debts:
        total[STANDINGS.index(debt.standing) * len(COMPONENTS) + COMPONENTS.index(debt.component)] += debt.amount_minor
    return f"{{{','.join(map(str, total))}}}"


def account_row(a: Account) -> tuple[object, ...]:
    """Return an account in the order of SAVE's columns."""
    latest = None if a.latest is None else json.dumps([a.latest[0], a.latest[1], a.latest[2].isoformat()])
    books = (buckets_of(a.books.debts), a.books.credit_balance_minor, books_of(a.books))
    return (a.account_id, a.product, a.currency, *books, a.last_at, latest, a.kept, a.fold_at)


def repayment_row(account_id: str, r: Repayment) -> tuple[object, ...]:
    """Return a repayment in the order of SAVE's columns."""
    paid = dict.fromkeys(COMPONENTS, 0)
    for portion in r.portions:
        paid[portion.component] += portion.amount_minor
    portions = json.dumps([[*debt[:5], _day(debt.due_on), *debt[6:]] for debt in r.portions], separators=(",", ":"))
    when = (r.method, r.repaid_at, r.credited_on, r.final_on, portions)
    restored = (r.credit_balance_minor, r.restorable_minor, r.reallocated_minor, r.folded)
    return (r.repayment_id, account_id, r.status, r.amount_minor, *when, *paid.values(), *restored)


def _entry_row(account_id: str, e: Entry) -> tuple[object, ...]:
    content = json.dumps([e.amounts, e.plan, e.apr_bps, _day(e.due_on)], separators=(",", ":"))
    return (account_id, e.ref, e.kind, e.at, e.day, e.subject, content, e.folded)


def account_of(
    account_id: str,
    row: Row | None,
    repayments: dict[str, Repayment],
    entries: dict[str, Entry],
    *,
    base: Books,
    complete: bool,
) -> Account:
    """Return an account from its row and what was loaded beside it; None is an account nobody opened."""
    if row is None:
        return Account(account_id, repayments=repayments, entries=entries)
    latest = None if row["latest"] is None else json.loads(row["latest"])
    return Account(
        account_id,
        row["product"],
        row["currency"],
        _books(row),
        row["last_at"],
        None if latest is None else Latest(latest[0], latest[1], datetime.fromisoformat(latest[2])),
        row["kept"],
        row["fold_at"],
        complete,
        base,
        entries,
        repayments,
    )


def _books(row: Row) -> Books:
    debts, cycles, day = json.loads(row["books"])
    open_cycles = tuple(Cycle(date.fromisoformat(due_on), left) for due_on, left in cycles)
    return Books(_debts(debts), row["credit_balance_minor"], open_cycles, date.fromisoformat(day))


def _debts(rows: Sequence[Any]) -> tuple[Debt, ...]:
    return tuple(Debt._make([*row[:5], _date(row[5]), *row[6:]]) for row in rows)


def _entry(row: Row) -> Entry:
    amounts, plan, apr_bps, due_on = json.loads(row["content"])
    when = (row["entry"], row["kind"], row["at"], row["day"])
    return Entry(*when, tuple(amounts), row["subject"], plan, apr_bps, _date(due_on), row["folded"])


def _repayment(row: Row) -> Repayment:
    values = {name: value for name, value in row.items() if name != "account_id"}
    return Repayment(**{**values, "portions": _debts(json.loads(row["portions"]))})


def _day(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def _date(text: str | None) -> date | None:
    return None if text is None else date.fromisoformat(text)


STORE = Store(key=key, load=load, save=save)
