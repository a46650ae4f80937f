"""Verified funding accounts and the use of the instant cap, by the batch."""

from collections.abc import Sequence

from schemas.settlement import RepaymentSettled
from services.decision import Input
from services.risk_scoring.domain import Account, InstantUse
from services.runtime.postgres import Connection, columns
from services.runtime.worker import Store

# Every verified funding account and every instant use of the last 100 days of these accounts.
LOAD = """
SELECT a.account_id,
  ARRAY(SELECT f.funding_account_id FROM risk_scoring.funding_account f
        WHERE f.account_id = a.account_id AND f.verified) AS verified,
  ARRAY(SELECT u.repayment_id FROM risk_scoring.instant_use u WHERE u.account_id = a.account_id
        AND u.used_at > clock_timestamp() - interval '100 days' ORDER BY u.used_at, u.repayment_id) AS use_ids,
  ARRAY(SELECT u.used_at FROM risk_scoring.instant_use u WHERE u.account_id = a.account_id
        AND u.used_at > clock_timestamp() - interval '100 days' ORDER BY u.used_at, u.repayment_id) AS use_at,
  ARRAY(SELECT u.amount_minor FROM risk_scoring.instant_use u WHERE u.account_id = a.account_id
        AND u.used_at > clock_timestamp() - interval '100 days' ORDER BY u.used_at, u.repayment_id) AS use_minor
FROM unnest($1::text[]) AS a(account_id)
"""
# Keeps new uses and what became of funding accounts.
SAVE = """
WITH used AS (
  INSERT INTO risk_scoring.instant_use (repayment_id, account_id, used_at, amount_minor)
  SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::bigint[]))
INSERT INTO risk_scoring.funding_account (account_id, funding_account_id, verified)
SELECT * FROM unnest($5::text[], $6::text[], $7::boolean[])
ON CONFLICT (account_id, funding_account_id) DO UPDATE SET verified = excluded.verified
"""


def key(event: Input) -> str:
    """Return the account of an input."""
    return event.account_id


async def load(connection: Connection, inputs: Sequence[Input]) -> dict[str, Account]:
    """Return the account of every input."""
    accounts = sorted({event.account_id for event in inputs})
    states: dict[str, Account] = {at: Account(at) for at in accounts}
    asked = sorted({event.account_id for event in inputs if not _final(event)})
    for row in await connection.fetch(LOAD, asked) if asked else ():
        uses = zip(row["use_ids"], row["use_at"], row["use_minor"], strict=True)
        at = row["account_id"]
        states[at] = Account(at, frozenset(row["verified"]), tuple(InstantUse(*use) for use in uses))
    return states


async def save(connection: Connection, changes: Sequence[tuple[Account, Account]]) -> tuple[()]:
    """Keep what is new."""
    uses, linked = [], []
    for before, after in changes:
        new = after.uses[len(before.uses) :]
        uses += [(use.repayment_id, after.account_id, use.used_at, use.amount_minor) for use in new]
        linked += [(after.account_id, name, verified) for name, verified in after.linked.items()]
    await connection.execute(SAVE, *columns(uses, 4), *columns(linked, 3))
    return ()


def _final(event: Input) -> bool:
    """Tell whether an input is decided without any state: most are, and a query is saved."""
    return isinstance(event, RepaymentSettled) and event.finality == "final"


STORE = Store(key=key, load=load, save=save)
