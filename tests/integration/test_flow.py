"""The live picture of `otb demo` and `otb lag` begins where it says, however far back it reads."""

import asyncio

from schemas.ids import event_id
from services.cli.lag import begin
from services.risk_scoring.worker import WORKER
from services.runtime.settings import Settings
from tests import builders
from tests.integration.support import Feed, owner, role


async def test_what_was_told_before_the_picture_begins_does_not_wait_in_it(settings: Settings) -> None:
    """Its release may be further back, in another outbox, than what is read again: it would wait there for ever."""
    async with role(settings, "risk_scoring") as connection, owner(settings) as looking:
        feed = await Feed(WORKER, settings, connection).start()
        await feed.deliver(builders.repayment_settled(repayment_id="1" * 32, event_id=event_id("told", "before")))
        await asyncio.sleep(0.05)  # instants are whole milliseconds
        flow = await begin(looking, 0.001)
        await feed.deliver(builders.repayment_settled(repayment_id="2" * 32, event_id=event_id("told", "after")))
        await flow.read(looking)
    assert [waits.repayment_id for waits in flow.waiting()["release"]] == ["2" * 32]
