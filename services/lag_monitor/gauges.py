"""What is so at this moment: what waits and for what, the oldest of it, what is held, overdue, set aside or unsent."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, cast

from services.lag_monitor import projector
from services.metrics import catalogue
from services.metrics.catalogue import Metric
from services.metrics.labels import dead_letter_label, rail_label
from services.runtime.clock import monotonic
from services.runtime.postgres import Connection, Row

Labels = tuple[str, ...]
Values = dict[tuple[str, Labels], float]
# What waits, by where and why; a hold whose date has passed is our own delay (lag 1).
PENDING = """
SELECT coalesce(tier, 'unknown') AS tier, currency, stage,
  CASE WHEN due_at < clock_timestamp() THEN 'system_delay' ELSE cause_class END AS cause_class,
  count(*) AS n, sum(waiting_minor) AS minor
FROM lag_monitor.journey WHERE outcome IS NULL AND stage IS NOT NULL GROUP BY 1, 2, 3, 4
"""
# The oldest that waits, by one look into the index for each stage and cause class; of our own delays, since when it
# was ours.
OLDEST = """
SELECT w.stage, w.cause_class, (SELECT min(waits_from) FROM lag_monitor.journey AS j
  WHERE j.outcome IS NULL AND j.stage = w.stage AND j.cause_class = w.cause_class) AS at
FROM unnest($1::text[], $2::text[]) AS w (stage, cause_class)
UNION ALL
SELECT 'release', 'system_delay', min(due_at) FROM lag_monitor.journey
WHERE outcome IS NULL AND due_at < clock_timestamp()
"""
OLDEST_OF: Final = tuple(list(each) for each in zip(*catalogue.OLDEST_PENDING.label_sets(), strict=True))
"""What ``OLDEST`` is asked with: every stage and cause class there is."""
HELD = """
SELECT split_part(cause, '.', 2) AS cause, currency, count(*) AS n, sum(amount_minor) AS minor,
  min(promised_by) AS promised_by
FROM lag_monitor.part WHERE state IN ('held', 'parked') GROUP BY 1, 2
"""
# Promises past their deadline whose object is still owed, by what it waits for.
OVERDUE = """
SELECT p.slo, split_part(j.cause, '.', 2) AS cause, count(*) AS n
FROM lag_monitor.sla_promise p JOIN lag_monitor.journey j USING (repayment_id)
WHERE p.outcome = 'breached' AND p.over_at IS NULL AND j.cause IS NOT NULL GROUP BY 1, 2
"""
RETURNABLE = """
SELECT j.rail, p.currency, sum(p.amount_minor) AS minor
FROM lag_monitor.journey j JOIN lag_monitor.part p USING (repayment_id)
WHERE j.returnable_until >= (clock_timestamp() AT TIME ZONE 'UTC')::date AND p.state = 'restored' GROUP BY 1, 2
"""
DEAD = """
SELECT stage, split_part(reason, ':', 1) AS reason, count(*) AS n, min(first_seen_at) AS at
FROM lag_monitor.dead_letter_open GROUP BY 1, 2
"""
UNPUBLISHED = "SELECT service, publications, oldest_at FROM lag_monitor.outbox_waiting"
CASES = "SELECT kind, priority, cases, oldest_due_at FROM lag_monitor.case_waiting"
TRIALS = "SELECT outcome, trials FROM lag_monitor.model_trial"
EXPOSED = "SELECT product, minor FROM lag_monitor.exposed"
RELIEF = "SELECT product, in_force, spent_minor, budget_minor FROM lag_monitor.relief"
OVER_BUDGET = "SELECT repayments FROM lag_monitor.over_budget"
IMBALANCE = "SELECT currency, minor FROM lag_monitor.imbalance"
# How far billing's and the broker's clocks were ahead in the last five minutes, seconds; and what time it is.
CLOCKS = """
SELECT coalesce(max(extract(epoch FROM repaid_at - reported_at)), 0)::double precision AS billing,
  coalesce(max(extract(epoch FROM reported_at - received_at)), 0)::double precision AS broker,
  extract(epoch FROM clock_timestamp())::double precision AS now
FROM lag_monitor.journey WHERE reported_at > clock_timestamp() - interval '5 minutes'
"""
# When the newest probes were seen leaving each stage.
PROBED = """
SELECT max(reported_at) AS report, max(received_at) AS ingest, max(settled_at) AS settlement, max(assessed_at) AS risk,
  max((SELECT max(restored_at) FROM lag_monitor.part p WHERE p.repayment_id = j.repayment_id)) AS release
FROM (SELECT * FROM lag_monitor.journey WHERE account_id = 'probe' ORDER BY reported_at DESC LIMIT 60) AS j
"""
CHECK_SECONDS: Final = 300
INVARIANTS = r"""
SELECT schemaname || '.' || substr(viewname, 11) AS invariant FROM pg_views
WHERE viewname LIKE 'invariant\_%' ORDER BY 1
"""
VIOLATIONS = "SELECT invariant, violations FROM lag_monitor.invariant_counts($1)"


async def invariants(connection: Connection, rest: int = 0) -> Values:
    """Return how many rows break each invariant, at most a thousand and one; each is read in CHECK_SECONDS.

    After each it rests so many times as long as that took: all books read in one go would take a processor for seconds.
    """
    await connection.execute(f"SET statement_timeout = '{CHECK_SECONDS}s'")
    values: Values = {}
    for named in await connection.fetch(INVARIANTS):
        began = monotonic()
        for row in await cast(Any, connection).fetch(VIOLATIONS, named["invariant"], timeout=CHECK_SECONDS):
            _add(values, catalogue.INVARIANTS, (row["invariant"],), row["violations"])
        await asyncio.sleep(rest * (monotonic() - began))
    return values


async def read(connection: Connection, known: Mapping[str, tuple[str, ...]]) -> Values:
    """Return the gauges of this moment; counts of what is not there are 0, instants of it are absent."""
    held, dead = await connection.fetch(HELD), await connection.fetch(DEAD)
    unpublished, clocks = await connection.fetch(UNPUBLISHED), (await connection.fetch(CLOCKS))[0]
    values: Values = {}
    for metric in (catalogue.PENDING, catalogue.PENDING_AMOUNT, catalogue.HELD, catalogue.HELD_AMOUNT):
        values |= _zeros(metric, known)
    for metric in (catalogue.SLA_OVERDUE, catalogue.RETURNABLE, catalogue.DEAD_LETTERS, catalogue.IMBALANCE):
        values |= _zeros(metric, known)
    values |= _zeros(catalogue.CASES, known)
    for row in await connection.fetch(CASES):
        _add(values, catalogue.CASES, (row["kind"], row["priority"]), row["cases"])
        _oldest(values, catalogue.OLDEST_CASE, (row["kind"], row["priority"]), row["oldest_due_at"])
    _pending(values, await connection.fetch(PENDING), await connection.fetch(OLDEST, *OLDEST_OF))
    _held(values, held)
    for row in await connection.fetch(OVERDUE):
        _add(values, catalogue.SLA_OVERDUE, (row["slo"], row["cause"]), row["n"])
    for row in await connection.fetch(RETURNABLE):
        _add(values, catalogue.RETURNABLE, (rail_label(row["rail"]), row["currency"]), row["minor"])
    await _models(connection, values, known)
    for row in await connection.fetch(IMBALANCE):
        _add(values, catalogue.IMBALANCE, (row["currency"],), row["minor"])
    for stage, at in (await connection.fetch(PROBED))[0].items():
        _oldest(values, catalogue.PROBE_SEEN, (stage,), at)
    _dead(values, dead)
    for row in unpublished:
        _add(values, catalogue.OUTBOX, (row["service"],), row["publications"])
        _oldest(values, catalogue.OLDEST_OUTBOX, (row["service"],), row["oldest_at"])
    for source in ("billing", "broker"):
        _add(values, catalogue.CLOCK_SKEW, (source,), max(0.0, clocks[source]))
    _add(values, catalogue.PROJECTION_DELAY, (), await projector.delay_seconds(connection))
    _add(values, catalogue.EXPORTER_SUCCESS, (), clocks["now"])
    return values


async def _models(connection: Connection, values: Values, known: Mapping[str, tuple[str, ...]]) -> None:
    """Add what is tried beside the return model in force, what is exposed, what a budget kept back, and relief."""
    values |= _zeros(catalogue.MODEL_TRIALS, known)
    for row in await connection.fetch(TRIALS):
        _add(values, catalogue.MODEL_TRIALS, (row["outcome"],), row["trials"])
    for row in await connection.fetch(EXPOSED):
        _add(values, catalogue.EXPOSED, (row["product"],), row["minor"])
    for row in await connection.fetch(OVER_BUDGET):
        _add(values, catalogue.OVER_BUDGET, (), row["repayments"])
    for row in await connection.fetch(RELIEF):
        _add(values, catalogue.RELIEF, (row["product"],), row["in_force"])
        _add(values, catalogue.RELIEF_SPENT, (row["product"],), row["spent_minor"])
        _add(values, catalogue.RELIEF_BUDGET, (row["product"],), row["budget_minor"])


def _pending(values: Values, waiting: Sequence[Row], oldest: Sequence[Row]) -> None:
    for row in waiting:
        where = (row["stage"], row["cause_class"])
        _add(values, catalogue.PENDING, (row["tier"], *where), row["n"])
        _add(values, catalogue.PENDING_AMOUNT, (row["currency"], *where), row["minor"])
    for row in oldest:
        _oldest(values, catalogue.OLDEST_PENDING, (row["stage"], row["cause_class"]), row["at"])


def _held(values: Values, rows: Sequence[Row]) -> None:
    for row in rows:
        _add(values, catalogue.HELD, (row["cause"],), row["n"])
        _add(values, catalogue.HELD_AMOUNT, (row["cause"], row["currency"]), row["minor"])
        _oldest(values, catalogue.NEXT_PROMISED, (), row["promised_by"])


def _dead(values: Values, rows: Sequence[Row]) -> None:
    for row in rows:
        _add(values, catalogue.DEAD_LETTERS, (row["stage"], dead_letter_label(row["reason"])), row["n"])
        _oldest(values, catalogue.OLDEST_DEAD_LETTER, (row["stage"],), row["at"])


def _zeros(metric: Metric, known: Mapping[str, tuple[str, ...]]) -> Values:
    return {(metric.name, labels): 0.0 for labels in metric.label_sets(known)}


def _add(values: Values, metric: Metric, labels: Labels, value: Any) -> None:
    at = (metric.name, labels)
    values[at] = values.get(at, 0.0) + float(value)


def _oldest(values: Values, metric: Metric, labels: Labels, at: datetime | None) -> None:
    """Keep the earliest instant, as seconds since 1970; nothing where there is none."""
    if at is not None:
        place = (metric.name, labels)
        values[place] = min(values.get(place, float("inf")), at.timestamp())
