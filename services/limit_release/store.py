"""Accounts, repayments, tranches, journals and decision records, by the batch."""

import json
from collections.abc import Sequence
from typing import Final

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
from schemas.settlement import Owed, RepaymentReturned, RepaymentSettled, RepaymentsReallocated
from services.decision import Input, TimerFired
from services.limit_release.heard import NOTHING, Billed, Heard
from services.limit_release.model import Account, Authorisation, Repayment, State, Tranche
from services.runtime.postgres import Row, columns, instant, listed
from services.runtime.worker import Saved, Store

# The availability of these accounts; repayments by their ids, and those with a tranche that waits on an account whose
# status changes; their tranches; which purchases and refunds were booked before; authorisations by their ids.
READS = """
(SELECT json_agg(a) FROM (
  SELECT account_id, product, currency, status, status_reason, credit_limit_minor, available_minor, used_debt_minor,
    used_authorisation_minor, pending_minor, credit_balance_minor, limit_lowered_at, spendable, cash_sub_limit_minor,
    cash_used_minor, charges_minor, overpaid_minor, overpaid_until, version,
    status_at, limit_at, cash_limit_at, corrected_at, corrected_minor, heard, unjoined_minor
  FROM limit_release.account WHERE account_id = ANY ($1::text[])) AS a) AS accounts,
(SELECT json_agg(r) FROM (
  SELECT account_id, repayment_id, assessed, returned, late, joined, amount_minor, restorable_minor,
    credit_balance_minor, reallocated_minor, reallocated_available_minor, reallocated_balance_minor, currency, rail,
    repaid_at, version, revision, trail, reasons, faster, policy_version, model_version, calendar_version,
    clear_seconds, hold_slack_seconds,
    (SELECT json_agg(t) FROM (
      SELECT repayment_id, number, amount_minor, state, until, reason, promised_by, restored_at, promises, extensions,
        delayed
      FROM limit_release.tranche WHERE repayment_id = r.repayment_id) AS t) AS tranches
  FROM limit_release.repayment AS r WHERE repayment_id = ANY ($2::text[] || ARRAY(
    SELECT repayment_id FROM limit_release.tranche
    WHERE account_id = ANY ($3::text[]) AND state IN ('held', 'parked')))) AS r) AS repayments,
(SELECT json_agg(j) FROM (
  SELECT account_id, ref FROM limit_release.journal
  WHERE kind IN ('POST', 'PURCHASE', 'REFUND') AND (account_id, ref) IN (SELECT * FROM unnest($4::text[], $5::text[]))
  ) AS j) AS booked,
(SELECT json_agg(h) FROM (
  SELECT account_id, authorisation_id, amount_minor FROM limit_release.authorisation
  WHERE (account_id, authorisation_id) IN (SELECT * FROM unnest($6::text[], $7::text[]))) AS h) AS authorisations
"""
# Writes accounts as they were read, their new journals, and what repayments, tranches and records came to.
WRITES = """
guarded AS (
  INSERT INTO limit_release.account AS a SELECT * FROM unnest($1::limit_release.account[])
  ON CONFLICT (account_id) DO UPDATE SET status = excluded.status, status_reason = excluded.status_reason,
    credit_limit_minor = excluded.credit_limit_minor, available_minor = excluded.available_minor,
    used_debt_minor = excluded.used_debt_minor, used_authorisation_minor = excluded.used_authorisation_minor,
    pending_minor = excluded.pending_minor, credit_balance_minor = excluded.credit_balance_minor,
    limit_lowered_at = excluded.limit_lowered_at, spendable = excluded.spendable,
    cash_sub_limit_minor = excluded.cash_sub_limit_minor, cash_used_minor = excluded.cash_used_minor,
    shown_minor = excluded.shown_minor, zero_reason = excluded.zero_reason, charges_minor = excluded.charges_minor,
    overpaid_minor = excluded.overpaid_minor, overpaid_until = excluded.overpaid_until,
    version = excluded.version, status_at = excluded.status_at, limit_at = excluded.limit_at,
    cash_limit_at = excluded.cash_limit_at, corrected_at = excluded.corrected_at,
    corrected_minor = excluded.corrected_minor, heard = excluded.heard, unjoined_minor = excluded.unjoined_minor
  WHERE a.version = excluded.version - 1
  RETURNING 1),
journals AS (
  INSERT INTO limit_release.journal (kind, ref, account_id, limit_minor, available_minor, used_debt_minor,
    used_authorisation_minor, pending_minor)
  SELECT kind, ref, account_id, limit_minor, available_minor, used_debt_minor, used_authorisation_minor, pending_minor
  FROM unnest($2::limit_release.journal[])),
repayments AS (
  INSERT INTO limit_release.repayment SELECT * FROM unnest($3::limit_release.repayment[])
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
  INSERT INTO limit_release.tranche SELECT * FROM unnest($4::limit_release.tranche[])
  ON CONFLICT (repayment_id, number) DO UPDATE SET amount_minor = excluded.amount_minor, state = excluded.state,
    until = excluded.until, reason = excluded.reason, promised_by = excluded.promised_by,
    restored_at = excluded.restored_at, promises = excluded.promises, extensions = excluded.extensions,
    delayed = excluded.delayed),
authorisations AS (
  INSERT INTO limit_release.authorisation SELECT * FROM unnest($5::limit_release.authorisation[])
  ON CONFLICT (account_id, authorisation_id) DO UPDATE SET amount_minor = excluded.amount_minor),
records AS (
  INSERT INTO limit_release.decision_record SELECT * FROM unnest($6::limit_release.decision_record[]))
"""
NOTHING_HEARD: Final = "[null,[],0,false]"
_TRAIL: TypeAdapter[Trail] = TypeAdapter(Trail)
_OF_A_REPAYMENT = RepaymentSettled | RiskAssessed | RepaymentReturned | HoldReleaseApproved | HoldExtended
_REPLAYS = RepaymentSettled | RepaymentReturned | RepaymentsReallocated
_INSTANTS = ("limit_lowered_at", "overpaid_until", "status_at", "limit_at", "cash_limit_at", "corrected_at")
_NAMES = ("account_id", "repaid_at", "tranches", "trail", "reasons", "faster")


def key(event: Input) -> str:
    """Return the account of an input."""
    return event.account_id


def ask(inputs: Sequence[Input]) -> Sequence[object]:
    """Return the accounts of the inputs and what else they touch."""
    accounts = sorted({event.account_id for event in inputs})
    named: list[str] = [event.repayment_id for event in inputs if isinstance(event, _OF_A_REPAYMENT)]
    named += [change.repayment_id for event in inputs if isinstance(event, _REPLAYS) for change in event.reallocated]
    named += [event.timer.subject for event in inputs if isinstance(event, TimerFired)]
    touched = [event.account_id for event in inputs if isinstance(event, AccountStatusChanged)]
    booked = [(event.account_id, event.purchase_id) for event in inputs if isinstance(event, PurchasePosted)]
    refunds = [event for event in inputs if isinstance(event, PurchaseRefunded | RepaymentsReallocated)]
    booked += [(event.account_id, event.refund_id) for event in refunds if event.refund_id is not None]
    authorised = [
        (event.account_id, event.authorisation_id)
        for event in inputs
        if isinstance(event, AuthorisationPlaced | AuthorisationReleased | PurchasePosted) and event.authorisation_id
    ]
    return (accounts, named, touched, *columns(booked, 2), *columns(authorised, 2))


def states(inputs: Sequence[Input], row: Row) -> dict[str, State]:
    """Return the account of every input, with what the inputs touch."""
    found = {a["account_id"]: a for a in listed(row["accounts"])}
    authorisations: dict[str, dict[str, Authorisation]] = {}
    for h in listed(row["authorisations"]):
        authorisation = Authorisation(h["authorisation_id"], h["amount_minor"])
        authorisations.setdefault(h["account_id"], {})[authorisation.authorisation_id] = authorisation
    booked: dict[str, set[str]] = {}
    for j in listed(row["booked"]):
        booked.setdefault(j["account_id"], set()).add(j["ref"])
    repayments: dict[str, dict[str, Repayment]] = {}
    for r in listed(row["repayments"]):
        repayments.setdefault(r["account_id"], {})[r["repayment_id"]] = _repayment(r)
    return {
        at: State(
            _account(at, found.get(at), authorisations.get(at, {}), booked.get(at, set())), repayments.get(at, {})
        )
        for at in sorted({event.account_id for event in inputs})
    }


def save(changes: Sequence[tuple[State, State]]) -> Saved:
    """Write what changed."""
    rows = _rows(changes)
    return Saved([each or None for each in rows], guarded=len(rows[0]))


Rows = list[tuple[object, ...]]


def _rows(changes: Sequence[tuple[State, State]]) -> tuple[Rows, Rows, Rows, Rows, Rows, Rows]:
    rows: tuple[Rows, Rows, Rows, Rows, Rows, Rows] = ([], [], [], [], [], [])
    accounts, journals, repayments, tranches, authorisations, records = rows
    for before, after in changes:
        a = after.account
        if a.product:
            accounts.append(_account_row(a, before.account.version + 1))
        journals += [
            (
                *(j.kind, j.ref, a.account_id, j.limit_minor),
                *(j.available_minor, j.used_debt_minor, j.used_authorisation_minor, j.pending_minor, None),
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
    return rows


def _account_row(a: Account, version: int) -> tuple[object, ...]:
    sums = (a.credit_limit_minor, a.available_minor, a.used_debt_minor, a.used_authorisation_minor, a.pending_minor)
    shown = (a.shown(spendable=a.spendable), a.zero_reason(spendable=a.spendable))
    return (
        a.account_id, a.product, a.currency, a.status, a.status_reason, *sums, a.credit_balance_minor,
        a.charges_minor, a.overpaid_minor, a.overpaid_until, a.limit_lowered_at, a.spendable, a.cash_sub_limit_minor,
        a.cash_used_minor, *shown, version, a.status_at, a.limit_at, a.cash_limit_at, a.corrected_at,
        a.corrected_minor, _heard_row(a.heard), a.unjoined_minor
    )  # fmt: skip


def _heard_row(heard: Heard) -> str:
    return json.dumps(heard, separators=(",", ":")) if heard is not NOTHING else NOTHING_HEARD


def _heard(text: str) -> Heard:
    if text == NOTHING_HEARD:
        return NOTHING
    owed, lately, told, followed = json.loads(text)
    return Heard(
        Owed._make((*owed[:-1], tuple(owed[-1]))) if owed else None,
        tuple([Billed(*fact) for fact in lately]),
        told,
        followed,
    )


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


def _account(
    account_id: AccountId, row: Row | None, authorisations: dict[str, Authorisation], booked: set[str]
) -> Account:
    if row is None:
        return Account(account_id, authorisations=authorisations)
    instants = {name: instant(row[name]) for name in _INSTANTS}
    return Account(
        **{
            **row,
            **instants,
            "heard": _heard(row["heard"]),
            "authorisations": authorisations,
            "booked": frozenset(booked),
        }
    )


def _repayment(row: Row) -> Repayment:
    plain = {name: value for name, value in row.items() if name not in _NAMES}
    reasons = tuple(Reason(code) for code in row["reasons"].split(",") if code)
    faster = tuple(name for name in row["faster"].split(",") if name)
    trail, repaid_at = _TRAIL.validate_json(row["trail"]), instant(row["repaid_at"])
    tranches = {t["number"]: _tranche(t) for t in row["tranches"] or ()}
    return Repayment(**plain, repaid_at=repaid_at, tranches=tranches, trail=trail, reasons=reasons, faster=faster)


def _tranche(row: Row) -> Tranche:
    instants = {name: instant(row[name]) for name in ("until", "promised_by", "restored_at")}
    return Tranche(**{**row, **instants, "reason": Reason(row["reason"])})


STORE = Store(key=key, reads=READS, ask=ask, states=states, writes=WRITES, save=save)
