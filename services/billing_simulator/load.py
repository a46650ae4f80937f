"""A seeded open loop of repayments with faults in known shares, generated as it is sent."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from heapq import heappop, heappush
from itertools import chain
from typing import Final, Literal

from schemas.account import Language
from services.billing_simulator.plan import POISONS, Billing, Plan, Planned, Repayment, redelivered

AMOUNT_MIN_MINOR: Final = 100
AMOUNT_MAX_MINOR: Final = 20_000
LANGUAGES: Final[tuple[Language, ...]] = ("zh-CN", "en")
FOLLOWS_WITHIN: Final = 100
"""A duplicate or a return comes at most so many repayments after its report."""
OPENED_PER_SECOND: Final = 1_000
SETTLE_SECONDS: Final = 1.0
"""Pause between the last account and the first repayment."""
RAILS: Final = (("wallet", 0.6), ("instant_transfer", 0.2), ("direct_debit", 0.2))


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much, how fast, how faulty; the same values make the same messages.

    ``rate`` is distinct repayments a second, None as fast as Kafka takes them; ``seconds`` or ``count`` ends it.
    ``duplicate``, ``returns``, ``poison`` are shares of the repayments; ``same_reference`` is the share of the
    duplicates that come under a new message id. ``swaps`` is the share of reports that change places with their
    neighbour, one of the same account, and of returns that come before their report.
    """

    seed: int
    run: str
    accounts: int = 200
    rate: float | None = 20.0
    seconds: float | None = None
    count: int | None = None
    duplicate: float = 0.2
    same_reference: float = 0.15
    returns: float = 0.0
    swaps: float = 0.2
    poison: float = 0.0
    rails: tuple[tuple[str, float], ...] = RAILS
    spacing: Literal["even", "poisson"] = "even"
    product: str = "demo"

    def __post_init__(self) -> None:
        """Refuse what cannot be played."""
        if (self.seconds is None) == (self.count is None):
            raise ValueError("a load has seconds or a count")
        if self.seconds is not None and self.rate is None:
            raise ValueError("seconds need a rate")
        if self.accounts < 1 or self.repayments < 1 or (self.rate is not None and self.rate <= 0):
            raise ValueError("a load has at least one account, one repayment and a positive rate")
        shares = (self.duplicate, self.same_reference, self.returns, self.swaps, self.poison)
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError("shares are between 0 and 1")

    @property
    def repayments(self) -> int:
        """Return how many distinct repayments it has."""
        return self.count if self.count is not None else round((self.rate or 0) * (self.seconds or 0))

    @property
    def label(self) -> str:
        """Return what is in every reference of this load."""
        return f"{self.run}_{self.seed}"

    def account_id(self, index: int) -> str:
        """Return the reference of its account ``index``."""
        return f"acct_load_{self.label}_{index:05d}"

    def chance(self, stream: str) -> random.Random:
        """Return this load's own dice for ``stream``."""
        return random.Random(f"{self.seed}/{self.run}/{stream}")  # noqa: S311  # a plan, not a secret


def load_plan(load: Load) -> Plan:
    """Return a plan that opens the accounts, then sends the repayments; it is generated lazily."""
    lead = 0.0 if load.rate is None else load.accounts / OPENED_PER_SECOND + SETTLE_SECONDS
    return lambda start: chain(accounts_of(load, start), repayments_of(load, start, lead_seconds=lead))


def accounts_plan(load: Load) -> Plan:
    """Return a plan of the load's accounts alone, for a caller that waits until they are known."""
    return partial(accounts_of, load)


def repayments_plan(load: Load) -> Plan:
    """Return a plan of the load's repayments alone."""
    return partial(repayments_of, load)


def accounts_of(load: Load, start: datetime) -> Iterator[Planned]:
    """Open every account with a debt no share of the load can repay, so that all of it stays restorable."""
    billing = Billing(start, load.product)
    debt_minor = load.repayments * AMOUNT_MAX_MINOR
    for index in range(load.accounts):
        at = 0.0 if load.rate is None else index / OPENED_PER_SECOND
        account, language = load.account_id(index), LANGUAGES[index % len(LANGUAGES)]
        yield billing.opened(at, account, limit_minor=2 * debt_minor, language=language)
        yield billing.purchase(at, account, amount_minor=debt_minor)


def repayments_of(load: Load, start: datetime, *, lead_seconds: float = 0.0) -> Iterator[Planned]:
    """Report the repayments at their intended instants, from ``lead_seconds`` after the start on."""
    stream = _Stream(load, Billing(start, load.product))
    at = lead_seconds
    for index, instant in enumerate(_instants(load)):
        at = lead_seconds + instant
        yield from stream.slot(index, at)
    yield from stream.rest(at)


def _instants(load: Load) -> Iterator[float]:
    dice, at = load.chance("instants"), 0.0
    for index in range(load.repayments):
        if load.rate is None:
            yield 0.0
        elif load.spacing == "even":
            yield index / load.rate
        else:
            at += dice.expovariate(load.rate)
            yield at


@dataclass(frozen=True, slots=True)
class _Following:
    """A message that comes some time after the report of its repayment."""

    kind: Literal["duplicate", "return"]
    repayment: Repayment
    reported_seconds: float
    number: int = 1

    def message(self, billing: Billing, at: float) -> Planned:
        """Return it as sent at ``at``; a redelivery has the bytes of the first time."""
        if self.kind == "return":
            return billing.returned(at, self.repayment)
        if self.number > 1:
            return billing.report(at, self.repayment, number=self.number, kind="duplicate")
        return redelivered(billing.report(self.reported_seconds, self.repayment), at)


@dataclass(slots=True)
class _Stream:
    """Draws the repayments and remembers only what is still to follow them."""

    load: Load
    billing: Billing
    dice: random.Random = field(init=False)
    waiting: Repayment | None = None
    following: list[tuple[int, int, _Following]] = field(default_factory=list)
    followed_count: int = 0

    def __post_init__(self) -> None:
        self.dice = self.load.chance("repayments")

    def slot(self, index: int, at: float) -> Iterator[Planned]:
        """Return what is sent at one intended instant; nothing when its report waits to be swapped."""
        first, repayment = self.waiting, self._drawn(index, at)
        last = index == self.load.repayments - 1
        if first is None and not last and self._happens(self.load.swaps / (2 - self.load.swaps)):
            self.waiting = repayment
            return
        self.waiting = None
        yield from self._reported(index, at, repayment)
        if first is not None:
            yield from self._reported(index, at, first)
        while self.following and self.following[0][0] <= index:
            yield heappop(self.following)[2].message(self.billing, at)

    def rest(self, at: float) -> Iterator[Planned]:
        """Return what still follows when the last repayment was reported."""
        while self.following:
            yield heappop(self.following)[2].message(self.billing, at)

    def _drawn(self, index: int, at: float) -> Repayment:
        dice, load = self.dice, self.load
        names, weights = zip(*load.rails, strict=True)
        account, repaid_before = dice.randrange(load.accounts), dice.uniform(0.05, 0.5)
        return Repayment(
            account_id=self.waiting.account_id if self.waiting else load.account_id(account),
            external_ref=f"rep_{load.label}_{index:07d}",
            amount_minor=dice.randint(AMOUNT_MIN_MINOR, AMOUNT_MAX_MINOR),
            rail=dice.choices(names, weights)[0],
            repaid_seconds=max(0.0, at - repaid_before),  # never before what the accounts bought
            method="manual" if dice.random() < 0.3 else "auto",
        )

    def _reported(self, index: int, at: float, repayment: Repayment) -> Iterator[Planned]:
        load = self.load
        returned = self._happens(load.returns)
        if returned and self._happens(load.swaps):
            yield self.billing.returned(at, repayment)
        elif returned:
            self._follow(index, _Following("return", repayment, at))
        yield self.billing.report(at, repayment)
        if self._happens(load.duplicate):
            number = 2 if self._happens(load.same_reference) else 1
            self._follow(index, _Following("duplicate", repayment, at, number))
        if self._happens(load.poison):
            unreadable = replace(repayment, external_ref=f"{repayment.external_ref}_bad")
            yield self.billing.poison(at, unreadable, self.dice.choice(POISONS))

    def _follow(self, index: int, follower: _Following) -> None:
        self.followed_count += 1
        heappush(self.following, (index + self.dice.randint(0, FOLLOWS_WITHIN), self.followed_count, follower))

    def _happens(self, share: float) -> bool:
        return self.dice.random() < share
