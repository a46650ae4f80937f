"""Accounts, their facts and their repayments in the debt ledger, by the batch."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from schemas.account import PurchaseRefunded
from schemas.intake import RepaymentReceived, ReturnReceived
from services.decision import Input, TimerFired
from services.runtime.postgres import Row, columns, instant, listed
from services.runtime.worker import Saved, Store
from services.settlement.domain import ref_of, value_at
from services.settlement.model import COMPONENTS, STANDINGS, Account, Books, Cycle, Debt, Entry, Latest, Repayment

# The debt of these accounts; the repayments and facts this batch speaks of; where something may come late (a return, a
# fact before another one, facts to fold) the base and every fact and repayment that may be replayed.
READS = """
(SELECT json_agg(a) FROM (
  SELECT account_id, product, currency, credit_balance_minor, books, last_at, latest, kept, fold_at, version,
    read_to, told
  FROM settlement.account WHERE account_id = ANY ($1::text[])) AS a) AS accounts,
(SELECT json_agg(r) FROM (
  SELECT repayment_id, account_id, status, amount_minor, method, repaid_at, credited_on, final_on, portions,
    credit_balance_minor, restorable_minor, reallocated_minor, folded
  FROM settlement.repayment WHERE repayment_id = ANY ($5::text[])
  UNION ALL
  SELECT repayment_id, account_id, status, amount_minor, method, repaid_at, credited_on, final_on, portions,
    credit_balance_minor, restorable_minor, reallocated_minor, folded
  FROM settlement.repayment WHERE account_id = ANY (late.ids) AND status = 'settled' AND NOT folded
  ) AS r) AS repayments,
(SELECT json_agg(e) FROM (
  SELECT account_id, entry, kind, at, day, subject, content, folded FROM settlement.entry
  WHERE (account_id, entry) IN (SELECT * FROM unnest($6::text[], $7::text[]))
  UNION ALL
  SELECT account_id, entry, kind, at, day, subject, content, folded FROM settlement.entry
  WHERE account_id = ANY (late.ids) AND NOT folded
  UNION ALL
  SELECT p.account_id, p.entry, p.kind, p.at, p.day, p.subject, p.content, p.folded
  FROM settlement.entry r JOIN settlement.entry p ON p.account_id = r.account_id AND p.entry = 'purchase:' || r.subject
  WHERE r.account_id = ANY (late.ids) AND NOT r.folded AND r.kind = 'refund') AS e) AS entries,
(SELECT json_agg(b) FROM (
  SELECT account_id, books, credit_balance_minor FROM settlement.base WHERE account_id = ANY (late.ids)) AS b) AS bases,
late.ids AS late
FROM (SELECT ARRAY(
  SELECT a.account_id FROM unnest($1::text[], $2::timestamptz[], $3::integer[], $4::boolean[])
    AS n(account_id, first_at, facts, late) JOIN settlement.account AS a USING (account_id)
  WHERE n.late OR n.first_at <= a.last_at OR a.kept + n.facts >= a.fold_at) AS ids OFFSET 0) AS late
"""
# Writes changed accounts as they were read, repayments, facts and bases.
WRITES = """
entries AS (
  INSERT INTO settlement.entry AS e SELECT * FROM unnest($3::settlement.entry[])
  ON CONFLICT (account_id, entry) DO UPDATE SET folded = excluded.folded),
bases AS (
  INSERT INTO settlement.base AS b SELECT * FROM unnest($4::settlement.base[])
  ON CONFLICT (account_id) DO UPDATE SET books = excluded.books, credit_balance_minor = excluded.credit_balance_minor),
guarded AS (
  INSERT INTO settlement.account AS a SELECT * FROM unnest($1::settlement.account[])
  ON CONFLICT (account_id) DO UPDATE SET buckets = excluded.buckets, books = excluded.books,
    credit_balance_minor = excluded.credit_balance_minor, last_at = excluded.last_at, latest = excluded.latest,
    kept = excluded.kept, fold_at = excluded.fold_at, penalty_minor = excluded.penalty_minor,
    fee_minor = excluded.fee_minor, interest_minor = excluded.interest_minor,
    principal_minor = excluded.principal_minor, version = excluded.version,
    read_to = excluded.read_to, told = excluded.told
  WHERE a.version = excluded.version - 1
  RETURNING 1),
repayments AS (
  INSERT INTO settlement.repayment AS r SELECT * FROM unnest($2::settlement.repayment[])
  ON CONFLICT (repayment_id) DO UPDATE SET status = excluded.status, amount_minor = excluded.amount_minor,
    method = excluded.method, repaid_at = excluded.repaid_at, credited_on = excluded.credited_on,
    final_on = excluded.final_on, portions = excluded.portions, penalty_minor = excluded.penalty_minor,
    fee_minor = excluded.fee_minor, interest_minor = excluded.interest_minor,
    principal_minor = excluded.principal_minor, credit_balance_minor = excluded.credit_balance_minor,
    restorable_minor = excluded.restorable_minor, reallocated_minor = excluded.reallocated_minor,
    folded = excluded.folded)
"""


def key(event: Input) -> str:
    """Return the account of an input."""
    return event.account_id


def ask(inputs: Sequence[Input]) -> Sequence[object]:
    """Return the accounts of the inputs with what may make their history needed, and what the inputs speak of."""
    pressing = {event.account_id: Pressing() for event in inputs}
    for event in inputs:
        pressing[event.account_id].add(event)
    asked = [(at, each.first_at, each.facts, each.late) for at, each in sorted(pressing.items())]
    told = [(event.account_id, ref) for event in inputs for ref in refs_of(event)]
    return (*columns(asked, 4), [at for event in inputs if (at := repayment_of(event))], *columns(told, 2))


@dataclass(slots=True)
class Pressing:
    """What of a batch may need an account's history: its earliest instant, how many facts, if one is late anyway."""

    first_at: datetime | None = None
    last_at: datetime | None = None
    facts: int = 0
    late: bool = False

    def add(self, event: Input) -> None:
        """Take one more input in: a return, or a fact not after the one before it, is late whatever the books know."""
        when = value_at(event)
        self.late |= isinstance(event, ReturnReceived)
        if when is None:
            return
        if not isinstance(event, TimerFired):
            self.facts += 1
            self.late |= self.last_at is not None and when <= self.last_at
            self.first_at = when if self.first_at is None else min(self.first_at, when)
        self.last_at = when if self.last_at is None else max(self.last_at, when)


def states(inputs: Sequence[Input], row: Row) -> dict[str, Account]:
    """Return the account of every input with what the inputs speak of, and its history where something may be late."""
    accounts = sorted({str(event.account_id) for event in inputs})
    found = {a["account_id"]: a for a in listed(row["accounts"])}
    repayments: dict[str, dict[str, Repayment]] = {at: {} for at in accounts}
    for r in listed(row["repayments"]):
        if r["account_id"] in repayments:
            repayments[r["account_id"]][r["repayment_id"]] = _repayment(r)
    entries: dict[str, dict[str, Entry]] = {at: {} for at in accounts}
    for e in listed(row["entries"]):
        entries[e["account_id"]][e["entry"]] = _entry(e)
    bases = {b["account_id"]: _books(b) for b in listed(row["bases"])}
    whole = set(row["late"])
    return {
        at: account_of(
            at, found.get(at), repayments[at], entries[at], base=bases.get(at, Books()), complete=at in whole
        )
        for at in accounts
    }


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


def save(changes: Sequence[tuple[Account, Account]]) -> Saved:
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
    accounts = [account_row(after, before.version + 1) for before, after in changes]
    return Saved((accounts, repayments or None, entries or None, bases or None), guarded=len(accounts))


def books_of(books: Books) -> str:
    """Return books as JSON: debts, statements not over, and the day."""
    debts = [[*debt[:5], _day(debt.due_on), *debt[6:]] for debt in books.debts]
    cycles = [[_day(cycle.due_on), cycle.left_minor] for cycle in books.cycles]
    return json.dumps([debts, cycles, _day(books.day)], separators=(",", ":"))


def buckets_of(debts: Iterable[Debt]) -> list[int]:
    """Return the 12 buckets: past due, due, in advance, each penalty, fee, interest, principal."""
    total = [0] * (len(STANDINGS) * len(COMPONENTS))
    for debt in debts:
        total[STANDINGS.index(debt.standing) * len(COMPONENTS) + COMPONENTS.index(debt.component)] += debt.amount_minor
    return total


def account_row(a: Account, version: int) -> tuple[object, ...]:
    """Return an account in the order of the columns written."""
    latest = None if a.latest is None else json.dumps([a.latest[0], a.latest[1], a.latest[2].isoformat()])
    buckets, kinds = buckets_of(a.books.debts), len(COMPONENTS)
    books = (buckets, a.books.credit_balance_minor, books_of(a.books))
    sums = (sum(buckets[component::kinds]) for component in range(kinds))
    standing = (a.last_at, latest, a.kept, a.fold_at)
    return (a.account_id, a.product, a.currency, *books, *standing, *sums, version, a.read_to, a.told)


def repayment_row(account_id: str, r: Repayment) -> tuple[object, ...]:
    """Return a repayment in the order of the columns written."""
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
    latest = row["latest"]
    return Account(
        account_id,
        row["product"],
        row["currency"],
        _books(row),
        instant(row["last_at"]),
        None if latest is None else Latest(latest[0], latest[1], datetime.fromisoformat(latest[2])),
        row["kept"],
        row["fold_at"],
        complete,
        base,
        entries,
        repayments,
        row["version"],
        row["read_to"],
        row["told"],
    )


def _books(row: Row) -> Books:
    debts, cycles, day = row["books"]
    open_cycles = tuple(Cycle(date.fromisoformat(due_on), left) for due_on, left in cycles)
    return Books(_debts(debts), row["credit_balance_minor"], open_cycles, date.fromisoformat(day))


def _debts(rows: Sequence[Any]) -> tuple[Debt, ...]:
    return tuple(Debt._make([*row[:5], _date(row[5]), *row[6:]]) for row in rows)


def _entry(row: Row) -> Entry:
    amounts, plan, apr_bps, due_on = row["content"]
    when = (row["entry"], row["kind"], datetime.fromisoformat(row["at"]), date.fromisoformat(row["day"]))
    return Entry(*when, tuple(amounts), row["subject"], plan, apr_bps, _date(due_on), row["folded"])


def _repayment(row: Row) -> Repayment:
    values = {name: value for name, value in row.items() if name != "account_id"}
    days = {name: _date(row[name]) for name in ("credited_on", "final_on")}
    return Repayment(**{**values, **days, "repaid_at": instant(row["repaid_at"]), "portions": _debts(row["portions"])})


def _day(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def _date(text: str | None) -> date | None:
    return None if text is None else date.fromisoformat(text)


STORE = Store(key=key, reads=READS, ask=ask, states=states, writes=WRITES, save=save)
