"""A dashboard of placed panels: its variables, its links to the others, and where each panel stands."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from services.metrics import catalogue
from services.metrics.labels import LABELS
from services.watching.panels import PROMETHEUS, Placed
from services.watching.promql import PROCESS

Variable = Builder[models.VariableModel]
TAG: Final = "opentobuy"
GRID: Final = 24
DATASOURCE: Final = "opentobuy-prometheus"


@dataclass(frozen=True, slots=True)
class Section:
    """A row of the dashboard and the panels below it."""

    title: str
    panels: Sequence[Placed]


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard; ``repayment`` asks for one by its id."""

    uid: str
    title: str
    description: str
    sections: Sequence[Section]
    since: str = "now-1h"
    repayment: bool = False


def text(board: Board) -> str:
    """Return the dashboard as Grafana reads it from a file."""
    built = dashboard.Dashboard(board.title).uid(board.uid).description(board.description).tags([TAG])
    built = built.readonly().timezone("browser").time(board.since, "now").refresh("30s").version(1)
    built = built.tooltip(models.DashboardCursorSync.CROSSHAIR).links([_others()]).variables(_variables(board))
    number, top = 1, 0
    for section in board.sections:
        built = built.with_row(
            dashboard.Row(section.title).id(number).grid_pos(models.GridPos(h=1, w=GRID, x=0, y=top))
        )
        number, top = number + 1, top + 1
        for placed, place in zip(section.panels, _places(section.panels, top), strict=True):
            placed.builder.id(number)
            placed.builder.grid_pos(place)
            built, number = built.with_panel(placed.builder), number + 1  # type: ignore[arg-type]
            top = max(top, place.y + place.h)
    return JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False).encode(built.build()) + "\n"


def _places(panels: Sequence[Placed], top: int) -> list[models.GridPos]:
    """Return where the panels stand: from left to right, a new line where the next one does not fit."""
    places, left, height = [], 0, 0
    for panel in panels:
        if left + panel.width > GRID:
            top, left, height = top + height, 0, 0
        places.append(models.GridPos(h=panel.height, w=panel.width, x=left, y=top))
        left, height = left + panel.width, max(height, panel.height)
    return places


def _others() -> dashboard.DashboardLink:
    """Return the link to every other dashboard, at the same time and with the same choices."""
    link = dashboard.DashboardLink("opentobuy").type(models.DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.as_dropdown(True).include_vars(True).keep_time(True).icon("external link")


def _variables(board: Board) -> list[Variable]:
    """Return the variables every dashboard has, in one order, so that a link carries each of them."""
    chosen = [
        _datasource(),
        _asked("job", f"label_values({catalogue.BUILD.name}, job)"),
        _asked("instance", f'label_values({catalogue.BUILD.name}{{job=~"$job"}}, instance)'),
        _listed("tier"),
        _listed("stage"),
        _listed("slo"),
        _asked("currency", f"label_values({catalogue.RESTORED_AMOUNT.name}{{{PROCESS}}}, currency)"),
    ]
    asked = dashboard.TextBoxVariable("repayment").label("Repayment").default_value("")
    return [*chosen, asked] if board.repayment else chosen


def _datasource() -> Variable:
    current = models.VariableOption(selected=True, text="Prometheus", value=DATASOURCE)
    return dashboard.DatasourceVariable("datasource").label("Metrics").type("prometheus").current(current)


def _everything() -> models.VariableOption:
    return models.VariableOption(selected=True, text=["All"], value=["$__all"])


def _asked(name: str, query: str) -> Variable:
    """Return a variable whose values Prometheus is asked for."""
    variable = dashboard.QueryVariable(name).label(name.capitalize()).datasource(PROMETHEUS).query(query)
    variable = variable.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.ALPHABETICAL_ASC)
    return variable.multi(True).include_all(True).all_value(".*").current(_everything())


def _listed(name: str) -> Variable:
    """Return a variable with the closed list of a label."""
    variable = dashboard.CustomVariable(name).label(name.capitalize()).values(",".join(LABELS[name] or ()))
    return variable.multi(True).include_all(True).all_value(".*").current(_everything())
