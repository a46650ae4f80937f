"""The observer beside the five workers: every restored tranche of the named stories is measured to the millisecond."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from services.billing_simulator.plan import SCENARIOS, scenario, together
from services.billing_simulator.send import play
from services.cli.checks import examine
from services.cli.system import System, start_workers, wait_ready
from services.cli.workers import OBSERVERS
from services.runtime.clock import monotonic
from tests.conftest import run_apart
from tests.integration.support import owner, violations

SECONDS = 60.0
# Tranches limit-release restored, beside what the observer measured of them.
MEASURED = """
SELECT t.repayment_id, t.number, t.restored_at, f.restored_at AS told_at, r.repaid_at,
  f.lag_ms, (SELECT sum(ms) FROM lag_monitor.lag_segment s WHERE s.repayment_id = t.repayment_id
    AND s.tranche = t.number) AS segments_ms
FROM limit_release.tranche t
JOIN limit_release.repayment r USING (repayment_id)
LEFT JOIN lag_monitor.restoration_fact f ON f.repayment_id = t.repayment_id AND f.tranche = t.number
WHERE t.restored_at IS NOT NULL
"""
WAITING = "SELECT count(*) FROM limit_release.tranche WHERE state IN ('held', 'parked')"


@pytest.fixture
def observed(workers: System) -> Iterator[System]:
    """Run the observer too."""
    ports = start_workers(workers, OBSERVERS)
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


@pytest.mark.timeout(180)
async def test_every_restored_tranche_is_measured_and_its_causes_tile_the_lag(observed: System) -> None:
    await play(observed.settings, together([scenario(name) for name in SCENARIOS]))
    rows = await measured(observed)
    assert len(rows) >= 10
    for row in rows:
        assert row["told_at"] == row["restored_at"]
        lag = row["restored_at"] - row["repaid_at"]
        assert row["lag_ms"] == row["segments_ms"] == round(lag.total_seconds() * 1000)
    assert await violations(observed.settings) == {}
    report = await examine(observed.settings)
    assert report.violated == ()
    assert {finding.name for finding in report.findings if finding.of == "lag-monitor"} >= {
        "lag_tiles",
        "restored_is_measured",
        "offset_not_ahead",
        "no_offset_skipped",
    }
