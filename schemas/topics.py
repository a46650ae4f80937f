"""The topics: name, only writer, events, partitions and retention. Deployments are generated from this."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from schemas import account, audit, intake, notification, repayment, restoration, review, risk, settlement
from schemas.event import Event

PARTITIONS: Final = 24
"""Partitions of every event topic: equal everywhere, so an account has one partition number in the whole pipe."""
DAY_MS: Final = 86_400_000


@dataclass(frozen=True)
class Topic:
    """One topic: its only ``writer``, the events it carries; ``edge`` when billing writes it.

    A ``compacted`` one keeps every record for ``retention_ms``, and the last one of each key for ever.
    """

    name: str
    writer: str
    events: tuple[type[Event], ...]
    retention_ms: int = 7 * DAY_MS
    edge: bool = False
    compacted: bool = False

    @property
    def kept(self) -> dict[str, str | int]:
        """Return what Kafka is told of how long to keep its records."""
        plain: dict[str, str | int] = {"cleanup.policy": "delete", "retention.ms": self.retention_ms}
        if not self.compacted:
            return plain
        # No age removes the last of a key; with "delete" beside it, whoever runs Kafka can still empty the topic.
        return {"cleanup.policy": "compact,delete", "retention.ms": -1, "min.compaction.lag.ms": self.retention_ms}

    @cached_property
    def types(self) -> dict[str, type[Event]]:
        """Map each CloudEvents type to its model."""
        return {event_type(self, event): event for event in self.events}


def event_type(topic: Topic, event: type[Event]) -> str:
    """Return the CloudEvents type, for example opentobuy.repayment.risk.RiskAssessed.v1."""
    name, _, version = topic.name.rpartition(".")
    return f"opentobuy.{name}.{event.__name__}.{version}"


def dead_letter_topic(topic: str, group: str) -> str:
    """Return the topic that takes what ``group`` could not read of ``topic``."""
    return f"{topic}.{group}.dlq"


BILLING_ACCOUNT = Topic(
    "billing.account.v1",
    "billing",
    (
        account.AccountOpened,
        account.CreditLimitChanged,
        account.AccountStatusChanged,
        account.PurchasePosted,
        account.PurchaseRefunded,
        account.AuthorisationPlaced,
        account.AuthorisationReleased,
        account.AuthorisationDeclined,
        account.ChargesAccrued,
        account.StatementIssued,
        account.FundingAccountLinked,
        account.ContactPointChanged,
        account.RepaymentDisputed,
        account.CreditBalanceRefunded,
    ),
    retention_ms=30 * DAY_MS,
    edge=True,
)
BILLING_REPAYMENT = Topic(
    "billing.repayment.v1",
    "billing",
    (repayment.RepaymentReported, repayment.RepaymentFailed, repayment.RepaymentReturnReported),
    retention_ms=30 * DAY_MS,
    edge=True,
)
INTAKE = Topic(
    "repayment.intake.v1",
    "repayment-ingest",
    (intake.RepaymentReceived, intake.RepaymentConflicted, intake.ReturnReceived),
)
SETTLEMENT = Topic(
    "repayment.settlement.v1",
    "settlement",
    (
        settlement.RepaymentSettled,
        settlement.RepaymentRejected,
        settlement.RepaymentReturned,
        settlement.RepaymentsReallocated,
        settlement.SettlementDelayed,
    ),
)
RISK = Topic("repayment.risk.v1", "risk-scoring", (risk.RiskAssessed,))
RESTORATION = Topic(
    "credit.restoration.v1",
    "limit-release",
    (
        restoration.PromiseMade,
        restoration.HoldPlaced,
        restoration.HoldReleased,
        restoration.RestorationParked,
        restoration.CreditRestored,
        restoration.NothingToRestore,
        restoration.RestorationDelayed,
        restoration.RestorationReversed,
    ),
)
NOTIFICATION = Topic(
    "customer.notification.v1",
    "notifier",
    (
        notification.NotificationRequested,
        notification.NotificationDelivered,
        notification.NotificationUndeliverable,
        notification.NotificationSuppressed,
    ),
)
REVIEW_DECISION = Topic(
    "review.decision.v1",
    "console",
    (
        review.HoldReleaseApproved,
        review.HoldExtended,
        review.LimitReviewRequested,
        review.LimitReviewConcluded,
    ),
)
LIMIT_REVIEW = Topic("limit.review.v1", "risk-scoring", (review.LimitIncreaseDecided,))
RISK_ACTIVE = Topic("risk.active.v1", "risk-scoring", (risk.ModelActivated,), retention_ms=30 * DAY_MS, compacted=True)
FEEDBACK = Topic("customer.feedback.v1", "console", (review.FeedbackReceived, review.FeedbackAnswered))
AUDIT_ANCHOR = Topic("audit.anchor.v1", "console", (audit.AuditAnchored,), retention_ms=400 * DAY_MS)

TOPICS: Final = {
    topic.name: topic
    for topic in (
        BILLING_ACCOUNT,
        BILLING_REPAYMENT,
        INTAKE,
        SETTLEMENT,
        RISK,
        RESTORATION,
        NOTIFICATION,
        REVIEW_DECISION,
        LIMIT_REVIEW,
        RISK_ACTIVE,
        FEEDBACK,
        AUDIT_ANCHOR,
    )
}
TOPIC_OF: Final = {event: topic for topic in TOPICS.values() for event in topic.events}
TYPE_OF: Final = {event: event_type(topic, event) for event, topic in TOPIC_OF.items()}
