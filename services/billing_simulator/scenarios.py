"""The named scenarios: short stories about named repayments, as plans of billing's messages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from schemas.account import Language
from services.billing_simulator.plan import Billing, Plan, Planned, Repayment, redelivered

CASE_B_LIMIT: Final = 30_000
CASE_B_MONTHS: Final = ((0, 0), (24_159, 1_141), (5_907, 1_010), (660, 1_700), (1_537, 1_767), (746, 0))
"""What six statements made due and what was repaid after each, oldest first, in New Taiwan dollars: row 925 of the data
set the credit score is trained on (deploy/policy/models/NOTICE), always on time and below the threshold."""
CASE_B_UNIT: Final = 25
"""Minor units of the demo's money that are worth one New Taiwan dollar of the data set (limit_review.unit_minor)."""
CASE_B_MINIMUM: Final = 1_000
CASE_B_MONTH_SECONDS: Final = 0.9
"""A month of Case B lasts so long when it is played."""
FORMULA: Final = "demo_formula"
"""The demo's product in which prices decide (deploy/policy/demo_formula.toml)."""
REPAID_BEFORE_SECONDS: Final = 0.4
"""A scenario's repayment succeeds this long before billing reports it."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A short story about named repayments; ``about`` says what to watch.

    ``repayments`` and ``accounts`` are known before it is played; ``run`` keeps two plays in one stack apart.
    ``reviewed``: what it tells is the review of its account's limit, which somebody has to ask for.
    """

    name: str
    about: str
    repayments: tuple[Repayment, ...]
    write: Callable[[Billing, Sequence[Repayment]], list[Planned]]
    reviewed: bool = False

    @property
    def accounts(self) -> tuple[str, ...]:
        """Return the accounts it is about."""
        return tuple(dict.fromkeys(repayment.account_id for repayment in self.repayments))

    def plan(self, start: datetime) -> list[Planned]:
        """Return its messages in the order they are sent."""
        return sorted(self.write(Billing(start), self.repayments), key=lambda planned: planned.at_seconds)


def scenario(name: str, run: str = "") -> Scenario:
    """Return a scenario by its name; raise KeyError when there is none."""
    return SCENARIOS[name](run)


def together(scenarios: Sequence[Scenario]) -> Plan:
    """Return a plan that plays several scenarios side by side."""

    def plan(start: datetime) -> list[Planned]:
        messages = [planned for each in scenarios for planned in each.plan(start)]
        return sorted(messages, key=lambda planned: planned.at_seconds)

    return plan


def paid_on_time(run: str) -> Scenario:
    """A repayment on a final rail."""

    def write(billing: Billing, repayments: Sequence[Repayment]) -> list[Planned]:
        (repayment,) = repayments
        return [*_in_debt(billing, repayment, 500_000, 300_000), billing.report(1, repayment)]

    about = "a wallet repayment of 1200.00 is final: all of it is available again at once, one message says so"
    return Scenario("paid_on_time", about, (_repayment("on_time", run, 120_000),), write)


def held_and_explained(run: str) -> Scenario:
    """A repayment on a reversible rail, above the instant cap."""

    def write(billing: Billing, repayments: Sequence[Repayment]) -> list[Planned]:
        (repayment,) = repayments
        return [*_in_debt(billing, repayment, 500_000, 400_000, "en"), billing.report(1, repayment)]

    about = "a direct debit of 3000.00 can still be taken back: 1000.00 at once, 1000.00 after 10 s, 1000.00 after 20 s"
    repayment = _repayment("held_and_explained", run, 300_000, rail="direct_debit")
    return Scenario("held_and_explained", about, (repayment,), write)


def returned_after_restoration(run: str) -> Scenario:
    """Restored credit is spent, then the repayment is taken back (R8)."""

    def write(billing: Billing, repayments: Sequence[Repayment]) -> list[Planned]:
        (repayment,) = repayments
        return [
            *_in_debt(billing, repayment, 300_000, 280_000),
            billing.report(1, repayment),
            billing.purchase(4, repayment.account_id, amount_minor=190_000, number=2),
            billing.returned(6, repayment, code="R01"),
        ]

    about = "2500.00 restored, 1900.00 of it spent, then the bank takes 2500.00 back: available is -1700.00, shown 0.00"
    repayment = _repayment("returned_after_restoration", run, 250_000, rail="instant_transfer")
    return Scenario("returned_after_restoration", about, (repayment,), write)


def duplicate(run: str) -> Scenario:
    """One repayment reported three times (R10)."""

    def write(billing: Billing, repayments: Sequence[Repayment]) -> list[Planned]:
        (repayment,) = repayments
        report = billing.report(1, repayment)
        return [
            *_in_debt(billing, repayment, 500_000, 200_000),
            report,
            redelivered(report, 1.5),
            billing.report(2, repayment, number=2, kind="duplicate"),
        ]

    about = "the same repayment of 800.00 comes three times, once under a new message id: restored once"
    return Scenario("duplicate", about, (_repayment("duplicate", run, 80_000),), write)


def out_of_order(run: str) -> Scenario:
    """A return before its report, and a repayment before its account (R12)."""

    def write(billing: Billing, repayments: Sequence[Repayment]) -> list[Planned]:
        returned, early = repayments
        return [
            *_in_debt(billing, returned, 500_000, 200_000),
            billing.returned(1, returned, code="R02"),
            billing.report(2, returned),
            billing.purchase(0.1, early.account_id, amount_minor=200_000),
            billing.report(1, early),
            billing.opened(3, early.account_id, limit_minor=500_000, language="en"),
        ]

    about = "a return comes before its report: nothing moves; a repayment waits for its account, then is restored"
    repayments = (
        _repayment("return_first", run, 60_000, rail="direct_debit"),
        _repayment("account_later", run, 60_000),
    )
    return Scenario("out_of_order", about, repayments, write)


def poison(run: str) -> Scenario:
    """Messages nobody can read, between good ones of the same account."""

    def write(billing: Billing, repayments: Sequence[Repayment]) -> list[Planned]:
        (good,) = repayments
        return [
            *_in_debt(billing, good, 500_000, 200_000),
            billing.poison(1, replace(good, external_ref=f"{good.external_ref}_bad_1"), "broken_json"),
            billing.poison(1.5, replace(good, external_ref=f"{good.external_ref}_bad_2"), "float_amount"),
            billing.report(2, good),
        ]

    about = "two unreadable messages become dead letters with a reason; the 700.00 behind them is restored all the same"
    return Scenario("poison", about, (_repayment("poison", run, 70_000),), write)


def conflict(run: str) -> Scenario:
    """The same reference with another amount (R10)."""

    def write(billing: Billing, repayments: Sequence[Repayment]) -> list[Planned]:
        (repayment,) = repayments
        other = replace(repayment, amount_minor=repayment.amount_minor * 10)
        return [
            *_in_debt(billing, repayment, 500_000, 400_000),
            billing.report(1, repayment),
            billing.report(2, other, number=2, kind="conflict"),
        ]

    about = "300.00 is restored; then the same reference says 3000.00: that report is set aside for a person"
    return Scenario("conflict", about, (_repayment("conflict", run, 30_000),), write)


def case_a(run: str) -> Scenario:
    """A large repayment, part of it observed (R6)."""

    def write(billing: Billing, repayments: Sequence[Repayment]) -> list[Planned]:
        (repayment,) = repayments
        return [*_in_debt(billing, repayment, 600_000, 550_000), billing.report(1, repayment)]

    about = "5000.00 repaid by direct debit: 1000.00 at once, 2000.00 after 10 s, 2000.00 after 20 s, each date told"
    return Scenario("case_a", about, (_repayment("case_a", run, 500_000, rail="direct_debit"),), write)


def frozen_then_active(run: str) -> Scenario:
    """A repayment on a frozen account waits without a date, for a condition (R19, R23)."""

    def write(billing: Billing, repayments: Sequence[Repayment]) -> list[Planned]:
        (repayment,) = repayments
        account = repayment.account_id
        return [
            *_in_debt(billing, repayment, 200_000, 150_000),
            billing.status(0.2, account, "frozen", reason="overdue"),
            billing.report(1, repayment),
            billing.status(6, account, "active", reason="paid"),
        ]

    about = "240.00 repaid on a frozen account: none of it back, the reason told; active again after 5 s: 740.00 usable"
    return Scenario("frozen_then_active", about, (_repayment("frozen", run, 24_000),), write)


def priced_at_once(run: str) -> Scenario:
    """A small risk: waiting costs more than what may be lost (risk 4.2)."""

    def write(billing: Billing, repayments: Sequence[Repayment]) -> list[Planned]:
        (repayment,) = repayments
        priced = replace(billing, product=FORMULA)
        linked = billing.linked(0.2, repayment.account_id, repayment.funding_account_id or "")
        return [*_in_debt(priced, repayment, 1_000_000, 400_000), linked, billing.report(1, repayment)]

    about = "2000.00 by direct debit from the customer's own bank account: prices decide, and all of it is back at once"
    repayment = _repayment("priced_at_once", run, 200_000, rail="direct_debit", bank="own_bank")
    return Scenario("priced_at_once", about, (repayment,), write)


def priced_in_part(run: str) -> Scenario:
    """Nobody vouches for the bank account, little credit is unused: a part now spares declined purchases (risk 4.3)."""

    def write(billing: Billing, repayments: Sequence[Repayment]) -> list[Planned]:
        (repayment,) = repayments
        priced = replace(billing, product=FORMULA)
        return [*_in_debt(priced, repayment, 1_000_000, 980_000, "en"), billing.report(1, repayment)]

    about = "3000.00 by direct debit from an account nobody verified: 338.81 at once, the rest two days of 6 s later"
    repayment = _repayment("priced_in_part", run, 300_000, rail="direct_debit", bank="a_bank")
    return Scenario("priced_in_part", about, (repayment,), write)


def priced_held(run: str) -> Scenario:
    """Repaid, spent and repaid again from an account nobody verified: all of it waits (risk 4.3)."""

    def write(billing: Billing, repayments: Sequence[Repayment]) -> list[Planned]:
        first, again = repayments
        priced = replace(billing, product=FORMULA)
        return [
            *_in_debt(priced, first, 150_000, 100_000),
            billing.report(1, first),
            billing.purchase(3, first.account_id, amount_minor=100_000, number=2),
            billing.report(5, again),
        ]

    about = "1000.00 repaid, spent and repaid again by direct debit, of a limit of 1500.00: held three days of 6 s"
    first = _repayment("priced_held", run, 100_000)
    again = replace(
        _repayment("priced_held_again", run, 100_000, rail="direct_debit", bank="a_bank"),
        account_id=first.account_id,
        repaid_seconds=5 - REPAID_BEFORE_SECONDS,
    )
    return Scenario("priced_held", about, (first, again), write)


def case_b(run: str) -> Scenario:
    """Always on time, and the limit does not grow: a month of the golden customer lasts a second (risk 7)."""
    about = (
        "285.25, 252.50, 425.00 and 441.75 repaid of six bills, always on time: the customer asks why the limit of "
        "7500.00 does not grow"
    )
    named = [(n, CASE_B_UNIT * paid) for n, (_, paid) in enumerate(CASE_B_MONTHS) if paid]
    first = _repayment("case_b", run, 0).account_id
    repayments = tuple(
        replace(_repayment(f"case_b_{n}", run, minor), account_id=first, repaid_seconds=_case_b_seconds(n) + 0.2)
        for n, minor in named
    )

    def write(billing: Billing, repayments: Sequence[Repayment]) -> list[Planned]:
        months = [message for n, (due, _) in enumerate(CASE_B_MONTHS) for message in _month(billing, first, n, due)]
        reports = [billing.report(each.repaid_seconds + 0.3, each) for each in repayments]
        return [billing.opened(0, first, limit_minor=CASE_B_UNIT * CASE_B_LIMIT), *months, *reports]

    return Scenario("case_b", about, repayments, write, reviewed=True)


SCENARIOS: Final[dict[str, Callable[[str], Scenario]]] = {
    write.__name__: write
    for write in (
        paid_on_time,
        held_and_explained,
        returned_after_restoration,
        duplicate,
        out_of_order,
        poison,
        conflict,
        frozen_then_active,
        case_a,
        priced_at_once,
        priced_in_part,
        priced_held,
        case_b,
    )
}


def _case_b_seconds(month: int) -> float:
    """Return when the statement of a month is issued."""
    return 1 + CASE_B_MONTH_SECONDS * month


def _month(billing: Billing, account_id: str, month: int, due: int) -> list[Planned]:
    """Return what is bought before a statement, the first of it before anything else, and the statement."""
    due_minor, at = CASE_B_UNIT * due, _case_b_seconds(month)
    minimum_minor = min(due_minor, CASE_B_UNIT * CASE_B_MINIMUM)
    issued = billing.statement(at, account_id, due_minor=due_minor, minimum_minor=minimum_minor, number=month)
    if not due:
        return [issued]
    bought_at = 0.1 if month == 1 else at - 0.2
    return [billing.purchase(bought_at, account_id, amount_minor=due_minor, number=month), issued]


def _repayment(label: str, run: str, amount_minor: int, *, rail: str = "wallet", bank: str | None = None) -> Repayment:
    name = f"demo_{label}_{run}" if run else f"demo_{label}"
    funding = None if bank is None else f"{bank}_{name}"
    return Repayment(
        f"acct_{name}", f"rep_{name}", amount_minor, rail, 1 - REPAID_BEFORE_SECONDS, funding_account_id=funding
    )


def _in_debt(
    billing: Billing, repayment: Repayment, limit_minor: int, debt_minor: int, language: Language = "zh-CN"
) -> list[Planned]:
    """Open the account of ``repayment`` and put it in debt."""
    account = repayment.account_id
    return [
        billing.opened(0, account, limit_minor=limit_minor, language=language),
        billing.purchase(0.1, account, amount_minor=debt_minor),
    ]
