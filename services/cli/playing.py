"""Billing as the demo plays it: accounts first, and nothing repaid before their debt is known everywhere.

And the customer who asks for a review of a limit, once all that was repaid counts.
"""

import asyncio
from itertools import takewhile
from typing import Final

from schemas.account import AccountOpened
from schemas.ids import AccountId
from services.billing_simulator.plan import Plan, Planned
from services.billing_simulator.scenarios import Scenario
from services.billing_simulator.send import Ledger, Sent, play
from services.cli.acting import act
from services.cli.servers import Connection
from services.cli.terminal import Problem
from services.console.domain import AskReview
from services.runtime.clock import monotonic
from services.runtime.settings import Settings

EARLY_SECONDS: Final = 0.5
KNOWN_SECONDS_MAX: Final = 60.0
POLL_SECONDS: Final = 0.1
# Accounts whose debt every service that keeps one has, and whose language the notifier has.
KNOWN = """
SELECT count(*) FROM settlement.account s
JOIN limit_release.account l USING (account_id) JOIN notifier.account n USING (account_id)
WHERE account_id = ANY ($1::text[]) AND s.principal_minor > 0 AND l.used_debt_minor > 0
"""


# Verdicts on an account's repayments, and statements that were counted.
SCORED = """
SELECT (SELECT count(*) FROM risk_scoring.outbox WHERE account_id = $1 AND event_type LIKE '%.RiskAssessed.%') >= $2
  AND coalesce((SELECT score IS NOT NULL FROM risk_scoring.account WHERE account_id = $1), false)
"""
TOLD = "SELECT count(*) > 0 FROM notifier.notification WHERE account_id = $1 AND template = 'limit_review'"


async def open_accounts(settings: Settings, connection: Connection, plan: Plan, ledger: Ledger) -> int:
    """Send what a plan says of accounts at its beginning; return how many, once every service knows them."""
    accounts: set[str] = set()

    def noted(planned: Planned) -> None:
        if isinstance(planned.event, AccountOpened):
            accounts.add(planned.event.account_id)

    await play(settings, lambda start: filter(_early, plan(start)), ledger=ledger, on_sent=noted)
    deadline = monotonic() + KNOWN_SECONDS_MAX
    while await connection.fetchval(KNOWN, sorted(accounts)) < len(accounts):
        if monotonic() > deadline:
            raise Problem(f"the services did not learn of {len(accounts)} accounts in {KNOWN_SECONDS_MAX:.0f} s")
        await asyncio.sleep(POLL_SECONDS)
    return len(accounts)


async def send_rest(settings: Settings, plan: Plan, ledger: Ledger) -> Sent:
    """Send what follows in a plan whose accounts were opened."""
    return await play(settings, lambda start: (each for each in plan(start) if not _early(each)), ledger=ledger)


async def send_until(settings: Settings, plan: Plan, stop: asyncio.Event, ledger: Ledger) -> Sent:
    """Send a plan until told to stop, and return once all that was sent is acknowledged."""
    return await play(settings, lambda start: takewhile(lambda _: not stop.is_set(), plan(start)), ledger=ledger)


async def ask_for_review(settings: Settings, connection: Connection, played: Scenario) -> bool:
    """Ask for a review of a limit as a customer does; tell whether they were told of the answer within a minute."""
    (account_id,) = played.accounts
    if not await _until(connection, SCORED, account_id, len(played.repayments)):
        return False
    await act(settings, AskReview(AccountId(account_id), "customer", "demo", "request_review"))
    return await _until(connection, TOLD, account_id)


async def _until(connection: Connection, query: str, *arguments: object) -> bool:
    deadline = monotonic() + KNOWN_SECONDS_MAX
    while not await connection.fetchval(query, *arguments):
        if monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


def _early(planned: Planned) -> bool:
    return planned.kind == "account" and planned.at_seconds < EARLY_SECONDS
