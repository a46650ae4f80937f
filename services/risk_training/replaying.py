"""Past repayments decided again by another policy or table: what would have come back sooner, what later, what lost."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from math import exp
from typing import Any, Final, Literal, NamedTuple

from schemas.reasons import Reason
from services.policy import Profile, Profiles
from services.prior import Prices
from services.risk_scoring.domain import judge
from services.risk_scoring.model import GUARDS, SAID, Question, Verdict, features
from services.risk_scoring.outcomes import Outcome
from services.values import replace

Change = Literal["sooner", "the same", "later"]
Segment = tuple[str, str]
ALL: Final[Segment] = ("all", "all")
YOUNG_MONTHS, KNOWN_MONTHS, MONTH_DAYS = 6, 24, 30.44
REMOVAL_DAYS: Final = 90
"""A rule whose holds caught nothing for so long is proposed for removal (risk 6)."""
LARGEST: Final = 20


class Case(NamedTuple):
    """A repayment whose outcome is known, and when its account was opened."""

    outcome: Outcome
    opened_at: datetime | None


class Course(NamedTuple):
    """What one policy does with a repayment, in hindsight.

    ``withheld`` is minor units times seconds until given back or taken back; ``exposed_minor`` was given back before it
    was taken back, ``kept_minor`` was not; ``lost`` of the exposed is never paid again, as the table in force assumes;
    ``cost`` adds waits, declined purchases and looks at the profile's prices.
    """

    verdict: Verdict
    held: bool
    withheld: float
    exposed_minor: int
    kept_minor: int
    lost: float
    cost: float

    @property
    def minor(self) -> int:
        """Return what is given back in all."""
        return sum(each.amount_minor for each in self.verdict.tranches)

    @property
    def rule(self) -> Reason | None:
        """Return what held it most: the first reason of a hold."""
        return self.verdict.reasons[0] if self.held else None


@dataclass(slots=True)
class Side:
    """What came of one policy over many repayments; ``withheld`` and ``price`` speak of those that were good."""

    count: int = 0
    good: int = 0
    good_minor: int = 0
    holds: int = 0
    caught: int = 0
    good_held: int = 0
    withheld: float = 0.0
    exposed_minor: int = 0
    kept_minor: int = 0
    lost: float = 0.0
    cost: float = 0.0

    @property
    def hold_yield(self) -> float | None:
        """Return the share of holds that caught something before it was given back; None without holds (L6)."""
        return self.caught / self.holds if self.holds else None

    @property
    def days(self) -> float:
        """Return how many days a good unit was withheld on average."""
        return self.withheld / 86_400 / self.good_minor if self.good_minor else 0.0

    @property
    def price(self) -> float | None:
        """Return the unit-days withheld from good customers for each unit kept back from what was returned."""
        return self.withheld / 86_400 / self.kept_minor if self.kept_minor else None

    def add(self, course: Course, *, good: bool) -> None:
        """Count one repayment."""
        self.count += 1
        self.good += good
        self.good_minor += course.minor if good else 0
        self.holds += course.held
        self.caught += course.kept_minor > 0
        self.good_held += course.held and good
        self.withheld += course.withheld if good else 0
        self.exposed_minor += course.exposed_minor
        self.kept_minor += course.kept_minor
        self.lost += course.lost
        self.cost += course.cost


Sides = tuple[Side, Side]
"""The policy in force, and the other."""


class Moved(NamedTuple):
    """A repayment the other policy would have treated otherwise, by how much: minor units times seconds."""

    outcome: Outcome
    before: Course
    after: Course

    @property
    def by(self) -> float:
        """Return how much longer it would have been withheld; less than 0 is sooner."""
        return self.after.withheld - self.before.withheld


@dataclass
class Replay:
    """Repayments of one currency decided again; ``as_told`` of them get from the policy in force what they have."""

    segments: dict[Segment, Sides] = field(default_factory=dict)
    rules: dict[tuple[Reason, str], Sides] = field(default_factory=dict)
    changes: Counter[Change] = field(default_factory=Counter)
    largest: list[Moved] = field(default_factory=list)
    as_told: int = 0
    first_on: date | None = None
    last_caught: tuple[dict[Reason, date], dict[Reason, date]] = field(default_factory=lambda: ({}, {}))

    @property
    def whole(self) -> Sides:
        """Return both policies over all repayments."""
        return self.segments.get(ALL, (Side(), Side()))

    def by_rule(self) -> dict[Reason, Sides]:
        """Return each rule over all months."""
        found: dict[Reason, Sides] = {}
        for (rule, _), sides in sorted(self.rules.items()):
            sums = found.setdefault(rule, (Side(), Side()))
            for total, side in zip(sums, sides, strict=True):
                for one in fields(Side):
                    setattr(total, one.name, getattr(total, one.name) + getattr(side, one.name))
        return found

    def idle(self, until: date) -> list[Reason]:
        """Return the rules in force that held and caught nothing for REMOVAL_DAYS; none while less is known."""
        since = until - timedelta(days=REMOVAL_DAYS)
        if self.first_on is None or self.first_on > since:
            return []
        caught = self.last_caught[0]
        return [rule for rule, (side, _) in self.by_rule().items() if side.holds and caught.get(rule, since) <= since]


@dataclass
class Replayed:
    """A replay by currency; ``left_out`` counts what could not be decided again, by why."""

    by_currency: dict[str, Replay] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)


def replayed(cases: Iterable[Case], in_force: Profiles, other: Profiles) -> Replayed:
    """Decide every repayment by both policies, with what was known of it then."""
    found = Replayed()
    for case in cases:
        if case.outcome.returned_by == "issuer":
            found.left_out["our own error took it back: nothing to learn from"] += 1
            continue
        try:
            pair = _pair(case.outcome, in_force, other)
        except KeyError as error:
            found.left_out[f"{error.args[0]} is not known: an older version, or no such product"] += 1
            continue
        replay = found.by_currency.setdefault(case.outcome.currency, Replay())
        _count(replay, case, *pair)
    for replay in found.by_currency.values():
        replay.largest = sorted(replay.largest, key=_size)[:LARGEST]
    return found


def _pair(outcome: Outcome, in_force: Profiles, other: Profiles) -> tuple[Course, Course]:
    now, then = in_force.by_product[outcome.product], other.by_product[outcome.product]
    asked = question(now, outcome)
    share = lost_share(now, asked, outcome)
    return course(now, asked, outcome, share), course(then, asked_by(now, then, asked), outcome, share)


def asked_by(now: Profile, then: Profile, asked: Question) -> Question:
    """Return what was asked under profile ``now`` as it is asked under ``then``: a cap moves as far as they differ."""
    more = then.instant_cap_by_tier[asked.tier] - now.instant_cap_by_tier[asked.tier]
    return replace(
        asked,
        rail=then.rail(asked.rail_name).rail_class,
        instant_left_minor=asked.instant_left_minor if asked.over_budget else max(0, asked.instant_left_minor + more),
    )


def question(profile: Profile, outcome: Outcome) -> Question:
    """Return what a verdict was about; raise KeyError naming an input that was not stored."""
    given: dict[str, Any] = dict(outcome.inputs)
    names = [each.name for each in fields(Question) if each.name not in SAID]
    kept = {name: given[name] for name in names if name in given or name not in GUARDS}
    return Question(
        amount_minor=outcome.amount_minor,
        restorable_minor=outcome.restorable_minor,
        credit_balance_minor=outcome.credit_balance_minor,
        rail=profile.rail(outcome.rail).rail_class,
        repaid_at=outcome.repaid_at,
        now=outcome.assessed_at,
        rail_name=outcome.rail,
        tier=outcome.tier,
        **kept,
    )


def lost_share(profile: Profile, asked: Question, outcome: Outcome) -> float:
    """Return what is lost of each unit given back before a return, as the table of the policy in force assumes."""
    if outcome.returned_by is None or profile.returns is None:
        return 0.0
    bank, customer = profile.returns.chances(outcome.rail, features(asked))
    kind = customer if outcome.returned_by == "customer" else bank
    return kind.respent * kind.lost


def course(profile: Profile, asked: Question, outcome: Outcome, lost_of: float) -> Course:
    """Let a policy decide, and look at it in hindsight."""
    return in_hindsight(profile, judge(profile, asked), asked, outcome, lost_of)


def in_hindsight(profile: Profile, verdict: Verdict, asked: Question, outcome: Outcome, lost_of: float) -> Course:
    """Return what came of a verdict, at the prices of ``profile``."""
    end = outcome.returned_at
    waits = [(each.amount_minor, max(each.due_at, asked.now)) for each in verdict.tranches]
    withheld = sum(minor * (min(due, end or due) - asked.now).total_seconds() for minor, due in waits)
    exposed = sum(minor for minor, due in waits if end is not None and due <= end)
    kept = sum(minor for minor, due in waits if end is not None and due > end)
    held, lost = verdict.held_at(asked.now), exposed * lost_of
    return Course(
        verdict, held, max(0.0, withheld), exposed, kept, lost, lost + _friction(profile, asked, verdict, lost)
    )


def _friction(profile: Profile, asked: Question, verdict: Verdict, lost: float) -> float:
    """Return what waiting costs at the profile's prices: held days, purchases declined on average, a person's look."""
    if not verdict.held_at(asked.now):
        return 0.0
    prices = profile.hold["REVERSIBLE"].prices
    waits = [
        (each, _banking_days(profile, asked.repaid_at, each.due_at))
        for each in verdict.tranches
        if each.due_at > asked.now
    ]
    found = float(prices.day_minor) * max(days for _, days in waits)
    found += max(_declined(prices, asked, verdict, each.due_at, days) for each, days in waits)
    return found + (prices.review_minor - prices.caught * lost if verdict.refer else 0)


def _declined(prices: Prices, asked: Question, verdict: Verdict, due: datetime, days: int) -> float:
    before = sum(each.amount_minor for each in verdict.tranches if each.due_at < due)
    need = prices.need(max(1, days))
    return exp(-((asked.unused_minor or 0) + before) / need) * (prices.declined_minor + prices.margin * need)


def _banking_days(profile: Profile, since: datetime, due: datetime) -> int:
    """Return how many banking days after its own a repayment is held; parts of a day are none."""
    day, end, days = profile.banking_day(since), profile.local_day(due), 0
    while day < end:
        day, days = profile.banking.after(day, 1), days + 1
    return days


def _count(replay: Replay, case: Case, before: Course, after: Course) -> None:
    outcome, good = case.outcome, case.outcome.returned_at is None
    on = outcome.assessed_at.date()
    replay.first_on = min(replay.first_on or on, on)
    for segment in _segments(case):
        _add(replay.segments, segment, before, after, good=good)
    month = f"{on:%Y-%m}"
    for n, one in enumerate((before, after)):
        if one.rule is not None:
            replay.rules.setdefault((one.rule, month), (Side(), Side()))[n].add(one, good=good)
            if one.kept_minor:
                replay.last_caught[n][one.rule] = max(on, replay.last_caught[n].get(one.rule, on))
    moved = Moved(outcome, before, after)
    change: Change = "later" if moved.by > 0 else "sooner" if moved.by < 0 else "the same"
    replay.changes[change] += 1
    replay.as_told += _as_told(outcome, before)
    if moved.by:
        replay.largest.append(moved)
        if len(replay.largest) > 50 * LARGEST:
            replay.largest = sorted(replay.largest, key=_size)[:LARGEST]


def _add(found: dict[Segment, Sides], segment: Segment, *courses: Course, good: bool) -> None:
    for side, one in zip(found.setdefault(segment, (Side(), Side())), courses, strict=True):
        side.add(one, good=good)


def _segments(case: Case) -> Sequence[Segment]:
    """Return what a repayment is compared by: never who its customer is, which is not known (risk 9)."""
    outcome = case.outcome
    return (ALL, ("tier", outcome.tier), ("rail", outcome.rail), ("tenure", tenure(case)))


def tenure(case: Case) -> str:
    """Return how long an account had been open."""
    if case.opened_at is None:
        return "unknown"
    months = (case.outcome.assessed_at - case.opened_at).days / MONTH_DAYS
    if months < YOUNG_MONTHS:
        return "under 6 months"
    return "6 to 24 months" if months < KNOWN_MONTHS else "over 24 months"


def _as_told(outcome: Outcome, again: Course) -> bool:
    """Tell whether judging again gives the parts on the days that were told; people and links move them, too."""
    told: Counter[date] = Counter()
    parts: Counter[date] = Counter()
    for part in outcome.parts:
        told[part.from_on] += part.minor
    for each in again.verdict.tranches:
        parts[max(each.due_at, outcome.assessed_at).astimezone(UTC).date()] += each.amount_minor
    return +parts == +told


def _size(moved: Moved) -> tuple[float, str]:
    return (-abs(moved.by), moved.outcome.repayment_id)
