"""One batch on a real PostgreSQL: applied once or not at all, whatever comes again and whoever else is there."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from schemas.account import AccountOpened
from schemas.event import Event
from schemas.ids import repayment_id
from schemas.reasons import Reason
from schemas.risk import Tranche
from services.limit_release.worker import WORKER as LIMIT_RELEASE
from services.notifier.worker import WORKER as NOTIFIER
from services.repayment_ingest.worker import WORKER as INGEST
from services.risk_scoring.worker import WORKER as RISK
from services.runtime import inbox, outbox, timers
from services.runtime.batch import Batch
from services.runtime.clock import monotonic, utc_now
from services.runtime.dead_letter import Limit
from services.runtime.errors import Refused
from services.runtime.fold import Folded
from services.runtime.postgres import COLLISION, one
from services.runtime.settings import Settings
from services.runtime.worker import AnyWorker, Saved
from services.settlement.worker import WORKER as SETTLEMENT
from tests import builders
from tests.integration.conftest import MakeFeed
from tests.integration.support import Feed, Raw, owner, written

SET_ASIDE = "SELECT kind, state, reason, attempts FROM set_aside ORDER BY set_aside_id"
INPUTS: dict[str, tuple[AnyWorker, Event]] = {
    "repayment-ingest": (INGEST, builders.repayment_reported()),
    "settlement": (SETTLEMENT, builders.repayment_received()),
    "risk-scoring": (RISK, builders.repayment_settled()),
    "limit-release": (LIMIT_RELEASE, builders.risk_assessed()),
    "notifier": (NOTIFIER, builders.credit_restored()),
}


async def asides(feed: Feed) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in await feed.connection.fetch(SET_ASIDE)]


def opened(**changes: object) -> AccountOpened:
    return builders.account_opened(**{"credit_limit_minor": 1_000_000, **changes})


async def counted(feed: Feed, table: str) -> int:
    queries = {
        "inbox": "SELECT count(*) FROM inbox",
        "outbox": "SELECT count(*) FROM outbox",
        "timers": "SELECT count(*) FROM timers",
        "publication": "SELECT count(*) FROM publication",
    }
    return int(await feed.value(queries[table]))


@pytest.mark.parametrize("name", INPUTS)
async def test_every_worker_applies_its_event_once(feed_of: MakeFeed, name: str) -> None:
    worker, event = INPUTS[name]
    feed = await feed_of(worker)
    if any(topic.name == "billing.account.v1" for topic in worker.reads):
        debt = () if worker is NOTIFIER else (builders.purchase_posted(),)
        await feed.deliver(opened(), *debt)
    first = await feed.deliver(event)
    assert first.counts["applied"] == 1
    assert first.outgoing
    left = await counted(feed, "outbox"), await counted(feed, "inbox")
    again = await feed.deliver(event)
    assert again.counts["duplicate"] == 1
    assert (await counted(feed, "outbox"), await counted(feed, "inbox")) == left


async def test_the_same_batch_again_is_refused_and_leaves_nothing(feed_of: MakeFeed) -> None:
    feed = await feed_of(INGEST)
    batch = feed.batch(builders.repayment_reported())
    await feed.apply(batch)
    with pytest.raises(Refused):
        await feed.apply(batch)
    assert await counted(feed, "outbox") == 1


async def test_the_same_events_at_new_offsets_are_counted_as_duplicates(feed_of: MakeFeed) -> None:
    feed = await feed_of(INGEST)
    events = [builders.repayment_reported(external_ref=f"ref-{n}") for n in range(5)]
    await feed.deliver(*events, events[0])
    assert (await feed.deliver(*events)).counts["duplicate"] == 5
    assert await feed.value("SELECT duplicates FROM progress WHERE partition = 0") == 6
    assert await counted(feed, "outbox") == 5


async def test_a_reference_under_another_message_id_is_decided_once(feed_of: MakeFeed) -> None:
    feed = await feed_of(INGEST)
    await feed.deliver(builders.repayment_reported(event_id="m-1"))
    again = await feed.deliver(builders.repayment_reported(event_id="m-2"))
    assert again.counts["stale"] == 1
    assert again.outgoing == []


@pytest.mark.parametrize("worker", [SETTLEMENT, LIMIT_RELEASE], ids=["settlement", "limit-release"])
@pytest.mark.parametrize("apart", [False, True], ids=["in one batch", "in two"])
async def test_what_billing_tells_under_another_message_id_counts_once(
    feed_of: MakeFeed, worker: AnyWorker, apart: bool
) -> None:
    feed = await feed_of(worker)
    told = (builders.purchase_posted, builders.purchase_refunded, builders.authorisation_placed)
    once = [builder(event_id=f"once-{n}") for n, builder in enumerate(told)]
    again = [builder(event_id=f"again-{n}") for n, builder in enumerate(told)]
    await feed.deliver(opened())
    for batch in (once, again) if apart else ([*once, *again],):
        await feed.deliver(*batch)
    owed = 500_000 - 20_000
    if worker is SETTLEMENT:
        assert await feed.value("SELECT principal_minor FROM account") == owed
    else:
        assert await feed.value("SELECT available_minor FROM account") == 1_000_000 - owed - 30_000
        assert await feed.value("SELECT used_authorisation_minor FROM account") == 30_000
    assert await asides(feed) == []


async def test_an_id_reused_with_other_content_becomes_a_dead_letter(feed_of: MakeFeed) -> None:
    feed = await feed_of(INGEST)
    await feed.deliver(builders.repayment_reported(event_id="m-1"))
    reused = await feed.deliver(builders.repayment_reported(event_id="m-1", amount_minor=7))
    assert reused.counts["dead_lettered"] == 1
    assert await asides(feed) == [("dead_letter", "open", "event_id_reused", 1)]


async def test_poison_in_a_batch_is_set_aside_alone(feed_of: MakeFeed) -> None:
    feed = await feed_of(INGEST)
    good = [builders.repayment_reported(external_ref=f"ref-{n}") for n in range(3)]
    poison = replace(written(builders.repayment_reported()), value=b"{", key=b"k\x00\xff")
    late = builders.repayment_reported(external_ref="old", repaid_at=builders.REPAID_AT - timedelta(days=500))
    done = await feed.deliver(good[0], poison, good[1], Raw(poison.topic, None), late, good[2])
    assert (done.counts["applied"], done.counts["dead_lettered"]) == (3, 3)
    assert sorted(str(reason) for _, _, reason, _ in await asides(feed)) == [
        "empty_value",
        "not_json",
        "repaid_at_out_of_range",
    ]
    assert await feed.value("SELECT value FROM set_aside WHERE reason = 'not_json'") == b"{"
    assert await feed.value("SELECT key FROM set_aside WHERE reason = 'not_json'") == b"k\x00\xff"


async def test_missing_offsets_are_counted_as_gaps(feed_of: MakeFeed) -> None:
    feed = await feed_of(INGEST)
    batch = feed.batch(*(builders.repayment_reported(external_ref=f"ref-{n}") for n in range(3)), gap=4)
    await feed.apply(batch)
    assert await feed.value("SELECT gaps FROM progress WHERE partition = 0") == 4
    assert (await feed.deliver(builders.repayment_reported(external_ref="next"))).counts["applied"] == 1


async def test_a_zombie_whose_progress_was_moved_leaves_nothing_behind(feed_of: MakeFeed) -> None:
    zombie, successor = await feed_of(SETTLEMENT), await feed_of(SETTLEMENT)
    await zombie.deliver(opened(), builders.purchase_posted())
    stale = zombie.batch(builders.repayment_received(), builders.return_received())
    successor.next = dict(zombie.next) | {"repayment.intake.v1": 0}
    await successor.deliver(builders.repayment_received())
    before = {table: await counted(zombie, table) for table in ("inbox", "outbox", "timers", "publication")}
    with pytest.raises(Refused):
        await zombie.apply(stale)
    assert {table: await counted(zombie, table) for table in before} == before
    assert await zombie.value("SELECT principal_minor FROM account") == 0


async def test_a_lost_answer_to_commit_is_harmless(feed_of: MakeFeed) -> None:
    before, after = await feed_of(LIMIT_RELEASE), await feed_of(LIMIT_RELEASE)
    await before.deliver(opened(), builders.purchase_posted())
    batch = before.batch(builders.risk_assessed())
    await before.apply(batch)
    await before.connection.close()
    with pytest.raises(Refused):
        await after.apply(batch)
    restored = "SELECT count(*) FROM journal WHERE kind = 'RELEASE'"
    assert await after.value(restored) == await after.value(
        "SELECT count(*) FROM tranche WHERE restored_at IS NOT NULL"
    )


async def test_an_unknown_account_is_parked_and_woken_by_its_opening(feed_of: MakeFeed) -> None:
    feed = await feed_of(SETTLEMENT)
    parked = await feed.deliver(builders.repayment_received())
    assert (parked.counts["parked"], parked.outgoing) == (1, [])
    assert (await feed.again()).counts.total() == 0
    await feed.deliver(opened(), builders.purchase_posted())
    woken = await feed.again()
    assert [event.event_type.split(".")[-2] for event in woken.outgoing] == ["RepaymentSettled"]
    assert await asides(feed) == [("parked", "done", "ACCOUNT_UNKNOWN", 1)]
    assert (await feed.again()).counts.total() == 0
    assert (await feed.deliver(builders.repayment_received())).counts["duplicate"] == 1


async def test_what_was_parked_comes_back_by_itself_ever_more_rarely(feed_of: MakeFeed) -> None:
    feed = await feed_of(SETTLEMENT)
    await feed.deliver(builders.repayment_received())
    for minutes, attempts in ((1, 2), (2, 3), (3, 4)):
        await parked_ago(feed, seconds=minutes * 60 - 5)
        assert not (await one(feed.connection, timers.CHORES, [0]))["again"]
        assert (await feed.again()).counts.total() == 0
        await parked_ago(feed, seconds=minutes * 60 + 5)
        assert (await one(feed.connection, timers.CHORES, [0]))["again"]
        assert (await feed.again()).counts["parked"] == 1
        assert await asides(feed) == [("parked", "open", "ACCOUNT_UNKNOWN", attempts)]
    await feed.deliver(opened(), builders.purchase_posted())
    await feed.connection.execute("UPDATE set_aside SET state = 'open', attempts = 1_000")  # as if never woken
    await parked_ago(feed, seconds=60 * 60 + 5)
    assert (await feed.again()).counts["applied"] == 1


async def parked_ago(feed: Feed, *, seconds: int) -> None:
    """Let what is parked have been seen last so long ago."""
    await feed.connection.execute("UPDATE set_aside SET last_seen_at = now() - make_interval(secs => $1)", seconds)


async def test_what_comes_back_and_still_cannot_be_handled_stops_nobody(feed_of: MakeFeed) -> None:
    feed = await feed_of(SETTLEMENT)
    feed.limit = Limit(share_max=1, in_a_row_max=2)
    await feed.deliver(builders.purchase_posted(currency="USD"))
    await feed.deliver(opened())
    for _ in range(3):
        assert (await feed.again()).counts["dead_lettered"] == 1
        await feed.connection.execute("UPDATE set_aside SET state = 'ready'")


async def test_what_was_parked_and_turns_out_malformed_waits_for_a_person(feed_of: MakeFeed) -> None:
    feed = await feed_of(SETTLEMENT)
    purchase = builders.purchase_posted(currency="USD")
    await feed.deliver(purchase)
    await feed.deliver(opened())
    assert (await feed.again()).counts["dead_lettered"] == 1
    assert (await feed.again()).counts.total() == 0
    assert await asides(feed) == [("parked", "open", "currency_mismatch", 2)]
    await feed.connection.execute("UPDATE account SET currency = 'USD'")
    await feed.connection.execute("UPDATE set_aside SET state = 'ready'")
    assert (await feed.again()).counts["applied"] == 1
    assert await feed.value("SELECT principal_minor FROM account") == purchase.amount_minor


async def test_a_dead_letter_made_ready_is_handled_once(feed_of: MakeFeed) -> None:
    feed = await feed_of(SETTLEMENT)
    purchase = builders.purchase_posted(currency="USD")
    await feed.deliver(opened(), purchase)
    assert await asides(feed) == [("dead_letter", "open", "currency_mismatch", 1)]
    await feed.connection.execute("UPDATE set_aside SET state = 'ready'")
    assert (await feed.again()).counts["dead_lettered"] == 1
    assert await asides(feed) == [("dead_letter", "open", "currency_mismatch", 2)]
    await feed.connection.execute("UPDATE account SET currency = 'USD'")
    await feed.connection.execute("UPDATE set_aside SET state = 'ready'")
    assert (await feed.again()).counts["applied"] == 1
    assert (await feed.again()).counts.total() == 0
    assert await feed.value("SELECT principal_minor FROM account") == purchase.amount_minor
    assert (await feed.deliver(purchase)).counts["duplicate"] == 1


async def test_a_dead_letter_whose_event_came_another_way_is_discarded(feed_of: MakeFeed) -> None:
    feed = await feed_of(SETTLEMENT)
    purchase = builders.purchase_posted(currency="USD")
    await feed.deliver(opened(), purchase)
    await feed.connection.execute("UPDATE account SET currency = 'USD'")
    assert (await feed.deliver(purchase)).counts["applied"] == 1
    await feed.connection.execute("UPDATE set_aside SET state = 'ready'")
    assert (await feed.again()).counts["duplicate"] == 1
    assert await feed.value("SELECT state FROM set_aside") == "discarded"
    assert await feed.value("SELECT principal_minor FROM account") == purchase.amount_minor


async def held(feed: Feed, parts: int) -> None:
    """Assess a repayment whose tranches are held and due in a moment."""
    await feed.deliver(opened(), builders.purchase_posted())
    due_at = utc_now() + timedelta(milliseconds=400)
    tranches = tuple(Tranche(n, 500_000 // parts, due_at, Reason.HOLD_RAIL_REVERSIBLE) for n in range(1, parts + 1))
    await feed.deliver(builders.risk_assessed(tranches=tranches, hold_slack_seconds=600))
    assert await counted(feed, "timers") == 2 * parts
    await asyncio.sleep(0.5)


async def test_a_timer_is_fired_once_by_two_processes(feed_of: MakeFeed) -> None:
    first, second = await feed_of(LIMIT_RELEASE), await feed_of(LIMIT_RELEASE)
    await held(first, 10)
    fired = [*await asyncio.gather(first.fire(), second.fire()), await first.fire()]
    assert sum(committed.counts["applied"] for committed in fired) == 10
    restored = [e for committed in fired for e in committed.outgoing if e.event_type.endswith("CreditRestored.v1")]
    assert len({e.event_id for e in restored}) == 10
    assert await first.value("SELECT available_minor FROM account") == 1_000_000
    assert await first.value("SELECT count(*) FROM timers WHERE kind = 'hold_due'") == 0


async def test_a_timer_locked_by_another_process_is_left_to_it(feed_of: MakeFeed) -> None:
    feed, other = await feed_of(LIMIT_RELEASE), await feed_of(LIMIT_RELEASE)
    await held(feed, 2)
    async with other.connection.transaction():
        await other.connection.fetch("SELECT * FROM timers FOR UPDATE")
        assert (await feed.fire()).counts.total() == 0
    assert (await feed.fire()).counts["applied"] == 2


async def test_two_processes_with_the_same_new_reference_leave_one(feed_of: MakeFeed) -> None:
    first, second = await feed_of(INGEST), await feed_of(INGEST)
    second.partition = 1
    batches = [
        first.batch(builders.repayment_reported(event_id="m-1")),
        second.batch(builders.repayment_reported(event_id="m-2")),
    ]
    async with first.connection.transaction():
        await first.apply(batches[0])
        waiting = asyncio.create_task(second.apply(batches[1]))
        await asyncio.sleep(0.2)
        assert not waiting.done()
    with pytest.raises(COLLISION):
        await waiting
    assert (await second.apply(batches[1])).counts["stale"] == 1
    assert await counted(first, "outbox") == 1


async def test_acknowledged_publications_are_closed_with_the_next_batch(feed_of: MakeFeed) -> None:
    feed = await feed_of(INGEST)
    first = await feed.deliver(builders.repayment_reported())
    assert first.publication_id is not None
    await feed.apply(Batch(taken=monotonic()), {first.publication_id})
    assert await feed.value("SELECT published_at IS NOT NULL FROM publication")


@pytest.mark.parametrize(
    ("worker", "statement"),
    [
        (INGEST, "UPDATE inbox SET digest = 0"),
        (INGEST, "DELETE FROM inbox"),
        (LIMIT_RELEASE, "UPDATE journal SET available_minor = 0"),
        (LIMIT_RELEASE, "DELETE FROM journal"),
        (LIMIT_RELEASE, "UPDATE decision_record SET record = ''"),
        (LIMIT_RELEASE, "DELETE FROM decision_record"),
    ],
)
async def test_what_is_append_only_refuses_change(
    feed_of: MakeFeed, settings: Settings, worker: AnyWorker, statement: str
) -> None:
    feed = await feed_of(worker)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await feed.connection.execute(statement)
    async with owner(settings) as connection:  # who may write everything may not do this either
        await connection.execute(f"SET search_path TO {worker.package}")
        with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
            await connection.execute(statement)


async def test_the_money_lane_refuses_going_back(feed_of: MakeFeed) -> None:
    feed = await feed_of(SETTLEMENT)
    await feed.deliver(opened(), builders.purchase_posted(), builders.repayment_received(), builders.return_received())
    assert await feed.value("SELECT status FROM repayment") == "returned"
    for status in ("settled", "waiting", "rejected", "returned_first"):
        with pytest.raises(asyncpg.RestrictViolationError, match="cannot go"):
            await feed.connection.execute("UPDATE repayment SET status = $1", status)


async def test_the_credit_lane_refuses_going_back(feed_of: MakeFeed) -> None:
    feed = await feed_of(LIMIT_RELEASE)
    await feed.deliver(opened(), builders.purchase_posted(), builders.risk_assessed())
    assert await feed.value("SELECT repayment_id FROM tranche LIMIT 1") == repayment_id(
        builders.SOURCE, builders.EXTERNAL_REF
    )
    for state in ("held", "parked", "voided", "lapsed"):
        with pytest.raises(asyncpg.RestrictViolationError, match="cannot go"):
            await feed.connection.execute("UPDATE tranche SET state = $1 WHERE state = 'restored'", state)


@pytest.mark.parametrize("worker", [SETTLEMENT, LIMIT_RELEASE], ids=["settlement", "limit-release"])
async def test_a_batch_that_decided_on_books_changed_meanwhile_leaves_nothing_and_comes_again(
    feed_of: MakeFeed, worker: AnyWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed, other = await feed_of(worker), await feed_of(worker)
    await feed.deliver(opened())
    other.partition, read = 1, inbox.read

    async def read_then_changed(*args: Any) -> Any:
        row = await read(*args)
        monkeypatch.setattr(inbox, "read", read)
        await other.deliver(builders.purchase_posted(event_id="theirs", purchase_id="theirs"))
        return row

    batch = feed.batch(builders.purchase_posted())
    monkeypatch.setattr(inbox, "read", read_then_changed)
    with pytest.raises(COLLISION, match="0 of 1 rows are as they were"):
        await feed.apply(batch)
    assert await feed.value("SELECT count(*) FROM inbox") == 2
    assert (await feed.apply(batch)).counts["applied"] == 1
    owed = "principal_minor" if worker is SETTLEMENT else "used_debt_minor"
    [account] = await feed.connection.fetch("SELECT * FROM account")
    assert account[owed] == 2 * builders.purchase_posted().amount_minor


async def test_a_guard_without_rows_leaves_nothing(feed_of: MakeFeed) -> None:
    feed = await feed_of(SETTLEMENT)
    forgot = Saved((None, None, None, None), guarded=1)
    with pytest.raises(asyncpg.SerializationError):
        await outbox.record(
            feed.connection, inbox.Progress(), Folded({}, saved=forgot), (), writes=SETTLEMENT.keeps.writes
        )
