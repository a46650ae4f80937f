"""E18: the end of a day is a timer of each account, so nobody waits for a batch that closes it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from schemas.event import Event
from schemas.ids import repayment_id
from services.runtime.clock import utc_now
from services.runtime.settings import Settings
from services.settlement.worker import WORKER
from tests import builders
from tests.integration.support import Feed, role, violations

OWED = 50_000


def of(account: str) -> list[Event]:
    """Return an account with a statement whose day is over, and of which nothing was paid."""
    now = utc_now()
    bought = {"amount_minor": OWED, "occurred_at": now - timedelta(days=5), "purchase_id": f"p-{account}"}
    due = {"due_minor": OWED, "minimum_minor": OWED, "due_on": (now - timedelta(days=3)).date()}
    return [
        builders.account_opened(account_id=account),
        builders.purchase_posted(account_id=account, **bought),
        builders.statement_issued(account_id=account, occurred_at=now - timedelta(days=4), **due),
    ]


def repaid(account: str) -> Event:
    now = utc_now()
    taken = {"external_ref": account, "repayment_id": repayment_id("core", account), "amount_minor": 10_000}
    return builders.repayment_received(account_id=account, repaid_at=now, trail=(), occurred_at=now, **taken)


@pytest.fixture
async def feed(settings: Settings) -> AsyncIterator[Feed]:
    async with role(settings, "settlement") as connection:
        feed = await Feed(WORKER, settings, connection).start()
        await feed.deliver(*of("closing"), *of("paying"))
        yield feed


async def test_e18_a_repayment_is_taken_while_another_accounts_day_is_being_closed(
    feed: Feed, settings: Settings
) -> None:
    async with role(settings, "settlement") as closing:
        transaction: Any = closing.transaction()
        await transaction.start()
        await closing.execute("SELECT FROM account WHERE account_id = 'closing' FOR UPDATE")
        async with asyncio.timeout(5):
            taken = await feed.deliver(repaid("paying"))
        await transaction.rollback()
    assert taken.counts["applied"] == 1


async def test_e18_a_day_that_is_over_and_a_repayment_of_the_same_account_both_count(
    feed: Feed, settings: Settings
) -> None:
    await feed.fire()
    assert await feed.value("SELECT buckets[4] FROM account WHERE account_id = 'closing'") == OWED
    await feed.deliver(repaid("closing"), repaid("paying"))
    settled = await feed.connection.fetch("SELECT account_id, status FROM repayment ORDER BY 1")
    assert [tuple(row.values()) for row in settled] == [("closing", "settled"), ("paying", "settled")]
    assert await violations(settings) == {}
