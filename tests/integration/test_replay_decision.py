"""`otb risk replay-decision` on a real database: every stored verdict is reached again, byte by byte."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from services.cli.commands import answer
from services.cli.models import activate
from services.profiles import FOLDER
from services.risk_scoring.domain import MODEL_VERSION
from services.risk_scoring.worker import WORKER as RISK_SCORING
from services.runtime.batch import Committed
from services.runtime.settings import Settings
from services.settlement.worker import WORKER as SETTLEMENT
from tests import builders
from tests.conftest import dsn_of
from tests.integration.support import Feed, Raw, another_table, owner, role

RAILS = ("direct_debit", "wallet", "direct_debit", "cheque", "unheard_of", "direct_debit")
OPENED = builders.account_opened(credit_limit_minor=6_000_000)


def sent(committed: Committed) -> list[Raw]:
    """Return what a batch publishes, as records."""
    return [
        Raw(outgoing.topic, outgoing.payload, builders.ACCOUNT.encode(), outgoing.headers())
        for outgoing in committed.outgoing
    ]


@pytest.fixture(params=["schedule", "formula"])
def decided(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let settlement and risk-scoring decide under a policy of each method; return (settings, the policy's folder)."""
    for path in FOLDER.glob("*.toml"):
        changed = path.read_text().replace('method = "schedule"', f'method = "{request.param}"')
        (tmp_path / path.name).write_text(changed)
    monkeypatch.setenv("OTB_POSTGRES_DSN", dsn_of(settings))
    monkeypatch.setenv("OTB_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    monkeypatch.setenv("OTB_POLICY_DIR", str(tmp_path))
    return settings.model_copy(update={"policy_dir": tmp_path}), tmp_path


async def verdicts(settings: Settings) -> list[str]:
    """Settle six repayments by different rails, verify their account, and return their ids."""
    repayments = [
        builders.repayment_received(repayment_id=f"{n:032x}", amount_minor=100_000 + 70_001 * n, rail=rail)
        for n, rail in enumerate(RAILS, start=1)
    ]
    async with role(settings, "settlement") as books, role(settings, "risk_scoring") as risk:
        settling = await Feed(SETTLEMENT, settings, books).start()
        assessing = await Feed(RISK_SCORING, settings, risk).start()
        await settling.deliver(OPENED, builders.purchase_posted(amount_minor=5_000_000))
        await assessing.deliver(OPENED)
        for repayment in repayments:
            await assessing.deliver(*sent(await settling.deliver(repayment)))
        await assessing.deliver(builders.funding_account_linked(verified=True))
        assert await assessing.value("SELECT count(*) FROM outbox") >= len(RAILS)
    return [repayment.repayment_id for repayment in repayments]


async def test_every_stored_verdict_is_reached_again(
    decided: tuple[Settings, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    settings, folder = decided
    at = await verdicts(settings)

    async def replayed(repayment: str, code: int = 0) -> list[dict[str, Any]]:
        arguments = ["risk", "replay-decision", repayment, "--json"]
        assert await asyncio.to_thread(answer, arguments) == code
        found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["decisions"]
        return found

    for repayment in at:
        for each in await replayed(repayment):
            assert each["same"], each
            assert len(each["inputs_digest"]) == 32

    async with owner(settings) as connection:
        await connection.execute(
            "SET session_replication_role = replica;"
            "UPDATE risk_scoring.outbox SET payload = convert_to(replace(convert_from(payload, 'UTF8'),"
            " '[\"strikes\",0]', '[\"strikes\",2]'), 'UTF8')"
        )
    (first, *_) = await replayed(at[0], code=1)
    assert not first["same"]
    assert "inputs_digest" in first["differs"]

    path = folder / "default.toml"
    path.write_text(path.read_text().replace('version = "', 'version = "another-'))
    (first, *_) = await replayed(at[0], code=1)
    assert first["why"].startswith("other versions are in force: default@another-")


async def test_a_verdict_of_a_model_that_decides_no_more_is_reached_again_by_that_model(
    decided: tuple[Settings, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, folder = decided
    formula = 'method = "formula"' in (folder / "default.toml").read_text()
    assert await asyncio.to_thread(answer, ["risk", "add", str(another_table(tmp_path, "return-prior-2"))]) == 0
    await activate(settings, "return-prior-2", "risk_lead", "replay_better", unproven=True)
    at = await verdicts(settings)
    await activate(settings, None, "risk_lead", "drill")
    capsys.readouterr()
    for repayment, rail in zip(at, RAILS, strict=True):
        assert await asyncio.to_thread(answer, ["risk", "replay-decision", repayment, "--json"]) == 0
        for each in json.loads(capsys.readouterr().out)["decisions"]:
            assert each["same"], each
            assert each["model_version"] == ("return-prior-2" if formula and rail != "wallet" else MODEL_VERSION)


async def test_what_was_not_decided_on_is_said_to_be_so(
    decided: tuple[Settings, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    settings, _ = decided
    async with role(settings, "settlement") as books:
        settling = await Feed(SETTLEMENT, settings, books).start()
        await settling.deliver(OPENED, builders.repayment_received())
    assert await asyncio.to_thread(answer, ["risk", "replay-decision", builders.REPAYMENT]) == 4
    assert "risk-scoring has not decided on" in capsys.readouterr().err
