"""Which facts open a case, with what priority, by when a person owes it a resolution (domain 3.3); and anchors."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from schemas.audit import AuditAnchored
from schemas.event import Event
from schemas.ids import EventId, event_id
from schemas.intake import RepaymentConflicted
from schemas.restoration import RestorationDelayed
from schemas.review import LimitIncreaseDecided
from schemas.risk import RiskAssessed
from schemas.settlement import Awaited, RepaymentReturned, RepaymentSettled, SettlementDelayed
from services.console.model import OURSELVES, Anchor, AuditMoved, Case, Desk, Kind, Priority, Step, case_id
from services.decision import Decision


class Terms(NamedTuple):
    """How urgent a kind of case is, and within how many hours a person owes it a resolution (our assumptions)."""

    priority: Priority
    hours: int


TERMS: Final[Mapping[Kind, Terms]] = {
    "promise_broken": Terms("high", 4),
    "referred": Terms("high", 24),
    "conflicting_report": Terms("high", 24),
    "account_unknown": Terms("high", 24),
    "rail_silent": Terms("normal", 24),
    "return_unmatched": Terms("normal", 24),
    "paid_twice": Terms("normal", 48),
    "returned_after_final": Terms("normal", 48),
    "dead_letter": Terms("high", 4),
    "source_differs": Terms("high", 24),
    "complaint": Terms("high", 24),
    "question": Terms("normal", 24),
    "parked_long": Terms("normal", 72),
    "pattern_seen": Terms("low", 72),
    "limit_referred": Terms("normal", 72),
}
FEEDBACK: Final[tuple[Kind, ...]] = ("question", "complaint")
"""What customers ask: an answer is owed, and told."""
PRICED: Final = "expected_loss"
"""A repayment is referred for what it may cost, not for a pattern (risk 4.2)."""
OBSERVED: Final = Terms("normal", 24)
"""A promise broken by a review or by the account's standing: somebody knows of it already."""
_WAITS_FOR: Final[Mapping[Awaited, Kind]] = {
    "rail": "rail_silent",
    "report": "return_unmatched",
    "account": "account_unknown",
}


def opening(event: Event, now: datetime) -> Case | None:
    """Return the case a fact opens, if it opens one."""
    match event:
        case RestorationDelayed(cause=cause):
            terms = TERMS["promise_broken"] if cause.startswith("system_delay.") else OBSERVED
            case = _of(event, "promise_broken", now, detail=cause, terms=terms)
            return replace(case, tranche=event.tranche, record_version=event.record.version)
        case RiskAssessed(revision=0, outcome="refer"):
            case = _of(event, "referred", now, detail="+".join(event.patterns) or PRICED)
            # A look is worth most before the hold fails open.
            return replace(case, due_at=max(now, min(case.due_at, *(part.due_at for part in event.tranches))))
        case RiskAssessed(revision=0) if event.patterns:
            return _of(event, "pattern_seen", now, detail="+".join(event.patterns))
        case RepaymentConflicted(differs=differs):
            return _of(event, "conflicting_report", now, detail="+".join(differs))
        case SettlementDelayed(waits_for=awaited):
            return _of(event, _WAITS_FOR[awaited], now, detail=awaited)
        case RepaymentReturned(after_final=True, return_class=why):
            return _of(event, "returned_after_final", now, detail=why)
        case RepaymentSettled(doubles=first) if first is not None and event.credit_balance_minor:
            return _of(event, "paid_twice", now, detail=first)
        case LimitIncreaseDecided(refer=True, score=score):
            return new_case("limit_referred", event.event_id, now, detail=f"score_{score}")
        case _:
            return None


_Opener = (
    RestorationDelayed | RiskAssessed | RepaymentConflicted | SettlementDelayed | RepaymentReturned | RepaymentSettled
)


def _of(cause: _Opener, kind: Kind, now: datetime, *, detail: str, terms: Terms | None = None) -> Case:
    return new_case(kind, cause.event_id, now, repayment_id=cause.repayment_id, detail=detail, terms=terms)


def new_case(
    kind: Kind,
    cause: EventId,
    now: datetime,
    *,
    repayment_id: str | None = None,
    tranche: int | None = None,
    detail: str = "",
    terms: Terms | None = None,
    actor: str = OURSELVES,
) -> Case:
    """Return a case just opened by the fact ``cause``, with the terms of its kind unless others are given."""
    priority, hours = terms or TERMS[kind]
    due_at = now + timedelta(hours=hours)
    steps = (Step(None, "open", now, actor, kind),)
    return Case(case_id(cause), kind, priority, cause, now, due_at, repayment_id, tranche, detail, steps=steps)


def dead_letter_id(place: str) -> EventId:
    """Return the id of the fact that a record was set aside."""
    return event_id("DeadLettered", place)


def anchored(state: Desk, moved: AuditMoved, now: datetime) -> Decision[Desk]:
    """Tell where the audit ends, outside the database (I22); the same end under the same id."""
    entry = event_id("audit_entry", str(moved.seq), moved.hash)
    told = AuditAnchored(
        event_id=event_id("AuditAnchored", entry),
        account_id=moved.account_id,
        occurred_at=now,
        caused_by=entry,
        seq=moved.seq,
        hash=moved.hash,
        count=moved.count,
    )
    anchor = Anchor(moved.seq, moved.hash, moved.count, now)
    return Decision(replace(state, anchors=(*state.anchors, anchor)), events=(told,))
