"""Closed lists: reason codes (domain 8.1), delay causes and the table that joins account status to both."""

from enum import StrEnum
from typing import Final, Literal, get_args


class Reason(StrEnum):
    """Why something was decided; its texts live in services/wording only."""

    RELEASE_FINAL_RAIL = "RELEASE_FINAL_RAIL"
    RELEASE_WITHIN_CAP = "RELEASE_WITHIN_CAP"
    RELEASE_VERIFIED_ACCOUNT = "RELEASE_VERIFIED_ACCOUNT"
    RELEASE_LOW_RISK = "RELEASE_LOW_RISK"
    RELEASE_TIMER = "RELEASE_TIMER"
    RELEASE_REVIEWED = "RELEASE_REVIEWED"
    ACCOUNT_ACTIVE_AGAIN = "ACCOUNT_ACTIVE_AGAIN"
    HOLD_RAIL_REVERSIBLE = "HOLD_RAIL_REVERSIBLE"
    HOLD_RAIL_PENDING = "HOLD_RAIL_PENDING"
    HOLD_OVER_INSTANT_CAP = "HOLD_OVER_INSTANT_CAP"
    HOLD_NEW_FUNDING_ACCOUNT = "HOLD_NEW_FUNDING_ACCOUNT"
    HOLD_PRIOR_RETURN = "HOLD_PRIOR_RETURN"
    HOLD_AMOUNT_UNUSUAL = "HOLD_AMOUNT_UNUSUAL"
    HOLD_OVERPAYMENT = "HOLD_OVERPAYMENT"
    HOLD_MULTIPLE_REPAYMENTS = "HOLD_MULTIPLE_REPAYMENTS"
    HOLD_SHORT_HISTORY = "HOLD_SHORT_HISTORY"
    HOLD_HIGH_UTILISATION = "HOLD_HIGH_UTILISATION"
    HOLD_RAPID_RESPEND = "HOLD_RAPID_RESPEND"
    HOLD_UNDER_REVIEW = "HOLD_UNDER_REVIEW"
    PAID_FEES_AND_INTEREST = "PAID_FEES_AND_INTEREST"
    PAID_CREDIT_BALANCE = "PAID_CREDIT_BALANCE"
    ACCOUNT_CLOSED = "ACCOUNT_CLOSED"
    RETURNED = "RETURNED"
    ACCOUNT_FROZEN = "ACCOUNT_FROZEN"
    ACCOUNT_OVERDUE = "ACCOUNT_OVERDUE"
    ACCOUNT_UNKNOWN = "ACCOUNT_UNKNOWN"
    CONFLICTING_REPORT = "CONFLICTING_REPORT"
    RETURNED_INSUFFICIENT_FUNDS = "RETURNED_INSUFFICIENT_FUNDS"
    RETURNED_ACCOUNT_CLOSED = "RETURNED_ACCOUNT_CLOSED"
    RETURNED_UNAUTHORISED = "RETURNED_UNAUTHORISED"
    RETURNED_OTHER = "RETURNED_OTHER"
    LIMIT_LOWERED = "LIMIT_LOWERED"
    OVER_LIMIT = "OVER_LIMIT"
    RETURNED_FIRST = "RETURNED_FIRST"
    CURRENCY_MISMATCH = "CURRENCY_MISMATCH"
    REPORTED_FAILED = "REPORTED_FAILED"
    DELAY_SYSTEM = "DELAY_SYSTEM"
    DELAY_REVIEW = "DELAY_REVIEW"
    DELAY_BANK = "DELAY_BANK"
    SMALL_PAYMENTS = "SMALL_PAYMENTS"
    HIGH_UTILISATION = "HIGH_UTILISATION"
    LATE_PAYMENTS = "LATE_PAYMENTS"
    SHORT_HISTORY = "SHORT_HISTORY"
    RECENT_RETURN = "RECENT_RETURN"
    RECENT_CHANGE = "RECENT_CHANGE"
    SMALL_SHARE_OF_BILL = "SMALL_SHARE_OF_BILL"
    RISING_BALANCE = "RISING_BALANCE"
    NOT_ACTIVE = "NOT_ACTIVE"
    LIMIT_AT_CAP = "LIMIT_AT_CAP"


Cause = Literal[
    "system_delay.kafka_queue",
    "system_delay.processing",
    "system_delay.dependency_down",
    "system_delay.dead_letter",
    "system_delay.operator_pause",
    "risk_observation.risk_hold",
    "risk_observation.manual_review",
    "account_standing.frozen",
    "account_standing.overdue_elsewhere",
    "external.upstream_report",
    "external.settlement_wait",
    "external.channel_wait",
]
"""What a wait is made of, ``class.cause``; the order breaks ties between equal waits."""
CAUSES: Final[tuple[Cause, ...]] = get_args(Cause)
STAGES: Final[tuple["Stage", ...]] = ("report", "ingest", "settlement", "risk", "release")

Stage = Literal["report", "ingest", "settlement", "risk", "release"]
AccountStatus = Literal["active", "frozen", "closed"]

_STANDING: Final[dict[str, tuple[Cause, Reason]]] = {
    "overdue": ("account_standing.frozen", Reason.ACCOUNT_OVERDUE),
    "overdue_elsewhere": ("account_standing.overdue_elsewhere", Reason.ACCOUNT_OVERDUE),
    "risk_review": ("risk_observation.manual_review", Reason.ACCOUNT_FROZEN),
}
_RETURN_CLASS = {
    "R01": Reason.RETURNED_INSUFFICIENT_FUNDS,
    "R09": Reason.RETURNED_INSUFFICIENT_FUNDS,
    "R02": Reason.RETURNED_ACCOUNT_CLOSED,
    "R03": Reason.RETURNED_ACCOUNT_CLOSED,
    "R04": Reason.RETURNED_ACCOUNT_CLOSED,
    "R05": Reason.RETURNED_UNAUTHORISED,
    "R07": Reason.RETURNED_UNAUTHORISED,
    "R08": Reason.RETURNED_UNAUTHORISED,
    "R10": Reason.RETURNED_UNAUTHORISED,
    "R11": Reason.RETURNED_UNAUTHORISED,
}


def standing(status_reason: str) -> tuple[Cause, Reason]:
    """Return the delay cause and the reason code of a frozen account's status reason."""
    return _STANDING.get(status_reason, ("account_standing.frozen", Reason.ACCOUNT_FROZEN))


def return_class(code: str) -> Reason:
    """Return the class a customer may see for a bank's return code (R28)."""
    return _RETURN_CLASS.get(code, Reason.RETURNED_OTHER)
