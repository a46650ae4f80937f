"""The dashboards obey the rules that make them readable, and ask only for what the catalogue has."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import promql_parser as promql
import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from jsonschema import Draft7Validator

from services.metrics.catalogue import METRICS
from services.watching.board import DATASOURCE
from services.watching.dashboards import BOARDS
from services.watching.dashboards.one_repayment import TRACE
from services.watching.objectives import load_objectives
from services.watching.panels import POSTGRES, PROMETHEUS
from services.watching.rules import rules
from tests.grafana import DEPLOY, FILES, MACROS, Shown, boards, filled, panels, queries

CONTRACT: Final = DEPLOY.parent / "tests" / "contract"
PREVIEW: Final = DEPLOY.parent / "tests" / "e2e" / "preview"
PROVISIONING: Final = DEPLOY / "grafana" / "provisioning"
BY_UID: Final = boards()
SAMPLES: Final = {sample: metric for metric in METRICS for sample in metric.samples}
RECORDED: Final = {
    rule["record"]: set(rule.get("labels", ()))
    for group in rules(load_objectives())["groups"]
    for rule in group["rules"]
    if "record" in rule
}
NOT_OURS: Final = {
    "ALERTS": "Prometheus makes it of the alert rules; alerts are joined over instances",
    "scrape_samples_post_metric_relabeling": "Prometheus counts it at each scrape",
}
ALONE: Final = {"ALERTS": NOT_OURS["ALERTS"]} | dict.fromkeys(RECORDED, "recorded over all instances")
"""Selectors without job and instance, and why."""
VARIABLES: Final = ("datasource", "job", "instance", "tier", "stage", "slo", "currency")
ASKED: Final = queries(sql=False)
SQL: Final = queries(sql=True)
FOR_RULES_ONLY: Final = {
    "credit_observed_minor_seconds_total": "the fairness of holds over a month, by a recording rule",
}


def walk(node: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[promql.VectorSelector, tuple[str, ...], str | None]]:
    """Yield each selector with the functions and operators around it, innermost last, and its range."""
    match node:
        case promql.VectorSelector():
            yield node, above, None
        case promql.MatrixSelector():
            yield node.vector_selector, above, promql.display_duration(node.range)
        case promql.Call():
            for argument in node.args:
                yield from walk(argument, (*above, node.func.name))
        case promql.BinaryExpr():
            yield from walk(node.lhs, above)
            yield from walk(node.rhs, above)
        case promql.AggregateExpr() | promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            yield from walk(node.expr, above)
        case _:
            return


def selectors(shown: Shown) -> list[tuple[promql.VectorSelector, tuple[str, ...], str | None]]:
    """Return the selectors of a query as Grafana would send it."""
    return list(walk(promql.parse(filled(shown.target["expr"], MACROS))))


def matchers(selector: promql.VectorSelector) -> dict[str, str]:
    """Return the labels a selector filters by."""
    return {matcher.name: matcher.value for matcher in selector.matchers.matchers}


def test_there_are_eight_and_all_of_them_are_generated() -> None:
    assert len(BOARDS) == len(FILES) == 8
    assert {board.uid for board in BOARDS} == BY_UID.keys()


@pytest.mark.parametrize("uid", BY_UID)
def test_a_dashboard_has_the_variables_and_the_link_to_the_others(uid: str) -> None:
    board = BY_UID[uid]
    (link,) = board["links"]
    assert tuple(each["name"] for each in board["templating"]["list"])[: len(VARIABLES)] == VARIABLES
    assert (link["tags"], link["keepTime"], link["includeVars"]) == (["opentobuy"], True, True)
    assert board["tags"] == ["opentobuy"]
    assert board["editable"] is False
    assert "id" not in board


@pytest.mark.parametrize("uid", BY_UID)
def test_grafana_s_own_model_reads_a_dashboard_and_writes_the_same(uid: str) -> None:
    encoder = JSONEncoder(sort_keys=True)
    prometheus_only = {
        **BY_UID[uid],
        "panels": [p for p in BY_UID[uid]["panels"] if p.get("datasource") == PROMETHEUS.to_json()],
    }
    assert encoder.encode(Dashboard.from_json(prometheus_only)) == encoder.encode(prometheus_only)


def published() -> Draft7Validator:
    """Return Grafana's own JSON Schema of a dashboard (grafana-foundation-sdk, jsonschema/, Apache-2.0).

    It writes "anything" as an object in two places, where Grafana itself puts the name of a column and its unit.
    """
    schema = json.loads((CONTRACT / "grafana" / "dashboard.jsonschema.json").read_text())
    schema["definitions"]["MatcherConfig"]["properties"]["options"] = {}
    schema["definitions"]["DynamicConfigValue"]["properties"]["value"] = {}
    return Draft7Validator(schema)


@pytest.mark.parametrize("uid", BY_UID)
def test_a_dashboard_is_one_by_grafana_s_own_schema(uid: str) -> None:
    assert [error.message for error in published().iter_errors(BY_UID[uid])] == []


@pytest.mark.parametrize("change", [{"type": 7}, {"targets": "all"}, {"colour": "red"}, {"gridPos": {"h": "tall"}}])
def test_a_panel_that_is_none_by_the_schema_is_seen(change: Mapping[str, Any]) -> None:
    board = next(iter(BY_UID.values()))
    assert not published().is_valid({**board, "panels": [{**board["panels"][1], **change}]})


@pytest.mark.parametrize("uid", BY_UID)
def test_panels_have_numbers_of_their_own_and_do_not_overlap(uid: str) -> None:
    every = BY_UID[uid]["panels"]
    numbers = [panel["id"] for panel in every]
    assert numbers == list(range(1, len(every) + 1))
    taken: set[tuple[int, int]] = set()
    for panel in every:
        at = panel["gridPos"]
        cells = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken
        taken |= cells


@pytest.mark.parametrize(
    ("uid", "panel"),
    [pytest.param(uid, panel, id=f"{uid}: {panel['title']}") for uid, b in BY_UID.items() for panel in panels(b)],
)
def test_a_panel_says_what_it_shows_and_in_what_unit(uid: str, panel: Mapping[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    if panel["type"] in ("timeseries", "state-timeline"):
        assert panel["options"]["legend"]["showLegend"] is True


def test_titles_are_unique_within_a_dashboard() -> None:
    for board in BY_UID.values():
        titles = [panel["title"] for panel in panels(board)]
        assert len(titles) == len(set(titles))


@pytest.mark.parametrize("shown", ASKED, ids=lambda shown: shown.name)
def test_a_query_filters_the_process_it_asks(shown: Shown) -> None:
    for selector, _, _ in selectors(shown):
        if selector.name not in ALONE:
            asked = matchers(selector)
            assert (asked.get("job"), asked.get("instance")) == ("$job", "$instance")


@pytest.mark.parametrize("shown", ASKED, ids=lambda shown: shown.name)
def test_a_counter_is_asked_for_its_growth_over_grafana_s_own_interval(shown: Shown) -> None:
    for selector, above, span in selectors(shown):
        metric = SAMPLES.get(str(selector.name))
        grows = metric is not None and metric.kind != "gauge"
        assert grows == bool({"rate", "increase"} & set(above))
        assert (span is not None) == grows
    assert not re.search(r"\[(?!\$__rate_interval\]|\$__range\])", shown.target["expr"])


@pytest.mark.parametrize("shown", ASKED, ids=lambda shown: shown.name)
def test_every_metric_and_label_is_in_the_catalogue(shown: Shown) -> None:
    for selector, _, _ in selectors(shown):
        name = str(selector.name)
        if name in NOT_OURS or name in RECORDED:
            continue
        metric = SAMPLES[name]
        for label, value in matchers(selector).items():
            assert label in {"job", "instance", *metric.labels}
            assert value.startswith("$") or _possible(name, label, value)


@pytest.mark.parametrize("shown", ASKED, ids=lambda shown: shown.name)
def test_a_query_groups_and_names_by_labels_there_are(shown: Shown) -> None:
    names = {str(selector.name) for selector, _, _ in selectors(shown)}
    known = {label for name in names if name in SAMPLES for label in SAMPLES[name].labels} | {"le"}
    for name in names & RECORDED.keys():
        said = {*re.findall(r"\w+", _rule(name)), *name.partition(":")[0].split("_")}
        known |= {"slo", "tier", "rail", "currency"} & said
    grouped = {
        label.strip() for found in re.findall(r"by \(([^)]*)\)", shown.target["expr"]) for label in found.split(",")
    }
    legend = set(re.findall(r"{{(\w+)}}", shown.target["legendFormat"]))
    assert grouped | legend <= known | {""}


def test_every_metric_of_the_catalogue_is_on_a_dashboard() -> None:
    asked = {SAMPLES[str(s.name)].name for shown in ASKED for s, _, _ in selectors(shown) if s.name in SAMPLES}
    assert {metric.name for metric in METRICS} - asked == set(FOR_RULES_ONLY)


@pytest.mark.parametrize("shown", [*ASKED, *SQL], ids=lambda shown: shown.name)
def test_a_query_asks_for_variables_the_dashboard_has(shown: Shown) -> None:
    text = shown.target.get("expr") or shown.target["rawSql"]
    used = {name for name in re.findall(r"\$\{?(\w+)", text) if not name.startswith("__")}
    assert used <= {each["name"] for each in BY_UID[shown.board]["templating"]["list"]}


@pytest.mark.parametrize("shown", SQL, ids=lambda shown: shown.name)
def test_sql_quotes_what_a_person_types_and_reads_views_only(shown: Shown) -> None:
    text = shown.target["rawSql"]
    assert "$repayment" not in text.replace("${repayment:sqlstring}", "")
    assert {found.split(".")[0] for found in re.findall(r"(?:FROM|JOIN) (\S+)", text)} == {"watching"}
    assert shown.panel["datasource"]["uid"] == "opentobuy-postgres"


@pytest.mark.parametrize("shown", [*ASKED, *SQL], ids=lambda shown: shown.name)
def test_a_query_goes_to_its_panel_s_datasource(shown: Shown) -> None:
    assert shown.target["datasource"] == shown.panel["datasource"]


def test_what_panels_name_by_uid_is_provisioned_and_cannot_be_edited() -> None:
    told = yaml.safe_load((PROVISIONING / "datasources" / "opentobuy.yml").read_text())["datasources"]
    by_uid = {source["uid"]: source for source in told}
    assert {DATASOURCE, POSTGRES.uid} <= by_uid.keys()
    assert not [source for source in told if source["editable"] is not False]
    assert by_uid[POSTGRES.uid]["type"] == POSTGRES.type_val
    assert by_uid[POSTGRES.uid]["user"] == "otb_watching"
    assert by_uid[DATASOURCE]["jsonData"]["timeInterval"] == _scraped_every()
    (traces,) = by_uid[DATASOURCE]["jsonData"]["exemplarTraceIdDestinations"]
    assert traces["datasourceUid"] in by_uid
    assert f'"datasource":"{traces["datasourceUid"]}"' in TRACE


def test_every_folder_of_dashboards_is_provisioned() -> None:
    told = yaml.safe_load((PROVISIONING / "dashboards" / "opentobuy.yml").read_text())["providers"]
    paths = {provider["options"]["path"].rpartition("/")[2] for provider in told}
    assert paths == {path.parent.name for path in FILES}
    assert not [provider for provider in told if provider["allowUiUpdates"] or not provider["disableDeletion"]]


def test_a_rule_is_seen_when_it_is_broken() -> None:
    sums = promql.parse('sum(credit_restorations_total{job=~"$job"})')
    ((selector, above, span),) = walk(sums)
    assert ("instance" in matchers(selector), above, span) == (False, (), None)


def _scraped_every() -> str:
    told = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    return str(told["global"]["scrape_interval"])


def _possible(name: str, label: str, value: str) -> bool:
    metric = SAMPLES[name]
    at = metric.labels.index(label)
    return all(any(part == values[at] for values in metric.label_sets()) for part in value.split("|"))


def _rule(name: str) -> str:
    every = (rule for group in rules(load_objectives())["groups"] for rule in group["rules"])
    return " ".join(f"{rule['expr']} {rule.get('labels', '')}" for rule in every if rule.get("record") == name)


def test_the_preview_draws_every_type_of_panel_with_packages_that_are_pinned() -> None:
    drawn = re.search(r"const DRAWN = \{(.*?)\};", (PREVIEW / "page.jsx").read_text())
    assert drawn is not None
    types = {panel["type"] for board in BY_UID.values() for panel in panels(board)}
    assert types <= set(re.findall(r'"?([\w-]+)"?: \w+', drawn[1]))
    text = (PREVIEW / "package-lock.json").read_text()
    locked = json.loads(text)["packages"]
    asked = json.loads((PREVIEW / "package.json").read_text())["dependencies"]
    assert {name: locked[f"node_modules/{name}"]["version"] for name in asked} == asked
    assert [name for name, package in locked.items() if name and "integrity" not in package] == []
    assert "://" not in text
