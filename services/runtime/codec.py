"""Bytes to events and back: CloudEvents by the SDK, JSON by pydantic, duplicate keys and NUL refused at the edge."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from hashlib import blake2b
from typing import Any, Protocol, cast
from uuid import UUID

from cloudevents.core.bindings.kafka import KafkaMessage, from_binary, from_structured, to_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from pydantic import ValidationError
from typing_extensions import override

from schemas.event import Event
from schemas.topics import TOPIC_OF, TYPE_OF, Topic
from services.decision import Malformed

Headers = Sequence[tuple[str, bytes | None]]
VALUE_MAX = 1_000_000
_CONFLUENT_PREFIX = 5
_INSTANTS = {model: [name for name in model.model_fields if name.endswith(("_at", "_on"))] for model in TOPIC_OF}
_PLAIN = frozenset({"ce_source", "ce_id", "ce_type"})


class Record(Protocol):
    """What the codec needs of a Kafka record."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...


@dataclass(frozen=True, slots=True)
class Decoded:
    """One record's event; None when its type is of no interest to this worker."""

    event: Event | None
    event_key: UUID
    digest: int


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One event ready for the outbox."""

    event_id: UUID
    event_type: str
    topic: str
    account_id: str
    occurred_at: datetime
    traceparent: str
    payload: bytes

    def headers(self) -> list[tuple[str, bytes]]:
        """Return CloudEvents binary headers, equal to what the SDK writes."""
        return [
            *_constant_headers(self.event_type),
            ("ce_id", self.event_id.hex.encode()),
            ("ce_time", self.occurred_at.isoformat().replace("+00:00", "Z").encode()),
            ("ce_subject", self.account_id.encode()),
            ("traceparent", self.traceparent.encode()),
        ]


class _Untouched(JSONFormat):
    """The SDK's JSON format for envelopes; the data stay bytes for pydantic to read once."""

    @override
    def read_data(self, body: bytes, datacontenttype: str | None) -> Any:
        return body

    @override
    def write_data(self, data: Any, datacontenttype: str | None) -> bytes:
        return data if isinstance(data, bytes) else b""


_FORMAT = _Untouched()


def decode(topic: Topic, record: Record, handled: frozenset[type[Event]]) -> Decoded:
    """Read one record of ``topic``; raise Malformed with the reason when it can never be read."""
    value = record.value
    if not value:
        raise Malformed("empty_value")
    if len(value) > VALUE_MAX:
        raise Malformed("value_too_large")
    source, identity, kind, body = _envelope({name: text or b"" for name, text in record.headers}, value)
    model = topic.types.get(kind)
    if model is None:
        raise Malformed("unknown_event_type")
    event = None
    if model in handled:
        event = _event(model, body, edge=topic.edge)
        _same_identity(event, identity, record.key)
    return Decoded(event, inbox_key(source, identity, edge=topic.edge), _digest(body))


def inbox_key(source: str, identity: str, *, edge: bool) -> UUID:
    """Return the idempotency key: ce_source and ce_id together; our own ids are unique by themselves."""
    if edge:
        return UUID(bytes=blake2b(f"{len(source)}:{source}{identity}".encode(), digest_size=16).digest())
    try:
        return UUID(identity)
    except ValueError as error:
        raise Malformed("event_id_not_derived") from error


def encode(event: Event) -> Outgoing:
    """Make an event ready for the outbox."""
    trace = getattr(event, "repayment_id", None) or event.event_id
    return Outgoing(
        event_id=UUID(event.event_id),
        event_type=TYPE_OF[type(event)],
        topic=TOPIC_OF[type(event)].name,
        account_id=event.account_id,
        occurred_at=event.occurred_at,
        traceparent=f"00-{trace}-{event.event_id[:16]}-01",
        payload=event.__pydantic_serializer__.to_json(event),
    )


def binary_headers(event_type: str, source: str, **attributes: Any) -> list[tuple[str, bytes]]:
    """Return CloudEvents binary headers as the SDK writes them."""
    known = {"specversion": "1.0", "source": source, "type": event_type, "dataschema": schema_name(event_type)}
    event = CloudEvent({**known, "datacontenttype": "application/json", **attributes}, b"")
    return list(to_binary(event, _FORMAT).headers.items())


def schema_name(event_type: str) -> str:
    """Return ce_dataschema: a name relative to wherever the schemas are published."""
    return f"/schemas/{event_type}.json"


def headers_to_bytes(headers: Headers) -> bytes:
    """Keep headers of any bytes as JSON."""
    return json.dumps([[name, (value or b"").decode("latin-1")] for name, value in headers]).encode()


def headers_from_bytes(kept: bytes) -> list[tuple[str, bytes]]:
    """Give back what headers_to_bytes kept."""
    return [(name, value.encode("latin-1")) for name, value in json.loads(kept)]


@cache
def _constant_headers(event_type: str) -> list[tuple[str, bytes]]:
    writer = next(topic.writer for event, topic in TOPIC_OF.items() if TYPE_OF[event] == event_type)
    headers = dict(binary_headers(event_type, f"/opentobuy/{writer}", id="id"))
    return [(name, value) for name, value in headers.items() if name not in {"ce_id", "ce_time"}]


def _envelope(headers: Mapping[str, bytes], value: bytes) -> tuple[str, str, str, bytes]:
    """Return (source, id, type, data); the plain binary form is read directly, every other form by the SDK."""
    body = value[_CONFLUENT_PREFIX:] if value[:1] == b"\x00" else value
    try:
        if headers.get("ce_specversion") == b"1.0" and headers.keys() >= _PLAIN:
            names = (headers["ce_source"], headers["ce_id"], headers["ce_type"])
            source, identity, kind = (name.decode() for name in names)
        else:
            source, identity, kind, body = _envelope_by_sdk(headers, body)
    except ValueError as error:
        raise Malformed("not_a_cloudevent") from error
    if not (source and identity and kind):
        raise Malformed("not_a_cloudevent")
    return source, identity, kind, body


def _envelope_by_sdk(headers: Mapping[str, bytes], value: bytes) -> tuple[str, str, str, bytes]:
    known = {name.lower(): text for name, text in headers.items() if name.lower().startswith(("ce_", "content-type"))}
    message = KafkaMessage(headers=known, key=None, value=value)
    structured = known.get("content-type", b"").lower().startswith(b"application/cloudevents")
    try:
        event = from_structured(message, JSONFormat(), _named) if structured else from_binary(message, _FORMAT, _named)
        f"{event.get_source()}{event.get_id()}".encode()  # a lone surrogate is no text
    except Exception as error:  # the SDK raises what its parsers raise; all of it means one thing here
        raise Malformed("not_a_cloudevent") from error
    if structured:
        _unique(value)
    data = event.get_data()
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    return event.get_source(), event.get_id(), event.get_type(), body


def _named(attributes: dict[str, Any], data: Any) -> CloudEvent:
    """Keep the SDK from making up an id where the sender gave none."""
    return CloudEvent({"id": "", **attributes}, data)


def _event(model: type[Event], body: bytes, *, edge: bool) -> Event:
    if edge:
        _written_out(model, _unique(body))
    try:
        return cast(Event, model.__pydantic_validator__.validate_json(body))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "body"
        raise Malformed(f"invalid:{place}:{first['type']}") from error


def _written_out(model: type[Event], raw: object) -> None:
    """Refuse a number in a string where ``model`` has an instant or a day; keys it does not know are let be."""
    known = {name: raw.get(name) for name in _INSTANTS[model]} if isinstance(raw, dict) else {}
    for name, value in known.items():
        if isinstance(value, str) and value.isdigit():
            raise Malformed(f"invalid:{name}:number_as_instant")


def _unique(body: bytes) -> object:
    try:
        return _DECODER.decode(body.decode())
    except UnicodeDecodeError as error:
        raise Malformed("not_utf8") from error
    except (ValueError, RecursionError) as error:
        raise Malformed("not_json") from error


def _no_duplicates(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    listed = list(pairs)
    found = dict(listed)
    if len(found) != len(listed):
        raise Malformed("duplicate_json_key")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_no_duplicates)


def _same_identity(event: Event, identity: str, key: bytes | None) -> None:
    if event.event_id != identity:
        raise Malformed("event_id_not_ce_id")
    if key != event.account_id.encode():
        raise Malformed("key_not_account_id")


def _digest(body: bytes) -> int:
    return int.from_bytes(blake2b(body, digest_size=8).digest(), "big", signed=True)
