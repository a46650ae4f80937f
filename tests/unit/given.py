"""What tests of the domains are given: profiles, moments, and the five services in a row without I/O."""

import tomllib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from schemas.event import Event, RepaymentEvent, milliseconds_between
from schemas.ids import RepaymentId, repayment_id
from schemas.reasons import Cause
from schemas.repayment import RepaymentFailed, RepaymentReported, RepaymentReturnReported
from schemas.restoration import CreditRestored
from services.decision import Decision, Input, Internal, Moment, Timer, TimerFired
from services.limit_release import domain as limit_release
from services.limit_release.model import Account, Journal, Repayment, State
from services.limit_release.worker import WORKER as LIMIT_RELEASE
from services.notifier import domain as notifier
from services.notifier.worker import WORKER as NOTIFIER
from services.policy import Calendar, Profile, Profiles, parse_profile
from services.profiles import calendar, returns
from services.repayment_ingest import domain as repayment_ingest
from services.risk_scoring import domain as risk_scoring
from services.risk_scoring.model import Account as RiskAccount
from services.risk_scoring.worker import WORKER as RISK_SCORING
from services.settlement import domain as settlement
from services.settlement.model import Account as Debtor
from services.settlement.worker import WORKER as SETTLEMENT
from tests import builders

E = TypeVar("E", bound=Event)
CHINA = ZoneInfo("Asia/Shanghai")
POLICY = Path(__file__).parents[2] / "deploy" / "policy"
FRIDAY = datetime(2026, 11, 20, 22, 0, tzinfo=CHINA).astimezone(UTC)
REPORTS = (RepaymentReported, RepaymentFailed, RepaymentReturnReported)
ALL_HELD: Mapping[str, object] = {
    "instant_cap_by_tier.unknown": 0,
    "hold.REVERSIBLE.rest": [{"share_bps": 10_000, "banking_days": 2}],
}


def china(day: str, clock: str = "12:00") -> datetime:
    """Return a local instant of Shanghai in UTC."""
    return datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=CHINA).astimezone(UTC)


def moment(
    now: datetime,
    *,
    taken_at: datetime | None = None,
    reported_at: datetime | None = None,
    waits: tuple[tuple[Cause, datetime], ...] = (),
) -> Moment:
    return Moment(now, taken_at or now, reported_at or taken_at or now, waits)


def table(changes: Mapping[str, object] | None = None, *, name: str = "default") -> dict[str, Any]:
    """Return a profile's file as it is, with ``changes`` by dotted key; None takes a key away."""
    found: dict[str, Any] = tomllib.loads((POLICY / f"{name}.toml").read_text())
    for path, value in (changes or {}).items():
        *folders, last = path.split(".")
        place = found
        for folder in folders:
            place = place[folder]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return found


def weekdays(*, holidays: Iterable[str] = (), working: Iterable[str] = ()) -> Calendar:
    """Make a calendar of October 2026 to January 2027."""
    days = {date(2026, 10, 1) + timedelta(days=n) for n in range(120)}
    banking = {day for day in days if day.weekday() < 5}
    banking -= {date.fromisoformat(day) for day in holidays}
    return Calendar("made@1", frozenset(banking | {date.fromisoformat(day) for day in working}))


def profile(changes: Mapping[str, object] | None = None, *, made: Calendar | None = None) -> Profile:
    return parse_profile(table(changes), (lambda name: made) if made else calendar, returns())


def profiles(changes: Mapping[str, object] | None = None, *, made: Calendar | None = None) -> Profiles:
    return Profiles({"default": profile(changes, made=made)})


def booked(journals: Sequence[Journal], name: str) -> int:
    total: int = sum(getattr(journal, name) for journal in journals)
    return total


def check_ledger(account: Account) -> None:
    """Assert what is always true of the availability ledger (domain 4.2)."""
    used = account.used_debt_minor + account.used_authorisation_minor
    assert account.available_minor + used + account.pending_minor == account.credit_limit_minor
    assert account.available_minor <= account.credit_limit_minor
    names = ("available_minor", "used_debt_minor", "used_authorisation_minor", "pending_minor")
    for name in names:
        assert booked(account.journals, name) == getattr(account, name), name
    for journal in account.journals:
        legs = sum(getattr(journal, name) for name in names)
        assert legs == journal.limit_minor
        assert legs == 0 or journal.kind in ("OPEN", "RAISE", "CUT")
    assert min(account.used_debt_minor, account.used_authorisation_minor, account.pending_minor) >= 0
    assert account.credit_balance_minor >= 0
    assert not (account.credit_balance_minor and account.used_debt_minor), "a credit balance pays debt at once"
    refs = [(journal.kind, journal.ref) for journal in account.journals]
    assert len(refs) == len(set(refs)), "a journal was booked twice"


def check_repayment(repayment: Repayment) -> None:
    """Assert that tranches add up to what may be restored, and lanes are told whole."""
    if repayment.assessed and not (repayment.returned and not repayment.tranches):
        parts = sum(t.amount_minor for t in repayment.tranches.values()) + repayment.reallocated_available_minor
        assert parts == repayment.restorable_minor + repayment.reallocated_minor
    assert [record.version for record in repayment.records] == list(range(1, repayment.version + 1))


def check_trail(event: RepaymentEvent, until: datetime) -> None:
    """Assert that the trail tiles [repaid_at, until] in whole milliseconds."""
    start, spent = event.repaid_at, 0
    for _, _, end in event.trail:
        assert end > start
        assert (end - start) % timedelta(milliseconds=1) == timedelta(0)
        spent += milliseconds_between(start, end)
        start = end
    assert start == until
    assert spent == milliseconds_between(event.repaid_at, until)


def check_fact(event: Event) -> None:
    assert type(event).model_validate_json(event.model_dump_json()) == event
    if isinstance(event, CreditRestored):
        check_trail(event, event.restored_at)


def said(fact: BaseModel) -> dict[str, Any]:
    """Return every field of a fact."""
    return {name: getattr(fact, name) for name in type(fact).model_fields}


def only(events: Iterable[Event], kind: type[E]) -> E:
    (found,) = all_of(events, kind)
    return found


def all_of(events: Iterable[Event], kind: type[E]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


@dataclass
class Pipe:
    """The five services in a row for one account; invariants are checked after every step."""

    policy: Profiles = field(default_factory=profiles)
    channels: notifier.Channels = field(default_factory=lambda: notifier.Channels(("log",)))
    references: dict[tuple[str, str], repayment_ingest.Reference] = field(default_factory=dict)
    debt: Debtor = field(default_factory=lambda: Debtor(builders.ACCOUNT))
    risk: RiskAccount = field(default_factory=lambda: RiskAccount(builders.ACCOUNT))
    credit: State = field(default_factory=lambda: State(Account(builders.ACCOUNT)))
    told: notifier.Account = field(default_factory=lambda: notifier.Account(builders.ACCOUNT))
    timers: dict[str, Timer] = field(default_factory=dict)
    debt_timers: dict[str, Timer] = field(default_factory=dict)
    parked: list[tuple[str, Event]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    outcomes: list[tuple[str, str]] = field(default_factory=list)
    now: datetime = FRIDAY
    seen: Callable[[datetime], Moment] = moment

    @property
    def account(self) -> Account:
        return self.credit.account

    @property
    def waits(self) -> list[Timer]:
        """Return the timers of holds and promises, without those that ask whether a decision was made."""
        return [timer for timer in self.timers.values() if timer.kind != limit_release.DECISION_DUE]

    def repayment(self, ref: str) -> Repayment:
        return self.credit.repayments[repayment_id(builders.SOURCE, ref)]

    def open(self, limit: int, *, principal: int = 0, fee: int = 0, interest: int = 0) -> "Pipe":
        """Open the account with a limit and a debt."""
        self.take(builders.account_opened(credit_limit_minor=limit))
        if principal:
            self.buy(principal, ref="opening")
        if fee or interest:
            charges = {"penalty_minor": 0, "fee_minor": fee, "interest_minor": interest}
            self.take(builders.charges_accrued(**charges, occurred_at=builders.OPENED_AT))
        return self

    def buy(self, amount: int, *, ref: str, authorisation: str | None = None) -> list[Event]:
        bought = {"purchase_id": ref, "amount_minor": amount, "authorisation_id": authorisation}
        return self.take(builders.purchase_posted(**bought, occurred_at=self.now))

    def repay(self, amount: int, *, ref: str = "r1", at: datetime = FRIDAY, **changes: Any) -> list[Event]:
        """Report a repayment made at ``at``; it is decided two seconds later."""
        values = {"rail": "wallet", "external_ref": ref, "amount_minor": amount, "repaid_at": at, **changes}
        return self.take(builders.repayment_reported(**values), at + timedelta(seconds=2))

    def give_back(self, amount: int, *, ref: str = "r1", now: datetime | None = None, **changes: Any) -> list[Event]:
        """Report a return."""
        values = {"rail": "wallet", "external_ref": ref, "amount_minor": amount, **changes}
        return self.take(builders.repayment_return_reported(**values), now)

    def status(self, status: str, reason: str = "risk_team", *, now: datetime | None = None) -> list[Event]:
        return self.take(builders.account_status_changed(status=status, reason=reason), now)

    def take(self, event: Event, now: datetime | None = None) -> list[Event]:
        """Take a billing event through all services; return what followed, in order."""
        self.now = max(self.now, now or self.now)
        return self._drain(deque([event]))

    def deliver(self, now: datetime) -> list[Event]:
        """Let the channel acknowledge at ``now`` every message it was asked to take."""
        self.now = max(self.now, now)
        facts: list[Event] = []
        asked = [each for each in self.told.notifications.values() if each.state == "requested" and not each.told_by]
        for each in asked:
            tried = notifier.Attempted(builders.ACCOUNT, each.notification_id, "delivered")
            told = notifier.decide(self.channels, self.told, tried, self.seen(self.now))
            self.told = told.state
            facts += self._drain(deque(self._facts("notifier", tried, told)))
        return facts

    def pass_until(self, now: datetime) -> list[Event]:
        """Let time pass: every timer fires at its instant."""
        return self._fire_until(now, late=False)

    def sleep_until(self, now: datetime) -> list[Event]:
        """Let time pass while everything is down: what came due fires at ``now``, oldest first."""
        return self._fire_until(now, late=True)

    def _fire_until(self, now: datetime, *, late: bool) -> list[Event]:
        facts: list[Event] = []
        for timer in sorted((*self.timers.values(), *self.debt_timers.values()), key=lambda t: (t.due_at, t.key)):
            if timer.due_at <= now:
                self.now = now if late else timer.due_at
                fired = TimerFired(builders.ACCOUNT, timer)
                if self.debt_timers.pop(timer.key, None):
                    decided = self._settled(fired)
                else:
                    del self.timers[timer.key]
                    decided = self._released(fired)
                facts += self._drain(deque(decided))
        self.now = max(self.now, now)
        return facts

    def _drain(self, queue: deque[Event]) -> list[Event]:
        facts = list(queue)
        while queue:
            event = queue.popleft()
            check_fact(event)
            for service in ("repayment-ingest", "settlement", "risk-scoring", "limit-release", "notifier"):
                found = self._give(service, event)
                queue.extend(found)
                facts += found
        self.events += facts
        return facts

    def _give(self, service: str, event: Event) -> list[Event]:
        match service:
            case "repayment-ingest" if isinstance(event, REPORTS):
                return self._taken_in(event)
            case "settlement" if type(event) in SETTLEMENT.handles:
                return self._settled(event)
            case "risk-scoring" if type(event) in RISK_SCORING.handles:
                assessed = risk_scoring.decide(self.policy, self.risk, event, self.seen(self.now))
                self.risk = assessed.state
                return self._facts(service, event, assessed)
            case "limit-release" if type(event) in LIMIT_RELEASE.handles:
                return self._released(event)
            case "notifier" if type(event) in NOTIFIER.handles:
                told = notifier.decide(self.channels, self.told, event, self.seen(self.now))
                self.told = told.state
                return self._facts(service, event, told)
            case _:
                return []

    def _settled(self, event: Event | Internal) -> list[Event]:
        decision = settlement.decide(self.policy, self.debt, event, self.seen(self.now))
        self.debt = decision.state
        self.debt_timers |= {timer.key: timer for timer in decision.timers}
        return self._facts("settlement", event, decision)

    def _taken_in(self, event: RepaymentReported | RepaymentFailed | RepaymentReturnReported) -> list[Event]:
        at = (event.source, event.external_ref)
        known = self.references.get(at, repayment_ingest.Reference(*at))
        decision = repayment_ingest.decide(None, known, event, self.seen(self.now))
        self.references[at] = decision.state
        return self._facts("repayment-ingest", event, decision)

    def _released(self, event: Event | Internal) -> list[Event]:
        decision = limit_release.decide(self.policy, self.credit, event, self.seen(self.now))
        self.credit = decision.state
        self.timers |= {timer.key: timer for timer in decision.timers}
        check_ledger(self.account)
        for repayment in self.credit.repayments.values():
            check_repayment(repayment)
        return self._facts("limit-release", event, decision)

    def _facts(self, service: str, event: Input, decision: Decision[Any]) -> list[Event]:
        self.outcomes.append((service, decision.outcome))
        facts = list(decision.events)
        if decision.outcome == "parked" and isinstance(event, Event):
            self.parked.append((service, event))
        if decision.wakes:
            again = [parked for at, parked in self.parked if at == service]
            self.parked = [(at, parked) for at, parked in self.parked if at != service]
            for parked in again:
                facts += self._give(service, parked)
        return facts


def rid(ref: str) -> RepaymentId:
    return repayment_id(builders.SOURCE, ref)
