"""One report of each (source, external_ref, kind) passes; the same reference with other content is a conflict (R10)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from schemas.event import extended, to_millisecond
from schemas.ids import event_id, repayment_id
from schemas.intake import Difference, RepaymentConflicted, RepaymentReceived, ReturnReceived
from schemas.made import made
from schemas.reasons import return_class
from schemas.repayment import RepaymentFailed, RepaymentReported, RepaymentReturnReported, ReportedRepayment
from services.decision import Decision, Input, Malformed, Moment
from services.values import at_once, replace

REPAID_AGO_MAX = timedelta(days=400)
REPAID_AHEAD_MAX = timedelta(minutes=5)
Kind = Literal["pending", "succeeded", "failed", "returned"]
Report = RepaymentReported | RepaymentFailed | RepaymentReturnReported
_make_received = made(RepaymentReceived)
_make_returned = made(ReturnReceived)


@at_once
@dataclass(frozen=True)
class Content:
    """What every report of one reference must say alike."""

    account_id: str
    amount_minor: int
    currency: str
    rail: str


@dataclass(frozen=True)
class Conflict:
    """A report that contradicts an earlier one of its reference."""

    event_id: str
    kind: Kind
    content: Content
    differs: tuple[Difference, ...]


@dataclass(frozen=True)
class Reference:
    """What is known of one (source, external_ref): its content, the kinds reported, new conflicts."""

    source: str
    external_ref: str
    content: Content | None = None
    kinds: frozenset[str] = frozenset()
    conflicts: tuple[Conflict, ...] = ()


def decide(policy: None, state: Reference, event: Input, moment: Moment) -> Decision[Reference]:
    """Let the first report of each kind through; raise Malformed for a repaid_at out of range."""
    if not isinstance(event, RepaymentReported | RepaymentFailed | RepaymentReturnReported):
        return Decision(state, outcome="ignored")
    kind, content = kind_of(event), content_of(event)
    if isinstance(event, RepaymentReported):
        _check_repaid_at(event.repaid_at, moment.reported_at)
    if state.content is not None and state.content != content:
        return _conflict(state, event, kind, content, moment)
    if kind in state.kinds:
        return Decision(state, outcome="stale", reason="reported_before")
    known = replace(state, content=content, kinds=state.kinds | {kind})
    if isinstance(event, RepaymentReturnReported):
        return Decision(known, (_returned(event, moment),))
    return Decision(known, (_received(event, moment),))


def kind_of(event: Report) -> Kind:
    """Return the kind of a report."""
    match event:
        case RepaymentReported():
            return event.status
        case RepaymentFailed():
            return "failed"
        case RepaymentReturnReported():
            return "returned"


def content_of(event: ReportedRepayment) -> Content:
    """Return what a report must say alike."""
    return Content(event.account_id, event.amount_minor, event.currency, event.rail)


def _check_repaid_at(repaid_at: datetime, reported_at: datetime) -> None:
    if not reported_at - REPAID_AGO_MAX <= repaid_at <= reported_at + REPAID_AHEAD_MAX:
        raise Malformed("repaid_at_out_of_range")


def _conflict(state: Reference, event: Report, kind: Kind, content: Content, moment: Moment) -> Decision[Reference]:
    fields: tuple[Difference, ...] = ("account_id", "amount_minor", "currency", "rail")
    differs = tuple(name for name in fields if getattr(state.content, name) != getattr(content, name))
    conflict = Conflict(event.event_id, kind, content, differs)
    fact = RepaymentConflicted(
        event_id=event_id("RepaymentConflicted", event.event_id),
        account_id=event.account_id,
        occurred_at=moment.now,
        caused_by=event.event_id,
        repayment_id=repayment_id(event.source, event.external_ref),
        source=event.source,
        external_ref=event.external_ref,
        differs=differs,
    )
    return Decision(
        replace(state, conflicts=(*state.conflicts, conflict)), (fact,), outcome="conflict", reason=",".join(differs)
    )


def _received(event: RepaymentReported | RepaymentFailed, moment: Moment) -> RepaymentReceived:
    reported = isinstance(event, RepaymentReported)
    repaid_at = to_millisecond(event.repaid_at if isinstance(event, RepaymentReported) else event.occurred_at)
    trail = extended(repaid_at, (), "report", ("external.upstream_report", moment.reported_at))
    return _make_received(
        event_id=event_id("RepaymentReceived", event.source, event.external_ref, kind_of(event)),
        account_id=event.account_id,
        occurred_at=moment.now,
        caused_by=event.event_id,
        repayment_id=repayment_id(event.source, event.external_ref),
        repaid_at=repaid_at,
        trail=extended(repaid_at, trail, "ingest", *moment.stretches()),
        source=event.source,
        external_ref=event.external_ref,
        amount_minor=event.amount_minor,
        currency=event.currency,
        rail=event.rail,
        method=event.method,
        funding_account_id=event.funding_account_id if isinstance(event, RepaymentReported) else None,
        collection_ref=event.collection_ref if isinstance(event, RepaymentReported) else None,
        status=event.status if isinstance(event, RepaymentReported) else "failed",
        next_attempt_at=None if reported else getattr(event, "next_attempt_at", None),
    )


def _returned(event: RepaymentReturnReported, moment: Moment) -> ReturnReceived:
    return _make_returned(
        event_id=event_id("ReturnReceived", event.source, event.external_ref),
        account_id=event.account_id,
        occurred_at=moment.now,
        caused_by=event.event_id,
        repayment_id=repayment_id(event.source, event.external_ref),
        source=event.source,
        external_ref=event.external_ref,
        amount_minor=event.amount_minor,
        currency=event.currency,
        code=event.code,
        return_class=return_class(event.code),
        fault=event.fault,
    )
