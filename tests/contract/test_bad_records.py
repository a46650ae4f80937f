"""A record that can never be read is Malformed with its reason, whatever it holds, and never another error."""

import gzip
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.event import Event
from schemas.topics import BILLING_REPAYMENT, RISK, TYPE_OF
from services.decision import Malformed
from services.runtime.codec import VALUE_MAX, decode, encode
from tests import builders
from tests.contract.records import Record, headers_of, read

REPORTED = builders.repayment_reported()
ASSESSED = builders.risk_assessed()
REPORTED_TYPE = TYPE_OF[type(REPORTED)]
STRUCTURED = [("content-type", b"application/cloudevents+json")]
DEEP = 5_000


def short(value: object) -> str:
    """Return a name for a case that fits a line."""
    return ascii(value)[:32]


def body(event: Event = REPORTED, /, **raw: str) -> bytes:
    """Return the event's JSON with fields replaced by raw text, which need not be JSON."""
    fields = {name: json.dumps(value) for name, value in json.loads(encode(event).payload).items()} | raw
    return f"{{{', '.join(f'{json.dumps(name)}: {text}' for name, text in fields.items())}}}".encode()


def reason_of(value: bytes | None, headers: Sequence[tuple[str, bytes | None]] | None = None, **other: Any) -> str:
    """Return why a record with this value is malformed."""
    event = other.get("event", REPORTED)
    key = other.get("key", event.account_id.encode())
    with pytest.raises(Malformed) as caught:
        read(event, Record(key, value, headers_of(event) if headers is None else headers))
    return str(caught.value)


def changed(name: str, value: bytes | None, event: Event = REPORTED) -> list[tuple[str, bytes | None]]:
    return [(at, value if at == name else text) for at, text in headers_of(event)]


def without(name: str) -> list[tuple[str, bytes | None]]:
    return [(at, text) for at, text in headers_of(REPORTED) if at != name]


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        ("10.0", "int_type"),
        ("10.5", "int_type"),
        ("1e3", "int_type"),
        ('"10"', "int_type"),
        ("true", "int_type"),
        ("null", "int_type"),
        ("-1", "greater_than"),
        ("0", "greater_than"),
        ("-0", "greater_than"),
        (str(10**15 + 1), "less_than_equal"),
        (str(2**63), "less_than_equal"),
        ("1" * 4_000, "less_than_equal"),
        ("NaN", "int_type"),
        ("Infinity", "int_type"),
        ("-Infinity", "int_type"),
        ("[1]", "int_type"),
        ("{}", "int_type"),
    ],
    ids=short,
)
def test_an_amount_is_a_whole_number_of_minor_units(raw: str, kind: str) -> None:
    assert reason_of(body(amount_minor=raw)) == f"invalid:amount_minor:{kind}"


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        ('"2026-11-20T14:00:00"', "timezone_aware"),
        ('"9999-12-31T23:59:59Z"', "less_than"),
        ('"2200-01-01T00:00:00Z"', "less_than"),
        ('"1999-12-31T23:59:59Z"', "greater_than_equal"),
        ('"0001-01-01T00:00:00+23:59"', "greater_than_equal"),
        ("1763647200", "datetime_type"),
        ("1763647200.5", "datetime_type"),
        ('"1763647200"', "number_as_instant"),
        ('"2026-11-20T14:00:60Z"', "datetime_parsing"),
        ('"2026-11-20T24:00:00Z"', "datetime_parsing"),
        ('"2026-02-30T14:00:00Z"', "datetime_parsing"),
        ('"2026-11-20"', "datetime_parsing"),
        ('"yesterday"', "datetime_parsing"),
        ('""', "datetime_parsing"),
        ("null", "datetime_type"),
    ],
)
def test_an_instant_has_an_offset_and_a_year_of_this_time(raw: str, kind: str) -> None:
    assert reason_of(body(repaid_at=raw)) == f"invalid:repaid_at:{kind}"


def test_a_key_the_model_does_not_know_is_ignored_whatever_it_holds() -> None:
    value = body(REPORTED, batch_closed_at='"20261120"')
    found = read(REPORTED, Record(REPORTED.account_id.encode(), value, headers_of(REPORTED)))
    assert found.event == REPORTED


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        ("1763596800", "date_type"),
        ('"2026-11-20T01:00:00Z"', "date_parsing"),
        ('"20261120"', "number_as_instant"),
        ('"2026-02-30"', "date_parsing"),
    ],
)
def test_a_day_is_a_calendar_day(raw: str, kind: str) -> None:
    event = builders.statement_issued()
    assert reason_of(body(event, due_on=raw), event=event) == f"invalid:due_on:{kind}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " dd-1",
        "dd 1",
        "dd-1\n",
        "dd-1\r",
        "a\u0000b",
        "аcct",  # its first letter is Cyrillic
        "dd\u20111",
        "dd\u200b1",
        "\u202edd1",
        "dd１",
        "-dd",
        "d" * 129,
        "dd'; DROP TABLE x",
        "{{7*7}}",
    ],
    ids=short,
)
def test_a_reference_is_plain_ascii(text: str) -> None:
    assert reason_of(body(external_ref=json.dumps(text))) == "invalid:external_ref:string_pattern_mismatch"


@pytest.mark.parametrize(
    ("field", "raw", "reason"),
    [
        ("external_ref", '"a\\ud800"', "invalid:body:json_invalid"),
        ("external_ref", '"a\nb"', "not_json"),
        ("external_ref", "7", "invalid:external_ref:string_type"),
        ("currency", '"cny"', "invalid:currency:string_pattern_mismatch"),
        ("currency", '"CNY\\n"', "invalid:currency:string_pattern_mismatch"),
        ("status", '"failed"', "invalid:status:literal_error"),
        ("method", "0", "invalid:method:literal_error"),
        ("added", "1" * DEEP, "not_json"),
        ("added", "[" * DEEP + "]" * DEEP, "not_json"),
        ("added", '{"a": ' * DEEP + "1" + "}" * DEEP, "not_json"),
        ("added", "[" * 500 + "]" * 500, "invalid:body:json_invalid"),
        ("added", '{"a": 1, "a": 1}', "duplicate_json_key"),
        ("amount_minor", '1, "amount_minor": 2', "duplicate_json_key"),
    ],
    ids=short,
)
def test_a_bad_field_is_named(field: str, raw: str, reason: str) -> None:
    assert reason_of(body(**{field: raw})) == reason


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("Mars/Olympus", "invalid:timezone:value_error"),
        ("../../etc/passwd", "invalid:timezone:string_pattern_mismatch"),
    ],
)
def test_a_time_zone_is_one_of_the_iana_names(raw: str, reason: str) -> None:
    event = builders.account_opened()
    assert reason_of(body(event, timezone=json.dumps(raw)), event=event) == reason


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty_value"),
        (b"", "empty_value"),
        (b" ", "not_json"),
        (b"{", "not_json"),
        (b"{}", "invalid:event_id:missing"),
        (b"[]", "invalid:body:model_type"),
        (b"null", "invalid:body:model_type"),
        (b'"text"', "invalid:body:model_type"),
        (b"\xef\xbb\xbf" + body(), "not_json"),
        (body().decode().encode("utf-16"), "not_utf8"),
        (body() + b"{}", "not_json"),
        (body() + b"\x00", "not_json"),
        (body(added='"?"').replace(b"?", b"\xff"), "not_utf8"),
        (body(added='"?"').replace(b"?", b"\xed\xa0\x80"), "not_utf8"),
        (body(added='"?"').replace(b"?", b"\xc0\xaf"), "not_utf8"),
        (body(added=f'"{"x" * 10_000_000}"'), "value_too_large"),
        (b" " * (VALUE_MAX + 1), "value_too_large"),
        (b"[" * DEEP, "not_json"),
        (gzip.compress(body()), "not_utf8"),
        (b"\x00", "not_json"),
        (b"\x00\x00\x00\x00\x01", "not_json"),
        (b"\x00\x00\x00\x00\x01{", "not_json"),
    ],
    ids=short,
)
def test_a_value_is_one_json_object(value: bytes | None, reason: str) -> None:
    assert reason_of(value) == reason


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([], "not_a_cloudevent"),
        ([("content-type", b"application/json")], "not_a_cloudevent"),
        ([("content-type", None)], "not_a_cloudevent"),
        (without("ce_id"), "not_a_cloudevent"),
        (without("ce_source"), "not_a_cloudevent"),
        (without("ce_type"), "not_a_cloudevent"),
        (changed("ce_id", b""), "not_a_cloudevent"),
        (changed("ce_id", None), "not_a_cloudevent"),
        (changed("ce_source", None), "not_a_cloudevent"),
        (changed("ce_type", None), "not_a_cloudevent"),
        (changed("ce_id", b"\xff"), "not_a_cloudevent"),
        (changed("ce_specversion", b"2.0"), "not_a_cloudevent"),
        (changed("ce_specversion", None), "not_a_cloudevent"),
        (changed("ce_id", b"another"), "event_id_not_ce_id"),
        (changed("ce_type", b"opentobuy.billing.repayment.Unheard.v1"), "unknown_event_type"),
        (changed("ce_type", b"opentobuy.billing.repayment.RepaymentReported.v999"), "unknown_event_type"),
        (changed("ce_type", b"opentobuy.repayment.risk.RiskAssessed.v1"), "unknown_event_type"),
    ],
    ids=short,
)
def test_headers_are_those_of_a_cloudevent(headers: list[tuple[str, bytes | None]], reason: str) -> None:
    assert reason_of(body(), headers) == reason


@pytest.mark.parametrize("key", [None, b"", b"acct_2", b"acct_1\n", b"\xff", b'"acct_1"'])
def test_the_key_is_the_account(key: bytes | None) -> None:
    assert reason_of(body(), key=key) == "key_not_account_id"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ('[[1, 10.0, "2026-11-20T14:00:00Z", "RETURNED"]]', "invalid:tranches.0.1:int_type"),
        ('[[1, "10", "2026-11-20T14:00:00Z", "RETURNED"]]', "invalid:tranches.0.1:int_type"),
        ('[[1, 10, 1763647200, "RETURNED"]]', "invalid:tranches.0.2:datetime_type"),
        ('[[1, 10, "2026-11-20T14:00:00", "RETURNED"]]', "invalid:tranches.0.2:timezone_aware"),
        ('[[1, 10, "2026-11-20T14:00:00Z", "WHIM"]]', "invalid:tranches.0.3:enum"),
        ('[[true, 10, "2026-11-20T14:00:00Z", "RETURNED"]]', "invalid:tranches.0.0:int_type"),
    ],
)
def test_the_parts_of_our_own_events_are_as_strict(raw: str, reason: str) -> None:
    assert reason_of(body(ASSESSED, tranches=raw), event=ASSESSED) == reason


def test_our_own_events_have_a_derived_id() -> None:
    event = builders.risk_assessed(event_id="assessed-1")
    headers = changed("ce_id", b"assessed-1", ASSESSED)
    value = body(ASSESSED, event_id='"assessed-1"')
    assert reason_of(value, headers, event=ASSESSED) == "event_id_not_derived"
    assert event.event_id == "assessed-1"


def enveloped(**changes: object) -> bytes:
    """Return a structured CloudEvent of the reported repayment with members changed."""
    names = {"ce_id": "id", "ce_source": "source", "ce_type": "type", "ce_specversion": "specversion"}
    members = {names[name]: value.decode() for name, value in headers_of(REPORTED) if name in names}
    return json.dumps(members | {"data": json.loads(body())} | changes).encode()


def test_the_structured_form_these_start_from_is_read() -> None:
    assert read(REPORTED, Record(b"acct_1", enveloped(), STRUCTURED)).event == REPORTED


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"[]", "not_a_cloudevent"),
        (b"1", "not_a_cloudevent"),
        (b"null", "not_a_cloudevent"),
        (b"{}", "not_a_cloudevent"),
        (b"not json", "not_a_cloudevent"),
        (b"\xff", "not_a_cloudevent"),
        (b"[" * DEEP, "not_a_cloudevent"),
        (enveloped(id="\ud800"), "not_a_cloudevent"),
        (enveloped(source="/\ud800"), "not_a_cloudevent"),
        (enveloped(id=7), "not_a_cloudevent"),
        (enveloped(id=""), "not_a_cloudevent"),
        (enveloped(specversion="2.0"), "not_a_cloudevent"),
        (enveloped(time=7), "not_a_cloudevent"),
        (enveloped(type="opentobuy.billing.repayment.Unheard.v1"), "unknown_event_type"),
        (enveloped(id="another"), "event_id_not_ce_id"),
        (enveloped(data=None), "invalid:body:model_type"),
        (enveloped(data="text"), "invalid:body:model_type"),
        (enveloped(data={}), "invalid:event_id:missing"),
        (enveloped().replace(b"500000", b"1e3"), "invalid:amount_minor:int_type"),
        (enveloped().replace(b"500000", b"NaN"), "invalid:amount_minor:int_type"),
        (enveloped().replace(b"500000", b"1" * DEEP), "not_a_cloudevent"),
        (enveloped().replace(b"500000", b'1, "amount_minor": 500000'), "duplicate_json_key"),
        (enveloped(added=1).replace(b'"added"', b'"id"'), "not_a_cloudevent"),
        (enveloped(added="1").replace(b'"added"', b'"id"'), "duplicate_json_key"),
    ],
    ids=short,
)
def test_a_structured_record_is_judged_as_strictly(value: bytes, reason: str) -> None:
    assert reason_of(value, STRUCTURED) == reason


@pytest.mark.parametrize("depth", range(150, 1_050, 50))
def test_no_depth_of_nesting_is_another_error(depth: int) -> None:
    for form in (body(added="[" * depth + "]" * depth), enveloped().replace(b"500000", b"[" * depth + b"]" * depth)):
        for headers in (None, STRUCTURED):
            assert read_or_refused(form, headers)


def read_or_refused(value: bytes, headers: list[tuple[str, bytes]] | None = None, *, event: Event = REPORTED) -> bool:
    """Return True when the record is read or malformed; any other exception passes."""
    try:
        read(event, Record(b"acct_1", value, headers_of(event) if headers is None else headers))
    except Malformed as error:
        return bool(str(error))
    return True


names = st.sampled_from(["ce_id", "ce_source", "ce_type", "ce_specversion", "content-type", "Ce_Id", "x"]) | st.text()
texts = st.sampled_from([b"1.0", b"application/cloudevents+json", b"/core_banking", None]) | st.binary()
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters())
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5)


@given(st.lists(st.tuples(names, texts)), st.none() | st.binary(), st.none() | st.binary())
def test_any_bytes_are_read_or_malformed(
    headers: list[tuple[str, bytes | None]], key: bytes | None, value: bytes | None
) -> None:
    with pytest.raises(Malformed, match=r"^\w"):
        decode(BILLING_REPAYMENT, Record(key, value, headers), frozenset(BILLING_REPAYMENT.events))


@given(st.sampled_from([REPORTED, ASSESSED]), st.data())
def test_any_value_in_any_field_is_read_or_malformed(event: Event, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(type(event).model_fields)))
    value = body(event, **{name: json.dumps(data.draw(values))})
    assert read_or_refused(value, event=event)


@given(st.integers(0), st.binary(max_size=4), st.integers(0, 4))
def test_any_damage_to_a_good_value_is_read_or_malformed(place: int, added: bytes, lost: int) -> None:
    for form, headers in ((body(), None), (enveloped(), STRUCTURED)):
        at = place % len(form)
        assert read_or_refused(form[:at] + added + form[at + lost :], headers)


def test_an_odd_id_of_a_type_nobody_handles_is_no_other_error() -> None:
    unhandled: frozenset[type[Event]] = frozenset()
    odd = "é１".encode()
    assert decode(BILLING_REPAYMENT, Record(b"acct_1", body(), changed("ce_id", odd)), unhandled).event is None
    with pytest.raises(Malformed, match="event_id_not_derived"):
        decode(RISK, Record(b"acct_1", body(ASSESSED), changed("ce_id", odd, ASSESSED)), unhandled)


@pytest.mark.parametrize("headers", [STRUCTURED, [("CE_SOURCE", b"/a"), ("CE_TYPE", REPORTED_TYPE.encode())]])
def test_nobody_makes_up_an_id_that_was_not_sent(headers: list[tuple[str, bytes]]) -> None:
    nameless = json.dumps({"specversion": "1.0", "source": "/a", "type": REPORTED_TYPE, "data": {}}).encode()
    with pytest.raises(Malformed, match="not_a_cloudevent"):
        decode(BILLING_REPAYMENT, Record(b"acct_1", nameless, headers), frozenset())
