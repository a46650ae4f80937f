"""What was restored, counted into windows of ten seconds in memory: what the live picture shows and nobody keeps."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from faust.windows import TumblingWindow

from schemas.event import milliseconds_between
from schemas.ids import PROBE_ACCOUNT
from schemas.restoration import CreditRestored
from schemas.topics import TOPIC_OF
from services.lag_monitor import WINDOW_SECONDS
from services.runtime.clock import from_epoch_ms

TOPIC: Final = TOPIC_OF[CreditRestored]
KEPT: Final = 60
TUMBLING: Final = TumblingWindow(WINDOW_SECONDS)


@dataclass(slots=True)
class Window:
    """What was restored within ten seconds: parts, their milliseconds by the cause that took most, the longest."""

    parts: int = 0
    longest_ms: int = 0
    spent_ms: Counter[str] = field(default_factory=Counter)

    def add(self, event: CreditRestored) -> None:
        """Count one part."""
        ms = milliseconds_between(event.repaid_at, event.restored_at)
        self.parts += 1
        self.longest_ms = max(self.longest_ms, ms)
        self.spent_ms[event.cause] += ms


class Picture:
    """The newest windows by when they begin, seconds since 1970; older ones are let go."""

    def __init__(self) -> None:
        self.windows: dict[float, Window] = {}

    def add(self, events: Iterable[CreditRestored]) -> None:
        """Count restored parts into the windows they were restored in, the probe's apart: nobody waits for it."""
        for event in (each for each in events if each.account_id != PROBE_ACCOUNT):
            begin, _ = TUMBLING.current(event.restored_at.timestamp())
            self.windows.setdefault(begin, Window()).add(event)
        for begin in sorted(self.windows)[:-KEPT]:
            del self.windows[begin]

    def described(self) -> list[dict[str, Any]]:
        """Return the windows for programs, the oldest first."""
        return [
            {
                "from": _instant(begin),
                "until": _instant(begin) + timedelta(seconds=WINDOW_SECONDS),
                "parts": window.parts,
                "mean_ms": round(window.spent_ms.total() / window.parts),
                "longest_ms": window.longest_ms,
                "by_cause_ms": dict(window.spent_ms),
            }
            for begin, window in sorted(self.windows.items())
        ]


def _instant(seconds: float) -> datetime:
    return from_epoch_ms(round(seconds * 1000))
