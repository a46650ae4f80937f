"""L17 on a real database: relief begins with the burn, counts from the next batch on, is logged, and is over again."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from services.cli.commands import answer
from services.cli.system import environment
from services.lag_monitor import gauges
from services.lag_monitor.worker import WORKER as LAG_MONITOR
from services.metrics.catalogue import RELIEF, RELIEF_BUDGET, RELIEF_SPENT
from services.profiles import FOLDER
from services.risk_scoring.worker import WORKER
from services.runtime.clock import utc_now
from services.runtime.settings import Settings
from services.runtime.worker import AnyWorker
from tests import builders
from tests.conftest import dsn_of
from tests.integration.support import Feed, owner, role, violations

MakeFeed = Callable[[AnyWorker], Awaitable[Feed]]
CAP = 200_000
PROMISED = """
INSERT INTO lag_monitor.sla_promise (repayment_id, tranche, slo, deadline_at, outcome, decided_at)
SELECT 'late-' || n, 1, 'low_risk_60s', clock_timestamp() - $1 * interval '1 second', $2, clock_timestamp()
FROM generate_series($3::int, $4::int) AS n
"""
KNOWN = """
INSERT INTO risk_scoring.account (account_id, credit_limit_minor, settled_minor, before_minor, version, months, score,
  tier, reviews) SELECT 'account-' || n, 5000000, 0, 0, 1, '{}', 65000, 'B', 0 FROM generate_series(1, 20) AS n
"""
STEPS = "SELECT step, actor, reason, seen::text AS seen FROM risk_scoring.cap_relief_step ORDER BY id"
TOLD = """
SELECT convert_from(payload, 'UTF8')::json AS fact FROM risk_scoring.outbox ORDER BY publication_id DESC, n DESC LIMIT 1
"""


@pytest.fixture
async def feed(settings: Settings, feed_of: MakeFeed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Feed:
    """Return risk-scoring at its books; the default product allows twice the cap until 3,000 minor units are lost."""
    line = "\n[hold.REVERSIBLE]\n"
    allowed = f"{line}exposure = {{ relief_bps = 20000, relief_loss_minor = 3000 }}\n"
    (tmp_path / "default.toml").write_text((FOLDER / "default.toml").read_text().replace(line, allowed))
    asked = settings.model_copy(update={"policy_dir": tmp_path})
    for name, value in environment(asked).items():
        monkeypatch.setenv(name, value)
    made = await feed_of(WORKER)
    made.policy = WORKER.policy(asked)
    async with owner(settings) as connection:
        await connection.execute(KNOWN)
    return made


async def relief(*command: str) -> int:
    return await asyncio.to_thread(answer, ["risk", "relief", *command])


async def controlled(settings: Settings) -> int:
    """Do one turn with the login and the rights of a deployment."""
    parts = urlsplit(dsn_of(settings))
    own = parts._replace(netloc=f"otb_relief_control@{parts.netloc.rpartition('@')[2]}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTB_POSTGRES_DSN", urlunsplit(own))
        return await relief("control")


async def promised(settings: Settings, outcome: str, first: int, last: int, *, ago: float = 30) -> None:
    async with owner(settings) as connection:
        await connection.execute(PROMISED, ago, outcome, first, last)


async def steps(settings: Settings) -> list[tuple[str, str, str]]:
    async with owner(settings) as connection:
        return [(row["step"], row["actor"], row["reason"]) for row in await connection.fetch(STEPS)]


async def given_back(feed: Feed, settings: Settings, number: int) -> tuple[int, dict[str, Any]]:
    """Settle a repayment of an account of its own and return what of it came back at once, and on which inputs."""
    now = utc_now()
    await feed.deliver(
        builders.repayment_settled(
            repayment_id=f"r{number}",
            account_id=f"account-{number}",
            amount_minor=500_000,
            restorable_minor=500_000,
            repaid_at=now - timedelta(seconds=9),
            settled_at=now - timedelta(seconds=5),
            credited_on=now.date(),
            final_on=now.date() + timedelta(days=60),
        )
    )
    async with owner(settings) as connection:
        fact = json.loads((await connection.fetch(TOLD))[0]["fact"])
    at_once = sum(part[1] for part in fact["tranches"] if part[2] <= fact["occurred_at"])
    return at_once, dict(fact["inputs"])


async def relief_told(settings: Settings) -> tuple[float | None, ...]:
    """Return what is told of the relief of the default product: in force, spent, budget."""
    async with role(settings, LAG_MONITOR.package) as connection:
        found = await gauges.read(connection, {})
    return tuple(found.get((metric.name, ("default",))) for metric in (RELIEF, RELIEF_SPENT, RELIEF_BUDGET))


async def test_l17_relief_follows_the_burn_within_its_budget_and_every_step_is_kept(
    feed: Feed, settings: Settings
) -> None:
    await promised(settings, "met", 1, 100)
    assert await controlled(settings) == 0
    assert await steps(settings) == []
    assert await relief_told(settings) == (None, None, None)
    assert (await given_back(feed, settings, 1))[0] == CAP
    await promised(settings, "breached", 101, 105)
    assert await controlled(settings) == 0
    assert await relief_told(settings) == (1, 0, 3_000)
    at_once, inputs = await given_back(feed, settings, 2)
    assert (at_once, inputs["widened_minor"]) == (2 * CAP, CAP)
    assert await controlled(settings) == 0
    control = ("relief-control", "our delay burns the objective")
    assert await steps(settings) == [("began", *control), ("renewed", *control)]
    for number in range(3, 6):  # some 1,100 minor units are expected to be lost of each
        assert (await given_back(feed, settings, number))[0] == 2 * CAP
    assert await controlled(settings) == 0
    assert (await steps(settings))[2] == ("ended", "relief-control", "the loss budget is spent")
    assert (await given_back(feed, settings, 6))[0] == CAP
    assert await controlled(settings) == 0
    assert len(await steps(settings)) == 3, "a spent budget lets none begin"
    async with owner(settings) as connection:
        (row,) = await connection.fetch("SELECT budget_minor, spent_minor FROM risk_scoring.cap_relief")
        seen = json.loads((await connection.fetch(STEPS))[0]["seen"])
    assert row["spent_minor"] >= row["budget_minor"] == 3_000
    assert await relief_told(settings) == (0, row["spent_minor"], 3_000)
    assert (seen["slo"], seen["short"], seen["spent_minor"]) == ("low_risk_60s", {"due": 105, "broken": 5}, 0)
    assert await violations(settings) == {}


async def test_l17_relief_is_ended_by_a_person_or_by_itself_when_nobody_controls_it(
    feed: Feed, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    await promised(settings, "breached", 1, 5)
    await controlled(settings)
    assert await relief("end", "default", "--actor", "risk_lead", "--reason", "drill") == 0
    assert (await given_back(feed, settings, 1))[0] == CAP
    assert (await steps(settings))[-1] == ("ended", "risk_lead", "drill")
    assert await relief("end", "default", "--actor", "risk_lead", "--reason", "drill") == 1
    await controlled(settings)
    async with owner(settings) as connection:
        await connection.execute(
            "UPDATE risk_scoring.cap_relief SET until = began_at + interval '1 microsecond' WHERE ended_at IS NULL"
        )
    assert (await given_back(feed, settings, 2))[0] == CAP, "it was over when nobody renewed it"
    assert (await relief_told(settings))[0] == 0, "it is told as over, too"
    await controlled(settings)
    assert [step for step, _, why in await steps(settings) if why == "nobody renewed it"] == ["ended"]
    capsys.readouterr()
    assert await relief("status", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["ended_at"] is None for one in told["reliefs"]] == [True, False, False]
    assert told["steps"][0]["step"] == "began"
