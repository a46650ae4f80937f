"""What every panel of the dashboards asks, and a real run's answers as a file that `make dashboards-preview` draws."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from services.cli.system import System
from tests.conftest import run_apart
from tests.e2e.prometheus import Prometheus
from tests.grafana import Shown, filled, queries
from tests.integration.support import owner, role

Rows = Sequence[Mapping[str, Any]]
CHOSEN: Final = ("job", "instance", "tier", "stage", "slo", "currency")
LISTED: Final = ("stage", "tier", "currency")
ONE: Final = (
    "SELECT repayment_id FROM lag_monitor.restoration_fact WHERE account_id <> 'probe' ORDER BY lag_ms DESC LIMIT 1"
)


def promql(shown: Shown, server: Prometheus) -> str:
    """Return a panel's query as Grafana would send it with everything chosen."""
    values = {"$__rate_interval": "10s", "$__range": f"{server.seconds()}s"}
    return filled(shown.target["expr"], {**values, **{f"${name}": ".*" for name in CHOSEN}})


async def rows(system: System) -> dict[str, Rows]:
    """Return what every SQL panel's query gives under Grafana's role, by the panel's name."""
    async with owner(system.settings) as connection:
        repayment = await connection.fetchval(ONE)
    values = {"${repayment:sqlstring}": f"'{repayment}'", **{f"${{{name}:regex}}": ".*" for name in LISTED}}
    async with role(system.settings, "watching") as grafana:
        return {s.name: await grafana.fetch(filled(s.target["rawSql"], values)) for s in queries(sql=True)}


def record(system: System, server: Prometheus, path: Path) -> None:
    """Write the answers to every panel's queries."""
    until, boards = server.epoch_ms(), dict[str, dict[str, dict[str, Any]]]()
    answered = run_apart(rows(system))
    for shown in (*queries(sql=False), *queries(sql=True)):
        panel = boards.setdefault(shown.board, {}).setdefault(str(shown.panel["id"]), {})
        panel[shown.target["refId"]] = (
            {"fields": fields(answered[shown.name])} if "rawSql" in shown.target else _series(shown, server)
        )
    told = {"from_ms": server.began_ms, "to_ms": until, "boards": boards}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told))


def _series(shown: Shown, server: Prometheus) -> list[Mapping[str, Any]]:
    found = server.answered(promql(shown, server), instant=bool(shown.target.get("instant")))
    return [{"metric": each["metric"], "values": each.get("values") or [each["value"]]} for each in found]


def fields(found: Rows) -> list[dict[str, Any]]:
    """Return the columns of a table as Grafana's data frames have them; instants are milliseconds."""
    names = list(found[0].keys()) if found else []
    return [_field(name, [row[name] for row in found]) for name in names]


def _field(name: str, values: list[Any]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, datetime) for value in known):
        return {"name": name, "type": "time", "values": [v and round(v.timestamp() * 1000) for v in values]}
    if known and all(isinstance(value, int | float | Decimal) for value in known):
        return {"name": name, "type": "number", "values": [None if v is None else float(v) for v in values]}
    return {"name": name, "type": "string", "values": [None if v is None else str(v) for v in values]}
