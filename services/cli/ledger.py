"""The lag ledger's figures for people: where time went and what waits, by stage and cause; lag plain and by amount."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final, cast

from rich.table import Table

from schemas.account import Language
from schemas.reasons import CAUSES, STAGES, Cause, Stage
from services.cli.servers import Connection
from services.cli.terminal import table
from services.wording import cause_label, duration_text, money_text, stage_label

EN: Final[Language] = "en"
# Is there a ledger, and what time is it?
BEGIN = "SELECT clock_timestamp() AS now, to_regclass('lag_monitor.restoration_fact') IS NOT NULL AS kept"
# Restored parts of the window, by stage and cause: milliseconds of each part, and weighted by amount in each currency.
SPENT = """
WITH fact AS (
  SELECT repayment_id, tranche, amount_minor, currency FROM lag_monitor.restoration_fact
  WHERE restored_at > $2::timestamptz - make_interval(secs => $1) AND account_id <> 'probe'),
piece AS (
  SELECT f.currency, f.amount_minor, s.stage, s.cause, sum(s.ms) AS ms
  FROM fact f JOIN lag_monitor.lag_segment s USING (repayment_id, tranche)
  GROUP BY f.repayment_id, f.tranche, f.currency, f.amount_minor, s.stage, s.cause),
whole AS (SELECT currency, sum(amount_minor) AS minor FROM fact GROUP BY 1),
weighed AS (
  SELECT p.stage, p.cause, p.currency, round(sum(p.amount_minor * p.ms) / min(w.minor))::bigint AS ms
  FROM piece p JOIN whole w USING (currency) GROUP BY 1, 2, 3)
SELECT p.stage, p.cause, count(*) AS parts, sum(p.ms)::bigint AS total_ms,
  percentile_disc(0.5) WITHIN GROUP (ORDER BY p.ms)::bigint AS p50_ms,
  percentile_disc(0.99) WITHIN GROUP (ORDER BY p.ms)::bigint AS p99_ms,
  (SELECT json_object_agg(currency, ms) FROM weighed w WHERE w.stage = p.stage AND w.cause = p.cause) AS weighted_ms
FROM piece p GROUP BY 1, 2
"""
# What waits now, by stage and cause; a hold whose date has passed is our own delay, a queue whose
# service was paused waits for that.
WAITING = """
SELECT stage, CASE WHEN due_at < clock_timestamp() THEN 'system_delay.processing'
    WHEN cause = 'system_delay.kafka_queue' AND EXISTS (
      SELECT FROM lag_monitor.operator_pause p WHERE p.stage = j.stage AND p.to_at IS NULL)
    THEN 'system_delay.operator_pause' ELSE cause END AS cause,
  count(*) AS n, min(CASE WHEN due_at < clock_timestamp() THEN due_at ELSE waits_from END) AS since
FROM lag_monitor.journey j WHERE outcome IS NULL AND stage IS NOT NULL GROUP BY 1, 2
"""
# The lag of the window's restored parts, in each currency, plain and weighted by amount.
TOTALS = """
SELECT currency, count(*) AS parts, sum(amount_minor)::bigint AS amount_minor, round(avg(lag_ms))::bigint AS mean_ms,
  percentile_disc(0.5) WITHIN GROUP (ORDER BY lag_ms) AS p50_ms,
  percentile_disc(0.99) WITHIN GROUP (ORDER BY lag_ms) AS p99_ms,
  round(sum(amount_minor * lag_ms::numeric) / sum(amount_minor))::bigint AS weighted_ms,
  (sum(amount_minor * lag_ms::numeric) / 1000)::bigint AS withheld_minor_seconds,
  sum(unattributed_ms)::bigint AS unattributed_ms
FROM lag_monitor.restoration_fact
WHERE restored_at > $2::timestamptz - make_interval(secs => $1) AND account_id <> 'probe'
GROUP BY 1 ORDER BY 1
"""
PROMISES = """
SELECT slo, count(*) FILTER (WHERE outcome = 'met') AS met, count(*) FILTER (WHERE outcome = 'breached') AS breached
FROM lag_monitor.sla_promise
WHERE decided_at > $2::timestamptz - make_interval(secs => $1) AND slo <> 'probe_60s' GROUP BY 1 ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One stage and cause: what waits for it, and the milliseconds it took of restored parts that met it.

    ``weighted_ms`` is its share of the amount-weighted lag of all restored parts, by currency: the shares add up.
    """

    stage: str
    cause: str
    waiting: int = 0
    waits_from: datetime | None = None
    parts: int = 0
    total_ms: int = 0
    p50_ms: int | None = None
    p99_ms: int | None = None
    weighted_ms: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """What the ledger says of the last ``seconds``, and of now."""

    seconds: float
    at: datetime
    lines: tuple[Line, ...]
    totals: tuple[Mapping[str, Any], ...]
    promises: tuple[Mapping[str, Any], ...]

    def described(self) -> dict[str, Any]:
        """Return them for programs."""
        return asdict(self)


async def figures(connection: Connection, seconds: float) -> Figures | None:
    """Return the ledger's figures, None where no observer keeps one."""
    begun = await connection.fetchrow(BEGIN)
    if begun is None or not begun["kept"]:
        return None
    at: datetime = begun["now"]
    waiting = {(row["stage"], row["cause"]): row for row in await connection.fetch(WAITING)}
    spent = {(row["stage"], row["cause"]): row for row in await connection.fetch(SPENT, float(seconds), at)}
    lines = [_line(place, waiting.get(place), spent.get(place)) for place in waiting.keys() | spent.keys()]
    lines.sort(key=lambda line: (STAGES.index(cast(Stage, line.stage)), CAUSES.index(cast(Cause, line.cause))))
    totals = tuple(dict(row) for row in await connection.fetch(TOTALS, float(seconds), at))
    promises = tuple(dict(row) for row in await connection.fetch(PROMISES, float(seconds), at))
    return Figures(seconds, at, tuple(lines), totals, promises)


def _line(place: tuple[str, str], waiting: Mapping[str, Any] | None, spent: Mapping[str, Any] | None) -> Line:
    line = Line(*place)
    if waiting is not None:
        line = replace(line, waiting=waiting["n"], waits_from=waiting["since"])
    if spent is not None:
        times = {name: spent[name] for name in ("parts", "total_ms", "p50_ms", "p99_ms")}
        line = replace(line, **times, weighted_ms=_object(spent["weighted_ms"]))
    return line


def _object(found: str | None) -> dict[str, int]:
    read: dict[str, int] = json.loads(found or "{}")
    return read


def cause_table(found: Figures) -> Table:
    """Return where time went and what waits, a line a stage and cause."""
    right = ("waiting", "oldest", "parts", "p50", "p99", "by amount")
    shown = table("stage", "because of", *right, right=right)
    for line in found.lines:
        age = "" if line.waits_from is None else _text((found.at - line.waits_from).total_seconds() * 1000)
        spent = (str(line.parts or ""), _text(line.p50_ms), _text(line.p99_ms), _weighted(line.weighted_ms))
        stage, cause = words(line.stage, line.cause)
        shown.add_row(stage, cause, str(line.waiting or ""), age, *spent)
    shown.add_row()
    for total in found.totals:
        lag = (str(total["parts"]), _text(total["p50_ms"]), _text(total["p99_ms"]), _text(total["weighted_ms"]))
        back = money_text(total["amount_minor"], total["currency"], EN)
        shown.add_row("repaid to restored", back, "", "", *lag)
    for promise in found.promises:
        shown.add_row("promise", promise["slo"], "", "", "", f"{promise['met']} met", f"{promise['breached']} broken")
    return shown


def words(stage: str, cause: str) -> tuple[str, str]:
    """Return a stage and a cause as people say them."""
    return stage_label(cast(Stage, stage), EN, audience="agent"), cause_label(cast(Cause, cause), EN, audience="agent")


def _text(milliseconds: float | None) -> str:
    return "" if milliseconds is None else duration_text(max(0, round(milliseconds)), EN)


def _weighted(found: Mapping[str, int] | None) -> str:
    each = sorted((found or {}).items())
    return _text(each[0][1]) if len(each) == 1 else ", ".join(f"{name} {_text(ms)}" for name, ms in each)
