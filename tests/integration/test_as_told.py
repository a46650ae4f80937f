"""`otb explain` on a real database: what is shown is kept, and --as-of puts it beside what was true."""

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta

import pytest

from schemas.event import Event
from schemas.reasons import Reason
from schemas.risk import Tranche
from services.cli.commands import answer
from services.limit_release.worker import WORKER as LIMIT_RELEASE
from services.notifier.worker import WORKER as NOTIFIER
from services.runtime.batch import Batch, Committed
from services.runtime.clock import monotonic, utc_now
from services.runtime.fold import Arrived
from services.runtime.settings import Settings
from tests import builders
from tests.conftest import dsn_of
from tests.integration.support import Feed, Raw, owner, role, violations

OPENED = builders.account_opened(credit_limit_minor=600_000)
BOUGHT = builders.purchase_posted(amount_minor=550_000)


def sent(committed: Committed) -> list[Raw]:
    """Return what a batch publishes, as records."""
    return [
        Raw("credit.restoration.v1", outgoing.payload, builders.ACCOUNT.encode(), outgoing.headers())
        for outgoing in committed.outgoing
    ]


async def told(settings: Settings, *batches: Sequence[Event]) -> list[int]:
    """Let limit-release decide on each batch and the notifier deliver what follows; return how many messages each."""
    went_out = []
    async with role(settings, "limit_release") as books, role(settings, "notifier") as messages:
        releasing, notifying = Feed(LIMIT_RELEASE, settings, books), Feed(NOTIFIER, settings, messages)
        await releasing.start()
        await notifying.start()
        for facts in batches:
            decided = await releasing.deliver(*facts)
            asked = await notifying.deliver(OPENED, *sent(decided))
            assert NOTIFIER.step is not None
            step = NOTIFIER.step(settings)
            outcomes = [await step.perform(work) for work in asked.work]
            await notifying.apply(Batch(monotonic(), [Arrived(outcome, -1, utc_now()) for outcome in outcomes]))
            went_out.append(len(outcomes))
    return went_out


async def test_l9_what_is_shown_is_kept_and_told_beside_what_was_true(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTB_POSTGRES_DSN", dsn_of(settings))
    monkeypatch.setenv("OTB_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    await told(settings, [OPENED, BOUGHT, builders.risk_assessed()])

    async def says(*arguments: str) -> str:
        assert await asyncio.to_thread(answer, ["explain", builders.REPAYMENT, *arguments]) == 0
        return capsys.readouterr().out

    customer = await says()
    agent = await says("--for", "agent", "--lang", "en")
    audit = json.loads(await says("--for", "audit"))
    assert customer.startswith("您 11月20日（周五）22:00 的还款 ¥5,000.00 已成功")
    assert "HOLD_RAIL_REVERSIBLE" in agent
    assert {journal["kind"] for journal in audit["journals"]} == {"SETTLE", "RELEASE"}
    assert [record["version"] for record in audit["records"]] == [1]
    assert [row["audience"] for row in audit["shown"]] == ["customer", "agent"]
    async with owner(settings) as connection:
        kept = await connection.fetch("SELECT audience, language, record_version, text FROM notifier.shown ORDER BY 1")
        assert [(row["audience"], row["language"], row["record_version"]) for row in kept] == [
            ("agent", "en", 1),
            ("audit", "zh-CN", 1),
            ("customer", "zh-CN", 1),
        ]
        assert kept[2]["text"] + "\n" == customer
    now = json.loads(await says("--as-of", utc_now().isoformat(), "--json"))
    assert (now["true"]["version"], now["not_delivered_versions"], now["later_versions"]) == (1, [], [])
    assert [(row["record_version"], row["state"], row["text"]) for row in now["told"]] == [
        (1, "delivered", customer.split("距离")[0].split("您也可以")[0].rstrip())
    ]
    assert len(now["shown"]) == 3
    before = json.loads(await says("--as-of", "2026-11-20T22:00", "--json"))
    assert (before["true"], before["told"], before["later_versions"]) == (None, [], [1])
    assert await violations(settings) == {}


async def test_r23_what_a_thaw_restores_of_two_repayments_is_one_message_and_each_of_them_was_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTB_POSTGRES_DSN", dsn_of(settings))
    monkeypatch.setenv("OTB_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    frozen = builders.account_status_changed(status="frozen", occurred_at=builders.REPAID_AT)
    repaid = [
        builders.risk_assessed(repayment_id=at, amount_minor=amount, restorable_minor=amount, tranches=(part,))
        for at, amount in {"a" * 32: 30_000, "b" * 32: 20_000}.items()
        for part in (Tranche(1, amount, builders.REPAID_AT, Reason.RELEASE_FINAL_RAIL),)
    ]
    thawed = builders.account_status_changed(status="active", occurred_at=builders.REPAID_AT + timedelta(hours=1))
    assert await told(settings, [OPENED, BOUGHT, frozen, *repaid], [thawed]) == [2, 1]

    async def says(*arguments: str) -> str:
        assert await asyncio.to_thread(answer, ["explain", *arguments, "--lang", "en"]) == 0
        return capsys.readouterr().out

    for at, own, others in (("a" * 32, "300", "200"), ("b" * 32, "200", "300")):
        said = await says(at)
        assert f"CN¥{own}.00 of credit is back, and CN¥{others}.00 from other repayments; available now: CN¥" in said
        now = json.loads(await says(at, "--as-of", utc_now().isoformat(), "--json"))
        assert (now["true"]["version"], now["not_delivered_versions"]) == (2, [])
        text = "您有 2 笔还款现已恢复额度共 ¥500.00，当前可用额度 ¥1,000.00。另有 ¥500.00 因账户恢复正常而可以使用。"
        assert (now["told"][-1]["state"], now["told"][-1]["text"]) == ("delivered", text)
        assert (now["told"][-1]["told_by"] is None) == (at == "a" * 32)
    assert await violations(settings) == {}
