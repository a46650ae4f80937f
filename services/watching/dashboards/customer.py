"""What do customers notice?"""

from typing import Final

from services.metrics import catalogue
from services.watching.board import Board, Section
from services.watching.panels import Ask, graph
from services.watching.promql import increase, of, quantile, rate, total

CUSTOMER: Final = Board(
    uid="opentobuy-customer",
    title="6 · What customers notice",
    description="What they were told and when, what they asked, and where there was no credit to give back.",
    since="now-6h",
    sections=(
        Section(
            "Told",
            (
                graph(
                    "Messages by outcome",
                    "Messages a second; requested ones are on their way.",
                    "cps",
                    Ask(total(rate(catalogue.NOTIFICATIONS), "channel, outcome"), "{{channel}} {{outcome}}"),
                ),
                graph(
                    "Told after restored, 95th percentile",
                    "Time from restored to the first delivery acknowledged.",
                    "s",
                    Ask(quantile(0.95, catalogue.NOTIFICATION_LAG, "channel"), "{{channel}}"),
                    log=True,
                ),
                graph(
                    "Messages by text",
                    "What was said, by template.",
                    "short",
                    Ask(total(increase(catalogue.NOTIFICATIONS, 'outcome="requested"'), "template"), "{{template}}"),
                    stack="normal",
                ),
            ),
        ),
        Section(
            "Asked",
            (
                graph(
                    "Questions and complaints",
                    "Feedback by topic.",
                    "short",
                    Ask(total(increase(catalogue.FEEDBACK), "topic"), "{{topic}}"),
                    stack="normal",
                ),
                graph(
                    "Open cases",
                    "Cases nobody closed, by kind.",
                    "short",
                    Ask(total(of(catalogue.CASES), "kind, priority"), "{{kind}} {{priority}}"),
                    stack="normal",
                ),
                graph(
                    "Cases by age: time until the first is due",
                    "Below 0 a case is overdue.",
                    "s",
                    Ask(f"min by (kind, priority) ({of(catalogue.OLDEST_CASE)}) - time()", "{{kind}} {{priority}}"),
                ),
            ),
        ),
        Section(
            "Not given back, or taken back",
            (
                graph(
                    "Nothing to restore by reason",
                    "Repayments that gave no credit back.",
                    "short",
                    Ask(total(increase(catalogue.OUTCOMES, 'outcome="nothing_to_restore"'), "reason"), "{{reason}}"),
                    stack="normal",
                ),
                graph(
                    "Restored, then reversed",
                    "Parts whose credit came back and was taken back, and those returned before.",
                    "short",
                    Ask(
                        total(increase(catalogue.OUTCOMES, 'outcome=~"reversed|returned"'), "outcome, reason"),
                        "{{outcome}} {{reason}}",
                    ),
                    stack="normal",
                ),
                graph(
                    "Given back and not final",
                    "Credit restored that the rail can still take away, in minor units.",
                    "short",
                    Ask(total(of(catalogue.RETURNABLE), "rail, currency"), "{{rail}} {{currency}}"),
                    stack="normal",
                ),
            ),
        ),
    ),
)
