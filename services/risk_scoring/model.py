"""What risk-scoring knows of one account, what it asks of a repayment and what it answers, as values."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from functools import lru_cache, partial
from hashlib import blake2b
from operator import itemgetter
from typing import Literal, NamedTuple

from schemas.reasons import Reason
from schemas.risk import Given, Pattern, RiskAssessed, Tier, Tranche
from services.policy import Profile, RailClass
from services.prior import Feature, Prior
from services.risk_scoring.credit import NOTHING_KNOWN, Credit
from services.risk_scoring.outcomes import Outcome
from services.risk_scoring.trials import Broken, Comparison, Said, in_canary
from services.values import at_once, replace

WHY: Mapping[Feature, Reason] = {
    "strikes": Reason.HOLD_PRIOR_RETURN,
    "share_of_limit": Reason.HOLD_AMOUNT_UNUSUAL,
    "overpaid": Reason.HOLD_OVERPAYMENT,
    "cycled": Reason.HOLD_MULTIPLE_REPAYMENTS,
}
"""What raised the odds, as it is said; that an account is not verified is said by what would be faster."""


class Warned(NamedTuple):
    """Billing said that a repayment is disputed, or an account overdue elsewhere; from ``ended_at`` on no more."""

    kind: Literal["disputed", "overdue_elsewhere"]
    name: str
    at: datetime
    ended_at: datetime | None = None


class Use(NamedTuple):
    """When an account first repaid from a funding account, None for never, and how many accounts did, at most nine."""

    name: str
    first_at: datetime | None = None
    users: int = 0


@dataclass(frozen=True)
class Strike:
    """A repayment from a funding account was returned, and not by the issuer's own error (R8, E20)."""

    repayment_id: str
    struck_at: datetime


@dataclass(frozen=True)
class FundingAccount:
    """A bank account repayments come from; ``linked_at`` is when billing last said whether it is verified."""

    name: str
    verified: bool = False
    strikes: tuple[Strike, ...] = ()
    linked_at: datetime | None = None

    def struck(self, strike: Strike) -> "FundingAccount":
        """Return it with ``strike``; a return told twice is one strike."""
        known = any(other.repayment_id == strike.repayment_id for other in self.strikes)
        return self if known else replace(self, strikes=(*self.strikes, strike))

    def strikes_since(self, since: datetime) -> int:
        """Return how many strikes are younger than ``since``."""
        return sum(strike.struck_at > since for strike in self.strikes)


@at_once
@dataclass(frozen=True)
class Assessment:
    """What is kept of the verdict on a repayment that its rail may take back.

    ``instant_minor`` was due at once (R14); ``hold`` is the verdict while its dates may still move earlier;
    ``repaid_at`` is None of what was assessed before it was kept.
    """

    repayment_id: str
    funding_account_id: str | None
    assessed_at: datetime
    instant_minor: int
    hold: RiskAssessed | None = None
    repaid_at: datetime | None = None


@dataclass(frozen=True)
class Cycle:
    """The statement cycle: since when, and the restorable minor units settled in it and in the one before."""

    started_at: datetime | None = None
    settled_minor: int = 0
    before_minor: int = 0

    def of(self, settled_at: datetime) -> int:
        """Return what was settled before in the cycle that ``settled_at`` belongs to."""
        return self.before_minor if self._ended_before(settled_at) else self.settled_minor

    def with_settled(self, settled_at: datetime, restorable_minor: int) -> "Cycle":
        """Count a repayment in its cycle, the one before when a statement overtook it."""
        if self._ended_before(settled_at):
            return replace(self, before_minor=self.before_minor + restorable_minor)
        return replace(self, settled_minor=self.settled_minor + restorable_minor)

    def next(self, started_at: datetime) -> "Cycle":
        """Return the cycle a statement begins."""
        return Cycle(started_at, 0, self.settled_minor)

    def _ended_before(self, settled_at: datetime) -> bool:
        return self.started_at is not None and settled_at < self.started_at


@dataclass(frozen=True)
class Table:
    """A table of returns of the registry; ``made`` are the profiles it decided for, with what was made of each."""

    prior: Prior
    made: dict[str, tuple[Profile, Profile]] = field(default_factory=dict, repr=False, compare=False)

    def under(self, profile: Profile) -> Profile:
        """Return ``profile`` with this table in force where its formula decides; made once a profile."""
        if profile.formula is None:
            return profile
        known = self.made.get(profile.product)
        if known is None or known[0] is not profile:
            known = self.made[profile.product] = (profile, profile.model_copy(update={"returns": self.prior}))
        return known[1]


@dataclass(frozen=True)
class Trial:
    """A candidate beside the champion since ``began_at``: it judges what the champion decides, without effect.

    As a canary it decides for a few accounts, and there the champion judges beside it. ``broken`` is the rule it was
    found to break with this batch: from here on it is asked nothing.
    """

    version: str
    began_at: datetime
    canary: bool
    table: Table
    broken: Broken | None = None

    def decides(self, account_id: str) -> bool:
        """Tell whether the candidate's verdicts on an account count."""
        return self.canary and self.broken is None and in_canary(self.version, account_id)


@dataclass(frozen=True)
class Watch:
    """The model in force since ``began_at``, watched in its first days: what decided ``before`` it judges beside.

    ``before`` is None for the shipped table. ``broken`` is the rule it was found to break with this batch: from here on
    what decided before does, which is then the account's champion.
    """

    version: str
    began_at: datetime
    before: Table | None
    broken: Broken | None = None


class Beside(NamedTuple):
    """A profile by which a model judges without effect, and whether it is for the watch of what does decide."""

    profile: Profile
    watch: Watch | None = None


@dataclass(frozen=True)
class Account:
    """One account: its limit, statement cycle, funding accounts and what was assessed; no score means tier unknown.

    ``limit_at`` is when billing last changed the limit; None is as it was opened. ``champion`` is the table of returns
    in force, None for the shipped one. ``version`` counts what was written of it, for the store alone. ``outcomes`` are
    those an input is about; ``exposed_minor`` is what of the account is given back and not final today,
    ``held_minor`` what comes back on a later day, ``portfolio_minor`` what is exposed of each product as the batch
    found it. ``trial`` is the candidate beside the champion, ``compared`` what both said of this batch's repayments;
    ``watch`` is of the champion, ``watched`` what it and the model before it said. ``uses`` are of the funding accounts
    this batch's repayments come from, ``lately`` when what of the last two days was repaid, and how much. ``relief`` is
    how wide a product's instant cap of tiers A and B is, in basis points of itself, none where it is as ever.
    ``unread`` are repayments this batch moves that were not read yet, ``early`` is what settlements moved of such ones.
    """

    account_id: str
    credit_limit_minor: int | None = None
    cycle: Cycle = Cycle()
    funding: Mapping[str, FundingAccount] = field(default_factory=dict)
    assessments: Mapping[str, Assessment] = field(default_factory=dict)
    tier: Tier = "unknown"
    champion: Table | None = None
    version: int = 0
    limit_at: datetime | None = None
    credit: Credit = NOTHING_KNOWN
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    exposed_minor: int = 0
    held_minor: int = 0
    portfolio_minor: Mapping[str, int] = field(default_factory=dict)
    trial: Trial | None = None
    compared: Mapping[str, Comparison] = field(default_factory=dict)
    watch: Watch | None = None
    watched: Mapping[str, Comparison] = field(default_factory=dict)
    warned: Mapping[str, Warned] = field(default_factory=dict)
    uses: Mapping[str, Use] = field(default_factory=dict)
    lately: Mapping[str, tuple[datetime, int]] = field(default_factory=dict)
    relief: Mapping[str, int] = field(default_factory=dict)
    unread: frozenset[str] = frozenset()
    early: Mapping[str, int] = field(default_factory=dict)

    def deciding(self, profile: Profile) -> Profile:
        """Return ``profile`` with the table of returns that decides for this account: the champion's, or a canary's."""
        if self.trial is not None and self.trial.decides(self.account_id):
            return self.trial.table.under(profile)
        return profile if self.champion is None else self.champion.under(profile)

    @property
    def counted_of(self) -> list[tuple[str, datetime]]:
        """Return what returns are counted of: a canary, and what is watched, each by version and since when."""
        found = [(self.trial.version, self.trial.began_at)] if self.trial is not None and self.trial.canary else []
        return found if self.watch is None else [*found, (self.watch.version, self.watch.began_at)]

    def beside(self, profile: Profile) -> list[Beside]:
        """Return ``profile`` with each table that judges here and does not decide; none where no table does."""
        if profile.formula is None:
            return []
        found, tried = [], self.trial is not None and self.trial.decides(self.account_id)
        if tried:
            found.append(Beside(profile if self.champion is None else self.champion.under(profile)))
        elif self.trial is not None and self.trial.broken is None:
            found.append(Beside(self.trial.table.under(profile)))
        watch = self.watch
        if watch is not None and watch.broken is None and not tried:
            found.append(Beside(profile if watch.before is None else watch.before.under(profile), watch))
        return found

    def compare(self, fact: RiskAssessed, decided: Said, beside: Said, watch: Watch | None = None) -> "Account":
        """Return the account with what both models said of a repayment."""
        if watch is not None:
            about = (fact.repayment_id, self.account_id, watch.version, watch.began_at, True)
            seen = Comparison(*about, fact.occurred_at, fact.restorable_minor, beside, decided)
            return replace(self, watched={**self.watched, fact.repayment_id: seen})
        if self.trial is None:
            return self
        ours = self.trial.decides(self.account_id)
        about = (fact.repayment_id, self.account_id, self.trial.version, self.trial.began_at, ours)
        both = (beside, decided) if ours else (decided, beside)
        made = Comparison(*about, fact.occurred_at, fact.restorable_minor, *both)
        return replace(self, compared={**self.compared, fact.repayment_id: made})

    def funding_account(self, name: str) -> FundingAccount:
        """Return a funding account; one nobody linked is not verified."""
        return self.funding.get(name) or FundingAccount(name)

    def put(self, *assessments: Assessment) -> "Account":
        """Return the account with ``assessments``."""
        return replace(self, assessments={**self.assessments, **{one.repayment_id: one for one in assessments}})

    def fund(self, funding_account: FundingAccount) -> "Account":
        """Return the account with ``funding_account``."""
        return replace(self, funding={**self.funding, funding_account.name: funding_account})

    def instant_since(self, since: datetime) -> int:
        """Return what was restored at once from rails that may take it back, after ``since`` (R14)."""
        return sum([one.instant_minor for one in self.assessments.values() if one.assessed_at > since])

    def without_holds(self, repayment_ids: Iterable[str]) -> "Account":
        """Return the account with the dates of these repayments left alone from now on."""
        known = [self.assessments[name] for name in repayment_ids if name in self.assessments]
        closed = [replace(one, hold=None) for one in known if one.hold is not None]
        return self.put(*closed) if closed else self


def window(now: datetime, *, hours: int = 0, days: int = 0) -> datetime:
    """Return where a rolling window that ends now begins; what lies exactly there is outside it."""
    return now - _stretch(hours, days)


@lru_cache(maxsize=256)
def _stretch(hours: int, days: int) -> timedelta:
    return timedelta(hours=hours, days=days)


@dataclass(frozen=True)
class Question:
    """Everything a verdict depends on beside the policy, so that it can be asked again with one input changed.

    ``instant_left_minor`` is what is left of the instant cap, ``settled_minor`` what was restorable in this statement
    cycle before (R15), ``strikes`` how often its funding account returned a repayment lately, ``unused_minor`` the
    credit that could be spent before the repayment, None when nobody said. ``over_budget`` says that the cap is what
    the portfolio's budget left of it. ``lately_count`` and ``lately_minor`` were repaid in the 24 hours before, with
    ``shared_with`` others the funding account is shared: what guards ask (guards.py). ``widened_minor`` of the cap is
    there by a relief (exposure.py).
    """

    amount_minor: int
    restorable_minor: int
    credit_balance_minor: int
    rail: RailClass
    verified: bool
    strikes: int
    instant_left_minor: int
    settled_minor: int
    credit_limit_minor: int
    repaid_at: datetime
    now: datetime
    rail_name: str = ""
    unused_minor: int | None = None
    tier: Tier = "unknown"
    over_budget: bool = False
    disputes: int = 0
    overdue_elsewhere: bool = False
    shared_with: int = 0
    new_funding: bool = False
    young: bool = False
    lately_count: int = 0
    lately_minor: int = 0
    widened_minor: int = 0

    @property
    def inputs(self) -> tuple[Given, ...]:
        """Return what the event told of the verdict does not say itself; what guards ask only where there is any."""
        return tuple(map(_given, [*zip(ASKED, _asked(self.__dict__), strict=True), *self._guarded()]))

    @property
    def digest(self) -> str:
        """Return what tells these inputs from any others."""
        known = self.__dict__
        dates = self.repaid_at.isoformat(), self.now.isoformat()
        plain = [*_before_dates(known), *dates, *_after_dates(known), *self._guarded()]
        return blake2b(repr(plain).encode(), digest_size=16).hexdigest()

    def _guarded(self) -> list[tuple[str, int]]:
        """Return what guards ask, where there is any."""
        known = self.__dict__
        return [(name, known[name]) for name in GUARDS if known[name]] if any(_of_guards(known)) else []


SAID = frozenset(
    ("amount_minor", "restorable_minor", "credit_balance_minor", "rail", "repaid_at", "now", "rail_name", "tier")
)
"""The inputs of a verdict that its event says; the class of a rail is the policy's."""


GUARDS = (
    *("disputes", "overdue_elsewhere", "shared_with", "new_funding", "young", "lately_count", "lately_minor"),
    "widened_minor",
)
"""The inputs that guards ask, and what a relief adds: of most repayments there is none of them."""
_ALWAYS = tuple(each.name for each in fields(Question) if each.name not in GUARDS)
ASKED = tuple(name for name in _ALWAYS if name not in SAID)
"""The inputs of every verdict that its event does not say."""
_asked, _of_guards = itemgetter(*ASKED), itemgetter(*GUARDS)
_given = partial(tuple.__new__, Given)
"""What Given() makes of a name and a value, in one step of C: of every verdict there are seven or more."""
_before_dates = itemgetter(*_ALWAYS[: _ALWAYS.index("repaid_at")])
_after_dates = itemgetter(*_ALWAYS[_ALWAYS.index("now") + 1 :])


class Verdict(NamedTuple):
    """Tranches that add up to the restorable amount, and why."""

    tranches: tuple[Tranche, ...]
    reasons: tuple[Reason, ...]
    refer: bool = False
    patterns: tuple[Pattern, ...] = ()

    def held_at(self, now: datetime) -> bool:
        """Tell whether any of it comes back later than ``now``."""
        return any(tranche.due_at > now for tranche in self.tranches)

    def at_once_minor(self, now: datetime) -> int:
        """Return what is due at once."""
        return sum([tranche.amount_minor for tranche in self.tranches if tranche.due_at <= now])


def features(asked: Question) -> dict[Feature, float | None]:
    """Return what the table of returns may ask of a repayment; what is not known is None, never 0."""
    limit = asked.credit_limit_minor
    return {
        "unverified": float(not asked.verified),
        "strikes": float(asked.strikes),
        "share_of_limit": asked.amount_minor / limit if limit else None,
        "overpaid": float(asked.credit_balance_minor > 0),
        "cycled": asked.settled_minor / limit if limit else None,
    }


def said_of(profile: Profile, asked: Question, verdict: Verdict) -> Said:
    """Return what the model of ``profile`` says of a question, for a comparison."""
    held = verdict.held_at(asked.now)
    table = profile.formula
    return Said(
        "refer" if held and verdict.refer else "observe" if held else "clear",
        verdict.at_once_minor(asked.now),
        max(tranche.due_at for tranche in verdict.tranches) if held else None,
        0.0 if table is None else table.bank.chance(asked.rail_name, features(asked)).likely,
    )
