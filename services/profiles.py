"""Loads product profiles from deploy/policy and the banking calendars they name."""

import re
import tomllib
from collections.abc import Callable
from datetime import date, timedelta
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Literal, cast

import holidays
from holidays import HolidayBase

from services.policy import Calendar, Profile, Profiles, parse_profile
from services.prior import Prior
from services.runtime.errors import ConfigurationError
from services.runtime.settings import Settings

YEARS = range(2025, 2031)
Mark = Literal["public", "assumed"]
_TABLE = re.compile(r"^\[(?P<name>[\w.]+)\]$")
_MARKED = re.compile(r"^(?P<key>\w+) = .*# (?P<mark>public|assumed)(?:: .*)?$")
SOURCES: dict[str, Callable[[], HolidayBase]] = {
    "cn-banking": lambda: holidays.country_holidays("CN", years=YEARS),
    "us-fed": lambda: holidays.financial_holidays("XFED", years=YEARS),
}
FOLDER = Path(__file__).parents[1] / "deploy" / "policy"


def load_profiles(settings: Settings) -> Profiles:
    """Return every product's profile; raise ConfigurationError naming the file and the key that is wrong."""
    profiles: dict[str, Profile] = {}
    for path in sorted((settings.policy_dir or FOLDER).glob("*.toml")):
        try:
            profile = parse_profile(tomllib.loads(path.read_text()), calendar, returns())
        except (ValueError, KeyError) as error:
            raise ConfigurationError(f"policy {path.name}: {error}") from error
        profiles[profile.product] = profile
    if not profiles:
        raise ConfigurationError(f"no policy in {settings.policy_dir or FOLDER}")
    return Profiles(profiles)


def marks(text: str) -> dict[str, Mark]:
    """Return by dotted key what the comment behind each value of a profile's file says of its source (domain 6)."""
    found: dict[str, Mark] = {}
    folder = ""
    for line in text.splitlines():
        if table := _TABLE.match(line):
            folder = f"{table['name']}."
        elif value := _MARKED.match(line):
            found[folder + value["key"]] = cast(Mark, value["mark"])
    return found


@cache
def returns() -> Prior:
    """Return the shipped table of how likely repayments are taken back."""
    return Prior.model_validate_json((FOLDER / "models" / "return-prior-1.json").read_text())


@cache
def calendar(name: str) -> Calendar:
    """Return the banking days of 2025 to 2030 under ``name``; the version names the data's source."""
    found = SOURCES[name]()
    working_weekends = frozenset(getattr(found, "weekend_workdays", ()))
    first, days = date(YEARS.start, 1, 1), (date(YEARS.stop, 1, 1) - date(YEARS.start, 1, 1)).days
    banking = frozenset(
        day
        for day in (first + timedelta(days=n) for n in range(days))
        if day not in found and (day.weekday() < 5 or day in working_weekends)
    )
    return Calendar(name=f"{name}@holidays-{version('holidays')}", banking_days=banking)
