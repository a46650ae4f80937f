"""The availability ledger and the credit lane as values: AVAILABLE + USED + PENDING_RELEASE = credit_limit, always."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from schemas.event import Segment
from schemas.ids import AccountId
from schemas.reasons import AccountStatus, Reason, standing
from schemas.restoration import DecisionRecord
from schemas.risk import Faster
from services.limit_release.heard import NOTHING, Heard
from services.values import at_once, replace

JournalKind = Literal[
    "OPEN", "RAISE", "CUT", "AUTHORISE", "UNAUTHORISE", "POST", "PURCHASE", "CHARGE", "REFUND",
    "SETTLE", "RELEASE", "VOID", "REVERSE", "REALLOCATE", "ABSORB", "UNCOVER",
]  # fmt: skip
TrancheState = Literal["held", "parked", "restored", "voided", "reversed", "lapsed"]
LANE: Final[frozenset[tuple[TrancheState, TrancheState]]] = frozenset(
    {
        ("held", "restored"),
        ("held", "parked"),
        ("held", "voided"),
        ("held", "lapsed"),
        ("parked", "restored"),
        ("parked", "held"),
        ("parked", "voided"),
        ("parked", "lapsed"),
        ("lapsed", "voided"),
        ("restored", "reversed"),
    }
)
"""Every step of the credit lane (domain 3.2); a tranche begins held, parked, restored or lapsed."""
WAITING: Final[tuple[TrancheState, ...]] = ("held", "parked")


@at_once
@dataclass(frozen=True)
class Journal:
    """One entry with its legs in minor units; with the contra leg -limit they sum to 0 (domain 4.2)."""

    kind: JournalKind
    ref: str
    available_minor: int = 0
    used_debt_minor: int = 0
    used_authorisation_minor: int = 0
    pending_minor: int = 0

    @property
    def limit_minor(self) -> int:
        """Return what the entry adds to the credit limit."""
        return self.available_minor + self.used_debt_minor + self.used_authorisation_minor + self.pending_minor


@at_once
@dataclass(frozen=True)
class Tranche:
    """The credit lane of one part of a repayment.

    ``promised_by`` is the promise that counts; ``promises`` were made so far, so the next one is revision ``promises``.
    ``delayed`` tells that its breach was told. ``reason`` is why it was held, parked or restored first.
    """

    repayment_id: str
    number: int
    amount_minor: int
    state: TrancheState
    until: datetime
    reason: Reason
    promised_by: datetime
    restored_at: datetime | None = None
    promises: int = 0
    extensions: int = 0
    delayed: bool = False

    @property
    def waits(self) -> bool:
        """Tell whether it may still be restored."""
        return self.state in WAITING

    def to(self, state: TrancheState, **changes: Any) -> "Tranche":
        """Move along the lane; raise ValueError where there is no such step."""
        if (self.state, state) not in LANE:
            raise ValueError(f"tranche {self.repayment_id}:{self.number} cannot go from {self.state} to {state}")
        return replace(self, state=state, **changes)


@dataclass(frozen=True)
class Authorisation:
    """A purchase approved and not yet posted."""

    authorisation_id: str
    amount_minor: int


@dataclass(frozen=True)
class Account:
    """One account's availability; ``product`` is empty until it was opened.

    ``booked`` holds what of the purchases and refunds an input names was booked before. ``spendable`` is the profile's
    word on the credit balance at the last decision; ``cash_used_minor`` is the part of the debt drawn in cash.
    ``charges_minor`` is owed beside USED(debt) where charges do not use the limit (PRINCIPAL): credit balance pays it.
    ``overpaid_minor`` of charges was paid before it was read that they accrued; it is credit balance, or paid debt.
    What of charges happened until ``overpaid_until`` was paid with it; None is no bound.
    ``corrected_at`` is the latest instant at which billing took charges off; ``corrected_minor`` of them was paid,
    is credit balance or paid debt since, and settlement did not say yet whose money it is.
    ``heard`` is what settlement and billing last told of the debt; ``unjoined_minor`` are overpayments that settlement
    told of and that did not join the credit balance; below 0 where that was read first.
    ``status_at``, ``limit_at`` and ``cash_limit_at`` are when billing last changed each; None is as it was opened.
    ``version`` counts what was written of it, for the store alone.
    """

    account_id: AccountId
    product: str = ""
    currency: str = ""
    status: AccountStatus = "active"
    status_reason: str = ""
    credit_limit_minor: int = 0
    available_minor: int = 0
    used_debt_minor: int = 0
    used_authorisation_minor: int = 0
    pending_minor: int = 0
    credit_balance_minor: int = 0
    charges_minor: int = 0
    overpaid_minor: int = 0
    overpaid_until: datetime | None = None
    corrected_at: datetime | None = None
    corrected_minor: int = 0
    limit_lowered_at: datetime | None = None
    spendable: bool = False
    cash_sub_limit_minor: int | None = None
    cash_used_minor: int = 0
    authorisations: Mapping[str, Authorisation] = field(default_factory=dict)
    journals: tuple[Journal, ...] = ()
    booked: frozenset[str] = frozenset()
    version: int = 0
    status_at: datetime | None = None
    limit_at: datetime | None = None
    cash_limit_at: datetime | None = None
    heard: Heard = NOTHING
    unjoined_minor: int = 0

    def book(self, *journals: Journal) -> "Account":
        """Append entries, in order."""
        limit, available, debt = self.credit_limit_minor, self.available_minor, self.used_debt_minor
        authorised, pending = self.used_authorisation_minor, self.pending_minor
        lowered_at = self.limit_lowered_at
        for entry in journals:
            limit += entry.limit_minor
            available += entry.available_minor
            debt += entry.used_debt_minor
            authorised += entry.used_authorisation_minor
            pending += entry.pending_minor
            lowered_at = lowered_at if available <= 0 else None
        return replace(
            self,
            credit_limit_minor=limit,
            available_minor=available,
            used_debt_minor=debt,
            used_authorisation_minor=authorised,
            pending_minor=pending,
            limit_lowered_at=lowered_at,
            journals=(*self.journals, *journals),
        )

    def limited(self, ref: str, limit_minor: int, at: datetime) -> "Account":
        """Raise or cut the credit limit; a cut is remembered while nothing is available (R18)."""
        change = limit_minor - self.credit_limit_minor
        if change >= 0:
            return self.book(Journal("RAISE", ref, available_minor=change))
        return replace(self, limit_lowered_at=at).book(Journal("CUT", ref, available_minor=change))

    def authorises(self, authorisation: Authorisation) -> "Account":
        """Remember what an authorisation comes to."""
        return replace(self, authorisations={**self.authorisations, authorisation.authorisation_id: authorisation})

    def authorised(self, ref: str, amount_minor: int) -> "Account":
        """Use credit for a purchase approved and not yet posted."""
        entry = Journal("AUTHORISE", ref, available_minor=-amount_minor, used_authorisation_minor=amount_minor)
        return self.book(entry).authorises(Authorisation(ref, amount_minor))

    def unauthorised(self, ref: str) -> "Account":
        """Let go what is left of an authorisation; an unknown one is nothing."""
        known = self.authorisations.get(ref)
        if known is None or not known.amount_minor:
            return self
        amount = known.amount_minor
        entry = Journal("UNAUTHORISE", ref, available_minor=amount, used_authorisation_minor=-amount)
        return self.book(entry).authorises(replace(known, amount_minor=0))

    def posted(self, ref: str, authorisation_ref: str, amount_minor: int) -> "Account":
        """Book a purchase: what its authorisation covered was used already; the rest of the authorisation is let go."""
        known = self.authorisations.get(authorisation_ref, Authorisation(authorisation_ref, 0))
        covered, account = min(amount_minor, known.amount_minor), self
        if covered:
            entry = Journal("POST", ref, used_debt_minor=covered, used_authorisation_minor=-covered)
            rest = replace(known, amount_minor=known.amount_minor - covered)
            account = self.book(entry).authorises(rest).unauthorised(authorisation_ref)
        if covered == amount_minor:
            return account
        more = amount_minor - covered
        return account.book(Journal("PURCHASE", ref, available_minor=-more, used_debt_minor=more))

    def accrued(self, change_minor: int, at: datetime) -> "Account":
        """Follow what billing says of charges; when it last took some off is remembered."""
        if change_minor >= 0:
            return self.charged(change_minor, at)
        paid = self.corrected_minor + max(0, -change_minor - self.charges_minor)
        noted = replace(self, corrected_at=max(at, self.corrected_at or at), corrected_minor=paid)
        return noted.corrected(change_minor)

    def corrected(self, change_minor: int) -> "Account":
        """Take charges off; what was paid of them is the customer's: when it pays them again, settlement tells it."""
        owed = self.charges_minor + change_minor
        balance = self.credit_balance_minor + max(0, -owed)
        return replace(self, charges_minor=max(0, owed), credit_balance_minor=balance)

    def uncorrected(self, amount_minor: int) -> "Account":
        """Take back out of the credit balance what charges taken off had put into it: settlement said whose it is."""
        balance, left = self.credit_balance_minor - amount_minor, self.corrected_minor - amount_minor
        return replace(self, credit_balance_minor=balance, corrected_minor=left)

    def settled(self, charges_minor: int, at: datetime) -> "Account":
        """Follow what a repayment of ``at`` pays of charges; those corrected since are overpaid for good."""
        if self.corrected_at is not None and at <= self.corrected_at:
            paid = self.corrected_minor + max(0, charges_minor - self.charges_minor)
            return replace(self, corrected_minor=paid).corrected(-charges_minor)
        return self.charged(-charges_minor, at)

    def charged(self, change_minor: int, at: datetime | None) -> "Account":
        """Follow what is owed of charges; ``at`` is when it was so in value time, None where nobody knows.

        Charges below 0 are overpaid: their money is credit balance, for absorbed() to use. When charges of a time
        before that come back, or are read at last, the same money has paid them: it is no credit balance then (R24).
        What a repayment pays of charges is overpaid once they are corrected, though the correction was read first.
        """
        until = self.overpaid_until
        within = at is None or until is None or at <= until
        back = min(max(0, change_minor), self.overpaid_minor) if within else 0
        owed = self.charges_minor + change_minor - back
        over = max(0, -owed)
        if over:
            unbounded = at is None or (self.overpaid_minor and until is None)
            until = None if at is None or unbounded else max(at, until or at, self.corrected_at or at)
        overpaid = self.overpaid_minor - back + over
        return replace(
            self,
            charges_minor=owed + over,
            overpaid_minor=overpaid,
            overpaid_until=until if overpaid else None,
            credit_balance_minor=self.credit_balance_minor - back + over,
        )

    def absorbed(self, ref: str) -> "Account":
        """Let a credit balance pay debt at once; what was paid beyond the debt becomes credit balance (domain 4.3).

        A credit balance below 0 was paid out before it was earned, or taken back after: it is debt, uncovered.
        USED(debt) below 0 was cancelled after it was paid: it is credit balance again, which pays like any other. So it
        makes no difference which topic was read first, neither is below 0 after it, and a second call changes nothing.
        """
        over = max(0, -self.used_debt_minor)
        balance = self.credit_balance_minor + over
        charges = min(max(balance, 0), self.charges_minor)
        amount = min(balance - charges, self.used_debt_minor + over) - over
        if not (amount or charges):
            return self
        left = self.credit_balance_minor - charges - amount
        paid = replace(self, credit_balance_minor=left, charges_minor=self.charges_minor - charges)
        if not amount:
            return paid
        kind: JournalKind = "ABSORB" if amount > 0 else "UNCOVER"
        return paid.book(Journal(kind, ref, available_minor=amount, used_debt_minor=-amount))

    def balanced(self, change_minor: int, ref: str) -> "Account":
        """Change the credit balance, then let it pay debt or be uncovered."""
        return replace(self, credit_balance_minor=self.credit_balance_minor + change_minor).absorbed(ref)

    def shown(self, *, spendable: bool) -> int:
        """Return the available credit a customer is shown: never negative, 0 while frozen or closed."""
        if self.status != "active":
            return 0
        return max(0, self.available_minor + (self.credit_balance_minor if spendable else 0))

    def cash_shown(self) -> int | None:
        """Return what of the available credit may be drawn in cash; None without a cash sub-limit (R20)."""
        if self.cash_sub_limit_minor is None:
            return None
        left = self.cash_sub_limit_minor - self.cash_used_minor
        return max(0, min(left, self.shown(spendable=self.spendable)))

    def zero_reason(self, *, spendable: bool) -> Reason | None:
        """Return why 0 is shown; None when more is shown, or when all of the limit is simply used."""
        if self.shown(spendable=spendable):
            return None
        if self.status == "closed":
            return Reason.ACCOUNT_CLOSED
        if self.status == "frozen":
            return standing(self.status_reason)[1]
        if self.limit_lowered_at is not None:
            return Reason.LIMIT_LOWERED
        return Reason.OVER_LIMIT if self.available_minor < 0 else None


@at_once
@dataclass(frozen=True)
class Repayment:
    """One repayment: what its later events need to tell its whole story.

    It is settled, then ``assessed``; ``late`` tells that the decision owed on it was told late. ``restorable_minor``
    and ``credit_balance_minor`` are as assessed; replays change them by ``reallocated_minor``, of which
    ``reallocated_available_minor`` went past the tranches, and by ``reallocated_balance_minor`` (R24). ``joined``
    tells that its credit balance is the customer's.
    """

    repayment_id: str
    assessed: bool = False
    returned: bool = False
    late: bool = False
    joined: bool = False
    amount_minor: int = 0
    restorable_minor: int = 0
    credit_balance_minor: int = 0
    reallocated_minor: int = 0
    reallocated_available_minor: int = 0
    reallocated_balance_minor: int = 0
    currency: str = ""
    rail: str = ""
    repaid_at: datetime | None = None
    version: int = 0
    revision: int = 0
    trail: tuple[Segment, ...] = ()
    reasons: tuple[Reason, ...] = ()
    faster: tuple[Faster, ...] = ()
    policy_version: str = ""
    model_version: str = ""
    calendar_version: str = ""
    clear_seconds: int = 60
    hold_slack_seconds: int = 60
    tranches: Mapping[int, Tranche] = field(default_factory=dict)
    records: tuple[DecisionRecord, ...] = ()

    def part(self, *states: str) -> int:
        """Return the sum of the tranches in ``states``, minor units."""
        total = 0
        for t in self.tranches.values():
            if t.state in states:
                total += t.amount_minor
        return total

    @property
    def waiting(self) -> tuple[Tranche, ...]:
        """Return the tranches that may still be restored, in the order of their numbers."""
        return tuple([t for _, t in sorted(self.tranches.items()) if t.state in WAITING])

    @property
    def charges_minor(self) -> int:
        """Return what it pays of charges as far as it was told; 0 for one nothing was told of."""
        return self.amount_minor - self.restorable_minor - self.reallocated_minor - self.balance_minor

    @property
    def balance_minor(self) -> int:
        """Return what of it is credit balance after replays."""
        return self.credit_balance_minor + self.reallocated_balance_minor

    def put(self, *tranches: Tranche) -> "Repayment":
        """Return it with ``tranches`` replaced or added."""
        return replace(self, tranches={**self.tranches, **{t.number: t for t in tranches}})


@at_once
@dataclass(frozen=True)
class State:
    """An account and the repayments an input touches."""

    account: Account
    repayments: Mapping[str, Repayment] = field(default_factory=dict)

    def repayment(self, repayment_id: str) -> Repayment:
        """Return a repayment; one of which nothing is known is a new one."""
        known = self.repayments.get(repayment_id)
        return Repayment(repayment_id) if known is None else known

    def after(self, account: Account) -> "State":
        """Return it with what the account became; itself where nothing changed."""
        return self if account is self.account else State(account, self.repayments)

    def put(self, repayment: Repayment) -> "State":
        """Return it with ``repayment`` replaced or added."""
        return State(self.account, {**self.repayments, repayment.repayment_id: repayment})

    def book(self, *journals: Journal) -> "State":
        """Append entries to the ledger."""
        return State(self.account.book(*journals), self.repayments) if journals else self
