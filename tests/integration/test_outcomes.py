"""risk_outcome and the exposure on a real database: filled from events, exact under concurrency, back to nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from schemas.event import Event
from schemas.ids import RepaymentId, event_id
from schemas.reasons import Reason
from schemas.settlement import Reallocation
from services.lag_monitor import gauges
from services.lag_monitor.worker import WORKER as LAG_MONITOR
from services.metrics.catalogue import OVER_BUDGET
from services.profiles import FOLDER
from services.risk_scoring.worker import WORKER
from services.runtime.clock import utc_now
from services.runtime.settings import Settings
from services.runtime.worker import AnyWorker
from tests import builders
from tests.integration.support import Feed, owner, role, violations

MakeFeed = Callable[[AnyWorker], Awaitable[Feed]]
SUMS = """
SELECT (SELECT coalesce(sum(minor), 0) FROM portfolio_exposure)::bigint AS portfolio,
  (SELECT coalesce(sum(minor), 0) FROM exposure)::bigint AS accounts,
  (SELECT count(*) FROM risk_outcome) AS n, (SELECT count(*) FROM risk_outcome WHERE returned_by = 'bank') AS returned
"""


def settled(number: int, account: str = builders.ACCOUNT, amount: int = 1_000) -> Event:
    now = utc_now()
    return builders.repayment_settled(
        account_id=account,
        repayment_id=f"r{number}",
        amount_minor=amount,
        restorable_minor=amount,
        repaid_at=now - timedelta(seconds=9),
        settled_at=now - timedelta(seconds=5),
        credited_on=now.date(),
        final_on=now.date() + timedelta(days=60),
    )


def returned(number: int, account: str = builders.ACCOUNT) -> Event:
    why = Reason.RETURNED_INSUFFICIENT_FUNDS
    return builders.repayment_returned(
        account_id=account, repayment_id=f"r{number}", return_class=why, reallocated=(), occurred_at=utc_now()
    )


async def sums(feed: Feed) -> dict[str, Any]:
    row = await feed.connection.fetchrow(SUMS)
    assert row is not None
    return dict(row)


async def test_an_outcome_begins_with_its_verdict_and_a_return_ends_it(settings: Settings, feed_of: MakeFeed) -> None:
    feed = await feed_of(WORKER)
    await feed.deliver(builders.account_opened(), settled(1), settled(2, amount=400_000))
    assert await sums(feed) == {"portfolio": 401_000, "accounts": 401_000, "n": 2, "returned": 0}
    await feed.deliver(builders.funding_account_linked(verified=True, occurred_at=utc_now()))
    await feed.deliver(returned(2))
    assert await sums(feed) == {"portfolio": 1_000, "accounts": 1_000, "n": 2, "returned": 1}
    await feed.deliver(returned(1))
    assert await sums(feed) == {"portfolio": 0, "accounts": 0, "n": 2, "returned": 2}
    row = await feed.connection.fetchrow("SELECT * FROM risk_outcome WHERE repayment_id = 'r2'")
    assert row is not None
    assert (row["verdict"], row["model_version"], row["rail"]) == ("observe", "rail-rule-1", "direct_debit")
    assert await violations(settings) == {}


async def test_a_replay_read_before_what_it_moved_counts_when_that_is_read(
    settings: Settings, feed_of: MakeFeed
) -> None:
    feed = await feed_of(WORKER)
    moved = (Reallocation(RepaymentId("r1"), -300, 300), Reallocation(RepaymentId("r2"), -200, 200))
    for_good = {"rail": "wallet", "finality": "final", "final_on": utc_now().date()}
    first, second = [
        one.model_copy(update={"event_id": event_id("RepaymentSettled", f"r{n}"), **changes})
        for n, one, changes in ((1, settled(1), {}), (2, settled(2), for_good))
    ]
    early = await feed.deliver(builders.repayments_reallocated(reallocated=moved, occurred_at=utc_now()))
    assert early.counts["parked"] == 1
    for settles, exposed in ((first, 1_000), (second, 700)):
        await feed.deliver(settles)
        await feed.connection.execute("UPDATE set_aside SET last_seen_at = last_seen_at - interval '1 hour'")
        await feed.again()
        assert (await sums(feed))["accounts"] == exposed, "it waits for all it moved, what is final included"
    assert await feed.value("SELECT state FROM set_aside") == "done"
    assert await violations(settings) == {}


@pytest.mark.parametrize("together", [False, True])
async def test_what_a_settlement_moved_before_that_was_read_counts_when_it_is(
    settings: Settings, feed_of: MakeFeed, together: bool
) -> None:
    feed = await feed_of(WORKER)
    moved = (Reallocation(RepaymentId("r1"), -300, 300), Reallocation(RepaymentId("r0"), -200, 200))
    first, second = [
        one.model_copy(update={"event_id": event_id("RepaymentSettled", f"r{n}"), **changes})
        for n, one, changes in ((1, settled(1), {}), (2, settled(2), {"reallocated": moved}))
    ]
    for facts in ([second, first],) if together else ([second], [first]):
        await feed.deliver(*facts)
    assert (await sums(feed))["accounts"] == 1_000 + 700
    assert await feed.value("SELECT early FROM account") == '{"r0": -200}'
    assert await violations(settings) == {}


async def test_exposure_is_exact_when_workers_write_it_at_the_same_time(settings: Settings) -> None:
    """Four workers on partitions of their own settle and return at once; nothing is lost of the sums they share."""

    async def work(partition: int) -> None:
        async with role(settings, WORKER.package) as connection:
            feed = await Feed(WORKER, settings, connection, partition).start()
            at = [f"acct_{partition}_{n}" for n in range(5)]
            for n in range(12):
                events = [settled(partition * 1_000 + n * 5 + m, account) for m, account in enumerate(at)]
                await feed.deliver(*events)
            await feed.deliver(*[returned(partition * 1_000 + m, account) for m, account in enumerate(at)])

    await asyncio.gather(*(work(partition) for partition in range(settings.partitions)))
    async with role(settings, WORKER.package) as connection:
        feed = Feed(WORKER, settings, connection)
        left = (12 - 1) * 5 * settings.partitions * 1_000
        expected = {"portfolio": left, "accounts": left}
        found = await sums(feed)
        assert {name: found[name] for name in expected} == expected
    assert await violations(settings) == {}


async def test_a_sum_that_is_wrong_is_seen(settings: Settings, feed_of: MakeFeed) -> None:
    feed = await feed_of(WORKER)
    await feed.deliver(settled(1))
    async with owner(settings) as connection:
        await connection.execute("UPDATE risk_scoring.exposure SET minor = minor + 1")
        assert list(await violations(settings)) == ["risk_scoring.invariant_exposure"]
        await connection.execute("UPDATE risk_scoring.exposure SET minor = minor - 1")


@pytest.fixture
def budget(settings: Settings, tmp_path: Any) -> Settings:
    """Give the default product a budget of 10,000 minor units."""
    text = (FOLDER / "default.toml").read_text()
    changed = text.replace("refer_banking_days", "exposure = { portfolio_max_minor = 10000 }\nrefer_banking_days")
    (tmp_path / "default.toml").write_text(changed)
    return settings.model_copy(update={"policy_dir": tmp_path})


async def test_a_spent_budget_holds_what_the_rail_may_take_back_from_the_next_batch_on(
    budget: Settings, feed_of: MakeFeed
) -> None:
    feed = await feed_of(WORKER)
    feed.policy = WORKER.policy(budget)
    for n in range(12):
        await feed.deliver(settled(n, f"acct_{n}"))
    assert await feed.value("SELECT count(*) FROM risk_outcome WHERE over_budget") == 2
    async with role(budget, LAG_MONITOR.package) as connection:
        assert (await gauges.read(connection, {}))[OVER_BUDGET.name, ()] == 2
    held = "SELECT count(*) FROM risk_outcome WHERE verdict = 'observe'"
    assert await feed.value(held) == 2
    await feed.deliver(returned(0, "acct_0"))
    await feed.deliver(settled(12, "acct_12"))
    assert await feed.value(held) == 2
    assert await violations(budget) == {}
