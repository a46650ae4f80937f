"""What was sent stays readable, and what we send stays the same bytes."""

import json
from collections.abc import Callable
from uuid import UUID

import pytest
from cloudevents.core.bindings.kafka import to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from schemas.event import Event
from schemas.ids import EventId
from schemas.settlement import Owed, RepaymentSettled
from schemas.topics import BILLING_REPAYMENT, TOPIC_OF, TYPE_OF
from services.runtime.codec import (
    Outgoing,
    decode,
    encode,
    headers_from_bytes,
    headers_to_bytes,
    inbox_key,
    schema_name,
)
from tests import builders
from tests.contract.records import Record, headers_of, read, record_of
from tests.contract.regenerate import GOLDEN, goldens

Build = Callable[[], Event]
CONFLUENT = b"\x00\x00\x00\x00\x07"
every_event = pytest.mark.parametrize("build", builders.ALL, ids=lambda build: build.__name__)


def envelope(event: Event) -> dict[str, object]:
    """Return the CloudEvents attributes of an event our own services write."""
    return {
        "specversion": "1.0",
        "id": event.event_id,
        "source": f"/opentobuy/{TOPIC_OF[type(event)].writer}",
        "type": TYPE_OF[type(event)],
        "time": event.occurred_at,
        "subject": event.account_id,
        "dataschema": schema_name(TYPE_OF[type(event)]),
        "datacontenttype": "application/json",
    }


def structured(event: Event) -> Record:
    message = to_structured(CloudEvent(envelope(event), json.loads(encode(event).payload)), JSONFormat())
    return Record(event.account_id.encode(), message.value, list(message.headers.items()))


def test_there_is_one_builder_for_each_event_in_the_order_of_the_topics() -> None:
    assert [type(build()) for build in builders.ALL] == list(TYPE_OF)


def test_equal_calls_make_equal_events_and_other_content_another_id() -> None:
    assert [build() for build in builders.ALL] == [build() for build in builders.ALL]
    ids = {build().event_id for build in builders.ALL} | {builders.repayment_reported(amount_minor=1).event_id}
    assert len(ids) == len(builders.ALL) + 1


def test_a_builder_refuses_a_field_its_event_does_not_have() -> None:
    with pytest.raises(TypeError, match="amount"):
        builders.repayment_reported(amount=1)


def test_the_committed_golden_files_are_what_the_builders_make() -> None:
    assert {path.name: path.read_bytes() for path in GOLDEN.glob("*.json")} == goldens()


@every_event
def test_golden_bytes_are_read_and_written_again_the_same(build: Build) -> None:
    event = build()
    value = (GOLDEN / f"{type(event).__name__}.json").read_bytes()
    headers = json.loads((GOLDEN / f"{type(event).__name__}.headers.json").read_bytes())
    record = Record(event.account_id.encode(), value, [(name, text.encode()) for name, text in headers])
    decoded = read(event, record)
    assert decoded.event == event
    assert encode(event).payload == value


@every_event
def test_headers_are_those_the_cloudevents_sdk_writes(build: Build) -> None:
    event = build()
    outgoing = encode(event)
    theirs = to_binary(CloudEvent(envelope(event), outgoing.payload), JSONFormat())
    expected = theirs.headers | {"traceparent": outgoing.traceparent.encode()}
    assert dict(outgoing.headers()) == expected
    assert len(outgoing.headers()) == len(expected)
    assert theirs.value == outgoing.payload


@every_event
def test_an_outgoing_event_names_its_topic_account_and_trace(build: Build) -> None:
    event = build()
    trace = getattr(event, "repayment_id", None) or event.event_id
    assert encode(event) == Outgoing(
        event_id=UUID(event.event_id),
        event_type=TYPE_OF[type(event)],
        topic=TOPIC_OF[type(event)].name,
        account_id=event.account_id,
        occurred_at=event.occurred_at,
        traceparent=f"00-{trace}-{event.event_id[:16]}-01",
        payload=encode(event).payload,
    )


@every_event
def test_structured_mode_is_read(build: Build) -> None:
    event = build()
    assert read(event, structured(event)).event == event


@every_event
@pytest.mark.parametrize("spell", [str.upper, str.title], ids=["upper", "title"])
def test_header_names_of_any_case_are_read(build: Build, spell: Callable[[str], str]) -> None:
    event = build()
    record = record_of(event)
    odd = Record(record.key, record.value, [(spell(name), value) for name, value in record.headers])
    assert read(event, odd) == read(event, record)


def test_header_names_of_mixed_case_are_read() -> None:
    event = builders.repayment_reported()
    record = record_of(event)
    headers = [("Ce_Id" if name == "ce_id" else name, value) for name, value in record.headers]
    assert read(event, Record(record.key, record.value, headers)) == read(event, record)


def test_the_content_type_of_structured_mode_is_read_in_any_case_and_with_parameters() -> None:
    event = builders.repayment_reported()
    record = structured(event)
    headers = [("Content-Type", b"Application/CloudEvents+JSON; charset=UTF-8"), ("other", b"\xff")]
    assert read(event, Record(record.key, record.value, headers)).event == event


def test_structured_mode_with_base64_data_is_read() -> None:
    event = builders.repayment_reported()
    message = to_structured(CloudEvent(envelope(event), encode(event).payload), JSONFormat())
    assert b"data_base64" in message.value
    assert read(event, Record(event.account_id.encode(), message.value, list(message.headers.items()))).event == event


@pytest.mark.parametrize("of", [record_of, structured], ids=["binary", "structured"])
def test_a_confluent_prefix_is_stripped(of: Callable[[Event], Record]) -> None:
    event = builders.repayment_reported()
    record = of(event)
    prefixed = Record(record.key, CONFLUENT + (record.value or b""), record.headers)
    assert read(event, prefixed) == read(event, record)


@pytest.mark.parametrize("value", [None, b"\xff\x00"], ids=["null", "binary"])
@pytest.mark.parametrize("spell", [str.lower, str.upper], ids=["lower", "upper"])
def test_headers_of_others_do_not_disturb(value: bytes | None, spell: Callable[[str], str]) -> None:
    event = builders.repayment_reported()
    record = record_of(event)
    headers = [(spell(name), text) for name, text in record.headers]
    assert read(event, Record(record.key, record.value, [*headers, ("other", value)])) == read(event, record)


def test_unknown_keys_and_white_space_are_ignored() -> None:
    event = builders.repayment_reported()
    value = json.dumps(json.loads(encode(event).payload) | {"added": {"later": [1.5, None]}}, indent=4)
    record = Record(event.account_id.encode(), f"\n {value} \r\n".encode(), headers_of(event))
    assert read(event, record).event == event


def test_an_instant_with_another_offset_is_the_same_instant() -> None:
    event = builders.repayment_reported()
    value = encode(event).payload.replace(b"2026-11-20T14:00:00Z", b"2026-11-20T22:00:00+08:00")
    assert b"+08:00" in value
    assert read(event, Record(event.account_id.encode(), value, headers_of(event))).event == event


def test_an_event_of_no_interest_is_not_read() -> None:
    event = builders.repayment_reported()
    record = Record(b"another", b"not json", headers_of(event))
    decoded = decode(BILLING_REPAYMENT, record, frozenset())
    assert decoded.event is None
    assert decoded.event_key == read(event, record_of(event)).event_key


def test_billing_is_known_by_source_and_id_and_we_by_our_id() -> None:
    assert inbox_key("/a", "bc", edge=True) != inbox_key("/ab", "c", edge=True)
    assert inbox_key("/a", "1", edge=True) != inbox_key("/b", "1", edge=True)
    own = builders.risk_assessed()
    assert read(own, record_of(own)).event_key == UUID(own.event_id)


def test_the_digest_tells_other_content_of_the_same_id() -> None:
    event = builders.repayment_reported()
    record = record_of(event)
    other = Record(record.key, (record.value or b"").replace(b"500000", b"500001"), record.headers)
    assert read(event, other).event_key == read(event, record).event_key
    assert read(event, other).digest != read(event, record).digest


def test_headers_of_any_bytes_are_kept() -> None:
    headers = [("ce_id", b"1"), ("other", bytes(range(256))), ("ce_id", b"")]
    assert headers_from_bytes(headers_to_bytes(headers)) == headers
    assert headers_from_bytes(headers_to_bytes([("null", None)])) == [("null", b"")]


def test_what_is_owed_is_an_array_of_six_on_the_wire_and_is_read_again_the_same() -> None:
    owed = Owed(2, EventId("fee-3"), 100, 20, 0, (EventId("buy-2"), EventId("buy-1")))
    event = builders.repayment_settled(owed=owed)
    body = event.model_dump_json()
    assert '"owed":[2,"fee-3",100,20,0,["buy-2","buy-1"]]' in body
    assert RepaymentSettled.model_validate_json(body) == event
