"""review.decision.v1, limit.review.v1 and customer.feedback.v1: what people decide, and limits reviewed."""

from datetime import date
from typing import Annotated, Literal

from pydantic import Field

from schemas.event import DerivedEvent, Instant
from schemas.ids import Reference, RepaymentId
from schemas.money import AmountMinor, Currency, ShareMinor
from schemas.restoration import TrancheNumber
from schemas.risk import Reasons


class HoldReleaseApproved(DerivedEvent):
    """A reviewer lets a hold end now; without an amount, the whole of it."""

    repayment_id: RepaymentId
    tranche: TrancheNumber
    amount_minor: AmountMinor | None = None
    actor: Reference
    reason: Reference


class HoldExtended(DerivedEvent):
    """A reviewer moves a hold's date, once."""

    repayment_id: RepaymentId
    tranche: TrancheNumber
    until: Instant
    actor: Reference
    reason: Reference


class LimitReviewRequested(DerivedEvent):
    """Somebody asked for a review of the credit limit."""

    actor: Reference
    reason: Reference


class LimitReviewConcluded(DerivedEvent):
    """A person concluded a review."""

    outcome: Literal["approved", "refused", "unchanged", "decreased"]
    amount_minor: ShareMinor
    currency: Currency
    actor: Reference
    reason: Reference


class LimitIncreaseDecided(DerivedEvent):
    """A limit review's answer with its ranked reasons and the distance to an increase."""

    outcome: Literal["approved", "refused", "unchanged", "decreased"]
    amount_minor: ShareMinor
    currency: Currency
    score: int
    threshold: int
    reasons: Reasons
    distance: Annotated[int, Field(ge=0)]
    path: tuple[Reference, ...] = ()
    next_review_on: date
    model_version: Reference
    policy_version: Reference


class FeedbackReceived(DerivedEvent):
    """A customer asked or complained; the words stay in the console."""

    feedback_id: Reference
    kind: Literal["question", "complaint"]
    topic: Reference
    answer_due_at: Instant
    repayment_id: RepaymentId | None = None


class FeedbackAnswered(DerivedEvent):
    """A question or complaint was answered."""

    feedback_id: Reference
    actor: Reference
    closed: bool
