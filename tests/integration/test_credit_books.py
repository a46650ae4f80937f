"""limit-release on real PostgreSQL: the lane and the sums the database keeps, and what a customer is shown."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, get_args

import asyncpg
import pytest

from schemas.event import Event
from schemas.ids import RepaymentId
from schemas.reasons import Reason
from schemas.risk import Tranche
from schemas.settlement import Reallocation
from services.limit_release.model import LANE, TrancheState
from services.limit_release.worker import WORKER
from services.runtime.clock import utc_now
from services.runtime.settings import Settings
from tests import builders
from tests.integration.support import Feed, role, violations

FAR = datetime(2030, 1, 1, tzinfo=UTC)
PAST = datetime(2026, 11, 20, 14, 0, tzinfo=UTC)
STATES: tuple[TrancheState, ...] = get_args(TrancheState)


@pytest.fixture
async def feed(settings: Settings) -> AsyncIterator[Feed]:
    """Open an account with a limit of 1000000 and a debt of 500000."""
    async with role(settings, "limit_release") as connection:
        feed = await Feed(WORKER, settings, connection).start()
        await feed.deliver(builders.account_opened(credit_limit_minor=1_000_000), builders.purchase_posted())
        yield feed


def verdict(*parts: tuple[int, datetime], **changes: Any) -> Event:
    tranches = tuple(Tranche(n, *part, Reason.HOLD_RAIL_REVERSIBLE) for n, part in enumerate(parts, start=1))
    total = sum(amount for amount, _ in parts)
    return builders.risk_assessed(**{"amount_minor": total, "restorable_minor": total, "tranches": tranches, **changes})


def returned(amount: int, *moved: Reallocation, **changes: Any) -> Event:
    paid = {"amount_minor": amount, "restorable_minor": amount, "reallocated": moved}
    return builders.repayment_returned(**{**paid, **changes})


async def shown(feed: Feed) -> tuple[object, ...]:
    row = await feed.connection.fetchrow(
        "SELECT available_credit_minor, available_raw_minor, zero_reason, cash_available_minor FROM available_credit"
    )
    assert row is not None
    return tuple(row.values())


def closure() -> set[tuple[str, str]]:
    """Return what one batch may come to: any number of steps of the lane."""
    found: set[tuple[str, str]] = set(LANE)
    for middle, before, after in product(STATES, STATES, STATES):
        if {(before, middle), (middle, after)} <= found:
            found.add((before, after))
    return {(before, after) for before, after in found if before != after}


async def test_the_database_allows_exactly_the_steps_of_the_lane(feed: Feed) -> None:
    await feed.deliver(verdict((100, FAR)))
    allowed = {pair for pair in product(STATES, STATES) if pair[0] != pair[1] and await _may_go(feed, *pair)}
    assert allowed == closure()


async def _may_go(feed: Feed, before: str, after: str) -> bool:
    """Tell whether a tranche made as ``before`` may be updated to ``after``; undone either way."""
    transaction: Any = feed.connection.transaction()
    await transaction.start()
    try:
        await feed.connection.execute(
            "INSERT INTO tranche SELECT account_id, repayment_id, 2, amount_minor, $1, until, reason, promised_by, $2, "
            "promises, extensions, delayed FROM tranche WHERE number = 1",
            before,
            PAST if before in ("restored", "reversed") else None,
        )
        await feed.connection.execute(
            "UPDATE tranche SET state = $1, restored_at = $2 WHERE number = 2",
            after,
            PAST if after in ("restored", "reversed") else None,
        )
    except asyncpg.RestrictViolationError:
        return False
    finally:
        await transaction.rollback()
    return True


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tranche SET amount_minor = amount_minor - 1 WHERE number = 2",
        "DELETE FROM tranche WHERE number = 2",
        "UPDATE repayment SET restorable_minor = restorable_minor - 1",
        "UPDATE repayment SET reallocated_minor = 5",
    ],
)
async def test_e05_tranches_that_do_not_add_up_are_refused_at_commit(feed: Feed, statement: str) -> None:
    await feed.deliver(verdict((100, PAST), (200, FAR)))
    transaction: Any = feed.connection.transaction()
    await transaction.start()
    await feed.connection.execute(statement)
    with pytest.raises(asyncpg.CheckViolationError, match="do not add up"):
        await transaction.commit()
    await feed.connection.execute("SELECT 1")


async def test_what_is_restored_keeps_its_amount_and_instant(feed: Feed) -> None:
    await feed.deliver(verdict((100, PAST), (200, FAR)))
    for change in ("amount_minor = 1", "restored_at = restored_at + interval '1 second'"):
        with pytest.raises(asyncpg.RestrictViolationError, match="its amount and instant stay"):
            await feed.connection.execute(f"UPDATE tranche SET {change} WHERE number = 1")  # noqa: S608  # both are ours


async def test_a_hold_released_and_returned_in_one_batch_goes_two_steps_at_once(feed: Feed, settings: Settings) -> None:
    await feed.deliver(verdict((100, FAR)))
    await feed.deliver(verdict((100, PAST), revision=1), returned(100))
    assert await feed.value("SELECT state FROM tranche") == "reversed"
    assert await shown(feed) == (500_000, 500_000, None, None)
    assert await violations(settings) == {}


async def test_a_split_an_extension_and_a_replay_are_kept_and_violate_nothing(feed: Feed, settings: Settings) -> None:
    repaid_at = utc_now().replace(microsecond=0)
    until = repaid_at + timedelta(days=1)
    await feed.deliver(verdict((100, PAST), (200, until), (300, until), repaid_at=repaid_at))
    await feed.deliver(builders.hold_release_approved(tranche=2, amount_minor=50))
    await feed.deliver(builders.hold_extended(tranche=3, until=until + timedelta(hours=1)))
    moved = Reallocation(builders.REPAYMENT, -500, 0)
    await feed.deliver(builders.charges_accrued(penalty_minor=0, fee_minor=500, interest_minor=0))
    await feed.deliver(returned(40, moved, repayment_id=RepaymentId("another")))
    rows = await feed.connection.fetch(
        "SELECT number, amount_minor, state, promises, extensions FROM tranche ORDER BY 1"
    )
    assert [tuple(row.values()) for row in rows] == [
        (1, 100, "restored", 1, 0),
        (2, 0, "voided", 1, 0),
        (3, 0, "voided", 2, 1),
        (4, 50, "restored", 1, 0),
    ]
    assert await feed.value("SELECT reallocated_available_minor FROM repayment WHERE assessed") == -50
    assert (await shown(feed))[:2] == (500_100, 500_100)
    assert await violations(settings) == {}


async def test_e19_a_restoration_is_in_the_outbox_of_the_commit_that_made_it(feed: Feed) -> None:
    committed = await feed.deliver(verdict((100, PAST)))
    kept = await feed.value(
        "SELECT count(*) FROM outbox WHERE publication_id = $1 AND event_type LIKE '%CreditRestored%'",
        committed.publication_id,
    )
    assert kept == 1
    assert await feed.value("SELECT count(*) FROM journal WHERE kind = 'RELEASE'") == 1


async def test_e09_the_same_verdict_and_return_three_times_have_one_effect(feed: Feed) -> None:
    for event in (verdict((100, PAST)), returned(100)):
        for _ in range(3):
            await feed.deliver(event)
    assert await feed.value("SELECT count(*) FROM journal WHERE kind IN ('SETTLE', 'RELEASE', 'REVERSE')") == 3
    assert (await shown(feed))[0] == 500_000


async def test_e17_r18_r19_r20_what_is_shown_is_read_where_it_is_written(feed: Feed, settings: Settings) -> None:
    assert await shown(feed) == (500_000, 500_000, None, None)
    await feed.deliver(builders.account_status_changed(status="frozen", reason="overdue"))
    assert await shown(feed) == (0, 500_000, "ACCOUNT_OVERDUE", None)
    cut = builders.credit_limit_changed(credit_limit_minor=400_000, cash_sub_limit_minor=70_000)
    await feed.deliver(builders.account_status_changed(status="active", reason="paid"), cut)
    assert await shown(feed) == (0, -100_000, "LIMIT_LOWERED", 0)
    await feed.deliver(verdict((150_000, PAST)))
    assert await shown(feed) == (50_000, 50_000, None, 50_000)
    await feed.deliver(builders.account_status_changed(status="closed", reason="left"))
    assert await shown(feed) == (0, 50_000, "ACCOUNT_CLOSED", 0)
    assert await violations(settings) == {}


async def test_a_decision_owed_has_a_timer_and_its_breach_is_told_once(feed: Feed, settings: Settings) -> None:
    owed = builders.repayment_settled(settled_at=PAST)
    await feed.deliver(owed)
    assert await feed.value("SELECT due_at FROM timers WHERE kind = 'decision_due'") == PAST + timedelta(seconds=60)
    assert [row["repayment_id"] for row in (await violations(settings))["limit_release.invariant_waits_explained"]]
    told = [len((await feed.fire()).outgoing) for _ in range(2)]
    assert told == [1, 0]
    assert await violations(settings) == {}
    await feed.deliver(verdict((500_000, PAST), settled_at=PAST))
    assert await feed.value("SELECT count(*) FROM outbox WHERE event_type LIKE '%RestorationDelayed%'") == 1
    assert await feed.value("SELECT standing FROM promise") == "broken"
    assert await violations(settings) == {}


async def test_a_promise_is_suspended_while_its_account_is_frozen(feed: Feed) -> None:
    await feed.deliver(verdict((100, FAR)))
    assert await feed.value("SELECT standing FROM promise") == "open"
    await feed.deliver(builders.account_status_changed(status="frozen", reason="overdue"))
    row = await feed.connection.fetchrow("SELECT standing, condition, revision FROM promise")
    assert row is not None
    assert tuple(row.values()) == ("suspended", "account_active", 0)
