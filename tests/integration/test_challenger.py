"""The credit score's challenger scores beside the score in force, in a process of its own, and decides nothing."""

import asyncio
import json
from typing import Any

import pytest

from services.cli.commands import answer
from services.risk_scoring.worker import WORKER
from services.runtime.settings import Settings
from tests.conftest import dsn_of
from tests.integration.support import Feed, owner, role
from tests.unit import golden

pytestmark = pytest.mark.dataset  # as all that needs LightGBM
SHADOW = "SELECT account_id, of_version, champion, challenger FROM risk_scoring.credit_shadow"
SCORED = "SELECT account_id, version, score, tier FROM risk_scoring.account"
BILLED = "UPDATE risk_scoring.account SET version = version + 1"


async def look(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert await asyncio.to_thread(answer, ["risk", "challenge", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


async def test_the_challenger_scores_what_changed_beside_and_changes_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTB_POSTGRES_DSN", dsn_of(settings))
    async with role(settings, WORKER.package) as connection:
        feed = await Feed(WORKER, settings, connection).start()
        for event in golden.story():
            await feed.deliver(event)
    async with owner(settings) as connection:
        before = [dict(row) for row in await connection.fetch(SCORED)]
        told = await look(capsys)
        assert (told["scored"], told["accounts"], told["model"]) == (1, 1, "credit-challenger-1")
        (row,) = await connection.fetch(SHADOW)
        assert (row["account_id"], row["champion"]) == (before[0]["account_id"], before[0]["score"])
        assert row["challenger"] != row["champion"]
        assert 30_000 < row["challenger"] < 90_000
        assert [dict(row) for row in await connection.fetch(SCORED)] == before
        assert (await look(capsys))["scored"] == 0, "nothing changed"
        await connection.execute(BILLED)
        assert (await look(capsys))["scored"] == 1
        assert len(await connection.fetch(SHADOW)) == 1
