"""The closed lists of label values, and how facts of the wire map to them; nothing a customer brings is ever one."""

from collections.abc import Mapping
from typing import Final, get_args

from schemas.notification import Channel, Template
from schemas.reasons import CAUSES, Reason
from schemas.risk import Tier

TIER_OF: Final[Mapping[Tier, str]] = {
    "A": "low",
    "B": "low",
    "C": "medium",
    "D": "high",
    "E": "high",
    "unknown": "unknown",
}
"""The label of a credit tier (domain 5.5); every account is unknown until it has a score."""
NOTIFY: Final = "notify"
"""The stage beside the lag: from restored to the first delivery."""
CLASS_OF: Final = {cause.partition(".")[2]: cause.partition(".")[0] for cause in CAUSES}
"""The class of each cause; a cause is written without its class where a metric has one label for it."""
_OURS: Final = tuple(cause for cause, kind in CLASS_OF.items() if kind == "system_delay")
STAGE_CAUSES: Final[Mapping[str, tuple[str, ...]]] = {
    "report": ("upstream_report",),
    "ingest": _OURS,
    "settlement": (*_OURS, "settlement_wait"),
    "risk": (*_OURS, "manual_review"),
    "release": (*_OURS, "risk_hold", "manual_review", "frozen", "overdue_elsewhere"),
    NOTIFY: (*_OURS, "channel_wait"),
}
"""The causes a segment of each stage can have (lag ledger)."""
STAGE_PHASES: Final[Mapping[str, tuple[str, ...]]] = {
    "report": ("wait",),
    **dict.fromkeys(("ingest", "settlement", "risk", "release", NOTIFY), ("queue", "process", "wait")),
}
"""The phases of each stage: the queue before it, our work, and every other cause as wait."""
SLOS: Final = ("decided_60s", "low_risk_5s", "low_risk_60s", "hold_promise", "notify_60s")
DEAD_LETTER_REASONS: Final = (
    *("currency_mismatch", "duplicate_json_key", "empty_value", "event_id_not_ce_id", "event_id_not_derived"),
    *("event_id_reused", "instalments_do_not_add_up", "invalid", "key_not_account_id", "not_a_cloudevent", "not_json"),
    *("not_utf8", "occurred_in_the_future", "repaid_at_out_of_range", "too_many_open_statements"),
    *("unknown_event_type", "unknown_product", "value_too_large", "other"),
)
RAILS: Final = ("wallet", "instant_transfer", "wire", "on_us", "direct_debit", "card", "cheque", "unknown")
"""The rails of the product profiles; any other name is ``unknown``, as it is to the policy."""
OUTCOME_REASONS: Final[Mapping[str, tuple[str, ...]]] = {
    "restored": ("none",),
    "nothing_to_restore": (
        *(Reason.PAID_FEES_AND_INTEREST, Reason.PAID_CREDIT_BALANCE, Reason.ACCOUNT_CLOSED, Reason.RETURNED, "other"),
    ),
    "returned": (
        *(Reason.RETURNED_INSUFFICIENT_FUNDS, Reason.RETURNED_ACCOUNT_CLOSED, Reason.RETURNED_UNAUTHORISED),
        Reason.RETURNED_OTHER,
    ),
    "reversed": (
        *(Reason.RETURNED_INSUFFICIENT_FUNDS, Reason.RETURNED_ACCOUNT_CLOSED, Reason.RETURNED_UNAUTHORISED),
        Reason.RETURNED_OTHER,
    ),
    "lapsed": ("none",),
}
"""Ends of a repayment: returned is before, reversed is after its credit came back; reasons as in the events."""

LABELS: Final[Mapping[str, tuple[str, ...] | None]] = {
    "tier": ("low", "medium", "high", "unknown"),
    "stage": tuple(STAGE_CAUSES),
    "phase": ("queue", "process", "wait"),
    "cause": tuple(CLASS_OF),
    "cause_class": tuple(dict.fromkeys(CLASS_OF.values())),
    "slo": SLOS,
    "rail": RAILS,
    "channel": get_args(Channel),
    "template": get_args(Template),
    "priority": ("high", "normal", "low"),
    "kind": (
        *("promise_broken", "referred", "pattern_seen", "conflicting_report", "rail_silent", "account_unknown"),
        *("return_unmatched", "parked_long", "returned_after_final", "paid_twice", "dead_letter"),
        *("source_differs", "question", "complaint", "limit_referred"),
    ),
    "state": ("idle", "busy", "rebalancing", "backing_off"),
    "step": ("decode", "store", "publish"),
    # Open to the deployment and few: never something a customer or a message brings.
    **dict.fromkeys(
        ("source", "currency", "service", "group", "topic", "partition", "invariant", "version", "product")
    ),
    # Closed, another list a metric.
    **dict.fromkeys(("outcome", "reason")),
}
"""Every label there is, with its closed list of values; an account, repayment, customer or message is never one."""


def dead_letter_label(reason: str) -> str:
    """Return the label of a dead letter's reason: what stands before the first colon, if it is known."""
    kind = reason.partition(":")[0]
    return kind if kind in DEAD_LETTER_REASONS else "other"


def rail_label(rail: str) -> str:
    """Return the label of a rail as billing names it."""
    return rail if rail in RAILS else "unknown"
