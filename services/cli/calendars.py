"""Banking calendars as files: made here from the maintained library, so that no worker loads every country's rules."""

import json
from collections.abc import Callable
from datetime import date, timedelta
from importlib.metadata import version
from typing import Final

import holidays
from holidays import HolidayBase

YEARS: Final = range(2025, 2031)
SOURCES: Final[dict[str, Callable[[], HolidayBase]]] = {
    "cn-banking": lambda: holidays.country_holidays("CN", years=YEARS),
    "us-fed": lambda: holidays.financial_holidays("XFED", years=YEARS),
}


def calendar_files() -> dict[str, str]:
    """Return each calendar's file by its path: its source, its years, and where it differs from Monday to Friday."""
    return {f"deploy/policy/calendars/{name}.json": _file(made()) for name, made in SOURCES.items()}


def _file(found: HolidayBase) -> str:
    working = frozenset(getattr(found, "weekend_workdays", ()))
    first, end = date(YEARS.start, 1, 1), date(YEARS.stop, 1, 1)
    days = [first + timedelta(days=n) for n in range((end - first).days)]
    told = {
        "source": f"holidays-{version('holidays')}",
        "first_year": YEARS.start,
        "last_year": YEARS.stop - 1,
        "closed_weekdays": [str(day) for day in days if day.weekday() < 5 and day in found],
        "open_weekends": [str(day) for day in days if day.weekday() >= 5 and day in working and day not in found],
    }
    return json.dumps(told, indent=1) + "\n"
