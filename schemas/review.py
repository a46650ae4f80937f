"""review.decision.v1, limit.review.v1 and customer.feedback.v1: what people decide, and limits reviewed."""

from datetime import date
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from schemas.event import DerivedEvent, Instant
from schemas.ids import Reference, RepaymentId
from schemas.money import AmountMinor, Currency, ShareMinor
from schemas.reasons import Reason
from schemas.restoration import TrancheNumber
from schemas.risk import Reasons

ScorePoints = Annotated[int, Field(ge=-100_000, le=100_000)]
ShareBps = Annotated[int, Field(ge=0, le=1_000_000)]
LimitOutcome = Literal["approved", "refused", "unchanged", "decreased"]


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
    """Somebody asked for a review of the credit limit; as an appeal, for a person to look at it."""

    actor: Reference
    reason: Reference
    appeal: bool = False


class LimitReviewConcluded(DerivedEvent):
    """A person concluded a review."""

    outcome: LimitOutcome
    amount_minor: ShareMinor
    currency: Currency
    actor: Reference
    reason: Reference


class Factor(NamedTuple):
    """A scored factor: hundredths of a point against customers just approved, and the customer's own share if any."""

    reason: Reason
    centipoints: ScorePoints
    share_bps: ShareBps | None


class PathStep(NamedTuple):
    """What the score would be if, other things unchanged, the customer repaid or used so; absent parts stay as now.

    ``payment_minor`` is what ``payment_share_bps`` of the bill comes to now; ``use_bps`` bounds the use of the limit.
    """

    payment_share_bps: ShareBps | None
    payment_minor: ShareMinor | None
    use_bps: ShareBps | None
    score: int


class LimitIncreaseDecided(DerivedEvent):
    """A limit review's answer with its ranked reasons and the distance to an increase (domain 8.4).

    ``amount_minor`` is the limit from now on; ``reasons`` are the adverse ones of ``factors``, most adverse first, and
    ``full_marks`` those that cannot score better. ``path`` counts on ``path_months`` months; ``on_time_count`` of the
    last ``due_count`` repayments due were on time. ``refer`` says that a person looks before it is the last word.
    """

    outcome: LimitOutcome
    amount_minor: ShareMinor
    currency: Currency
    score: int
    threshold: int
    reasons: Reasons
    factors: Annotated[tuple[Factor, ...], Field(max_length=16)] = ()
    full_marks: Reasons = ()
    on_time_count: Annotated[int, Field(ge=0, le=999)] = 0
    due_count: Annotated[int, Field(ge=0, le=999)] = 0
    distance: Annotated[int, Field(ge=0)]
    path: Annotated[tuple[PathStep, ...], Field(max_length=8)] = ()
    path_months: Annotated[int, Field(ge=0, le=60)] = 0
    next_review_on: date
    refer: bool = False
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
