"""What `otb check` asks outside the views: Kafka's offsets, and ids that SQL cannot derive."""

from services.cli.checks import Finding, Kafka, _accepted_is_decided, _offsets
from services.cli.servers import connected
from services.runtime.settings import Settings
from tests import builders
from tests.integration.relay import relay
from tests.integration.support import owner
from tests.integration.test_invariants import repaid

TOPIC = "repayment.intake.v1"


async def ahead(settings: Settings, offset: int) -> list[Finding]:
    """Return the services of which Kafka knows more than their books, where settlement's group is at ``offset``."""
    async with connected(settings) as connection, connection.transaction(readonly=True):
        found = await _offsets(connection, Kafka({("settlement", TOPIC, 0): offset}, {}))
    return [finding for finding in found if finding.violations]


async def test_a_group_that_told_kafka_more_than_its_books_is_named(settings: Settings) -> None:
    async with relay(settings) as relayed:
        await repaid(relayed)
    assert await ahead(settings, 1) == []
    (found,) = await ahead(settings, 2)
    assert (found.name, found.of, found.violations) == ("offset_not_ahead", "settlement", 1)
    assert found.examples[0] == {"topic": TOPIC, "partition": 0, "committed": 2, "books": 1}


async def undecided(settings: Settings) -> Finding:
    """Return the verdict on what was accepted."""
    async with connected(settings) as connection, connection.transaction(readonly=True):
        return await _accepted_is_decided(connection)


async def test_what_was_accepted_and_is_nowhere_is_named(settings: Settings) -> None:
    async with relay(settings, {"settlement"}) as relayed:
        await repaid(relayed)
    assert (await undecided(settings)).violations == 0, "it is under way"
    async with owner(settings) as connection:
        await connection.execute("UPDATE repayment_ingest.outbox SET occurred_at = occurred_at - interval '1 day'")
    found = await undecided(settings)
    assert (found.verdict, [row["external_ref"] for row in found.examples]) == ("violated", [builders.EXTERNAL_REF])
