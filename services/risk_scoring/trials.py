"""A candidate beside the champion: whom a canary decides for, what both said of a repayment, and what is counted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from math import ceil, exp, sqrt
from typing import Final, NamedTuple

from services.risk_scoring.outcomes import Outcome, Verdict

CANARY_PERCENT: Final = 5
"""How many of a hundred accounts a canary decides for (risk 6)."""
DAYS_KEPT: Final = 128
PLACES_A_DAY: Final = 2_000
"""The sample: at most so many comparisons of a day are kept, until so many days later; 256,000 rows in all."""


HELD_LEAST, HELD_TIMES = 20, 2
"""A canary ends when it holds so many repayments lately, and so many times what the champion would have (risk 6)."""
RETURNS_LEAST, BOUND = 3, 0.99
"""It ends when more come back than this share of chance allows (risk 6), but not by the first of them: with every batch
it is asked again, and in the first hours nothing is due yet.
"""
EXACT_MAX: Final = 500.0


def in_canary(version: str, account_id: str) -> bool:
    """Tell whether a candidate decides for an account while it is a canary: always the same answer for both.

    Another version draws other accounts: it is not always the same customers who meet what is new.
    """
    return _drawn(f"{version}:{account_id}") % 100 < CANARY_PERCENT


def place_of(repayment_id: str, at: datetime) -> int:
    """Return the place of a comparison in the sample of its day."""
    return at.toordinal() % DAYS_KEPT * PLACES_A_DAY + _drawn(repayment_id) % PLACES_A_DAY


def _drawn(name: str) -> int:
    return int(sha256(name.encode()).hexdigest()[:8], 16)


class Said(NamedTuple):
    """What a model says of a repayment: its verdict, what comes back at once, the last date (None: at once) and how
    likely the payer's bank takes it back.
    """

    verdict: Verdict
    at_once_minor: int
    until: datetime | None
    likely: float


@dataclass(frozen=True)
class Comparison:
    """What both models said of one repayment; ``by_candidate`` says whose verdict counted.

    ``version`` and ``began_at`` name the trial.
    """

    repayment_id: str
    account_id: str
    version: str
    began_at: datetime
    by_candidate: bool
    assessed_at: datetime
    restorable_minor: int
    champion: Said
    candidate: Said

    @property
    def differs(self) -> bool:
        """Tell whether a customer would see a difference: another amount at once, or another date."""
        return self.champion[:3] != self.candidate[:3]


Slot = tuple[str, datetime, bool, datetime]
"""Where something of a trial is counted: version, began at, by the candidate, hour."""


class Tally(NamedTuple):
    """What is counted of a trial; ``expected`` and ``returned`` are of what the candidate gave back at once, whole."""

    judged: int = 0
    differing: int = 0
    champion_held: int = 0
    candidate_held: int = 0
    released: int = 0
    expected: float = 0.0
    returned: int = 0

    def plus(self, other: "Tally") -> "Tally":
        """Return both together."""
        return Tally._make([one + two for one, two in zip(self, other, strict=True)])


def counted(one: Comparison) -> tuple[Slot, Tally]:
    """Return what a comparison adds, and where."""
    released = one.by_candidate and one.candidate.verdict == "clear"
    tally = Tally(
        judged=1,
        differing=int(one.differs),
        champion_held=int(one.champion.verdict != "clear"),
        candidate_held=int(one.candidate.verdict != "clear"),
        released=int(released),
        expected=one.candidate.likely if released else 0.0,
    )
    return (one.version, one.began_at, one.by_candidate, _hour(one.assessed_at)), tally


def came_back(version: str, began_at: datetime, before: Outcome | None, after: Outcome) -> tuple[Slot, Tally] | None:
    """Return what the return of a repayment adds that the candidate gave back at once in this trial, else None.

    Only returns by the payer's bank are expected within days; it counts in the hour of its verdict, beside what was
    expected of it.
    """
    news = after.returned_by == "bank" and (before is None or before.returned_at is None)
    ours = after.model_version == version and after.assessed_at >= began_at and after.verdict == "clear"
    return ((version, began_at, True, _hour(after.assessed_at)), Tally(returned=1)) if news and ours else None


def summed(found: list[tuple[Slot, Tally]]) -> dict[Slot, Tally]:
    """Return the sum of each slot, in the order of their keys: two sessions then never wait in a circle."""
    sums: dict[Slot, Tally] = {}
    for slot, tally in found:
        sums[slot] = sums.get(slot, Tally()).plus(tally)
    return dict(sorted(sums.items()))


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


class Stage(NamedTuple):
    """What is counted of a canary's own accounts in the hours of one age in days; ``lately``: this hour or the last."""

    age: int
    lately: bool
    champion_held: int
    candidate_held: int
    expected: float
    returned: int


class Broken(NamedTuple):
    """The rule a canary broke, and by which figures."""

    rule: str
    figures: str


def broken(stages: Iterable[Stage], survivor: Sequence[float]) -> Broken | None:
    """Return what ends a canary, None while nothing does (risk 6).

    Holds are compared with the champion's on the same repayments, so that a day of other customers changes nothing.
    Returns are compared with those that are due by now: ``survivor[t]`` of them come later than banking day t.
    """
    known = list(stages)
    held, before = (sum(each[n] for each in known if each.lately) for n in (3, 2))
    if held >= HELD_LEAST and held >= HELD_TIMES * before:
        return Broken("hold_rate", f"{held} held, the model in force would have held {before}")
    due = due_of(known, survivor)
    came = sum(each.returned for each in known)
    if came >= RETURNS_LEAST and came > most_by_chance(due):
        return Broken("returns", f"{came} came back, {due:.2f} were due: by chance at most {most_by_chance(due)}")
    return None


def due_of(stages: Iterable[Stage], survivor: Sequence[float]) -> float:
    """Return how many returns of what a canary gave back at once are due by the end of today."""
    return sum(each.expected * (1 - survivor[min(each.age + 1, len(survivor) - 1)]) for each in stages)


def most_by_chance(expected: float) -> int:
    """Return the least number that a Poisson count of this mean exceeds in less than 1 of 100 cases."""
    if expected > EXACT_MAX:
        return ceil(expected + 2.3264 * sqrt(expected))
    count, term = 0, exp(-expected)
    total = term
    while total < BOUND:
        count += 1
        term *= expected / count
        total += term
    return count
