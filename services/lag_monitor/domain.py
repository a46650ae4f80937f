"""What each event tells of a repayment's journey; topics may be heard in any order and end in the same ledger."""

from datetime import datetime
from typing import Final

from schemas.intake import RepaymentReceived
from schemas.notification import (
    NotificationDelivered,
    NotificationRequested,
    NotificationSuppressed,
    NotificationUndeliverable,
)
from schemas.reasons import Cause, Reason
from schemas.repayment import RepaymentReported
from schemas.restoration import (
    CreditRestored,
    HoldPlaced,
    NothingToRestore,
    PromiseMade,
    RestorationParked,
    RestorationReversed,
)
from schemas.review import FeedbackReceived
from schemas.risk import RiskAssessed
from schemas.settlement import RepaymentRejected, RepaymentSettled
from services.decision import Decision, Input, Moment
from services.lag_monitor.model import Fact, Journey, Notice, NoticeState, Outcome, Part, PartState, Restored, Tally
from services.lag_monitor.promises import judged
from services.lag_monitor.segments import lag_of
from services.metrics.catalogue import (
    ASSESSED,
    CLOCK_CLAMPED,
    FEEDBACK,
    NOTIFICATIONS,
    OUTCOMES,
    PROBE_ROUNDTRIP,
    PROBES_SENT,
    REPAYMENTS,
)
from services.metrics.labels import OUTCOME_REASONS, TIER_OF, rail_label
from services.values import replace

QUEUE: Final[Cause] = "system_delay.processing"
UNKNOWN: Final = "unknown"
ASKED: Final = frozenset(value for values in dict(FEEDBACK.values).values() for value in values)


def decide(policy: None, state: Journey, event: Input, moment: Moment) -> Decision[Journey]:
    """Learn what ``event`` tells; a restored tranche becomes a fact as soon as all that it needs was heard."""
    known = _heard(state, event, moment)
    if known is state:
        return Decision(state, outcome="ignored")
    placed = _placed(known)
    if placed.probe:
        return Decision(judged(_probed(state, placed)))
    return Decision(judged(_counted(placed)))


def _probed(before: Journey, state: Journey) -> Journey:
    """Count of a probe that it was sent and how long it took, and nothing else."""
    sent = [Tally(PROBES_SENT.name, ())] if before.reported_at is None and state.reported_at is not None else []
    new = state.facts[len(before.facts) :]
    took = [Tally(PROBE_ROUNDTRIP.name, (), fact.lag.milliseconds) for fact in new]
    return replace(state, tallies=(*before.tallies, *sent, *took))


def _heard(state: Journey, event: Input, moment: Moment) -> Journey:
    match event:
        case RepaymentReported():
            return _reported(state, event, moment.reported_at)
        case RepaymentReceived():
            return _received(state, event)
        case RepaymentSettled(account_id=at, repaid_at=repaid_at, settled_at=settled_at):
            until = event.final_on if event.finality == "provisional" else None
            known = replace(state, account_id=at, repaid_at=repaid_at, settled_at=settled_at)
            return replace(known, returnable_until=until)
        case RepaymentRejected(account_id=at, reason=reason):
            return _ended(replace(state, account_id=at), "rejected", reason)
        case RiskAssessed(revision=0):
            return _assessed(state, event)
        case NotificationRequested() | NotificationDelivered() | NotificationUndeliverable() | NotificationSuppressed():
            return _noticed(state, event)
        case FeedbackReceived(topic=topic):
            return state.count(Tally(FEEDBACK.name, (topic if topic in ASKED else "other",)))
        case _:
            return _decided(state, event)


def _assessed(state: Journey, event: RiskAssessed) -> Journey:
    """Learn the first verdict; once, whether it held any of the credit there is to give back (L16)."""
    tier, clear = TIER_OF[event.tier], event.outcome == "clear"
    if state.assessed_at is None and event.restorable_minor:
        state = state.count(Tally(ASSESSED.name, (tier, rail_label(event.rail), "at_once" if clear else "held")))
    return replace(
        state,
        account_id=event.account_id,
        repaid_at=event.repaid_at,
        settled_at=event.settled_at,
        assessed_at=event.occurred_at,
        tier=tier,
        clear=clear,
    )


def _decided(state: Journey, event: Input) -> Journey:
    """Learn what limit-release decided."""
    match event:
        case PromiseMade(revision=0):
            return _promised(state, event)
        case HoldPlaced(tranche=number, amount_minor=amount, until=until):
            review = Reason.HOLD_UNDER_REVIEW in (*event.reasons, *event.record.reasons)
            cause: Cause = "risk_observation.manual_review" if review else "risk_observation.risk_hold"
            at, repaid_at = event.occurred_at, event.record.repaid_at
            return _first(_moved(state, number, amount, "held", cause, at, until), event.account_id, repaid_at, at)
        case RestorationParked(tranche=number, amount_minor=amount, cause=cause):
            at, repaid_at = event.occurred_at, event.record.repaid_at
            return _first(_moved(state, number, amount, "parked", cause, at), event.account_id, repaid_at, at)
        case CreditRestored():
            return _restored(state, event)
        case NothingToRestore():
            return _nothing(state, event)
        case RestorationReversed():
            return _reversed(state, event)
        case _:
            return state


def _first(state: Journey, account_id: str, repaid_at: datetime, at: datetime) -> Journey:
    """Note a decision; the first one counts."""
    return replace(state, account_id=account_id, repaid_at=repaid_at, decided_at=state.decided_at or at)


def _moved(
    state: Journey,
    number: int,
    amount_minor: int,
    to: PartState,
    cause: Cause,
    at: datetime,
    until: datetime | None = None,
) -> Journey:
    known = state.parts.get(number, Part(number, amount_minor, to, cause, at))
    return state.put(replace(known, amount_minor=amount_minor, state=to, cause=cause, since=at, until=until))


def _promised(state: Journey, event: PromiseMade) -> Journey:
    """Keep the first promise; a thaw promises anew only what it holds again, the rest comes back at once (domain 7)."""
    known = state.parts.get(event.tranche)
    again = known is not None and (known.state, known.promised_by, event.basis) == ("parked", None, "hold")
    if known is not None and not again:
        return state
    part = Part(event.tranche, event.amount_minor, "promised", QUEUE, event.occurred_at)
    state = replace(state, account_id=event.account_id, decided_at=state.decided_at or event.occurred_at)
    return state.put(replace(part, promised_by=event.promised_by, basis=event.basis))


def _reported(state: Journey, event: RepaymentReported, reported_at: datetime) -> Journey:
    """Learn of a repayment first; what a later report contradicts is for repayment-ingest to judge."""
    if state.reported == event.status or state.reported == "succeeded":
        return state
    known = replace(state, reported=event.status, reported_at=reported_at)
    return known if state.received is not None else _about(known, event)


def _received(state: Journey, event: RepaymentReceived) -> Journey:
    """Learn what was taken in; a pending report comes before the one that says succeeded, on the same partition."""
    pending = event.trail if event.status == "pending" else state.pending
    clamped = event.status == "succeeded" and not (event.trail and event.trail[0][0] == "report")
    state = state.count(Tally(CLOCK_CLAMPED.name, ("billing",))) if clamped else state
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
    if known is not None and known.restored_at is not None:
        return state
    told = Restored(number, event.amount_minor, event.currency, event.repaid_at, at, event.trail)
    state = _first(state, event.account_id, event.repaid_at, at)
    state = _moved(replace(state, unplaced=(*state.unplaced, told)), number, event.amount_minor, "restored", QUEUE, at)
    state = state.put(replace(state.parts[number], restored_at=at, caused_by=event.caused_by))
    over = not (event.record.held or event.record.parked_minor or state.waiting)
    state = state.count(Tally(OUTCOMES.name, ("restored", "none")))
    return _ended(state, "restored", event.reason) if over else state


def _nothing(state: Journey, event: NothingToRestore) -> Journey:
    """End a journey without credit: what waited lapsed with its account, or there was nothing from the start."""
    state = _first(state, event.account_id, event.repaid_at, event.occurred_at)
    waiting = state.waiting
    if waiting:
        state = _over(state, waiting, "lapsed", event.occurred_at)
        state = state.count(*(Tally(OUTCOMES.name, ("lapsed", "none")) for _ in waiting))
        return _ended(state, "lapsed", event.reason)
    state = state.count(_outcome("nothing_to_restore", event.reason))
    return _ended(state, "returned" if event.reason == Reason.RETURNED else "nothing_to_restore", event.reason)


def _reversed(state: Journey, event: RestorationReversed) -> Journey:
    """Take back what was restored, and let what waits be over."""
    at = event.occurred_at
    waiting, back = state.waiting, state.of("restored")
    state = _first(state, event.account_id, event.record.repaid_at, at)
    state = _over(_over(state, waiting, "returned", at), back, "reversed", at)
    state = state.count(*(_outcome("returned", event.return_class) for _ in waiting))
    state = state.count(*(_outcome("reversed", event.return_class) for _ in back))
    return _ended(state, "returned", event.return_class)


def _outcome(outcome: str, reason: str) -> Tally:
    known = OUTCOME_REASONS[outcome]
    return Tally(OUTCOMES.name, (outcome, reason if reason in known else known[-1]))


def _over(state: Journey, parts: tuple[Part, ...], to: PartState, at: datetime) -> Journey:
    return state.put(*(replace(part, state=to, since=at, until=None) for part in parts))


def _ended(state: Journey, outcome: Outcome, reason: str) -> Journey:
    """End a journey, once; one of which a part was restored ended as restored."""
    if state.outcome is not None:
        return state
    restored = any(part.restored_at is not None for part in state.parts.values())
    return replace(state, outcome="restored" if restored else outcome, reason=reason)


_BECAME: Final[dict[type, NoticeState]] = {
    NotificationDelivered: "delivered",
    NotificationUndeliverable: "undeliverable",
    NotificationSuppressed: "suppressed",
}
Noticed = NotificationRequested | NotificationDelivered | NotificationUndeliverable | NotificationSuppressed


def _noticed(state: Journey, event: Noticed) -> Journey:
    """Follow a message to the customer; its request says what it is about."""
    known = state.notices.get(event.notification_id)
    if isinstance(event, NotificationRequested):
        what = (event.caused_by, event.channel, event.template)
        asked = (event.occurred_at, event.occurred_at, event.waits)
        notice = known or Notice(event.notification_id, *what, "requested", *asked)
    elif known is None or known.state != "requested":
        return state
    else:
        together = isinstance(event, NotificationSuppressed) and event.reason == "told_together"
        became = "told_together" if together else _BECAME[type(event)]
        notice = replace(known, state=became, at=event.occurred_at)
    if notice is known:
        return state
    state = replace(state, account_id=event.account_id, notices={**state.notices, event.notification_id: notice})
    return state.count(Tally(NOTIFICATIONS.name, (notice.channel, notice.template, notice.state)))


def _placed(state: Journey) -> Journey:
    """Make facts of restored tranches once their tier and what was taken in of them are known."""
    if state.received != "succeeded" or state.tier is None or not state.unplaced:
        return state
    rail = rail_label(state.rail)
    facts = tuple(
        Fact(told, state.tier, rail, lag_of(told.repaid_at, told.restored_at, told.trail, state.pending, state.pauses))
        for told in state.unplaced
    )
    return replace(state, unplaced=(), facts=(*state.facts, *facts))


def _counted(state: Journey) -> Journey:
    """Count a repayment that succeeded once its tier is known, or never will be."""
    if state.counted or state.received != "succeeded" or (state.tier is None and state.outcome != "rejected"):
        return state
    tally = Tally(REPAYMENTS.name, (state.tier or UNKNOWN, state.source))
    return replace(state, counted=True).count(tally)
