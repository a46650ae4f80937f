"""A model in force that breaks a rule goes back by itself, a step each time, on a real database."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.risk import ModelActivated
from services.cli.commands import answer
from services.lag_monitor import gauges
from services.lag_monitor.worker import WORKER as LAG_MONITOR
from services.metrics.catalogue import EXPOSED, MODEL_TRIALS
from services.profiles import returns
from services.risk_scoring.trials import HELD_LEAST
from services.risk_scoring.worker import WORKER
from services.runtime.settings import Settings
from services.runtime.worker import AnyWorker
from tests.integration.support import Feed, another_table, role, violations
from tests.integration.test_trials import back, otb, settled, status, versions

MakeFeed = Callable[[AnyWorker], Awaitable[Feed]]
WHO = ("--actor", "risk_lead", "--reason", "replay_better")
SHIPPED = returns().version
TIMID, TIMIDER, BOLD = "timid", "timider", "bold"
ANNOUNCED = (
    "SELECT convert_from(payload, 'UTF8') AS fact FROM outbox WHERE topic = 'risk.active.v1' ORDER BY publication_id"
)
CHANGES = "SELECT version, goes_back, actor, reason, before FROM risk_activation ORDER BY id"


@pytest.fixture
async def feed(formula: Settings, feed_of: MakeFeed, tmp_path: Path) -> Feed:
    """Return risk-scoring at its books, with two tables that hold too much and one that holds nothing."""
    made = await feed_of(WORKER)
    made.policy = WORKER.policy(formula)
    told = json.loads(returns().model_dump_json())
    told["version"], told["bank"]["base"] = BOLD, 0.000001
    (tmp_path / "bold.json").write_text(json.dumps(told))
    for path in (another_table(tmp_path, TIMID), another_table(tmp_path, TIMIDER), tmp_path / "bold.json"):
        await otb("add", str(path))
    return made


async def promote(version: str) -> None:
    await otb("promote", version, "--unproven", *WHO)


async def changes(feed: Feed) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in await feed.connection.fetch(CHANGES)]


async def gone_back(settings: Settings) -> float:
    async with role(settings, LAG_MONITOR.package) as connection:
        return (await gauges.read(connection, {}))[MODEL_TRIALS.name, ("gone_back",)]


async def test_a_model_in_force_that_holds_twice_as_many_goes_back_by_itself(
    feed: Feed, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    await promote(BOLD)
    await promote(TIMID)
    for n in range(HELD_LEAST):
        await settled(feed, n, 1)
    assert list((await versions(feed)).values()) == [TIMID] * HELD_LEAST
    assert await gone_back(settings) == 0
    await settled(feed, HELD_LEAST, 3)
    assert list((await versions(feed)).values())[HELD_LEAST:] == [BOLD] * 3, "the batch that finds it goes back first"
    assert (await changes(feed))[-1] == (BOLD, True, "risk-scoring", "hold_rate", None)
    announced = [ModelActivated.model_validate_json(row["fact"]) for row in await feed.connection.fetch(ANNOUNCED)]
    assert [(each.model_version, each.replaced, each.actor) for each in announced] == [
        (BOLD, None, "risk_lead"), (TIMID, BOLD, "risk_lead"), (BOLD, TIMID, "risk-scoring"),
    ], "by itself or by hand, each change is announced in its own transaction"  # fmt: skip
    assert announced[-1].goes_back
    told = await status(capsys)
    assert (told["in_force"], told["shipped"]) == (BOLD, False)
    (stopped,) = told["stopped"]
    assert (stopped["version"], stopped["rule"]) == (TIMID, "hold_rate")
    assert stopped["figures"] == f"{HELD_LEAST} held, the model in force would have held 0"
    assert await gone_back(settings) == 1

    # What it went back to is watched too, and nothing is left to go back to but the shipped table.
    await settled(feed, 30, 3)
    for n in range(30, 33):
        await feed.deliver(back(f"account-{n}", f"r{n}"))
    await settled(feed, 40, 2)
    assert list((await versions(feed)).values())[-2:] == [SHIPPED] * 2
    assert (await changes(feed))[-1] == (None, True, "risk-scoring", "returns", None)
    assert (await status(capsys))["shipped"] is True
    await settled(feed, 50, 30)
    assert len((await status(capsys))["stopped"]) == 2, "the shipped table is not watched"
    assert await asyncio.to_thread(answer, ["risk", "rollback", *WHO]) == 1
    await promote(BOLD)
    assert await gone_back(settings) == 0, "a person said what is in force"
    assert await violations(settings) == {}


async def test_a_model_like_the_one_before_it_stays_and_each_knows_what_decided_before(
    feed: Feed, settings: Settings
) -> None:
    await promote(TIMID)
    await promote(TIMIDER)
    await settled(feed, 0, 30)
    await settled(feed, 30, 30)
    assert set((await versions(feed)).values()) == {TIMIDER}
    held = "SELECT sum(champion_held)::bigint, sum(candidate_held)::bigint FROM risk_trial_stage WHERE version = $1"
    (counted,) = await feed.connection.fetch(held, TIMIDER)
    assert tuple(counted.values()) == (60, 60)
    await otb("rollback", *WHO)
    assert [(version, before) for version, *_, before in await changes(feed)] == [
        (TIMID, None), (TIMIDER, TIMID), (TIMID, None),
    ]  # fmt: skip
    assert await feed.value("SELECT count(*) FROM risk_trial_stop") == 0
    assert await violations(settings) == {}


async def test_what_is_exposed_is_told_by_product_until_it_comes_back(feed: Feed, settings: Settings) -> None:
    async def exposed() -> dict[tuple[str, ...], float]:
        async with role(settings, LAG_MONITOR.package) as connection:
            found = await gauges.read(connection, {})
        return {labels: value for (name, labels), value in found.items() if name == EXPOSED.name}

    assert await exposed() == {}
    await settled(feed, 0, 3)
    now = "SELECT sum(minor)::bigint FROM portfolio_exposure WHERE from_on <= (now() AT TIME ZONE 'UTC')::date"
    given = await feed.value(now)
    assert given == 180_000
    assert await exposed() == {("default",): given}
    await feed.deliver(back("account-0", "r0"))
    assert await exposed() == {("default",): 120_000}
