"""customer.notification.v1: what the customer was told, and when."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.account import Language
from schemas.event import DerivedEvent, Instant
from schemas.ids import NotificationId, RepaymentId
from schemas.reasons import Cause

Channel = Literal["log", "webhook"]
Template = Literal["restored", "held", "parked", "nothing_to_restore", "reversed", "delayed", "moved", "limit_review"]
"""What a message is about; only ``limit_review`` is not about a repayment."""
UndeliverableReason = Literal["refused", "attempts_exhausted"]
SuppressedReason = Literal["endpoint_disabled", "no_channel", "account_unknown", "told_together"]
"""Why nothing is sent; ``told_together`` when the message of another repayment that tells of this one arrived."""


class NotificationRequested(DerivedEvent):
    """One message a (cause, template, channel) is owed to the customer.

    ``waits`` are the stretches between what it tells of and itself, (cause, until), in order.
    """

    notification_id: NotificationId
    repayment_id: RepaymentId | None = None
    channel: Channel
    template: Template
    language: Language
    record_version: Annotated[int, Field(ge=1, le=9_999)] = 1
    waits: Annotated[tuple[tuple[Cause, Instant], ...], Field(max_length=8)] = ()


class NotificationDelivered(DerivedEvent):
    """The channel acknowledged the message."""

    notification_id: NotificationId
    repayment_id: RepaymentId | None = None
    channel: Channel
    attempts: int


class NotificationUndeliverable(DerivedEvent):
    """The channel will never take the message."""

    notification_id: NotificationId
    repayment_id: RepaymentId | None = None
    channel: Channel
    reason: UndeliverableReason
    attempts: int


class NotificationSuppressed(DerivedEvent):
    """The message is not sent on purpose."""

    notification_id: NotificationId
    repayment_id: RepaymentId | None = None
    channel: Channel
    reason: SuppressedReason
