"""repayment-ingest: each report once, other content is a conflict, and the trail begins (R10)."""

from datetime import timedelta
from typing import Any

import pytest

from schemas.event import Event
from schemas.intake import RepaymentConflicted, RepaymentReceived, ReturnReceived
from schemas.reasons import Reason
from services.decision import Decision, Malformed
from services.repayment_ingest.domain import Reference, decide
from tests import builders
from tests.unit.given import FRIDAY, moment, only

NEW = Reference(builders.SOURCE, builders.EXTERNAL_REF)


def taken(*reports: Event) -> Decision[Reference]:
    decision = Decision(NEW)
    for report in reports:
        decision = decide(None, decision.state, report, moment(FRIDAY + timedelta(seconds=1)))
    return decision


@pytest.mark.parametrize("ago", [timedelta(days=400), timedelta(0), timedelta(minutes=-5)])
def test_a_repayment_of_the_last_400_days_or_the_next_5_minutes_is_taken_in(ago: timedelta) -> None:
    report = builders.repayment_reported(repaid_at=FRIDAY - ago)
    assert only(decide(None, NEW, report, moment(FRIDAY)).events, RepaymentReceived).repaid_at == FRIDAY - ago


@pytest.mark.parametrize("ago", [timedelta(days=400, microseconds=1), timedelta(minutes=-5, microseconds=-1)])
def test_a_repaid_at_out_of_range_is_malformed(ago: timedelta) -> None:
    with pytest.raises(Malformed, match=r"^repaid_at_out_of_range$"):
        decide(None, NEW, builders.repayment_reported(repaid_at=FRIDAY - ago), moment(FRIDAY))


def test_the_trail_begins_at_repaid_at_with_the_report() -> None:
    report = builders.repayment_reported(repaid_at=FRIDAY)
    reported_at, taken_at, now = (FRIDAY + timedelta(milliseconds=n) for n in (4_200, 4_210, 4_217))
    received = only(
        decide(None, NEW, report, moment(now, taken_at=taken_at, reported_at=reported_at)).events, RepaymentReceived
    )
    assert received.trail == (
        ("report", "external.upstream_report", reported_at),
        ("ingest", "system_delay.kafka_queue", taken_at),
        ("ingest", "system_delay.processing", now),
    )


def test_a_repaid_at_ahead_of_our_clock_begins_an_empty_trail() -> None:
    report = builders.repayment_reported(repaid_at=FRIDAY + timedelta(minutes=1))
    assert only(decide(None, NEW, report, moment(FRIDAY)).events, RepaymentReceived).trail == ()


def test_repaid_at_is_cut_to_the_millisecond() -> None:
    report = builders.repayment_reported(repaid_at=FRIDAY + timedelta(microseconds=1_999))
    received = only(taken(report).events, RepaymentReceived)
    assert received.repaid_at == FRIDAY + timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("field", "value"),
    [("account_id", "acct_2"), ("amount_minor", 1), ("currency", "USD"), ("rail", "card")],
)
def test_r10_each_field_that_differs_makes_a_conflict_that_names_it(field: str, value: object) -> None:
    changes: dict[str, Any] = {field: value}
    other = builders.repayment_reported(**changes)
    decision = taken(builders.repayment_reported(), other)
    fact = only(decision.events, RepaymentConflicted)
    assert (fact.differs, fact.reason, fact.caused_by) == ((field,), Reason.CONFLICTING_REPORT, other.event_id)
    assert (decision.outcome, decision.reason) == ("conflict", field)
    (kept,) = decision.state.conflicts
    assert (kept.differs, kept.kind, kept.event_id) == ((field,), "succeeded", other.event_id)
    assert decision.state.kinds == {"succeeded"}


def test_r10_a_conflict_names_every_field_and_leaves_what_was_known() -> None:
    first = builders.repayment_reported()
    other = builders.repayment_return_reported(amount_minor=1, currency="USD", rail="card", account_id="acct_2")
    decision = taken(first, other)
    assert only(decision.events, RepaymentConflicted).differs == ("account_id", "amount_minor", "currency", "rail")
    assert decision.state.content == taken(first).state.content


def test_r10_the_same_kind_again_is_stale() -> None:
    decision = taken(builders.repayment_reported(), builders.repayment_reported(occurred_at=FRIDAY))
    assert (decision.outcome, decision.reason, decision.events) == ("stale", "reported_before", ())
    assert decision.state == taken(builders.repayment_reported()).state


def test_r10_pending_then_succeeded_then_returned_are_three_kinds_of_one_reference() -> None:
    reports = [builders.repayment_reported(status="pending"), builders.repayment_reported()]
    decision = taken(*reports, builders.repayment_return_reported(fault="issuer", code="R02"))
    returned = only(decision.events, ReturnReceived)
    assert (returned.fault, returned.return_class) == ("issuer", Reason.RETURNED_ACCOUNT_CLOSED)
    assert decision.state.kinds == {"pending", "succeeded", "returned"}
    assert returned.repayment_id == builders.REPAYMENT


def test_a_failed_report_keeps_the_next_attempt_and_counts_from_its_own_instant() -> None:
    again = FRIDAY + timedelta(days=1)
    report = builders.repayment_failed(next_attempt_at=again, occurred_at=FRIDAY)
    received = only(taken(report).events, RepaymentReceived)
    assert (received.status, received.next_attempt_at, received.repaid_at) == ("failed", again, FRIDAY)
    assert received.funding_account_id is None


def test_the_funding_account_and_the_collection_pass_through() -> None:
    received = only(taken(builders.repayment_reported(collection_ref="c1")).events, RepaymentReceived)
    assert (received.funding_account_id, received.collection_ref) == (builders.FUNDING_ACCOUNT, "c1")


def test_another_event_is_ignored() -> None:
    assert taken(builders.account_opened()) == Decision(NEW, outcome="ignored")


def test_e11_the_id_of_what_follows_depends_on_the_reference_and_kind_alone() -> None:
    first = only(taken(builders.repayment_reported(occurred_at=FRIDAY)).events, RepaymentReceived)
    again = only(taken(builders.repayment_reported()).events, RepaymentReceived)
    assert first.event_id == again.event_id
