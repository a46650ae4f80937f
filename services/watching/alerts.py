"""The alerts: the expression of each in PromQL, what it means to the one who is woken, and where to look first."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.metrics import catalogue
from services.watching.objectives import Limit


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert whose limit, patience and severity are in objectives.toml; ``command`` shows the cases."""

    name: str
    expression: Callable[[Limit], str]
    summary: str
    description: str
    command: str


def _number(limit: Limit) -> str:
    return f"{limit.limit:g}"


def stuck(limit: Limit) -> str:
    """Return: the longest waiting repayment of a stage waits for us for longer than the limit."""
    oldest = f'{catalogue.OLDEST_PENDING.name}{{cause_class="system_delay"}}'
    return f"time() - min by (stage) ({oldest}) > {_number(limit)}"


def overdue(limit: Limit) -> str:
    """Return: holds are past their promised date."""
    return f'sum(max by (slo, cause) ({catalogue.SLA_OVERDUE.name}{{slo="hold_promise"}})) > {_number(limit)}'


def blind(limit: Limit) -> str:
    """Return: the exporter's last success is too old, or nobody tells of one."""
    name = catalogue.EXPORTER_SUCCESS.name
    return f"time() - max({name}) > {_number(limit)}\nor\nabsent({name})"


def broken(limit: Limit) -> str:
    """Return: an invariant is violated, or a ledger is out of balance."""
    return (
        f"max by (invariant) ({catalogue.INVARIANTS.name}) > {_number(limit)}\nor\n"
        f"max by (currency) (abs({catalogue.IMBALANCE.name})) > {_number(limit)}"
    )


def unattributed(limit: Limit) -> str:
    """Return: what is attributed to causes is not the lag that was measured."""
    lag = f"sum(rate({catalogue.RESTORATION_LAG.name}_sum[30m]))"
    known = f"sum(rate({catalogue.ATTRIBUTED.name}[30m]))"
    return (
        f"abs({known} - {lag}) / ({lag} > 0) > {_number(limit)}\nor\n"
        f"sum(increase({catalogue.UNATTRIBUTED.name}[30m])) > 0"
    )


def dead_letters(limit: Limit) -> str:
    """Return: records are set aside and nobody closed them."""
    return f"sum by (stage) (max by (stage, reason) ({catalogue.DEAD_LETTERS.name})) > {_number(limit)}"


def outbox(limit: Limit) -> str:
    """Return: what a service committed is not on its topic."""
    return f"time() - min by (service) ({catalogue.OLDEST_OUTBOX.name}) > {_number(limit)}"


def consumer(limit: Limit) -> str:
    """Return: a group has records before it, and the first of them is too old."""
    by = "max by (group, topic, partition)"
    return (
        f"{by} ({catalogue.CONSUMER_LAG_SECONDS.name}) > {_number(limit)}\nand\n"
        f"{by} ({catalogue.CONSUMER_LAG.name}) > 0"
    )


def probes(limit: Limit) -> str:
    """Return: so many probes of the last ten minutes did not come back; increase() extrapolates, hence the half."""
    return f"sum(increase({catalogue.PROBES_LOST.name}[10m])) > {limit.limit - 0.5:g}"


def skew(limit: Limit) -> str:
    """Return: another clock is off."""
    return f"max by (source) (abs({catalogue.CLOCK_SKEW.name})) > {_number(limit)}"


def over_budget(limit: Limit) -> str:
    """Return: the portfolio's budget is spent and keeps repayments back."""
    return f"max({catalogue.OVER_BUDGET.name}) > {_number(limit)}"


def ended(limit: Limit) -> str:
    """Return: a model on trial broke a rule and was ended by it."""
    return f'max({catalogue.MODEL_TRIALS.name}{{outcome="ended"}}) > {_number(limit)}'


def gone_back(limit: Limit) -> str:
    """Return: a model in force broke a rule, and what decided before it does again."""
    return f'max({catalogue.MODEL_TRIALS.name}{{outcome="gone_back"}}) > {_number(limit)}'


def unfair(limit: Limit) -> str:
    """Return: a tier's or a rail's credit is held several times as long as usual for it, by amount."""
    parts = (f"{by}:credit_hold_amount_weighted_seconds:ratio_rate1d" for by in ("tier", "rail"))
    return "\nor\n".join(f"{part} > {_number(limit)} * quantile_over_time(0.5, {part}[30d])" for part in parts)


def unequal(limit: Limit) -> str:
    """Return: a tier fell behind the others of its rail, further than chance explains."""
    return f"{PARITY}\nand\n{PARITY_MOST} < {_number(limit)} * quantile_over_time(0.5, {PARITY}[30d])"


BURN: Final = "CreditSLOBudgetBurn"
UNFAIR: Final = "CreditHoldUnfair"
UNEQUAL: Final = "CreditAtOnceUnfair"
OVER_MONTHS: Final = (UNFAIR, UNEQUAL)
"""Alerts that compare with what was usual for a month."""
GROUP: Final = "rail_tier:credit_assessed:increase1d"
AT_ONCE: Final = "rail_tier:credit_at_once:ratio1d"
PARITY: Final = "rail_tier:credit_at_once_parity:ratio1d"
PARITY_MOST: Final = "rail_tier:credit_at_once_parity_most:ratio1d"
"""Recorded by the rules: how many were assessed in a day, their share given back at once, that beside the tier with
most, and the most it may well be."""
ALERTS: Final = (
    Alert(
        "CreditRestoreStuck",
        stuck,
        "Credit is not coming back: {{ $labels.stage }} stands still",
        "The longest waiting repayment in {{ $labels.stage }} was repaid {{ $value | humanizeDuration }} ago and waits"
        " for us, not for a hold. Nothing that completes shows this; only what waits does.",
        "otb lag",
    ),
    Alert(
        "CreditHoldPromiseOverdue",
        overdue,
        "{{ $value }} held parts are past the date their customers were promised",
        "A customer was told when the credit comes back and it did not. Releasing late is explained to the customer"
        " as a broken promise.",
        "otb check",
    ),
    Alert(
        "CreditLagBlind",
        blind,
        "Nobody measures the lag",
        "The lag exporter has not read its ledger for a minute, or cannot be scraped. Every other figure about credit"
        " is as old as that; silence of the other alerts means nothing now.",
        "otb check",
    ),
    Alert(
        "CreditInvariantBroken",
        broken,
        "The books are wrong: {{ $labels.invariant }}{{ $labels.currency }}",
        "A rule that always holds does not: {{ $labels.invariant }}{{ $labels.currency }} by {{ $value }}. Credit may"
        " be shown that is not there, or be missing.",
        "otb check",
    ),
    Alert(
        "CreditLagUnattributed",
        unattributed,
        "Part of the lag has no cause",
        "The seconds attributed to causes and the measured lag differ, or milliseconds are counted that no recorded"
        " interval explains. The attribution cannot be trusted until it is found why.",
        "otb check",
    ),
    Alert(
        "CreditDeadLetters",
        dead_letters,
        "{{ $value }} records are set aside in {{ $labels.stage }}",
        "Records that could not be read or applied wait for a person; the repayments in them are not on their way.",
        "otb dlq list",
    ),
    Alert(
        "CreditOutboxStuck",
        outbox,
        "{{ $labels.service }} commits and does not publish",
        "The oldest publication of {{ $labels.service }} that Kafka has not acknowledged is"
        " {{ $value | humanizeDuration }} old. The books are right, the next stages do not know of it.",
        "otb check",
    ),
    Alert(
        "CreditConsumerStalled",
        consumer,
        "{{ $labels.group }} does not get on with {{ $labels.topic }}",
        "The first record of partition {{ $labels.partition }} that {{ $labels.group }} has not committed is"
        " {{ $value | humanizeDuration }} old.",
        "otb lag",
    ),
    Alert(
        "CreditProbeLost",
        probes,
        "Test repayments do not come back",
        "{{ $value | humanize }} probe repayments of the last ten minutes were not restored within 60 s. The same"
        " happens to customers.",
        "otb lag",
    ),
    Alert(
        "CreditClockSkew",
        skew,
        "The clock of {{ $labels.source }} is off by {{ $value | humanizeDuration }}",
        "Stamps of two clocks are joined in each repayment's lag. Figures stay non-negative and add up, but time is"
        " booked to the wrong stage while clocks differ.",
        "otb check",
    ),
    Alert(
        "CreditBudgetSpent",
        over_budget,
        "{{ $value }} repayments are held because the budget is spent",
        "More is given back and not final yet than the product's budget allows, so nothing is given back at once any"
        " more on rails that may take it back. Customers who would have had their credit at once wait.",
        "otb risk status",
    ),
    Alert(
        "CreditCanaryEnded",
        ended,
        "A return model on trial ended by itself",
        "It held twice as many as the model in force, or more came back than chance allows. The model in force decides"
        " for every account again; what it decided before stands.",
        "otb risk status",
    ),
    Alert(
        "CreditModelWentBack",
        gone_back,
        "The return model in force went back by itself",
        "It held twice as many as what decided before it would have, or more came back than chance allows. What decided"
        " before it decides again for every account; what it decided stands.",
        "otb risk status",
    ),
    Alert(
        UNFAIR,
        unfair,
        "Holds of {{ $labels.tier }}{{ $labels.rail }} last several times as long as usual",
        "Weighted by amount, credit of {{ $labels.tier }}{{ $labels.rail }} in {{ $labels.currency }} was held"
        " {{ $value | humanizeDuration }}, over three times the median of the last 30 days, for a day.",
        "otb lag --seconds 86400",
    ),
    Alert(
        UNEQUAL,
        unequal,
        "Tier {{ $labels.tier }} is given back at once on {{ $labels.rail }} less often beside the others than usual",
        "Of a day's repayments, all of the credit came back at once {{ $value | humanizePercentage }} as often as for"
        " the tier for which it did most often: below four fifths of the median of the last 30 days, and by more than"
        " chance.",
        "otb risk status",
    ),
)
NAMES: Final = (BURN, *(alert.name for alert in ALERTS))
