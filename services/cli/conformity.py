"""What billing's records get wrong, each with its fix: the rules behind `otb conform`, without a server."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal, Protocol

from babel.numbers import get_currency_precision, is_currency

from schemas.event import Event
from schemas.repayment import RepaymentReported, ReportedRepayment
from schemas.topics import Topic
from services.decision import Malformed
from services.repayment_ingest.domain import REPAID_AGO_MAX, REPAID_AHEAD_MAX, Content, content_of
from services.runtime.clock import from_epoch_ms
from services.runtime.codec import Record, decode
from services.runtime.publisher import partition_of

Level = Literal["broken", "warning"]
Remark = tuple[str, str]
"""A rule and what was seen."""

ADVISED: Final = ("ce_time", "ce_subject", "ce_dataschema", "content-type")
AHEAD_MAX: Final = timedelta(seconds=5)
ENOUGH: Final = 20
"""Records from which a pattern is no coincidence."""
HALF_HOUR: Final = timedelta(minutes=30)
OFFSET_MAX: Final = timedelta(hours=14)
SAME: Final = timedelta(minutes=1)
CARD_DIGITS: Final = range(12, 20)
EXAMPLES: Final = 3


@dataclass(frozen=True, slots=True)
class Rule:
    """How bad a breach is, and what to do about it in one line."""

    level: Level
    fix: str


RULES: Final = {
    "headers": Rule("broken", "send ce_specversion 1.0, ce_id (the event_id), ce_source and ce_type as record headers"),
    "type": Rule("broken", "ce_type must be one of the topic's types in schemas/README.md, version included"),
    "schema": Rule("broken", "the value must be one JSON object valid by schemas/json/<ce_type>.json"),
    "minor_units": Rule(
        "broken", "send money as a JSON integer of minor units: 1000.00 CNY is 100000, 1000 JPY is 1000"
    ),
    "key": Rule("broken", "the record's key must be the body's account_id in UTF-8"),
    "partition": Rule("broken", "set the murmur2 partitioner (librdkafka: partitioner=murmur2_random)"),
    "repeated_id": Rule("broken", "a retry must repeat the same bytes; another content needs another ce_id"),
    "reference": Rule("broken", "an external_ref names one repayment: account, amount, currency and rail never change"),
    "repaid_at": Rule("broken", "repaid_at must lie within 400 days before and 5 minutes after the time of sending"),
    "clock": Rule("warning", "synchronise clocks (NTP): occurred_at lies after Kafka's own time"),
    "time_zone": Rule("warning", "send instants with their own offset: local time looks written as UTC"),
    "headers_advised": Rule("warning", "send ce_time, ce_subject, ce_dataschema and content-type equal to the body's"),
    "unknown_field": Rule("warning", "remove or rename the field: the schema does not know it, so nobody reads it"),
    "currency": Rule("warning", "use an ISO 4217 code: money in an unknown currency meets no account"),
    "decimals": Rule("warning", "a currency without decimals must not be multiplied by 100"),
    "card_numbers": Rule("warning", "send an opaque external_ref: most of these pass the check digit of a card number"),
}


class Look(Record, Protocol):
    """What the rules need of a Kafka record."""

    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Breach:
    """A rule that ``count`` records break, with the first of them as (place, what was seen)."""

    rule: str
    level: Level
    fix: str
    count: int
    examples: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Known:
    """What earlier records said, for the rules that compare records."""

    digests: dict[object, int] = field(default_factory=dict)
    contents: dict[tuple[str, str], Content] = field(default_factory=dict)
    late: list[timedelta] = field(default_factory=list)
    amounts: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    references: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


def examine(topic: Topic, partitions: int, records: Iterable[Look]) -> list[Breach]:
    """Return what records of ``topic``, in the order they were written, break; the worst first, as in RULES."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    known = _Known()
    for record in records:
        place = f"{topic.name}/{record.partition}/{record.offset}"
        for rule, seen in _of_record(topic, partitions, record, known):
            found[rule].append((place, seen))
    for rule, seen in _of_all(known):
        found[rule].append((topic.name, seen))
    return [
        Breach(rule, told.level, told.fix, len(found[rule]), tuple(found[rule][:EXAMPLES]))
        for rule, told in RULES.items()
        if found[rule]
    ]


def rule_of(reason: str) -> str:
    """Return the rule behind the reason of a dead letter."""
    if reason.startswith("invalid:"):
        return "minor_units" if reason.split(":")[1].endswith("_minor") else "schema"
    rules = {
        "not_a_cloudevent": "headers",
        "event_id_not_ce_id": "headers",
        "unknown_event_type": "type",
        "key_not_account_id": "key",
    }
    return rules.get(reason, "schema")


def _of_record(topic: Topic, partitions: int, record: Look, known: _Known) -> Iterator[Remark]:
    yield from _placed(partitions, record)
    try:
        decoded = decode(topic, record, frozenset(topic.events))
    except Malformed as error:
        yield rule_of(str(error)), str(error)
        return
    if known.digests.setdefault(decoded.event_key, decoded.digest) != decoded.digest:
        yield "repeated_id", "the id came before with another body"
    if (event := decoded.event) is not None:
        yield from _of_event(event, record, known)


def _placed(partitions: int, record: Look) -> Iterator[Remark]:
    try:
        key = (record.key or b"").decode()
    except UnicodeDecodeError:
        return
    if key and (wanted := partition_of(key, partitions)) != record.partition:
        yield "partition", f"key {key} is in partition {record.partition}, murmur2 says {wanted}"


def _of_event(event: Event, record: Look, known: _Known) -> Iterator[Remark]:
    headers = {name: (value or b"").decode("latin-1") for name, value in record.headers}
    written_at = from_epoch_ms(record.timestamp)
    known.late.append(written_at - event.occurred_at)
    if event.occurred_at - written_at > AHEAD_MAX:
        yield "clock", f"{(event.occurred_at - written_at).total_seconds():.0f} s ahead of Kafka"
    if isinstance(event, RepaymentReported):
        yield from _repaid(event.repaid_at, written_at)
    if isinstance(event, ReportedRepayment):
        yield from _referred(event, known)
    yield from _advised(event, headers)
    yield from _unknown_fields(event, headers, record.value or b"")
    yield from _money(event, known)


def _repaid(repaid_at: datetime, written_at: datetime) -> Iterator[Remark]:
    if not -REPAID_AGO_MAX <= repaid_at - written_at <= REPAID_AHEAD_MAX:
        yield "repaid_at", f"repaid_at {repaid_at.isoformat()}"


def _referred(event: ReportedRepayment, known: _Known) -> Iterator[Remark]:
    content = content_of(event)
    if known.contents.setdefault((event.source, event.external_ref), content) != content:
        yield "reference", f"{event.source}:{event.external_ref} came before with another content"
    if event.external_ref.isdigit() and len(event.external_ref) in CARD_DIGITS:
        known.references[event.source].add(event.external_ref)


def _advised(event: Event, headers: Mapping[str, str]) -> Iterator[Remark]:
    missing = [name for name in ADVISED if name not in headers]
    if headers.get("content-type", "").startswith("application/cloudevents"):
        return
    if missing:
        yield "headers_advised", f"without {', '.join(missing)}"
    elif headers["ce_subject"] != event.account_id:
        yield "headers_advised", f"ce_subject {headers['ce_subject']}, account_id {event.account_id}"
    elif _instant(headers["ce_time"]) != event.occurred_at:
        yield "headers_advised", f"ce_time {headers['ce_time']}, occurred_at {event.occurred_at.isoformat()}"


def _instant(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _unknown_fields(event: Event, headers: Mapping[str, str], value: bytes) -> Iterator[Remark]:
    if "ce_type" not in headers or not value.startswith(b"{"):
        return
    unknown = sorted(json.loads(value).keys() - type(event).model_fields.keys())
    if unknown:
        yield "unknown_field", ", ".join(unknown)


def _money(event: Event, known: _Known) -> Iterator[Remark]:
    fields: dict[str, Any] = dict(event)
    currency = fields.get("currency")
    if currency is None:
        return
    if not is_currency(currency):
        yield "currency", currency
        return
    known.amounts[currency] += [n for name, n in fields.items() if name.endswith("_minor") and isinstance(n, int) and n]


def _of_all(known: _Known) -> Iterator[Remark]:
    """Tell what no single record shows: patterns over at least ENOUGH of them."""
    if (off := _hours_off(known.late)) is not None:
        yield "time_zone", f"all {len(known.late)} occurred_at are {off} off"
    for currency, amounts in known.amounts.items():
        if len(amounts) >= ENOUGH and not get_currency_precision(currency) and not any(n % 100 for n in amounts):
            yield "decimals", f"all {len(amounts)} amounts in {currency} are multiples of 100"
    for source, references in known.references.items():
        passing = sum(_luhn(reference) for reference in references)
        if len(references) >= ENOUGH and passing * 2 > len(references):
            yield "card_numbers", f"{passing} of {len(references)} numeric references of {source}"


def _hours_off(late: Sequence[timedelta]) -> timedelta | None:
    """Return the whole half hours by which every record is late or early, None when they are not all."""
    if len(late) < ENOUGH:
        return None
    off = round(late[0] / HALF_HOUR) * HALF_HOUR
    return off if timedelta() < abs(off) <= OFFSET_MAX and all(abs(each - off) <= SAME for each in late) else None


def _luhn(digits: str) -> bool:
    doubled = (int(d) * (2 if n % 2 else 1) for n, d in enumerate(reversed(digits)))
    return sum(n - 9 if n > 9 else n for n in doubled) % 10 == 0
