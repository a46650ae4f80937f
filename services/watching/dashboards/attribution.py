"""Where does the time go, stage by stage and cause by cause?"""

from typing import Final

from schemas.reasons import STAGES
from services.metrics import catalogue
from services.watching.board import Board, Section
from services.watching.panels import GOOD_AT_ZERO, Ask, cells, figure, graph, steps
from services.watching.promql import RANGE, increase, rate, ratio, total


def _seconds_a_part(matcher: str, by: str) -> str:
    spent = total(rate(catalogue.ATTRIBUTED, matcher), by)
    return f"{spent} / on () group_left () ({total(rate(catalogue.RESTORATIONS))} > 0)"


def _stage(stage: str) -> Ask:
    spent = total(increase(catalogue.ATTRIBUTED, f'stage="{stage}"', over=RANGE))
    return Ask(ratio(spent, total(increase(catalogue.RESTORATIONS, over=RANGE))), stage, instant=True)


ATTRIBUTION: Final = Board(
    uid="opentobuy-attribution",
    title="2 · Where the time goes",
    description="Every second between repaid and restored belongs to one stage and one cause.",
    sections=(
        Section(
            "Seconds of a restored part",
            (
                graph(
                    "Ours: system delay",
                    "Seconds our system took of each restored part, by cause: queue, processing,"
                    " dependencies, dead letters,"
                    " pauses. Apart from the rest, whose scale is hours.",
                    "s",
                    Ask(_seconds_a_part('cause_class="system_delay"', "cause"), "{{cause}}"),
                    stack="normal",
                ),
                graph(
                    "Policy, standing and the outside",
                    "Seconds of each restored part spent under observation, for the account's standing, or"
                    " outside of us.",
                    "s",
                    Ask(
                        _seconds_a_part('cause_class!="system_delay"', "cause_class, cause"),
                        "{{cause_class}} {{cause}}",
                    ),
                    stack="normal",
                ),
                graph(
                    "Share by cause class",
                    "All time between repaid and restored, as shares.",
                    "s",
                    Ask(total(rate(catalogue.ATTRIBUTED), "cause_class"), "{{cause_class}}"),
                    stack="percent",
                ),
                steps(
                    "Stages of a restored part",
                    "Mean seconds in each stage over the time shown, in the order of the pipeline; together"
                    " they are the mean"
                    " lag.",
                    "s",
                    *(_stage(stage) for stage in STAGES),
                ),
            ),
        ),
        Section(
            "Distribution and weight",
            (
                cells(
                    "Restoration lag",
                    "How many parts took how long, over time.",
                    "s",
                    Ask(total(increase(catalogue.RESTORATION_LAG, part="_bucket"), "le"), "{{le}}"),
                ),
                graph(
                    "Amount-weighted against plain lag",
                    "The mean lag of a part, and of a unit of money: apart when large amounts wait longer."
                    " Never summed over"
                    " currencies.",
                    "s",
                    Ask(
                        ratio(
                            total(rate(catalogue.WITHHELD), "currency"),
                            total(rate(catalogue.RESTORED_AMOUNT), "currency"),
                        ),
                        "weighted by amount {{currency}}",
                    ),
                    Ask(
                        ratio(
                            total(rate(catalogue.RESTORATION_LAG, part="_sum")),
                            total(rate(catalogue.RESTORATION_LAG, part="_count")),
                        ),
                        "plain",
                    ),
                    log=True,
                ),
                figure(
                    "Unattributed",
                    "Share of the lag that no recorded interval explains; must be 0.",
                    "percentunit",
                    Ask(
                        ratio(
                            f"{total(increase(catalogue.UNATTRIBUTED, over=RANGE))} / 1000",
                            total(increase(catalogue.RESTORATION_LAG, part="_sum", over=RANGE)),
                        ),
                        "unattributed",
                        instant=True,
                    ),
                    limits=GOOD_AT_ZERO,
                    decimals=3,
                    width=12,
                ),
                figure(
                    "Credit withheld",
                    "Amount times seconds kept back by each cause class over the time shown, in minor unit seconds.",
                    "short",
                    Ask(
                        total(increase(catalogue.WITHHELD, over=RANGE), "currency, cause_class"),
                        "{{cause_class}} {{currency}}",
                        instant=True,
                    ),
                    width=12,
                ),
            ),
        ),
    ),
)
