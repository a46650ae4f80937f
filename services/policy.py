"""Product profiles as values: what deploy/policy/<product>.toml says, validated, versioned, pinned in decisions."""

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Annotated, Literal, get_args
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from schemas.account import Timezone
from schemas.money import Currency, ShareMinor
from services.decision import Malformed
from services.prior import Exposure, Guards, Prices, Prior
from services.scorecard import LimitReview, Scorecard

Component = Literal["penalty", "fee", "interest", "principal"]
CalendarName = Literal["cn-banking", "us-fed"]
RailClass = Literal["FINAL", "REVERSIBLE", "PENDING"]
END_OF_DAY = "24:00"
SATURDAY = 5
LONGEST_BANKING_DAYS = 5
"""The longest hold the formula may choose."""
CutOff = Annotated[str, Field(pattern=r"^(([01]\d|2[0-3]):[0-5]\d|24:00)$")]
Kind = Annotated[str, Field(pattern=r"^[a-z][a-z_]{0,39}$")]
TIERS: frozenset[str] = frozenset(("A", "B", "C", "D", "E", "unknown"))


def _wrong(key: str, why: str) -> PydanticCustomError:
    """Return the error that names ``key`` of the profile's file, wherever it is raised."""
    return PydanticCustomError("policy", "{key} {why}", {"key": key, "why": why})


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Waterfall(_Table):
    """The order in which a repayment pays the debt."""

    lead: Literal["due", "component"] = "due"
    component: tuple[Component, ...] = ("penalty", "fee", "interest", "principal")
    principal: Literal["oldest_due", "highest_apr"] = "oldest_due"
    minimum_to: str = "purchase"
    refund: Literal["last_instalment_first", "oldest_due"] = "last_instalment_first"

    @model_validator(mode="after")
    def _every_component_once(self) -> "Waterfall":
        if sorted(self.component) != sorted(get_args(Component)):
            raise _wrong("waterfall.component", "must list every component once")
        return self


class CalendarRules(_Table):
    """Which calendar, and the local times at which a day ends and credit comes back."""

    name: CalendarName
    banking_cut_off: CutOff
    credited_cut_off: CutOff
    release_time: time


class Rail(_Table):
    """How final a rail is."""

    rail_class: RailClass = Field(alias="class")
    final_banking_days: Annotated[int, Field(ge=0, le=30)] = 0
    tail_calendar_days: Annotated[int, Field(ge=0, le=400)] = 0
    case_after_hours: Annotated[int, Field(ge=1)] = 24


class Rest(_Table):
    """A share of what is held and when it comes back: banking days, or seconds in the demo's profile."""

    share_bps: Annotated[int, Field(gt=0, le=10_000)]
    banking_days: Annotated[int, Field(ge=0, le=16)] | None = None
    seconds: Annotated[int, Field(ge=1, le=86_400)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "Rest":
        if (self.banking_days is None) == (self.seconds is None):
            raise ValueError("a rest has banking_days or seconds")
        return self


class Large(_Table):
    """Another schedule for what is held of a repayment above ``above_minor``."""

    above_minor: ShareMinor
    rest: tuple[Rest, ...]


class Strikes(_Table):
    """What returns of a funding account do to its next repayments, and for how long."""

    days: Annotated[int, Field(ge=1, le=400)] = 90
    hold_from: Annotated[int, Field(ge=1, le=99)] = 2
    refer_from: Annotated[int, Field(ge=1, le=99)] = 3


class Hold(_Table):
    """When credit of a reversible rail comes back."""

    window_hours: Annotated[int, Field(ge=1, le=2_400)]
    method: Literal["schedule", "formula"] = "schedule"
    prices: Prices = Prices()
    exposure: Exposure = Exposure()
    rest: tuple[Rest, ...]
    verified_funding_account: tuple[Rest, ...]
    large: Large | None = None
    strikes: Strikes = Strikes()
    guards: Guards = Guards()
    refer_banking_days: Annotated[int, Field(ge=0, le=16)] = 1
    max_calendar_days: Annotated[int, Field(ge=1, le=30)]

    @property
    def schedules(self) -> dict[str, tuple[Rest, ...]]:
        """Return every schedule by its key."""
        large = {"large.rest": self.large.rest} if self.large else {}
        return {"rest": self.rest, "verified_funding_account": self.verified_funding_account, **large}

    @model_validator(mode="after")
    def _schedules_make_sense(self) -> "Hold":
        for key, shares in self.schedules.items():
            if sum(rest.share_bps for rest in shares) != 10_000:
                raise _wrong(f"hold.REVERSIBLE.{key}", "shares must add up to 10000 basis points")
        ordinary = [self.rest, self.large.rest] if self.large else [self.rest]
        if any(_later(self.verified_funding_account, rest) for rest in ordinary):
            raise _wrong("hold.REVERSIBLE.verified_funding_account", "gives credit back later than rest does")
        return self


def _later(one: tuple[Rest, ...], other: tuple[Rest, ...]) -> bool:
    """Tell whether ``one`` ever has given back less than ``other`` has."""
    return any(_given_back(one, wait) < share for wait, share in _steps(other))


def _steps(shares: tuple[Rest, ...]) -> list[tuple[tuple[int, int], int]]:
    waits = [(rest.banking_days or 0, rest.seconds or 0) for rest in shares]
    return list(zip(waits, accumulate(rest.share_bps for rest in shares), strict=True))


def _given_back(shares: tuple[Rest, ...], wait: tuple[int, int]) -> int:
    return max((share for at, share in _steps(shares) if at <= wait), default=0)


class Promise(_Table):
    """How soon credit is promised."""

    clear_seconds: Annotated[int, Field(ge=1, le=86_400)]
    hold_slack_seconds: Annotated[int, Field(ge=0, le=86_400)]
    extensions_max: Annotated[int, Field(ge=0, le=5)]


class Minimum(_Table):
    """What must be paid by the due day: the larger of a flat amount and a share, never more than the statement.

    Where no more than ``all_up_to_minor`` is used, all of the statement is the minimum.
    """

    flat_minor: ShareMinor = 0
    share_bps: Annotated[int, Field(ge=0, le=10_000)] = 10_000
    share_of: Literal["statement", "used"] = "statement"
    all_up_to_minor: ShareMinor = 0
    plus_interest: bool = False


class Standing(_Table):
    """What may keep an account from using its credit, and how soon a repayment lifts it."""

    restrictions: tuple[Kind, ...]
    lifted_after_hours: Annotated[int, Field(ge=1)] | None = None


class AutomaticRepayment(_Table):
    """Where billing collects from and when; without an order, as billing reports it."""

    order: tuple[Kind, ...] = ()
    attempts: tuple[Literal["day_before_due", "due_day"], ...] = ()


class PurchaseRefund(_Table):
    """Within how many working days after the merchant's a refund is shown; none: no window is known."""

    shown_days_min: Annotated[int, Field(ge=0)] | None = None
    shown_days_max: Annotated[int, Field(ge=0)] | None = None


class Profile(_Table):
    """Everything the four deciding services need to know of one product."""

    product: str
    version: str
    currency: Currency
    timezone: Timezone
    limit_basis: Literal["PRINCIPAL", "TOTAL"]
    credit_balance_spendable: bool
    turnover_max_ratio: Annotated[int, Field(ge=1)]
    instant_cap_by_tier: Mapping[Literal["A", "B", "C", "D", "E", "unknown"], ShareMinor]
    waterfall: Waterfall
    calendar: CalendarRules
    rails: Mapping[str, Rail]
    hold: Mapping[Literal["REVERSIBLE"], Hold]
    promise: Promise
    minimum: Minimum = Minimum()
    standing: Standing = Standing(restrictions=("frozen", "closed"))
    automatic_repayment: AutomaticRepayment = AutomaticRepayment()
    purchase_refund: PurchaseRefund = PurchaseRefund()
    limit_review: LimitReview = LimitReview()
    banking: "Calendar" = Field(exclude=True)
    returns: Prior | None = Field(default=None, exclude=True)

    @model_validator(mode="after")
    def _complete(self) -> "Profile":
        for key, there in (("rails.unknown", "unknown" in self.rails), ("hold.REVERSIBLE", "REVERSIBLE" in self.hold)):
            if not there:
                raise _wrong(key, "is missing")
        if missing := TIERS - self.instant_cap_by_tier.keys():
            raise _wrong(f"instant_cap_by_tier.{min(missing)}", "is missing")
        for name, rail in self.rails.items():
            if (self.tail_calendar_days(rail) == 0) != (rail.rail_class == "FINAL"):
                raise _wrong(f"rails.{name}.tail_calendar_days", "must be 0 on a FINAL rail, and more on any other")
        return self

    @model_validator(mode="after")
    def _holds_end_in_time(self) -> "Profile":
        """Refuse a hold that the loaded calendar may stretch beyond ``max_calendar_days`` (R16)."""
        hold = self.hold["REVERSIBLE"]
        for key, shares in hold.schedules.items():
            if not self.product.startswith("demo") and (hold.prices.day_seconds or any(one.seconds for one in shares)):
                raise _wrong(f"hold.REVERSIBLE.{key}", "counts in seconds: that is for the demo's profiles only")
            self._ends_in_time(key, max(rest.banking_days or 0 for rest in shares))
        self._ends_in_time("refer_banking_days", hold.refer_banking_days)
        if hold.method == "formula":
            if self.returns is None:
                raise _wrong("hold.REVERSIBLE.method", "needs the table of returns (models/return-prior-1.json)")
            self._ends_in_time("method", LONGEST_BANKING_DAYS)
        return self

    def _ends_in_time(self, key: str, banking_days: int) -> None:
        longest = longest_hold(self.banking, banking_days) - int(self.calendar.banking_cut_off == END_OF_DAY)
        if longest > (allowed := self.hold["REVERSIBLE"].max_calendar_days):
            why = f"may last {longest} calendar days in {self.banking.name}, more than {allowed}"
            raise _wrong(f"hold.REVERSIBLE.{key}", why)

    @property
    def policy_version(self) -> str:
        """Return what a decision pins, for example default@2026-11-01.1."""
        return f"{self.product}@{self.version}"

    @property
    def formula(self) -> Prior | None:
        """Return the table of returns if the formula decides, and None if the schedule does."""
        return self.returns if self.hold["REVERSIBLE"].method == "formula" else None

    def minimum_due(self, statement_minor: int, used_minor: int, interest_minor: int = 0) -> int:
        """Return what of a statement must be paid by its due day, in minor units, shares floored (R20).

        ``used_minor`` is the credit in use, ``interest_minor`` the statement's interest.
        """
        rules = self.minimum
        if used_minor <= rules.all_up_to_minor:
            return statement_minor
        base = statement_minor if rules.share_of == "statement" else used_minor
        share = base * rules.share_bps // 10_000 + (interest_minor if rules.plus_interest else 0)
        return min(statement_minor, max(rules.flat_minor, share))

    def rail(self, name: str) -> Rail:
        """Return how final ``name`` is; a rail nobody listed is ``unknown``."""
        return self.rails.get(name, self.rails["unknown"])

    def credited_on(self, repaid_at: datetime) -> date:
        """Return the local day a repayment counts from: it governs interest and lateness (R4)."""
        return self._day(repaid_at, self.calendar.credited_cut_off)

    def banking_day(self, repaid_at: datetime) -> date:
        """Return day T: the local banking day of ``repaid_at`` by the banking cut-off (R16)."""
        return self.banking.on_or_after(self._day(repaid_at, self.calendar.banking_cut_off))

    def release_at(self, day: date) -> datetime:
        """Return the instant credit comes back on ``day``."""
        local = datetime.combine(day, self.calendar.release_time, ZoneInfo(self.timezone))
        return local.astimezone(UTC)

    def due_at(self, repaid_at: datetime, banking_days: int) -> datetime:
        """Return when a part held so many banking days comes back, within the profile's longest hold (R16)."""
        return self._due_at(repaid_at.replace(second=0, microsecond=0), banking_days)

    @cached_property
    def _due_at(self) -> Callable[[datetime, int], datetime]:
        """Days begin on full minutes, so repayments of one minute have the same dates: each is computed once."""
        return lru_cache(maxsize=4_096)(self._computed_due_at)

    def _computed_due_at(self, repaid_at: datetime, banking_days: int) -> datetime:
        latest = self.local_day(repaid_at) + timedelta(days=self.hold["REVERSIBLE"].max_calendar_days)
        return self.release_at(min(latest, self.banking.after(self.banking_day(repaid_at), banking_days)))

    def local_day(self, instant: datetime) -> date:
        """Return the local day of ``instant``."""
        return self._day(instant, END_OF_DAY)

    def tail_calendar_days(self, rail: Rail) -> int:
        """Return how long ``rail`` may take money back; a PENDING one as long as any REVERSIBLE one (domain 3.1)."""
        if rail.rail_class != "PENDING":
            return rail.tail_calendar_days
        reversible = (r.tail_calendar_days for r in self.rails.values() if r.rail_class == "REVERSIBLE")
        return max(reversible, default=rail.tail_calendar_days)

    def _day(self, instant: datetime, cut_off: str) -> date:
        local = instant.astimezone(ZoneInfo(self.timezone))
        early = cut_off == END_OF_DAY or local.time() < time.fromisoformat(cut_off)
        return local.date() if early else local.date() + timedelta(days=1)


@dataclass(frozen=True)
class Calendar:
    """Banking days as data, with the version of their source; outside its years Monday to Friday count."""

    name: str
    banking_days: frozenset[date]

    @cached_property
    def ordered(self) -> tuple[date, ...]:
        """Return the banking days in order."""
        return tuple(sorted(self.banking_days))

    def is_banking_day(self, day: date) -> bool:
        """Tell whether banks work on ``day``."""
        if day in self.banking_days:
            return True
        known = self.ordered and self.ordered[0] <= day <= self.ordered[-1]
        return not known and day.weekday() < SATURDAY

    def on_or_after(self, day: date) -> date:
        """Return the first banking day from ``day`` on."""
        while not self.is_banking_day(day):
            day += timedelta(days=1)
        return day

    def after(self, day: date, banking_days: int) -> date:
        """Return the banking day ``banking_days`` after banking day ``day``."""
        place = bisect_right(self.ordered, day) + banking_days - 1
        if banking_days and self.ordered and self.ordered[0] <= day and place < len(self.ordered):
            return self.ordered[place]
        for _ in range(banking_days):
            day = self.on_or_after(day + timedelta(days=1))
        return day


@lru_cache(maxsize=256)
def longest_hold(calendar: Calendar, banking_days: int) -> int:
    """Return the most calendar days from the day of a repayment to T + ``banking_days``.

    The worst one is made after the cut-off of a banking day: its T is the next.
    """
    days = calendar.ordered
    ends = zip(days, days[banking_days + 1 :], strict=False)
    return max(((end - made).days for made, end in ends), default=0)


@dataclass(frozen=True)
class Profiles:
    """The profile of each product in force, and the table that scores accounts; without one no tier is known."""

    by_product: Mapping[str, Profile]
    credit: Scorecard | None = None

    def of(self, product: str) -> Profile:
        """Return a product's profile; an event that names another product is Malformed."""
        profile = self.by_product.get(product)
        if profile is None:
            raise Malformed(f"unknown_product:{product}")
        return profile


def parse_profile(
    table: Mapping[str, object], calendar: Callable[[str], Calendar], returns: Prior | None = None
) -> Profile:
    """Validate one profile; raise ValueError naming the key that is wrong."""
    rules = table.get("calendar")
    if not isinstance(rules, Mapping):
        raise ValueError("[calendar] is missing")
    name = rules.get("name")
    banking = calendar(str(name)) if name in get_args(CalendarName) else Calendar("", frozenset())
    return Profile.model_validate({**table, "banking": banking, "returns": returns})


def problems(error: ValueError) -> list[tuple[str, str]]:
    """Return (key, what is wrong with it) for each thing a refused profile says wrong."""
    if not isinstance(error, ValidationError):
        return [("", str(error))]
    found = []
    for one in error.errors(include_url=False, include_input=False):
        key, why = map(one.get("ctx", {}).get, ("key", "why"))
        found.append((str(key), str(why)) if key else (".".join(map(str, one["loc"])), one["msg"]))
    return found
