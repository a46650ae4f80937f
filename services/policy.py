"""Product profiles as values: what deploy/policy/<product>.toml says, validated, versioned, pinned in decisions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Annotated, Literal, get_args
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.account import Timezone
from schemas.money import Currency, ShareMinor
from services.decision import Malformed

Component = Literal["penalty", "fee", "interest", "principal"]
RailClass = Literal["FINAL", "REVERSIBLE", "PENDING"]
END_OF_DAY = "24:00"
CutOff = Annotated[str, Field(pattern=r"^(([01]\d|2[0-3]):[0-5]\d|24:00)$")]
TIERS: frozenset[str] = frozenset(("A", "B", "C", "D", "E", "unknown"))


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
            raise ValueError("waterfall.component must list every component once")
        return self


class CalendarRules(_Table):
    """Which calendar, and the local times at which a day ends and credit comes back."""

    name: Literal["cn-banking", "us-fed"]
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


class Hold(_Table):
    """When credit of a reversible rail comes back."""

    window_hours: Annotated[int, Field(ge=1, le=2_400)]
    method: Literal["schedule", "formula"] = "schedule"
    rest: tuple[Rest, ...]
    verified_funding_account: tuple[Rest, ...]
    refer_banking_days: Annotated[int, Field(ge=0, le=16)] = 1
    max_calendar_days: Annotated[int, Field(ge=1, le=30)]

    @model_validator(mode="after")
    def _shares_add_up(self) -> "Hold":
        for shares in (self.rest, self.verified_funding_account):
            if sum(rest.share_bps for rest in shares) != 10_000:
                raise ValueError("shares must add up to 10000 basis points")
        return self


class Promise(_Table):
    """How soon credit is promised."""

    clear_seconds: Annotated[int, Field(ge=1, le=86_400)]
    hold_slack_seconds: Annotated[int, Field(ge=0, le=86_400)]
    extensions_max: Annotated[int, Field(ge=0, le=5)]


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
    banking: "Calendar" = Field(exclude=True)

    @model_validator(mode="after")
    def _complete(self) -> "Profile":
        if "unknown" not in self.rails:
            raise ValueError("rails.unknown is missing")
        if "REVERSIBLE" not in self.hold:
            raise ValueError("hold.REVERSIBLE is missing")
        hold = self.hold["REVERSIBLE"]
        if self.product != "demo" and any(rest.seconds for rest in (*hold.rest, *hold.verified_funding_account)):
            raise ValueError("rests in seconds are for the demo's profile only")
        if missing := TIERS - self.instant_cap_by_tier.keys():
            raise ValueError(f"instant_cap_by_tier.{min(missing)} is missing")
        return self

    @property
    def policy_version(self) -> str:
        """Return what a decision pins, for example default@2026-11-01.1."""
        return f"{self.product}@{self.version}"

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
        return local.astimezone(ZoneInfo("UTC"))

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
        late = cut_off != END_OF_DAY and local.time() >= time.fromisoformat(cut_off)
        return local.date() + timedelta(days=int(late))


@dataclass(frozen=True)
class Calendar:
    """Banking days as data, with the version of their source."""

    name: str
    banking_days: frozenset[date]

    def on_or_after(self, day: date) -> date:
        """Return the first banking day from ``day`` on."""
        for _ in range(30):
            if day in self.banking_days:
                return day
            day += timedelta(days=1)
        raise ValueError(f"no banking day near {day} in {self.name}")

    def after(self, day: date, banking_days: int) -> date:
        """Return the banking day ``banking_days`` after banking day ``day``."""
        for _ in range(banking_days):
            day = self.on_or_after(day + timedelta(days=1))
        return day


@dataclass(frozen=True)
class Profiles:
    """The profile of each product in force."""

    by_product: Mapping[str, Profile]

    def of(self, product: str) -> Profile:
        """Return a product's profile; an event that names another product is Malformed."""
        profile = self.by_product.get(product)
        if profile is None:
            raise Malformed(f"unknown_product:{product}")
        return profile


def parse_profile(table: Mapping[str, object], calendar: Callable[[str], Calendar]) -> Profile:
    """Validate one profile; raise ValueError naming the key that is wrong."""
    rules = table.get("calendar")
    if not isinstance(rules, Mapping):
        raise ValueError("[calendar] is missing")
    return Profile.model_validate({**table, "banking": calendar(str(rules.get("name")))})
