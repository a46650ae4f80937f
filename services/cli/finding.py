"""What a check found, and what to do about it."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "broken", "unknown"]
"""A warning can wait; what is broken loses or stops something; unknown is what could not be asked."""
SHOWN_MAX = 8


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing checked: what was found, and what to do when it is not right."""

    check: str
    level: Level
    found: str
    fix: str = ""


def told(check: str, wrong: Collection[str], right: str, fix: str, level: Level = "broken") -> Finding:
    """Return what is wrong and its fix, or that all of it is ``right``."""
    if not wrong:
        return Finding(check, "ok", right)
    more = f" and {len(wrong) - SHOWN_MAX} more" if len(wrong) > SHOWN_MAX else ""
    return Finding(check, level, "; ".join(sorted(wrong)[:SHOWN_MAX]) + more, fix)
