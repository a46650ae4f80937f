"""Loads product profiles from deploy/policy and the banking calendars they name."""

import tomllib
from datetime import date, timedelta
from functools import cache
from importlib.metadata import version
from pathlib import Path

import holidays

from services.policy import Calendar, Profile, Profiles, parse_profile
from services.runtime.errors import ConfigurationError
from services.runtime.settings import Settings

YEARS = range(2025, 2031)
COUNTRY = {"cn-banking": "CN", "us-fed": "US"}
FOLDER = Path(__file__).parents[1] / "deploy" / "policy"


def load_profiles(settings: Settings) -> Profiles:
    """Return every product's profile; raise ConfigurationError naming the file and the key that is wrong."""
    profiles: dict[str, Profile] = {}
    for path in sorted((settings.policy_dir or FOLDER).glob("*.toml")):
        try:
            profile = parse_profile(tomllib.loads(path.read_text()), calendar)
        except (ValueError, KeyError) as error:
            raise ConfigurationError(f"policy {path.name}: {error}") from error
        profiles[profile.product] = profile
    if not profiles:
        raise ConfigurationError(f"no policy in {settings.policy_dir or FOLDER}")
    return Profiles(profiles)


@cache
def calendar(name: str) -> Calendar:
    """Return the banking days of 2025 to 2030 under ``name``; the version names the data's source."""
    found = holidays.country_holidays(COUNTRY[name], years=YEARS)
    working_weekends = frozenset(getattr(found, "weekend_workdays", ()))
    first, days = date(YEARS.start, 1, 1), (date(YEARS.stop, 1, 1) - date(YEARS.start, 1, 1)).days
    banking = frozenset(
        day
        for day in (first + timedelta(days=n) for n in range(days))
        if day not in found and (day.weekday() < 5 or day in working_weekends)
    )
    return Calendar(name=f"{name}@holidays-{version('holidays')}", banking_days=banking)
