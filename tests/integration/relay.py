"""All seven services on one database, with what they publish handed on at once: Kafka's place without Kafka."""

from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager

from schemas.event import Event
from services.cli.workers import EVERYONE
from services.runtime import outbox
from services.runtime.settings import Settings
from tests.integration.support import Feed, Raw, role, written


class Relay:
    """Feeds of every service; what none of ``stopped`` may take in stays on its topic."""

    def __init__(self, feeds: dict[str, Feed], stopped: Collection[str] = ()) -> None:
        self.feeds = feeds
        self.stopped = stopped

    async def tell(self, *events: Event) -> None:
        """Hand on what billing says, and what comes of it, until nothing is left to publish."""
        for event in events:
            waiting = [written(event)]
            while waiting:
                raw = waiting.pop(0)
                for feed in self.feeds.values():
                    if raw.topic in feed.next and feed.worker.name not in self.stopped:
                        await feed.deliver(raw)
                        waiting += await self._published(feed)

    async def _published(self, feed: Feed) -> list[Raw]:
        found = await outbox.unpublished(feed.connection, [0], older_than_seconds=0, except_for=())
        await feed.connection.execute(outbox.ACKNOWLEDGE, list(found))
        told = [outgoing for _, publication in sorted(found.items()) for outgoing in publication]
        return [Raw(each.topic, each.payload, each.account_id.encode(), each.headers()) for each in told]


@asynccontextmanager
async def relay(settings: Settings, stopped: Collection[str] = ()) -> AsyncIterator[Relay]:
    """Start every service where its topics begin."""
    async with AsyncExitStack() as stack:
        feeds = {}
        for worker in EVERYONE:
            connection = await stack.enter_async_context(role(settings, worker.package))
            feeds[worker.name] = await Feed(worker, settings, connection).start()
        yield Relay(feeds, stopped)
