"""A candidate tried on a real database: what it says is kept and counted, and only a canary decides."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas.event import Event
from schemas.reasons import Reason
from services.cli.commands import answer
from services.lag_monitor import gauges
from services.lag_monitor.worker import WORKER as LAG_MONITOR
from services.metrics.catalogue import MODEL_TRIALS
from services.profiles import returns
from services.risk_scoring.trials import in_canary, place_of
from services.risk_scoring.worker import WORKER
from services.runtime.clock import utc_now
from services.runtime.settings import Settings
from services.runtime.worker import AnyWorker
from tests import builders
from tests.integration.support import Feed, another_table, owner, role, violations

MakeFeed = Callable[[AnyWorker], Awaitable[Feed]]
WHO = ("--actor", "risk_lead", "--reason", "trial")
NEXT = "return-prior-2"
TOLD = (
    "SELECT convert_from(payload, 'UTF8') AS fact FROM outbox WHERE topic LIKE '%.risk.v1' ORDER BY publication_id, n"
)


@pytest.fixture
async def feed(formula: Settings, feed_of: MakeFeed, tmp_path: Path) -> Feed:
    """Return risk-scoring at its books, with another table in the registry."""
    made = await feed_of(WORKER)
    made.policy = WORKER.policy(formula)
    await otb("add", str(another_table(tmp_path, NEXT)))
    return made


async def otb(*command: str) -> None:
    assert await asyncio.to_thread(answer, ["risk", *command]) == 0


async def status(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    await otb("status", "--json")
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


async def settled(feed: Feed, first: int, count: int) -> None:
    """Settle repayments made now, of as many accounts, in one batch."""
    await of_accounts(feed, range(first, first + count))


async def of_accounts(feed: Feed, numbers: Iterable[int]) -> None:
    now = utc_now()
    await feed.deliver(*[_settled(n, now) for n in numbers])


def back(account_id: str, repayment_id: str) -> Event:
    """Return the return of a repayment, now."""
    return builders.repayment_returned(
        account_id=account_id,
        repayment_id=repayment_id,
        occurred_at=utc_now(),
        return_class=Reason.RETURNED_INSUFFICIENT_FUNDS,
        reallocated=(),
    )


def _settled(number: int, now: datetime) -> Event:
    return builders.repayment_settled(
        repayment_id=f"r{number}",
        account_id=f"account-{number}",
        funding_account_id=f"funding-{number}",
        amount_minor=60_000,
        restorable_minor=60_000,
        repaid_at=now - timedelta(seconds=9),
        settled_at=now - timedelta(seconds=5),
        credited_on=now.date(),
        final_on=now.date() + timedelta(days=60),
    )


async def tried(settings: Settings) -> dict[str, float]:
    """Return what the exporter tells of models on trial."""
    async with role(settings, LAG_MONITOR.package) as connection:
        found = await gauges.read(connection, {})
    return {outcome: found[MODEL_TRIALS.name, (outcome,)] for outcome in ("shadow", "canary", "ended")}


async def versions(feed: Feed) -> dict[str, str]:
    rows = [json.loads(row["fact"]) for row in await feed.connection.fetch(TOLD)]
    found = {row["account_id"]: row["model_version"] for row in rows}
    assert len(found) == len(rows), "a repayment was judged twice"
    return found


async def test_a_shadow_is_compared_and_decides_nothing(
    feed: Feed, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    await otb("shadow", NEXT, *WHO)
    await settled(feed, 0, 30)
    assert set((await versions(feed)).values()) == {returns().version}
    rows = await feed.connection.fetch("SELECT * FROM risk_comparison ORDER BY repayment_id")
    assert len(rows) == len({place_of(f"r{n}", rows[0]["assessed_at"]) for n in range(30)})
    assert {
        (row["version"], row["by_candidate"], row["champion_verdict"], row["candidate_verdict"]) for row in rows
    } == {(NEXT, False, "clear", "observe")}
    told = (await status(capsys))["trial"]
    assert (told["version"], told["status"]) == (NEXT, "shadow")
    (counted,) = told["counted"]
    assert (counted["judged"], counted["differing"], counted["champion_held"], counted["candidate_held"]) == (
        30,
        30,
        0,
        30,
    )
    assert len(told["differences"]) == 5
    await otb("stop", *WHO)
    await settled(feed, 30, 5)
    assert await feed.value("SELECT sum(judged)::bigint FROM risk_trial_count") == 30
    assert (await status(capsys))["trial"] is None
    assert await violations(settings) == {}


async def test_a_canary_decides_for_its_accounts_and_no_other(feed: Feed, settings: Settings) -> None:
    await otb("canary", NEXT, "--unproven", *WHO)
    await settled(feed, 0, 100)
    judged = await versions(feed)
    assert len(judged) == 100
    ours = {name for name, version in judged.items() if version == NEXT}
    assert ours == {name for name in judged if in_canary(NEXT, name)}
    assert len(ours) == 5
    counted = {
        row["by_candidate"]: row["judged"] for row in await feed.connection.fetch("SELECT * FROM risk_trial_count")
    }
    assert counted == {True: 5, False: 95}
    assert await violations(settings) == {}


ARM = [n for n in range(1_500) if in_canary(NEXT, f"account-{n}")]


async def test_a_canary_that_holds_twice_as_many_decides_nothing_from_the_next_batch_on(
    feed: Feed, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    await otb("canary", NEXT, "--unproven", *WHO)
    for n in range(0, 40, 10):
        await of_accounts(feed, ARM[n : n + 10])
    judged = list((await versions(feed)).values())
    assert judged == [NEXT] * 20 + [returns().version] * 20
    told = (await status(capsys))["trial"]
    assert (told["status"], told["rule"]) == ("canary", "hold_rate")
    assert told["figures"] == "20 held, the model in force would have held 0"
    assert told["stopped_at"] is not None
    assert await tried(settings) == {"shadow": 0, "canary": 0, "ended": 1}
    await otb("canary", NEXT, "--unproven", *WHO)
    assert await tried(settings) == {"shadow": 0, "canary": 1, "ended": 0}
    await of_accounts(feed, ARM[40:45])
    assert list((await versions(feed)).values())[40:] == [NEXT] * 5
    assert await violations(settings) == {}


async def test_a_canary_whose_repayments_come_back_too_often_ends(
    feed: Feed, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table that finds nothing likely to come back gives everything at once; the third return is too many."""
    told = json.loads(returns().model_dump_json())
    told["version"], told["bank"]["base"] = "bold", 0.000001
    (tmp_path / "bold.json").write_text(json.dumps(told))
    await otb("add", str(tmp_path / "bold.json"))
    await otb("canary", "bold", "--unproven", *WHO)
    ours = [n for n in range(1_000) if in_canary("bold", f"account-{n}")]
    await of_accounts(feed, ours[:8])
    assert set((await versions(feed)).values()) == {"bold"}
    for n in ours[:3]:
        await feed.deliver(back(f"account-{n}", f"r{n}"))
    assert await feed.value("SELECT sum(returned)::bigint FROM risk_trial_count") == 3
    await of_accounts(feed, ours[8:10])
    assert list((await versions(feed)).values()) == ["bold"] * 8 + [returns().version] * 2
    (found,) = await feed.connection.fetch("SELECT rule, figures FROM risk_trial_stop")
    assert (found["rule"], found["figures"]) == ("returns", "3 came back, 0.00 were due: by chance at most 0")
    assert await violations(settings) == {}


# As a week later: what was sampled is matured.
MATURE = """
UPDATE risk_scoring.risk_outcome SET fast_until = now(), fast_at = now()
"""
SAMPLED = "SELECT account_id, repayment_id FROM risk_comparison ORDER BY place LIMIT 40"
CHECKS = ["enough", "ranks", "calibration", "cost", "hold rate", "groups", "shift", "segments", "budget", "latency"]


async def test_a_shadow_becomes_a_canary_only_by_its_checks_or_by_a_person_who_says_so(
    feed: Feed, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    await otb("shadow", NEXT, *WHO)
    assert await asyncio.to_thread(answer, ["risk", "canary", NEXT, *WHO]) == 1
    for n in range(0, 2_000, 500):
        await settled(feed, n, 500)
    await feed.deliver(*[back(row["account_id"], row["repayment_id"]) for row in await feed.connection.fetch(SAMPLED)])
    async with owner(settings) as connection:
        await connection.execute(MATURE)
    capsys.readouterr()
    assert await asyncio.to_thread(answer, ["risk", "checks", NEXT, "--json"]) == 1
    found = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert list(found) == CHECKS
    assert found["enough"]["passed"]
    assert not found["hold rate"]["passed"], "it holds what the model in force gives back"
    assert await asyncio.to_thread(answer, ["risk", "canary", NEXT, *WHO]) == 1
    assert (await status(capsys))["trial"]["status"] == "shadow"
    await otb("canary", NEXT, "--unproven", *WHO)
    told = await status(capsys)
    assert told["trial"]["status"] == "canary"
    assert [(change["became"], change["unproven"]) for change in told["changes"]] == [
        ("canary", True),
        ("shadow", False),
    ]
    assert await asyncio.to_thread(answer, ["risk", "promote", NEXT, *WHO]) == 1
    await otb("promote", NEXT, "--unproven", *WHO)
    assert (await status(capsys))["in_force"] == NEXT


async def test_the_sample_of_a_day_never_outgrows_its_places(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """With four places a day, forty comparisons are counted, four are kept: the first of each place of the day."""
    monkeypatch.setattr("services.risk_scoring.trials.PLACES_A_DAY", 4)
    await otb("shadow", NEXT, *WHO)
    await settled(feed, 0, 20)
    first = await feed.connection.fetch("SELECT * FROM risk_comparison ORDER BY place")
    assert len(first) == 4
    await settled(feed, 20, 20)
    assert await feed.connection.fetch("SELECT * FROM risk_comparison ORDER BY place") == first
    assert await feed.value("SELECT sum(judged)::bigint FROM risk_trial_count") == 40
    await otb("shadow", NEXT, *WHO)
    await settled(feed, 40, 20)
    assert await feed.value("SELECT count(*) FROM risk_comparison") == 4
    assert await feed.value("SELECT count(*) FROM risk_comparison WHERE began_at > $1", first[0]["began_at"]) == 4
