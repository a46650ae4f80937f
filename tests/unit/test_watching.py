"""Objectives, rules and runbook say the same things, of metrics that exist, with commands that exist."""

import re
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click
import pytest
import typer
import yaml
from pydantic import ValidationError

from services.cli.commands import app, command_of
from services.metrics.catalogue import METRICS
from services.watching.alerts import NAMES
from services.watching.objectives import PATH, Objectives, load_objectives
from services.watching.rules import rules

ROOT: Final = Path(__file__).parents[2]
OBJECTIVES: Final = load_objectives()
RULES: Final = rules(OBJECTIVES)
RUNBOOK: Final = (ROOT / "deploy" / "README.md").read_text()
SECTION: Final = re.compile(r"^### (\w+)\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
SECTIONS: Final = dict(SECTION.findall(RUNBOOK.partition("## Runbook\n")[2]))
SAMPLES: Final = {sample: metric for metric in METRICS for sample in metric.samples}
SELECTOR: Final = re.compile(r"(?<![\w:])(credit_\w+)(?:\{([^}]*)\})?")


def _rules() -> list[Mapping[str, Any]]:
    return [rule for group in RULES["groups"] for rule in group["rules"]]


def _alerts() -> list[Mapping[str, Any]]:
    return [rule for rule in _rules() if "alert" in rule]


def test_every_alert_has_its_limits_and_every_limit_its_alert() -> None:
    assert {"CreditSLOBudgetBurn", *OBJECTIVES.alert} == set(NAMES)
    assert {rule["alert"] for rule in _alerts()} == set(NAMES)


def test_the_runbook_has_a_section_for_each_alert_and_no_other() -> None:
    assert SECTIONS.keys() == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_section_has_the_meaning_three_actions_and_the_alert_s_command(name: str) -> None:
    text = SECTIONS[name]
    commands = {rule["annotations"]["command"] for rule in _alerts() if rule["alert"] == name}
    assert len(commands) == 1
    assert "**Meaning.** " in text
    assert re.findall(r"^(\d)\. ", text, re.MULTILINE) == ["1", "2", "3"]
    assert f"**Shows the cases:** `{commands.pop()}`" in text


@pytest.mark.parametrize("rule", _alerts(), ids=lambda rule: f"{rule['alert']}-{rule['labels'].get('window', '')}")
def test_an_alert_tells_what_where_and_how(rule: Mapping[str, Any]) -> None:
    annotations = rule["annotations"]
    assert annotations.keys() == {"summary", "description", "runbook_url", "command"}
    assert all(annotations.values())
    assert annotations["runbook_url"] == f"{OBJECTIVES.runbook}#{rule['alert'].lower()}"
    assert rule["labels"]["severity"] in ("page", "ticket")


def test_commands_of_the_runbook_exist() -> None:
    said = set(re.findall(r"`(otb [^`]+)`", RUNBOOK)) | {rule["annotations"]["command"] for rule in _alerts()}
    assert len(said) > 5
    assert not [command for command in said if not _exists(command)]
    assert not _exists("otb lament")
    assert not _exists("otb lag --centuries 1")


@pytest.mark.parametrize("rule", _rules(), ids=lambda rule: str(rule.get("record", rule.get("alert"))))
def test_a_rule_asks_for_metrics_and_labels_of_the_catalogue(rule: Mapping[str, Any]) -> None:
    for name, matchers in SELECTOR.findall(rule["expr"]):
        assert name in SAMPLES
        for label, value in re.findall(r'(\w+)="([^"]*)"', matchers):
            assert label in SAMPLES[name].labels
            assert not SAMPLES[name].label_sets() or _occurs(name, label, value)


def test_a_recorded_name_says_level_metric_and_operation() -> None:
    assert not [
        rule["record"]
        for rule in _rules()
        if "record" in rule and not re.fullmatch(r"\w+:credit_\w+:\w+", rule["record"])
    ]


def test_an_objective_that_is_missing_is_refused() -> None:
    told = OBJECTIVES.model_dump(by_alias=True)
    assert Objectives.model_validate(told) == OBJECTIVES
    with pytest.raises(ValidationError, match="hold_promise"):
        Objectives.model_validate(told | {"objective": told["objective"][1:]})
    with pytest.raises(ValidationError, match="5m"):
        Objectives.model_validate(told | {"windows": told["windows"][1:]})


def test_the_rules_change_with_the_objectives() -> None:
    looser = PATH.read_text().replace("percent = 99.5", "percent = 99.0")
    path = load_objectives().model_copy(update={"objective": _objectives(looser)})
    assert rules(path) != RULES


def test_alertmanager_mutes_only_alerts_there_are() -> None:
    told = yaml.safe_load((ROOT / "deploy" / "alertmanager" / "alertmanager.yml").read_text())
    matchers = [m for rule in told["inhibit_rules"] for m in (*rule["source_matchers"], *rule["target_matchers"])]
    named = {name for m in matchers if m.startswith("alertname") for name in re.findall(r"Credit\w+", m)}
    assert named
    assert named <= set(NAMES)


def _objectives(text: str) -> Any:
    return Objectives.model_validate(tomllib.loads(text)).objective


def _occurs(name: str, label: str, value: str) -> bool:
    metric = SAMPLES[name]
    at = metric.labels.index(label)
    return any(values[at] == value for values in metric.label_sets())


def _exists(command: str) -> bool:
    """Tell whether ``otb`` has this command with these options."""
    words = shlex.split(command)[1:]
    at: Any = typer.main.get_command(app)
    listed = at.commands
    while isinstance(at, click.Group) or hasattr(at, "commands"):
        if not words or words[0] not in at.commands:
            if at.invoke_without_command:
                break
            return not words
        name = words.pop(0)
        at = command_of(name) if at.commands is listed else at.commands[name]
    known = {option for parameter in at.params for option in parameter.opts}
    return not [word for word in words if word.startswith("-") and word not in known]
