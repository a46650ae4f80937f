"""A search for a cheaper hold policy: settings around the profile in force, each judged by what repayments came to.

Settings are drawn by a seed and judged on a part of the repayments that grows as their number falls; what wins is then
judged once on repayments that chose nothing, and proposed only if it is worth a change there (risk 6).
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import Final, NamedTuple

from services.policy import Profile
from services.prior import Prices
from services.risk_scoring.domain import judge
from services.risk_scoring.model import Question
from services.risk_scoring.outcomes import Outcome
from services.risk_training.market import Repayment as Made
from services.risk_training.market import repayments
from services.risk_training.replaying import Case, asked_by, in_hindsight, lost_share, question
from services.risk_training.ways import Product, cost

WHOLE: Final = 100
"""A setting is in percent of the profile in force."""


class Setting(NamedTuple):
    """What the formula is told a held day, a declined purchase, the need to spend and a look cost, and its caps.

    In percent of the profile's own figures: what a policy costs is counted at those, whatever it was told.
    """

    day: int = WHOLE
    declined: int = WHOLE
    need: int = WHOLE
    review: int = WHOLE
    cap: int = WHOLE


AS_IT_IS: Final = Setting()
TRIED: Final[tuple[tuple[int, ...], ...]] = (
    (25, 50, 75, 100, 150, 200, 400),
    (25, 50, 75, 100, 150, 200, 400),
    (25, 50, 75, 100, 150, 200, 400),
    (50, 100, 200),
    (0, 50, 100, 150, 200, 400),
)
"""What is tried of each part of a setting."""
SETTINGS: Final = 1_000
FINALISTS: Final = 10
SHARES: Final = ((1, 8), (8, 2), (64, 1))
"""Rounds: one of so many settings goes on, and is judged on one of so many of the repayments it is tuned on."""
CHEAPER, HOLDS_WITHIN = 2, 20
"""It is proposed when it costs so many percent less, and holds as many within so many percent (risk 6)."""


class Came(NamedTuple):
    """What one decision came to: its cost in minor units, whether anything was held, and whether it was good."""

    cost: float
    held: bool
    good: bool


Repayment = Callable[[Profile], Came]
"""A repayment whose outcome is known: what it comes to when a profile decides."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A repayment of the ledger, as it was asked under the profile in force, whose prices count."""

    profile: Profile
    outcome: Outcome
    asked: Question
    lost_of: float

    def __call__(self, by: Profile) -> Came:
        """Let a profile decide it, with what was known of it then."""
        again = asked_by(self.profile, by, self.asked)
        course = in_hindsight(self.profile, judge(by, again), again, self.outcome, self.lost_of)
        return Came(course.cost, course.held, self.outcome.returned_at is None)


@dataclass(frozen=True, slots=True)
class Planted:
    """A repayment of the planted market, at the prices of the profile in force."""

    prices: Prices
    repayment: Made

    def __call__(self, by: Profile) -> Came:
        """Let a profile decide it under its instant cap."""
        act = Product(by, capped=True)(self.repayment)
        return Came(cost(act, self.repayment, self.prices), act.held, self.repayment.good)


@dataclass(frozen=True, slots=True)
class Score:
    """What a setting comes to over many repayments; None is the profile in force, as it decides today."""

    setting: Setting | None
    count: int = 0
    cost: float = 0.0
    holds: int = 0
    good: int = 0
    good_held: int = 0

    @property
    def per_thousand(self) -> float:
        """Return the minor units 1,000 repayments cost."""
        return 1_000 * self.cost / max(1, self.count)

    @property
    def hold_rate(self) -> float:
        """Return the share of repayments of which something is held."""
        return self.holds / max(1, self.count)

    @property
    def good_held_share(self) -> float:
        """Return the share of good repayments of which something is held."""
        return self.good_held / max(1, self.good)


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found: every round's scores, cheapest first, and both candidates on what chose nothing."""

    rounds: tuple[tuple[Score, ...], ...]
    in_force: Score
    best: Score

    @property
    def checks(self) -> tuple[tuple[str, bool], ...]:
        """Return what must hold before the best setting is proposed, and whether it does."""
        cheaper = WHOLE * self.best.cost <= (WHOLE - CHEAPER) * self.in_force.cost
        return (
            (f"costs at least {CHEAPER} % less on repayments that chose nothing", cheaper),
            (f"holds as many within {HOLDS_WITHIN} %", _held_alike(self.best, self.in_force)),
        )

    @property
    def proposed(self) -> Setting | None:
        """Return the setting to change to, None where the profile in force is as good."""
        return self.best.setting if all(met for _, met in self.checks) else None


def drawn(seed: int, count: int) -> tuple[Setting, ...]:
    """Return ``count`` settings, the same ones for a seed; the first is the profile's own figures."""
    grid = [one for one in map(Setting._make, product(*TRIED)) if one != AS_IT_IS]
    chance = Random(seed)  # noqa: S311 - which settings are tried is no secret
    return (AS_IT_IS, *chance.sample(grid, min(len(grid), max(0, count - 1))))


def under(profile: Profile, setting: Setting) -> Profile:
    """Return a profile whose formula is told a setting's figures."""
    hold = profile.hold["REVERSIBLE"]
    prices = hold.prices
    told = {
        **prices.model_dump(),
        "day_minor": prices.day_minor * setting.day // WHOLE,
        "declined_minor": prices.declined_minor * setting.declined // WHOLE,
        "need_minor": max(1, prices.need_minor * setting.need // WHOLE),
        "review_minor": prices.review_minor * setting.review // WHOLE,
    }
    changed = hold.model_copy(update={"method": "formula", "prices": Prices.model_validate(told)})
    caps = {tier: cap * setting.cap // WHOLE for tier, cap in profile.instant_cap_by_tier.items()}
    return profile.model_copy(update={"hold": {"REVERSIBLE": changed}, "instant_cap_by_tier": caps})


def search(
    tuned_on: Sequence[Repayment],
    judged_on: Sequence[Repayment],
    profile: Profile,
    settings: Sequence[Setting],
    *,
    seed: int,
    step: Callable[[int], None] = lambda _: None,
) -> Found:
    """Return the cheapest of ``settings`` that holds as many; ``step`` is told how many decisions were made.

    The profile in force is scored beside them in every round, as it decides today.
    """
    mixed = Random(seed).sample(list(tuned_on), len(tuned_on))  # noqa: S311 - the same order for a seed, not a secret
    alive, rounds = list(settings), list[tuple[Score, ...]]()
    for fewer, part in SHARES:
        kept = max(FINALISTS, len(settings) // fewer)
        sample = mixed[: max(1, len(mixed) // part)]
        alive = _going_on(rounds[-1], kept) if rounds else alive
        scores = [score(profile, one, sample, step) for one in (None, *alive)]
        rounds.append(tuple(sorted(scores, key=_rank)))
    in_force = next(one for one in rounds[-1] if one.setting is None)
    allowed = [one for one in rounds[-1] if one.setting and _held_alike(one, in_force)]
    chosen = (allowed or [one for one in rounds[-1] if one.setting])[0]
    now, best = (score(profile, one.setting, judged_on, step) for one in (in_force, chosen))
    return Found(tuple(rounds), now, best)


def decisions(settings: int, tuned_on: int, judged_on: int) -> int:
    """Return how many decisions a search makes."""
    kept = [min(settings, max(FINALISTS, settings // fewer)) for fewer, _ in SHARES]
    rounds = zip(kept, SHARES, strict=True)
    return sum((count + 1) * max(1, tuned_on // part) for count, (_, part) in rounds) + 2 * judged_on


def score(profile: Profile, setting: Setting | None, among: Sequence[Repayment], step: Callable[[int], None]) -> Score:
    """Let a setting decide repayments, and add up what they come to; None lets the profile in force."""
    by = profile if setting is None else under(profile, setting)
    found = [one(by) for one in among]
    step(len(found))
    return Score(
        setting,
        count=len(found),
        cost=sum(one.cost for one in found),
        holds=sum(one.held for one in found),
        good=sum(one.good for one in found),
        good_held=sum(one.held and one.good for one in found),
    )


def _going_on(ranked: Sequence[Score], count: int) -> list[Setting]:
    """Return who goes on: the cheapest that hold as many as today, and as many of the others, cheapest first.

    What holds far less may be cheaper and is worth seeing, but is not proposed; alone it would crowd out what may be.
    """
    in_force = next(one for one in ranked if one.setting is None)
    alike = [one.setting for one in ranked if one.setting and _held_alike(one, in_force)][: count - count // 2]
    others = [one.setting for one in ranked if one.setting and one.setting not in alike]
    return [*alike, *others[: count - len(alike)]]


def _held_alike(one: Score, in_force: Score) -> bool:
    return WHOLE * abs(one.holds - in_force.holds) <= HOLDS_WITHIN * in_force.holds


def _rank(one: Score) -> tuple[float, tuple[int, ...]]:
    """Order by cost; of equals what is in force first, then what changes least."""
    changes = () if one.setting is None else (1, *[abs(part - WHOLE) for part in one.setting], *one.setting)
    return (one.cost, changes)


def recorded(cases: Iterable[Case], profile: Profile) -> list[Repayment]:
    """Return a product's repayments of the ledger, oldest first.

    What an older version did not store, or our own error took back, teaches nothing and is left out.
    """
    found: list[Repayment] = []
    for outcome in sorted((case.outcome for case in cases), key=lambda one: (one.assessed_at, one.repayment_id)):
        if outcome.returned_by == "issuer" or outcome.product != profile.product:
            continue
        with suppress(KeyError):
            asked = question(profile, outcome)
            found.append(Recorded(profile, outcome, asked, lost_share(profile, asked, outcome)))
    return found


def planted(seed: int, count: int, profile: Profile) -> list[Repayment]:
    """Return repayments of the planted market, the same ones for a seed."""
    return [Planted(profile.hold["REVERSIBLE"].prices, one) for one in repayments(seed, count)]


def parted(among: Sequence[Repayment]) -> tuple[Sequence[Repayment], Sequence[Repayment]]:
    """Return the older two thirds, to tune on, and the later third, to judge on."""
    later = len(among) - len(among) // 3
    return among[:later], among[later:]
