"""The state of settlement: debts by bucket, the facts they follow from, and the money lane of each repayment."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final, Literal, NamedTuple, get_args

from schemas.account import CASH
from schemas.repayment import Method
from schemas.settlement import DebtComponent, Standing
from services.values import at_once

Status = Literal["new", "waiting", "settled", "rejected", "returned", "returned_first"]
News = Literal["pending", "succeeded", "failed", "return"]
LANE: Final[Mapping[tuple[Status, News], Status]] = {
    ("new", "pending"): "waiting",
    ("new", "succeeded"): "settled",
    ("new", "failed"): "rejected",
    ("new", "return"): "returned_first",
    ("waiting", "succeeded"): "settled",
    ("waiting", "failed"): "rejected",
    ("waiting", "return"): "rejected",
    ("returned_first", "pending"): "rejected",
    ("returned_first", "succeeded"): "rejected",
    ("returned_first", "failed"): "rejected",
    ("settled", "return"): "returned",
}
"""The money lane (domain 3.1): what is not here is stale, so no lane goes back and every end is an end."""

STANDINGS: Final[tuple[Standing, ...]] = get_args(Standing)
COMPONENTS: Final[tuple[DebtComponent, ...]] = get_args(DebtComponent)
UNCOVERED: Final = "uncovered"
"""The plan of principal that stands for a credit balance which was paid out or used, and then taken back (R13)."""


class Debt(NamedTuple):
    """An amount owed in one bucket: a charge, or principal of one ``plan`` at ``apr_bps``.

    ``due_on`` is the day of the statement that made it due; an instalment is ``number`` of ``of`` of its purchase.
    """

    standing: Standing
    component: DebtComponent
    amount_minor: int
    plan: str = ""
    apr_bps: int = 0
    due_on: date | None = None
    purchase_id: str = ""
    number: int = 0
    of: int = 0

    @property
    def place(self) -> tuple[object, ...]:
        """Return what tells this debt from others, whatever is owed of it."""
        return self[:2] + self[3:]

    def of_minor(self, amount_minor: int) -> "Debt":
        """Return the same debt of another amount; ``_replace`` takes 1.7 times as long."""
        standing, component, _, plan, apr_bps, due_on, purchase_id, number, of = self
        return Debt(standing, component, amount_minor, plan, apr_bps, due_on, purchase_id, number, of)


class Cycle(NamedTuple):
    """A statement whose day has not passed: ``left_minor`` of its minimum is not paid yet."""

    due_on: date
    left_minor: int


class Books(NamedTuple):
    """The debt ledger at one point of value time; every day before ``day`` is over."""

    debts: tuple[Debt, ...] = ()
    credit_balance_minor: int = 0
    cycles: tuple[Cycle, ...] = ()
    day: date = date.min

    def owed(self, component: DebtComponent | None = None, standing: Standing | None = None) -> int:
        """Return what is owed in minor units, of one component or standing only when named."""
        total = 0
        for debt in self.debts:
            if standing in (None, debt.standing) and component in (None, debt.component):
                total += debt.amount_minor
        return total


def drawn(debts: Iterable[Debt]) -> int:
    """Return what of debts was drawn in cash, in minor units."""
    total = 0
    for debt in debts:
        if debt.plan == CASH:
            total += debt.amount_minor
    return total


EntryKind = Literal["purchase", "charges", "refund", "statement", "payout"]
RANKS: Final[Mapping[str, int]] = {
    "purchase": 0,
    "charges": 1,
    "correction": 2,
    "refund": 3,
    "statement": 4,
    "payout": 5,
    "repayment": 6,
}
"""What comes first at one instant: what is owed, then what lessens it, then what is due, then what pays."""
Key = tuple[datetime, int, str]
"""A place in value time: the instant, then the kind, then the id."""


@at_once
@dataclass(frozen=True)
class Entry:
    """What billing told of the debt, once for ever; ``folded`` when it is part of the base and not replayed any more.

    ``amounts`` in minor units: a purchase and its instalments, three charges, what a refund gives to the debt, what is
    due and its minimum, what was paid out.
    """

    ref: str
    kind: EntryKind
    at: datetime
    day: date
    amounts: tuple[int, ...]
    subject: str = ""
    plan: str = ""
    apr_bps: int = 0
    due_on: date | None = None
    folded: bool = False


@at_once
@dataclass(frozen=True)
class Repayment:
    """The money lane of one repayment and what it paid.

    ``portions`` are the debts it took in order; ``restorable_minor`` is what RepaymentSettled told and
    ``reallocated_minor`` the net change by replays since.
    """

    repayment_id: str
    status: Status
    amount_minor: int = 0
    method: Method | None = None
    repaid_at: datetime | None = None
    credited_on: date | None = None
    final_on: date | None = None
    portions: tuple[Debt, ...] = ()
    credit_balance_minor: int = 0
    restorable_minor: int = 0
    reallocated_minor: int = 0
    folded: bool = False

    @property
    def restorable_now_minor(self) -> int:
        """Return what may be restored of it after every replay."""
        return self.restorable_minor + self.reallocated_minor


class Latest(NamedTuple):
    """The settled repayment of the latest value date."""

    repayment_id: str
    method: Method
    repaid_at: datetime


@dataclass(frozen=True)
class Account:
    """One account; ``product`` is empty until it was opened.

    ``books`` follow from ``base`` and the facts that are not folded, in value order. ``complete`` says that base and
    those facts are at hand: a store leaves them out when nothing of a batch comes late. ``last_at`` is the latest
    instant the books know; ``kept`` counts facts not folded, at ``fold_at`` the oldest are folded. ``read_to`` names
    the events of billing's that were booked last, but for statements, the newest first, a space between each; ``told``
    counts the events that said what is owed.
    ``version`` counts what was written of it, for the store alone.
    """

    account_id: str
    product: str = ""
    currency: str = ""
    books: Books = field(default_factory=Books)
    last_at: datetime | None = None
    latest: Latest | None = None
    kept: int = 0
    fold_at: int = 256
    complete: bool = True
    base: Books = field(default_factory=Books)
    entries: Mapping[str, Entry] = field(default_factory=dict)
    repayments: Mapping[str, Repayment] = field(default_factory=dict)
    version: int = 0
    read_to: str = ""
    told: int = 0

    @property
    def penalty_minor(self) -> int:
        """Return the penalties owed."""
        return self.books.owed("penalty")

    @property
    def fee_minor(self) -> int:
        """Return the fees owed."""
        return self.books.owed("fee")

    @property
    def interest_minor(self) -> int:
        """Return the interest owed."""
        return self.books.owed("interest")

    @property
    def principal_minor(self) -> int:
        """Return the principal owed."""
        return self.books.owed("principal")

    @property
    def credit_balance_minor(self) -> int:
        """Return what we owe the customer."""
        return self.books.credit_balance_minor
