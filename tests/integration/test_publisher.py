"""What is committed reaches Kafka in the order it was committed, from whoever is left to send it."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from aiokafka.errors import KafkaTimeoutError
from aiokafka.partitioner import DefaultPartitioner
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat

from schemas.topics import INTAKE, SETTLEMENT, TYPE_OF
from services.cli.republish import OPEN
from services.repayment_ingest.worker import WORKER as INGEST
from services.runtime.publisher import Publisher, partition_of
from services.runtime.settings import Settings
from services.settlement.worker import WORKER as SETTLE
from tests import builders
from tests.conftest import PARTITIONS
from tests.integration.conftest import MakeFeed
from tests.integration.kafka import Seen, records
from tests.integration.support import Feed, Raw, owner

# org.apache.kafka.common.utils.UtilsTest, testMurmur2: what Java's default partitioner hashes keys to.
JAVA_MURMUR2 = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}


@asynccontextmanager
async def publisher(settings: Settings, group: str = "repayment-ingest") -> AsyncIterator[Publisher]:
    made = Publisher(settings, group)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def reported(feed: Feed, *, accounts: int, each: int) -> list[UUID]:
    """Commit reports of several accounts in batches of one; return the events in the order of their commits."""
    order: list[UUID] = []
    for n in range(each):
        for account in range(accounts):
            event = builders.repayment_reported(account_id=f"account-{account}", external_ref=f"ref-{account}-{n}")
            order += [outgoing.event_id for outgoing in (await feed.deliver(event)).outgoing]
    return order


def ids(seen: list[Seen]) -> list[UUID]:
    return [UUID(record.headers["ce_id"]) for record in seen]


@pytest.mark.parametrize("partitions", [1, 3, 24])
def test_an_account_goes_where_javas_partitioner_puts_it(partitions: int) -> None:
    for account, hashed in JAVA_MURMUR2.items():
        assert partition_of(account, partitions) == (hashed & 0x7FFFFFFF) % partitions
    everywhere = list(range(partitions))
    for n in range(500):
        account = f"acct_{n}"
        assert partition_of(account, partitions) == DefaultPartitioner()(account.encode(), everywhere, everywhere)


async def test_events_arrive_in_commit_order_on_their_accounts_partition(
    feed_of: MakeFeed, empty_kafka: Settings
) -> None:
    feed = await feed_of(INGEST)
    order = await reported(feed, accounts=7, each=8)
    async with publisher(empty_kafka) as publishing:
        assert await publishing.republish(feed.connection, (0,)) == len(order)
    arrived = await records(empty_kafka, INTAKE.name)
    assert sorted(ids(arrived)) == sorted(order)
    by_account: dict[str, list[UUID]] = defaultdict(list)
    for record in arrived:
        account = record.headers["ce_subject"]
        assert record.key == account.encode()
        assert record.partition == partition_of(account, PARTITIONS)
        by_account[account].append(UUID(record.headers["ce_id"]))
    for sent in by_account.values():
        assert sent == [event for event in order if event in set(sent)]


async def test_what_a_lost_publisher_left_is_sent_by_the_next_and_not_again(
    feed_of: MakeFeed, empty_kafka: Settings
) -> None:
    feed = await feed_of(INGEST)
    first = await feed.deliver(builders.repayment_reported())
    assert first.publication_id is not None
    async with publisher(empty_kafka) as lost:
        await lost.send(first.publication_id, first.outgoing)
        await lost.settle()
    order = await reported(feed, accounts=2, each=3)
    async with publisher(empty_kafka) as successor:
        assert await successor.republish(feed.connection, (1, 2)) == 0, "other partitions are not its own"
        assert await successor.republish(feed.connection, (0,)) == 1 + len(order)
        await successor.settle()
        await successor.mark(feed.connection)
        assert await successor.republish(feed.connection, (0,)) == 0
    assert await feed.value("SELECT count(*) FROM publication WHERE published_at IS NULL") == 0
    arrived = ids(await records(empty_kafka, INTAKE.name))
    assert set(arrived) == {*order, first.outgoing[0].event_id}
    assert arrived.count(first.outgoing[0].event_id) == 2, "acknowledged, not marked: it comes twice"


async def test_an_acknowledgement_older_than_a_republication_closes_nothing(
    feed_of: MakeFeed, empty_kafka: Settings
) -> None:
    """The broker took it, lost it, and `otb republish` ran before its worker closed it."""
    feed = await feed_of(INGEST)
    told = await feed.deliver(builders.repayment_reported())
    assert told.publication_id is not None
    async with publisher(empty_kafka) as publishing:
        await publishing.send(told.publication_id, told.outgoing)
        await publishing.settle()
        order = await reported(feed, accounts=2, each=3)
        async with owner(empty_kafka) as operator:
            opened = await operator.fetchval(OPEN.format(package=INGEST.package), builders.REPAID_AT)
        assert opened == 1 + len(order)
        await publishing.mark(feed.connection)
        assert await publishing.republish(feed.connection, (0,)) == 1 + len(order)
        await publishing.settle()
        await publishing.mark(feed.connection)
        assert await publishing.republish(feed.connection, (0,)) == 0
    first = told.outgoing[0].event_id
    arrived = ids(await records(empty_kafka, INTAKE.name))
    assert arrived.count(first) == 2
    for account in range(2):
        sent = [r for r in await records(empty_kafka, INTAKE.name) if r.headers["ce_subject"] == f"account-{account}"]
        assert ids(sent) == [event for event in order if event in set(ids(sent))], "in the order of their commits"


async def test_what_a_clock_set_back_since_made_is_relayed_at_once(feed_of: MakeFeed, empty_kafka: Settings) -> None:
    feed = await feed_of(INGEST)
    await feed.deliver(builders.repayment_reported())
    async with publisher(empty_kafka) as publishing:
        assert await publishing.republish(feed.connection, (0,), older_than_seconds=60) == 0, "its worker sends it"
        async with owner(empty_kafka) as connection:
            await connection.execute(
                "UPDATE repayment_ingest.publication SET created_at = created_at + interval '4 min'"
            )
        assert await publishing.republish(feed.connection, (0,), older_than_seconds=60) == 1


async def test_a_failed_send_fails_once_and_is_sent_again_from_the_outbox(
    feed_of: MakeFeed, empty_kafka: Settings
) -> None:
    feed = await feed_of(INGEST)
    order = await reported(feed, accounts=1, each=2)
    async with publisher(empty_kafka) as publishing:
        failed: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        failed.set_exception(KafkaTimeoutError())
        publishing._pending[1] = [failed]
        with pytest.raises(KafkaTimeoutError):
            await publishing.settle()
        assert await publishing.republish(feed.connection, (0,)) == len(order)
        await publishing.settle()
    assert ids(await records(empty_kafka, INTAKE.name)) == order


async def test_the_same_event_twice_on_kafka_is_dropped_by_the_next_inbox(
    feed_of: MakeFeed, empty_kafka: Settings
) -> None:
    ingest, settle = await feed_of(INGEST), await feed_of(SETTLE)
    await settle.deliver(builders.account_opened(), builders.purchase_posted())
    await ingest.deliver(builders.repayment_reported())
    for _ in range(2):
        async with publisher(empty_kafka) as publishing:
            await publishing.republish(ingest.connection, (0,))
    arrived = [
        Raw(seen.topic, seen.value, seen.key, [(name, text.encode("latin-1")) for name, text in seen.headers.items()])
        for seen in await records(empty_kafka, INTAKE.name)
    ]
    done = await settle.deliver(*arrived)
    assert (done.counts["applied"], done.counts["duplicate"]) == (1, 1)
    assert await settle.value("SELECT count(*) FROM repayment") == 1


async def test_headers_are_cloudevents_by_the_sdks_word(feed_of: MakeFeed, empty_kafka: Settings) -> None:
    settle = await feed_of(SETTLE)
    await settle.deliver(builders.account_opened(), builders.purchase_posted(), builders.repayment_received())
    async with publisher(empty_kafka, "settlement") as publishing:
        await publishing.republish(settle.connection, (0,))
    (seen,) = await records(empty_kafka, SETTLEMENT.name)
    message = KafkaMessage({name: text.encode() for name, text in seen.headers.items()}, seen.key, seen.value or b"")
    event = from_binary(message, JSONFormat())
    assert event.get_type() == TYPE_OF[type(builders.repayment_settled())]
    assert event.get_id() == seen.event["event_id"]
    assert event.get_source() == "/opentobuy/settlement"
    assert event.get_subject() == builders.ACCOUNT
    assert event.get_data() == seen.event
    assert seen.headers["traceparent"].split("-")[1] == builders.REPAYMENT


async def test_a_dead_letter_is_copied_with_its_bytes_its_reason_and_its_place(
    feed_of: MakeFeed, empty_kafka: Settings
) -> None:
    feed = await feed_of(INGEST)
    await feed.deliver(Raw("billing.repayment.v1", b"\x00\xff", key=b"k", headers=[("any", b"\xfe")]))
    async with publisher(empty_kafka) as publishing:
        await publishing.publish_dead_letters(feed.connection, (0,))
        await publishing.publish_dead_letters(feed.connection, (0,))
    (copy,) = await records(empty_kafka, "billing.repayment.v1.repayment-ingest.dlq")
    assert (copy.key, copy.value) == (b"k", b"\x00\xff")
    assert copy.headers == {"any": "\xfe", "otb_reason": "not_a_cloudevent", "otb_place": "billing.repayment.v1/0/0"}
