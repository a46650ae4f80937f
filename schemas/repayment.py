"""billing.repayment.v1: what billing reports of a repayment, named by (source, external_ref, kind) (R10)."""

from typing import Literal

from schemas.event import BillingEvent, Instant
from schemas.ids import Reference
from schemas.money import AmountMinor, Currency

Method = Literal["auto", "manual"]
Fault = Literal["payer", "issuer", "rail"]


class ReportedRepayment(BillingEvent):
    """What each report of one reference must say alike: account, amount, currency and rail."""

    source: Reference
    external_ref: Reference
    amount_minor: AmountMinor
    currency: Currency
    rail: Reference


class RepaymentReported(ReportedRepayment):
    """Billing took a repayment, or waits for the rail to say so."""

    method: Method
    funding_account_id: Reference | None = None
    collection_ref: Reference | None = None
    status: Literal["pending", "succeeded"]
    repaid_at: Instant


class RepaymentFailed(ReportedRepayment):
    """The rail refused the repayment before it settled."""

    method: Method
    code: Reference
    next_attempt_at: Instant | None = None


class RepaymentReturnReported(ReportedRepayment):
    """The rail took a repayment back; ``code`` is the bank's, ``fault`` says whose doing it was."""

    code: Reference
    fault: Fault = "payer"
