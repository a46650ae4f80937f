"""Is credit coming back, and as fast as promised?"""

from typing import Final

from services.metrics import catalogue
from services.watching.board import Board, Section
from services.watching.panels import Ask, figure, graph
from services.watching.promql import RANGE, age, increase, of, quantile, rate, ratio, total

_DECIDED: Final = total(increase(catalogue.SLA_OUTCOMES, over=RANGE), "slo")
_BROKEN: Final = total(increase(catalogue.SLA_OUTCOMES, 'outcome="breached"', over=RANGE), "slo")
_KEPT: Final = f"1 - {ratio(_BROKEN, _DECIDED)}"
OVERVIEW: Final = Board(
    uid="opentobuy-overview",
    title="1 · Credit restored: overview",
    description="Is credit coming back, as fast as promised, and where does it wait?",
    sections=(
        Section(
            "Promises",
            (
                figure(
                    "Promises kept",
                    "Share of promises decided in the time shown that were kept, by objective; nothing"
                    " decided, nothing shown.",
                    "percentunit",
                    Ask(_KEPT, "{{slo}}", instant=True),
                    limits=((None, "red"), (0.99, "orange"), (0.999, "green")),
                    decimals=3,
                    width=12,
                ),
                figure(
                    "Budget left",
                    "What is left of the share that may break in 30 days, weighted by volume; below 0 it is overdrawn.",
                    "percentunit",
                    Ask('slo:credit_budget_remaining:ratio30d{slo=~"$slo"}', "{{slo}}", instant=True),
                    limits=((None, "red"), (0, "orange"), (0.25, "green")),
                    decimals=1,
                    width=12,
                ),
            ),
        ),
        Section(
            "From repaid to restored",
            (
                graph(
                    "Restoration lag by tier",
                    "Time from repaid to restored of parts that came back: median and 99th percentile, on a"
                    " logarithmic"
                    " axis. Points are single repayments with their trace.",
                    "s",
                    Ask(quantile(0.5, catalogue.RESTORATION_LAG, "tier"), "p50 {{tier}}"),
                    Ask(quantile(0.99, catalogue.RESTORATION_LAG, "tier"), "p99 {{tier}}", exemplars=True),
                    log=True,
                ),
                graph(
                    "Repaid against restored",
                    "Repayments reported as succeeded and parts restored, a second. One repayment can have"
                    " several parts.",
                    "cps",
                    Ask(total(rate(catalogue.REPAYMENTS)), "repaid"),
                    Ask(total(rate(catalogue.RESTORATIONS)), "restored"),
                ),
            ),
        ),
        Section(
            "What waits",
            (
                graph(
                    "Oldest waiting by stage",
                    "Age of the longest waiting repayment, by where it waits and what for. Only"
                    " `system_delay` is ours.",
                    "s",
                    Ask(age(catalogue.OLDEST_PENDING, "stage, cause_class"), "{{stage}} {{cause_class}}"),
                    log=True,
                ),
                graph(
                    "Waiting by stage",
                    "Repayments that are not restored and not over.",
                    "short",
                    Ask(total(of(catalogue.PENDING), "stage"), "{{stage}}"),
                    stack="normal",
                ),
                graph(
                    "Credit that waits",
                    "Amount not restored yet, in minor units, by what it waits for; one currency a series.",
                    "short",
                    Ask(total(of(catalogue.PENDING_AMOUNT), "cause_class, currency"), "{{cause_class}} {{currency}}"),
                    stack="normal",
                ),
                graph(
                    "Unfinished against started",
                    "Parts that ended, by how, against repayments that began; what stays between waits.",
                    "cps",
                    Ask(total(rate(catalogue.OUTCOMES), "outcome"), "{{outcome}}"),
                    stack="normal",
                ),
            ),
        ),
    ),
)
