"""E25: one word, one meaning: names are domain 2's, each of one type, and none that another system misread."""

import re
from collections.abc import Iterator
from datetime import date, datetime
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import pytest
from pydantic import AwareDatetime, BaseModel

from schemas.event import Event
from schemas.ids import AccountId, EventId, NotificationId, RepaymentId
from schemas.topics import TOPIC_OF

CLOSED: Final = frozenset({"channel", "outcome", "reason", "status"})
"""Names whose values are a closed list of each event's own."""
MISREAD: Final = {
    "balance": r"^credit_balance",
    "limit": r"^credit_limit|_sub_limit_|^limit_lowered_at$",
    "available": r"^available_(credit|raw|before)_minor$|^from_available_minor$",
    "hold": r"^from_hold_minor$|^hold_slack_seconds$",
    "payment": r"^payment_(minor|share_bps)$",
    "cleared": r"$^",
    "posted": r"$^",
    "bounced": r"$^",
    "quota": r"$^",
    "date": r"$^",
}
"""A word that means two things elsewhere, and the only names it may be part of."""
IDS: Final = {
    "account_id": AccountId,
    "event_id": EventId,
    "repayment_id": RepaymentId,
    "notification_id": NotificationId,
}
Name = tuple[str, Any]


def bare(annotation: Any) -> Any:
    """Return a type without its bounds and without None."""
    if get_origin(annotation) is Annotated:
        return bare(get_args(annotation)[0])
    rest = [part for part in get_args(annotation) if part is not type(None)]
    return bare(rest[0]) if type(None) in get_args(annotation) and len(rest) == 1 else annotation


def names(kind: Any, seen: set[Any]) -> Iterator[Name]:
    """Yield every name of a wire type and of what it is made of, with its type."""
    kind = bare(kind)
    if kind in seen:
        return
    seen.add(kind)
    made = isinstance(kind, type) and (issubclass(kind, BaseModel) or hasattr(kind, "_fields"))
    for name, annotation in get_type_hints(kind).items() if made else ():
        if name != "model_config" and not name.startswith("_"):
            yield name, bare(annotation)
            yield from names(annotation, seen)
    for part in () if made else get_args(kind):
        yield from names(part, seen)


NAMES: Final = sorted({name for event in TOPIC_OF for name in names(event, set())}, key=repr)


def test_e25_a_name_has_one_type_wherever_it_is_said() -> None:
    types: dict[str, set[Any]] = {}
    for name, kind in NAMES:
        types.setdefault(name, set()).add(kind)
    assert {name for name, kinds in types.items() if len(kinds) > 1} <= CLOSED


@pytest.mark.parametrize(("word", "allowed"), MISREAD.items())
def test_e25_a_word_with_two_meanings_stands_only_where_it_has_one(word: str, allowed: str) -> None:
    said = {name for name, _ in NAMES if word in name.split("_")}
    assert {name for name in said if not re.search(allowed, name)} == set()


def test_e25_a_name_says_what_it_counts() -> None:
    for name, kind in NAMES:
        assert (kind in (datetime, AwareDatetime)) == bool(
            re.search(r"_at$|^until$|^promised_by$|^since$|^was$", name)
        ), name
        assert (kind is date) == name.endswith("_on"), name
        if name.endswith(("_minor", "_count", "_seconds", "_months", "_bps")):
            assert kind is int or get_args(kind)[:1] == (int,) or name == "instalments_minor", name


@pytest.mark.parametrize(("name", "kind"), IDS.items())
def test_e25_an_id_is_of_its_own_type(name: str, kind: Any) -> None:
    assert {found for at, found in NAMES if at == name} == {bare(kind)}
    assert len(set(IDS.values())) == len(IDS)


def test_e25_what_has_two_meanings_is_seen() -> None:
    class Galileo(Event):
        balance_minor: int

    assert ("balance_minor", int) in set(names(Galileo, set()))
