"""What a billing client puts on the wire beside the event itself."""

from schemas.event import Event
from schemas.topics import TYPE_OF
from services.runtime.codec import binary_headers


def billing_headers(event: Event, source: str) -> list[tuple[str, bytes]]:
    """Return the CloudEvents binary headers a billing client sends with ``event``."""
    return binary_headers(
        TYPE_OF[type(event)], f"/{source}", id=event.event_id, time=event.occurred_at, subject=event.account_id
    )
