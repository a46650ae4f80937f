"""Whether restorable credit may go back now: the rail first, then guards, the instant cap, the schedule or formula."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import accumulate

from schemas.account import FundingAccountLinked
from schemas.event import Event, extended
from schemas.ids import EventId, RepaymentId, event_id
from schemas.made import made
from schemas.reasons import Reason
from schemas.review import HoldExtended, HoldReleaseApproved
from schemas.risk import Faster, Pattern, RiskAssessed, Tranche
from schemas.settlement import RepaymentReturned, RepaymentSettled, RepaymentsReallocated
from services.decision import Decision, Input, Moment, latest
from services.policy import Hold, Profile, Profiles, RailClass, Rest
from services.prior import Hazard, Prior
from services.risk_scoring.accounts import learned, repaid, returned
from services.risk_scoring.asking import question_of
from services.risk_scoring.courses import Course, course, sooner
from services.risk_scoring.exposure import followed
from services.risk_scoring.guards import NONE, Guard, fired, remembered, sooner_anywhere, warned
from services.risk_scoring.hazard import Action, cheapest_of, held_until, unbounded, worth_a_look
from services.risk_scoring.model import WHY, Account, Assessment, Question, Strike, Verdict, features, said_of
from services.values import replace

MODEL_VERSION = "rail-rule-1"
_make_assessed = made(RiskAssessed)
WAITS = timedelta(days=30)
"""How long what names a repayment may wait for it to be read: then a return counts without, and is no strike."""
Part = tuple[int, datetime]
"""An amount in minor units and when it comes back."""


def decide(policy: Profiles, state: Account, event: Input, moment: Moment) -> Decision[Account]:
    """Assess a settled repayment, or learn what the next assessment depends on; count what is exposed by it."""
    decided = _decided(policy, state, event, moment)
    if decided.outcome == "parked":
        return decided
    return followed(policy, warned(decided, event), event, moment)


def _decided(policy: Profiles, state: Account, event: Input, moment: Moment) -> Decision[Account]:
    if _early(state, event, moment.now):
        return Decision(state, outcome="parked", reason="waits_for_its_repayment")
    match event:
        case RepaymentSettled():
            return _assessed(policy, state.without_holds(_moved(event)), event, moment)
        case RepaymentReturned():
            return _returned(policy, state, event)
        case RepaymentsReallocated():
            return Decision(state.without_holds(_moved(event)))
        case HoldReleaseApproved() | HoldExtended() if event.repayment_id not in state.assessments:
            return Decision(state, outcome="stale", reason="repayment_unknown")
        case HoldReleaseApproved() | HoldExtended():
            # A person decided: the machine leaves these dates alone from now on.
            return Decision(state.without_holds((event.repayment_id,)))
        case FundingAccountLinked():
            return _linked(policy, state, event, moment)
        case _:
            return learned(policy, state, event, moment)


def judge(profile: Profile, asked: Question) -> Verdict:
    """Return the verdict of one policy on one question; pure, so it can be asked again (domain 8.2)."""
    if asked.restorable_minor == 0:
        paid = Reason.PAID_CREDIT_BALANCE if asked.credit_balance_minor else Reason.PAID_FEES_AND_INTEREST
        return Verdict((), (paid,))
    patterns = _patterns(profile, asked)
    if asked.rail == "FINAL":
        cleared = Tranche(1, asked.restorable_minor, asked.now, Reason.RELEASE_FINAL_RAIL)
        return Verdict((cleared,), (cleared.reason,), patterns=tuple(p for p in patterns if p == "credit_cycling"))
    if patterns:
        return _referred(profile, asked, patterns)
    struck = asked.strikes >= profile.hold["REVERSIBLE"].strikes.hold_from
    if asked.rail == "REVERSIBLE" and not struck and profile.formula is not None:
        return _guarded(profile, asked, _priced(profile, profile.formula, asked))
    return _scheduled(profile, asked)


def _guarded(profile: Profile, asked: Question, usual: Verdict) -> Verdict:
    """Return what guards make of the formula's verdict: all is held where it would give back sooner (risk 4.5)."""
    guard = fired(profile, asked)
    if not guard.reasons or usual.refer:
        return usual
    kept = _scheduled(profile, asked, guard)
    if sooner_anywhere(usual, kept, asked):
        return kept
    if course(usual, asked.now) != course(kept, asked.now):
        return usual
    # Without the cap the guard would hold it as well: it is no reason.
    return usual._replace(reasons=tuple([why for why in usual.reasons if why is not Reason.HOLD_OVER_INSTANT_CAP]))


def _patterns(profile: Profile, asked: Question) -> tuple[Pattern, ...]:
    """Return what a person should look at: the limit repaid too often in a cycle (R15), returns of the same account."""
    found: list[Pattern] = []
    turned_over = asked.settled_minor + asked.restorable_minor
    if asked.credit_limit_minor and turned_over > profile.turnover_max_ratio * asked.credit_limit_minor:
        found.append("credit_cycling")
    if asked.strikes >= profile.hold["REVERSIBLE"].strikes.refer_from:
        found.append("prior_returns")
    return tuple(found)


def _referred(profile: Profile, asked: Question, patterns: tuple[Pattern, ...]) -> Verdict:
    """Hold all of it until a person looked; without a verdict it comes back all the same (domain 3.3)."""
    days = Rest(share_bps=10_000, banking_days=profile.hold["REVERSIBLE"].refer_banking_days)
    until = due_at(profile, asked.repaid_at, days)
    why = _dated(Reason.HOLD_UNDER_REVIEW, until, asked.now)
    held = Tranche(1, asked.restorable_minor, until, why)
    return Verdict((held,), (why,) if until <= asked.now else (why, _rail_reason(asked)), True, patterns)


def _scheduled(profile: Profile, asked: Question, guard: Guard = NONE) -> Verdict:
    """Give back at once what the instant cap allows, nothing under a guard, the rest on the schedule (R6, R14)."""
    hold = profile.hold["REVERSIBLE"]
    struck = asked.strikes >= hold.strikes.hold_from
    barred = struck or bool(guard.reasons)
    instant = 0 if barred else min(asked.restorable_minor, asked.instant_left_minor)
    held = asked.restorable_minor - instant
    why = Reason.HOLD_UNDER_REVIEW if guard.patterns else _rail_reason(asked)
    parts = [Tranche(1, instant, asked.now, Reason.RELEASE_WITHIN_CAP)] if instant else []
    rests = shares_of(hold, asked.amount_minor, verified=asked.verified)
    for amount, due in schedule(profile, asked.repaid_at, held, rests) if held else ():
        parts.append(Tranche(len(parts) + 1, amount, due, _dated(why, due, asked.now)))
    tranches = tuple(parts)
    if all(part.due_at <= asked.now for part in parts):
        return Verdict(tranches, _reasons(*[part.reason for part in parts]))
    large = hold.large is not None and rests is hold.large.rest
    stated = (
        *guard.reasons,
        *((Reason.HOLD_PRIOR_RETURN,) if struck else ()),
        _rail_reason(asked),
        *(() if barred and (asked.instant_left_minor or profile.formula) else (Reason.HOLD_OVER_INSTANT_CAP,)),
        *((Reason.HOLD_AMOUNT_UNUSUAL,) if large else ()),
    )
    return Verdict(tranches, _reasons(*stated), bool(guard.patterns), guard.patterns)


def _priced(profile: Profile, prior: Prior, asked: Question) -> Verdict:
    """Do what is expected to cost least within the instant cap.

    Unused credit nobody told of counts as none: a hold hurts most then, which errs towards giving credit back.
    """
    amount, prices = asked.restorable_minor, profile.hold["REVERSIBLE"].prices
    hazard, best, now = _cheapest(profile, prior, asked)
    if best.days == 0:
        return Verdict((Tranche(1, amount, asked.now, Reason.RELEASE_LOW_RISK),), (Reason.RELEASE_LOW_RISK,))
    until = held_until(profile, asked.repaid_at, best.days)
    look = best.share == 0 and worth_a_look(hazard, prices, amount)
    why = _dated(Reason.HOLD_UNDER_REVIEW if look else Reason.HOLD_RAIL_REVERSIBLE, until, asked.now)
    parts = [(now, asked.now, Reason.RELEASE_WITHIN_CAP), (amount - now, until, why)] if now else [(amount, until, why)]
    tranches = tuple([Tranche(n, *part) for n, part in enumerate(parts, start=1) if part[0]])
    if until <= asked.now:
        return Verdict(tranches, _reasons(*[tranche.reason for tranche in tranches]))
    free = unbounded(hazard, prices, amount, asked.unused_minor or 0, asked.instant_left_minor / amount, best)
    capped = () if free == best else (Reason.HOLD_OVER_INSTANT_CAP,)
    fired = () if look else tuple([WHY[name] for name in hazard.fired if name in WHY])
    return Verdict(tranches, _reasons(why, *fired, *capped, Reason.HOLD_RAIL_REVERSIBLE), refer=look)


def _cheapest(profile: Profile, prior: Prior, asked: Question) -> tuple[Hazard, Action, int]:
    """Return the odds, what is cheapest within the instant cap, and how much of the repayment that gives back now."""
    amount = asked.restorable_minor
    hazard = prior.hazard(asked.rail_name, features(asked))
    most = min(1.0, asked.instant_left_minor / amount)
    best = cheapest_of(hazard, profile.hold["REVERSIBLE"].prices, amount, asked.unused_minor or 0, most)
    return hazard, best, asked.instant_left_minor if best.share == most else int(best.share * amount)


def _reasons(*reasons: Reason) -> tuple[Reason, ...]:
    """Return at most four, each once, most important first (domain 8)."""
    return tuple(dict.fromkeys(reasons))[:4]


def _rail_reason(asked: Question) -> Reason:
    return Reason.HOLD_RAIL_PENDING if asked.rail == "PENDING" else Reason.HOLD_RAIL_REVERSIBLE


def _dated(reason: Reason, due: datetime, now: datetime) -> Reason:
    """A date already past means now (R16): then nothing is held, its time is over."""
    return Reason.RELEASE_TIMER if due <= now else reason


def shares_of(hold: Hold, amount_minor: int, *, verified: bool) -> tuple[Rest, ...]:
    """Return the schedule for a repayment of ``amount_minor``."""
    if verified:
        return hold.verified_funding_account
    if hold.large is not None and amount_minor > hold.large.above_minor:
        return hold.large.rest
    return hold.rest


def schedule(profile: Profile, repaid_at: datetime, held_minor: int, rests: Sequence[Rest]) -> list[Part]:
    """Split what is held into (amount, due_at): shares floored, the last takes the rest (R6), from repaid_at (R16)."""
    amounts = [held_minor * rest.share_bps // 10_000 for rest in rests[:-1]]
    amounts.append(held_minor - sum(amounts))
    dated = zip(amounts, rests, strict=True)
    return [(amount, due_at(profile, repaid_at, rest)) for amount, rest in dated if amount]


def due_at(profile: Profile, repaid_at: datetime, rest: Rest) -> datetime:
    """Return when a held part comes back; never later than the profile's longest hold allows (R16)."""
    if rest.seconds is not None:
        return repaid_at + timedelta(seconds=rest.seconds)
    return profile.due_at(repaid_at, rest.banking_days or 0)


def faster(profile: Profile, asked: Question, given: Verdict) -> tuple[Faster, ...]:
    """Return what would have brought credit back sooner: the same policy asked again with ONE input changed."""
    if not given.held_at(asked.now):
        return ()
    ways: list[Faster] = ["final_rail"]  # such a rail gives all back at once, whatever is asked
    had, now = course(given, asked.now), asked.now
    if not asked.verified and sooner(_back(profile, replace(asked, verified=True)), had, now):
        ways.append("verified_account")
    smaller = min(asked.restorable_minor, asked.instant_left_minor)
    if 0 < smaller < asked.amount_minor:
        other = replace(asked, amount_minor=smaller, restorable_minor=smaller)
        if sooner(_back(profile, other), had, now):
            ways.append("within_cap")
    return tuple(ways)


def _back(profile: Profile, asked: Question) -> Course:
    """Return when what of a repayment would be back, which is ``judge`` without its reasons."""
    hold, prior, amount = profile.hold["REVERSIBLE"], profile.formula, asked.restorable_minor
    plain = amount and asked.rail == "REVERSIBLE" and asked.strikes < hold.strikes.hold_from
    if prior is None or not plain or _patterns(profile, asked) or fired(profile, asked).reasons:
        return course(judge(profile, asked), asked.now)
    _, best, now = _cheapest(profile, prior, asked)
    until = held_until(profile, asked.repaid_at, best.days) if best.days else asked.now
    if until <= asked.now:
        return [(asked.now, amount)]
    return [(asked.now, now), (until, amount)] if now else [(until, amount)]


def _assessed(policy: Profiles, state: Account, event: RepaymentSettled, moment: Moment) -> Decision[Account]:
    profile = state.deciding(policy.of(event.product))
    asked = question_of(profile, state, event, moment.now)
    verdict = judge(profile, asked)
    fact = told(profile, asked, verdict, event, moment)
    kept = _kept(state, event, fact, asked, verdict)
    besides = state.beside(policy.of(event.product)) if asked.rail == "REVERSIBLE" and asked.restorable_minor else ()
    for other, watch in besides:  # models that do not decide here are asked the same, without effect (risk 6)
        kept = kept.compare(fact, said_of(profile, asked, verdict), said_of(other, asked, judge(other, asked)), watch)
    return Decision(repaid(policy, kept, event), (fact,))


def deciding(profile: Profile, rail: RailClass) -> str:
    """Return the version of what decides on a rail of this class: where it is final, no table of returns is asked."""
    return MODEL_VERSION if profile.formula is None or rail == "FINAL" else profile.formula.version


def told(profile: Profile, asked: Question, verdict: Verdict, event: RepaymentSettled, moment: Moment) -> RiskAssessed:
    """Return the first verdict on a repayment as an event; pure, so that it can be told again (view.py)."""
    held = verdict.held_at(moment.now)
    return _make_assessed(
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
        past_due_minor=event.past_due_minor,
        outcome="refer" if held and verdict.refer else "observe" if held else "clear",
        tranches=verdict.tranches,
        tier=asked.tier,
        reasons=verdict.reasons,
        faster=faster(profile, asked, verdict),
        patterns=verdict.patterns,
        clear_seconds=profile.promise.clear_seconds,
        hold_slack_seconds=profile.promise.hold_slack_seconds,
        inputs=asked.inputs,
        inputs_digest=asked.digest,
        model_version=deciding(profile, asked.rail),
        policy_version=profile.policy_version,
        calendar_version=profile.banking.name,
    )


def _kept(state: Account, event: RepaymentSettled, fact: RiskAssessed, asked: Question, verdict: Verdict) -> Account:
    """Count the repayment in its cycle; keep what its rail may still take back."""
    cycle = state.cycle
    if asked.restorable_minor:
        cycle = cycle.with_settled(event.settled_at, asked.restorable_minor)
    if asked.rail == "FINAL":
        return replace(state, cycle=cycle)
    kept = Assessment(
        repayment_id=event.repayment_id,
        funding_account_id=event.funding_account_id,
        assessed_at=asked.now,
        instant_minor=verdict.at_once_minor(asked.now),
        hold=fact if fact.outcome == "observe" and event.repayment_id not in state.early else None,
        repaid_at=event.repaid_at,
    )
    lately, uses = remembered(state, event)
    return replace(
        state, cycle=cycle, lately=lately, uses=uses, assessments={**state.assessments, kept.repayment_id: kept}
    )


def _early(state: Account, event: Input, now: datetime) -> bool:
    """Tell whether what an event names is still to be read, as after a broker lost records: it waits, WAITS at most.

    What settles waits for nothing (exposure.py keeps what it moves), and of a return whose repayment was final nothing
    is kept that it could wait for.
    """
    match event:
        case HoldReleaseApproved() | HoldExtended() | RepaymentReturned(finality="provisional"):
            named: list[str] = [event.repayment_id]
        case RepaymentReturned() | RepaymentsReallocated():
            named = []
        case _:
            return False
    named += state.unread.intersection(_moved(event))
    return any(one not in state.assessments for one in named) and now - event.occurred_at < WAITS


def _moved(event: Event) -> list[RepaymentId]:
    """Return the repayments an event says a replay moved."""
    return [change.repayment_id for change in getattr(event, "reallocated", ())]


def _returned(policy: Profiles, state: Account, event: RepaymentReturned) -> Decision[Account]:
    """Count a strike on the funding account it came from, never for the issuer's own error (R8, E20); score again."""
    known = state.assessments.get(event.repayment_id)
    kept = state.without_holds((event.repayment_id, *_moved(event)))
    after = returned(policy, kept, event, None if known is None else known.repaid_at)
    if known is None or known.funding_account_id is None or event.fault == "issuer":
        return Decision(after)
    source = after.funding_account(known.funding_account_id)
    return Decision(after.fund(source.struck(Strike(event.repayment_id, event.occurred_at))))


def _linked(policy: Profiles, state: Account, event: FundingAccountLinked, moment: Moment) -> Decision[Account]:
    """Learn of a funding account; one that is verified now lets its running holds end sooner."""
    moment.refuse_ahead(event.occurred_at)
    source = state.funding_account(event.funding_account_id)
    if not latest(event.occurred_at, source.linked_at):
        return Decision(state, outcome="stale", reason="older_link")
    after = state.fund(replace(source, verified=event.verified, linked_at=event.occurred_at))
    if not event.verified or source.verified:
        return Decision(after)
    facts: list[RiskAssessed] = []
    for known in sorted(state.assessments.values(), key=lambda one: one.repayment_id):
        if known.funding_account_id == source.name and known.hold is not None:
            fact = revised(policy.of(known.hold.product), known.hold, event.event_id, moment.now)
            if fact is not None:
                facts.append(fact)
                after = after.put(replace(known, hold=fact if fact.outcome == "observe" else None))
    return Decision(after, tuple(facts))


def revised(profile: Profile, hold: RiskAssessed, cause: EventId, now: datetime) -> RiskAssessed | None:
    """Return the verdict with earlier dates, each tranche with its number and amount; None when no date is earlier."""
    tranches = _verified_dates(profile, hold, now)
    if tranches == hold.tranches:
        return None
    later = any(tranche.due_at > now for tranche in tranches)
    return hold.model_copy(
        update={
            "event_id": event_id("RiskAssessed", hold.repayment_id, str(hold.revision + 1)),
            "occurred_at": now,
            "caused_by": cause,
            "outcome": "observe" if later else "clear",
            "tranches": tranches,
            "reasons": hold.reasons if later else (Reason.RELEASE_VERIFIED_ACCOUNT,),
            "faster": tuple(way for way in hold.faster if later and way != "verified_account"),
            "revision": hold.revision + 1,
            "policy_version": profile.policy_version,
            "calendar_version": profile.banking.name,
        }
    )


def _verified_dates(profile: Profile, hold: RiskAssessed, now: datetime) -> tuple[Tranche, ...]:
    """Move each held tranche to when the verified schedule has given back as much, never to a later date."""
    rests = profile.hold["REVERSIBLE"].verified_funding_account
    held = [tranche for tranche in hold.tranches if tranche.due_at > hold.occurred_at]
    parts = schedule(profile, hold.repaid_at, sum(tranche.amount_minor for tranche in held), rests)
    given_back = list(zip(accumulate(amount for amount, _ in parts), (due for _, due in parts), strict=True))
    moved: dict[int, Tranche] = {}
    for tranche, until in zip(held, accumulate(one.amount_minor for one in held), strict=True):
        due = min(tranche.due_at, next(due for amount, due in given_back if amount >= until))
        if due < tranche.due_at and tranche.due_at > now:
            why = Reason.RELEASE_VERIFIED_ACCOUNT if due <= now else tranche.reason
            moved[tranche.number] = tranche._replace(due_at=due, reason=why)
    return tuple(moved.get(tranche.number, tranche) for tranche in hold.tranches)
