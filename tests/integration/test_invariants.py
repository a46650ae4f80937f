"""Every invariant view is silent on honest books and names the row of a planted violation."""

from datetime import timedelta

import pytest

from schemas.event import to_millisecond
from schemas.risk import Tranche
from services.cli.workers import EVERYONE
from services.console.domain import MoveCase, ReleaseHold
from services.console.worker import WORKER as CONSOLE
from services.lag_monitor import gauges
from services.lag_monitor.worker import WORKER as LAG_MONITOR
from services.limit_release.worker import WORKER as LIMIT_RELEASE
from services.risk_scoring.worker import WORKER as RISK_SCORING
from services.runtime.batch import Batch
from services.runtime.clock import monotonic, utc_now
from services.runtime.fold import Arrived
from services.runtime.settings import Settings
from services.settlement.worker import WORKER as SETTLEMENT
from tests import builders
from tests.integration.relay import Relay, relay
from tests.integration.support import Feed, owner, role, violations

SHARED = {
    "no_offset_skipped": "UPDATE {schema}.progress SET next_offset = next_offset + 1 WHERE partition = 1",
    "outbox_drained": "INSERT INTO {schema}.publication (partitions, created_at) "
    "VALUES ('{{0}}', clock_timestamp() - interval '1 minute')",
}
# Each breaks one rule of the ledger; checks and triggers are off, as for a bug or a hand that went around them.
LEDGER = {
    "limit_identity": "UPDATE account SET available_minor = available_minor + 1",
    "journal_balanced": "UPDATE journal SET available_minor = available_minor + 1 WHERE kind = 'OPEN'",
    "restorable_conserved": "DELETE FROM tranche WHERE number = 3",
    "pending_equals_holds": "UPDATE tranche SET state = 'restored', restored_at = until WHERE number = 3",
    "restored_once": "DELETE FROM journal WHERE kind = 'RELEASE'",
    "not_over_reversed": "UPDATE tranche SET state = 'voided', amount_minor = amount_minor * 10 WHERE number = 3",
    "available_at_most_limit": "UPDATE account SET available_minor = credit_limit_minor + 1",
    "shown_is_true": "UPDATE account SET shown_minor = shown_minor + 1",
    "waits_explained": "UPDATE tranche SET state = 'parked' WHERE number = 3",
    "late_is_told": "UPDATE tranche SET delayed = false, promised_by = until - interval '1 day' WHERE number = 1",
    "time_ordered": "UPDATE tranche SET restored_at = '2026-01-01Z' WHERE number = 1",
}
LAG = {
    "lag_tiles": "UPDATE lag_segment SET ms = ms + 1 WHERE n = 2",
    "waits_have_a_cause": "UPDATE journey SET outcome = NULL, stage = NULL",
    "restored_is_measured": "DELETE FROM restoration_fact",
    "told_tiles": "DELETE FROM notify_segment",
}
CASES = {
    "audit_chain": "DELETE FROM audit",
    "case_lane": "UPDATE case_file SET state = 'escalated'",
    "case_opened": "UPDATE case_file SET kind = 'referred'",
    "case_waits": "DELETE FROM timers",
}
RISK = {"exposure": "UPDATE exposure SET minor = minor + 1"}
DEBT = {"debts_fill_the_buckets": "UPDATE account SET books = jsonb_set(books, '{0,0,2}', '1')"}
# Each breaks what joins services, after one repayment went through all of them.
LETTER = (
    'INSERT INTO settlement.set_aside (kind, topic, partition, "offset", broker_at, headers, reason, build{}) '
    "VALUES ('dead_letter', 'billing.account.v1', 0, {}, clock_timestamp(), '[]', 'not_json', '1'{})"
)
JOINED = {
    "settled_is_booked": "UPDATE limit_release.journal SET pending_minor = pending_minor + 1 WHERE kind = 'SETTLE'",
    "booked_is_settled": "DELETE FROM settlement.repayment",
    "returns_applied": "UPDATE settlement.repayment SET status = 'returned'",
    "restored_is_told": "UPDATE limit_release.decision_record SET decided_at = decided_at - interval '2 minutes'; "
    "DELETE FROM notifier.notification",
    "broken_is_a_case": "UPDATE limit_release.tranche SET delayed = true",
    "debt_reconciles": "UPDATE settlement.account SET credit_balance_minor = credit_balance_minor + 1",
    "late_is_explained": "UPDATE limit_release.tranche SET promised_by = restored_at - interval '1 second' "
    "WHERE restored_at IS NOT NULL",
    "currency_matches": "UPDATE limit_release.repayment SET currency = 'USD'",
    "steps_in_order": "UPDATE lag_monitor.part SET restored_at = restored_at - interval '1 second'",
    "dead_letters_accounted": LETTER.format("", 99, ""),
}
OPEN_DOORS = """
DO $$ DECLARE c record; BEGIN
  FOR c IN SELECT conrelid::regclass AS at, conname FROM pg_constraint
           WHERE contype = 'c' AND connamespace = ANY (ARRAY['settlement', 'limit_release', 'lag_monitor', 'console',
             current_schema()]::regnamespace[]) LOOP
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.at, c.conname);
  END LOOP;
END $$
"""


async def honest_books(settings: Settings) -> None:
    """Leave an account with a restored and two held tranches."""
    async with role(settings, "limit_release") as connection:
        feed = await Feed(LIMIT_RELEASE, settings, connection).start()
        far = [part._replace(due_at=builders.SECOND_HOLD_UNTIL.replace(year=2030)) for part in _parts()[1:]]
        await feed.deliver(builders.account_opened(credit_limit_minor=1_000_000), builders.purchase_posted())
        await feed.deliver(builders.risk_assessed(tranches=(_parts()[0], *far)))


def _parts() -> tuple[Tranche, ...]:
    return builders.risk_assessed().tranches


async def planted(settings: Settings, statement: str, schema: str = "limit_release") -> set[str]:
    async with owner(settings) as connection:
        await connection.execute(f"SET search_path = {schema}; SET session_replication_role = replica")
        await connection.execute(OPEN_DOORS)
        await connection.execute(statement)
    return set(await violations(settings))


async def test_every_invariant_view_has_a_planted_violation_here(settings: Settings) -> None:
    query = "SELECT schemaname, viewname FROM pg_views WHERE viewname LIKE 'invariant\\_%'"
    async with owner(settings) as connection:
        views = {
            (row["schemaname"], row["viewname"].removeprefix("invariant_")) for row in await connection.fetch(query)
        }
    everywhere = {(worker.package, name) for worker in EVERYONE for name in SHARED}
    ledgers = {("limit_release", name) for name in LEDGER} | {("settlement", name) for name in DEBT}
    ledgers |= {("lag_monitor", name) for name in (*LAG, *JOINED)} | {("console", name) for name in CASES}
    ledgers |= {("risk_scoring", name) for name in RISK}
    assert views == everywhere | ledgers


async def test_honest_books_violate_nothing(settings: Settings) -> None:
    await honest_books(settings)
    assert await violations(settings) == {}


@pytest.mark.parametrize("name", LEDGER)
async def test_a_planted_violation_of_the_ledger_is_named(settings: Settings, name: str) -> None:
    await honest_books(settings)
    assert f"limit_release.invariant_{name}" in await planted(settings, LEDGER[name])


@pytest.mark.parametrize("name", DEBT)
async def test_a_planted_violation_of_the_debt_is_named(settings: Settings, name: str) -> None:
    async with role(settings, "settlement") as connection:
        feed = await Feed(SETTLEMENT, settings, connection).start()
        await feed.deliver(builders.account_opened(), builders.purchase_posted())
    assert await violations(settings) == {}
    assert await planted(settings, DEBT[name], "settlement") == {f"settlement.invariant_{name}"}


@pytest.mark.parametrize("name", RISK)
async def test_a_planted_violation_of_what_is_exposed_is_named(settings: Settings, name: str) -> None:
    async with role(settings, "risk_scoring") as connection:
        feed = await Feed(RISK_SCORING, settings, connection).start()
        await feed.deliver(builders.repayment_settled(final_on=utc_now().date() + timedelta(days=60)))
    assert await violations(settings) == {}
    assert await planted(settings, RISK[name], "risk_scoring") == {f"risk_scoring.invariant_{name}"}


@pytest.mark.parametrize("name", LAG)
async def test_a_planted_violation_of_the_lag_is_named(settings: Settings, name: str) -> None:
    async with role(settings, "lag_monitor") as connection:
        feed = await Feed(LAG_MONITOR, settings, connection).start()
        record = builders.decision_record(held=())
        await feed.deliver(builders.repayment_reported(), builders.repayment_received(), builders.risk_assessed())
        restored = builders.credit_restored(record=record)
        told_at = restored.restored_at + timedelta(seconds=2)
        asked = builders.notification_requested(caused_by=restored.caused_by, occurred_at=restored.restored_at)
        await feed.deliver(restored, asked, builders.notification_delivered(occurred_at=told_at))
    assert await violations(settings) == {}
    assert await planted(settings, LAG[name], "lag_monitor") == {f"lag_monitor.invariant_{name}"}


@pytest.mark.parametrize(
    "hole",
    [
        "UPDATE lag_segment SET from_at = from_at + interval '1 ms' WHERE n = 2",
        # A gap before and as long an overlap after: the sum and both ends stay right.
        "UPDATE lag_segment SET from_at = from_at + interval '1 ms', to_at = to_at + interval '1 ms' WHERE n = 2",
        "UPDATE lag_segment SET n = CASE n WHEN 1 THEN 102 ELSE 101 END WHERE n IN (1, 2)",
        "DELETE FROM lag_segment WHERE n = 1",
        "DELETE FROM lag_segment",
        "UPDATE restoration_fact SET unattributed_ms = 1",
    ],
)
async def test_a_hole_between_segments_is_named(settings: Settings, hole: str) -> None:
    async with role(settings, "lag_monitor") as connection:
        feed = await Feed(LAG_MONITOR, settings, connection).start()
        await feed.deliver(builders.repayment_received(), builders.risk_assessed(), builders.credit_restored())
    assert await violations(settings) == {}
    assert await planted(settings, hole, "lag_monitor") == {"lag_monitor.invariant_lag_tiles"}


@pytest.mark.parametrize("name", CASES)
async def test_a_planted_violation_of_the_case_lane_is_named(settings: Settings, name: str) -> None:
    async with role(settings, "console") as connection:
        feed = await Feed(CONSOLE, settings, connection).start()
        await feed.deliver(builders.restoration_delayed(), builders.repayment_conflicted())
        release = ReleaseHold(builders.ACCOUNT, "reviewer_1", "why", builders.REPAYMENT, 1)
        await feed.apply(Batch(taken=monotonic(), arrived=[Arrived(release, 0, utc_now())]))
    assert await violations(settings) == {}
    assert await planted(settings, CASES[name], "console") == {f"console.invariant_{name}"}


async def test_a_case_nobody_opened_or_that_never_closes_is_named(settings: Settings) -> None:
    async with role(settings, "console") as connection:
        feed = await Feed(CONSOLE, settings, connection).start()
        await feed.deliver(builders.restoration_delayed())
        case = await feed.value("SELECT case_id FROM case_file")
        resolve = MoveCase(builders.ACCOUNT, "agent_1", "checked", case, "resolve", "explained")
        await feed.apply(Batch(taken=monotonic(), arrived=[Arrived(resolve, 0, utc_now())]))
    assert await violations(settings) == {}
    assert await planted(settings, "DELETE FROM timers WHERE kind = 'case_closes'", "console") == {
        "console.invariant_case_waits"
    }
    gone = "DELETE FROM inbox; DELETE FROM case_step WHERE n = 2"
    assert await planted(settings, gone, "console") >= {"console.invariant_case_opened", "console.invariant_case_lane"}


async def repaid(relayed: Relay) -> None:
    """Let one repayment be reported, with what billing tells of its account before."""
    now = to_millisecond(utc_now())
    await relayed.tell(
        builders.account_opened(credit_limit_minor=1_000_000),
        builders.purchase_posted(amount_minor=600_000),
        builders.repayment_reported(amount_minor=200_000, repaid_at=now - timedelta(minutes=1), occurred_at=now),
    )


async def gauged(settings: Settings) -> set[str]:
    """Return what the observer's timer finds broken, asked as its own role."""
    async with role(settings, "lag_monitor") as connection:
        found = await gauges.invariants(connection)
    return {labels[0] for (_, labels), count in found.items() if count}


@pytest.mark.parametrize("name", JOINED)
async def test_a_planted_violation_of_what_joins_services_is_a_gauge(settings: Settings, name: str) -> None:
    async with relay(settings) as relayed:
        await repaid(relayed)
    assert await violations(settings) == {}
    assert await gauged(settings) == set()
    assert f"lag_monitor.invariant_{name}" in await planted(settings, JOINED[name], "lag_monitor")
    assert f"lag_monitor.{name}" in await gauged(settings)


OLDER = "UPDATE limit_release.decision_record SET decided_at = decided_at - interval '2 minutes'"
AGAIN = """
INSERT INTO limit_release.decision_record
SELECT repayment_id, version + 1, account_id, decided_at, record FROM limit_release.decision_record
"""
SEVENTH = "UPDATE limit_release.decision_record SET version = 7"
YOUNG = "UPDATE limit_release.decision_record SET decided_at = clock_timestamp() WHERE version = 2"
UNBOOKED = "DELETE FROM limit_release.journal WHERE kind = 'SETTLE'"
RETURNED = "UPDATE limit_release.repayment SET returned = true"
NOTHING = "UPDATE settlement.repayment SET restorable_minor = 0"
UNASSESSED = "UPDATE limit_release.repayment SET assessed = false"


@pytest.mark.parametrize(
    ("statements", "found"),
    [
        ((OLDER, AGAIN), {"restored_is_told"}),
        ((OLDER, SEVENTH, AGAIN), {"restored_is_told"}),
        ((OLDER, AGAIN, YOUNG), set()),
        (("DELETE FROM notifier.notification",), set()),
        ((UNBOOKED,), {"settled_is_booked"}),
        ((UNBOOKED, RETURNED), set()),
        ((UNBOOKED, NOTHING), set()),
        ((UNBOOKED, NOTHING, UNASSESSED), {"settled_is_booked"}),
    ],
)
async def test_what_narrows_a_view_leaves_nothing_out(
    settings: Settings, statements: tuple[str, ...], found: set[str]
) -> None:
    """A second decision that nobody was told of, and a settlement without its journal; the young and the explained."""
    async with relay(settings) as relayed:
        await repaid(relayed)
    seen = await planted(settings, "; ".join(statements), "lag_monitor")
    asked = {"restored_is_told", "settled_is_booked"}
    assert {view.partition(".invariant_")[2] for view in seen} & asked == found


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE journal SET available_minor = available_minor + 1 WHERE kind = 'RELEASE'",
        "UPDATE journal SET ref = 'of_nobody:1' WHERE kind = 'RELEASE'",
        "UPDATE tranche SET restored_at = NULL WHERE restored_at IS NOT NULL",
        """INSERT INTO journal SELECT kind, ref, 'another', limit_minor, available_minor, used_debt_minor,
        used_authorisation_minor, pending_minor, booked_at FROM journal WHERE kind = 'RELEASE'""",
    ],
)
async def test_a_release_that_is_no_tranches_is_named(settings: Settings, statement: str) -> None:
    await honest_books(settings)
    assert "limit_release.invariant_restored_once" in await planted(settings, statement)


@pytest.mark.parametrize("stopped", [worker.name for worker in EVERYONE])
async def test_what_waits_for_a_service_that_stands_still_is_no_violation(settings: Settings, stopped: str) -> None:
    async with relay(settings, {stopped}) as relayed:
        await repaid(relayed)
        await relayed.tell(builders.repayment_return_reported())
    longer = "UPDATE limit_release.decision_record SET decided_at = decided_at - interval '2 minutes'"
    assert await planted(settings, longer) == set()


async def test_what_never_came_is_a_violation_a_day_later(settings: Settings) -> None:
    async with relay(settings, {"limit-release"}) as relayed:
        await repaid(relayed)
    assert await violations(settings) == {}
    later = "UPDATE {}.outbox SET occurred_at = occurred_at - interval '1 day'"
    statement = "; ".join(later.format(package) for package in ("settlement", "risk_scoring"))
    assert await planted(settings, statement) == {"lag_monitor.invariant_settled_is_booked"}


async def test_debts_are_compared_while_an_overpayment_is_held_too(settings: Settings) -> None:
    async with relay(settings) as relayed:
        await repaid(relayed)
        now = to_millisecond(utc_now())
        again = {"external_ref": "again", "amount_minor": 500_000, "repaid_at": now, "occurred_at": now}
        await relayed.tell(builders.repayment_reported(**again, event_id="again"))
        held = "SELECT credit_balance_minor FROM limit_release.repayment WHERE NOT joined AND credit_balance_minor > 0"
        assert await relayed.feeds["limit-release"].value(held) == 100_000
    assert await violations(settings) == {}


async def test_a_letter_that_was_never_sent_on_is_named_a_minute_later(settings: Settings) -> None:
    async with relay(settings) as relayed:
        await repaid(relayed)
    old = LETTER.format(", first_seen_at", 0, ", clock_timestamp() - interval '61 seconds'")
    fresh = LETTER.format(", first_seen_at", 1, ", clock_timestamp()")
    assert await planted(settings, fresh) == {"settlement.invariant_no_offset_skipped"}
    assert "lag_monitor.invariant_dead_letters_accounted" in await planted(settings, old)


@pytest.mark.parametrize("package", [worker.package for worker in EVERYONE])
@pytest.mark.parametrize("name", SHARED)
async def test_a_planted_violation_of_the_transport_is_named(settings: Settings, package: str, name: str) -> None:
    worker = next(worker for worker in EVERYONE if worker.package == package)
    async with role(settings, package) as connection:
        await Feed(worker, settings, connection).start()
    assert await planted(settings, SHARED[name].format(schema=package)) == {f"{package}.invariant_{name}"}
