"""Whether a limit may grow: what must hold, how far it is, what would help, and the answer as it is told (risk 7)."""

from calendar import monthrange
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from schemas.ids import AccountId, EventId, event_id
from schemas.reasons import Reason
from schemas.review import Factor, LimitIncreaseDecided, LimitOutcome, PathStep
from schemas.risk import Tier
from services.policy import Profile
from services.risk_scoring.model import Account
from services.scorecard import LimitReview, Scorecard, shown
from services.statements import KEPT_MONTHS, SCORED_MONTHS, Month, features

PAYMENT_SHARES: Final = (None, 500, 1_000, 2_000, 3_000, 5_000, 10_000)
USES: Final = (None, 8_000, 6_000, 4_000, 3_000, 2_000)
"""What a customer may change, in basis points: the share of the bill repaid, the use of the limit; None is as now."""
WHOLE: Final = 10_000
REASONS_MAX: Final = 4
Way = tuple[int | None, int | None]
"""A share of the bill and a use of the limit."""


@dataclass(frozen=True)
class Answer:
    """What a review comes to; ``limit_minor`` is the limit it ends with, ``refer`` says that a person looks.

    ``factors`` are scored, against customers just approved; ``conditions`` stand against an increase whatever the
    score.
    """

    outcome: LimitOutcome
    limit_minor: int
    score: int
    threshold: int
    conditions: tuple[Reason, ...]
    factors: tuple[Factor, ...]
    full_marks: tuple[Reason, ...]
    path: tuple[PathStep, ...]
    refer: bool = False

    @property
    def distance(self) -> int:
        """Return how many points are missing."""
        return max(0, self.threshold - self.score)

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Return what stands against an increase: conditions first, then adverse factors where points are missing."""
        if self.outcome == "approved":
            return ()
        adverse = [factor.reason for factor in self.factors if factor.centipoints < 0] if self.distance else []
        return tuple(dict.fromkeys((*self.conditions, *adverse)))[:REASONS_MAX]


def answered(profile: Profile, table: Scorecard, account: Account, now: datetime, *, requested: bool) -> Answer:
    """Decide a review; pure, so that it can be asked again with one input changed."""
    rules, months = profile.limit_review, account.credit.months
    known = features(months, rules.unit_minor)
    score = shown(table.score(known))
    limit = account.credit_limit_minor or 0
    most = raised(rules, account.tier, limit)
    stands = conditions(rules, account, now)
    if not stands and score >= table.threshold and most <= limit:
        stands = (Reason.LIMIT_AT_CAP,)
    refer = not stands and worth_a_look(rules, account, score, now)
    outcome: LimitOutcome = "refused" if requested and not refer else "unchanged"
    if not stands and not refer and score >= table.threshold:
        outcome = "approved"
    return Answer(
        outcome=outcome,
        limit_minor=most if outcome == "approved" else limit,
        score=score,
        threshold=table.threshold,
        conditions=stands,
        factors=factors(table, account, rules.unit_minor, stands),
        full_marks=tuple(sorted(table.at_best(known)))[:REASONS_MAX],
        path=() if outcome == "approved" else path(table, months, rules.unit_minor),
        refer=refer,
    )


def conditions(rules: LimitReview, account: Account, now: datetime) -> tuple[Reason, ...]:
    """Return what must hold beside the score and does not, most important first."""
    credit = account.credit
    late = any(month.late for month in credit.months[:SCORED_MONTHS])
    found = {
        Reason.SHORT_HISTORY: credit.statements < SCORED_MONTHS,
        Reason.LATE_PAYMENTS: late,
        Reason.RECENT_RETURN: within(credit.returned_at, rules.return_days, now),
        Reason.RECENT_CHANGE: within(account.limit_at, rules.change_days, now)
        or within(credit.refused_at, rules.refusal_days, now),
    }
    return tuple(reason for reason, stands in found.items() if stands)


def worth_a_look(rules: LimitReview, account: Account, score: int, now: datetime) -> bool:
    """Tell whether a person decides: near the threshold, of a customer known for long."""
    opened = account.credit.opened_at
    known_long = opened is not None and months_later(opened.date(), rules.look_months) < now.date()
    return known_long and rules.look_from <= score < rules.look_below


def raised(rules: LimitReview, tier: Tier, limit_minor: int) -> int:
    """Return the largest limit an increase may end with."""
    return min(limit_minor * rules.growth_bps // WHOLE, rules.limit_cap_by_tier[tier])


def factors(table: Scorecard, account: Account, unit_minor: int, stands: Sequence[Reason]) -> tuple[Factor, ...]:
    """Return each factor against customers just approved, most adverse first.

    Of a short history only what is known whole is compared: a bin of what is missing says nothing of its customer.
    """
    known = features(account.credit.months, unit_minor)
    whole = {factor for factor in table.near_pass if table.knows(factor, known)}
    against = {factor: points - table.near_pass[factor] for factor, points in table.factors(known).items()}
    use = known["use_now"]
    share = None if use is None else 100 * max(0, min(round(100 * use), WHOLE))
    told = [
        Factor(factor, points, share if factor == Reason.HIGH_UTILISATION else None)
        for factor, points in against.items()
        if factor in whole and (points < 0 or factor not in stands)
    ]
    return tuple(sorted(told, key=lambda factor: (factor.centipoints, factor.reason)))


def path(table: Scorecard, months: Sequence[Month], unit_minor: int) -> tuple[PathStep, ...]:
    """Return what repaying or using so for six months would score, other things unchanged; empty when none suffices.

    First the smallest share of the bill that is enough, then the use that adds to it, last what lower use alone gives.
    """
    if len(months) < KEPT_MONTHS or shown(table.score(features(months, unit_minor))) >= table.threshold:
        return ()
    scores = grid(table, months, unit_minor)
    share, use = _repaying(table, scores)
    enough = _first_enough(table, scores, [(None, less) for less in USES[1:]])
    if share is None and enough is None:
        return ()
    ways: list[Way] = [] if share is None else [(share, None)]
    ways += [] if use is None else [(share, use)]
    alone = enough or (None, USES[-1])
    ways += [alone] if scores[alone] > scores[None, None] else []
    return tuple(_step(months, way, scores[way]) for way in ways)


def grid(table: Scorecard, months: Sequence[Month], unit_minor: int) -> dict[Way, int]:
    """Return the score of every way to repay and to use, in hundredths of a point."""
    ways = [(share, use) for share in PAYMENT_SHARES for use in USES]
    return {way: table.score(features(planned(months, way), unit_minor)) for way in ways}


def planned(months: Sequence[Month], way: Way) -> list[Month]:
    """Return the months as they would be: never less repaid, never more used. Less use may still look like a rise."""
    share, use = way
    repaid = 0 if share is None else payment_minor(months[0], share)
    return [
        month._replace(
            paid_minor=max(month.paid_minor, repaid),
            bill_minor=month.bill_minor if use is None else min(month.bill_minor, use * month.limit_minor // WHOLE),
        )
        for month in months
    ]


def payment_minor(month: Month, share_bps: int) -> int:
    """Return what a share of a bill comes to."""
    return max(0, month.bill_minor) * share_bps // WHOLE


def _repaying(table: Scorecard, scores: Mapping[Way, int]) -> Way:
    """Return the smallest share of the bill that is enough and the use that adds to it, or both needed together."""
    shares: list[Way] = [(share, None) for share in PAYMENT_SHARES[1:]]
    alone = _first_enough(table, scores, shares)
    if alone is not None:
        share = alone[0]
        return share, next((use for use in USES[1:] if shown(scores[share, use]) > shown(scores[alone])), None)
    both = [(share, use) for share, _ in shares for use in USES[1:] if scores[share, None] > scores[None, None]]
    return _first_enough(table, scores, both) or (None, None)


def _first_enough(table: Scorecard, scores: Mapping[Way, int], ways: Iterable[Way]) -> Way | None:
    return next((way for way in ways if shown(scores[way]) >= table.threshold), None)


def _step(months: Sequence[Month], way: Way, score: int) -> PathStep:
    share, use = way
    return PathStep(share, None if share is None else payment_minor(months[0], share), use, shown(score))


def told(
    profile: Profile,
    table: Scorecard,
    account: Account,
    answer: Answer,
    *,
    cause: EventId,
    now: datetime,
    next_on: date,
) -> LimitIncreaseDecided:
    """Return an answer as billing and the customer are told it."""
    issued = [month for month in account.credit.months[:SCORED_MONTHS] if month.due_day]
    return LimitIncreaseDecided(
        event_id=event_id("LimitIncreaseDecided", cause),
        account_id=AccountId(account.account_id),
        occurred_at=now,
        caused_by=cause,
        outcome=answer.outcome,
        amount_minor=answer.limit_minor,
        currency=account.credit.currency or profile.currency,
        score=answer.score,
        threshold=answer.threshold,
        reasons=answer.reasons,
        factors=answer.factors,
        full_marks=answer.full_marks,
        on_time_count=sum(month.late == 0 for month in issued),
        due_count=len(issued),
        distance=answer.distance,
        path=answer.path,
        path_months=SCORED_MONTHS if answer.path else 0,
        next_review_on=next_on,
        refer=answer.refer,
        model_version=table.version,
        policy_version=profile.policy_version,
    )


def next_review(rules: LimitReview, opened_on: date, today: date) -> date:
    """Return the first day after ``today`` that a periodic review falls on, counted from the opening."""
    n = 1
    while (day := months_later(opened_on, n * rules.every_months)) <= today:
        n += 1
    return day


def months_later(day: date, months: int) -> date:
    """Return the same day so many calendar months later, or the last of a shorter month."""
    years, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(years, month + 1, min(day.day, monthrange(years, month + 1)[1]))


def within(at: datetime | None, days: int, now: datetime) -> bool:
    """Tell whether something happened less than so many days ago."""
    return at is not None and now - at < timedelta(days=days)
