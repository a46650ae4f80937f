"""Another return model in force: at once, for whole batches, with no repayment lost or judged twice; and back again."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from schemas.ids import RETURN_MODEL
from schemas.risk import ModelActivated
from services import risk_scoring
from services.cli.commands import answer
from services.cli.models import activate
from services.cli.terminal import Problem
from services.console.model import ACTS_A_DAY_MAX
from services.console.worker import WORKER as CONSOLE
from services.profiles import returns
from services.risk_scoring.worker import WORKER
from services.runtime.clock import utc_now
from services.runtime.codec import encode
from services.runtime.outbox import unpublished
from services.runtime.settings import Settings
from services.runtime.worker import AnyWorker
from tests import builders
from tests.integration.support import Feed, Raw, another_table, owner, role, violations

MakeFeed = Callable[[AnyWorker], Awaitable[Feed]]
WHO = ("--actor", "risk_lead", "--reason", "replay_better")
NEXT = "return-prior-2"
# What the migration does with what decides when it comes.
MIGRATION = Path(risk_scoring.__path__[0], "migrations", "015_announced.sql").read_text()
INSTALLING = MIGRATION.rpartition("told, too.")[2]
# The verdicts of a feed in the order they were committed.
TOLD = (
    "SELECT convert_from(payload, 'UTF8') AS fact FROM outbox WHERE topic LIKE '%.risk.v1' ORDER BY publication_id, n"
)

ANNOUNCED = (
    "SELECT convert_from(payload, 'UTF8') AS fact FROM outbox WHERE topic = 'risk.active.v1' ORDER BY publication_id"
)


async def settled(feed: Feed, first: int, count: int) -> None:
    await feed.deliver(*[builders.repayment_settled(repayment_id=f"r{first + n}") for n in range(count)])


async def versions(feed: Feed) -> dict[str, str]:
    rows = [json.loads(row["fact"]) for row in await feed.connection.fetch(TOLD)]
    found = {row["repayment_id"]: row["model_version"] for row in rows}
    assert len(found) == len(rows), "a repayment was judged twice"
    return found


async def test_a_promotion_and_a_rollback_are_in_force_from_the_next_batch_on(
    formula: Settings, feed_of: MakeFeed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    feed = await feed_of(WORKER)
    feed.policy = WORKER.policy(formula)
    await feed.deliver(builders.account_opened())
    await settled(feed, 0, 3)
    assert await asyncio.to_thread(answer, ["risk", "add", str(another_table(tmp_path, NEXT))]) == 0
    await settled(feed, 3, 3)
    assert await asyncio.to_thread(answer, ["risk", "promote", NEXT, "--unproven", *WHO]) == 0
    await settled(feed, 6, 3)
    assert await asyncio.to_thread(answer, ["risk", "rollback", *WHO]) == 0
    await settled(feed, 9, 3)
    old = returns().version
    assert list((await versions(feed)).values()) == [old] * 6 + [NEXT] * 3 + [old] * 3
    capsys.readouterr()
    assert await asyncio.to_thread(answer, ["risk", "status", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["in_force"], said["shipped"]) == (old, True)
    assert [change["version"] for change in said["changes"]] == [None, NEXT]
    assert {change["actor"] for change in said["changes"]} == {"risk_lead"}


async def test_a_second_rollback_goes_further_back_and_never_forward(
    formula: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    third = "return-prior-3"
    for version in (NEXT, third):
        await asyncio.to_thread(answer, ["risk", "add", str(another_table(tmp_path, version))])
    assert await activate(formula, NEXT, "risk_lead", "better", unproven=True) == (None, NEXT)
    assert await activate(formula, third, "risk_lead", "better", unproven=True) == (NEXT, third)
    assert await activate(formula, third, "risk_lead", "again", unproven=True) == (third, third)
    assert await activate(formula, None, "risk_lead", "worse") == (third, NEXT)
    assert await activate(formula, None, "risk_lead", "worse") == (NEXT, None)
    assert await asyncio.to_thread(answer, ["risk", "rollback", *WHO]) == 1
    assert "nothing to go back to" in capsys.readouterr().err
    assert await activate(formula, third, "risk_lead", "mended", unproven=True) == (None, third)
    assert await activate(formula, None, "risk_lead", "worse") == (third, None)
    async with owner(formula) as connection:
        champions = "SELECT count(*) FROM risk_scoring.risk_models WHERE status = 'champion'"
        assert await connection.fetchval(champions) == 0


async def test_under_traffic_no_repayment_is_lost_and_no_batch_is_judged_by_two(
    formula: Settings, feed_of: MakeFeed, tmp_path: Path
) -> None:
    """Batches of ten run while the champion changes again and again: each is whole in one version, none is missing."""
    feed = await feed_of(WORKER)
    feed.policy = WORKER.policy(formula)
    await feed.deliver(builders.account_opened())
    await asyncio.to_thread(answer, ["risk", "add", str(another_table(tmp_path, NEXT))])
    running = asyncio.Event()

    async def changing() -> int:
        changes = 0
        while not running.is_set():
            await activate(formula, None if changes % 2 else NEXT, "risk_lead", "drill", unproven=True)
            changes += 1
        return changes

    other = asyncio.create_task(changing())
    for n in range(60):
        await settled(feed, n * 10, 10)
    running.set()
    assert await other >= 2
    judged = await versions(feed)
    assert len(judged) == 600
    batches = [{judged[f"r{n * 10 + m}"] for m in range(10)} for n in range(60)]
    assert all(len(batch) == 1 for batch in batches)
    assert set().union(*batches) == {returns().version, NEXT}


async def announced(feed: Feed) -> list[ModelActivated]:
    rows = await feed.connection.fetch(ANNOUNCED)
    return [ModelActivated.model_validate_json(row["fact"]) for row in rows]


async def test_each_change_of_what_decides_is_announced_once_and_none_that_was_undone(
    formula: Settings, feed_of: MakeFeed, tmp_path: Path
) -> None:
    feed, console = await feed_of(WORKER), await feed_of(CONSOLE)
    await asyncio.to_thread(answer, ["risk", "add", str(another_table(tmp_path, NEXT))])
    await activate(formula, NEXT, "risk_lead", "better", unproven=True)
    with pytest.raises(Problem, match="no return model other"):
        await activate(formula, "other", "risk_lead", "r", unproven=True)
    assert await asyncio.to_thread(answer, ["risk", "shadow", NEXT, *WHO]) == 1, "it is in force"
    await activate(formula, None, "risk_chief", "worse")
    first, second = await announced(feed)
    assert (first.model_version, first.replaced, first.goes_back, first.unproven) == (NEXT, None, False, True)
    assert (second.model_version, second.replaced, second.goes_back, second.unproven) == (None, NEXT, True, False)
    assert (second.actor, second.reason, second.account_id) == ("risk_chief", "worse", RETURN_MODEL)
    assert first.change < second.change

    # What waits is told by the owner of partition 0 alone, oldest first, as its service would have written it.
    waiting = await unpublished(feed.connection, [0], older_than_seconds=0, except_for=())
    kept = [outgoing for publication in waiting.values() for outgoing in publication]
    assert await unpublished(feed.connection, [1], older_than_seconds=0, except_for=()) == {}
    for event, outgoing in zip((first, second), kept, strict=True):
        assert outgoing == replace(encode(event), payload=outgoing.payload)

    # The console hears each, twice or not, and each is one entry nobody changes unseen.
    raws = [Raw(each.topic, each.payload, each.account_id.encode(), each.headers()) for each in kept]
    await console.deliver(*raws, raws[0])
    await console.deliver(raws[1])
    entries = await console.connection.fetch("SELECT at, actor, action, subject, reason FROM audit ORDER BY seq")
    assert [tuple(entry.values()) for entry in entries] == [
        (first.occurred_at, "risk_lead", "activate_model", RETURN_MODEL, "better"),
        (second.occurred_at, "risk_chief", "activate_model", RETURN_MODEL, "worse"),
    ]
    assert await violations(formula) == {}


async def test_what_decided_when_announcing_was_installed_is_announced_the_last_change_alone(
    formula: Settings, feed_of: MakeFeed, tmp_path: Path
) -> None:
    feed = await feed_of(WORKER)
    await asyncio.to_thread(answer, ["risk", "add", str(another_table(tmp_path, NEXT))])
    await activate(formula, NEXT, "risk_lead", "better", unproven=True)
    await activate(formula, None, "risk_lead", "worse")
    (_, last) = await announced(feed)
    async with owner(formula) as connection:
        await connection.execute("TRUNCATE risk_scoring.outbox, risk_scoring.publication")
        await connection.execute("SET search_path = risk_scoring")
        await connection.execute(INSTALLING)
    assert await announced(feed) == [last]


async def test_the_audit_takes_a_change_of_the_model_by_who_did_enough_for_a_day(
    settings: Settings, feed_of: MakeFeed
) -> None:
    console = await feed_of(CONSOLE)
    async with owner(settings) as connection:
        await connection.execute(
            "INSERT INTO console.audit (at, actor, action, account_id, subject, reason, content) SELECT "
            "clock_timestamp(), 'risk_lead', 'discard', 'a', 's', 'r', '{}' FROM generate_series(1, $1::integer)",
            ACTS_A_DAY_MAX,
        )
    assert (await console.deliver(builders.model_activated(occurred_at=utc_now()))).counts["applied"] == 1


async def test_the_registry_has_one_champion_and_no_text_but_the_one_that_was_hashed(
    formula: Settings, tmp_path: Path
) -> None:
    path = another_table(tmp_path, NEXT)
    assert await asyncio.to_thread(answer, ["risk", "add", str(path)]) == 0
    assert await asyncio.to_thread(answer, ["risk", "add", str(path)]) == 1
    await activate(formula, NEXT, "risk_lead", "trial", unproven=True)
    copy = "INSERT INTO risk_scoring.risk_models SELECT kind, 'x', {}, {}, 1, '{{}}', NULL, 'champion', 'a', now() "
    copy += "FROM risk_scoring.risk_models"
    async with owner(formula) as connection:
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute(copy.format("sha256", "artefact"))
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute(copy.format("sha256", "'{}'"))
    async with role(formula, WORKER.package) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("UPDATE risk_models SET status = 'retired'")


async def test_what_is_not_there_changes_nothing(formula: Settings, tmp_path: Path) -> None:
    with pytest.raises(Problem, match="nothing to go back to"):
        await activate(formula, None, "risk_lead", "r")
    with pytest.raises(Problem, match="no return model other"):
        await activate(formula, "other", "risk_lead", "r", unproven=True)
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    assert await asyncio.to_thread(answer, ["risk", "add", str(broken)]) == 2
    assert await asyncio.to_thread(answer, ["risk", "add", str(tmp_path / "none.json")]) == 4
    assert await asyncio.to_thread(answer, ["risk", "add", str(another_table(tmp_path, returns().version))]) == 2
