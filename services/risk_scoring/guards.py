"""What keeps all of a repayment back before any price is asked: few plain rules, each with its reason (risk 4.5)."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, TypedDict

from schemas.account import AccountStatusChanged, RepaymentDisputed
from schemas.ids import repayment_id
from schemas.reasons import Reason
from schemas.risk import Pattern
from schemas.settlement import RepaymentReturned, RepaymentSettled
from services.decision import Decision, Input
from services.policy import Profile
from services.prior import Guards
from services.risk_scoring.courses import course, given_until
from services.risk_scoring.model import (
    Account,
    Question,
    Use,
    Verdict,
    Warned,
    window,
)
from services.values import replace

DAY: Final = timedelta(hours=24)
WHOLE: Final = 10_000


class Guard(NamedTuple):
    """Why all of a repayment is kept back, most important first, and what of it a person should look at."""

    reasons: tuple[Reason, ...] = ()
    patterns: tuple[Pattern, ...] = ()


NONE: Final = Guard()


def fired(profile: Profile, asked: Question) -> Guard:
    """Return the guards that fire on a repayment that a formula prices.

    The schedule needs none: it never gives back more than its cap. What a person should look at is said to the customer
    as an additional check, never as what was seen (risk 8).
    """
    if profile.formula is None or asked.rail != "REVERSIBLE":
        return NONE
    seen = asked.disputes or asked.overdue_elsewhere or asked.shared_with
    patterns = tuple(_patterns(profile, asked)) if seen else ()
    reasons: tuple[Reason, ...] = (Reason.HOLD_UNDER_REVIEW,) if patterns else ()
    if asked.new_funding and asked.credit_balance_minor:
        reasons += (Reason.HOLD_NEW_FUNDING_ACCOUNT, Reason.HOLD_OVERPAYMENT)
    if asked.young and _hurried(profile, asked):
        reasons += (Reason.HOLD_MULTIPLE_REPAYMENTS, Reason.HOLD_SHORT_HISTORY)
    return Guard(reasons, patterns) if reasons else NONE


def _patterns(profile: Profile, asked: Question) -> Iterator[Pattern]:
    """Yield what a person should look at; a funding account that nobody else uses is not shared, whatever the rule."""
    if asked.disputes:
        yield "disputed"
    if asked.overdue_elsewhere:
        yield "overdue_elsewhere"
    if asked.shared_with + 1 >= profile.hold["REVERSIBLE"].guards.shared_from:
        yield "shared_funding_account"


def _hurried(profile: Profile, asked: Question) -> bool:
    """Tell whether so many repayments within 24 hours, this one included, come to more than a share of the limit."""
    rules, together = profile.hold["REVERSIBLE"].guards, asked.lately_minor + asked.amount_minor
    enough = asked.lately_count + 1 >= rules.lately_count
    return enough and WHOLE * together > rules.lately_bps * asked.credit_limit_minor


def sooner_anywhere(one: Verdict, other: Verdict, asked: Question) -> bool:
    """Tell whether ``one`` has given back more than ``other`` at any time."""
    had = course(other, asked.now)
    return any(amount > given_until(had, due) for due, amount in course(one, asked.now))


class Seen(TypedDict, total=False):
    """The inputs of a verdict that guards ask; what is left out was not seen."""

    disputes: int
    overdue_elsewhere: bool
    shared_with: int
    new_funding: bool
    young: bool
    lately_count: int
    lately_minor: int


NOTHING_SEEN: Final[Seen] = {}


def given_to_guards(profile: Profile, state: Account, event: RepaymentSettled, now: datetime) -> Seen:
    """Return what guards ask of a repayment whose rail may take it back; nothing where no formula decides."""
    if profile.formula is None:
        return NOTHING_SEEN
    rules, name = profile.hold["REVERSIBLE"].guards, event.funding_account_id
    disputes, overdue_elsewhere = _told(state, rules, now) if state.warned else (0, False)
    use = None if name is None else state.uses.get(name, Use(name))
    near = _lately(state, event) if state.lately else ()
    opened = state.credit.opened_at
    return {
        "disputes": disputes,
        "overdue_elsewhere": overdue_elsewhere,
        "shared_with": 0 if use is None else use.users - (use.first_at is not None),
        "new_funding": use is not None and _new(state, use, now, rules.new_days),
        "young": opened is not None and opened > window(now, days=rules.young_days),
        "lately_count": len(near),
        "lately_minor": sum(near),
    }


def _told(state: Account, rules: Guards, now: datetime) -> tuple[int, bool]:
    """Return how many disputes are open, and whether the account is overdue elsewhere."""
    since = window(now, days=rules.disputed_days)
    open_ones = [one for one in state.warned.values() if one.ended_at is None]
    disputes = sum([one.kind == "disputed" and one.at > since for one in open_ones])
    return disputes, any(one.kind == "overdue_elsewhere" for one in open_ones)


def _new(state: Account, use: Use, now: datetime, days: int) -> bool:
    """Tell whether a funding account is known for less than so many days, by its first use or by billing's word."""
    linked_at = state.funding_account(use.name).linked_at
    since = min([at for at in (use.first_at, linked_at) if at is not None], default=now)
    return since > window(now, days=days)


def _lately(state: Account, event: RepaymentSettled) -> Sequence[int]:
    """Return what else was repaid in the 24 hours before."""
    # What was read of an event has a time zone of its own: to compare with that takes twenty times as long.
    this, until = event.repayment_id, event.repaid_at.astimezone(UTC)
    since = until - DAY
    return [minor for name, (at, minor) in state.lately.items() if since < at <= until and name != this]


def remembered(state: Account, event: RepaymentSettled) -> tuple[Mapping[str, tuple[datetime, int]], Mapping[str, Use]]:
    """Return what was repaid lately and when funding accounts were first used, for the guards of what comes next."""
    lately = {**state.lately, event.repayment_id: (event.repaid_at, event.amount_minor)}
    name = event.funding_account_id
    use = None if name is None else state.uses.get(name, Use(name))
    if use is None or use.first_at is not None:
        return lately, state.uses
    return lately, {**state.uses, use.name: Use(use.name, event.repaid_at, use.users + 1)}


def warned(decision: Decision[Account], event: Input) -> Decision[Account]:
    """Return a decision with what billing warns of: a dispute until it is returned, an account overdue elsewhere."""
    state, word = decision.state, _word(decision.state, event)
    if word is None:
        return decision
    after = replace(state, warned={**state.warned, f"{word.kind}:{word.name}": word})
    if decision.outcome == "applied":
        return decision._replace(state=after)
    return Decision(after)


def _word(state: Account, event: Input) -> Warned | None:
    """Return what an event says of a warning that is news; an older word is none."""
    match event:
        case RepaymentDisputed(source=source, external_ref=ref, occurred_at=at):
            word = Warned("disputed", repayment_id(source, ref), at)
            before = state.warned.get(f"disputed:{word.name}")
            return word if before is None or before.at < at else None
        case RepaymentReturned(repayment_id=ref, occurred_at=at):
            before = state.warned.get(f"disputed:{ref}")
            return None if before is None or before.ended_at is not None else before._replace(ended_at=at)
        case AccountStatusChanged(status=status, reason=reason, occurred_at=at):
            elsewhere = status == "frozen" and reason == "overdue_elsewhere"
            before = state.warned.get("overdue_elsewhere:")
            if (before is None and not elsewhere) or (before is not None and before.at >= at):
                return None
            return Warned("overdue_elsewhere", "", at, None if elsewhere else at)
        case _:
            return None
