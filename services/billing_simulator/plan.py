"""What billing sends and when, as values: the messages, and the named scenarios. No clock, no chance, no I/O."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal, get_args

from schemas.account import AccountOpened, Language, PurchasePosted
from schemas.event import Event, to_millisecond
from schemas.ids import AccountId, event_id
from schemas.repayment import Method, RepaymentReported, RepaymentReturnReported
from schemas.topics import TOPIC_OF
from services.billing_simulator.headers import billing_headers

SOURCE: Final = "billing"
CURRENCY: Final = "CNY"
TIMEZONE: Final = "Asia/Shanghai"
REPAID_BEFORE_SECONDS: Final = 0.4
"""A scenario's repayment succeeds this long before billing reports it."""

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


# ---- the scenarios ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scenario:
    """A short story about named repayments; ``about`` says what to watch.

    ``repayments`` and ``accounts`` are known before it is played; ``run`` keeps two plays in one stack apart.
    """

    name: str
    about: str
    repayments: tuple[Repayment, ...]
    write: Callable[[Billing, Sequence[Repayment]], list[Planned]]

    @property
    def accounts(self) -> tuple[str, ...]:
        """Return the accounts it is about."""
        return tuple(dict.fromkeys(repayment.account_id for repayment in self.repayments))

    def plan(self, start: datetime) -> list[Planned]:
        """Return its messages in the order they are sent."""
        return sorted(self.write(Billing(start), self.repayments), key=lambda planned: planned.at_seconds)


def scenario(name: str, run: str = "") -> Scenario:
    """Return a scenario by its name; raise KeyError when there is none."""
    return SCENARIOS[name](run)


def together(scenarios: Sequence[Scenario]) -> Plan:
    """Return a plan that plays several scenarios side by side."""

    def plan(start: datetime) -> list[Planned]:
        messages = [planned for each in scenarios for planned in each.plan(start)]
        return sorted(messages, key=lambda planned: planned.at_seconds)

    return plan


def paid_on_time(run: str) -> Scenario:
    """A repayment on a final rail."""

    def write(billing: Billing, repayments: Sequence[Repayment]) -> list[Planned]:
        (repayment,) = repayments
        return [*_in_debt(billing, repayment, 500_000, 300_000), billing.report(1, repayment)]

    about = "a wallet repayment of 1200.00 is final: all of it is available again at once, one message says so"
    return Scenario("paid_on_time", about, (_repayment("on_time", run, 120_000),), write)


def held_and_explained(run: str) -> Scenario:
    """A repayment on a reversible rail, above the instant cap."""

    def write(billing: Billing, repayments: Sequence[Repayment]) -> list[Planned]:
        (repayment,) = repayments
        return [*_in_debt(billing, repayment, 500_000, 400_000, "en"), billing.report(1, repayment)]

    about = "a direct debit of 3000.00 can still be taken back: 1000.00 at once, 1000.00 after 10 s, 1000.00 after 20 s"
    repayment = _repayment("held_and_explained", run, 300_000, rail="direct_debit")
    return Scenario("held_and_explained", about, (repayment,), write)


def returned_after_restoration(run: str) -> Scenario:
    """Restored credit is spent, then the repayment is taken back (R8)."""

    def write(billing: Billing, repayments: Sequence[Repayment]) -> list[Planned]:
        (repayment,) = repayments
        return [
            *_in_debt(billing, repayment, 300_000, 280_000),
            billing.report(1, repayment),
            billing.purchase(4, repayment.account_id, amount_minor=190_000, number=2),
            billing.returned(6, repayment, code="R01"),
        ]

    about = "2500.00 restored, 1900.00 of it spent, then the bank takes 2500.00 back: available is -1700.00, shown 0.00"
    repayment = _repayment("returned_after_restoration", run, 250_000, rail="instant_transfer")
    return Scenario("returned_after_restoration", about, (repayment,), write)


def duplicate(run: str) -> Scenario:
    """One repayment reported three times (R10)."""

    def write(billing: Billing, repayments: Sequence[Repayment]) -> list[Planned]:
        (repayment,) = repayments
        report = billing.report(1, repayment)
        return [
            *_in_debt(billing, repayment, 500_000, 200_000),
            report,
            redelivered(report, 1.5),
            billing.report(2, repayment, number=2, kind="duplicate"),
        ]

    about = "the same repayment of 800.00 comes three times, once under a new message id: restored once"
    return Scenario("duplicate", about, (_repayment("duplicate", run, 80_000),), write)


def out_of_order(run: str) -> Scenario:
    """A return before its report, and a repayment before its account (R12)."""

    def write(billing: Billing, repayments: Sequence[Repayment]) -> list[Planned]:
        returned, early = repayments
        return [
            *_in_debt(billing, returned, 500_000, 200_000),
            billing.returned(1, returned, code="R02"),
            billing.report(2, returned),
            billing.purchase(0.1, early.account_id, amount_minor=200_000),
            billing.report(1, early),
            billing.opened(3, early.account_id, limit_minor=500_000, language="en"),
        ]

    about = "a return comes before its report: nothing moves; a repayment waits for its account, then is restored"
    repayments = (
        _repayment("return_first", run, 60_000, rail="direct_debit"),
        _repayment("account_later", run, 60_000),
    )
    return Scenario("out_of_order", about, repayments, write)


def poison(run: str) -> Scenario:
    """Messages nobody can read, between good ones of the same account."""

    def write(billing: Billing, repayments: Sequence[Repayment]) -> list[Planned]:
        (good,) = repayments
        return [
            *_in_debt(billing, good, 500_000, 200_000),
            billing.poison(1, replace(good, external_ref=f"{good.external_ref}_bad_1"), "broken_json"),
            billing.poison(1.5, replace(good, external_ref=f"{good.external_ref}_bad_2"), "float_amount"),
            billing.report(2, good),
        ]

    about = "two unreadable messages become dead letters with a reason; the 700.00 behind them is restored all the same"
    return Scenario("poison", about, (_repayment("poison", run, 70_000),), write)


def conflict(run: str) -> Scenario:
    """The same reference with another amount (R10)."""

    def write(billing: Billing, repayments: Sequence[Repayment]) -> list[Planned]:
        (repayment,) = repayments
        other = replace(repayment, amount_minor=repayment.amount_minor * 10)
        return [
            *_in_debt(billing, repayment, 500_000, 400_000),
            billing.report(1, repayment),
            billing.report(2, other, number=2, kind="conflict"),
        ]

    about = "300.00 is restored; then the same reference says 3000.00: that report is set aside for a person"
    return Scenario("conflict", about, (_repayment("conflict", run, 30_000),), write)


def case_a(run: str) -> Scenario:
    """A large repayment, part of it observed (R6)."""

    def write(billing: Billing, repayments: Sequence[Repayment]) -> list[Planned]:
        (repayment,) = repayments
        return [*_in_debt(billing, repayment, 600_000, 550_000), billing.report(1, repayment)]

    about = "5000.00 repaid by direct debit: 1000.00 at once, 2000.00 after 10 s, 2000.00 after 20 s, each date told"
    return Scenario("case_a", about, (_repayment("case_a", run, 500_000, rail="direct_debit"),), write)


SCENARIOS: Final[dict[str, Callable[[str], Scenario]]] = {
    write.__name__: write
    for write in (
        paid_on_time,
        held_and_explained,
        returned_after_restoration,
        duplicate,
        out_of_order,
        poison,
        conflict,
        case_a,
    )
}


def _repayment(label: str, run: str, amount_minor: int, *, rail: str = "wallet") -> Repayment:
    name = f"demo_{label}_{run}" if run else f"demo_{label}"
    return Repayment(f"acct_{name}", f"rep_{name}", amount_minor, rail, 1 - REPAID_BEFORE_SECONDS)


def _in_debt(
    billing: Billing, repayment: Repayment, limit_minor: int, debt_minor: int, language: Language = "zh-CN"
) -> list[Planned]:
    """Open the account of ``repayment`` and put it in debt."""
    account = repayment.account_id
    return [
        billing.opened(0, account, limit_minor=limit_minor, language=language),
        billing.purchase(0.1, account, amount_minor=debt_minor),
    ]
