"""`otb risk replay` on a real database: what was decided there, decided again, by a session that cannot write."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas.reasons import Reason
from services.cli.commands import answer
from services.cli.system import environment
from services.profiles import FOLDER
from services.risk_scoring.worker import WORKER
from services.runtime.clock import utc_now
from services.runtime.settings import Settings
from services.runtime.worker import AnyWorker
from tests import builders
from tests.integration.support import Feed, another_table, owner

MakeFeed = Callable[[AnyWorker], Awaitable[Feed]]


@pytest.fixture
async def decided(settings: Settings, feed_of: MakeFeed, monkeypatch: pytest.MonkeyPatch) -> Feed:
    """Let risk-scoring decide on ten repayments, one of which is taken back the next hour."""
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    feed, now = await feed_of(WORKER), utc_now()
    await feed.deliver(builders.account_opened(credit_limit_minor=6_000_000))
    for n in range(10):
        settled = builders.repayment_settled(
            repayment_id=f"r{n}",
            amount_minor=200_000,
            restorable_minor=200_000,
            repaid_at=now - timedelta(seconds=9),
            settled_at=now - timedelta(seconds=5),
            credited_on=now.date(),
            final_on=now.date() + timedelta(days=60),
        )
        await feed.deliver(settled)
    why = Reason.RETURNED_INSUFFICIENT_FUNDS
    await feed.deliver(
        builders.repayment_returned(repayment_id="r3", return_class=why, reallocated=(), occurred_at=utc_now())
    )
    return feed


async def test_past_repayments_are_decided_again_by_another_policy_and_nothing_is_written(
    decided: Feed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, page = tmp_path / "policy", tmp_path / "replay.html"
    folder.mkdir()
    for path in FOLDER.glob("*.toml"):
        (folder / path.name).write_text(path.read_text().replace("unknown = 100000", "unknown = 0"))
    later = f"{utc_now() + timedelta(days=30):%Y-%m-%dT%H:%M:%S}"
    known = ("--since", "90d", "--until", later)

    async def asked(*more: str, code: int = 0) -> str:
        assert await asyncio.to_thread(answer, ["risk", "replay", *known, *more]) == code
        said = capsys.readouterr()
        return said.out or said.err

    kept = "SELECT count(*) FROM risk_outcome"
    before = await decided.value(kept)
    figures: dict[str, Any] = json.loads(await asked("--json"))["currencies"]["CNY"]
    assert (figures["changes"], figures["as_told"]) == ({"the same": 10}, 10)
    assert (figures["in_force"]["holds"], figures["in_force"]["repayments"]) == (10, 10)

    figures = json.loads(await asked("--json", "--policy", str(folder)))["currencies"]["CNY"]
    assert figures["changes"] == {"later": 1, "the same": 9}, "only the first had some of the instant cap left"
    assert figures["other"]["minor_days_withheld"] > figures["in_force"]["minor_days_withheld"]
    figures = json.loads(await asked("--json", "--method", "formula"))["currencies"]["CNY"]
    assert figures["other"]["cost_minor_assumed"] < figures["in_force"]["cost_minor_assumed"]
    table = another_table(tmp_path, "return-prior-2")
    dearer = json.loads(await asked("--json", "--method", "formula", "--model", str(table)))
    assert "return-prior-2" in dearer["run"]["the other, default"]

    assert "10 repayments" in await asked("--policy", str(folder), "--out", str(page))
    first = page.read_bytes()
    await asked("--policy", str(folder), "--out", str(page))
    assert page.read_bytes() == first
    assert "no version of the registry" in await asked("--model", "nobody", code=4)
    assert "no profile of" in await asked("--policy", str(_one(tmp_path)), code=4)
    assert await decided.value(kept) == before


async def test_drift_is_asked_of_what_is_known_by_then(decided: Feed, capsys: pytest.CaptureFixture[str]) -> None:
    later = f"{utc_now() + timedelta(days=30):%Y-%m-%dT%H:%M:%S}"

    async def asked(recent: str) -> dict[str, Any]:
        command = ["risk", "drift", "--until", later, "--recent", recent, "--json"]
        assert await asyncio.to_thread(answer, command) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    capsys.readouterr()
    nothing: dict[str, Any] = {"indexes": [], "alarms": {}}
    assert await asked("14d") == {"before": 10, "after": 0, **nothing}
    assert await asked("40d") == {"before": 0, "after": 10, **nothing}
    assert await decided.value("SELECT count(*) FROM risk_outcome") == 10


async def test_hold_yield_counts_what_the_holds_of_a_rule_caught_and_cost(
    decided: Feed, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    async def asked(code: int) -> dict[str, Any]:
        assert await asyncio.to_thread(answer, ["risk", "yield", "--json"]) == code
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    assert await asked(0) == {"months": [], "removable": []}, "a label that is not mature says nothing"
    async with owner(settings) as connection:
        await connection.execute("UPDATE risk_scoring.risk_outcome SET fast_until = assessed_at, fast_at = assessed_at")
    (month,) = (await asked(0))["months"]
    assert (month["rule"], month["holds"], month["caught"], month["good"]) == ("HOLD_RAIL_REVERSIBLE", 10, 1, 9)
    assert (month["yield"], month["kept_minor"]) == (0.1, 200_000)
    waited = "SELECT parts, assessed_at FROM risk_outcome WHERE returned_at IS NULL"
    expected = 0
    for row in await decided.connection.fetch(waited):
        for minor, day in json.loads(row["parts"]):
            expected += minor * (date.fromisoformat(day) - row["assessed_at"].date()).days
    assert month["good_minor_days"] == expected > 0
    async with owner(settings) as connection:
        moved = "SET assessed_at = assessed_at - interval '100 days', returned_at = returned_at - interval '100 days'"
        await connection.execute(f"UPDATE risk_scoring.risk_outcome {moved}")
    assert (await asked(1))["removable"] == ["HOLD_RAIL_REVERSIBLE"]


def _one(tmp_path: Path) -> Path:
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "demo.toml").write_text((FOLDER / "demo.toml").read_text())
    return folder
