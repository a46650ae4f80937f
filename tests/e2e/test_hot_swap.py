"""Another return model is put in force and taken back, by hand and by itself, or tried and ended, under traffic.

No repayment is lost, and none is judged by two.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.ids import RETURN_MODEL, repayment_id
from schemas.risk import ModelActivated, RiskAssessed
from schemas.topics import RISK, RISK_ACTIVE
from services.billing_simulator.load import Load, accounts_plan, repayments_plan
from services.billing_simulator.send import Sent, play
from services.cli.commands import answer
from services.cli.system import System, environment, start_workers, wait_ready
from services.cli.workers import WORKERS
from services.console.worker import WORKER as CONSOLE
from services.profiles import FOLDER, returns
from services.risk_scoring.trials import HELD_LEAST, in_canary
from services.runtime.clock import monotonic
from services.runtime.settings import Settings
from tests.conftest import run_apart
from tests.integration.kafka import records
from tests.integration.support import owner, violations

NEXT = "return-prior-2"
WHO = ("--actor", "risk_lead", "--reason", "replay_better")
LOAD = Load(seed=8, run="swap", count=900, rate=30.0, rails=(("direct_debit", 1.0),), product="default", accounts=60)
TIMID = "timid"
BACK = Load(seed=8, run="back", count=300, rate=30.0, rails=(("direct_debit", 1.0),), product="default", accounts=300)
TRIAL = Load(seed=8, run="trial", count=900, rate=30.0, rails=(("direct_debit", 1.0),), product="default", accounts=400)
SECONDS = 60.0
POLL_SECONDS = 0.05
CHANGED_SECONDS = 5.0
"""Within so long what decided before decides again (risk 6)."""
# The version of the last verdict, and how many there are.
DECIDED = """
SELECT count(*) AS n, (SELECT convert_from(payload, 'UTF8')::json ->> 'model_version' FROM risk_scoring.outbox
  WHERE topic = 'repayment.risk.v1' ORDER BY publication_id DESC, n DESC LIMIT 1) AS version
FROM risk_scoring.outbox WHERE topic = 'repayment.risk.v1'
"""
# What the audit says of models put in force.
AUDITED = (
    "SELECT actor, reason, content::json AS content FROM console.audit WHERE action = 'activate_model' ORDER BY seq"
)
CHANGED = """
SELECT id AS change, version AS model_version, goes_back, unproven, actor, reason FROM risk_scoring.risk_activation
ORDER BY id
"""
# Repayments that limit-release knows the verdict of.
RELEASED = "SELECT repayment_id, model_version FROM limit_release.repayment WHERE assessed"


@pytest.fixture
def deciding(
    system: System, empty_kafka: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[System]:
    """Run the five workers and the console, with the formula deciding for every product."""
    for path in FOLDER.glob("*.toml"):
        (tmp_path / path.name).write_text(path.read_text().replace('method = "schedule"', 'method = "formula"'))
    running = System(empty_kafka.model_copy(update={"policy_dir": tmp_path}), system.stack)
    for name, value in environment(running.settings).items():
        monkeypatch.setenv(name, value)
    ports = start_workers(running, (*WORKERS, CONSOLE))
    try:
        run_apart(wait_ready(ports))
        yield running
    finally:
        system.stack.stop(list(ports))


async def wait_for(settings: Settings, *, version: str = "", more_than: int = 0) -> int:
    """Wait until the last verdict is of ``version`` and there are more than so many; return how many there are."""
    deadline = monotonic() + SECONDS
    async with owner(settings) as connection:
        while monotonic() < deadline:
            row = await connection.fetchrow(DECIDED)
            if row["n"] > more_than and row["version"] == (version or row["version"]):
                return int(row["n"])
            await asyncio.sleep(POLL_SECONDS)
    raise AssertionError(f"no verdict by {version or 'any model'} in {SECONDS} s")


async def swapped(settings: Settings, *command: str, to: str) -> float:
    """Run a command; return the seconds from its start until a verdict by ``to`` was committed."""
    began = monotonic()
    assert await asyncio.to_thread(answer, ["risk", *command, *WHO]) == 0
    await wait_for(settings, version=to)
    return monotonic() - began


async def played(settings: Settings) -> tuple[Sent, list[float]]:
    """Promote and roll back twice while the load is sent; return what Kafka has, and the seconds of each change."""
    await play(settings, accounts_plan(LOAD))
    sending = asyncio.create_task(play(settings, repayments_plan(LOAD)))
    seconds = []
    try:
        for _ in range(2):
            await wait_for(settings, more_than=await wait_for(settings, version=returns().version) + 60)
            seconds.append(await swapped(settings, "promote", NEXT, "--unproven", to=NEXT))
            await wait_for(settings, more_than=await wait_for(settings, version=NEXT) + 60)
            seconds.append(await swapped(settings, "rollback", to=returns().version))
        return await sending, seconds
    finally:
        sending.cancel()


@pytest.mark.timeout(300)
async def test_a_promotion_and_a_rollback_under_traffic_lose_nothing_and_judge_nothing_twice(
    deciding: System, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = deciding.settings
    assert await asyncio.to_thread(answer, ["risk", "add", str(twin(tmp_path))]) == 0
    sent, seconds = await played(settings)
    await wait_for(settings, more_than=LOAD.repayments - 1)
    verdicts = [json.loads(seen.value or b"") for seen in await records(settings, RISK.name)]
    told = {each["repayment_id"]: each["model_version"] for each in verdicts}
    assert len(verdicts) == len(told), "a repayment was judged twice"
    assert told.keys() == {repayment_id(*reference) for reference in sent.acknowledged}
    by = Counter(told.values())
    assert by.keys() == {NEXT, returns().version}
    await released(settings, told)
    assert len(await announced(settings)) == len(seconds)
    assert max(seconds) < CHANGED_SECONDS
    assert await violations(settings) == {}
    with capsys.disabled():
        changes = ", ".join(f"{each:.2f}" for each in seconds)
        print(f"\nuntil the first verdict by the other model, promote and rollback by turns: {changes} s; {dict(by)}")


def twin(folder: Path) -> Path:
    """Write a table of another version that says what the shipped one says, so that it stays in force."""
    path = folder / "twin.json"
    path.write_text(json.dumps({**json.loads(returns().model_dump_json()), "version": NEXT}))
    return path


def timid(folder: Path) -> Path:
    """Write a table that takes every repayment for lost, so that it holds them all."""
    told = json.loads(returns().model_dump_json())
    told["version"], told["bank"] = TIMID, {**told["bank"], "base": 0.5, "respent": 1.0, "lost": 1.0}
    path = folder / "timid.json"
    path.write_text(json.dumps(told))
    return path


@pytest.mark.timeout(300)
async def test_a_canary_that_holds_too_much_ends_by_itself_under_traffic(
    deciding: System, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = deciding.settings
    assert await asyncio.to_thread(answer, ["risk", "add", str(timid(tmp_path))]) == 0
    assert await asyncio.to_thread(answer, ["risk", "canary", TIMID, "--unproven", *WHO]) == 0
    await play(settings, accounts_plan(TRIAL))
    sent = await play(settings, repayments_plan(TRIAL))
    await wait_for(settings, more_than=TRIAL.repayments - 1)
    verdicts = [RiskAssessed.model_validate_json(seen.value or b"") for seen in await records(settings, RISK.name)]
    told: dict[str, str] = {each.repayment_id: each.model_version for each in verdicts}
    assert len(verdicts) == len(told), "a repayment was judged twice"
    assert told.keys() == {repayment_id(*reference) for reference in sent.acknowledged}
    async with owner(settings) as connection:
        (stop,) = await connection.fetch("SELECT * FROM risk_scoring.risk_trial_stop")
        counted = await connection.fetchval("SELECT sum(judged)::bigint FROM risk_scoring.risk_trial_count")
    ours = [each for each in verdicts if in_canary(TIMID, each.account_id)]
    by_candidate = [each for each in ours if each.model_version == TIMID]
    back = [each for each in ours if each.model_version != TIMID]
    assert (stop["version"], stop["rule"]) == (TIMID, "hold_rate")
    assert {each.model_version for each in verdicts if each not in ours} == {returns().version}
    assert len(by_candidate) >= HELD_LEAST
    assert back
    assert max(each.occurred_at for each in by_candidate) < min(each.occurred_at for each in back)
    assert max(each.occurred_at for each in by_candidate) <= stop["stopped_at"]
    assert counted < len(verdicts), "it was compared after its end"
    await released(settings, told)
    assert await violations(settings) == {}
    with capsys.disabled():
        held = sorted(each.occurred_at for each in by_candidate if each.outcome != "clear")
        seconds = (stop["stopped_at"] - held[HELD_LEAST - 1]).total_seconds()
        print(f"\nfrom the hold that is too many until the canary's end: {seconds:.2f} s; {stop['figures']}; ", end="")
        print(f"{len(by_candidate)} verdicts by it, {len(back)} on its accounts after it")


@pytest.mark.timeout(300)
async def test_a_model_in_force_that_holds_too_much_goes_back_by_itself_under_traffic(
    deciding: System, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = deciding.settings
    assert await asyncio.to_thread(answer, ["risk", "add", str(timid(tmp_path))]) == 0
    await play(settings, accounts_plan(BACK))
    sending = asyncio.create_task(play(settings, repayments_plan(BACK)))
    try:
        await wait_for(settings, more_than=20)
        assert await asyncio.to_thread(answer, ["risk", "promote", TIMID, "--unproven", *WHO]) == 0
        sent = await sending
    finally:
        sending.cancel()
    await wait_for(settings, more_than=BACK.repayments - 1)
    verdicts = [RiskAssessed.model_validate_json(seen.value or b"") for seen in await records(settings, RISK.name)]
    told: dict[str, str] = {each.repayment_id: each.model_version for each in verdicts}
    assert len(verdicts) == len(told), "a repayment was judged twice"
    assert told.keys() == {repayment_id(*reference) for reference in sent.acknowledged}
    async with owner(settings) as connection:
        promoted, back = await connection.fetch("SELECT * FROM risk_scoring.risk_activation ORDER BY id")
    assert (promoted["version"], promoted["actor"]) == (TIMID, "risk_lead")
    assert (back["version"], back["goes_back"], back["actor"]) == (None, True, "risk-scoring")
    by_it = sorted(each.occurred_at for each in verdicts if each.model_version == TIMID)
    after = [each for each in verdicts if each.model_version != TIMID and each.occurred_at > by_it[-1]]
    assert len(by_it) >= HELD_LEAST
    assert after, "the load ended before it went back"
    assert not [each for each in verdicts if each.model_version != TIMID and by_it[0] <= each.occurred_at <= by_it[-1]]
    await released(settings, told)
    promotion, by_itself = await announced(settings)
    assert (promotion.model_version, promotion.replaced, promotion.unproven) == (TIMID, None, True)
    assert (by_itself.model_version, by_itself.replaced, by_itself.actor) == (None, TIMID, "risk-scoring")
    assert await violations(settings) == {}
    seconds = (back["activated_at"] - by_it[HELD_LEAST - 1]).total_seconds()
    assert seconds < CHANGED_SECONDS
    with capsys.disabled():
        print(f"\nfrom the hold that is too many until what decided before decides: {seconds:.2f} s; ", end="")
        print(f"{len(by_it)} verdicts by it, {len(after)} after it; {back['reason']}")


async def released(settings: Settings, told: dict[str, str]) -> None:
    """Wait until limit-release has each verdict, as it was told."""
    deadline = monotonic() + SECONDS
    async with owner(settings) as connection:
        while True:
            found = {row["repayment_id"]: row["model_version"] for row in await connection.fetch(RELEASED)}
            if found == told or monotonic() > deadline:
                break
            await asyncio.sleep(POLL_SECONDS)
    assert found == told


async def announced(settings: Settings) -> list[ModelActivated]:
    """Wait until the console audited each change once; return what the topic has: each change, the last one last."""
    deadline = monotonic() + SECONDS
    async with owner(settings) as connection:
        changed = [dict(row) for row in await connection.fetch(CHANGED)]
        while True:
            audited = [dict(row) for row in await connection.fetch(AUDITED)]
            if len(audited) >= len(changed) or monotonic() > deadline:
                break
            await asyncio.sleep(POLL_SECONDS)
    seen = await records(settings, RISK_ACTIVE.name)
    told = [ModelActivated.model_validate_json(each.value or b"") for each in seen]
    assert {each.key for each in seen} == {RETURN_MODEL.encode()}
    assert [each.change for each in told] == [row["change"] for row in changed]
    for row, event, entry in zip(changed, told, audited, strict=True):
        said = json.loads(entry["content"])
        assert event.model_dump(include=set(row)) == row
        assert {**said, "actor": entry["actor"], "reason": entry["reason"]} == event.model_dump(
            exclude={"account_id", "occurred_at", "model"}
        )
    return told
