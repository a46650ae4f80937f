"""Which return model a rollback puts back in force: one promotion earlier each time, never forward again."""

import asyncio
from pathlib import Path

import pytest

from services.cli.commands import answer
from services.cli.models import activate
from services.cli.terminal import Problem
from services.runtime.settings import Settings
from tests.integration.support import another_table, owner

MODELS = ("a", "b", "c")
ASKED = "-aab-b-c-ab-ca--b--c---ba-cab--a-bc"
"""What people ask for, in order: a model, or to go back."""
# As before going back was told apart: what was put in force after it was kept as a promotion of the shipped table.
BEFORE_THAT = """
INSERT INTO risk_scoring.risk_activation (kind, version, became, actor, reason)
VALUES ('return', NULL, 'champion', 'risk_lead', 'worse')
"""
RETIRED = "UPDATE risk_scoring.risk_models SET status = 'retired' WHERE status = 'champion'"


@pytest.fixture
async def changed(formula: Settings, tmp_path: Path) -> Settings:
    """Give a registry with the three models."""
    for version in MODELS:
        assert await asyncio.to_thread(answer, ["risk", "add", str(another_table(tmp_path, version))]) == 0
    return formula


async def change(settings: Settings, version: str | None) -> tuple[str | None, str | None]:
    return await activate(settings, version, "risk_lead", "drill", unproven=True)


async def test_a_promotion_adds_a_step_and_going_back_takes_the_last_one_away(changed: Settings) -> None:
    """Promotions and rollbacks in any order, and at last only rollbacks, which always end at the shipped table."""
    steps: list[str | None] = [None]
    for asked in (None if name == "-" else name for name in ASKED):
        if asked is None and len(steps) == 1:
            with pytest.raises(Problem, match="nothing to go back to"):
                await change(changed, None)
        elif asked is None:
            assert await change(changed, None) == (steps.pop(), steps[-1])
        else:
            assert await change(changed, asked) == (steps[-1], asked)
            steps += [asked] if asked != steps[-1] else []
    while len(steps) > 1:
        assert await change(changed, None) == (steps.pop(), steps[-1])
    with pytest.raises(Problem, match="nothing to go back to"):
        await change(changed, None)


async def test_what_was_kept_before_going_back_was_told_apart_still_reads(changed: Settings) -> None:
    await change(changed, "a")
    async with owner(changed) as connection:
        await connection.execute(RETIRED)
        await connection.execute(BEFORE_THAT)
    assert await change(changed, None) == (None, "a")
