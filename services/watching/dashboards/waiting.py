"""Who waits, for what, until when?"""

from typing import Final

from services.metrics import catalogue
from services.watching.alerts import PARITY
from services.watching.board import Board, Section
from services.watching.objectives import load_objectives
from services.watching.panels import INSTANT, Ask, Sql, figure, graph, rows
from services.watching.promql import age, increase, of, ratio, total

_ASKED: Final = load_objectives()
ONE: Final = "/d/opentobuy-one-repayment?var-repayment=${__value.raw}&${__url_time_range}"
_OLDEST: Final = """\
SELECT repayment_id AS "repayment", stage, cause, tier, rail,
  amount_minor AS "amount, minor units", currency, repaid_at AS "repaid", due_at AS "until",
  promised_by AS "promised", waiting_seconds AS "waits"
FROM watching.waiting
WHERE stage ~ '^(${stage:regex})$' AND coalesce(tier, 'unknown') ~ '^(${tier:regex})$'
  AND currency ~ '^(${currency:regex})$'
ORDER BY waits_from LIMIT 50
"""
WAITING: Final = Board(
    uid="opentobuy-waiting",
    title="4 · What waits",
    description="The longest waiting repayments with their cause and promise, and what is held, parked or set aside.",
    sections=(
        Section(
            "Now",
            (
                figure(
                    "Held parts",
                    "Parts kept back until a date, by cause.",
                    "short",
                    Ask(
                        total(of(catalogue.HELD, 'cause=~"risk_hold|manual_review"'), "cause"),
                        "{{cause}}",
                        instant=True,
                    ),
                    width=5,
                ),
                figure(
                    "Parked parts",
                    "Parts kept back until a condition, by cause.",
                    "short",
                    Ask(
                        total(of(catalogue.HELD, 'cause=~"frozen|overdue_elsewhere"'), "cause"),
                        "{{cause}}",
                        instant=True,
                    ),
                    width=5,
                ),
                figure(
                    "Held amount",
                    "Credit kept back, in minor units.",
                    "short",
                    Ask(total(of(catalogue.HELD_AMOUNT), "cause, currency"), "{{cause}} {{currency}}", instant=True),
                    width=10,
                ),
                figure(
                    "Next promise",
                    "When the next held part is promised.",
                    "dateTimeFromNow",
                    Ask(f"min({of(catalogue.NEXT_PROMISED)}) * 1000", "next", instant=True),
                    width=4,
                ),
            ),
        ),
        Section(
            "Risk",
            (
                graph(
                    "Models on trial",
                    "Return models tried beside the one in force; ended broke a rule, gone_back did so in force.",
                    "short",
                    Ask(total(of(catalogue.MODEL_TRIALS), "outcome"), "{{outcome}}"),
                ),
                graph(
                    "Exposed",
                    "Given back and not final yet, minor units, by product: what a budget bounds.",
                    "short",
                    Ask(total(of(catalogue.EXPOSED), "product"), "{{product}}"),
                ),
                graph(
                    "Over budget",
                    "Repayments of the last 15 minutes that the portfolio's spent budget kept back.",
                    "short",
                    Ask(f"max({of(catalogue.OVER_BUDGET)})", "kept back"),
                ),
                graph(
                    "Given back at once",
                    "Share of the repayments of a tier on a rail whose first verdict held nothing.",
                    "percentunit",
                    Ask(
                        ratio(
                            total(increase(catalogue.ASSESSED, 'outcome="at_once"'), "tier, rail"),
                            total(increase(catalogue.ASSESSED), "tier, rail"),
                        ),
                        "{{tier}} {{rail}}",
                    ),
                ),
                graph(
                    "At once beside the tier with most",
                    f"That share of a day's {_ASKED.group_min} repayments or more, divided by the largest of its rail.",
                    "percentunit",
                    Ask(f'{PARITY}{{tier=~"$tier"}}', "{{tier}} {{rail}}"),
                ),
                graph(
                    "Relief",
                    "1 while the instant cap of low-risk tiers is wider because our own delay burns an objective.",
                    "short",
                    Ask(f"max by (product) ({of(catalogue.RELIEF)})", "{{product}}"),
                ),
                graph(
                    "Spent for relief",
                    "What reliefs of the last day are expected to lose, minor units, and what they may.",
                    "short",
                    Ask(f"max by (product) ({of(catalogue.RELIEF_SPENT)})", "{{product}} spent"),
                    Ask(f"max by (product) ({of(catalogue.RELIEF_BUDGET)})", "{{product}} budget"),
                ),
            ),
        ),
        Section(
            "The oldest",
            (
                rows(
                    "Fifty oldest",
                    "The longest waiting repayments from the ledger; an id leads to its journey.",
                    Sql(_OLDEST),
                    units={"waits": "s"},
                    links={"repayment": ONE},
                    widths={
                        "repayment": 130,
                        "stage": 90,
                        "cause": 220,
                        "tier": 80,
                        "rail": 120,
                        "amount, minor units": 170,
                        "currency": 80,
                        "waits": 90,
                        **dict.fromkeys(("repaid", "until", "promised"), INSTANT),
                    },
                    height=14,
                ),
            ),
        ),
        Section(
            "Set aside",
            (
                graph(
                    "Held and parked over time",
                    "Parts kept back, by cause.",
                    "short",
                    Ask(total(of(catalogue.HELD), "cause"), "{{cause}}"),
                    stack="normal",
                ),
                graph(
                    "Dead letters",
                    "Records set aside that nobody closed, by stage and reason.",
                    "short",
                    Ask(f"{total(of(catalogue.DEAD_LETTERS), 'stage, reason')} > 0", "{{stage}} {{reason}}"),
                    stack="normal",
                ),
                graph(
                    "Oldest dead letter",
                    "Age of the oldest open dead letter; nothing where there is none.",
                    "s",
                    Ask(age(catalogue.OLDEST_DEAD_LETTER, "stage"), "{{stage}}"),
                ),
            ),
        ),
    ),
)
