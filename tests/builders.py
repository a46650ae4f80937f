"""One builder a wire event: the only test data. Every field may be changed by keyword; what is made is validated.

Instants are fixed and ids derived from the content, so equal calls make equal events and other content another id.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

from pydantic import BaseModel

from schemas import account, audit, intake, notification, repayment, restoration, review, risk, settlement
from schemas.event import DerivedEvent, Event, RepaymentEvent, Segment, extended
from schemas.ids import RETURN_MODEL, AccountId, RepaymentId, event_id, repayment_id
from schemas.reasons import STAGES, Cause, Reason, Stage

M = TypeVar("M", bound=BaseModel)
E = TypeVar("E", bound=Event)

ACCOUNT = AccountId("acct_1")
SOURCE = "core_banking"
EXTERNAL_REF = "dd-2026-11-0001"
REPAYMENT: RepaymentId = repayment_id(SOURCE, EXTERNAL_REF)
REPAID_AT = datetime(2026, 11, 20, 14, 0, tzinfo=UTC)
OPENED_AT = datetime(2026, 1, 5, 2, 0, tzinfo=UTC)
FIRST_HOLD_UNTIL = datetime(2026, 11, 24, 1, 0, tzinfo=UTC)
SECOND_HOLD_UNTIL = datetime(2026, 11, 27, 1, 0, tzinfo=UTC)
POLICY_VERSION = "default:2026-11-01.1"
MODEL_VERSION = "scorecard:1"
CALENDAR_VERSION = "cn-banking:2026.1"
INPUTS_DIGEST = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
VERSIONS = {
    "policy_version": POLICY_VERSION,
    "model_version": MODEL_VERSION,
    "calendar_version": CALENDAR_VERSION,
}
AMOUNT: dict[str, Any] = {"amount_minor": 500_000, "currency": "CNY"}
REPORT: dict[str, Any] = {"source": SOURCE, "external_ref": EXTERNAL_REF, **AMOUNT, "rail": "direct_debit"}
FUNDING_ACCOUNT = "funding_1"
REALLOCATED = (settlement.Reallocation(repayment_id(SOURCE, "dd-2026-12-0001"), -20_000, 0),)
RETURNED: dict[str, Any] = {"code": "R01", "return_class": Reason.RETURNED_INSUFFICIENT_FUNDS}
AVAILABLE: dict[str, Any] = {"available_credit_minor": 150_000, "available_raw_minor": 150_000}
_STAGE_WAITS: dict[Stage, tuple[tuple[Cause, int], ...]] = {
    "report": (("external.upstream_report", 1_200),),
    "ingest": (("system_delay.kafka_queue", 15), ("system_delay.processing", 8)),
    "settlement": (("system_delay.kafka_queue", 12), ("system_delay.processing", 9)),
    "risk": (("system_delay.kafka_queue", 11), ("system_delay.processing", 10)),
    "release": (("system_delay.kafka_queue", 14), ("system_delay.processing", 21)),
}


def trail(*, repaid_at: datetime = REPAID_AT, through: Stage) -> tuple[Segment, ...]:
    """Return a trail of the stages up to and with ``through``, tiling from ``repaid_at``."""
    found: tuple[Segment, ...] = ()
    end = repaid_at
    for stage in STAGES[: STAGES.index(through) + 1]:
        for cause, wait_ms in _STAGE_WAITS[stage]:
            end += timedelta(milliseconds=wait_ms)
            found = extended(repaid_at, found, stage, (cause, end))
    return found


def _checked(model: type[M], values: Mapping[str, Any]) -> M:
    unknown = values.keys() - model.model_fields.keys()
    if unknown:
        raise TypeError(f"{model.__name__} has no field {', '.join(sorted(unknown))}")
    return model.model_validate(dict(values))


def _event(model: type[E], changes: Mapping[str, Any], /, **usual: Any) -> E:
    values = {"account_id": ACCOUNT, "occurred_at": REPAID_AT + timedelta(seconds=2), **usual, **changes}
    if issubclass(model, DerivedEvent):
        values.setdefault("caused_by", event_id("cause", model.__name__, values["account_id"]))
    content = (f"{name}={values[name]!r}" for name in sorted(values))
    values.setdefault("event_id", event_id(model.__name__, *content))
    return _checked(model, values)


def _of_repayment(model: type[E], changes: Mapping[str, Any], through: Stage = "release", /, **usual: Any) -> E:
    """Make an event about one repayment; a trail that fits its repaid_at comes with those that carry one."""
    values: dict[str, Any] = {"repayment_id": REPAYMENT, **usual}
    if issubclass(model, RepaymentEvent):
        repaid_at = changes.get("repaid_at", REPAID_AT)
        values |= {"repaid_at": repaid_at, "trail": trail(repaid_at=repaid_at, through=through)}
        values["occurred_at"] = (changes.get("trail") or values["trail"])[-1][2]
    return _event(model, changes, **values)


def account_opened(**changes: Any) -> account.AccountOpened:
    terms = {"product": "default", "credit_limit_minor": 500_000, "currency": "CNY"}
    place = {"language": "zh-CN", "timezone": "Asia/Shanghai"}
    return _event(account.AccountOpened, changes, occurred_at=OPENED_AT, **terms, **place)


def credit_limit_changed(**changes: Any) -> account.CreditLimitChanged:
    return _event(account.CreditLimitChanged, changes, credit_limit_minor=600_000, currency="CNY")


def account_status_changed(**changes: Any) -> account.AccountStatusChanged:
    return _event(account.AccountStatusChanged, changes, status="frozen", reason="overdue_elsewhere")


def purchase_posted(**changes: Any) -> account.PurchasePosted:
    return _event(account.PurchasePosted, changes, occurred_at=OPENED_AT, purchase_id="purchase_1", **AMOUNT)


def purchase_refunded(**changes: Any) -> account.PurchaseRefunded:
    parts = {"to_debt_minor": 20_000, "to_payer_minor": 0, "currency": "CNY"}
    return _event(account.PurchaseRefunded, changes, refund_id="refund_1", purchase_id="purchase_1", **parts)


def authorisation_placed(**changes: Any) -> account.AuthorisationPlaced:
    return _event(account.AuthorisationPlaced, changes, authorisation_id="auth_1", amount_minor=30_000, currency="CNY")


def authorisation_released(**changes: Any) -> account.AuthorisationReleased:
    return _event(account.AuthorisationReleased, changes, authorisation_id="auth_1")


def authorisation_declined(**changes: Any) -> account.AuthorisationDeclined:
    return _event(
        account.AuthorisationDeclined, changes, authorisation_id="auth_2", amount_minor=30_000, currency="CNY"
    )


def charges_accrued(**changes: Any) -> account.ChargesAccrued:
    return _event(account.ChargesAccrued, changes, currency="CNY", penalty_minor=100, fee_minor=0, interest_minor=250)


def statement_issued(**changes: Any) -> account.StatementIssued:
    due = {"due_minor": 500_000, "minimum_minor": 50_000, "due_on": date(2026, 11, 20), "currency": "CNY"}
    return _event(account.StatementIssued, changes, **due)


def funding_account_linked(**changes: Any) -> account.FundingAccountLinked:
    return _event(account.FundingAccountLinked, changes, funding_account_id=FUNDING_ACCOUNT, verified=True)


def contact_point_changed(**changes: Any) -> account.ContactPointChanged:
    return _event(account.ContactPointChanged, changes, channel="webhook", contact_ref="contact_1")


def repayment_disputed(**changes: Any) -> account.RepaymentDisputed:
    report = {"source": SOURCE, "external_ref": EXTERNAL_REF}
    return _event(account.RepaymentDisputed, changes, **report, code="unauthorised")


def credit_balance_refunded(**changes: Any) -> account.CreditBalanceRefunded:
    paid = {"refund_id": "refund_2", "amount_minor": 10_000, "currency": "CNY"}
    return _event(account.CreditBalanceRefunded, changes, **paid)


def repayment_reported(**changes: Any) -> repayment.RepaymentReported:
    repaid_at = changes.get("repaid_at", REPAID_AT)
    taken = {"method": "auto", "funding_account_id": FUNDING_ACCOUNT, "status": "succeeded", "repaid_at": repaid_at}
    return _event(repayment.RepaymentReported, changes, occurred_at=repaid_at, **REPORT, **taken)


def repayment_failed(**changes: Any) -> repayment.RepaymentFailed:
    return _event(repayment.RepaymentFailed, changes, **REPORT, method="auto", code="insufficient_funds")


def repayment_return_reported(**changes: Any) -> repayment.RepaymentReturnReported:
    return _event(repayment.RepaymentReturnReported, changes, **REPORT, code="R01")


def repayment_received(**changes: Any) -> intake.RepaymentReceived:
    taken = {"method": "auto", "funding_account_id": FUNDING_ACCOUNT, "status": "succeeded"}
    return _of_repayment(intake.RepaymentReceived, changes, "ingest", **REPORT, **taken)


def repayment_conflicted(**changes: Any) -> intake.RepaymentConflicted:
    report = {"source": SOURCE, "external_ref": EXTERNAL_REF}
    return _of_repayment(intake.RepaymentConflicted, changes, **report, differs=("amount_minor",))


def return_received(**changes: Any) -> intake.ReturnReceived:
    report = {"source": SOURCE, "external_ref": EXTERNAL_REF, **AMOUNT}
    return _of_repayment(intake.ReturnReceived, changes, **report, **RETURNED, fault="payer")


def allocation(**changes: Any) -> settlement.Allocation:
    return _checked(settlement.Allocation, {"penalty_minor": 0, "principal_minor": 500_000, **changes})


def repayment_settled(**changes: Any) -> settlement.RepaymentSettled:
    taken = {"product": "default", "rail": "direct_debit", "method": "auto", "funding_account_id": FUNDING_ACCOUNT}
    settled_at = trail(repaid_at=changes.get("repaid_at", REPAID_AT), through="settlement")[-1][2]
    days = {"settled_at": settled_at, "credited_on": date(2026, 11, 20), "final_on": date(2026, 11, 27)}
    paid = {"allocation": allocation(), "restorable_minor": 500_000, "credit_balance_minor": 0}
    paid["parts"] = (settlement.Part("due", "principal", "purchase", 500_000),)
    paid |= {"past_due_minor": 0, "owed_minor": 0}
    rest = {**AMOUNT, **taken, **days, **paid, "finality": "provisional", "policy_version": POLICY_VERSION}
    return _of_repayment(settlement.RepaymentSettled, changes, "settlement", **rest)


def repayment_rejected(**changes: Any) -> settlement.RepaymentRejected:
    return _of_repayment(settlement.RepaymentRejected, changes, reason=Reason.REPORTED_FAILED)


def repayment_returned(**changes: Any) -> settlement.RepaymentReturned:
    undone = {"allocation": allocation(), "restorable_minor": 500_000, "credit_balance_minor": 0}
    rest = {**AMOUNT, **RETURNED, "fault": "payer", "after_final": False, **undone, "reallocated": REALLOCATED}
    return _of_repayment(settlement.RepaymentReturned, changes, **rest)


def repayments_reallocated(**changes: Any) -> settlement.RepaymentsReallocated:
    return _event(settlement.RepaymentsReallocated, changes, reallocated=REALLOCATED)


def settlement_delayed(**changes: Any) -> settlement.SettlementDelayed:
    return _of_repayment(settlement.SettlementDelayed, changes, waits_for="report", since=REPAID_AT)


def risk_assessed(**changes: Any) -> risk.RiskAssessed:
    settled_at = trail(repaid_at=changes.get("repaid_at", REPAID_AT), through="settlement")[-1][2]
    paid = {"rail": "direct_debit", "settled_at": settled_at, "restorable_minor": 500_000, "credit_balance_minor": 0}
    paid["past_due_minor"] = 0
    tranches = (
        risk.Tranche(1, 100_000, settled_at, Reason.RELEASE_WITHIN_CAP),
        risk.Tranche(2, 200_000, FIRST_HOLD_UNTIL, Reason.HOLD_RAIL_REVERSIBLE),
        risk.Tranche(3, 200_000, SECOND_HOLD_UNTIL, Reason.HOLD_RAIL_REVERSIBLE),
    )
    reasons = (Reason.HOLD_RAIL_REVERSIBLE, Reason.HOLD_OVER_INSTANT_CAP, Reason.RELEASE_WITHIN_CAP)
    verdict = {"outcome": "observe", "tranches": tranches, "tier": "C", "reasons": reasons, "faster": ("final_rail",)}
    promise = {"clear_seconds": 60, "hold_slack_seconds": 3_600}
    inputs = {
        "verified": False,
        "strikes": 0,
        "instant_left_minor": 100_000,
        "settled_minor": 0,
        "credit_limit_minor": 0,
    }
    why = {"inputs": tuple(map(risk.Given._make, inputs.items())), "inputs_digest": INPUTS_DIGEST}
    rest = {"product": "default", **AMOUNT, **paid, **verdict, **promise, **why, **VERSIONS}
    return _of_repayment(risk.RiskAssessed, changes, "risk", **rest)


def decision_record(**changes: Any) -> restoration.DecisionRecord:
    held = (
        restoration.HeldPart(2, 200_000, FIRST_HOLD_UNTIL),
        restoration.HeldPart(3, 200_000, SECOND_HOLD_UNTIL),
    )
    told = {"version": 1, "decided_at": trail(through="release")[-1][2], "outcome": "restored"}
    paid = {**AMOUNT, "rail": "direct_debit", "repaid_at": REPAID_AT, "restored_minor": 100_000, "held": held}
    paid["past_due_minor"] = 0
    reasons = (Reason.HOLD_RAIL_REVERSIBLE, Reason.HOLD_OVER_INSTANT_CAP, Reason.RELEASE_WITHIN_CAP)
    why = {"reasons": reasons, "faster": ("final_rail",), "inputs_digest": INPUTS_DIGEST}
    return _checked(restoration.DecisionRecord, {**told, **paid, **AVAILABLE, **why, **VERSIONS, **changes})


def promise_made(**changes: Any) -> restoration.PromiseMade:
    promised_by = REPAID_AT + timedelta(seconds=61)
    part = {"tranche": 1, "amount_minor": 100_000, "currency": "CNY", "promised_by": promised_by, "basis": "clear"}
    versions = {"policy_version": POLICY_VERSION, "calendar_version": CALENDAR_VERSION}
    return _of_repayment(restoration.PromiseMade, changes, **part, **versions)


def hold_placed(**changes: Any) -> restoration.HoldPlaced:
    part = {"tranche": 2, "amount_minor": 200_000, "currency": "CNY", "until": FIRST_HOLD_UNTIL}
    why = {"reasons": (Reason.HOLD_RAIL_REVERSIBLE,), "record": decision_record()}
    return _of_repayment(restoration.HoldPlaced, changes, **part, **why)


def hold_released(**changes: Any) -> restoration.HoldReleased:
    return _of_repayment(
        restoration.HoldReleased, changes, occurred_at=FIRST_HOLD_UNTIL, tranche=2, reason=Reason.RELEASE_TIMER
    )


def restoration_parked(**changes: Any) -> restoration.RestorationParked:
    part = {"tranche": 1, "amount_minor": 100_000, "currency": "CNY", "condition": "account_active"}
    why = {"cause": "account_standing.frozen", "reason": Reason.ACCOUNT_FROZEN}
    record = decision_record(outcome="parked", restored_minor=0, parked_minor=100_000)
    return _of_repayment(restoration.RestorationParked, changes, **part, **why, record=record)


def credit_restored(**changes: Any) -> restoration.CreditRestored:
    repaid_at = changes.get("repaid_at", REPAID_AT)
    restored_at = (changes.get("trail") or trail(repaid_at=repaid_at, through="release"))[-1][2]
    part = {"tranche": 1, "amount_minor": 100_000, "currency": "CNY", **AVAILABLE}
    why = {"cause": "external.upstream_report", "reason": Reason.RELEASE_WITHIN_CAP}
    when = {"restored_at": restored_at, "promised_by": repaid_at + timedelta(seconds=61)}
    rest = {**part, **why, **when, "record": decision_record(repaid_at=repaid_at, decided_at=restored_at)}
    return _of_repayment(restoration.CreditRestored, changes, **rest)


def nothing_to_restore(**changes: Any) -> restoration.NothingToRestore:
    record = decision_record(outcome="nothing_to_restore", restored_minor=0, held=())
    why = {"currency": "CNY", "reason": Reason.PAID_FEES_AND_INTEREST}
    return _of_repayment(restoration.NothingToRestore, changes, **why, record=record)


def restoration_delayed(**changes: Any) -> restoration.RestorationDelayed:
    promised_by = REPAID_AT + timedelta(seconds=61)
    late = {"outcome": "delayed", "restored_minor": 0, "late_minor": 100_000, "promised_by": promised_by, "held": ()}
    record = decision_record(**late, reasons=(Reason.DELAY_SYSTEM,), faster=())
    missed = {"tranche": 1, "cause": "system_delay.processing", "promised_by": promised_by, "record": record}
    return _of_repayment(restoration.RestorationDelayed, changes, **missed)


def restoration_reversed(**changes: Any) -> restoration.RestorationReversed:
    taken = {"currency": "CNY", "from_hold_minor": 400_000, "from_available_minor": 100_000}
    left = {"available_credit_minor": 0, "available_raw_minor": -50_000, "zero_reason": Reason.RETURNED}
    record = decision_record(outcome="reversed", restored_minor=0, held=(), taken_back_minor=500_000, **left)
    return _of_repayment(restoration.RestorationReversed, changes, **RETURNED, **taken, **left, record=record)


def _notice(model: type[E], changes: Mapping[str, Any], /, **usual: Any) -> E:
    notice_id = event_id("notification", REPAYMENT, "restored", "webhook")
    return _of_repayment(model, changes, notification_id=notice_id, channel="webhook", **usual)


def notification_requested(**changes: Any) -> notification.NotificationRequested:
    return _notice(notification.NotificationRequested, changes, template="restored", language="zh-CN")


def notification_delivered(**changes: Any) -> notification.NotificationDelivered:
    return _notice(notification.NotificationDelivered, changes, attempts=1)


def notification_undeliverable(**changes: Any) -> notification.NotificationUndeliverable:
    return _notice(notification.NotificationUndeliverable, changes, reason="attempts_exhausted", attempts=12)


def notification_suppressed(**changes: Any) -> notification.NotificationSuppressed:
    return _notice(notification.NotificationSuppressed, changes, reason="no_channel")


def hold_release_approved(**changes: Any) -> review.HoldReleaseApproved:
    return _of_repayment(review.HoldReleaseApproved, changes, tranche=2, actor="reviewer_1", reason="payer_verified")


def hold_extended(**changes: Any) -> review.HoldExtended:
    moved = {"tranche": 2, "until": SECOND_HOLD_UNTIL, "actor": "reviewer_1", "reason": "payer_unreachable"}
    return _of_repayment(review.HoldExtended, changes, **moved)


def limit_review_requested(**changes: Any) -> review.LimitReviewRequested:
    return _event(review.LimitReviewRequested, changes, actor="agent_1", reason="customer_asked")


def limit_review_concluded(**changes: Any) -> review.LimitReviewConcluded:
    answer = {"outcome": "approved", "amount_minor": 600_000, "currency": "CNY"}
    return _event(review.LimitReviewConcluded, changes, **answer, actor="reviewer_1", reason="good_standing")


def limit_increase_decided(**changes: Any) -> review.LimitIncreaseDecided:
    """Case B: always on time, no increase (domain 8.4)."""
    answer = {"outcome": "unchanged", "amount_minor": 3_000_000, "currency": "TWD", "score": 612, "threshold": 640}
    factors = (
        review.Factor(Reason.SMALL_PAYMENTS, -2_640, None),
        review.Factor(Reason.HIGH_UTILISATION, -1_400, 9_100),
        review.Factor(Reason.LATE_PAYMENTS, 40, None),
        review.Factor(Reason.NOT_ACTIVE, 90, None),
        review.Factor(Reason.SMALL_SHARE_OF_BILL, 130, None),
    )
    why = {"reasons": (Reason.SMALL_PAYMENTS, Reason.HIGH_UTILISATION), "factors": factors, "distance": 28}
    well = {"full_marks": (Reason.LATE_PAYMENTS,), "on_time_count": 6, "due_count": 6}
    path = (
        review.PathStep(1_000, 273_910, None, 645),
        review.PathStep(1_000, 273_910, 8_000, 647),
        review.PathStep(None, None, 2_000, 637),
    )
    then = {"path": path, "path_months": 6, "next_review_on": date(2027, 5, 23)}
    versions = {"model_version": MODEL_VERSION, "policy_version": POLICY_VERSION}
    decided_at = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
    rest = {**answer, **why, **well, **then, **versions}
    return _event(review.LimitIncreaseDecided, changes, occurred_at=decided_at, **rest)


def model_activated(**changes: Any) -> risk.ModelActivated:
    usual = {
        "account_id": RETURN_MODEL,
        "model": "return",
        "change": 7,
        "model_version": "return-prior-2",
        "replaced": None,
        "goes_back": False,
    }
    return _event(risk.ModelActivated, changes, **usual, unproven=False, actor="risk_lead", reason="replay_better")


def feedback_received(**changes: Any) -> review.FeedbackReceived:
    asked = {"feedback_id": "feedback_1", "kind": "question", "topic": "restoration"}
    return _of_repayment(review.FeedbackReceived, changes, **asked, answer_due_at=FIRST_HOLD_UNTIL)


def feedback_answered(**changes: Any) -> review.FeedbackAnswered:
    return _event(review.FeedbackAnswered, changes, feedback_id="feedback_1", actor="agent_1", closed=True)


def audit_anchored(**changes: Any) -> audit.AuditAnchored:
    ended = {"seq": 3, "hash": "5f" * 32, "count": 3}
    return _event(audit.AuditAnchored, {**ended, **changes})


ALL: tuple[Callable[[], Event], ...] = (
    account_opened,
    credit_limit_changed,
    account_status_changed,
    purchase_posted,
    purchase_refunded,
    authorisation_placed,
    authorisation_released,
    authorisation_declined,
    charges_accrued,
    statement_issued,
    funding_account_linked,
    contact_point_changed,
    repayment_disputed,
    credit_balance_refunded,
    repayment_reported,
    repayment_failed,
    repayment_return_reported,
    repayment_received,
    repayment_conflicted,
    return_received,
    repayment_settled,
    repayment_rejected,
    repayment_returned,
    repayments_reallocated,
    settlement_delayed,
    risk_assessed,
    promise_made,
    hold_placed,
    hold_released,
    restoration_parked,
    credit_restored,
    nothing_to_restore,
    restoration_delayed,
    restoration_reversed,
    notification_requested,
    notification_delivered,
    notification_undeliverable,
    notification_suppressed,
    hold_release_approved,
    hold_extended,
    limit_review_requested,
    limit_review_concluded,
    limit_increase_decided,
    model_activated,
    feedback_received,
    feedback_answered,
    audit_anchored,
)
"""Every builder, in the order of schemas.topics.TOPICS."""
