"""Loads product profiles from deploy/policy and the banking calendars they name."""

import json
import re
import tomllib
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Literal, cast

from services.policy import Calendar, Profile, Profiles, parse_profile
from services.prior import Prior
from services.runtime.errors import ConfigurationError
from services.runtime.settings import Settings
from services.scorecard import Scorecard

Mark = Literal["public", "assumed"]
_TABLE = re.compile(r"^\[(?P<name>[\w.]+)\]$")
_MARKED = re.compile(r"^(?P<key>\w+) = .*# (?P<mark>public|assumed)(?:: .*)?$")
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
def credit_score() -> Scorecard:
    """Return the shipped table of the credit score."""
    return Scorecard.model_validate_json((FOLDER / "models" / "credit-score-1.json").read_text())


@cache
def calendar(name: str) -> Calendar:
    """Return the banking days under ``name`` for its file's years; the version names the data's source."""
    told = json.loads((FOLDER / "calendars" / f"{name}.json").read_text())
    first, end = date(told["first_year"], 1, 1), date(told["last_year"] + 1, 1, 1)
    weekdays = {day for day in (first + timedelta(days=n) for n in range((end - first).days)) if day.weekday() < 5}
    closed, opened = ({date.fromisoformat(day) for day in told[key]} for key in ("closed_weekdays", "open_weekends"))
    return Calendar(name=f"{name}@{told['source']}", banking_days=frozenset(weekdays - closed | opened))
