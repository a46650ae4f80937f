"""What watches a real pipeline under faults: every panel has data, the figures are the ledger's, a stall is seen."""

import asyncio
import math
import os
import re
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import pytest

from services.billing_simulator.load import Load, accounts_plan, load_plan, repayments_plan
from services.billing_simulator.send import play
from services.cli.system import System, open_system, provision, start_probe, start_workers, wait_ready
from services.cli.windows import start_picture
from services.cli.workers import EVERYONE, WORKERS
from services.lag_monitor import PICTURE, PROBE
from services.metrics.catalogue import SECONDS
from services.runtime.clock import monotonic
from services.runtime.postgres import Connection
from services.runtime.settings import Settings
from tests.conftest import cache_dir, run_apart
from tests.e2e.books import settled
from tests.e2e.panels import promql, record, rows
from tests.e2e.prometheus import Prometheus, prometheus
from tests.grafana import Shown, queries
from tests.integration.support import owner, violations

pytestmark = [pytest.mark.debian, pytest.mark.timeout(900)]
RATE: Final = 20.0
REPAYMENTS: Final = 500
STALLED: Final = "risk-scoring"
STALLED_REPAYMENTS: Final = 40
SEEN_SECONDS_MAX: Final = 150.0
"""A stall of one worker is to be seen within this time."""
SETTLE_SECONDS: Final = 120.0
COUNTED_SECONDS: Final = 30.0
SERIES_MAX: Final = 3_000
PARTITIONS: Final = 6
NOTHING_IS_GOOD: Final = {
    "Oldest in the outbox": "Kafka acknowledges within a scrape",
    "Stamps moved": "one clock",
    "At once beside the tier with most": "so few of a tier and rail are not compared",
    "Relief": "no shipped profile allows any",
    "Spent for relief": "no shipped profile allows any",
}
"""Panels that may be empty in a run in which nothing of theirs went wrong."""
HELD: Final = Load(
    seed=9,
    run="held",
    accounts=1,
    count=30,
    rate=RATE,
    duplicate=0.0,
    swaps=0.0,
    rails=(("direct_debit", 1.0),),
    product="default",
)
"""One customer's direct debits, together over the cap: what is over it is held for days."""
ID: Final = re.compile(r"[0-9a-f]{32}|acct_|rep_|[0-9a-f]{8}-[0-9a-f]{4}")
# What the counters count, by SQL over the facts themselves.
BUCKETS: Final = (
    "SELECT count(*) FILTER (WHERE lag_ms <= $1) FROM lag_monitor.restoration_fact WHERE account_id <> 'probe'"
)
TOTALS: Final = """
SELECT count(*) AS parts, sum(lag_ms) AS lag_ms, sum(amount_minor) AS minor, sum(amount_minor * lag_ms) AS withheld
FROM lag_monitor.restoration_fact WHERE account_id <> 'probe'
"""
BY_CAUSE: Final = """
SELECT split_part(s.cause, '.', 2) AS cause, sum(s.ms) AS ms
FROM lag_monitor.lag_segment s JOIN lag_monitor.restoration_fact f USING (repayment_id, tranche)
WHERE f.account_id <> 'probe' GROUP BY 1
"""
BY_PROMISE: Final = """
SELECT slo, outcome, count(*) AS n FROM lag_monitor.sla_promise
WHERE outcome IN ('met', 'breached') AND slo <> 'probe_60s' GROUP BY 1, 2
"""


@dataclass(frozen=True)
class Watched:
    """A pipeline with a stalled worker, and the Prometheus that watches it."""

    system: System
    prometheus: Prometheus
    seen_seconds: float


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Run a stack of its own: its workers are killed and stopped."""
    asked = Settings(
        state_dir=tmp_path_factory.mktemp("watching") / "state",
        cache_dir=cache_dir(),
        partitions=PARTITIONS,
        dead_letter_share_max=0.2,
        dead_letters_in_a_row_max=1_000,
    )
    system = open_system(asked)
    try:
        run_apart(provision(system.settings))
        yield system
    finally:
        system.stack.down()


@pytest.fixture(scope="module")
def watched(alone: System, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Watched]:
    """Play a load with a killed worker, then let one stand still until Prometheus says so; record it when asked to."""
    with prometheus(tmp_path_factory.mktemp("prometheus")) as server:
        ports = {**start_workers(alone, EVERYONE), PICTURE: start_picture(alone)}
        run_apart(wait_ready(ports))
        server.scrape(ports)
        start_probe(alone)
        run_apart(_tormented(alone))
        alone.stack.stop([STALLED])
        seen_seconds = run_apart(_stalled(alone, server))
        if path := pytestconfig.getoption("--panels"):
            record(alone, server, path)
        yield Watched(alone, server, seen_seconds)


async def _tormented(system: System) -> None:
    load = Load(seed=7, run="watched", count=REPAYMENTS, rate=RATE, returns=0.05, poison=0.01)
    await play(system.settings, accounts_plan(load))
    sending = asyncio.create_task(play(system.settings, repayments_plan(load)))
    for victim in ("settlement", "lag-monitor", "limit-release"):
        await asyncio.sleep(REPAYMENTS / RATE / 4)
        (pid,) = [each.pid for each in system.stack.processes() if each.name == victim]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    await sending
    await settled(system.settings, SETTLE_SECONDS)
    await play(system.settings, load_plan(HELD))
    await settled(system.settings, SETTLE_SECONDS, but="held tranches")


async def _stalled(system: System, server: Prometheus) -> float:
    """Send what nobody assesses; return after how long the alert fires."""
    load = Load(seed=8, run="stalled", count=STALLED_REPAYMENTS, rate=RATE, duplicate=0.0, swaps=0.0)
    await play(system.settings, accounts_plan(load))
    began = monotonic()
    await play(system.settings, repayments_plan(load))
    while not server.now('ALERTS{alertname="CreditRestoreStuck", alertstate="firing", stage="risk"}'):
        assert monotonic() - began < 2 * SEEN_SECONDS_MAX, server.now("ALERTS")
        await asyncio.sleep(1)
    return monotonic() - began


def asked(shown: Shown, server: Prometheus) -> list[tuple[Mapping[str, str], float]]:
    """Return what a panel's query gives, as Grafana would send it with everything chosen."""
    text = promql(shown, server)
    found = server.now(text) if shown.target.get("instant") else server.since_the_start(text)
    return [(labels, value) for labels, value in found if not math.isnan(value)]


def test_a_stall_is_seen_in_time(watched: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\nCreditRestoreStuck fires {watched.seen_seconds:.0f} s after the first repayment nobody assessed")
    assert watched.seen_seconds <= SEEN_SECONDS_MAX


def test_every_panel_has_data(watched: Watched) -> None:
    empty = {shown.name for shown in queries(sql=False) if not asked(shown, watched.prometheus)}
    assert {name for name in empty if not any(title in name for title in NOTHING_IS_GOOD)} == set()


async def test_every_sql_panel_has_data(watched: Watched) -> None:
    assert {name for name, found in (await rows(watched.system)).items() if not found} == set()


def test_there_are_few_series_and_no_label_is_an_id(watched: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    (count,) = watched.prometheus.now("sum(scrape_samples_post_metric_relabeling)")
    with capsys.disabled():
        print(f"\n{count[1]:.0f} series of the whole system in {PARTITIONS} partitions, {SERIES_MAX} allowed")
    scraped = watched.prometheus.now("scrape_samples_post_metric_relabeling > 0")
    assert {labels["job"] for labels, _ in scraped} >= {PICTURE, *(worker.name for worker in EVERYONE)} - {STALLED}
    assert 0 < count[1] <= SERIES_MAX
    series = watched.prometheus.now('{__name__=~"credit_.+"}')
    assert len(series) > 1_000
    assert not [value for labels, _ in series for value in labels.values() if ID.search(value)]


def test_a_slow_repayment_leads_to_its_trace(watched: Watched) -> None:
    found = watched.prometheus.exemplars("credit_restoration_lag_seconds_bucket")
    assert found
    assert all(re.fullmatch(r"[0-9a-f]{32}", exemplar["labels"]["trace_id"]) for exemplar in found)


async def test_the_figures_are_the_ledger_s(watched: Watched) -> None:
    system, server = watched.system, watched.prometheus
    await _going_on(system, server)
    async with owner(system.settings) as connection:
        facts = await connection.fetchrow(TOTALS)
        buckets = {edge: await connection.fetchval(BUCKETS, round(edge * 1000)) for edge in SECONDS if edge >= 0.005}
        causes = {row["cause"]: row["ms"] for row in await connection.fetch(BY_CAUSE)}
        promises = await _promises(connection)
    assert facts["parts"] > REPAYMENTS / 2
    assert _one(server, "sum(credit_restorations_total)") == facts["parts"]
    assert _one(server, "sum(credit_restoration_lag_seconds_sum)") == pytest.approx(float(facts["lag_ms"]) / 1000)
    assert _one(server, "sum(credit_restored_minor_units_total)") == facts["minor"]
    assert _one(server, "sum(credit_withheld_minor_seconds_total)") == pytest.approx(float(facts["withheld"]) / 1000)
    assert _one(server, "sum(credit_unattributed_ms_total)") == 0
    le = server.now("sum by (le) (credit_restoration_lag_seconds_bucket)")
    assert {float(labels["le"]): value for labels, value in le if float(labels["le"]) in buckets} == buckets
    spent = server.now("sum by (cause) (credit_restoration_attributed_seconds_total) > 0")
    assert {labels["cause"]: round(1000 * value) for labels, value in spent} == causes
    assert _kept(server) == promises
    assert await violations(system.settings) == {}


async def _going_on(system: System, server: Prometheus) -> None:
    """Let the stalled worker work again, and wait until everything is in the books and scraped.

    A notice is sent after its credit is back: its promise may be counted, and scraped, later than the last part.
    """
    system.stack.stop([PROBE])
    ports = start_workers(system, [worker for worker in WORKERS if worker.name == STALLED])
    await wait_ready(ports)
    await settled(system.settings, SETTLE_SECONDS, but="held tranches")
    deadline = monotonic() + COUNTED_SECONDS
    async with owner(system.settings) as connection:
        while (_one(server, "sum(credit_restorations_total)"), _kept(server)) != (
            (await connection.fetchrow(TOTALS))["parts"],
            await _promises(connection),
        ):
            assert monotonic() < deadline, "the counters are behind the ledger"
            await asyncio.sleep(1)


async def _promises(connection: Connection) -> dict[tuple[str, str], int]:
    return {(row["slo"], row["outcome"]): row["n"] for row in await connection.fetch(BY_PROMISE)}


def _kept(server: Prometheus) -> dict[tuple[str, str], float]:
    kept = server.now("sum by (slo, outcome) (credit_sla_outcomes_total) > 0")
    return {(labels["slo"], labels["outcome"]): value for labels, value in kept}


def _one(server: Prometheus, expression: str) -> float:
    ((_, value),) = server.now(expression)
    return value
