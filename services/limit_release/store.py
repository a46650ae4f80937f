"""Accounts, repayments, tranches, journals and decision records, by the batch."""

from collections.abc import Sequence

from pydantic import TypeAdapter

from schemas.account import (
    AccountStatusChanged,
    AuthorisationPlaced,
    AuthorisationReleased,
    PurchasePosted,
    PurchaseRefunded,
)
from schemas.event import Trail
from schemas.ids import AccountId
from schemas.reasons import Reason
from schemas.review import HoldExtended, HoldReleaseApproved
from schemas.risk import RiskAssessed
from schemas.settlement import RepaymentReturned, RepaymentSettled, RepaymentsReallocated
from services.decision import Input, TimerFired
from services.limit_release.model import Account, Authorisation, Repayment, State, Tranche
from services.runtime.postgres import Connection, Row, columns
from services.runtime.worker import Store

# The availability of these accounts, locked in the order of their keys.
LOAD_ACCOUNTS = """
SELECT account_id, product, currency, status, status_reason, credit_limit_minor, available_minor, used_debt_minor,
  used_authorisation_minor, pending_minor, credit_balance_minor, limit_lowered_at, spendable, cash_sub_limit_minor,
  cash_used_minor
FROM limit_release.account WHERE account_id = ANY ($1::text[]) ORDER BY account_id FOR UPDATE
"""
# Repayments by their ids, and those with a tranche that waits on an account whose status changes.
LOAD_REPAYMENTS = """
SELECT account_id, repayment_id, assessed, returned, late, joined, amount_minor, restorable_minor, credit_balance_minor,
  reallocated_minor, reallocated_available_minor, reallocated_balance_minor, currency, rail, repaid_at, version,
  revision, trail, reasons, faster, policy_version, model_version, calendar_version, clear_seconds, hold_slack_seconds
FROM limit_release.repayment WHERE repayment_id = ANY ($1::text[] || ARRAY(
  SELECT repayment_id FROM limit_release.tranche WHERE account_id = ANY ($2::text[]) AND state IN ('held', 'parked')))
"""
# The tranches of these repayments.
LOAD_TRANCHES = """
SELECT repayment_id, number, amount_minor, state, until, reason, promised_by, restored_at, promises, extensions, delayed
FROM limit_release.tranche WHERE repayment_id = ANY ($1::text[])
"""
# Which of these purchases and refunds were booked before.
LOAD_BOOKED = """
SELECT account_id, ref FROM limit_release.journal
WHERE kind IN ('POST', 'PURCHASE', 'REFUND') AND (account_id, ref) IN (SELECT * FROM unnest($1::text[], $2::text[]))
"""
# The authorisations these events speak of.
LOAD_AUTHORISATIONS = """
SELECT account_id, authorisation_id, amount_minor FROM limit_release.authorisation
WHERE (account_id, authorisation_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
"""
# Writes accounts, their new journals, and what repayments, tranches and records came to.
SAVE = """
WITH accounts AS (
  INSERT INTO limit_release.account (account_id, product, currency, status, status_reason, credit_limit_minor,
    available_minor, used_debt_minor, used_authorisation_minor, pending_minor, credit_balance_minor, limit_lowered_at,
    spendable, cash_sub_limit_minor, cash_used_minor, shown_minor, zero_reason)
  SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[],
    $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::timestamptz[], $13::boolean[], $14::bigint[],
    $15::bigint[], $16::bigint[], $17::text[])
  ON CONFLICT (account_id) DO UPDATE SET status = excluded.status, status_reason = excluded.status_reason,
    credit_limit_minor = excluded.credit_limit_minor, available_minor = excluded.available_minor,
    used_debt_minor = excluded.used_debt_minor, used_authorisation_minor = excluded.used_authorisation_minor,
    pending_minor = excluded.pending_minor, credit_balance_minor = excluded.credit_balance_minor,
    limit_lowered_at = excluded.limit_lowered_at, spendable = excluded.spendable,
    cash_sub_limit_minor = excluded.cash_sub_limit_minor, cash_used_minor = excluded.cash_used_minor,
    shown_minor = excluded.shown_minor, zero_reason = excluded.zero_reason),
journals AS (
  INSERT INTO limit_release.journal (kind, ref, account_id, limit_minor, available_minor, used_debt_minor,
    used_authorisation_minor, pending_minor)
  SELECT * FROM unnest($18::text[], $19::text[], $20::text[], $21::bigint[], $22::bigint[], $23::bigint[],
    $24::bigint[], $25::bigint[])),
repayments AS (
  INSERT INTO limit_release.repayment (account_id, repayment_id, assessed, returned, late, joined, amount_minor,
    restorable_minor, credit_balance_minor, reallocated_minor, reallocated_available_minor, reallocated_balance_minor,
    currency, rail, repaid_at, version, revision, trail, reasons, faster, policy_version, model_version,
    calendar_version, clear_seconds, hold_slack_seconds)
  SELECT * FROM unnest($26::text[], $27::text[], $28::boolean[], $29::boolean[], $30::boolean[], $31::boolean[],
    $32::bigint[], $33::bigint[], $34::bigint[], $35::bigint[], $36::bigint[], $37::bigint[], $38::text[], $39::text[],
    $40::timestamptz[], $41::integer[], $42::integer[], $43::text[], $44::text[], $45::text[], $46::text[],
    $47::text[], $48::text[], $49::integer[], $50::integer[])
  ON CONFLICT (repayment_id) DO UPDATE SET assessed = excluded.assessed, returned = excluded.returned,
    late = excluded.late, joined = excluded.joined, amount_minor = excluded.amount_minor,
    restorable_minor = excluded.restorable_minor, credit_balance_minor = excluded.credit_balance_minor,
    reallocated_minor = excluded.reallocated_minor,
    reallocated_available_minor = excluded.reallocated_available_minor,
    reallocated_balance_minor = excluded.reallocated_balance_minor, currency = excluded.currency, rail = excluded.rail,
    repaid_at = excluded.repaid_at, version = excluded.version, revision = excluded.revision, trail = excluded.trail,
    reasons = excluded.reasons, faster = excluded.faster, policy_version = excluded.policy_version,
    model_version = excluded.model_version, calendar_version = excluded.calendar_version,
    clear_seconds = excluded.clear_seconds, hold_slack_seconds = excluded.hold_slack_seconds),
tranches AS (
  INSERT INTO limit_release.tranche (account_id, repayment_id, number, amount_minor, state, until, reason, promised_by,
    restored_at, promises, extensions, delayed)
  SELECT * FROM unnest($51::text[], $52::text[], $53::integer[], $54::bigint[], $55::text[], $56::timestamptz[],
    $57::text[], $58::timestamptz[], $59::timestamptz[], $60::integer[], $61::integer[], $62::boolean[])
  ON CONFLICT (repayment_id, number) DO UPDATE SET amount_minor = excluded.amount_minor, state = excluded.state,
    until = excluded.until, reason = excluded.reason, promised_by = excluded.promised_by,
    restored_at = excluded.restored_at, promises = excluded.promises, extensions = excluded.extensions,
    delayed = excluded.delayed),
authorisations AS (
  INSERT INTO limit_release.authorisation (account_id, authorisation_id, amount_minor)
  SELECT * FROM unnest($63::text[], $64::text[], $65::bigint[])
  ON CONFLICT (account_id, authorisation_id) DO UPDATE SET amount_minor = excluded.amount_minor)
INSERT INTO limit_release.decision_record (repayment_id, version, account_id, decided_at, record)
SELECT * FROM unnest($66::text[], $67::integer[], $68::text[], $69::timestamptz[], $70::text[])
"""
_TRAIL: TypeAdapter[Trail] = TypeAdapter(Trail)
_OF_A_REPAYMENT = RepaymentSettled | RiskAssessed | RepaymentReturned | HoldReleaseApproved | HoldExtended
_REPLAYS = RepaymentSettled | RepaymentReturned | RepaymentsReallocated
_NAMES = ("account_id", "trail", "reasons", "faster")


def key(event: Input) -> str:
    """Return the account of an input."""
    return event.account_id


async def load(connection: Connection, inputs: Sequence[Input]) -> dict[str, State]:
    """Return the account of every input, with what the inputs touch."""
    accounts = sorted({event.account_id for event in inputs})
    found = {row["account_id"]: row for row in await connection.fetch(LOAD_ACCOUNTS, accounts)}
    authorisations = await _authorisations(connection, inputs)
    booked = await _booked(connection, inputs)
    repayments = await _repayments(connection, inputs)
    return {
        at: State(
            _account(at, found.get(at), authorisations.get(at, {}), booked.get(at, set())), repayments.get(at, {})
        )
        for at in accounts
    }


async def save(connection: Connection, changes: Sequence[tuple[State, State]]) -> tuple[()]:
    """Write what changed, in one statement."""
    accounts, journals, repayments, tranches, authorisations, records = _rows(changes)
    await connection.execute(
        SAVE,
        *columns(accounts, 17),
        *columns(journals, 8),
        *columns(repayments, 25),
        *columns(tranches, 12),
        *columns(authorisations, 3),
        *columns(records, 5),
    )
    return ()


Rows = list[tuple[object, ...]]


def _rows(changes: Sequence[tuple[State, State]]) -> tuple[Rows, Rows, Rows, Rows, Rows, Rows]:
    accounts, journals, repayments, tranches, authorisations, records = (
        _empty(),
        _empty(),
        _empty(),
        _empty(),
        _empty(),
        _empty(),
    )
    for before, after in changes:
        a = after.account
        if a.product:
            accounts.append(_account_row(a))
        journals += [
            (
                j.kind,
                j.ref,
                a.account_id,
                j.limit_minor,
                j.available_minor,
                j.used_debt_minor,
                j.used_authorisation_minor,
                j.pending_minor,
            )
            for j in a.journals
        ]
        authorisations += [
            (a.account_id, x.authorisation_id, x.amount_minor)
            for at, x in a.authorisations.items()
            if before.account.authorisations.get(at) is not x
        ]
        for at, r in after.repayments.items():
            old = before.repayments.get(at)
            if r is not old:
                repayments.append(_repayment_row(a.account_id, r))
                tranches += _tranche_rows(a.account_id, old, r)
                records += [
                    (r.repayment_id, x.version, a.account_id, x.decided_at, x.model_dump_json()) for x in r.records
                ]
    return accounts, journals, repayments, tranches, authorisations, records


def _empty() -> Rows:
    return []


def _account_row(a: Account) -> tuple[object, ...]:
    sums = (a.credit_limit_minor, a.available_minor, a.used_debt_minor, a.used_authorisation_minor, a.pending_minor)
    shown = (a.shown(spendable=a.spendable), a.zero_reason(spendable=a.spendable))
    return (
        a.account_id, a.product, a.currency, a.status, a.status_reason, *sums, a.credit_balance_minor,
        a.limit_lowered_at, a.spendable, a.cash_sub_limit_minor, a.cash_used_minor, *shown
    )  # fmt: skip


def _repayment_row(account_id: str, r: Repayment) -> tuple[object, ...]:
    trail = _TRAIL.dump_json(r.trail).decode() if r.waiting else "[]"
    amounts = (r.amount_minor, r.restorable_minor, r.credit_balance_minor)
    replayed = (r.reallocated_minor, r.reallocated_available_minor, r.reallocated_balance_minor)
    versions = (r.policy_version, r.model_version, r.calendar_version)
    return (
        account_id, r.repayment_id, r.assessed, r.returned, r.late, r.joined, *amounts, *replayed, r.currency, r.rail,
        r.repaid_at, r.version, r.revision, trail, ",".join(r.reasons), ",".join(r.faster), *versions, r.clear_seconds,
        r.hold_slack_seconds
    )  # fmt: skip


def _tranche_rows(account_id: str, old: Repayment | None, r: Repayment) -> Rows:
    known = old.tranches if old else {}
    return [
        (
            account_id, t.repayment_id, t.number, t.amount_minor, t.state, t.until, t.reason, t.promised_by,
            t.restored_at, t.promises, t.extensions, t.delayed
        )
        for t in r.tranches.values()
        if known.get(t.number) is not t
    ]  # fmt: skip


async def _repayments(connection: Connection, inputs: Sequence[Input]) -> dict[str, dict[str, Repayment]]:
    named: list[str] = [event.repayment_id for event in inputs if isinstance(event, _OF_A_REPAYMENT)]
    named += [change.repayment_id for event in inputs if isinstance(event, _REPLAYS) for change in event.reallocated]
    named += [event.timer.subject for event in inputs if isinstance(event, TimerFired)]
    touched = [event.account_id for event in inputs if isinstance(event, AccountStatusChanged)]
    if not named and not touched:
        return {}
    rows = await connection.fetch(LOAD_REPAYMENTS, named, touched)
    if not rows:
        return {}
    tranches: dict[str, dict[int, Tranche]] = {}
    for row in await connection.fetch(LOAD_TRANCHES, [row["repayment_id"] for row in rows]):
        tranche = Tranche(**{**row, "reason": Reason(row["reason"])})
        tranches.setdefault(tranche.repayment_id, {})[tranche.number] = tranche
    found: dict[str, dict[str, Repayment]] = {}
    for row in rows:
        repayment = _repayment(row, tranches.get(row["repayment_id"], {}))
        found.setdefault(row["account_id"], {})[repayment.repayment_id] = repayment
    return found


async def _authorisations(connection: Connection, inputs: Sequence[Input]) -> dict[str, dict[str, Authorisation]]:
    named = [
        (event.account_id, event.authorisation_id)
        for event in inputs
        if isinstance(event, AuthorisationPlaced | AuthorisationReleased | PurchasePosted) and event.authorisation_id
    ]
    found: dict[str, dict[str, Authorisation]] = {}
    for row in await connection.fetch(LOAD_AUTHORISATIONS, *columns(named, 2)) if named else ():
        authorisation = Authorisation(row["authorisation_id"], row["amount_minor"])
        found.setdefault(row["account_id"], {})[authorisation.authorisation_id] = authorisation
    return found


async def _booked(connection: Connection, inputs: Sequence[Input]) -> dict[str, set[str]]:
    named = [(event.account_id, event.purchase_id) for event in inputs if isinstance(event, PurchasePosted)]
    named += [(event.account_id, event.refund_id) for event in inputs if isinstance(event, PurchaseRefunded)]
    found: dict[str, set[str]] = {}
    for row in await connection.fetch(LOAD_BOOKED, *columns(named, 2)) if named else ():
        found.setdefault(row["account_id"], set()).add(row["ref"])
    return found


def _account(
    account_id: AccountId, row: Row | None, authorisations: dict[str, Authorisation], booked: set[str]
) -> Account:
    if row is None:
        return Account(account_id, authorisations=authorisations)
    return Account(**{**row, "authorisations": authorisations, "booked": frozenset(booked)})


def _repayment(row: Row, tranches: dict[int, Tranche]) -> Repayment:
    plain = {name: value for name, value in row.items() if name not in _NAMES}
    reasons = tuple(Reason(code) for code in row["reasons"].split(",") if code)
    faster = tuple(name for name in row["faster"].split(",") if name)
    trail = _TRAIL.validate_json(row["trail"])
    return Repayment(**plain, tranches=tranches, trail=trail, reasons=reasons, faster=faster)


STORE = Store(key=key, load=load, save=save)
