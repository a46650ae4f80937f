"""What happened to this one?"""

from typing import Final

from services.watching.board import Board, Section
from services.watching.panels import INSTANT, Sql, rows, spans

TRACE: Final = (
    '/explore?schemaVersion=1&panes={"a":{"datasource":"opentobuy-traces",'
    '"queries":[{"refId":"A","query":"${__value.raw}"}]}}'
)
_JOURNEY: Final = """\
SELECT repayment_id AS "repayment", account_id AS "account", source, rail, amount_minor AS "amount, minor units",
  currency, tier, repaid_at AS "repaid", stage, cause, due_at AS "until", outcome, reason
FROM watching.journey WHERE repayment_id = ${repayment:sqlstring}
"""
_SPANS: Final = """\
SELECT from_at AS "time", 'part ' || tranche AS part, stage || ': ' || cause AS "spent on"
FROM watching.segment WHERE repayment_id = ${repayment:sqlstring}
UNION ALL
SELECT max(to_at), 'part ' || tranche, NULL FROM watching.segment WHERE repayment_id = ${repayment:sqlstring}
GROUP BY tranche
ORDER BY 1
"""
_SEGMENTS: Final = """\
SELECT tranche AS "part", n, stage, cause, from_at AS "from", to_at AS "to", ms AS "spent"
FROM watching.segment WHERE repayment_id = ${repayment:sqlstring} ORDER BY tranche, n
"""
_RESTORED: Final = """\
SELECT tranche AS "part", amount_minor AS "amount, minor units", currency, restored_at AS "restored", lag_ms AS "lag",
  cause AS "mostly", trace_id AS "trace"
FROM watching.restoration WHERE repayment_id = ${repayment:sqlstring} ORDER BY tranche
"""
_PROMISES: Final = """\
SELECT tranche AS "part", slo AS "objective", deadline_at AS "promised by", over_at AS "ended",
  coalesce(outcome, 'open') AS "outcome", late_ms AS "late by"
FROM watching.promise WHERE repayment_id = ${repayment:sqlstring} ORDER BY deadline_at, tranche, slo
"""
_MESSAGES: Final = """\
SELECT at, channel, language, template, state, ended_at AS "ended", text
FROM watching.message WHERE repayment_id = ${repayment:sqlstring} ORDER BY at
"""
_CAUSE: Final = 240
_WIDTHS: Final = {
    "repayment": 280,
    "account": 220,
    "source": 90,
    "rail": 120,
    "amount, minor units": 170,
    "currency": 80,
    "tier": 90,
    "stage": 90,
    "cause": _CAUSE,
    "outcome": 130,
    "repaid": INSTANT,
    "until": INSTANT,
}
ONE_REPAYMENT: Final = Board(
    uid="opentobuy-one-repayment",
    title="8 · One repayment",
    description="The journey of one repayment from the ledger. For operators: it shows one customer's case.",
    repayment=True,
    sections=(
        Section(
            "Where it is",
            (rows("Journey", "What is known of it, where it waits and why.", Sql(_JOURNEY), widths=_WIDTHS, height=5),),
        ),
        Section(
            "Where its time went",
            (
                spans("Stages and causes", "Its parts over time, by what they waited for.", Sql(_SPANS)),
                rows(
                    "Segments",
                    "They add up to the lag, to the millisecond.",
                    Sql(_SEGMENTS),
                    units={"spent": "ms"},
                    widths={"part": 60, "n": 50, **_WIDTHS, "from": INSTANT, "to": INSTANT, "spent": 100},
                ),
                rows(
                    "Restored parts",
                    "What came back, when, and what took most of the time.",
                    Sql(_RESTORED),
                    units={"lag": "ms"},
                    links={"trace": TRACE},
                    widths={"part": 60, **_WIDTHS, "restored": INSTANT, "lag": 100, "mostly": _CAUSE},
                    height=5,
                ),
            ),
        ),
        Section(
            "What was promised and said",
            (
                rows(
                    "Promise against actual",
                    "What was owed by when, and when it ended.",
                    Sql(_PROMISES),
                    units={"late by": "ms"},
                    widths={
                        "part": 60,
                        "objective": 150,
                        "outcome": 120,
                        "late by": 100,
                        "promised by": INSTANT,
                        "ended": INSTANT,
                    },
                    height=7,
                ),
                rows(
                    "Messages",
                    "What the customer was told.",
                    Sql(_MESSAGES),
                    widths={"at": INSTANT, "channel": 100, "language": 90, "ended": INSTANT, "text": 800},
                    height=7,
                ),
            ),
        ),
    ),
)
