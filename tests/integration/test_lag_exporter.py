"""What is scraped is what the ledger says, and one process at a time says it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition, parser
from prometheus_client.parser import text_string_to_metric_families

from services.cli.workers import EVERYONE
from services.lag_monitor import exporter, gauges, sweeper
from services.lag_monitor import watch as watching
from services.lag_monitor.exporter import Ledger
from services.lag_monitor.watch import LOCK, STANDBY_SECONDS, Watch
from services.lag_monitor.worker import WORKER
from services.metrics.catalogue import BY_NAME, METRICS
from services.runtime.clock import monotonic, utc_now
from services.runtime.postgres import SESSION
from services.runtime.settings import Settings
from tests import builders
from tests.benchmarks.ledger import FACTS, JOURNEYS, SEGMENTS
from tests.integration.conftest import MakeFeed
from tests.integration.support import Feed, owner, role
from tests.integration.test_lag_counters import projected, soon
from tests.unit.test_lag_ledger import EVERYTHING, observed

Scraped = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]
OPEN_METRICS: Callable[[CollectorRegistry], bytes] = exposition.generate_latest
PARSED: Callable[[str], Any] = parser.text_string_to_metric_families
SERIES_MAX = 3_000
TAKE_OVER_SECONDS = 10.0
RESTORED = "credit_restorations_total"
SET_ASIDE_IN = {
    "repayment_ingest": "ingest",
    "settlement": "settlement",
    "risk_scoring": "risk",
    "limit_release": "release",
    "notifier": "notify",
    "console": "console",
}


def registry(snapshot: exporter.Snapshot | None) -> CollectorRegistry:
    ledger, found = Ledger(), CollectorRegistry()
    ledger.snapshot = snapshot
    found.register(ledger)
    return found


async def scraped(connection: Any) -> Scraped:
    """Return what a scrape gives, by sample name and labels."""
    text = generate_latest(registry(await exporter.read(connection))).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Scraped, name: str, **labels: str) -> float | None:
    return found.get((name, tuple(sorted(labels.items()))))


def total(found: Scraped, name: str) -> float:
    return sum(value for (sample, _), value in found.items() if sample == name)


async def test_counters_and_buckets_are_scraped_as_the_ledger_has_them(feed_of: MakeFeed) -> None:
    feed = await feed_of(WORKER)
    await feed.deliver(*EVERYTHING)
    await projected(feed.connection)
    found = await scraped(feed.connection)
    facts = [fact for journey in observed(EVERYTHING).values() for fact in journey.facts]
    seconds = sum(fact.lag.milliseconds for fact in facts) / 1000
    assert total(found, "credit_restoration_lag_seconds_count") == len(facts)
    assert total(found, "credit_restoration_lag_seconds_sum") == pytest.approx(seconds)
    assert total(found, "credit_restoration_attributed_seconds_total") == pytest.approx(seconds)
    assert total(found, "credit_restorations_total") == len(facts)
    assert value(found, "credit_unattributed_ms_total") == 0
    held = [fact.lag for fact in facts if fact.lag.cause == "risk_observation.risk_hold"]
    within = {"cause": "risk_hold", "tier": "unknown", "le": "172800.0"}
    assert value(found, "credit_restoration_lag_seconds_bucket", **within) == sum(
        lag.milliseconds <= 172_800_000 for lag in held
    )


async def test_an_empty_ledger_begins_at_nothing_and_says_so(settings: Settings) -> None:
    async with role(settings, "lag_monitor") as connection:
        found = await scraped(connection)
    assert value(found, "credit_restorations_total", tier="low") == 0
    assert value(found, "credit_sla_outcomes_total", slo="decided_60s", outcome="breached") == 0
    assert value(found, "credit_lag_projection_delay_seconds") == 0
    assert not [name for name, _ in found if name == "credit_oldest_pending_repaid_timestamp_seconds"]


async def test_a_process_that_does_not_lead_exports_nothing() -> None:
    assert generate_latest(registry(None)) == b""


async def test_every_family_and_label_is_the_catalogue_s(feed_of: MakeFeed) -> None:
    feed = await feed_of(WORKER)
    await feed.deliver(*EVERYTHING)
    await projected(feed.connection)
    snapshot = await exporter.read(feed.connection)
    families = list(registry(snapshot).collect())
    assert {family.name for family in families} == {metric.family for metric in METRICS if metric.origin != "worker"}
    for family in families:
        (metric,) = [metric for metric in METRICS if metric.family == family.name]
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels)
    assert {name for name, _ in snapshot.gauges} <= {name for name, each in BY_NAME.items() if each.kind == "gauge"}
    assert sum(len(family.samples) for family in families) <= SERIES_MAX


async def test_ten_thousand_repayments_add_no_series_and_no_label(settings: Settings) -> None:
    async with owner(settings) as connection, role(settings, "lag_monitor") as reader:
        await filled(connection, reader, journeys=100, facts=50)
        few = (await scraped(reader)).keys()
        await connection.execute("TRUNCATE lag_monitor.journey")
        await filled(connection, reader, journeys=10_000, facts=10_000, named="m")
        found = await scraped(reader)
        ids = set(await connection.fetchval("SELECT array_agg(repayment_id) FROM lag_monitor.restoration_fact"))
    assert total(found, "credit_restorations_total") == len(ids) == 10_050
    assert found.keys() == few
    assert not [label for _, labels in found for label in labels if label[1] in ids]


async def filled(connection: Any, reader: Any, *, journeys: int, facts: int, named: str = "f") -> None:
    """Add journeys, every second of which waits, and restored parts, and count them."""
    await connection.execute(JOURNEYS, journeys, 2)
    await connection.execute(FACTS, facts, named)
    await connection.execute(SEGMENTS, facts, named)
    await projected(reader)


async def test_exemplars_carry_the_fact_s_own_instant_and_trace(feed_of: MakeFeed) -> None:
    feed = await feed_of(WORKER)
    await feed.deliver(builders.repayment_received(), builders.risk_assessed(), builders.credit_restored())
    await projected(feed.connection)
    text = OPEN_METRICS(registry(await exporter.read(feed.connection))).decode()
    found = [sample.exemplar for family in PARSED(text) for sample in family.samples if sample.exemplar is not None]
    restored_at = builders.credit_restored().restored_at
    (exemplar,) = found
    assert exemplar.labels == {"trace_id": builders.REPAYMENT}
    assert float(exemplar.timestamp) == pytest.approx(restored_at.timestamp())


async def test_what_waits_is_told_by_where_why_and_how_long(feed_of: MakeFeed) -> None:
    feed = await feed_of(WORKER)
    repaid_at = soon(minutes=10)
    await feed.deliver(builders.repayment_received(repaid_at=repaid_at))
    found = await scraped(feed.connection)
    ours = {"stage": "settlement", "cause_class": "system_delay"}
    assert value(found, "credit_pending_repayments", tier="unknown", **ours) == 1
    assert value(found, "credit_pending_amount_minor_units", currency="CNY", **ours) == 500_000
    received = builders.repayment_received(repaid_at=repaid_at)
    oldest = value(found, "credit_oldest_pending_repaid_timestamp_seconds", **ours)
    assert oldest == pytest.approx(received.occurred_at.timestamp())


async def test_a_hold_counts_as_held_and_after_its_date_as_ours(feed_of: MakeFeed) -> None:
    feed = await feed_of(WORKER)
    until = utc_now() + timedelta(hours=1)
    await feed.deliver(builders.repayment_received(), builders.risk_assessed(), builders.hold_placed(until=until))
    found = await scraped(feed.connection)
    assert value(found, "credit_held_tranches", cause="risk_hold") == 1
    where = {"tier": "medium", "stage": "release"}
    assert value(found, "credit_pending_repayments", cause_class="risk_observation", **where) == 1
    late = builders.hold_placed(until=soon(minutes=1))
    await feed.deliver(late)
    found = await scraped(feed.connection)
    assert value(found, "credit_pending_repayments", cause_class="system_delay", **where) == 1
    oldest = {"stage": "release", "cause_class": "system_delay"}
    assert value(found, "credit_oldest_pending_repaid_timestamp_seconds", **oldest) == late.until.timestamp()


async def test_dead_letters_unsent_events_and_imbalance_are_read_from_every_service(settings: Settings) -> None:
    since = soon(seconds=40)
    async with owner(settings) as connection:
        for package in SET_ASIDE_IN:
            await connection.execute(f"SET search_path = {package}")
            await connection.execute(
                'INSERT INTO set_aside (kind, topic, partition, "offset", broker_at, headers, reason, build) '
                "VALUES ('dead_letter', 't', 0, 0, now(), '[]', 'invalid:amount_minor:int', '1')"
            )
            await connection.execute("INSERT INTO publication (partitions, created_at) VALUES ('{0}', $1)", since)
    async with role(settings, "lag_monitor") as reader:
        found = await scraped(reader)
        broken = await gauges.invariants(reader)
    for package, stage in SET_ASIDE_IN.items():
        service = package.replace("_", "-")
        assert value(found, "credit_dead_letters", stage=stage, reason="invalid") == 1
        assert value(found, "credit_outbox_unpublished", service=service) == 1
        assert value(found, "credit_outbox_oldest_timestamp_seconds", service=service) == since.timestamp()
        assert broken["credit_invariant_violations", (f"{package}.outbox_drained",)] == 1
    letters = ("lag_monitor.dead_letters_accounted",)
    assert broken["credit_invariant_violations", letters] == len(SET_ASIDE_IN), "nobody has read so far"
    assert sum(broken.values()) == 2 * len(SET_ASIDE_IN)


async def test_what_each_service_reads_is_looked_at_the_console_s_too(settings: Settings) -> None:
    for worker in EVERYONE:
        async with role(settings, worker.package) as connection:
            await Feed(worker, settings, connection).start()
    async with role(settings, "lag_monitor") as reader:
        found = {(row["service"], row["topic"]) for row in await reader.fetch(watching.READING)}
    assert found == {(worker.name, topic) for worker in EVERYONE for topic in worker.topics}


async def test_a_promise_that_is_overdue_is_told_until_its_object_comes(feed_of: MakeFeed) -> None:
    feed = await feed_of(WORKER)
    event = builders.repayment_settled(settled_at=soon(seconds=90))
    await feed.deliver(builders.repayment_received(), event)
    assert await sweeper.sweep(feed.connection, utc_now()) == 1
    found = await scraped(feed.connection)
    overdue = {"slo": "decided_60s", "cause": "kafka_queue"}
    assert value(found, "credit_sla_overdue", **overdue) == 1
    await feed.deliver(builders.risk_assessed(), builders.hold_placed(until=utc_now() + timedelta(days=1)))
    assert value(await scraped(feed.connection), "credit_sla_overdue", **overdue) == 0


@asynccontextmanager
async def candidate(settings: Settings) -> AsyncIterator[Watch]:
    """Run one process's watch."""
    watch = Watch(settings)
    watch.ledger = Ledger()
    await watch.start()
    try:
        yield watch
    finally:
        await watch.stop()


async def until(true: Callable[[], bool]) -> float:
    """Wait for something; return the seconds it took."""
    began = monotonic()
    while not true():
        assert monotonic() - began < 60
        await asyncio.sleep(0.05)
    return monotonic() - began


def restorations(watch: Watch) -> float | None:
    snapshot = watch.ledger.snapshot
    return None if snapshot is None else sum(n for (name, _), n in snapshot.counts.items() if name == RESTORED)


async def test_one_leads_and_another_takes_over_without_a_jump_in_any_counter(
    feed_of: MakeFeed, empty_kafka: Settings
) -> None:
    feed = await feed_of(WORKER)
    await feed.deliver(*EVERYTHING)
    await projected(feed.connection)
    facts = sum(len(journey.facts) for journey in observed(EVERYTHING).values())
    took = await taken_over(empty_kafka, facts)
    assert took < TAKE_OVER_SECONDS


async def taken_over(settings: Settings, facts: int) -> float:
    """Let one of two lead, cut its session off; return the seconds until one leads and exports again."""
    async with candidate(settings) as first:
        await until(lambda: restorations(first) == facts)
        async with candidate(settings) as second:
            await asyncio.sleep(2 * STANDBY_SECONDS)
            assert (second.leads, second.ledger.snapshot) == (False, None), "a standby exports nothing"
            await cut_off(settings)
            took = await until(
                lambda: (first.leads or second.leads) and facts in (restorations(first), restorations(second))
            )
            assert {restorations(each) for each in (first, second)} <= {None, facts}
    return took


async def test_what_breaks_while_one_leads_is_exported_by_its_timer_and_so_is_its_mending(
    empty_kafka: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "INVARIANT_SECONDS", 0.1)
    monkeypatch.setattr(watching, "EXPORT_SECONDS", 0.1)
    unsent = ("credit_invariant_violations", ("notifier.outbox_drained",))
    async with candidate(empty_kafka) as leader, owner(empty_kafka) as connection:

        def counted() -> float | None:
            return None if leader.ledger.snapshot is None else leader.ledger.snapshot.gauges.get(unsent)

        await until(lambda: counted() == 0)
        plant = "INSERT INTO notifier.publication (partitions, created_at) VALUES ('{0}', $1)"
        await connection.execute(plant, soon(seconds=40))
        await until(lambda: counted() == 1)
        await connection.execute("UPDATE notifier.publication SET published_at = clock_timestamp()")
        await until(lambda: counted() == 0)


async def test_a_check_of_the_books_that_takes_long_holds_nothing_up(
    empty_kafka: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def for_ever(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(gauges, "invariants", for_ever)
    monkeypatch.setattr(watching, "EXPORT_SECONDS", 0.1)
    async with candidate(empty_kafka) as leader:
        await until(lambda: restorations(leader) is not None)
        first = leader.ledger.snapshot
        await until(lambda: leader.ledger.snapshot is not first)
        assert leader.leads


async def test_the_books_are_checked_by_the_plan_that_is_best_for_all_of_them(settings: Settings) -> None:
    """A worker's session finds rows by key: asked so, 16,000 repayments took longer than a statement may."""
    async with role(settings, "lag_monitor") as connection:
        (found,) = await connection.fetch("SELECT proconfig FROM pg_proc WHERE proname = 'invariant_counts'")
        known = {setting.split("=")[0] for setting in SESSION if setting.startswith("enable_")}
        assert known
        assert {f"{name}=on" for name in known} <= set(found["proconfig"])


async def cut_off(settings: Settings) -> None:
    """End the leader's session as a lost process would."""
    async with owner(settings) as connection:
        gone = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND granted"
        assert await connection.fetchval(gone, LOCK)
