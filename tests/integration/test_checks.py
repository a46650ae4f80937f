"""What `otb check` asks outside the views: Kafka's offsets, and ids that SQL cannot derive."""

from services.cli.checks import VIEWS, Finding, Kafka, _accepted_is_decided, _offsets, _views
from services.cli.reconcile import Sent, differences, open_for
from services.cli.servers import connected
from services.runtime.settings import Settings
from tests import builders
from tests.integration.relay import relay
from tests.integration.support import owner, violations
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


async def viewed(settings: Settings, then: str = "SELECT 1") -> list[Finding]:
    """Return what every view says as of an instant, after which ``then`` is committed."""
    async with connected(settings) as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
        async with owner(settings) as other:
            await other.execute(then)
            views = [f"{row['schemaname']}.{row['viewname']}" for row in await other.fetch(VIEWS)]
        found = await _views(settings, snapshot)
    assert [f"{each.of.replace('-', '_')}.invariant_{each.name}" for each in found] == views
    return [finding for finding in found if finding.violations]


async def test_every_view_is_asked_at_one_instant_by_whichever_connection_is_free(settings: Settings) -> None:
    waits = "INSERT INTO settlement.publication (partitions, created_at) VALUES ('{0}', now() - interval '1 hour')"
    assert await viewed(settings, waits) == [], "it was not there at that instant"
    (found,) = await viewed(settings)
    assert (found.name, found.of, found.violations) == ("outbox_drained", "settlement", 1)
    assert await viewed(settings, "DELETE FROM settlement.publication") == [found], "it was still there at that instant"
    assert await viewed(settings) == []


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


async def test_billings_own_list_is_held_to_ours_and_a_difference_is_one_case(settings: Settings) -> None:
    async with relay(settings) as relayed:
        await repaid(relayed)
    ours = Sent(
        source=builders.SOURCE,
        external_ref=builders.EXTERNAL_REF,
        account_id=builders.ACCOUNT,
        amount_minor=200_000,
        currency="CNY",
    )
    theirs = ours.model_copy(update={"external_ref": "never_came", "amount_minor": 1})
    async with connected(settings) as connection:
        assert await differences(connection, [ours]) == []
        found = await differences(connection, [ours.model_copy(update={"amount_minor": 199_999}), theirs])
    assert [(each.which, each.external_ref, each.fields) for each in found] == [
        ("differs", builders.EXTERNAL_REF, "amount_minor"),
        ("only_theirs", "never_came", ""),
    ]
    assert [await open_for(settings, found), await open_for(settings, found)] == [2, 0]
    async with owner(settings) as connection:
        query = "SELECT kind, detail FROM console.case_file WHERE kind = 'source_differs' ORDER BY detail"
        assert [row["detail"] for row in await connection.fetch(query)] == ["amount_minor", "only_theirs"]
    assert await violations(settings) == {}
