"""The hot queries use their indexes at 50,000 rows."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from services.cli.workers import EVERYONE
from services.console import store as console
from services.lag_monitor import gauges, projector, sweeper
from services.lag_monitor import store as lag
from services.limit_release import store as limit_release
from services.notifier import store as notifier
from services.repayment_ingest import store as ingest
from services.risk_scoring import store as risk
from services.runtime import dead_letter, inbox, outbox, timers
from services.runtime.clock import utc_now
from services.runtime.settings import Settings
from services.settlement import store as settlement
from tests.integration.support import owner

ROWS = 50_000
KEY = "md5('event' || n)::uuid"
FILL = f"""
INSERT INTO limit_release.publication (partitions, published_at)
  SELECT ARRAY[n % 24], clock_timestamp() FROM generate_series(1, {ROWS}) n;
UPDATE limit_release.publication SET published_at = NULL WHERE publication_id > {ROWS} - 20;
INSERT INTO limit_release.outbox SELECT n, 0, {KEY}, 'type', 'topic', 'account-' || n, now(), '', '\\x00'
  FROM generate_series(1, {ROWS}) n;
INSERT INTO limit_release.timers SELECT 'hold_due:' || n, n % 24, 'account-' || n, 'hold_due', 'repayment-' || n, 1,
  now() + make_interval(secs => n - 100) FROM generate_series(1, {ROWS}) n;
INSERT INTO limit_release.set_aside (kind, state, topic, partition, "offset", broker_at, account_id, headers, reason,
  build, published_at) SELECT 'parked', CASE WHEN n % 5000 = 0 THEN 'ready' ELSE 'done' END, 't', n % 24, n, now(),
  'account-' || n, '[]', '', '', now() FROM generate_series(1, {ROWS}) n;
INSERT INTO settlement.set_aside (kind, state, topic, partition, "offset", broker_at, headers, reason, build)
  SELECT 'dead_letter', 'done', 't', n % 24, n, now(), '[]', '', '' FROM generate_series(1, {ROWS}) n;
INSERT INTO risk_scoring.set_aside (kind, state, topic, partition, "offset", broker_at, headers, reason, build)
  SELECT 'dead_letter', 'done', 't', n % 24, n, now(), '[]', '', '' FROM generate_series(1, {ROWS}) n;
INSERT INTO repayment_ingest.set_aside (kind, state, topic, partition, "offset", broker_at, headers, reason, build)
  SELECT 'dead_letter', 'done', 't', n % 24, n, now(), '[]', '', '' FROM generate_series(1, {ROWS}) n;
INSERT INTO limit_release.account SELECT 'account-' || n, 'default', 'CNY', 'active', '', 0, 0, 0, 0, 0, 0, 0, 0, NULL,
  NULL, false, NULL, 0, 0, NULL, 1
  FROM generate_series(1, {ROWS}) n;
INSERT INTO limit_release.repayment SELECT 'account-' || n, 'repayment-' || n, true, false, false, true, 1, 1,
  0, 0, 0, 0, 'CNY', 'wallet', now(), 1, 0, '[]', '', '', '', '', '', 60, 60 FROM generate_series(1, {ROWS}) n;
INSERT INTO limit_release.tranche SELECT 'account-' || n, 'repayment-' || n, 1, 1,
  CASE WHEN n % 1000 = 0 THEN 'held' ELSE 'restored' END, now(), '', now(),
  CASE WHEN n % 1000 = 0 THEN NULL ELSE now() END, 1, 0, false FROM generate_series(1, {ROWS}) n;
INSERT INTO limit_release.authorisation SELECT 'account-' || n, 'a-' || n, 1 FROM generate_series(1, {ROWS}) n;
INSERT INTO settlement.account SELECT 'account-' || n, 'default', 'CNY', array_fill(0, ARRAY[12]), 0, '[]', now(), NULL,
  2, 256, 0, 0, 0, 0, 1 FROM generate_series(1, {ROWS}) n;
INSERT INTO settlement.repayment SELECT 'repayment-' || n, 'account-' || n, 'settled', 1, 'auto', now(), now(), now(),
  '[]', 0, 0, 0, 1, 0, 1, 0, false FROM generate_series(1, {ROWS}) n;
INSERT INTO settlement.base SELECT 'account-' || n, '[]', 0 FROM generate_series(1, {ROWS}) n;
INSERT INTO repayment_ingest.reference SELECT 'core', 'ref-' || n, 'account-' || n, 1, 'CNY', 'wallet',
  ARRAY['succeeded'] FROM generate_series(1, {ROWS}) n;
INSERT INTO risk_scoring.account SELECT 'account-' || n, 1, now(), 0, 0, 1 FROM generate_series(1, {ROWS}) n;
INSERT INTO risk_scoring.assessment SELECT 'repayment-' || n, 'account-' || n, 'f', now(), 1, '{{}}',
  now() + interval '1 day' FROM generate_series(1, {ROWS}) n;
INSERT INTO risk_scoring.risk_outcome SELECT 'repayment-' || n, 'account-' || n, 'default', 'CNY', 'card', 'unknown',
  'clear', now(), now(), now(), now(), now(), now(), now()::date + 60, 1, 1, 0, '[]', '[]', false, 'm', 'p'
  FROM generate_series(1, {ROWS}) n;
INSERT INTO risk_scoring.exposure SELECT 'account-' || n, now()::date + 60, now()::date, 1
  FROM generate_series(1, {ROWS}) n;
INSERT INTO risk_scoring.portfolio_exposure SELECT 'default', now()::date - n, now()::date - n - 60, 0, 1
  FROM generate_series(1, {ROWS}) n;
INSERT INTO risk_scoring.strike SELECT 'repayment-' || n, 'account-' || n, 'f', now() FROM generate_series(1, {ROWS}) n;
INSERT INTO risk_scoring.funding_account SELECT 'account-' || n, 'f', true FROM generate_series(1, {ROWS}) n;
INSERT INTO risk_scoring.funding_use SELECT 'f-' || n % 1000, 'account-' || n, now() FROM generate_series(1, {ROWS}) n;
INSERT INTO risk_scoring.warning SELECT 'account-' || n, 'disputed', 'r', now() FROM generate_series(1, {ROWS}) n;
INSERT INTO notifier.account SELECT 'account-' || n, 'en', 'UTC' FROM generate_series(1, {ROWS}) n;
INSERT INTO notifier.notification SELECT 'account-' || n, 'n-' || n, 'repayment-' || n, '', 'log', 'en', 'restored', 1,
  '', now(), CASE WHEN n % 100 = 0 THEN 'n-' || n - 1 END FROM generate_series(1, {ROWS}) n;
INSERT INTO notifier.delivery SELECT 'n-' || n, CASE WHEN n % 5000 = 0 THEN 'requested' ELSE 'delivered' END, 1,
  CASE WHEN n % 5000 = 0 THEN now() END, CASE WHEN n % 5000 > 0 THEN now() END
  FROM generate_series(1, {ROWS}) n;
INSERT INTO console.case_step SELECT 'case-' || n, 1, NULL, 'open', now(), 'console', 'promise_broken'
  FROM generate_series(1, {ROWS}) n;
INSERT INTO console.case_file SELECT 'case-' || n, 'account-' || n, 'promise_broken', 'high', md5('case' || n), now(),
  now(), 'repayment-' || n, 1, '', 1, 'open', '', NULL, '', NULL, 1 FROM generate_series(1, {ROWS}) n;
INSERT INTO console.audit (at, actor, action, account_id, subject, reason, content)
  SELECT now() - n * interval '1 minute', 'reviewer-' || n % 500, 'assign', 'account-' || n, 'case-' || n, 'r', '{{}}'
  FROM generate_series(1, 4000) n;
INSERT INTO settlement.entry SELECT 'account-' || n, 'purchase:p-' || n, 'purchase', now(), now(), '', '[]', false
  FROM generate_series(1, {ROWS}) n;
INSERT INTO lag_monitor.journey (repayment_id, account_id, source, rail, amount_minor, currency, repaid_at, reported_at,
  received_at, tier, counted, pending, unplaced, outcome, reason, stage, cause_class, cause, since, waits_from, version)
  SELECT 'repayment-' || n, 'account-' || n, 'core', 'wallet', 1, 'CNY', now(), now() - n * interval '1 second', now(),
  'low', true, '[]', '[]', w.outcome, '', w.stage, w.kind, w.cause, w.at, w.at, 1
  FROM generate_series(1, {ROWS}) n, LATERAL (SELECT CASE WHEN n % 100 > 0 THEN 'restored' END AS outcome,
    CASE WHEN n % 100 = 0 THEN 'risk' END AS stage, CASE WHEN n % 100 = 0 THEN 'system_delay' END AS kind,
    CASE WHEN n % 100 = 0 THEN 'system_delay.kafka_queue' END AS cause,
    CASE WHEN n % 100 = 0 THEN now() END AS at) AS w;
INSERT INTO lag_monitor.part SELECT 'repayment-' || n, 1, 1, 'CNY',
  CASE WHEN n % 100 > 0 THEN 'restored' ELSE 'held' END,
  'risk_observation.risk_hold', now(), NULL, NULL, NULL, '', NULL, NULL FROM generate_series(1, {ROWS}) n;
INSERT INTO lag_monitor.restoration_fact (repayment_id, tranche, account_id, lag_ms, unattributed_ms, amount_minor,
  currency, tier, rail, cause, repaid_at, restored_at) SELECT 'repayment-' || n, 1, 'account-' || n, 5, 0, 1, 'CNY',
  'low', 'wallet', 'system_delay.processing', at, at + interval '5 milliseconds'
  FROM generate_series(1, {ROWS}) n, LATERAL (SELECT now() - n * interval '1 second' AS at) AS t;
INSERT INTO lag_monitor.lag_segment SELECT 'repayment-' || n, 1, 1, 'risk', 'system_delay.processing', now(),
  now() + interval '5 milliseconds', 5 FROM generate_series(1, {ROWS}) n;
INSERT INTO lag_monitor.tally (metric, labels) SELECT 'm', ARRAY['l'] FROM generate_series(1, {ROWS}) n;
INSERT INTO lag_monitor.notice SELECT 'n-' || n, 'repayment-' || n, '', 'log', 'restored', 'delivered', now()
  FROM generate_series(1, {ROWS}) n;
INSERT INTO lag_monitor.sla_promise SELECT 'repayment-' || n, 1, 'low_risk_5s', now(),
  CASE WHEN n % 1000 > 0 THEN 'met' END, CASE WHEN n % 1000 > 0 THEN now() END, now() FROM generate_series(1, {ROWS}) n;
INSERT INTO limit_release.journal SELECT 'PURCHASE', 'p-' || n, 'account-' || n, 0, -1, 1, 0, 0
  FROM generate_series(1, {ROWS}) n;
"""  # noqa: S608  # numbers of our own
INBOX = f"SELECT {KEY}, n, 'topic', n % 24, n, 'applied', '' FROM generate_series(1, {ROWS}) n"  # noqa: S608
ACCOUNTS = [f"account-{n}" for n in range(1, 20_000, 500)]
REPAYMENTS = [f"repayment-{n}" for n in range(1, 20_000, 500)]
CASES = [f"case-{n}" for n in range(40)]
BOOKED = (ACCOUNTS, ["p-1"] * len(ACCOUNTS))
KEYS = "ARRAY(SELECT md5('event' || n)::uuid FROM generate_series(1, 40) n)"
QUERIES: dict[str, tuple[str, str, tuple[object, ...]]] = {
    "unpublished": ("limit_release", outbox.UNPUBLISHED, ([0, 1, 2], 5.0, [])),
    "acknowledge": ("limit_release", outbox.ACKNOWLEDGE, (list(range(1, 50)),)),
    "timers due": ("limit_release", timers.DUE, ([0, 1, 2], 500)),
    "chores": ("limit_release", timers.CHORES, ([0, 1, 2],)),
    "ready": ("limit_release", dead_letter.READY, ([0, 1, 2], 200)),
    "wake": ("limit_release", dead_letter.WAKE, (ACCOUNTS,)),
    "dead letters": ("limit_release", dead_letter.UNPUBLISHED, ([0, 1, 2], 200)),
    "limit-release": (
        "limit_release",
        inbox.reading(limit_release.READS),
        ("keys", ACCOUNTS, REPAYMENTS, ACCOUNTS[:5], *BOOKED, ACCOUNTS, ["a-1"] * len(ACCOUNTS)),
    ),
    "settlement": (
        "settlement",
        inbox.reading(settlement.READS),
        ("keys", ACCOUNTS, [None] * 40, [1] * 40, [True] * 40, REPAYMENTS, ACCOUNTS, ["purchase:p-1"] * 40),
    ),
    "references": (
        "repayment_ingest",
        inbox.reading(ingest.READS),
        ("keys", ["core"] * 40, [f"ref-{n}" for n in range(40)]),
    ),
    "risk": (
        "risk_scoring",
        inbox.reading(risk.READS),
        ("keys", *[ACCOUNTS] * 3, REPAYMENTS, ["f-1"] * len(ACCOUNTS), ACCOUNTS, ACCOUNTS, "keys"),
    ),
    "notifier": ("notifier", inbox.reading(notifier.READS), ("keys", ACCOUNTS, [f"n-{n}" for n in range(40)])),
    "console": (
        "console",
        inbox.reading(console.READS),
        ("keys", CASES, REPAYMENTS, [1] * 40, REPAYMENTS, [1] * 40, CASES, ["reviewer-1"], ACCOUNTS, ACCOUNTS),
    ),
    "dead letters without a case": ("console", console.DEAD_LETTERS, (100,)),
    "lag-monitor": ("lag_monitor", inbox.reading(lag.READS), ("keys", REPAYMENTS, [])),
    "oldest waiting": ("lag_monitor", gauges.OLDEST, gauges.OLDEST_OF),
    "what waits": ("lag_monitor", gauges.PENDING, ()),
    "what is held": ("lag_monitor", gauges.HELD, ()),
    "what is overdue": ("lag_monitor", gauges.OVERDUE, ()),
    "what is exposed": ("lag_monitor", gauges.EXPOSED, ()),
    "relief": ("lag_monitor", gauges.RELIEF, ()),
    "what the budget kept back": ("lag_monitor", gauges.OVER_BUDGET, ()),
    "restorations": ("lag_monitor", projector.RESTORATIONS, (500, projector.EDGES_MS, "restoration")),
    "tallies": ("lag_monitor", projector.TALLIES, (500, projector.EDGES_MS, "tally")),
    "projection delay": ("lag_monitor", projector.DELAY, ()),
    "deadlines": ("lag_monitor", sweeper.SWEEP, (utc_now(), 500)),
    "messages due": ("notifier", notifier.CLAIM, (200, 60.0)),
}
SMALL = {
    "progress",
    "disabled_channel",
    "operator_pause",
    "metric_cursor",
    "metric_count",
    "metric_hist",
    "risk_models",
    "risk_activation",
    "risk_trial_stop",
    "risk_trial_count",
    "portfolio_exposure",
    "cap_relief",
}
"""Tables with a row a partition, a channel, a series, a model, a trial of one or an hour of it, a day of a product, a
time that burned or a decision of a person's.
"""


async def scanned(settings: Settings, schema: str, query: str, values: tuple[object, ...]) -> set[str]:
    """Return the tables a plan reads from end to end."""
    async with owner(settings) as connection:
        await connection.execute(f"SET search_path = {schema}; SET jit = off")
        keys = await connection.fetchval(f"SELECT {KEYS}")
        given = [keys if value == "keys" else value for value in values]
        plan = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {query}", *given))
    return {node["Relation Name"] for node in nodes(plan[0]["Plan"]) if node["Node Type"] == "Seq Scan"} - SMALL


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


@pytest.fixture
async def full(settings: Settings) -> Settings:
    """Fill the tables that grow."""
    async with owner(settings) as connection:
        await connection.execute(FILL)
        for worker in EVERYONE:
            await connection.execute(f"INSERT INTO {worker.package}.inbox {INBOX}")
        await connection.execute("ANALYZE")
    return settings


async def test_no_hot_query_reads_a_growing_table_from_end_to_end(full: Settings) -> None:
    read = {name: await scanned(full, *query) for name, query in QUERIES.items()}
    assert {name: tables for name, tables in read.items() if tables} == {}
