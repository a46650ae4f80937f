"""Ready: partitions assigned, database answered, loop moved within 30 s. Live: loop moved within 5 min."""

from services.runtime.clock import monotonic
from services.runtime.consumer import BatchConsumer

READY_SECONDS = 30.0
LIVE_SECONDS = 300.0


def ready(money: BatchConsumer | None) -> str | None:
    """Return why the worker is not ready, None when it is."""
    if money is None or not money.assigned:
        return "no partitions assigned"
    if money.connection is None or money.connection.is_closed():
        return "the database does not answer"
    if monotonic() - money.progressed_at > READY_SECONDS:
        return "the loop does not move"
    return None


def live(money: BatchConsumer | None) -> str | None:
    """Return why the worker should be restarted, None while it need not be."""
    return "the loop stands still" if money and monotonic() - money.progressed_at > LIVE_SECONDS else None
