"""Prometheus rules made of the objectives: errors by window, budgets left, and the alerts."""

from typing import Any, Final

from services.metrics import catalogue
from services.watching.alerts import ALERTS, AT_ONCE, BURN, GROUP, OVER_MONTHS, PARITY, PARITY_MOST, Alert
from services.watching.objectives import Burn, Objective, Objectives

Rule = dict[str, Any]
_OUTCOMES: Final = catalogue.SLA_OUTCOMES.name
_BURN_COMMAND: Final = "otb lag --seconds 3600"


def rules(objectives: Objectives) -> dict[str, Any]:
    """Return the rule file."""
    often, seldom = objectives.evaluated_every, objectives.months_evaluated_every
    alerts = {alert.name: _alert(objectives, alert) for alert in ALERTS}
    late = [alerts.pop(name) for name in OVER_MONTHS]
    over_months = [*_budgets(objectives), *_weighted(), *_at_once(objectives), *late]
    burns = [_burn(objectives, each, burn) for burn in objectives.burn for each in objectives.objective]
    groups = (
        # Together: a group runs its rules in order; apart, an alert may read the shares of fifteen seconds before.
        ("credit_objectives", often, [*recorded(objectives), *burns]),
        ("credit_alerts", often, list(alerts.values())),
        ("credit_months", seldom, over_months),
    )
    return {"groups": [{"name": name, "interval": every, "rules": found} for name, every, found in groups]}


def error_rate(window: str) -> str:
    """Return the name of the recorded share of broken promises over ``window``."""
    return f"slo:credit_sla_error:ratio_rate{window}"


def breached(window: str) -> str:
    """Return the name of the recorded number of broken promises in ``window``."""
    return f"slo:credit_sla_breached:increase{window}"


def recorded(objectives: Objectives) -> list[Rule]:
    """Return the recording rules of the objectives: shares are counts divided, never averages of shares."""
    shares = [_rule(error_rate(window), _error(f"rate({{}}[{window}])")) for window in objectives.windows]
    longs = dict.fromkeys(burn.long for burn in objectives.burn)
    counts = [_rule(breached(window), f"sum by (slo) (increase({_broken()}[{window}]))") for window in longs]
    return [*shares, *counts]


def _budgets(objectives: Objectives) -> list[Rule]:
    """Return what each objective allows, and what is left of that by volume over 30 days."""
    budgets = [
        _rule(
            "slo:credit_sla_budget:ratio",
            f"vector({each.budget:g})",
            {"slo": each.slo, "objective": f"{each.percent:g}"},
        )
        for each in objectives.objective
    ]
    spent = _error("increase({}[30d])")
    left = f"1 - (\n{spent}\n) / on (slo) slo:credit_sla_budget:ratio"
    return [*budgets, _rule("slo:credit_budget_remaining:ratio30d", left)]


def _error(over: str) -> str:
    """Return broken promises divided by all decided ones; a series without traffic is dropped, not 0."""
    return f"sum by (slo) ({over.format(_broken())})\n/\n(sum by (slo) ({over.format(_OUTCOMES)}) > 0)"


def _broken() -> str:
    return f'{_OUTCOMES}{{outcome="breached"}}'


def _weighted() -> list[Rule]:
    """Return how long risk observation keeps a unit of money, by tier and by rail; never over currencies."""
    return [
        _rule(
            f"{by}:credit_hold_amount_weighted_seconds:ratio_rate1d",
            f"sum by ({by}, currency) (rate({catalogue.HELD_SECONDS.name}[1d]))\n/\n"
            f"(sum by ({by}, currency) (rate({catalogue.RESTORED_AMOUNT.name}[1d])) > 0)",
        )
        for by in ("tier", "rail")
    ]


def _at_once(objectives: Objectives) -> list[Rule]:
    """Return what share of a tier's repayments on a rail is given back at once, and that beside the tier with most.

    A day with too few of them has none (L16). Parity is at most what Wilson's interval of two standard errors allows.
    """
    assessed, n = catalogue.ASSESSED.name, GROUP
    by, given = "sum by (rail, tier)", f'{assessed}{{outcome="at_once"}}'
    most = f"on (rail) group_left () (max by (rail) ({AT_ONCE}) > 0)"
    wilson = f"({AT_ONCE} + 2 / {n} + 2 * sqrt({AT_ONCE} * (1 - {AT_ONCE}) / {n} + 1 / {n} ^ 2)) / (1 + 4 / {n})"
    return [
        _rule(n, f"{by} (increase({assessed}[1d])) >= {objectives.group_min}"),
        _rule(AT_ONCE, f"{by} (increase({given}[1d])) / {n}"),
        _rule(PARITY, f"{AT_ONCE} / {most}"),
        _rule(PARITY_MOST, f"{wilson}\n/ {most}"),
    ]


def _rule(name: str, expression: str, labels: dict[str, str] | None = None) -> Rule:
    return {"record": name, "expr": expression, **({"labels": labels} if labels else {})}


def _burn(objectives: Objectives, objective: Objective, burn: Burn) -> Rule:
    """Return one pair of windows of one objective; increase() extrapolates, hence the half."""
    limit = f"{burn.factor * objective.budget:g}"
    which = f'{{slo="{objective.slo}"}}'
    return {
        "alert": BURN,
        "expr": f"{error_rate(burn.short)}{which} > {limit}\nand\n{error_rate(burn.long)}{which} > {limit}\nand\n"
        f"{breached(burn.long)}{which} > {burn.breaches - 0.5:g}",
        "for": burn.hold,
        "labels": {"severity": burn.severity, "slo": objective.slo, "window": f"{burn.short}/{burn.long}"},
        "annotations": {
            "summary": f"{objective.slo}: promises break {burn.factor:g} times as fast as the budget allows",
            "description": f"Promised to {objective.eligible}: {objective.good}, {objective.percent:g} % of the time."
            f" {{{{ $value | humanizePercentage }}}} broke it in the last {burn.short}, and too many over {burn.long}.",
            **_links(objectives, BURN, _BURN_COMMAND),
        },
    }


def _alert(objectives: Objectives, alert: Alert) -> Rule:
    limit = objectives.alert[alert.name]
    return {
        "alert": alert.name,
        "expr": alert.expression(limit),
        "for": limit.hold,
        "labels": {"severity": limit.severity},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            **_links(objectives, alert.name, alert.command),
        },
    }


def _links(objectives: Objectives, name: str, command: str) -> dict[str, str]:
    return {"runbook_url": f"{objectives.runbook}#{name.lower()}", "command": command}
