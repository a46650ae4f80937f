"""Each rule of `otb conform` by a record that keeps it and one that breaks it."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas.event import Event
from schemas.topics import BILLING_REPAYMENT
from services.billing_simulator.headers import billing_headers
from services.cli.conform import lines
from services.cli.conformity import ENOUGH, RULES, Breach, examine, rule_of
from services.runtime.codec import encode
from services.runtime.publisher import partition_of
from tests import builders

PARTITIONS = 6
SENT_AT = builders.REPAID_AT + timedelta(seconds=3)
CODEC = Path(__file__).parents[2] / "services/runtime/codec.py"


@dataclass(frozen=True)
class Sent:
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


def sent(event: Event, at: datetime = SENT_AT) -> Sent:
    """Return the record a right client makes of ``event``."""
    key, stamp = event.account_id, int(at.timestamp() * 1000)
    headers = billing_headers(event, getattr(event, "source", builders.SOURCE))
    return Sent(partition_of(key, PARTITIONS), 0, stamp, key.encode(), encode(event).payload, headers)


def report(number: int = 0, **changes: Any) -> Event:
    reference = changes.pop("external_ref", f"dd-{number}")
    return builders.repayment_reported(external_ref=reference, **changes)


def broken(*records: Sent) -> dict[str, Breach]:
    return {breach.rule: breach for breach in examine(BILLING_REPAYMENT, PARTITIONS, records)}


def with_body(record: Sent, **fields: object) -> Sent:
    assert record.value is not None
    return replace(record, value=json.dumps(json.loads(record.value) | fields).encode())


def with_header(record: Sent, name: str, value: bytes) -> Sent:
    return replace(record, headers=[(at, value if at == name else text) for at, text in record.headers])


def without(record: Sent, name: str) -> Sent:
    return replace(record, headers=[(at, text) for at, text in record.headers if at != name])


ONE = sent(report())
MANY = [sent(report(n)) for n in range(ENOUGH)]


def test_right_records_break_nothing() -> None:
    assert broken(*MANY, ONE, ONE) == {}


def breaking() -> Iterator[tuple[str, list[Sent]]]:
    yield "headers", [without(ONE, "ce_source")]
    yield "headers", [with_header(ONE, "ce_id", b"another")]
    yield "type", [with_header(ONE, "ce_type", b"RepaymentReported")]
    yield "schema", [replace(ONE, value=b"{")]
    yield "schema", [replace(ONE, value=None)]
    yield "schema", [with_body(ONE, repaid_at="2026-11-20T14:00:00")]
    yield "minor_units", [with_body(ONE, amount_minor=5000.0)]
    yield "minor_units", [with_body(ONE, amount_minor="500000")]
    yield "key", [replace(ONE, key=b"acct_2", partition=partition_of("acct_2", PARTITIONS))]
    yield "partition", [replace(ONE, partition=(ONE.partition + 1) % PARTITIONS)]
    yield "repeated_id", [ONE, with_body(ONE, method="manual")]
    yield "reference", [ONE, sent(report(amount_minor=499_999))]
    yield "repaid_at", [sent(report(), SENT_AT - timedelta(minutes=6))]
    yield "repaid_at", [sent(report(), SENT_AT + timedelta(days=401))]
    yield "clock", [sent(report(), SENT_AT - timedelta(seconds=10))]
    yield "time_zone", [sent(report(n), SENT_AT + timedelta(hours=8)) for n in range(ENOUGH)]
    yield "headers_advised", [without(ONE, "ce_subject")]
    yield "headers_advised", [with_header(ONE, "ce_subject", b"acct_2")]
    yield "headers_advised", [with_header(ONE, "ce_time", b"yesterday")]
    yield "unknown_field", [with_body(ONE, amountMinor=1)]
    yield "currency", [sent(report(currency="QQQ"))]
    yield "decimals", [sent(report(n, currency="JPY", amount_minor=1_000 + 100 * n)) for n in range(ENOUGH)]
    yield "card_numbers", [sent(report(external_ref=number)) for number in card_numbers()]


def card_numbers() -> list[str]:
    """Return as many 16-digit references with the check digit of a card number."""
    found = []
    for n in range(ENOUGH):
        digits = f"{400_000_000_000_000 + n}"
        total = sum((int(d) * 2 - 9 * (int(d) > 4)) if at % 2 == 0 else int(d) for at, d in enumerate(digits))
        found.append(f"{digits}{-total % 10}")
    return found


BREAKING = list(breaking())


@pytest.mark.parametrize(("rule", "records"), BREAKING, ids=[f"{rule}-{n}" for n, (rule, _) in enumerate(BREAKING)])
def test_a_breach_is_named_with_its_fix_and_where_it_was_seen(rule: str, records: list[Sent]) -> None:
    breach = broken(*records)[rule]
    assert (breach.level, breach.fix) == (RULES[rule].level, RULES[rule].fix)
    assert breach.examples[0][0].startswith(BILLING_REPAYMENT.name)


def test_every_rule_has_a_record_that_breaks_it() -> None:
    assert {rule for rule, _ in BREAKING} == RULES.keys()


def test_every_reason_of_a_dead_letter_has_its_rule() -> None:
    reasons = re.findall(r'Malformed\(f?"([^"]+)"\)', CODEC.read_text())
    assert len(reasons) > 8
    assert {reason for reason in reasons if rule_of(reason) == "schema"} == {
        "empty_value", "value_too_large", "invalid:{place}:{first['type']}", "invalid:{name}:number_as_instant",
        "not_utf8", "not_json", "duplicate_json_key", "event_id_not_derived",
    }  # fmt: skip


def test_a_topic_sent_days_later_is_no_time_zone() -> None:
    assert broken(*(sent(report(n), SENT_AT + timedelta(days=6)) for n in range(ENOUGH))) == {}


def test_numbers_that_are_no_cards_are_let_be() -> None:
    assert broken(*(sent(report(external_ref=f"{10**15 + n}")) for n in range(200))) == {}


def test_a_garbage_record_does_not_hide_the_next() -> None:
    found = broken(replace(ONE, value=b"\xff", key=b"\xff"), replace(ONE, partition=(ONE.partition + 1) % PARTITIONS))
    assert {"schema", "partition"} <= found.keys()


def test_the_verdict_is_one_line_a_rule_and_one_in_all() -> None:
    breaches = examine(BILLING_REPAYMENT, PARTITIONS, [replace(ONE, partition=(ONE.partition + 1) % PARTITIONS)])
    told = lines(BILLING_REPAYMENT.name, 1, breaches)
    assert "partitioner=murmur2_random" in told[0]
    assert told[1] == "1 records of billing.repayment.v1: 1 rules broken, 0 warnings"
    assert lines(BILLING_REPAYMENT.name, 9, []) == ["9 records of billing.repayment.v1: every rule is kept"]
