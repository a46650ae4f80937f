"""One account's debt ledger without I/O: facts in, timers fired, what was told kept."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from schemas.event import Event
from schemas.settlement import RepaymentReturned, RepaymentSettled, RepaymentsReallocated
from services.decision import Decision, Input, Timer, TimerFired
from services.policy import Profiles
from services.settlement.domain import decide
from services.settlement.model import COMPONENTS, STANDINGS, Account, Debt
from tests import builders
from tests.unit.given import china, moment, profiles

Owed = dict[tuple[str, str], int]
CHARGES = {"penalty_minor": 0, "fee_minor": 0, "interest_minor": 0}


@dataclass
class Ledger:
    """What settlement knows of one account, and what it told."""

    policy: Profiles = field(default_factory=profiles)
    state: Account = field(default_factory=lambda: Account(builders.ACCOUNT))
    timers: dict[str, Timer] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.state.product:
            self.take(builders.account_opened(), china("2026-01-05"))

    def take(self, event: Input, now: datetime) -> Decision[Account]:
        decision = decide(self.policy, self.state, event, moment(now))
        self.state = decision.state
        self.timers |= {timer.key: timer for timer in decision.timers}
        self.events += decision.events
        return decision

    def fire_until(self, now: datetime) -> list[Decision[Account]]:
        """Fire what is due, in order."""
        due = sorted((t for t in self.timers.values() if t.due_at <= now), key=lambda t: (t.due_at, t.key))
        for timer in due:
            del self.timers[timer.key]
        return [self.take(TimerFired(builders.ACCOUNT, timer), max(now, timer.due_at)) for timer in due]

    def buy(self, at: datetime, amount: int, ref: str = "p1", **more: Any) -> Decision[Account]:
        bought = {"purchase_id": ref, "amount_minor": amount, "occurred_at": at}
        return self.take(builders.purchase_posted(**bought, **more), at)

    def charge(self, at: datetime, **amounts: int) -> Decision[Account]:
        charges = {**CHARGES, **{f"{name}_minor": amount for name, amount in amounts.items()}}
        return self.take(builders.charges_accrued(**charges, occurred_at=at), at)

    def statement(self, at: datetime, due: int, minimum: int, due_on: str) -> Decision[Account]:
        day = datetime.fromisoformat(due_on).date()
        said = {"due_minor": due, "minimum_minor": minimum, "due_on": day, "occurred_at": at}
        return self.take(builders.statement_issued(**said), at)

    def refund(self, at: datetime, amount: int, ref: str = "p1", name: str = "f1") -> Decision[Account]:
        parts = {"to_debt_minor": amount, "to_payer_minor": 0}
        refunded = builders.purchase_refunded(refund_id=name, purchase_id=ref, occurred_at=at, **parts)
        return self.take(refunded, at)

    def repay(self, at: datetime, amount: int, ref: str = "r1", now: datetime | None = None, **more: Any) -> Any:
        """Settle a repayment made at ``at`` and heard at ``now``; return what is told of it."""
        said = {"repayment_id": ref, "external_ref": ref, "amount_minor": amount, "repaid_at": at, "rail": "wallet"}
        decision = self.take(builders.repayment_received(**{**said, **more}), now or at + timedelta(seconds=2))
        return next(iter(decision.events), None)

    def give_back(self, at: datetime, amount: int, ref: str = "r1", **more: Any) -> Any:
        said = {"repayment_id": ref, "external_ref": ref, "amount_minor": amount, **more}
        return next(iter(self.take(builders.return_received(**said), at).events), None)

    def owed(self) -> Owed:
        """Return every bucket that holds something, and the credit balance."""
        return owed(self.state.books.debts) | (
            {("we", "owe"): self.state.books.credit_balance_minor} if self.state.books.credit_balance_minor else {}
        )


def owed(debts: Sequence[Debt]) -> Owed:
    """Add debts up by bucket."""
    buckets = {(standing, component): 0 for standing in STANDINGS for component in COMPONENTS}
    for debt in debts:
        buckets[debt.standing, debt.component] += debt.amount_minor
    return {bucket: amount for bucket, amount in buckets.items() if amount}


def plans(ledger: Ledger) -> dict[str, int]:
    """Return what is owed of each plan."""
    found: dict[str, int] = {}
    for debt in ledger.state.books.debts:
        found[debt.plan] = found.get(debt.plan, 0) + debt.amount_minor
    return found


def instalments(ledger: Ledger) -> list[int]:
    """Return the numbers of the instalments that are owed."""
    return sorted(debt.number for debt in ledger.state.books.debts if debt.number)


def told_of(events: Sequence[Event]) -> dict[str, tuple[int, int]]:
    """Return restorable and credit balance of each settled repayment as a reader of the events adds them up."""
    told: dict[str, tuple[int, int]] = {}
    for event in events:
        match event:
            case RepaymentSettled():
                told[event.repayment_id] = (event.restorable_minor, event.credit_balance_minor)
            case RepaymentReturned():
                assert told.pop(event.repayment_id) == (event.restorable_minor, event.credit_balance_minor)
            case RepaymentsReallocated():
                pass
            case _:
                continue
        for ref, restorable, balance in event.reallocated:
            told[ref] = (told[ref][0] + restorable, told[ref][1] + balance)
    return told


def in_state(state: Account) -> dict[str, tuple[int, int]]:
    """Return the same from the books."""
    return {
        ref: (one.restorable_now_minor, one.credit_balance_minor)
        for ref, one in state.repayments.items()
        if one.status == "settled"
    }


def lanes(state: Account) -> dict[str, Any]:
    """Return what each settled repayment paid, whatever was told of it."""
    return {
        ref: replace(one, restorable_minor=one.restorable_now_minor, reallocated_minor=0)
        for ref, one in state.repayments.items()
        if one.status == "settled"
    }
