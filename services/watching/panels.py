"""Panels as Grafana's own SDK builds them, with what its defaults leave out: ids, legends, units, datasources."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus as prometheus_models
from typing_extensions import override

PROMETHEUS: Final = common_models.DataSourceRef(type_val="prometheus", uid="${datasource}")
POSTGRES: Final = common_models.DataSourceRef(type_val="grafana-postgresql-datasource", uid="opentobuy-postgres")
REFERENCES: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
Unit = Literal["s", "ms", "short", "percentunit", "cps", "none", "string", "dateTimeFromNow", "dateTimeAsIso"]
Limits = Sequence[tuple[float | None, str]]
GOOD_AT_ZERO: Final[Limits] = ((None, "green"), (0.000001, "red"))
PLAIN: Final[Limits] = ((None, "text"),)
INSTANT: Final = 200
"""Pixels of a column that shows an instant to the millisecond."""
LARGEST: Final = "Max"
"""The legend's column that sorts it: few rows are seen without scrolling, and most series are 0."""


class PanelBuilder(Protocol):
    """What the builders of all panel types have."""

    def id(self, id_val: int) -> Any:
        """Set the panel's number."""

    def grid_pos(self, grid_pos: models.GridPos) -> Any:
        """Set the panel's place."""

    def build(self) -> models.Panel:
        """Return the panel."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A query to Prometheus; ``legend`` names its series, ``exemplars`` asks for traces beside it."""

    expression: str
    legend: str = "__auto"
    instant: bool = False
    exemplars: bool = False


@dataclass(frozen=True, slots=True)
class Sql:
    """A query to PostgreSQL, as a table or as series in time."""

    text: str
    series: bool = False


@dataclass(frozen=True, slots=True)
class Placed:
    """A panel and its size; a row of the grid is 24 wide."""

    builder: PanelBuilder
    width: int
    height: int


class SqlQuery(Dataquery):
    """A PostgreSQL query in code; the SDK has no class for it."""

    def __init__(self, sql: Sql, reference: str) -> None:
        self._sql, self._reference = sql, reference

    def to_json(self) -> dict[str, object]:
        """Return it as Grafana keeps it."""
        return {
            "refId": self._reference,
            "datasource": POSTGRES,
            "editorMode": "code",
            "format": "time_series" if self._sql.series else "table",
            "rawQuery": True,
            "rawSql": self._sql.text,
        }


class _SqlBuilder(Builder[Dataquery]):
    def __init__(self, sql: Sql, reference: str) -> None:
        self._built = SqlQuery(sql, reference)

    @override
    def build(self) -> Dataquery:
        return self._built


def _query(asked: Ask | Sql, reference: str, shape: prometheus_models.PromQueryFormat) -> Builder[Dataquery]:
    if isinstance(asked, Sql):
        return _SqlBuilder(asked, reference)
    query = prometheus.Dataquery().datasource(PROMETHEUS).ref_id(reference).expr(asked.expression)
    query = query.legend_format(asked.legend).format(shape).exemplar(asked.exemplars)
    query = query.editor_mode(prometheus_models.QueryEditorMode.CODE)
    return query.instant() if asked.instant else query.range()


def _filled(
    panel: Any,
    told: tuple[str, str],
    unit: Unit,
    asked: Sequence[Ask | Sql],
    shape: prometheus_models.PromQueryFormat = prometheus_models.PromQueryFormat.TIME_SERIES,
) -> Any:
    """Give a panel of any type its title, description, unit, datasource and queries."""
    source = POSTGRES if isinstance(asked[0], Sql) else PROMETHEUS
    panel = panel.title(told[0]).description(told[1]).unit(unit).datasource(source)
    for reference, each in zip(REFERENCES, asked, strict=False):
        panel = panel.with_target(_query(each, reference, shape))
    return panel


def _steps(limits: Limits) -> dashboard.ThresholdsConfig:
    steps = [models.Threshold(value=value, color=colour) for value, colour in limits]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _legend(calculations: Sequence[str]) -> common.VizLegendOptions:
    shown = common.VizLegendOptions().show_legend(True).placement(common_models.LegendPlacement.BOTTOM)
    shown = shown.display_mode(
        common_models.LegendDisplayMode.TABLE if calculations else common_models.LegendDisplayMode.LIST
    )
    shown = shown.calcs(list(calculations))
    return shown.sort_by(LARGEST).sort_desc(True) if "max" in calculations else shown


def graph(
    title: str,
    description: str,
    unit: Unit,
    *asked: Ask | Sql,
    stack: Literal["none", "normal", "percent"] = "none",
    log: bool = False,
    lines: Limits = (),
    width: int = 12,
    calculations: Sequence[str] = ("lastNotNull", "max"),
) -> Placed:
    """Return series over time; ``lines`` are drawn as thresholds, ``log`` makes the axis logarithmic."""
    panel = _filled(timeseries.Panel(), (title, description), unit, asked).legend(_legend(calculations))
    panel = panel.tooltip(common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI))
    panel = panel.stacking(common.StackingConfig().mode(common_models.StackingMode(stack)).group("A"))
    panel = panel.line_width(1).span_nulls(False)
    if log:
        scale = common.ScaleDistributionConfig().type(common_models.ScaleDistribution.LOG).log(10)
        panel = panel.fill_opacity(0).scale_distribution(scale)
    else:
        panel = panel.fill_opacity(10 if stack == "none" else 60).axis_soft_min(0)
    if lines:
        style = common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.LINE)
        panel = panel.thresholds(_steps(lines)).thresholds_style(style)
    return Placed(panel, width, 8)


def figure(
    title: str,
    description: str,
    unit: Unit,
    *asked: Ask | Sql,
    limits: Limits = PLAIN,
    decimals: int | None = None,
    none: str = "none",
    width: int = 6,
) -> Placed:
    """Return figures of now; ``none`` is shown where there is nothing to show."""
    panel = _filled(stat.Panel(), (title, description), unit, asked).thresholds(_steps(limits)).no_value(none)
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"])).graph_mode(
        common_models.BigValueGraphMode.NONE
    )
    return Placed(panel if decimals is None else panel.decimals(decimals), width, 5)


def steps(title: str, description: str, unit: Unit, *asked: Ask, width: int = 12) -> Placed:
    """Return bars in the order of the queries, one each."""
    panel = _filled(bargauge.Panel(), (title, description), unit, asked).thresholds(_steps(((None, "blue"),)))
    panel = panel.orientation(common_models.VizOrientation.HORIZONTAL).min(0)
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    return Placed(panel.display_mode(common_models.BarGaugeDisplayMode.BASIC), width, 8)


def cells(title: str, description: str, unit: Unit, asked: Ask, width: int = 12) -> Placed:
    """Return a heatmap of a histogram's buckets over time."""
    shape = prometheus_models.PromQueryFormat.HEATMAP
    panel = _filled(heatmap.Panel(), (title, description), unit, [asked], shape)
    return Placed(panel.calculate(False).show_legend(), width, 8)


def rows(
    title: str,
    description: str,
    *asked: Ask | Sql,
    unit: Unit = "none",
    units: Mapping[str, Unit] | None = None,
    links: Mapping[str, str] | None = None,
    widths: Mapping[str, int] | None = None,
    hidden: Sequence[str] = (),
    width: int = 24,
    height: int = 10,
) -> Placed:
    """Return a table; ``units`` are those of columns, ``links`` where a column's values lead, ``widths`` pixels."""
    shape = prometheus_models.PromQueryFormat.TABLE
    panel = _filled(table.Panel(), (title, description), unit, asked, shape).no_value("none")
    for column, pixels in (widths or {}).items():
        panel = panel.override_by_name(column, [models.DynamicConfigValue(id_val="custom.width", value=pixels)])
    if hidden:
        left_out = {"excludeByName": dict.fromkeys(hidden, True)}
        panel = panel.with_transformation(models.DataTransformerConfig(id_val="organize", options=left_out))
    for column, kind in (units or {}).items():
        panel = panel.override_by_name(column, [models.DynamicConfigValue(id_val="unit", value=kind)])
    for column, url in (links or {}).items():
        link = [{"title": column, "url": url, "targetBlank": False}]
        panel = panel.override_by_name(column, [models.DynamicConfigValue(id_val="links", value=link)])
    return Placed(panel, width, height)


def spans(title: str, description: str, asked: Sql, width: int = 24, height: int = 6) -> Placed:
    """Return states over time, a row for each value of the column ``part``."""
    panel = _filled(statetimeline.Panel(), (title, description), "string", [asked])
    parts = models.DataTransformerConfig(id_val="partitionByValues", options={"fields": ["part"]})
    panel = panel.with_transformation(parts)
    return Placed(panel.legend(_legend(())).show_value(common_models.VisibilityMode.AUTO), width, height)
