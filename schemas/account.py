"""billing.account.v1: what billing tells of an account, its limit, its status and its debt."""

from datetime import date
from typing import Annotated, Final, Literal
from zoneinfo import available_timezones

from pydantic import AfterValidator, Field

from schemas.event import BillingEvent
from schemas.ids import Reference
from schemas.money import AmountMinor, BalanceMinor, Currency, ShareMinor
from schemas.reasons import AccountStatus

Language = Literal["zh-CN", "en"]
CASH: Final = "cash"
"""The plan of purchases that are cash drawn; they have a sub-limit of their own (R20)."""
_ZONES = frozenset(available_timezones())


def _known_zone(name: str) -> str:
    if name not in _ZONES:
        raise ValueError("not an IANA time zone name")
    return name


Timezone = Annotated[Reference, AfterValidator(_known_zone)]


class AccountOpened(BillingEvent):
    """A credit account exists from now on."""

    product: Reference
    credit_limit_minor: ShareMinor
    currency: Currency
    language: Language
    timezone: Timezone


class CreditLimitChanged(BillingEvent):
    """The ceiling is another; ``cash_sub_limit_minor`` bounds cash within it."""

    credit_limit_minor: ShareMinor
    currency: Currency
    cash_sub_limit_minor: ShareMinor | None = None


class AccountStatusChanged(BillingEvent):
    """The account was frozen, closed or made active again."""

    status: AccountStatus
    reason: Reference


class PurchasePosted(BillingEvent):
    """A purchase became debt of a ``plan`` (purchase, cash, instalment) at ``apr_bps`` a year.

    ``instalments_minor`` are the parts it is repaid in, in order; they add up to the amount.
    """

    purchase_id: Reference
    authorisation_id: Reference | None = None
    amount_minor: AmountMinor
    currency: Currency
    plan: Reference = "purchase"
    apr_bps: Annotated[int, Field(ge=0, le=100_000)] = 0
    instalments_minor: Annotated[tuple[AmountMinor, ...], Field(max_length=120)] = ()


class PurchaseRefunded(BillingEvent):
    """A purchase was refunded: a part to the debt, a part to the payer."""

    refund_id: Reference
    purchase_id: Reference
    to_debt_minor: ShareMinor
    to_payer_minor: ShareMinor
    currency: Currency


class AuthorisationPlaced(BillingEvent):
    """A purchase was approved and is not yet posted."""

    authorisation_id: Reference
    amount_minor: AmountMinor
    currency: Currency


class AuthorisationReleased(BillingEvent):
    """An approved purchase will not be posted."""

    authorisation_id: Reference


class AuthorisationDeclined(BillingEvent):
    """A purchase was refused for want of available credit."""

    authorisation_id: Reference
    amount_minor: AmountMinor
    currency: Currency


class ChargesAccrued(BillingEvent):
    """Charges were added; a negative amount is billing's correction."""

    currency: Currency
    penalty_minor: BalanceMinor = 0
    fee_minor: BalanceMinor = 0
    interest_minor: BalanceMinor = 0


class StatementIssued(BillingEvent):
    """A statement closed: ``due_minor`` more is due, and at least ``minimum_minor`` must be paid by ``due_on``.

    ``due_minor`` is what becomes due with this statement, nothing that was due before; the minimum counts what is past
    due already. When ``due_on`` has passed in the product's zone, what is left of the minimum is past due.
    """

    due_minor: ShareMinor
    minimum_minor: ShareMinor
    due_on: Annotated[date, Field(ge=date(2000, 1, 1), lt=date(2200, 1, 1))]
    currency: Currency


class FundingAccountLinked(BillingEvent):
    """A bank account repayments may come from, verified or not."""

    funding_account_id: Reference
    verified: bool


class ContactPointChanged(BillingEvent):
    """The customer is reached through another contact point, an opaque reference."""

    channel: Reference
    contact_ref: Reference


class RepaymentDisputed(BillingEvent):
    """The customer disputes a repayment."""

    source: Reference
    external_ref: Reference
    code: Reference


class CreditBalanceRefunded(BillingEvent):
    """Billing paid a credit balance out."""

    refund_id: Reference
    amount_minor: AmountMinor
    currency: Currency
