"""R28: events carry opaque ids, codes and amounts; a bank's code is a class before a customer sees it."""

from collections.abc import Iterator
from typing import Any

import pytest

from schemas.event import Event
from schemas.ids import REFERENCE_PATTERN
from schemas.reasons import Reason, return_class
from schemas.restoration import RestorationReversed
from schemas.settlement import RepaymentReturned
from schemas.topics import TOPIC_OF
from services.wording import customer_text
from tests.unit.given import Pipe, only

PERSONAL = (
    "name", "email", "mail", "phone", "mobile", "address", "birth", "gender", "passport", "identity", "iban", "pan",
    "card", "bank_account", "account_number", "text", "message", "note", "comment", "words",
)  # fmt: skip
EVENTS = sorted(TOPIC_OF, key=lambda event: event.__name__)
CLASSES = {
    "R01": Reason.RETURNED_INSUFFICIENT_FUNDS,
    "R02": Reason.RETURNED_ACCOUNT_CLOSED,
    "R10": Reason.RETURNED_UNAUTHORISED,
    "R99": Reason.RETURNED_OTHER,
}


def strings(schema: Any, at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every part of a JSON Schema that allows a string, with the name of its property."""
    if isinstance(schema, list):
        for part in schema:
            yield from strings(part, at)
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "string":
        yield at, schema
    for name, part in schema.items():
        if name in ("properties", "$defs"):
            for inner, within in part.items():
                yield from strings(within, inner)
        else:
            yield from strings(part, at)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_r28_no_event_has_room_for_free_text_or_a_field_for_a_person(event: type[Event]) -> None:
    found = list(strings(event.model_json_schema()))
    assert found
    for name, schema in found:
        closed = "enum" in schema or "const" in schema or schema.get("format") in ("date-time", "date")
        opaque = schema.get("pattern", "").startswith("^") and " " not in schema["pattern"] if not closed else True
        assert opaque, f"{name} takes any text"
        parts = set(name.split("_"))
        assert not parts & set(PERSONAL), f"{name} is about a person"


def test_r28_a_reference_has_no_space_so_no_name_fits() -> None:
    assert " " not in REFERENCE_PATTERN
    assert "\\s" not in REFERENCE_PATTERN


@pytest.mark.parametrize(("code", "known"), CLASSES.items())
@pytest.mark.parametrize("language", ["en", "zh-CN"])
def test_r28_a_customer_reads_the_class_of_a_return_and_never_the_banks_code(
    code: str, known: Reason, language: Any
) -> None:
    assert return_class(code) is known
    pipe = Pipe().open(300_000, principal=280_000)
    pipe.repay(250_000)
    facts = pipe.give_back(250_000, code=code)
    assert only(facts, RepaymentReturned).return_class is known
    record = only(facts, RestorationReversed).record
    assert record.reasons == (known,)
    text = customer_text(record, language=language, timezone="Asia/Shanghai")
    assert code not in text
    assert known.value not in text
