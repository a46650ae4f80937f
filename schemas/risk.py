"""repayment.risk.v1 and risk.active.v1: when restorable credit may go back, and which model says so."""

from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from schemas.event import Event, Instant, RepaymentEvent
from schemas.ids import Reference
from schemas.money import AmountMinor, Currency, ShareMinor
from schemas.reasons import Reason

Tier = Literal["A", "B", "C", "D", "E", "unknown"]
Faster = Literal["final_rail", "verified_account", "within_cap"]
Pattern = Literal["credit_cycling", "prior_returns", "disputed", "overdue_elsewhere", "shared_funding_account"]
Reasons = Annotated[tuple[Reason, ...], Field(max_length=4)]
"""At most four codes, most important first."""


class Given(NamedTuple):
    """Something a verdict depended on beside the policy and what its event says itself."""

    name: Reference
    value: bool | int | float | Reference | None


class Tranche(NamedTuple):
    """A part of a repayment with its own date, numbered from 1."""

    number: Annotated[int, Field(ge=1, le=99)]
    amount_minor: AmountMinor
    due_at: Instant
    reason: Reason


class RiskAssessed(RepaymentEvent):
    """The verdict on one repayment; ``tranches`` add up to ``restorable_minor``.

    A revision keeps each tranche's number and amount and only moves dates earlier. ``patterns`` is what a person should
    look at, on a rail that was cleared too; the customer is never told it. From ``inputs`` and the policy of its
    version the first verdict can be reached again, byte by byte; ``inputs_digest`` is of all that it depended on.
    ``past_due_minor`` is settlement's word: it is passed on, no verdict depends on it.
    """

    product: Reference
    amount_minor: AmountMinor
    currency: Currency
    rail: Reference
    settled_at: Instant
    restorable_minor: ShareMinor
    credit_balance_minor: ShareMinor
    past_due_minor: ShareMinor | None = None
    outcome: Literal["clear", "observe", "refer"]
    tranches: Annotated[tuple[Tranche, ...], Field(max_length=99)]
    tier: Tier
    reasons: Reasons
    faster: Annotated[tuple[Faster, ...], Field(max_length=3)] = ()
    patterns: Annotated[tuple[Pattern, ...], Field(max_length=4)] = ()
    revision: Annotated[int, Field(ge=0, le=99)] = 0
    clear_seconds: Annotated[int, Field(ge=1, le=86_400)]
    hold_slack_seconds: Annotated[int, Field(ge=0, le=86_400)]
    inputs: Annotated[tuple[Given, ...], Field(max_length=64)] = ()
    inputs_digest: Reference | None = None
    model_version: Reference
    policy_version: Reference
    calendar_version: Reference


class ModelActivated(Event):
    """Another model of a kind decides from now on; an announcement: what is in force is read in the registry.

    ``account_id`` is the kind's reserved name, so that its topic keeps the last change for ever. ``change`` grows with
    each. No ``model_version`` is the table that comes with the program, and so is no ``replaced``. ``goes_back`` says
    that it decided before, ``unproven`` that its checks did not allow it and a person did. ``actor`` is who changed it,
    the service itself where a rule was broken (``reason``).
    """

    model: Literal["return"]
    change: Annotated[int, Field(ge=1)]
    model_version: Reference | None
    replaced: Reference | None
    goes_back: bool
    unproven: bool
    actor: Reference
    reason: Reference
