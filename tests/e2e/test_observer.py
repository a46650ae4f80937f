"""The observer beside the five workers: every restored tranche of the named stories is measured to the millisecond."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from schemas.ids import repayment_id
from services.billing_simulator.scenarios import SCENARIOS, scenario, together
from services.billing_simulator.send import play
from services.cli import pause
from services.cli.checks import examine
from services.cli.system import System, start_workers, wait_ready
from services.cli.workers import OBSERVERS, WORKERS
from services.lag_monitor.probe import Probe
from services.runtime.clock import monotonic
from tests.conftest import run_apart
from tests.integration.support import owner, violations

SECONDS = 60.0
LAG_MONITOR = "lag-monitor"
PORTS: dict[str, int] = {}
# Tranches limit-release restored, beside what the observer measured of them.
MEASURED = """
SELECT t.repayment_id, t.number, t.restored_at, f.restored_at AS told_at, r.repaid_at,
  f.lag_ms, (SELECT sum(ms) FROM lag_monitor.lag_segment s WHERE s.repayment_id = t.repayment_id
    AND s.tranche = t.number) AS segments_ms
FROM limit_release.tranche t
JOIN limit_release.repayment r USING (repayment_id)
LEFT JOIN lag_monitor.restoration_fact f ON f.repayment_id = t.repayment_id AND f.tranche = t.number
WHERE t.restored_at IS NOT NULL AND t.account_id <> 'probe'
"""
SETTLEMENT_OF = """
SELECT cause, sum(ms) AS ms FROM lag_monitor.lag_segment WHERE repayment_id = $1 AND stage = 'settlement' GROUP BY 1
"""
WAITS_FOR_SETTLEMENT = "SELECT since FROM lag_monitor.journey WHERE repayment_id = $1 AND stage = 'settlement'"
WAITING = "SELECT count(*) FROM limit_release.tranche WHERE state IN ('held', 'parked')"


async def exported(restored: int) -> dict[str, float]:
    """Return the sums of what the observer exports once it has the probe's and every other restored part."""
    deadline = monotonic() + SECONDS
    url = f"http://127.0.0.1:{PORTS[LAG_MONITOR]}/metrics"
    async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:
        while True:
            found: dict[str, float] = {}
            for family in text_string_to_metric_families((await client.get(url)).text):
                for sample in family.samples:
                    found[sample.name] = found.get(sample.name, 0.0) + sample.value
            probed = found.get("credit_probe_roundtrip_seconds_count", 0)
            if probed and found["credit_restorations_total"] == restored:
                return found
            assert monotonic() < deadline, (restored, found.get("credit_restorations_total"), probed)
            await asyncio.sleep(1)


@pytest.fixture
def observed(workers: System) -> Iterator[System]:
    """Run the observer too."""
    ports = start_workers(workers, OBSERVERS)
    PORTS.update(ports)
    try:
        run_apart(wait_ready(ports))
        yield workers
    finally:
        workers.stack.stop(list(ports))


async def measured(system: System) -> list[dict[str, Any]]:
    """Return every restored tranche once none is held and all are measured."""
    deadline = monotonic() + SECONDS
    async with owner(system.settings) as connection:
        while True:
            rows = [dict(row) for row in await connection.fetch(MEASURED)]
            if rows and all(row["lag_ms"] is not None for row in rows) and not await connection.fetchval(WAITING):
                return rows
            assert monotonic() < deadline, rows
            await asyncio.sleep(0.5)


async def paused(system: System) -> dict[str, Any]:
    """Pause settlement around one repayment, and let it go on; return the milliseconds by cause of that stage."""
    settlement = next(worker for worker in WORKERS if worker.name == "settlement")
    one = scenario("paid_on_time", "paused")
    await asyncio.to_thread(pause._stop, system.settings, settlement)
    began = await pause._write(system.settings, pause.BEGIN, "settlement", "settlement", "tester", "drill")
    assert began is not None
    assert await pause._write(system.settings, pause.BEGIN, "settlement", "settlement", "tester", "drill") is None
    await play(system.settings, one.plan)
    await rows_of(system, WAITS_FOR_SETTLEMENT, repayment_id(*one.repayments[0].reference))
    assert await pause._write(system.settings, pause.END, "settlement", "tester: over") is not None
    await asyncio.to_thread(pause._start, system.settings, settlement)
    rows = await rows_of(system, SETTLEMENT_OF, repayment_id(*one.repayments[0].reference))
    return {row["cause"]: row["ms"] for row in rows}


async def rows_of(system: System, query: str, repayment: str) -> list[Any]:
    """Wait for a query about a repayment to have an answer."""
    deadline = monotonic() + SECONDS
    async with owner(system.settings) as connection:
        while not (rows := await connection.fetch(query, repayment)):
            assert monotonic() < deadline
            await asyncio.sleep(0.2)
        return list(rows)


@pytest.mark.timeout(240)
async def test_every_restored_tranche_is_measured_and_its_causes_tile_the_lag(observed: System) -> None:
    probe = Probe(observed.settings)
    probing = asyncio.create_task(probe.run())
    await play(observed.settings, together([scenario(name) for name in SCENARIOS]))
    rows = await measured(observed)
    assert len(rows) >= 10
    found = await exported(len(rows))
    probe.stopping.set()
    await probing
    assert found["credit_unattributed_ms_total"] == 0
    assert found["credit_probe_sent_total"] >= found["credit_probe_roundtrip_seconds_count"] >= 1
    assert found["credit_invariant_violations"] == 0
    assert found["credit_ledger_imbalance_minor_units"] == 0
    assert found["credit_consumer_lag_messages"] >= 0
    for row in rows:
        assert row["told_at"] == row["restored_at"]
        lag = row["restored_at"] - row["repaid_at"]
        assert row["lag_ms"] == row["segments_ms"] == round(lag.total_seconds() * 1000)
    spent = await paused(observed)
    assert spent["system_delay.operator_pause"] > 0
    assert await violations(observed.settings) == {}
    report = await examine(observed.settings)
    assert report.violated == ()
    assert {finding.name for finding in report.findings if finding.of == "lag-monitor"} >= {
        "lag_tiles",
        "restored_is_measured",
        "offset_not_ahead",
        "no_offset_skipped",
    }
