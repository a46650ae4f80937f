"""The only place that reads a clock of this machine; business instants come from the database."""

from datetime import UTC, datetime
from functools import lru_cache
from time import monotonic as _monotonic


def monotonic() -> float:
    """Return seconds on a clock that never goes back."""
    return _monotonic()


def utc_now() -> datetime:
    """Return this machine's time; for logs, demos and tests only."""
    return datetime.now(UTC)


@lru_cache(maxsize=1_024)
def from_epoch_ms(milliseconds: int) -> datetime:
    """Return the UTC instant of a broker timestamp; one produce request's records share it."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).replace(microsecond=milliseconds % 1000 * 1000)
