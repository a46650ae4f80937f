"""What is released and not final: counted with every decision, and how much more of it a profile allows."""

from collections.abc import Iterable
from datetime import UTC, date
from typing import Final

from schemas.review import HoldReleaseApproved
from schemas.risk import RiskAssessed
from schemas.settlement import RepaymentReturned, RepaymentSettled, RepaymentsReallocated
from services.decision import Decision, Input, Moment
from services.policy import Profile, Profiles
from services.risk_scoring.model import Account, Question, window
from services.risk_scoring.outcomes import Outcome, changed, outcome_of
from services.values import replace

UNBOUNDED: Final = 2**62
EARLY_MAX: Final = 100
"""Of so many repayments of an account it is kept what was moved before they were read; the oldest goes first."""
WHOLE: Final = 10_000
LOW_RISK: Final = frozenset(("A", "B"))
"""The tiers whose instant cap is wider while a relief is in force (L17)."""


def left_to_customer(profile: Profile, state: Account, factor_bps: int = WHOLE) -> int:
    """Return how much more of an account may be given back before it is final, in minor units (risk 4.5).

    ``factor_bps`` is how wide the instant cap is, in basis points of itself.
    """
    if not profile.hold["REVERSIBLE"].exposure.per_customer:
        return UNBOUNDED
    cap = profile.instant_cap_by_tier[state.tier] * factor_bps // WHOLE
    most = cap if state.credit_limit_minor is None else min(cap, state.credit_limit_minor)
    return max(0, most - state.exposed_minor)


def left_to_portfolio(profile: Profile, state: Account) -> int | None:
    """Return what of the product's budget is left as the batch found it, None without a budget.

    What other batches release at the same instant is not seen yet: the budget may be passed by what is in flight, and
    everything is held from the next batch on.
    """
    budget = profile.hold["REVERSIBLE"].exposure.portfolio_max_minor
    return None if budget is None else max(0, budget - state.portfolio_minor.get(profile.product, 0))


def unused(state: Account, event: RepaymentSettled, today: date) -> int | None:
    """Return the credit that could be spent before a repayment, in minor units, None when nobody said (risk 4.2).

    It is the limit less what was owed and what is still held: all of this repayment, and of earlier ones what comes
    back after ``today``, a UTC day. What comes back in its course counts as usable, because the shortest wait that is
    priced is a day. Purchases that are approved and not posted are not known here, nor is a credit balance.
    """
    if state.credit_limit_minor is None or event.owed_minor is None:
        return None
    moved = [_shift(state.outcomes[one.repayment_id], one, today)[1] for one in _moved(state, event)]
    held = state.held_minor + sum(moved)
    return max(0, state.credit_limit_minor - event.owed_minor - event.restorable_minor - held)


def relieved(profile: Profile, state: Account, asked: Question) -> Question:
    """Return a question with what a relief adds to the instant cap: of tiers A and B alone, never of a budget (L17)."""
    factor = state.relief.get(profile.product, WHOLE)
    if factor == WHOLE or asked.tier not in LOW_RISK or asked.rail != "REVERSIBLE":
        return asked
    since = window(asked.now, hours=profile.hold["REVERSIBLE"].window_hours)
    cap = profile.instant_cap_by_tier[asked.tier] * factor // WHOLE
    left = min(max(0, cap - state.instant_since(since)), left_to_customer(profile, state, factor))
    budget = left_to_portfolio(profile, state)
    most = left if budget is None else min(left, budget)
    more, over = most - asked.instant_left_minor, most < min(left, asked.restorable_minor)
    return replace(asked, instant_left_minor=most, widened_minor=more, over_budget=over) if more > 0 else asked


def narrow(asked: Question) -> Question:
    """Return a question as it would have been without a relief."""
    return replace(asked, instant_left_minor=asked.instant_left_minor - asked.widened_minor, widened_minor=0)


def followed(policy: Profiles, decision: Decision[Account], event: Input, moment: Moment) -> Decision[Account]:
    """Return a decision with what it did to the outcomes, and to what is exposed today."""
    state, today = _noted(decision.state, event), moment.now.astimezone(UTC).date()
    after = list(_outcomes(policy, decision, event, today))
    if not after:
        return decision if state is decision.state else decision._replace(state=state)
    exposed, held, portfolio = state.exposed_minor, state.held_minor, dict(state.portfolio_minor)
    for outcome in after:
        moved, later = _shift(state.outcomes.get(outcome.repayment_id), outcome, today)
        exposed += moved
        held += later
        portfolio[outcome.product] = portfolio.get(outcome.product, 0) + moved
    outcomes = {**state.outcomes, **{outcome.repayment_id: outcome for outcome in after}}
    known = replace(state, exposed_minor=exposed, held_minor=held, portfolio_minor=portfolio, outcomes=outcomes)
    return decision._replace(state=known)


def _noted(state: Account, event: Input) -> Account:
    """Return an account with what a settlement moved of repayments still to be read; its own repayment is read now."""
    if not isinstance(event, RepaymentSettled) or not (state.unread or state.early):
        return state
    early, unread = dict(state.early), state.unread.difference((event.repayment_id,))
    early.pop(event.repayment_id, None)
    for change in event.reallocated:
        name = change.repayment_id
        if name in unread and name not in state.outcomes:
            early[name] = early.get(name, 0) + change.restorable_delta_minor
    return replace(state, unread=unread, early=dict(list(early.items())[-EARLY_MAX:]))


def _shift(before: Outcome | None, after: Outcome, today: date) -> tuple[int, int]:
    """Return by how much an outcome changed what is exposed today, and what comes back later."""
    exposed = held = 0
    for (since, until), minor in changed(before, after).items():
        if since > today:
            held += minor
        elif today <= until:
            exposed += minor
    return exposed, held


def _outcomes(policy: Profiles, decision: Decision[Account], event: Input, today: date) -> Iterable[Outcome]:
    """Yield the outcomes an input began or changed."""
    known = decision.state.outcomes
    match event:
        case RepaymentSettled():
            yield from _moved(decision.state, event)
            fact = decision.events[0]
            if event.finality != "final" and isinstance(fact, RiskAssessed):
                begun = outcome_of(policy.of(event.product), event, fact)
                early = decision.state.early.get(event.repayment_id)
                yield begun.moved(early) if early else begun
        case RepaymentReturned():
            yield from _moved(decision.state, event)
            if event.repayment_id in known:
                yield known[event.repayment_id].taken_back(event)
        case RepaymentsReallocated():
            yield from _moved(decision.state, event)
        case HoldReleaseApproved() if event.repayment_id in known:
            yield known[event.repayment_id].released(event.tranche, today)
        case _:
            revised = [fact for fact in decision.events if isinstance(fact, RiskAssessed) and fact.revision]
            yield from [known[fact.repayment_id].dated(fact) for fact in revised if fact.repayment_id in known]


def _moved(state: Account, event: RepaymentSettled | RepaymentReturned | RepaymentsReallocated) -> Iterable[Outcome]:
    for change in event.reallocated:
        if change.repayment_id in state.outcomes and change.restorable_delta_minor:
            yield state.outcomes[change.repayment_id].moved(change.restorable_delta_minor)
