"""A market of repayments whose truth is planted: what is seen of each, and what becomes of it.

Everything here is made up and says so. The return model does not know these figures: three kinds of customers hide
behind what is seen, each repayment's odds vary around its kind's, and what is seen errs. Three things were set by
looking at results that say nothing of the product: the limits, so that a held customer is declined as often as in the
design's own market; the crooks' odds, so that the pattern the table calls 12 % comes back about as often; their
share, so that always releasing costs about as much as always waiting. A first market (limits thrice as high, crooks'
odds 45 %, 0.6 % of them) gave the product 34 % less cost than the hand rules, and 16.9 % of good customers held: more
than is asked here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Final, Literal

from services.policy import RailClass
from services.risk_scoring.model import Question

Hidden = Literal["steady", "newcomer", "crook"]
REPAID_AT: Final = datetime(2026, 11, 17, 2, 0, tzinfo=UTC)
MINOR: Final = 100
"""Minor units in one major unit, the unit of what follows."""
MANY: Final = 4


@dataclass(frozen=True, slots=True)
class Kind:
    """One hidden kind of customer: how often its repayments come back, and what is seen of it."""

    bank: float
    customer: float
    respent: float
    lost: float
    unverified: float
    struck: float
    cycled: float
    overpaid: float
    emptied: float
    whole: float


@dataclass(frozen=True, slots=True)
class Truth:
    """The planted truth. ``days`` is when the bank's returns come, by banking day 1 to 5; the customer's come later.

    ``needs_minor`` is what a customer needs to spend on average over three banking days, ``final`` the share of
    repayments on rails that cannot be taken back.
    """

    newcomers: float = 0.06
    crooks: float = 0.016
    final: float = 0.45
    needs_minor: int = 400 * MINOR
    days: tuple[float, ...] = (0.28, 0.66, 0.04, 0.015, 0.005)
    spread: float = 0.8
    kinds: tuple[Kind, Kind, Kind] = (
        Kind(
            0.003, 0.0002, 0.12, 0.30, unverified=0.03, struck=0.01, cycled=0.02, overpaid=0.01, emptied=0.45, whole=0.3
        ),
        Kind(
            0.025, 0.0010, 0.35, 0.50, unverified=0.85, struck=0.05, cycled=0.04, overpaid=0.03, emptied=0.55, whole=0.3
        ),
        Kind(
            0.200, 0.0080, 0.92, 0.92, unverified=0.75, struck=0.25, cycled=0.60, overpaid=0.20, emptied=0.95, whole=0.9
        ),
    )


@dataclass(frozen=True, slots=True)
class Repayment:
    """What is ``seen`` of a repayment, and the truth about it: what it costs is computed from that, not drawn.

    ``bank`` and ``customer`` are the true chances that either takes it back, ``days`` when the bank's come, ``lost`` is
    lost of each unit given back before, ``need_minor`` what the customer needs a banking day. ``good``: it was not
    taken back.
    """

    seen: Question
    hidden: Hidden
    bank: float
    customer: float
    days: tuple[float, ...]
    lost: float
    need_minor: float
    good: bool

    def still_to_come(self, day: int) -> float:
        """Return the true chance that it is taken back later than banking ``day``."""
        return self.bank * sum(self.days[day:]) + (1 - self.bank) * self.customer


def repayments(seed: int, count: int, truth: Truth | None = None) -> Iterator[Repayment]:
    """Yield ``count`` repayments, the same ones for a seed."""
    chance, planted = Random(seed), truth or Truth()  # noqa: S311 - a simulation, not a secret
    for _ in range(count):
        yield _one(chance, planted)


def _one(chance: Random, truth: Truth) -> Repayment:
    hidden, kind = _kind(chance, truth)
    seen = _seen(chance, truth, kind)
    odds = kind.bank / (1 - kind.bank) * chance.lognormvariate(-(truth.spread**2) / 2, truth.spread)
    bank, customer = (0.0, 0.0) if seen.rail == "FINAL" else (odds / (1 + odds), kind.customer)
    lost = min(1.0, kind.respent * chance.uniform(0.6, 1.4)) * min(1.0, kind.lost * chance.uniform(0.6, 1.4))
    good = chance.random() >= bank + (1 - bank) * customer
    return Repayment(seen, hidden, bank, customer, truth.days, lost, truth.needs_minor / 3, good)


def _kind(chance: Random, truth: Truth) -> tuple[Hidden, Kind]:
    drawn = chance.random()
    if drawn < truth.crooks:
        return "crook", truth.kinds[2]
    return ("newcomer", truth.kinds[1]) if drawn < truth.crooks + truth.newcomers else ("steady", truth.kinds[0])


def _seen(chance: Random, truth: Truth, kind: Kind) -> Question:
    """Draw a limit, how much of it was used, what of that is repaid, and what the other signs look like."""
    limit = int(min(100_000, max(500, chance.lognormvariate(8.3, 0.5)))) * MINOR
    emptied = chance.random() < kind.emptied
    used = int(limit * (chance.betavariate(30, 1) if emptied else chance.betavariate(2, 3)))
    owed = max(100, int(used * (1.0 if chance.random() < kind.whole else chance.uniform(0.02, 0.4))))
    over = chance.random() < kind.overpaid
    cycled = chance.uniform(0.6, 1.2) if chance.random() < kind.cycled else chance.uniform(0, 0.4)
    rail: RailClass = "FINAL" if chance.random() < truth.final else "REVERSIBLE"
    return Question(
        amount_minor=owed + (owed // 4 if over else 0),
        restorable_minor=owed,
        credit_balance_minor=owed // 4 if over else 0,
        rail=rail,
        verified=chance.random() >= kind.unverified,
        strikes=int(chance.random() < kind.struck) + int(chance.random() < kind.struck / MANY),
        instant_left_minor=limit,
        settled_minor=int(limit * cycled),
        credit_limit_minor=limit,
        repaid_at=REPAID_AT,
        now=REPAID_AT,
        rail_name="wallet" if rail == "FINAL" else "direct_debit",
        unused_minor=limit - used,
    )
