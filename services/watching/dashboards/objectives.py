"""How fast is the budget of each objective spent?"""

from typing import Final

from services.metrics import catalogue
from services.watching.board import Board, Section
from services.watching.objectives import load_objectives
from services.watching.panels import Ask, Limits, figure, graph
from services.watching.promql import RANGE, increase, of, total
from services.watching.rules import error_rate

_ASKED: Final = load_objectives()
_COLOURS: Final = {"page": "red", "ticket": "orange"}
_LINES: Final[Limits] = (
    (None, "transparent"),
    *sorted((burn.factor, _COLOURS[burn.severity]) for burn in _ASKED.burn),
)
OBJECTIVES: Final = Board(
    uid="opentobuy-objectives",
    title="5 · Objectives and budgets",
    description="What was promised, how often it broke, and how fast the budget for that is spent.",
    since="now-6h",
    sections=(
        Section(
            "Burning",
            (
                graph(
                    "Budget burn by window",
                    "How many times as fast as allowed promises break, by range. Lines are where it wakes"
                    " somebody (red) or"
                    " makes a ticket (orange), when a short and a long range are over it at once.",
                    "short",
                    *(
                        Ask(
                            f'{error_rate(window)}{{slo=~"$slo"}} / on (slo) slo:credit_sla_budget:ratio',
                            f"{{{{slo}}}} over {window}",
                        )
                        for window in _ASKED.windows
                    ),
                    lines=_LINES,
                    width=24,
                ),
            ),
        ),
        Section(
            "Promises",
            (
                graph(
                    "Promises decided",
                    "Promises by whether they were kept, each counted once, at its deadline or before.",
                    "short",
                    Ask(total(increase(catalogue.SLA_OUTCOMES), "slo, outcome"), "{{slo}} {{outcome}}"),
                    stack="normal",
                ),
                graph(
                    "Overdue now",
                    "Promises past their deadline whose credit is not back, by what it waits for.",
                    "short",
                    Ask(total(of(catalogue.SLA_OVERDUE), "slo, cause"), "{{slo}} {{cause}}"),
                    stack="normal",
                ),
                figure(
                    "Broken in the time shown",
                    "Promises broken, by objective.",
                    "short",
                    Ask(
                        total(increase(catalogue.SLA_OUTCOMES, 'outcome="breached"', over=RANGE), "slo"),
                        "{{slo}}",
                        instant=True,
                    ),
                    decimals=0,
                    width=12,
                ),
                graph(
                    "Budget left",
                    "What is left of the share that may break in 30 days.",
                    "percentunit",
                    Ask('slo:credit_budget_remaining:ratio30d{slo=~"$slo"}', "{{slo}}"),
                    lines=((None, "red"), (0, "transparent")),
                ),
            ),
        ),
    ),
)
