"""Ids, the trail that tells the lag, topics and the closed lists: what every service relies on."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.event import (
    Segment,
    dominant_cause,
    extended,
    lag_by_cause,
    milliseconds_between,
    to_millisecond,
)
from schemas.ids import derived_id, event_id, repayment_id
from schemas.reasons import CAUSES, STAGES, Cause, Reason, Stage, return_class, standing
from schemas.topics import TOPIC_OF, TOPICS, TYPE_OF, dead_letter_topic, event_type
from tests import builders

parts = st.lists(st.text(), min_size=1, max_size=5)
REPAID_AT = builders.REPAID_AT
instants = st.integers(-10_000, 10_000).map(lambda wait_ms: REPAID_AT + timedelta(milliseconds=wait_ms))
waits = st.lists(st.tuples(st.sampled_from(CAUSES), instants), max_size=4)
journeys = st.lists(st.tuples(st.sampled_from(STAGES), waits), max_size=6)


def travelled(journey: list[tuple[Stage, list[tuple[Cause, datetime]]]]) -> tuple[Segment, ...]:
    trail: tuple[Segment, ...] = ()
    for stage, waited in journey:
        longer = extended(REPAID_AT, trail, stage, *waited)
        assert longer[: len(trail)] == trail
        trail = longer
    return trail


def end_of(trail: tuple[Segment, ...]) -> datetime:
    return trail[-1][2] if trail else REPAID_AT


@example(["k" * 128], ["k" * 129])
@example(["kind", "p" * 128], ["kind", "p" * 129])
@given(parts, parts)
def test_other_parts_make_another_id_and_the_same_parts_the_same(one: list[str], other: list[str]) -> None:
    assert (derived_id(*one) == derived_id(*other)) == (one == other)


@given(st.text(min_size=1), st.text(min_size=1))
def test_where_the_parts_are_cut_makes_another_id(one: str, other: str) -> None:
    joined = one + other
    ids = {derived_id("kind", joined[:cut], joined[cut:]) for cut in range(len(joined) + 1)}
    assert len(ids) == len(joined) + 1
    assert derived_id("kind", joined) not in ids


@given(st.text(), st.text())
def test_an_id_is_32_hex_digits_and_of_its_kind(source: str, external_ref: str) -> None:
    found: str = repayment_id(source, external_ref)
    assert len(found) == 32
    assert set(found) <= set("0123456789abcdef")
    assert found != event_id("RepaymentReceived", source, external_ref)


def test_ids_stay_what_they_were() -> None:
    assert repayment_id("core_banking", "dd-2026-11-0001") == "a1604778c8c101448d3f09afe5e12dc7"


@given(journeys)
def test_the_trail_tiles_the_lag_whatever_the_clocks_say(
    journey: list[tuple[Stage, list[tuple[Cause, datetime]]]],
) -> None:
    trail = travelled(journey)
    latest = max([REPAID_AT, *(until for _, waited in journey for _, until in waited)])
    assert end_of(trail) == latest
    assert sum(lag_by_cause(REPAID_AT, trail).values()) == milliseconds_between(REPAID_AT, latest)
    ends = [REPAID_AT, *(until for _, _, until in trail)]
    assert all(before < after for before, after in pairwise(ends))


@given(journeys)
def test_the_dominant_cause_has_most_milliseconds_and_ties_go_to_the_list(
    journey: list[tuple[Stage, list[tuple[Cause, datetime]]]],
) -> None:
    trail = travelled(journey)
    spent = dict.fromkeys(CAUSES, 0)
    for (_, cause), wait_ms in lag_by_cause(REPAID_AT, trail).items():
        spent[cause] += wait_ms
    most = [cause for cause in CAUSES if spent[cause] == max(spent.values())]
    assert dominant_cause(REPAID_AT, trail) == (most[0] if trail else "system_delay.processing")


def test_a_tie_between_stages_is_settled_by_the_sum_of_a_cause() -> None:
    second = timedelta(seconds=1)
    trail = extended(REPAID_AT, (), "report", ("external.upstream_report", REPAID_AT + 3 * second))
    trail = extended(REPAID_AT, trail, "ingest", ("system_delay.processing", REPAID_AT + 5 * second))
    trail = extended(REPAID_AT, trail, "risk", ("system_delay.processing", REPAID_AT + 6 * second))
    assert dominant_cause(REPAID_AT, trail) == "system_delay.processing"


def test_a_wait_that_ended_before_it_began_leaves_no_segment() -> None:
    assert extended(REPAID_AT, (), "report", ("external.upstream_report", REPAID_AT)) == ()
    assert extended(REPAID_AT, (), "report", ("external.upstream_report", REPAID_AT - timedelta(days=1))) == ()


@given(st.integers(0, 10**16), st.integers(-23, 23))
def test_cutting_to_the_millisecond_keeps_the_instant(microseconds: int, hours: int) -> None:
    instant = (builders.OPENED_AT - timedelta(microseconds=microseconds)).astimezone(timezone(timedelta(hours=hours)))
    cut = to_millisecond(instant)
    assert timedelta(0) <= instant - cut < timedelta(milliseconds=1)
    assert cut.tzinfo is UTC
    assert cut.microsecond % 1000 == 0
    assert to_millisecond(cut) == cut


def test_every_event_has_one_topic_and_one_type() -> None:
    assert sum(len(topic.events) for topic in TOPICS.values()) == len(TOPIC_OF) == len(set(TYPE_OF.values()))
    for event, topic in TOPIC_OF.items():
        assert topic.types[event_type(topic, event)] is event
    assert dead_letter_topic("billing.repayment.v1", "repayment-ingest") == "billing.repayment.v1.repayment-ingest.dlq"


@pytest.mark.parametrize(
    ("status_reason", "expected"),
    [
        ("overdue", ("account_standing.frozen", Reason.ACCOUNT_OVERDUE)),
        ("overdue_elsewhere", ("account_standing.overdue_elsewhere", Reason.ACCOUNT_OVERDUE)),
        ("risk_review", ("risk_observation.manual_review", Reason.ACCOUNT_FROZEN)),
        ("lost_card", ("account_standing.frozen", Reason.ACCOUNT_FROZEN)),
    ],
)
def test_a_status_reason_has_one_cause_and_one_code(status_reason: str, expected: tuple[Cause, Reason]) -> None:
    assert standing(status_reason) == expected


def test_a_return_code_has_one_class_and_an_unknown_one_the_other() -> None:
    assert return_class("R01") == Reason.RETURNED_INSUFFICIENT_FUNDS
    assert return_class("R10") == Reason.RETURNED_UNAUTHORISED
    assert return_class("XX") == Reason.RETURNED_OTHER
