"""Books of one test, whose invariants must hold when it ends."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

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
