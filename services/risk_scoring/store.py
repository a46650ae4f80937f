"""Verified funding accounts and the use of the instant cap, by the batch."""

from collections.abc import Sequence
from datetime import datetime

from schemas.settlement import RepaymentSettled
from services.decision import Input
from services.risk_scoring.domain import Account, InstantUse
from services.runtime.postgres import Row, columns, listed
from services.runtime.worker import Saved, Store

# Every verified funding account and every instant use of the last 100 days of these accounts.
READS = """
(SELECT json_agg(f) FROM (
  SELECT account_id, funding_account_id FROM risk_scoring.funding_account
  WHERE account_id = ANY ($1::text[]) AND verified) AS f) AS verified,
(SELECT json_agg(u) FROM (
  SELECT account_id, repayment_id, used_at, amount_minor FROM risk_scoring.instant_use
  WHERE account_id = ANY ($1::text[]) AND used_at > clock_timestamp() - interval '100 days'
  ORDER BY used_at, repayment_id) AS u) AS uses
"""
# Keeps new uses and what became of funding accounts. Nothing is guarded: a use is only ever added, and only by who has
# the partition its repayment came from.
WRITES = """
used AS (
  INSERT INTO risk_scoring.instant_use (repayment_id, account_id, used_at, amount_minor)
  SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::bigint[])),
linked AS (
  INSERT INTO risk_scoring.funding_account (account_id, funding_account_id, verified)
  SELECT * FROM unnest($5::text[], $6::text[], $7::boolean[])
  ON CONFLICT (account_id, funding_account_id) DO UPDATE SET verified = excluded.verified),
guarded AS (SELECT WHERE false)
"""


def key(event: Input) -> str:
    """Return the account of an input."""
    return event.account_id


def ask(inputs: Sequence[Input]) -> Sequence[object] | None:
    """Return the accounts whose state is needed to decide."""
    asked = sorted({event.account_id for event in inputs if not _final(event)})
    return (asked,) if asked else None


def states(inputs: Sequence[Input], row: Row) -> dict[str, Account]:
    """Return the account of every input."""
    verified: dict[str, set[str]] = {}
    uses: dict[str, list[InstantUse]] = {}
    for f in listed(row.get("verified")):
        verified.setdefault(f["account_id"], set()).add(f["funding_account_id"])
    for u in listed(row.get("uses")):
        used_at = datetime.fromisoformat(u["used_at"])
        uses.setdefault(u["account_id"], []).append(InstantUse(u["repayment_id"], used_at, u["amount_minor"]))
    return {
        at: Account(at, frozenset(verified.get(at, ())), tuple(uses.get(at, ())))
        for at in {event.account_id for event in inputs}
    }


def save(changes: Sequence[tuple[Account, Account]]) -> Saved:
    """Keep what is new."""
    uses, linked = [], []
    for before, after in changes:
        new = after.uses[len(before.uses) :]
        uses += [(use.repayment_id, after.account_id, use.used_at, use.amount_minor) for use in new]
        linked += [(after.account_id, name, verified) for name, verified in after.linked.items()]
    return Saved((*columns(uses, 4), *columns(linked, 3)))


def _final(event: Input) -> bool:
    """Tell whether an input is decided without any state: most are, and a query is saved."""
    return isinstance(event, RepaymentSettled) and event.finality == "final"


STORE = Store(key=key, reads=READS, ask=ask, states=states, writes=WRITES, save=save)
