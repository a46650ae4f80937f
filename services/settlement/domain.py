"""The debt ledger: what a repayment pays, what of it may be restored, and how a return undoes it."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from schemas.account import (
    CASH,
    AccountOpened,
    ChargesAccrued,
    CreditBalanceRefunded,
    PurchasePosted,
    PurchaseRefunded,
    StatementIssued,
)
from schemas.ids import AccountId
from schemas.intake import RepaymentReceived, ReturnReceived
from schemas.reasons import Reason
from schemas.settlement import EARLIER_MAX, Awaited
from services.decision import Decision, Input, Malformed, Moment, Timer, TimerFired
from services.policy import Profile, Profiles
from services.settlement import facts, replay
from services.settlement.model import LANE, Account, Entry, News, Repayment, drawn
from services.settlement.replay import with_cash
from services.values import replace

DAY_OVER: Final = "due_day_over"
WAITS: Final[Mapping[str, Awaited]] = {"rail_waits": "rail", "return_waits": "report", "account_waits": "account"}
"""Timer kinds that ask whether a repayment or a return still waits, and for what."""
KIND: Final[Mapping[Awaited, str]] = {awaited: kind for kind, awaited in WAITS.items()}
UNMATCHED_HOURS: Final = 24
"""How long a return may wait for its report, and anything for its account, before a person looks (R12, domain 3.3)."""
DOUBLES_WITHIN: Final = timedelta(hours=72)
"""Two repayments by two methods this close pay the same debt twice when one leaves credit balance (R11)."""
CYCLES_MAX: Final = 12
DAY: Final = timedelta(days=1)
Billed = PurchasePosted | PurchaseRefunded | ChargesAccrued | StatementIssued | CreditBalanceRefunded


def decide(policy: Profiles, state: Account, event: Input, moment: Moment) -> Decision[Account]:
    """Settle, reject, return, or follow billing's account; anything of an unknown account is parked."""
    if isinstance(event, AccountOpened):
        return _opened(policy, state, event)
    if not state.product:
        return _unknown(state, event, moment)
    profile = policy.of(state.product)
    match event:
        case RepaymentReceived():
            decision = _received(profile, state, event, moment)
        case ReturnReceived():
            decision = _returned(profile, state, event, moment)
        case TimerFired(timer=timer):
            return _timer(profile, state, timer, moment)
        case PurchasePosted() | PurchaseRefunded() | ChargesAccrued() | StatementIssued() | CreditBalanceRefunded():
            decision = _billed(profile, state, event, moment)
        case _:
            return Decision(state, outcome="ignored")
    if decision.state.kept < decision.state.fold_at:
        return decision
    return decision._replace(state=replay.trimmed(profile, decision.state, profile.local_day(moment.now)))


def ref_of(event: Input) -> str:
    """Return the name of what billing may tell only once, whatever event id it comes under; empty for the rest."""
    match event:
        case PurchasePosted(purchase_id=ref):
            return f"purchase:{ref}"
        case PurchaseRefunded(refund_id=ref):
            return f"refund:{ref}"
        case CreditBalanceRefunded(refund_id=ref):
            return f"payout:{ref}"
        case ChargesAccrued(event_id=ref):
            return f"charges:{ref}"
        case StatementIssued(event_id=ref):
            return f"statement:{ref}"
        case _:
            return ""


def value_at(event: Input) -> datetime | None:
    """Return the instant of value time an input may move debt at; None when it moves none."""
    match event:
        case (
            RepaymentReceived(status="succeeded", repaid_at=at)
            | TimerFired(timer=Timer(kind="due_day_over", due_at=at))
        ):
            return at
        case PurchasePosted() | PurchaseRefunded() | ChargesAccrued() | StatementIssued() | CreditBalanceRefunded():
            return event.occurred_at
        case _:
            return None


def _opened(policy: Profiles, state: Account, event: AccountOpened) -> Decision[Account]:
    if state.product:
        return Decision(state, outcome="stale", reason="opened_before")
    policy.of(event.product)
    return Decision(replace(state, product=event.product, currency=event.currency), wakes=True)


def _unknown(state: Account, event: Input, moment: Moment) -> Decision[Account]:
    """Park everything; a repayment or return that still waits for its account after a day is told (R12)."""
    match event:
        case TimerFired(timer=timer):
            return _still_waits(state, timer, moment)
        case RepaymentReceived() | ReturnReceived():
            timers: tuple[Timer, ...] = (_waits(event, "account", UNMATCHED_HOURS, moment),)
        case _:
            timers = ()
    return Decision(state, timers=timers, outcome="parked", reason=Reason.ACCOUNT_UNKNOWN)


def _received(profile: Profile, state: Account, event: RepaymentReceived, moment: Moment) -> Decision[Account]:
    known = state.repayments.get(event.repayment_id)
    status = known.status if known else "new"
    to = LANE.get((status, event.status))
    if to is None:
        return Decision(state, outcome="stale", reason=f"already_{status}")
    if status == "returned_first":
        return _rejected(state, event, moment, Reason.RETURNED_FIRST)
    if to == "rejected":
        return _rejected(state, event, moment, Reason.REPORTED_FAILED)
    if event.currency != state.currency:
        return _rejected(state, event, moment, Reason.CURRENCY_MISMATCH)
    if to == "settled":
        return _settled(profile, state, event, moment)
    waiting = Repayment(event.repayment_id, to, event.amount_minor)
    hours = profile.rail(event.rail).case_after_hours
    return Decision(_with(state, waiting), timers=(_waits(event, "rail", hours, moment),))


def _settled(profile: Profile, state: Account, event: RepaymentReceived, moment: Moment) -> Decision[Account]:
    credited_on = profile.credited_on(event.repaid_at)
    final_on = credited_on + DAY * profile.tail_calendar_days(profile.rail(event.rail))
    repayment = Repayment(
        repayment_id=event.repayment_id,
        status="settled",
        amount_minor=event.amount_minor,
        method=event.method,
        repaid_at=event.repaid_at,
        credited_on=credited_on,
        final_on=final_on,
    )
    done = replay.repaid(profile, state, repayment, event.repaid_at, credited_on)
    days, doubles = (credited_on, final_on), _doubled(state, event, done)
    return Decision(done.state, (facts.settled(profile, event, moment, days=days, doubles=doubles, done=done),))


def _doubled(state: Account, event: RepaymentReceived, done: replay.Replayed) -> str | None:
    """Return the repayment by the other method that paid the same debt, when money of either is left over (R11)."""
    latest = state.latest
    if latest is None or latest.method == event.method or abs(event.repaid_at - latest.repaid_at) > DOUBLES_WITHIN:
        return None
    over = done.state.repayments[event.repayment_id].credit_balance_minor > 0
    over = over or any(change.credit_balance_delta_minor > 0 for change in done.reallocated)
    return latest.repayment_id if over else None


def _rejected(
    state: Account, event: RepaymentReceived | ReturnReceived, moment: Moment, reason: Reason
) -> Decision[Account]:
    rejected = Repayment(event.repayment_id, "rejected", event.amount_minor)
    return Decision(_with(state, rejected), (facts.rejected(event, moment, reason),), reason=reason)


def _returned(profile: Profile, state: Account, event: ReturnReceived, moment: Moment) -> Decision[Account]:
    news: News = "return"
    known = state.repayments.get(event.repayment_id)
    status = known.status if known else "new"
    match LANE.get((status, news)):
        case "returned_first":
            first = Repayment(event.repayment_id, "returned_first", event.amount_minor)
            timer = _waits(event, "report", UNMATCHED_HOURS, moment)
            return Decision(_with(state, first), timers=(timer,), reason="waits_for_its_report")
        case "rejected":
            return _rejected(state, event, moment, Reason.RETURNED_FIRST)
        case "returned" if known is not None and known.final_on is not None:
            done = with_cash(state, replay.taken_back(profile, state, known), drawn(known.portions))
            after_final = profile.local_day(moment.now) > known.final_on
            fact = facts.returned(known, event, moment, after_final=after_final, done=done)
            return Decision(done.state, (fact,))
        case _:
            return Decision(state, outcome="stale", reason=f"already_{status}")


def _billed(profile: Profile, state: Account, event: Billed, moment: Moment) -> Decision[Account]:
    """Follow billing; a purchase or refund told twice counts once, and one told late counts in its place (R24)."""
    if event.currency != state.currency:
        raise Malformed("currency_mismatch")
    moment.refuse_ahead(event.occurred_at)
    if ref_of(event) in state.entries:
        return Decision(state, outcome="stale", reason="booked_before")
    if not isinstance(event, StatementIssued):
        state = replace(state, read_to=" ".join((event.event_id, *state.read_to.split()[:EARLIER_MAX])))
    bought = event.amount_minor if isinstance(event, PurchasePosted) and event.plan == CASH else 0
    done = with_cash(state, replay.told(profile, state, _entry(profile, event)), bought)
    timers = (_day_over(profile, event),) if isinstance(event, StatementIssued) else ()
    if len(done.state.books.cycles) > CYCLES_MAX:
        raise Malformed("too_many_open_statements")
    if not (done.reallocated or done.principal_instead_minor or done.cash_moved_minor):
        return Decision(done.state, timers=timers)
    done = done._replace(state=replace(done.state, told=done.state.told + 1))
    return Decision(done.state, (facts.reallocated(event, moment, done),), timers)


def _entry(profile: Profile, event: Billed) -> Entry:
    """Return what an event of billing's says of the debt."""
    ref, at = ref_of(event), event.occurred_at
    day = profile.credited_on(at)
    match event:
        case PurchasePosted(amount_minor=whole, instalments_minor=parts):
            if parts and sum(parts) != whole:
                raise Malformed("instalments_do_not_add_up")
            return Entry(ref, "purchase", at, day, (whole, *parts), event.purchase_id, event.plan, event.apr_bps)
        case PurchaseRefunded(to_debt_minor=to_debt):
            return Entry(ref, "refund", at, day, (to_debt,), event.purchase_id)
        case ChargesAccrued(penalty_minor=penalty, fee_minor=fee, interest_minor=interest):
            return Entry(ref, "charges", at, day, (penalty, fee, interest))
        case StatementIssued(due_minor=due, minimum_minor=minimum):
            return Entry(ref, "statement", at, day, (due, minimum), due_on=event.due_on)
        case CreditBalanceRefunded(amount_minor=amount):
            return Entry(ref, "payout", at, day, (amount,))


def _timer(profile: Profile, state: Account, timer: Timer, moment: Moment) -> Decision[Account]:
    if timer.kind in WAITS:
        return _still_waits(state, timer, moment)
    day = date.fromordinal(timer.number)
    if not any(cycle.due_on < day for cycle in state.books.cycles):
        return Decision(state, outcome="stale", reason="over_before")
    return Decision(replay.passed(profile, state, day, timer.due_at))


def _still_waits(state: Account, timer: Timer, moment: Moment) -> Decision[Account]:
    """Tell a wait that is still one, once; nothing of it moves."""
    awaited = WAITS[timer.kind]
    known = state.repayments.get(timer.subject)
    waits = {
        "account": not state.product,
        "rail": known is not None and known.status == "waiting",
        "report": known is not None and known.status == "returned_first",
    }
    if not waits[awaited]:
        return Decision(state, outcome="stale", reason="over_before")
    since = timer.due_at - timedelta(hours=timer.number)
    return Decision(state, (facts.delayed(timer.account_id, timer.subject, awaited, since, moment),))


def _waits(event: RepaymentReceived | ReturnReceived, awaited: Awaited, hours: int, moment: Moment) -> Timer:
    due_at = moment.now + timedelta(hours=hours)
    return Timer(event.account_id, KIND[awaited], event.repayment_id, hours, due_at)


def _day_over(profile: Profile, event: StatementIssued) -> Timer:
    """Return when the last day of a statement is over in the product's zone."""
    day = event.due_on + timedelta(days=1)
    midnight = datetime.combine(day, datetime.min.time(), ZoneInfo(profile.timezone)).astimezone(UTC)
    return Timer(AccountId(event.account_id), DAY_OVER, event.account_id, day.toordinal(), midnight)


def _with(state: Account, repayment: Repayment) -> Account:
    return replace(state, repayments={**state.repayments, repayment.repayment_id: repayment})
