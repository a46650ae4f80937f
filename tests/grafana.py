"""The committed dashboards as tests read them: panels, their queries, and what Grafana puts in place of variables."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

DEPLOY: Final = Path(__file__).parents[1] / "deploy"
FILES: Final = sorted((DEPLOY / "grafana" / "dashboards").glob("*/*.json"))
MACROS: Final = {"$__rate_interval": "5m", "$__range": "1h"}


@dataclass(frozen=True)
class Shown:
    """One query of one panel."""

    board: str
    panel: Mapping[str, Any]
    target: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Return where it is, for a test's id."""
        return f"{self.board}: {self.panel['title']} {self.target['refId']}"


def boards() -> dict[str, dict[str, Any]]:
    """Return every dashboard by its uid."""
    return {path.stem: json.loads(path.read_text()) for path in FILES}


def panels(board: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the panels of a dashboard, without its rows."""
    for panel in board["panels"]:
        if panel["type"] != "row":
            yield panel


def queries(*, sql: bool) -> list[Shown]:
    """Return every query of every panel, to PostgreSQL or to Prometheus."""
    every = [
        Shown(uid, panel, target) for uid, b in boards().items() for panel in panels(b) for target in panel["targets"]
    ]
    return [shown for shown in every if ("rawSql" in shown.target) == sql]


def filled(text: str, values: Mapping[str, str]) -> str:
    """Return a query with its variables replaced, longest names first."""
    for name in sorted(values, key=len, reverse=True):
        text = text.replace(name, values[name])
    return text
