"""The lag ledger at size: the oldest-waiting query among millions of rows, and how fast repayments are counted.

python -m tests.benchmarks.ledger [--journeys 3000000] [--waiting 50000] [--facts 100000] [--json FILE]
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from services.cli.system import System, provision
from services.lag_monitor import gauges, projector
from services.runtime.clock import monotonic
from services.runtime.postgres import connect
from tests.benchmarks.bed import BenchmarkError, bed
from tests.benchmarks.report import write_json
from tests.integration.support import owner

TRIES: Final = 21
JOURNEYS: Final = """
INSERT INTO lag_monitor.journey (repayment_id, account_id, source, rail, amount_minor, currency, repaid_at, tier,
  counted, pending, unplaced, outcome, reason, stage, cause_class, cause, since, waits_from, version)
SELECT md5(n::text), 'account', 'core', 'wallet', 100, 'CNY', at, 'low', true, '[]', '[]',
  CASE WHEN waits THEN NULL ELSE 'restored' END, '', CASE WHEN waits THEN 'release' END,
  CASE WHEN waits THEN 'risk_observation' END, CASE WHEN waits THEN 'risk_observation.risk_hold' END,
  CASE WHEN waits THEN at END, CASE WHEN waits THEN at END, 1
FROM generate_series(1, $1::bigint) n,
  LATERAL (SELECT n % $2::bigint = 0 AS waits, now() - n * interval '100 milliseconds' AS at) w
"""
FACTS: Final = """
INSERT INTO lag_monitor.restoration_fact (repayment_id, tranche, account_id, lag_ms, unattributed_ms, amount_minor,
  currency, tier, rail, cause, repaid_at, restored_at)
SELECT md5($2::text || n), 1, 'account', 80, 0, 100, 'CNY', 'low', 'wallet', 'system_delay.processing', now(),
  now() + interval '80 milliseconds' FROM generate_series(1, $1::bigint) n
"""
SEGMENTS: Final = """
INSERT INTO lag_monitor.lag_segment SELECT md5($2::text || f.n), 1, s.n, s.stage, s.cause,
  now() + (s.n - 1) * interval '10 milliseconds', now() + s.n * interval '10 milliseconds', 10
FROM generate_series(1, $1::bigint) AS f(n), (VALUES (1, 'ingest', 'system_delay.kafka_queue'),
  (2, 'ingest', 'system_delay.processing'), (3, 'settlement', 'system_delay.kafka_queue'),
  (4, 'settlement', 'system_delay.processing'), (5, 'risk', 'system_delay.kafka_queue'),
  (6, 'risk', 'system_delay.processing'), (7, 'release', 'system_delay.kafka_queue'),
  (8, 'release', 'system_delay.processing')) AS s(n, stage, cause)
"""
# What else one repayment that is restored at once is counted as.
TALLIES: Final = """
INSERT INTO lag_monitor.tally (metric, labels, ms)
SELECT t.metric, t.labels::text[], t.ms FROM generate_series(1, $1::bigint), (VALUES
  ('credit_repayments_total', '{low,core}', NULL), ('credit_outcomes_total', '{restored,none}', NULL),
  ('credit_sla_outcomes_total', '{decided_60s,met}', NULL), ('credit_sla_outcomes_total', '{low_risk_5s,met}', NULL),
  ('credit_sla_outcomes_total', '{low_risk_60s,met}', NULL), ('credit_sla_outcomes_total', '{notify_60s,met}', NULL),
  ('credit_notifications_total', '{log,restored,requested}', NULL),
  ('credit_notifications_total', '{log,restored,delivered}', NULL),
  ('credit_notification_lag_seconds', '{log}', 20::bigint)) AS t(metric, labels, ms)
"""
ANALYSE: Final = (
    "VACUUM (ANALYZE) lag_monitor.journey, lag_monitor.restoration_fact, lag_monitor.lag_segment, lag_monitor.tally"
)


async def measure(system: System, asked: argparse.Namespace) -> dict[str, Any]:
    """Fill the ledger and measure both."""
    await provision(system.settings)
    async with owner(system.settings) as connection:
        await connection.execute(JOURNEYS, asked.journeys, max(1, asked.journeys // asked.waiting), timeout=1_200)
        await connection.execute(FACTS, asked.facts, "f", timeout=600)
        await connection.execute(SEGMENTS, asked.facts, "f", timeout=600)
        await connection.execute(TALLIES, asked.facts, timeout=600)
        await connection.execute(ANALYSE, timeout=600)
    reader: Any = await connect(system.settings, "lag_monitor")
    try:
        times = []
        for _ in range(TRIES):
            began = monotonic()
            await reader.fetch(gauges.OLDEST, *gauges.OLDEST_OF)
            times.append((monotonic() - began) * 1000)
        began = monotonic()
        counted = await projector.project_all(reader)
        seconds = monotonic() - began
    finally:
        await reader.close(timeout=5)
    return {
        "journeys": asked.journeys,
        "waiting": asked.waiting,
        "oldest_waiting_ms": round(median(times), 2),
        "repayments": asked.facts,
        "facts_and_tallies": counted,
        "repayments_per_second": round(asked.facts / seconds),
        "load_average": round(os.getloadavg()[0], 2),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was measured."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.ledger", description=__doc__)
    parser.add_argument("--journeys", type=int, default=3_000_000)
    parser.add_argument("--waiting", type=int, default=50_000)
    parser.add_argument("--facts", type=int, default=100_000)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    asked = parser.parse_args(arguments)
    try:
        with bed() as system:
            found = asyncio.run(measure(system, asked))
    except BenchmarkError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    for name, value in found.items():
        sys.stdout.write(f"{name:>20}  {value:,}\n")
    write_json(asked.json, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
