"""The facts limit-release tells, built from the books as they are after the decision."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from schemas.event import dominant_cause
from schemas.ids import EventId, RepaymentId, event_id
from schemas.made import made
from schemas.reasons import Cause, Reason, standing
from schemas.restoration import (
    CreditRestored,
    DecisionRecord,
    HeldPart,
    HeldSum,
    HoldPlaced,
    HoldReleased,
    MovedPart,
    NothingToRestore,
    PromiseMade,
    RestorationDelayed,
    RestorationParked,
    RestorationReversed,
    Together,
    ToldRecord,
)
from schemas.risk import RiskAssessed
from schemas.settlement import RepaymentReturned
from services.decision import Moment
from services.limit_release.model import Account, Repayment, State, Tranche
from services.policy import Profile
from services.values import at_once, replace

Outcome = Literal["restored", "held", "parked", "nothing_to_restore", "reversed", "delayed"]

_make_record = made(DecisionRecord)
_make_promised = made(PromiseMade)
_make_restored = made(CreditRestored)
_make_held = made(HoldPlaced)
_make_hold_released = made(HoldReleased)
_make_parked = made(RestorationParked)
_make_nothing = made(NothingToRestore)
_make_delayed = made(RestorationDelayed)
_make_reversed = made(RestorationReversed)


@dataclass(frozen=True)
class Taken:
    """What a return changed, minor units: available credit by -from_available + reallocated - uncovered."""

    from_hold_minor: int
    from_available_minor: int
    reallocated_minor: int
    uncovered_minor: int


@dataclass(frozen=True)
class Shared:
    """What one fact came to for several repayments, and the account after the last; the first of them tells of all."""

    account: Account
    together: Together
    first: str

    @staticmethod
    def of(after: State, ids: Sequence[str]) -> "Shared":
        """Return what the newest records of these repayments say together."""
        told = [(RepaymentId(at), after.repayments[at].records[-1]) for at in ids]
        held: Counter[datetime] = Counter()
        for part in (part for _, record in told for part in record.held):
            held[part.until] += part.amount_minor
        together = Together(
            repayments=len(ids),
            restored_minor=sum(record.restored_minor for _, record in told),
            held_sums=tuple(HeldSum(amount, until) for until, amount in sorted(held.items())),
            tells_of=tuple(ToldRecord(at, record.version) for at, record in told[1:]),
        )
        return Shared(after.account, together, ids[0])

    def told(self, repayment_id: str) -> Together:
        """Return it as the record of one of them has it."""
        if repayment_id == self.first:
            return self.together
        return self.together.model_copy(update={"told_with": RepaymentId(self.first), "tells_of": ()})


@at_once
@dataclass(frozen=True)
class Scene:
    """The profile in force, the instants of the input, what caused its facts, and the account before them.

    ``verdict`` is what this is about, None where the input is something else; ``shared`` is what it comes to for
    several repayments, None where each is told by itself.
    """

    profile: Profile
    moment: Moment
    cause: EventId
    before: Account
    verdict: RiskAssessed | None = None
    shared: Shared | None = None

    @property
    def now(self) -> datetime:
        """Return the instant of the decision."""
        return self.moment.now

    def available(self, account: Account) -> int:
        """Return what the customer is shown, minor units."""
        return account.shown(spendable=self.profile.credit_balance_spendable)

    def zero_reason(self, account: Account) -> Reason | None:
        """Return why 0 is shown."""
        return account.zero_reason(spendable=self.profile.credit_balance_spendable)

    def recorded(
        self,
        state: State,
        repayment: Repayment,
        outcome: Outcome,
        reasons: Sequence[Reason],
        *,
        restored: int = 0,
        taken_back: int = 0,
        late: int = 0,
        promised_by: datetime | None = None,
        moved: MovedPart | None = None,
    ) -> tuple[State, Repayment, DecisionRecord]:
        """Write the next version of the decision record from the books now."""
        held = tuple([HeldPart(t.number, t.amount_minor, t.until) for t in repayment.waiting if t.state == "held"])
        at, after = repayment.repaid_at or self.now, self._after(state)
        record = _make_record(
            version=repayment.version + 1,
            decided_at=self.now,
            outcome=outcome,
            amount_minor=repayment.amount_minor,
            currency=repayment.currency,
            rail=repayment.rail,
            repaid_at=at,
            credited_on=self.profile.credited_on(at),
            restored_minor=restored,
            promised_by=promised_by,
            late_minor=late,
            held=held,
            moved=moved,
            parked_minor=repayment.part("parked"),
            taken_back_minor=taken_back,
            other_minor=after.available_minor - self.before.available_minor - restored + taken_back,
            reasons=tuple(reasons)[:4],
            faster=repayment.faster if held else (),
            **self._shown(after, repayment.repayment_id),
            **_versions(repayment, self.verdict),
        )
        kept = replace(repayment, version=record.version, records=(*repayment.records, record))
        return state.put(kept), kept, record

    def _after(self, state: State) -> Account:
        """Return the account as it is told: after all that was decided together."""
        return self.shared.account if self.shared else state.account

    def _shown(self, account: Account, repayment_id: str) -> dict[str, Any]:
        """Return both numbers, what was shown before, and why 0 is shown; the limit and its date where that is why.

        With what it was decided together with.
        """
        available = self.available(account)
        why = None if available else self.zero_reason(account)
        lowered = why is Reason.LIMIT_LOWERED
        return {
            "available_credit_minor": available,
            "available_raw_minor": account.available_minor,
            "available_before_minor": self.available(self.before),
            "zero_reason": why,
            "credit_limit_minor": account.credit_limit_minor if lowered else None,
            "limit_lowered_at": account.limit_lowered_at if lowered else None,
            "together": self.shared.told(repayment_id) if self.shared else None,
        }

    def base(self, state: State, name: str, repayment: Repayment, *number: int) -> dict[str, Any]:
        """Return what every fact has; its id follows from the repayment, the tranche and the record's version."""
        parts = (repayment.repayment_id, *map(str, number), str(repayment.version))
        return {
            "event_id": event_id(name, *parts),
            "account_id": state.account.account_id,
            "occurred_at": self.now,
            "caused_by": self.cause,
            "repayment_id": RepaymentId(repayment.repayment_id),
        }

    def promised(
        self, state: State, repayment: Repayment, t: Tranche, basis: Literal["clear", "hold"], by: datetime
    ) -> PromiseMade:
        """Promise a tranche by a date; ``t`` counts this promise already, and revision 0 is what counts."""
        return _make_promised(
            **self.base(state, "PromiseMade", repayment, t.number),
            tranche=t.number,
            amount_minor=t.amount_minor,
            currency=repayment.currency,
            promised_by=by,
            basis=basis,
            revision=t.promises - 1,
            policy_version=repayment.policy_version,
            calendar_version=repayment.calendar_version,
        )

    def restored(self, state: State, repayment: Repayment, t: Tranche, record: DecisionRecord) -> CreditRestored:
        """Tell that a tranche is usable again, with the whole journey."""
        repaid_at = repayment.repaid_at or self.now
        end = repayment.trail[-1][2] if repayment.trail else repaid_at
        return _make_restored(
            **self.base(state, "CreditRestored", repayment, t.number),
            repaid_at=repaid_at,
            trail=repayment.trail,
            tranche=t.number,
            amount_minor=t.amount_minor,
            currency=repayment.currency,
            available_credit_minor=record.available_credit_minor,
            available_raw_minor=record.available_raw_minor,
            zero_reason=record.zero_reason,
            cause=dominant_cause(repaid_at, repayment.trail),
            reason=t.reason,
            restored_at=max(self.now, end),
            promised_by=t.promised_by,
            record=record,
        )

    def held(self, state: State, repayment: Repayment, t: Tranche, record: DecisionRecord) -> HoldPlaced:
        """Tell that a tranche is kept back until a date."""
        return _make_held(
            **self.base(state, "HoldPlaced", repayment, t.number),
            tranche=t.number,
            amount_minor=t.amount_minor,
            currency=repayment.currency,
            until=t.until,
            reasons=repayment.reasons,
            record=record,
        )

    def hold_released(self, state: State, repayment: Repayment, t: Tranche, reason: Reason) -> HoldReleased:
        """Tell that a hold ended."""
        return _make_hold_released(
            **self.base(state, "HoldReleased", repayment, t.number), tranche=t.number, reason=reason
        )

    def parked(self, state: State, repayment: Repayment, t: Tranche, record: DecisionRecord) -> RestorationParked:
        """Tell that a tranche waits for the account to be active again."""
        return _make_parked(
            **self.base(state, "RestorationParked", repayment, t.number),
            tranche=t.number,
            amount_minor=t.amount_minor,
            currency=repayment.currency,
            cause=standing(state.account.status_reason)[0],
            reason=standing(state.account.status_reason)[1],
            condition="account_active",
            record=record,
        )

    def nothing(self, state: State, repayment: Repayment, reason: Reason, record: DecisionRecord) -> NothingToRestore:
        """Tell that no credit comes back, and why."""
        return _make_nothing(
            **self.base(state, "NothingToRestore", repayment),
            repaid_at=repayment.repaid_at or self.now,
            trail=repayment.trail,
            currency=repayment.currency,
            reason=reason,
            record=record,
        )

    def delayed(
        self, state: State, repayment: Repayment, number: int, by: datetime, cause: Cause, record: DecisionRecord
    ) -> RestorationDelayed:
        """Tell that a promise was missed."""
        return _make_delayed(
            **self.base(state, "RestorationDelayed", repayment, number),
            tranche=number,
            cause=cause,
            promised_by=by,
            record=record,
        )

    def reversed(
        self, state: State, repayment: Repayment, event: RepaymentReturned, record: DecisionRecord, taken: Taken
    ) -> RestorationReversed:
        """Tell what was taken back: from holds, from available credit, and what the replay gave or uncovered."""
        return _make_reversed(
            **self.base(state, "RestorationReversed", repayment),
            currency=event.currency,
            code=event.code,
            return_class=event.return_class,
            from_hold_minor=taken.from_hold_minor,
            from_available_minor=taken.from_available_minor,
            reallocated_minor=taken.reallocated_minor,
            uncovered_minor=taken.uncovered_minor,
            available_credit_minor=record.available_credit_minor,
            available_raw_minor=record.available_raw_minor,
            zero_reason=record.zero_reason,
            record=record,
        )


def _versions(repayment: Repayment, verdict: RiskAssessed | None) -> dict[str, Any]:
    return {  # a revision comes later, when another amount may be past due
        "past_due_minor": None if verdict is None or verdict.revision else verdict.past_due_minor,
        "inputs_digest": None if verdict is None else verdict.inputs_digest,
        "policy_version": repayment.policy_version,
        "model_version": repayment.model_version,
        "calendar_version": repayment.calendar_version,
    }
