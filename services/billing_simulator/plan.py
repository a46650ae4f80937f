"""What billing sends and when, as values: the messages. No clock, no chance, no I/O."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal, get_args

from schemas.account import (
    AccountOpened,
    AccountStatusChanged,
    FundingAccountLinked,
    Language,
    PurchasePosted,
    StatementIssued,
)
from schemas.event import Event, to_millisecond
from schemas.ids import AccountId, event_id
from schemas.reasons import AccountStatus
from schemas.repayment import Method, RepaymentReported, RepaymentReturnReported
from schemas.topics import TOPIC_OF
from services.billing_simulator.headers import billing_headers

SOURCE: Final = "billing"
CURRENCY: Final = "CNY"
TIMEZONE: Final = "Asia/Shanghai"
DUE_DAYS: Final = 20
"""A statement is to be paid within so many days."""

Kind = Literal["account", "report", "duplicate", "conflict", "return", "poison"]
"""What a message is to the plan: each reference has exactly one ``report``; its repeats are duplicates or conflicts."""
Poison = Literal["broken_json", "float_amount", "duplicate_key", "no_envelope"]
POISONS: Final[tuple[Poison, ...]] = get_args(Poison)
Headers = tuple[tuple[str, bytes], ...]
Reference = tuple[str, str]
"""(source, external_ref), billing's own name of a repayment."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One message, to be sent ``at_seconds`` after the start of its plan.

    ``event`` is what the bytes say, None for poison; ``reference`` is set for messages about a repayment.
    """

    at_seconds: float
    kind: Kind
    topic: str
    key: bytes
    value: bytes
    headers: Headers
    event: Event | None = None
    reference: Reference | None = None


Plan = Callable[[datetime], Iterable[Planned]]
"""Given the instant it starts, a plan's messages in the order of ``at_seconds``."""


@dataclass(frozen=True, slots=True)
class Repayment:
    """A repayment as billing knows it; ``repaid_seconds`` counts from the start and may be negative."""

    account_id: str
    external_ref: str
    amount_minor: int
    rail: str
    repaid_seconds: float
    method: Method = "auto"
    funding_account_id: str | None = None

    @property
    def reference(self) -> Reference:
        """Return billing's name of it."""
        return SOURCE, self.external_ref


@dataclass(frozen=True, slots=True)
class Billing:
    """Writes billing's messages; every instant is ``start`` plus some seconds, cut to the millisecond."""

    start: datetime
    product: str = "demo"
    headers: dict[type[Event], Headers] = field(default_factory=dict, compare=False, repr=False)

    def opened(self, at: float, account_id: str, *, limit_minor: int, language: Language = "zh-CN") -> Planned:
        """Say that an account exists."""
        event = AccountOpened(
            event_id=event_id("AccountOpened", account_id),
            account_id=AccountId(account_id),
            occurred_at=self._instant(at),
            product=self.product,
            credit_limit_minor=limit_minor,
            currency=CURRENCY,
            language=language,
            timezone=TIMEZONE,
        )
        return self._message(at, "account", event)

    def purchase(self, at: float, account_id: str, *, amount_minor: int, number: int = 1) -> Planned:
        """Say that a purchase became debt; ``number`` tells an account's purchases apart."""
        event = PurchasePosted(
            event_id=event_id("PurchasePosted", account_id, str(number)),
            account_id=AccountId(account_id),
            occurred_at=self._instant(at),
            purchase_id=f"pur_{account_id.removeprefix('acct_')}_{number}",
            amount_minor=amount_minor,
            currency=CURRENCY,
        )
        return self._message(at, "account", event)

    def linked(self, at: float, account_id: str, funding_account_id: str) -> Planned:
        """Say that repayments may come from a bank account, and that it is the customer's own."""
        event = FundingAccountLinked(
            event_id=event_id("FundingAccountLinked", account_id, funding_account_id),
            account_id=AccountId(account_id),
            occurred_at=self._instant(at),
            funding_account_id=funding_account_id,
            verified=True,
        )
        return self._message(at, "account", event)

    def statement(self, at: float, account_id: str, *, due_minor: int, minimum_minor: int, number: int) -> Planned:
        """Say that a statement closed; ``number`` tells an account's statements apart."""
        event = StatementIssued(
            event_id=event_id("StatementIssued", account_id, str(number)),
            account_id=AccountId(account_id),
            occurred_at=self._instant(at),
            due_minor=due_minor,
            minimum_minor=minimum_minor,
            due_on=(self.start + timedelta(days=DUE_DAYS)).date(),
            currency=CURRENCY,
        )
        return self._message(at, "account", event)

    def status(self, at: float, account_id: str, status: AccountStatus, *, reason: str) -> Planned:
        """Say that an account was frozen, closed or made active again."""
        event = AccountStatusChanged(
            event_id=event_id("AccountStatusChanged", account_id, status),
            account_id=AccountId(account_id),
            occurred_at=self._instant(at),
            status=status,
            reason=reason,
        )
        return self._message(at, "account", event)

    def report(self, at: float, repayment: Repayment, *, number: int = 1, kind: Kind = "report") -> Planned:
        """Report that a repayment succeeded; another ``number`` is another message id."""
        event = RepaymentReported(
            event_id=event_id("RepaymentReported", repayment.external_ref, str(number)),
            account_id=AccountId(repayment.account_id),
            occurred_at=self._instant(at),
            source=SOURCE,
            external_ref=repayment.external_ref,
            amount_minor=repayment.amount_minor,
            currency=CURRENCY,
            rail=repayment.rail,
            method=repayment.method,
            status="succeeded",
            repaid_at=self._instant(repayment.repaid_seconds),
            funding_account_id=repayment.funding_account_id,
        )
        return self._message(at, kind, event, repayment.reference)

    def returned(self, at: float, repayment: Repayment, *, code: str = "R01") -> Planned:
        """Report that the rail took a repayment back."""
        event = RepaymentReturnReported(
            event_id=event_id("RepaymentReturnReported", repayment.external_ref),
            account_id=AccountId(repayment.account_id),
            occurred_at=self._instant(at),
            source=SOURCE,
            external_ref=repayment.external_ref,
            amount_minor=repayment.amount_minor,
            currency=CURRENCY,
            rail=repayment.rail,
            code=code,
        )
        return self._message(at, "return", event, repayment.reference)

    def poison(self, at: float, repayment: Repayment, how: Poison) -> Planned:
        """Report a repayment in bytes that nobody can read as one."""
        good = self.report(at, repayment)
        headers = () if how == "no_envelope" else good.headers
        return replace(good, kind="poison", value=spoiled(good.value, how), headers=headers, event=None)

    def _message(self, at: float, kind: Kind, event: Event, reference: Reference | None = None) -> Planned:
        return Planned(
            at_seconds=at,
            kind=kind,
            topic=TOPIC_OF[type(event)].name,
            key=event.account_id.encode(),
            value=event.model_dump_json().encode(),
            headers=self._headers(event),
            event=event,
            reference=reference,
        )

    def _headers(self, event: Event) -> Headers:
        """Return what billing_headers() returns; those equal for all events of a type are made once."""
        known = self.headers.get(type(event))
        if known is None:
            known = self.headers[type(event)] = tuple(billing_headers(event, SOURCE))
        own = {
            "ce_id": event.event_id.encode(),
            "ce_time": event.occurred_at.isoformat().replace("+00:00", "Z").encode(),
            "ce_subject": event.account_id.encode(),
        }
        return tuple((name, own.get(name, value)) for name, value in known)

    def _instant(self, seconds: float) -> datetime:
        return to_millisecond(self.start + timedelta(seconds=seconds))


def redelivered(planned: Planned, at: float) -> Planned:
    """Return the very bytes of a message once more, later."""
    return replace(planned, at_seconds=at, kind="duplicate")


def spoiled(value: bytes, how: Poison) -> bytes:
    """Return a report's JSON made unreadable."""
    match how:
        case "broken_json":
            return value[: len(value) // 2]
        case "float_amount":
            body = json.loads(value)
            return json.dumps({**body, "amount_minor": body["amount_minor"] + 0.5}).encode()
        case "duplicate_key":
            return value[:-1] + b',"currency":"USD"}'
        case "no_envelope":
            return value
