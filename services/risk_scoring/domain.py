"""Whether restorable credit may go back now: the rail first, then the instant cap, then the schedule."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from schemas.account import FundingAccountLinked
from schemas.event import extended
from schemas.ids import event_id
from schemas.reasons import Reason
from schemas.risk import Faster, RiskAssessed, Tranche
from schemas.settlement import RepaymentSettled
from services.decision import Decision, Input, Moment
from services.policy import Profile, Profiles, RailClass, Rest

MODEL_VERSION = "rail-rule-1"
TIER: Literal["unknown"] = "unknown"


@dataclass(frozen=True, slots=True)
class InstantUse:
    """Credit restored at once from a rail that may take the money back (R14)."""

    repayment_id: str
    used_at: datetime
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Account:
    """What risk-scoring knows of one account: its verified funding accounts and its use of the instant cap."""

    account_id: str
    verified: frozenset[str] = frozenset()
    uses: tuple[InstantUse, ...] = ()
    linked: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Tranches that add up to the restorable amount, and why."""

    tranches: tuple[Tranche, ...]
    reasons: tuple[Reason, ...]
    instant_minor: int = 0

    @property
    def clear(self) -> bool:
        """Tell whether all of it goes back at once."""
        return all(tranche.reason in _AT_ONCE for tranche in self.tranches)


_AT_ONCE = (Reason.RELEASE_FINAL_RAIL, Reason.RELEASE_WITHIN_CAP)


def decide(policy: Profiles, state: Account, event: Input, moment: Moment) -> Decision[Account]:
    """Assess a settled repayment, or learn of a funding account."""
    match event:
        case RepaymentSettled():
            return _assessed(policy.of(event.product), state, event, moment)
        case FundingAccountLinked(funding_account_id=name, verified=verified):
            known = state.verified | {name} if verified else state.verified - {name}
            return Decision(replace(state, verified=known, linked={**state.linked, name: verified}))
        case _:
            return Decision(state, outcome="ignored")


def assess(profile: Profile, state: Account, event: RepaymentSettled, rail: RailClass, now: datetime) -> Verdict:
    """Return the verdict of one policy on one repayment; pure, so it can be asked again with another rail."""
    if event.restorable_minor == 0:
        paid = Reason.PAID_CREDIT_BALANCE if event.credit_balance_minor else Reason.PAID_FEES_AND_INTEREST
        return Verdict((), (paid,))
    if rail == "FINAL":
        at_once = Tranche(1, event.restorable_minor, now, Reason.RELEASE_FINAL_RAIL)
        return Verdict((at_once,), (Reason.RELEASE_FINAL_RAIL,))
    instant = min(event.restorable_minor, instant_left(profile, state, now))
    held = event.restorable_minor - instant
    why = Reason.HOLD_RAIL_PENDING if rail == "PENDING" else Reason.HOLD_RAIL_REVERSIBLE
    parts = [(instant, now, Reason.RELEASE_WITHIN_CAP)] if instant else []
    verified = event.funding_account_id in state.verified
    parts += [(amount, due_at, why) for amount, due_at in schedule(profile, event, held, verified=verified)]
    tranches = tuple(Tranche(n, *part) for n, part in enumerate(parts, start=1))
    return Verdict(tranches, (why, Reason.HOLD_OVER_INSTANT_CAP) if held else (Reason.RELEASE_WITHIN_CAP,), instant)


def instant_left(profile: Profile, state: Account, now: datetime) -> int:
    """Return what of the instant cap this account has left in its rolling window (R14)."""
    since = now - timedelta(hours=profile.hold["REVERSIBLE"].window_hours)
    used = sum(use.amount_minor for use in state.uses if use.used_at > since)
    return max(0, profile.instant_cap_by_tier[TIER] - used)


def schedule(
    profile: Profile, event: RepaymentSettled, held_minor: int, *, verified: bool
) -> list[tuple[int, datetime]]:
    """Split what is held into (amount, due_at): shares floored, the last takes the rest (R6), from repaid_at (R16)."""
    hold = profile.hold["REVERSIBLE"]
    shares = hold.verified_funding_account if verified else hold.rest
    parts: list[tuple[int, datetime]] = []
    left = held_minor
    for rest in shares:
        amount = left if rest is shares[-1] else held_minor * rest.share_bps // 10_000
        left -= amount
        if amount:
            parts.append((amount, due_at(profile, event.repaid_at, rest)))
    return parts


def due_at(profile: Profile, repaid_at: datetime, rest: Rest) -> datetime:
    """Return when a held part comes back; never later than the profile's longest hold allows."""
    if rest.seconds is not None:
        return repaid_at + timedelta(seconds=rest.seconds)
    day = profile.banking_day(repaid_at)
    latest = day + timedelta(days=profile.hold["REVERSIBLE"].max_calendar_days)
    return profile.release_at(min(latest, profile.banking.after(day, rest.banking_days or 0)))


def _assessed(profile: Profile, state: Account, event: RepaymentSettled, moment: Moment) -> Decision[Account]:
    rail = profile.rail(event.rail).rail_class
    verdict = assess(profile, state, event, rail, moment.now)
    fact = RiskAssessed(
        event_id=event_id("RiskAssessed", event.repayment_id, "0"),
        account_id=event.account_id,
        occurred_at=moment.now,
        caused_by=event.event_id,
        repayment_id=event.repayment_id,
        repaid_at=event.repaid_at,
        trail=extended(event.repaid_at, event.trail, "risk", *moment.stretches()),
        product=event.product,
        amount_minor=event.amount_minor,
        currency=event.currency,
        rail=event.rail,
        settled_at=event.settled_at,
        restorable_minor=event.restorable_minor,
        credit_balance_minor=event.credit_balance_minor,
        outcome="clear" if verdict.clear else "observe",
        tranches=verdict.tranches,
        tier=TIER,
        reasons=verdict.reasons,
        faster=_faster(profile, state, event, verdict, moment.now),
        clear_seconds=profile.promise.clear_seconds,
        hold_slack_seconds=profile.promise.hold_slack_seconds,
        model_version=MODEL_VERSION,
        policy_version=profile.policy_version,
        calendar_version=profile.banking.name,
    )
    if not verdict.instant_minor:
        return Decision(state, (fact,))
    use = InstantUse(event.repayment_id, moment.now, verdict.instant_minor)
    return Decision(replace(state, uses=(*state.uses, use)), (fact,))


def _faster(
    profile: Profile, state: Account, event: RepaymentSettled, verdict: Verdict, now: datetime
) -> tuple[Faster, ...]:
    """Return what would have restored it all at once, shown by asking the same policy with one input changed."""
    if verdict.clear:
        return ()
    return ("final_rail",) if assess(profile, state, event, "FINAL", now).clear else ()
