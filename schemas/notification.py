"""customer.notification.v1: what the customer was told, and when."""

from typing import Literal

from schemas.account import Language
from schemas.event import DerivedEvent
from schemas.ids import NotificationId, RepaymentId

Channel = Literal["log", "webhook"]
Template = Literal["restored", "held", "parked", "nothing_to_restore", "reversed"]
UndeliverableReason = Literal["refused", "attempts_exhausted"]
SuppressedReason = Literal["endpoint_disabled", "no_channel", "account_unknown"]


class NotificationRequested(DerivedEvent):
    """One message a (cause, template, channel) is owed to the customer."""

    notification_id: NotificationId
    repayment_id: RepaymentId
    channel: Channel
    template: Template
    language: Language


class NotificationDelivered(DerivedEvent):
    """The channel acknowledged the message."""

    notification_id: NotificationId
    repayment_id: RepaymentId
    channel: Channel
    attempts: int


class NotificationUndeliverable(DerivedEvent):
    """The channel will never take the message."""

    notification_id: NotificationId
    repayment_id: RepaymentId
    channel: Channel
    reason: UndeliverableReason
    attempts: int


class NotificationSuppressed(DerivedEvent):
    """The message is not sent on purpose."""

    notification_id: NotificationId
    repayment_id: RepaymentId
    channel: Channel
    reason: SuppressedReason
