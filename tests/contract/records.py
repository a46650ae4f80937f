"""Records as Kafka would give them, made from events."""

from dataclasses import dataclass

from schemas.event import Event
from schemas.topics import TOPIC_OF
from services.billing_simulator.headers import billing_headers
from services.runtime.codec import Decoded, Headers, decode, encode
from tests.builders import SOURCE


@dataclass(frozen=True)
class Record:
    key: bytes | None
    value: bytes | None
    headers: Headers


def headers_of(event: Event) -> list[tuple[str, bytes]]:
    """Return the headers its writer sends: billing's client for the edge, ours for the rest."""
    return billing_headers(event, SOURCE) if TOPIC_OF[type(event)].edge else encode(event).headers()


def record_of(event: Event) -> Record:
    return Record(event.account_id.encode(), encode(event).payload, headers_of(event))


def read(event: Event, record: Record) -> Decoded:
    """Decode ``record`` as a worker does that handles the type of ``event``."""
    return decode(TOPIC_OF[type(event)], record, frozenset({type(event)}))
