"""What is asked of a repayment, on a real database: warnings, who shares its bank account, what came, what is held."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas.event import Event
from schemas.risk import RiskAssessed
from services.profiles import FOLDER
from services.risk_scoring.worker import WORKER
from services.runtime.batch import Committed
from services.runtime.clock import utc_now
from services.runtime.settings import Settings
from services.runtime.worker import AnyWorker
from tests import builders
from tests.integration.support import Feed

MakeFeed = Callable[[AnyWorker], Awaitable[Feed]]


@pytest.fixture
async def feed(settings: Settings, tmp_path: Path, feed_of: MakeFeed) -> Feed:
    """Let the formula decide for the default product."""
    text = (FOLDER / "default.toml").read_text().replace('method = "schedule"', 'method = "formula"')
    (tmp_path / "default.toml").write_text(text)
    feed = await feed_of(WORKER)
    feed.policy = WORKER.policy(settings.model_copy(update={"policy_dir": tmp_path}))
    for n in range(4):
        old = utc_now() - timedelta(days=400 if n else 10)
        await feed.deliver(builders.account_opened(account_id=f"a{n}", credit_limit_minor=600_000, occurred_at=old))
    return feed


def paid(account: int, name: str, amount: int = 5_000, source: str | None = "fund_1", **changes: object) -> Event:
    at = utc_now() - timedelta(seconds=30)
    return builders.repayment_settled(
        account_id=f"a{account}", repayment_id=name, amount_minor=amount, restorable_minor=amount,
        funding_account_id=source, repaid_at=at, settled_at=at + timedelta(seconds=1), **changes,
    )  # fmt: skip


def told(done: Committed) -> list[tuple[str, tuple[str, ...]]]:
    facts = [RiskAssessed.model_validate_json(each.payload) for each in done.outgoing]
    return [(fact.outcome, fact.patterns) for fact in facts]


async def test_the_third_customer_of_a_funding_account_is_looked_at(feed: Feed) -> None:
    assert told(await feed.deliver(paid(1, "r1"))) == [("clear", ())]
    assert told(await feed.deliver(paid(2, "r2"))) == [("clear", ())]
    assert told(await feed.deliver(paid(3, "r3"), paid(3, "r3b"))) == [("refer", ("shared_funding_account",))] * 2
    assert told(await feed.deliver(paid(1, "r4"))) == [("refer", ("shared_funding_account",))]
    assert told(await feed.deliver(paid(1, "r5", source="other"), paid(2, "r6", source=None))) == [("clear", ())] * 2
    assert await feed.value("SELECT count(*) FROM funding_use") == 4


async def test_a_dispute_and_a_standing_elsewhere_count_until_they_end(feed: Feed) -> None:
    ref = builders.repayment_disputed(account_id="a1", occurred_at=utc_now() - timedelta(days=2))
    await feed.deliver(ref, ref)
    assert told(await feed.deliver(paid(1, "r1"))) == [("refer", ("disputed",))]
    at = utc_now() - timedelta(days=1)
    changed = {"account_id": "a1", "occurred_at": at}
    await feed.deliver(builders.account_status_changed(status="frozen", reason="overdue_elsewhere", **changed))
    assert told(await feed.deliver(paid(1, "r2"))) == [("refer", ("disputed", "overdue_elsewhere"))]
    back = builders.repayment_returned(
        account_id="a1", repayment_id=builders.REPAYMENT, occurred_at=utc_now(), reallocated=()
    )
    paid_up = builders.account_status_changed(account_id="a1", status="active", reason="paid", occurred_at=utc_now())
    await feed.deliver(back, paid_up)
    assert await feed.value("SELECT count(*) FROM warning WHERE ended_at IS NOT NULL") == 2
    assert told(await feed.deliver(paid(1, "r3"))) == [("clear", ())]


async def test_what_was_repaid_lately_counts_across_batches_and_within_one(feed: Feed) -> None:
    within = await _of(feed, paid(0, "r1", 200_000), paid(0, "r2", 200_000))
    assert [dict(fact.inputs).get("lately_minor") for fact in within] == [None, 200_000]
    (later,) = await _of(feed, paid(0, "r3", 1_000))
    assert (dict(later.inputs)["lately_count"], dict(later.inputs)["lately_minor"]) == (2, 400_000)
    assert later.reasons[:2] == ("HOLD_MULTIPLE_REPAYMENTS", "HOLD_SHORT_HISTORY")


async def test_what_is_held_is_not_unused_credit_across_batches_and_within_one(feed: Feed) -> None:
    """With 300,000 unused nobody notices a hold of all, so nothing of the account is exposed, only held."""
    until: dict[str, Any] = {"final_on": utc_now().date() + timedelta(days=60)}
    (held,) = await _of(feed, paid(1, "r1", 200_000, owed_minor=100_000, **until))
    assert [part.due_at > held.occurred_at for part in held.tranches] == [True]
    assert dict(held.inputs)["unused_minor"] == 600_000 - 100_000 - 200_000
    assert await feed.value("SELECT count(*) FROM exposure WHERE from_on <= (now() AT TIME ZONE 'UTC')::date") == 0
    later, again = await _of(
        feed,
        paid(1, "r2", 60_000, owed_minor=40_000, **until),
        paid(1, "r3", 40_000, owed_minor=0, **until),
    )
    assert dict(later.inputs)["unused_minor"] == 600_000 - 40_000 - 60_000 - 200_000
    kept = sum(part.amount_minor for part in later.tranches if part.due_at > later.occurred_at)
    assert dict(again.inputs)["unused_minor"] == 600_000 - 40_000 - 200_000 - kept
    moved = builders.repayments_reallocated(account_id="a1", reallocated=(("r1", -50_000, 50_000),))
    back = builders.repayment_returned(account_id="a1", repayment_id="r2", reallocated=(), occurred_at=utc_now())
    await feed.deliver(moved, back)
    (last,) = await _of(feed, paid(1, "r4", 1_000, owed_minor=70_000, **until))
    waits = sum(part.amount_minor for part in again.tranches if part.due_at > again.occurred_at)
    assert dict(last.inputs)["unused_minor"] == 600_000 - 70_000 - 1_000 - 150_000 - waits
    (old,) = await _of(feed, paid(1, "r5", 1_000, owed_minor=None, **until))
    assert dict(old.inputs)["unused_minor"] is None


async def _of(feed: Feed, *events: Event) -> list[RiskAssessed]:
    return [RiskAssessed.model_validate_json(each.payload) for each in (await feed.deliver(*events)).outgoing]
