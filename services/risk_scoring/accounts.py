"""What risk-scoring learns of an account: its limit, statements, repayments and score, and when it is reviewed."""

from datetime import datetime
from typing import Any

from schemas.account import (
    AccountOpened,
    AccountStatusChanged,
    CreditLimitChanged,
    PurchaseRefunded,
    StatementIssued,
)
from schemas.ids import AccountId, EventId, event_id
from schemas.review import LimitReviewConcluded, LimitReviewRequested
from schemas.settlement import RepaymentReturned, RepaymentSettled
from services.decision import Decision, Input, Moment, Timer, TimerFired, latest
from services.policy import Profile, Profiles
from services.risk_scoring import credit
from services.risk_scoring.limits import Answer, answered, next_review, raised, told, within
from services.risk_scoring.model import Account
from services.scorecard import Scorecard, next_tier
from services.statements import features
from services.values import replace

REVIEW = "limit_review"


def learned(policy: Profiles, state: Account, event: Input, moment: Moment) -> Decision[Account]:
    """Learn a fact of the account, or review its limit."""
    match event:
        case AccountOpened():
            return _opened(policy, state, event, moment)
        case CreditLimitChanged(credit_limit_minor=limit, occurred_at=at):
            moment.refuse_ahead(at)
            if not latest(at, state.limit_at):
                return Decision(state, outcome="stale", reason="older_limit")
            return Decision(replace(state, credit_limit_minor=limit, limit_at=at))
        case StatementIssued():
            return _statement(policy, state, event)
        case PurchaseRefunded(occurred_at=at, to_debt_minor=cancelled):
            return Decision(_with(state, months=credit.refunded(state.credit.months, at, cancelled)))
        case AccountStatusChanged(status=status, occurred_at=at):
            return _closed(state, at, closed=status == "closed")
        case TimerFired(timer=timer) if timer.kind == REVIEW:
            return _due(policy, state, timer, moment.now)
        case LimitReviewRequested():
            return _requested(policy, state, event, moment.now)
        case LimitReviewConcluded():
            return _concluded(policy, state, event, moment.now)
        case _:
            return Decision(state, outcome="ignored")


def repaid(policy: Profiles, state: Account, event: RepaymentSettled) -> Account:
    """Count a repayment in the month it was made in; one of an earlier month changes bills, and is scored again."""
    before = state.credit.months
    months = credit.paid(before, event.repaid_at, event.amount_minor, event.credited_on)
    after = _with(state, product=state.credit.product or event.product, months=months)
    return after if before[1:] == months[1:] else rescored(policy, after)


def returned(policy: Profiles, state: Account, event: RepaymentReturned, repaid_at: datetime | None) -> Account:
    """Take a returned repayment out of its month, or out of the one it came back in, and score again.

    The issuer's own error is nobody's lateness and no return of the customer's (E20).
    """
    if event.fault == "issuer":
        return state
    at = repaid_at or event.occurred_at
    profile = policy.by_product.get(state.credit.product or "")
    credited_on = at.date() if profile is None else profile.credited_on(at)
    months = credit.taken_back(state.credit.months, at, event.amount_minor, credited_on)
    last = max(event.occurred_at, state.credit.returned_at or event.occurred_at)
    return rescored(policy, _with(state, months=months, returned_at=last))


def rescored(policy: Profiles, state: Account) -> Account:
    """Return the account with the score of its statements and the tier that follows; without a statement as it is."""
    profile = policy.by_product.get(state.credit.product or "")
    if policy.credit is None or profile is None or not state.credit.statements:
        return state
    score = policy.credit.score(features(state.credit.months, profile.limit_review.unit_minor))
    return _with(replace(state, tier=next_tier(state.tier, score)), score=score)


def _with(state: Account, **changes: Any) -> Account:
    return replace(state, credit=replace(state.credit, **changes))


def _opened(policy: Profiles, state: Account, event: AccountOpened, moment: Moment) -> Decision[Account]:
    """Learn of an account; its limit is reviewed half a year later, and so on."""
    if state.credit_limit_minor is not None:
        return Decision(state, outcome="stale", reason="opened_before")
    after = _with(
        replace(state, credit_limit_minor=event.credit_limit_minor),
        product=event.product,
        currency=event.currency,
        opened_at=event.occurred_at,
    )
    profile = policy.by_product.get(event.product)
    if policy.credit is None or profile is None:
        return Decision(after)
    return _scheduled(profile, after, moment.now)


def _statement(policy: Profiles, state: Account, event: StatementIssued) -> Decision[Account]:
    at = event.occurred_at
    if state.cycle.started_at is not None and at <= state.cycle.started_at:
        return Decision(state, outcome="stale", reason="older_statement")
    months = credit.issued(
        state.credit.months,
        at,
        due_minor=event.due_minor,
        minimum_minor=event.minimum_minor,
        due_on=event.due_on,
        limit_minor=state.credit_limit_minor or 0,
    )
    return Decision(rescored(policy, _with(replace(state, cycle=state.cycle.next(at)), months=months)))


def _closed(state: Account, at: datetime, *, closed: bool) -> Decision[Account]:
    """Learn that an account is closed, and so not reviewed, or that it is not."""
    if not latest(at, state.credit.closed_at) or closed == (state.credit.closed_at is not None):
        return Decision(state, outcome="stale", reason="nothing_new")
    return Decision(_with(state, closed_at=at if closed else None))


def _scheduled(profile: Profile, state: Account, now: datetime) -> Decision[Account]:
    """Set the timer of the next periodic review, at the opening of its day."""
    opened_on = profile.local_day(state.credit.opened_at or now)
    day = next_review(profile.limit_review, opened_on, profile.local_day(now))
    number = state.credit.reviews + 1
    timer = Timer(AccountId(state.account_id), REVIEW, state.account_id, number, profile.release_at(day))
    return Decision(_with(state, review_on=day, reviews=number), timers=(timer,))


def _due(policy: Profiles, state: Account, timer: Timer, now: datetime) -> Decision[Account]:
    """Review a limit whose half year is over; what does not change is recorded and told all the same."""
    profile, table = _reviewable(policy, state), policy.credit
    if profile is None or table is None or timer.number != state.credit.reviews:
        return Decision(state, outcome="stale", reason="not_reviewed")
    cause = event_id("TimerFired", timer.key, timer.due_at.isoformat())
    next_one = _scheduled(profile, state, now)
    answer = answered(profile, table, state, now, requested=False)
    return _answered(table, profile, next_one.state, answer, cause, now)._replace(timers=next_one.timers)


def _requested(policy: Profiles, state: Account, event: LimitReviewRequested, now: datetime) -> Decision[Account]:
    """Answer who asks; an appeal is for a person, whatever its product does on request, unless nothing is against it.

    What is asked too soon after a change or a refusal is answered, too: that it is too soon.
    """
    profile, table = _reviewable(policy, state), policy.credit
    if profile is None or table is None:
        return Decision(state, outcome="stale", reason="not_reviewed")
    if not (profile.limit_review.on_request or event.appeal):
        return Decision(state, outcome="stale", reason="not_on_request")
    answer = answered(profile, table, state, now, requested=True)
    if event.appeal and answer.outcome == "refused":
        answer = replace(answer, outcome="unchanged", refer=True)
    return _answered(table, profile, state, answer, event.event_id, now)


def _concluded(policy: Profiles, state: Account, event: LimitReviewConcluded, now: datetime) -> Decision[Account]:
    """Tell what a person decided, within what a limit may grow to; reasons of what is no increase stay the computed."""
    profile = _reviewable(policy, state)
    if profile is None or policy.credit is None:
        return Decision(state, outcome="stale", reason="not_reviewed")
    limit = state.credit_limit_minor or 0
    if event.currency != (state.credit.currency or profile.currency):
        return Decision(state, outcome="stale", reason="other_currency")
    if event.outcome == "approved" and event.amount_minor <= limit:
        return Decision(state, outcome="stale", reason="not_an_increase")
    if event.outcome == "approved" and event.amount_minor > raised(profile.limit_review, state.tier, limit):
        return Decision(state, outcome="stale", reason="beyond_the_cap")
    computed = answered(profile, policy.credit, state, now, requested=True)
    answer = replace(computed, outcome=event.outcome, limit_minor=event.amount_minor, refer=False)
    return _answered(policy.credit, profile, state, answer, event.event_id, now)


def _reviewable(policy: Profiles, state: Account) -> Profile | None:
    """Return the profile an account's limit is reviewed by: None when it is not known, closed, or nothing scores."""
    if policy.credit is None or state.credit_limit_minor is None or state.credit.closed_at is not None:
        return None
    return policy.by_product.get(state.credit.product or "")


def _answered(
    table: Scorecard, profile: Profile, state: Account, answer: Answer, cause: EventId, now: datetime
) -> Decision[Account]:
    next_on = state.credit.review_on or next_review(
        profile.limit_review, profile.local_day(now), profile.local_day(now)
    )
    fact = told(profile, table, state, answer, cause=cause, now=now, next_on=next_on)
    first = answer.outcome == "refused" and not within(state.credit.refused_at, profile.limit_review.refusal_days, now)
    return Decision(_with(state, refused_at=now) if first else state, (fact,))
