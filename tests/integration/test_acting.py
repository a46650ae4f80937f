"""What people say at the command line, with and without Kafka, and when another was faster."""

import json
from collections.abc import Awaitable, Callable

import pytest

from schemas.topics import REVIEW_DECISION
from services.cli.acting import act, verdict
from services.cli.commands import answer
from services.cli.system import environment
from services.cli.terminal import Problem
from services.console.domain import MoveCase, ReleaseHold
from services.console.store import dead_letters
from services.console.worker import WORKER
from services.limit_release.worker import WORKER as LIMIT_RELEASE
from services.repayment_ingest.worker import WORKER as INGEST
from services.runtime.publisher import Publisher
from services.runtime.settings import Settings
from services.runtime.worker import AnyWorker
from tests import builders
from tests.conftest import run_apart
from tests.integration.kafka import records
from tests.integration.support import Feed, Raw, owner, role, violations

MakeFeed = Callable[[AnyWorker], Awaitable[Feed]]
RELEASE = ReleaseHold(builders.ACCOUNT, "reviewer_1", "payer_verified", builders.REPAYMENT, 2)
LATE = builders.restoration_delayed(cause="system_delay.processing")
LONG_AGO = "UPDATE limit_release.outbox SET occurred_at = occurred_at - interval '1 day'"
UNPUBLISHED = "SELECT count(*) FROM publication WHERE published_at IS NULL"


async def test_a_command_is_on_its_topic_when_it_is_done(empty_kafka: Settings, feed_of: MakeFeed) -> None:
    feed = await feed_of(WORKER)
    done = await act(empty_kafka, RELEASE)
    (seen,) = await records(empty_kafka, REVIEW_DECISION.name)
    assert (done.told, seen.event["event_id"], seen.event["actor"]) == (True, done.event_id, "reviewer_1")
    assert await feed.value(UNPUBLISHED) == 0


async def test_without_kafka_it_is_kept_and_audited_and_the_worker_sends_it_later(
    empty_kafka: Settings, feed_of: MakeFeed
) -> None:
    feed = await feed_of(WORKER)
    away = empty_kafka.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    done = await act(away, RELEASE)
    assert not done.told
    assert await feed.value(UNPUBLISHED) == await feed.value("SELECT count(*) FROM audit") == 1
    publisher = Publisher(empty_kafka, WORKER.name)
    try:
        await publisher.start()
        assert await publisher.republish(feed.connection, range(empty_kafka.partitions)) == 1
        await publisher.mark(feed.connection)
    finally:
        await publisher.stop()
    (seen,) = await records(empty_kafka, REVIEW_DECISION.name)
    assert seen.event["event_id"] == done.event_id


async def test_a_timer_set_at_the_command_line_is_the_accounts_partitions(
    empty_kafka: Settings, feed_of: MakeFeed
) -> None:
    feed = await feed_of(WORKER)
    await feed.deliver(LATE)
    case = await feed.value("SELECT case_id FROM case_file")
    resolve = MoveCase(builders.ACCOUNT, "agent_1", "checked", case, "resolve", "explained")
    await act(empty_kafka, resolve)
    assert await feed.value("SELECT partition FROM timers WHERE kind = 'case_closes'") in range(empty_kafka.partitions)
    with pytest.raises(Problem, match="changed by another meanwhile"):
        await act(empty_kafka, resolve)


async def test_limit_releases_word_is_waited_for(settings: Settings, feed_of: MakeFeed) -> None:
    feed = await feed_of(LIMIT_RELEASE)
    nothing = builders.hold_release_approved()
    assert await verdict(settings, nothing.event_id, 0) is None
    await feed.deliver(builders.account_opened(), nothing)
    word = await verdict(settings, nothing.event_id, 0)
    assert word is not None
    assert (word["outcome"], word["reason"]) == ("stale", "not_held")


async def test_a_broken_promise_without_its_case_is_found(settings: Settings, feed_of: MakeFeed) -> None:
    """Where a console runs, every promise told as broken has a case; where none ever ran, nobody promised one."""
    releases = await feed_of(LIMIT_RELEASE)
    await releases.deliver(builders.account_opened(credit_limit_minor=1_000_000), builders.purchase_posted())
    first, *rest = builders.risk_assessed().tranches  # restored long after it was promised; the others are held
    held = [part._replace(due_at=part.due_at.replace(year=2030)) for part in rest]
    await releases.deliver(builders.risk_assessed(tranches=(first, *held)))

    async def found() -> list[int]:
        async with owner(settings) as connection:
            asked = connection.transaction()
            await asked.start()
            # As if it had been told a day ago: nothing is under way any more.
            await connection.execute("SET LOCAL session_replication_role = replica")
            await connection.execute(LONG_AGO)
            rows = await connection.fetch("SELECT number FROM lag_monitor.invariant_broken_is_a_case")
            await asked.rollback()
            return [row["number"] for row in rows]

    assert await found() == []
    feed = await feed_of(WORKER)
    assert await found() == [1]
    await feed.deliver(builders.restoration_delayed(tranche=1))
    assert await found() == []
    assert await violations(settings) == {}


def test_a_dead_letter_is_discarded_with_an_entry_of_the_chain(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in environment(settings).items():
        monkeypatch.setenv(name, text)

    async def poison() -> None:
        async with role(settings, INGEST.package) as connection:
            await (await Feed(INGEST, settings, connection).start()).deliver(Raw("billing.repayment.v1", b"{"))

    async def audited() -> list[dict[str, object]]:
        async with owner(settings) as connection:
            query = "SELECT actor, action, account_id, subject, reason, content FROM console.audit"
            return [dict(row) for row in await connection.fetch(query)]

    run_apart(poison())
    (listed,) = run_apart(listed_places(settings))
    discard = ("dlq", "discard", listed, "--yes", "--actor", "agent_1", "--reason", "poison")
    assert answer(discard) == 0
    assert answer(discard) == 1, "it is discarded already"
    (entry,) = run_apart(audited())
    assert json.loads(str(entry.pop("content"))) == {"reason": "not_a_cloudevent", "topic": "billing.repayment.v1"}
    assert entry == {
        "actor": "agent_1", "action": "discard", "account_id": "unknown", "subject": listed, "reason": "poison",
    }  # fmt: skip
    assert run_apart(violations(settings)) == {}
    assert capsys.readouterr().err != ""


async def listed_places(settings: Settings) -> list[str]:
    async with role(settings, WORKER.package) as connection:
        return [found.place for found in await dead_letters(connection)]
