"""replace(), built() and at_once(): what dataclasses make, for values without slots."""

import dataclasses
from datetime import datetime
from typing import Any

import pytest

from services.limit_release import model as credit
from services.notifier import domain as notifier
from services.repayment_ingest import domain as ingest
from services.risk_scoring import model as risk
from services.settlement import model as debt
from services.values import at_once, built, plain, replace
from tests import builders
from tests.unit.given import FRIDAY


@dataclasses.dataclass(frozen=True)
class Value:
    name: str
    number: int = 0
    at: datetime = FRIDAY


@at_once
@dataclasses.dataclass(frozen=True)
class Whole:
    name: str
    number: int = 0
    at: datetime = FRIDAY
    parts: dict[str, int] = dataclasses.field(default_factory=dict)


def test_it_makes_what_dataclasses_make_and_leaves_what_was() -> None:
    value = Value("a", 1)
    made = replace(value, number=2)
    assert made == dataclasses.replace(value, number=2) == Value("a", 2)
    assert (value, type(made), hash(made)) == (Value("a", 1), Value, hash(Value("a", 2)))
    assert replace(value) == value


def test_an_unknown_field_is_refused() -> None:
    unknown: dict[str, Any] = {"nmuber": 2}
    with pytest.raises(TypeError, match="Value has no such field: nmuber"):
        replace(Value("a"), **unknown)


def test_every_state_a_service_keeps_can_be_copied() -> None:
    named = ("Account", "Authorisation", "Tranche", "Repayment", "State", "Notification", "Reference", "Books", "Entry")
    for module in (credit, notifier, ingest, risk, debt):
        for name, kind in vars(module).items():
            if isinstance(kind, type) and dataclasses.is_dataclass(kind) and name in named:
                assert not _slotted(kind), f"{name} has slots or __post_init__, which replace() goes past"


def _slotted(kind: Any) -> bool:
    return "__slots__" in vars(kind) or hasattr(kind, "__post_init__")


def test_what_is_built_is_what_the_class_makes() -> None:
    make = built(Value)
    made = make(name="a", number=2)
    assert made == Value("a", 2)
    assert (type(made), hash(made), made.at) == (Value, hash(Value("a", 2)), FRIDAY)
    assert make(name="b") == Value("b")


@pytest.mark.parametrize("given", [{"number": 2}, {"name": "a", "nmuber": 2}, {"nmae": "a", "number": 2}])
def test_a_field_that_is_unknown_or_left_out_is_not_built(given: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="argument"):
        built(Value)(**given)


def test_fields_set_at_once_are_those_that_were_given_and_the_defaults() -> None:
    whole = Whole("a", 2, parts={"x": 1})
    assert vars(whole) == {"name": "a", "number": 2, "at": FRIDAY, "parts": {"x": 1}}
    assert list(vars(whole)) == [each.name for each in dataclasses.fields(Whole)]
    assert (
        whole
        == Whole(parts={"x": 1}, number=2, name="a")
        == dataclasses.replace(Whole("b", 2, parts={"x": 1}), name="a")
    )
    assert repr(Whole("a")).endswith("Whole(name='a', number=0, at=" + repr(FRIDAY) + ", parts={})")


def test_each_value_has_its_own_default_of_a_factory() -> None:
    one, other = Whole("a"), Whole("a")
    assert one == other
    assert one.parts is not other.parts


def test_what_was_set_at_once_stays_frozen() -> None:
    field = "name"
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(Whole("a"), field, "b")


@pytest.mark.parametrize("given", [{}, {"number": 2}, {"name": "a", "nmuber": 2}])
def test_a_field_that_is_unknown_or_left_out_is_not_set(given: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="argument"):
        Whole(**given)


def test_a_plain_value_has_the_fields_of_the_model() -> None:
    record = builders.decision_record()
    assert vars(plain(record)) == vars(record)
    assert plain(record).amount_minor == record.amount_minor
