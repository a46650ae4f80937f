"""What risk-scoring asks of a settled repayment: everything its verdict depends on beside the policy."""

from datetime import UTC, datetime

from schemas.settlement import RepaymentSettled
from services.policy import Profile
from services.risk_scoring.exposure import left_to_customer, left_to_portfolio, relieved, unused
from services.risk_scoring.guards import NOTHING_SEEN, given_to_guards
from services.risk_scoring.model import Account, Question, window
from services.values import built

_make = built(Question)


def instant_left(profile: Profile, state: Account, now: datetime) -> int:
    """Return what of the instant cap this account has left in its rolling window (R14)."""
    since = window(now, hours=profile.hold["REVERSIBLE"].window_hours)
    return max(0, profile.instant_cap_by_tier[state.tier] - state.instant_since(since))


def question_of(profile: Profile, state: Account, event: RepaymentSettled, now: datetime) -> Question:
    """Return what is asked of a repayment at ``now``."""
    name, hold = event.funding_account_id, profile.hold["REVERSIBLE"]
    source = None if name is None else state.funding_account(name)
    left = min(instant_left(profile, state, now), left_to_customer(profile, state))
    rail = profile.rail(event.rail).rail_class
    budget = None if rail == "FINAL" else left_to_portfolio(profile, state)
    guards = given_to_guards(profile, state, event, now) if rail == "REVERSIBLE" else NOTHING_SEEN
    asked = _make(
        amount_minor=event.amount_minor,
        restorable_minor=event.restorable_minor,
        credit_balance_minor=event.credit_balance_minor,
        rail=rail,
        verified=source is not None and source.verified,
        strikes=source.strikes_since(window(now, days=hold.strikes.days)) if source and source.strikes else 0,
        instant_left_minor=left if budget is None else min(left, budget),
        settled_minor=state.cycle.of(event.settled_at),
        credit_limit_minor=state.credit_limit_minor or 0,
        repaid_at=event.repaid_at,
        now=now,
        rail_name=event.rail,
        unused_minor=unused(state, event, now.astimezone(UTC).date()) if rail == "REVERSIBLE" else None,
        tier=state.tier,
        over_budget=budget is not None and budget < min(left, event.restorable_minor),
        **guards,
    )
    return relieved(profile, state, asked)
