"""`otb account` on a real database: what is kept of an account, its score and why, and what would help."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from services.cli.commands import answer
from services.cli.terminal import NOT_FOUND, OK, USAGE
from services.limit_release.worker import WORKER as LIMIT_RELEASE
from services.risk_scoring.worker import WORKER as RISK_SCORING
from services.runtime.clock import utc_now
from services.runtime.settings import Settings
from tests import builders
from tests.conftest import dsn_of
from tests.integration.support import Feed, role

ME = builders.ACCOUNT


async def books(settings: Settings) -> None:
    """Keep an account of seven statements, a repayment that is not final and one that was returned."""
    now = utc_now()
    async with role(settings, "risk_scoring") as risk, role(settings, "limit_release") as released:
        scoring, releasing = (
            await Feed(RISK_SCORING, settings, risk).start(),
            await Feed(LIMIT_RELEASE, settings, released).start(),
        )
        opened = builders.account_opened(credit_limit_minor=600_000, occurred_at=now - timedelta(days=400))
        await scoring.deliver(opened, builders.funding_account_linked(verified=True))
        await releasing.deliver(opened, builders.purchase_posted(amount_minor=200_000))
        for n in range(7):
            at = now - timedelta(days=30 * (7 - n))
            terms = {"due_minor": 200_000, "minimum_minor": 20_000, "due_on": (at + timedelta(days=20)).date()}
            paid = {"amount_minor": 30_000, "restorable_minor": 30_000, "repaid_at": at + timedelta(days=3)}
            dated = {"settled_at": at + timedelta(days=3), "credited_on": (at + timedelta(days=3)).date()}
            await scoring.deliver(
                builders.statement_issued(occurred_at=at, **terms),
                builders.repayment_settled(repayment_id=f"{n:032x}", **paid, **dated),
            )
        await scoring.deliver(
            builders.repayment_returned(repayment_id=f"{6:032x}", amount_minor=30_000, reallocated=())
        )


async def shown(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = OK) -> str:
    assert await asyncio.to_thread(answer, ["account", *arguments]) == code
    said = capsys.readouterr()
    return said.out if code == OK else said.err


async def test_an_account_is_shown_with_its_score_its_reasons_and_what_is_exposed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTB_POSTGRES_DSN", dsn_of(settings))
    await books(settings)
    found: dict[str, Any] = json.loads(await shown(capsys, ME, "--json"))
    assert found["account_id"] == ME
    assert (found["standing"]["status"], found["standing"]["credit_limit_minor"]) == ("active", 600_000)
    assert len(found["months"]) == 7
    assert found["months"][0]["bill_minor"] > 200_000, "what was not repaid is on the next bill"
    assert found["tier"] in "ABCDE"
    review = found["limit_review"]
    assert abs(review["score"] - found["score"]) <= 0.5
    assert review["threshold"] == 640
    assert review["distance"] == max(0, 640 - review["score"])
    assert "RECENT_RETURN" in review["reasons"]
    factors = [factor["centipoints"] for factor in review["factors"]]
    assert factors == sorted(factors)
    assert [strike["repayment_id"] for strike in found["strikes"]] == [f"{6:032x}"]
    cap, left = found["instant_cap_minor"], found["instant_left_minor"]
    async with role(settings, "risk_scoring") as connection:
        kept = await connection.fetchrow(
            "SELECT (SELECT sum(minor) FROM exposure WHERE now()::date BETWEEN from_on AND until_on) AS exposed,"
            " (SELECT sum(instant_minor) FROM assessment WHERE assessed_at > now() - interval '72 hours') AS used"
        )
    assert kept is not None
    assert found["exposed_minor"] == (kept["exposed"] or 0)
    assert left == max(0, cap - kept["used"])

    text = await shown(capsys, ME)
    for words in (
        f"tier {found['tier']}",
        "active",
        "CN¥6,000.00",
        "strike ",
        "released and not final",
        "RECENT_RETURN",
    ):
        assert words in text
    for step in review["path"]:
        assert f"about {step['score']}" in text
    assert await shown(capsys, ME[:-1]) == text, "a unique prefix is enough"
    assert "is more than one account" not in text


async def test_an_account_nobody_knows_is_not_found(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTB_POSTGRES_DSN", dsn_of(settings))
    assert "nobody_here" in await shown(capsys, "nobody_here", code=NOT_FOUND)
    async with role(settings, "risk_scoring") as connection:
        feed = await Feed(RISK_SCORING, settings, connection).start()
        for n in (1, 2):
            await feed.deliver(builders.account_opened(account_id=f"account-{n}"))
    assert "account-1, account-2" in await shown(capsys, "account", code=USAGE)
    alone = json.loads(await shown(capsys, "account-2", "--json"))
    assert (alone["score"], alone["tier"], alone["months"], alone["standing"]) == (None, "unknown", [], None)
    assert alone["limit_review"] is None
    assert "no score yet: tier unknown" in await shown(capsys, "account-2")
