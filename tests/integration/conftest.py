"""Books of one test, whose invariants must hold when it ends."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from services.cli.system import environment
from services.profiles import FOLDER
from services.runtime.settings import Settings
from services.runtime.worker import AnyWorker
from tests.integration.support import Feed, role, violations

MakeFeed = Callable[[AnyWorker], Awaitable[Feed]]


@pytest.fixture
async def feed_of(settings: Settings) -> AsyncIterator[MakeFeed]:
    """Return what feeds a worker over a connection of its own; every invariant holds in the end."""
    async with AsyncExitStack() as stack:

        async def make(worker: AnyWorker) -> Feed:
            connection = await stack.enter_async_context(role(settings, worker.package))
            return await Feed(worker, settings, connection).start()

        yield make
    assert await violations(settings) == {}


@pytest.fixture
def formula(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Let the formula decide for the default product, and point the command line at this database."""
    text = (FOLDER / "default.toml").read_text().replace('method = "schedule"', 'method = "formula"')
    (tmp_path / "default.toml").write_text(text)
    asked = settings.model_copy(update={"policy_dir": tmp_path})
    for name, value in environment(asked).items():
        monkeypatch.setenv(name, value)
    return asked
