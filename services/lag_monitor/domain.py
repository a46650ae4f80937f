"""What each event tells of a repayment's journey; topics may be heard in any order and end in the same ledger."""

from dataclasses import replace
from datetime import datetime

from schemas.intake import RepaymentReceived
from schemas.reasons import Cause, Reason
from schemas.repayment import RepaymentReported
from schemas.restoration import (
    CreditRestored,
    HoldPlaced,
    NothingToRestore,
    RestorationParked,
    RestorationReversed,
)
from schemas.risk import RiskAssessed
from schemas.settlement import RepaymentRejected, RepaymentSettled
from services.decision import Decision, Input, Moment
from services.lag_monitor.model import TIER, Fact, Journey, Outcome, Part, Restored
from services.lag_monitor.segments import lag_of

OVER: dict[Reason, Outcome] = {Reason.ACCOUNT_CLOSED: "lapsed", Reason.RETURNED: "returned"}
"""Why there is nothing to restore, where that is not the repayment's own doing."""


def decide(policy: None, state: Journey, event: Input, moment: Moment) -> Decision[Journey]:
    """Learn what ``event`` tells; a restored tranche becomes a fact as soon as all that it needs was heard."""
    known = _heard(state, event, moment)
    if known is state:
        return Decision(state, outcome="ignored")
    return Decision(_placed(known))


def _heard(state: Journey, event: Input, moment: Moment) -> Journey:
    match event:
        case RepaymentReported():
            return _reported(state, event, moment.reported_at)
        case RepaymentReceived():
            return _received(state, event)
        case RepaymentSettled(account_id=at, repaid_at=repaid_at, settled_at=settled_at):
            return replace(state, account_id=at, repaid_at=repaid_at, settled_at=settled_at)
        case RepaymentRejected(account_id=at, reason=reason):
            return _ended(replace(state, account_id=at), "rejected", reason)
        case RiskAssessed(account_id=at, revision=0):
            return replace(
                state,
                account_id=at,
                repaid_at=event.repaid_at,
                settled_at=event.settled_at,
                assessed_at=event.occurred_at,
                tier=TIER[event.tier],
            )
        case _:
            return _decided(state, event)


def _decided(state: Journey, event: Input) -> Journey:
    match event:
        case HoldPlaced(account_id=at, tranche=number, amount_minor=amount, until=until):
            review = Reason.HOLD_UNDER_REVIEW in (*event.reasons, *event.record.reasons)
            cause: Cause = "risk_observation.manual_review" if review else "risk_observation.risk_hold"
            held = Part(number, amount, "held", cause, event.occurred_at, until)
            return replace(state, account_id=at, repaid_at=event.record.repaid_at).put(held)
        case RestorationParked(account_id=at, tranche=number, amount_minor=amount, cause=cause):
            parked = Part(number, amount, "parked", cause, event.occurred_at)
            return replace(state, account_id=at, repaid_at=event.record.repaid_at).put(parked)
        case CreditRestored():
            return _restored(state, event)
        case NothingToRestore(account_id=at, repaid_at=repaid_at, reason=reason):
            known = replace(state, account_id=at, repaid_at=repaid_at)
            return _ended(_voided(known, event.occurred_at), OVER.get(reason, "nothing_to_restore"), reason)
        case RestorationReversed(account_id=at, return_class=reason):
            known = replace(state, account_id=at, repaid_at=event.record.repaid_at)
            return _ended(_voided(known, event.occurred_at), "returned", reason)
        case _:
            return state


def _reported(state: Journey, event: RepaymentReported, reported_at: datetime) -> Journey:
    """Learn of a repayment first; what a later report contradicts is for repayment-ingest to judge."""
    if state.reported == event.status or state.reported == "succeeded":
        return state
    known = replace(state, reported=event.status, reported_at=reported_at)
    return known if state.received is not None else _about(known, event)


def _received(state: Journey, event: RepaymentReceived) -> Journey:
    """Learn what was taken in; a pending report comes before the one that says succeeded, on the same partition."""
    pending = event.trail if event.status == "pending" else state.pending
    return replace(_about(state, event), received=event.status, received_at=event.occurred_at, pending=pending)


def _about(state: Journey, event: RepaymentReported | RepaymentReceived) -> Journey:
    return replace(
        state,
        account_id=event.account_id,
        source=event.source,
        rail=event.rail,
        amount_minor=event.amount_minor,
        currency=event.currency,
        repaid_at=event.repaid_at,
    )


def _restored(state: Journey, event: CreditRestored) -> Journey:
    number, at = event.tranche, event.restored_at
    known = state.parts.get(number)
    if known is not None and known.state == "restored":
        return state
    told = Restored(number, event.amount_minor, event.currency, event.repaid_at, at, event.trail)
    part = Part(number, event.amount_minor, "restored", "system_delay.processing", at)
    state = replace(state, account_id=event.account_id, repaid_at=event.repaid_at)
    state = replace(state, unplaced=(*state.unplaced, told)).put(part)
    over = not (event.record.held or event.record.parked_minor or state.waiting)
    return _ended(state, "restored", event.reason) if over else state


def _voided(state: Journey, at: datetime) -> Journey:
    """Let what waits be over without credit."""
    return state.put(*(replace(part, state="voided", since=at, until=None) for part in state.waiting))


def _ended(state: Journey, outcome: Outcome, reason: str) -> Journey:
    """End a journey, once; one of which a part was restored ended as restored."""
    if state.outcome is not None:
        return state
    restored = any(part.state == "restored" for part in state.parts.values())
    return replace(state, outcome="restored" if restored else outcome, reason=reason)


def _placed(state: Journey) -> Journey:
    """Make facts of restored tranches once their tier and what was taken in of them are known."""
    if state.received != "succeeded" or state.tier is None or not state.unplaced:
        return state
    facts = tuple(
        Fact(told, state.tier, lag_of(told.repaid_at, told.restored_at, told.trail, state.pending))
        for told in state.unplaced
    )
    return replace(state, unplaced=(), facts=(*state.facts, *facts))
