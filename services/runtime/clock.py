"""The only place that reads a clock of this machine; business instants come from the database."""

from datetime import UTC, datetime
from time import monotonic as _monotonic


def monotonic() -> float:
    """Return seconds on a clock that never goes back."""
    return _monotonic()


def utc_now() -> datetime:
    """Return this machine's time; for logs, demos and tests only."""
    return datetime.now(UTC)


def from_epoch_ms(milliseconds: int) -> datetime:
    """Return the UTC instant of a broker timestamp."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).replace(microsecond=milliseconds % 1000 * 1000)
