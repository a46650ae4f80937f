"""Grafana's role: every SQL panel runs under it, shows what the ledger has, and nothing but its views can be read."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import pytest

from services.cli.workers import EVERYONE
from services.runtime.settings import Settings
from tests.conftest import dsn_of, execute
from tests.grafana import Shown, filled, queries
from tests.integration.support import owner, role

SQL: Final = queries(sql=True)
REPAYMENT: Final = "r-1"
REPAID: Final = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
VALUES: Final = {
    "${repayment:sqlstring}": f"'{REPAYMENT}'",
    **{f"${{{name}:regex}}": ".*" for name in ("stage", "tier", "currency")},
}
PLANTED: Final = (
    """
    INSERT INTO lag_monitor.journey (repayment_id, account_id, source, rail, amount_minor, currency, repaid_at, tier,
      pending, unplaced, reason, stage, cause_class, cause, since, waits_from, version, counted)
    VALUES ('r-1', 'a', 'core', 'card', 5000, 'CNY', '2026-11-20 08:00Z', 'unknown', '[]', '[]', '', 'release',
      'risk_observation', 'risk_observation.risk_hold', '2026-11-20 08:00Z', '2026-11-20 08:00Z', 1, true)""",
    """
    INSERT INTO lag_monitor.part (repayment_id, number, amount_minor, currency, state, cause, since, promised_by, basis,
      caused_by)
    VALUES ('r-1', 1, 2000, 'CNY', 'restored', 'system_delay.processing', '2026-11-20 08:00Z', NULL, NULL, 'c'),
      ('r-1', 2, 3000, 'CNY', 'held', 'risk_observation.risk_hold', '2026-11-20 08:00Z', '2026-11-22 08:00Z',
       'hold', 'c')""",
    """
    INSERT INTO lag_monitor.restoration_fact (repayment_id, tranche, account_id, lag_ms, unattributed_ms, amount_minor,
      currency, tier, rail, cause, repaid_at, restored_at)
    VALUES ('r-1', 1, 'a', 1500, 0, 2000, 'CNY', 'unknown', 'card', 'system_delay.kafka_queue', '2026-11-20 08:00Z',
      '2026-11-20 08:00:01.5Z')""",
    """
    INSERT INTO lag_monitor.lag_segment (repayment_id, tranche, n, stage, cause, from_at, to_at, ms)
    VALUES ('r-1', 1, 1, 'ingest', 'system_delay.kafka_queue', '2026-11-20 08:00Z', '2026-11-20 08:00:01Z', 1000),
      ('r-1', 1, 2, 'risk', 'system_delay.processing', '2026-11-20 08:00:01Z',
       '2026-11-20 08:00:01.5Z', 500)""",
    """
    INSERT INTO lag_monitor.sla_promise (repayment_id, tranche, slo, deadline_at, outcome, decided_at, over_at)
    VALUES ('r-1', 1, 'low_risk_60s', '2026-11-20 08:00:01Z', 'breached',
      '2026-11-20 08:00:01Z', '2026-11-20 08:00:01.5Z')""",
    """
    INSERT INTO notifier.notification (account_id, notification_id, repayment_id, caused_by, channel, language,
      template, record_version, text, requested_at)
    VALUES ('a', 'n', 'r-1', 'c', 'log', 'en', 'restored', 1, 'Your credit is back.', '2026-11-20 08:00Z')""",
    """
    INSERT INTO notifier.delivery (notification_id, state, attempts, next_attempt_at, ended_at)
    VALUES ('n', 'delivered', 1, NULL, '2026-11-20 08:00:02Z')""",
)
EXPECTED: Final[Mapping[str, Mapping[str, Any]]] = {
    "Fifty oldest": {"repayment": REPAYMENT, "amount, minor units": 5000, "promised": REPAID + timedelta(days=2)},
    "Journey": {"repayment": REPAYMENT, "cause": "risk_observation.risk_hold", "outcome": None},
    "Stages and causes": {"time": REPAID, "part": "part 1", "spent on": "ingest: system_delay.kafka_queue"},
    "Segments": {"part": 1, "n": 1, "spent": 1000},
    "Restored parts": {"part": 1, "lag": 1500, "trace": REPAYMENT},
    "Promise against actual": {"objective": "low_risk_60s", "outcome": "breached", "late by": 500},
    "Messages": {"text": "Your credit is back.", "state": "delivered"},
}


@pytest.mark.parametrize("shown", SQL, ids=lambda shown: shown.name)
async def test_a_panel_shows_what_the_ledger_has(settings: Settings, shown: Shown) -> None:
    await execute(dsn_of(settings), *PLANTED)
    async with role(settings, "watching") as grafana:
        rows = await grafana.fetch(filled(shown.target["rawSql"], VALUES))
    expected = EXPECTED[shown.panel["title"]]
    assert {name: rows[0][name] for name in expected} == expected


async def test_a_choice_of_the_variables_narrows_what_waits(settings: Settings) -> None:
    await execute(dsn_of(settings), *PLANTED)
    (oldest,) = [shown for shown in SQL if shown.panel["title"] == "Fifty oldest"]
    async with role(settings, "watching") as grafana:
        for stage, found in (("release", 1), ("(risk|release)", 1), ("risk", 0)):
            asked = filled(oldest.target["rawSql"], {**VALUES, "${stage:regex}": stage})
            assert len(await grafana.fetch(asked)) == found


async def test_grafana_s_role_reads_its_views_and_nothing_else(settings: Settings) -> None:
    async with owner(settings) as connection:
        every = await connection.fetch(
            "SELECT table_schema, table_name, table_type FROM information_schema.tables WHERE table_schema = ANY ($1)",
            [*(worker.package for worker in EVERYONE), "watching"],
        )
    assert len(every) > 50
    async with role(settings, "watching") as grafana:
        for row in every:
            asked = f"SELECT count(*) FROM {row['table_schema']}.{row['table_name']}"  # noqa: S608  # names are the catalogue's
            if (row["table_schema"], row["table_type"]) == ("watching", "VIEW"):
                assert (await grafana.fetch(asked))[0]["count"] == 0
            else:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await grafana.fetch(asked)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO watching.segment VALUES ('r', 1, 1, 'risk', 'c', now(), now(), 1)",
        "DELETE FROM watching.journey",
        "UPDATE watching.promise SET slo = 'x'",
        "CREATE TABLE watching.mine (n integer)",
        "CREATE TABLE public.mine (n integer)",
    ],
)
async def test_grafana_s_role_writes_nothing_even_where_it_says_it_may(settings: Settings, statement: str) -> None:
    async with role(settings, "watching") as grafana:
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError)):
            await grafana.execute(statement)
        await grafana.execute("SET default_transaction_read_only = off")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await grafana.execute(statement)
