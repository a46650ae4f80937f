"""A candidate beside the champion: whom a canary decides for, what both said of a repayment, and what is counted."""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final, NamedTuple

from services.risk_scoring.outcomes import Outcome, Verdict

CANARY_PERCENT: Final = 5
"""How many of a hundred accounts a canary decides for (risk 6)."""
DAYS_KEPT: Final = 128
PLACES_A_DAY: Final = 2_000
"""The sample: at most so many comparisons of a day are kept, until so many days later; 256,000 rows in all."""


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
