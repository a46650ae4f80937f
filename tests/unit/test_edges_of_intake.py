"""repayment-ingest and notifier: what one changed word would change, where no story of another test shows it."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from schemas.event import Event
from schemas.ids import PROBE_ACCOUNT, AccountId, NotificationId, event_id
from schemas.intake import Difference, RepaymentConflicted
from schemas.reasons import Reason
from services.notifier import domain as notifier
from services.notifier.domain import Attempted, Channels, Notification, retry_at
from services.repayment_ingest import domain as ingest
from services.repayment_ingest.domain import Conflict, Content, Reference
from tests import builders
from tests.unit.given import FRIDAY, Pipe, moment, only, rid, said

TAKEN, NOW = FRIDAY + timedelta(seconds=3), FRIDAY + timedelta(seconds=5)
AT = moment(NOW, taken_at=TAKEN, reported_at=FRIDAY + timedelta(seconds=2))
NEW = Reference(builders.SOURCE, builders.EXTERNAL_REF)
NAMED = {"source": builders.SOURCE, "external_ref": builders.EXTERNAL_REF}
AMOUNT = {"amount_minor": 500_000, "currency": "CNY"}
COMMIT = {"account_id": builders.ACCOUNT, "occurred_at": NOW, "repayment_id": builders.REPAYMENT}
KNOWN = Content(builders.ACCOUNT, 500_000, "CNY", "direct_debit")


def received(report: Event, **changes: Any) -> dict[str, Any]:
    """Return what is told of a report of FRIDAY."""
    trail = (
        ("report", "external.upstream_report", FRIDAY + timedelta(seconds=2)),
        ("ingest", "system_delay.kafka_queue", TAKEN),
        ("ingest", "system_delay.processing", NOW),
    )
    status = changes["status"]
    told = {"event_id": event_id("RepaymentReceived", *NAMED.values(), status), "caused_by": report.event_id}
    rest = {"rail": "direct_debit", "method": "auto", "repaid_at": FRIDAY, "trail": trail}
    return {**COMMIT, **told, **NAMED, **AMOUNT, **rest, **changes}


def test_a_report_is_passed_on_whole() -> None:
    report = builders.repayment_reported(repaid_at=FRIDAY, collection_ref="c1", status="pending")
    decision = ingest.decide(None, NEW, report, AT)
    about: dict[str, Any] = {
        "funding_account_id": builders.FUNDING_ACCOUNT,
        "collection_ref": "c1",
        "next_attempt_at": None,
    }
    assert [said(fact) for fact in decision.events] == [received(report, status="pending", **about)]
    assert decision.state == replace(NEW, content=KNOWN, kinds=frozenset({"pending"}))
    again = FRIDAY + timedelta(days=1)
    failed = builders.repayment_failed(occurred_at=FRIDAY, next_attempt_at=again)
    about = {"funding_account_id": None, "collection_ref": None, "next_attempt_at": again}
    facts = ingest.decide(None, NEW, failed, AT).events
    assert [said(fact) for fact in facts] == [received(failed, status="failed", **about)]


def test_a_return_is_passed_on_whole() -> None:
    report = builders.repayment_return_reported(code="R02", fault="issuer")
    decision = ingest.decide(None, NEW, report, AT)
    told = {"event_id": event_id("ReturnReceived", *NAMED.values()), "caused_by": report.event_id}
    why = {"code": "R02", "return_class": Reason.RETURNED_ACCOUNT_CLOSED, "fault": "issuer"}
    assert [said(fact) for fact in decision.events] == [{**COMMIT, **told, **NAMED, **AMOUNT, **why}]
    assert decision.state == replace(NEW, content=KNOWN, kinds=frozenset({"returned"}))


def test_r10_a_conflict_is_told_and_kept_whole() -> None:
    known = replace(NEW, content=KNOWN, kinds=frozenset({"pending"}))
    other = builders.repayment_reported(repaid_at=FRIDAY, amount_minor=1, rail="card")
    decision = ingest.decide(None, known, other, AT)
    told = {"event_id": event_id("RepaymentConflicted", other.event_id), "caused_by": other.event_id}
    differs: tuple[Difference, ...] = ("amount_minor", "rail")
    why = {"differs": differs, "reason": Reason.CONFLICTING_REPORT}
    assert [said(fact) for fact in decision.events] == [{**COMMIT, **told, **NAMED, **why}]
    kept = Conflict(other.event_id, "succeeded", Content(builders.ACCOUNT, 1, "CNY", "card"), differs)
    assert decision.state == replace(known, conflicts=(kept,))
    assert (decision.outcome, decision.reason) == ("conflict", "amount_minor,rail")


# ---- what the customer is told -----------------------------------------------------------------------------------

ENGLISH = notifier.Account(builders.ACCOUNT, "en", "Asia/Shanghai")
RESTORED = builders.credit_restored()


def message(state: str, ended_at: datetime | None, account: AccountId = builders.ACCOUNT) -> tuple[Notification, Any]:
    """Request a message; return it without its text, and every fact of it."""
    closed = state == "suppressed" and account == builders.ACCOUNT
    known = replace(ENGLISH, account_id=account, disabled=frozenset({"log"} if closed else ()))
    decision = notifier.decide(Channels(("log",)), known, RESTORED, AT)
    (asked,) = decision.state.notifications.values()
    assert (asked.state, asked.ended_at, asked.next_attempt_at) == (state, ended_at, None if ended_at else NOW)
    assert "CN¥1,000.00" in asked.text
    return replace(asked, text=""), [said(fact) for fact in decision.events]


def fact_of(asked: Notification, name: str, **more: Any) -> dict[str, Any]:
    """Return what a fact about a message says."""
    told = {"event_id": event_id(name, asked.notification_id), "caused_by": RESTORED.caused_by, "channel": "log"}
    return {**COMMIT, **told, "notification_id": asked.notification_id, **more}


SPREAD_OF_N1 = 1_014_445_603 / 2**32
"""Four bytes of BLAKE2b of "n1", as a share."""
SAID = {"template": "restored", "language": "en", "record_version": 1, "waits": AT.stretches()}


def test_a_message_is_asked_for_whole() -> None:
    asked, facts = message("requested", None)
    assert asked == Notification(
        asked.notification_id, builders.REPAYMENT, RESTORED.caused_by, "log", "en", "restored", 1, "", NOW,
        next_attempt_at=NOW,
    )  # fmt: skip
    assert facts == [fact_of(asked, "NotificationRequested", **SAID)]


@pytest.mark.parametrize(
    ("account", "reason"), [(builders.ACCOUNT, "endpoint_disabled"), (PROBE_ACCOUNT, "no_channel")]
)
def test_nobody_is_written_to_at_a_closed_endpoint_or_behind_the_probe(account: AccountId, reason: str) -> None:
    asked, facts = message("suppressed", NOW, account)
    about: dict[str, Any] = {"account_id": account}
    assert facts == [
        fact_of(asked, "NotificationRequested", **SAID, **about),
        fact_of(asked, "NotificationSuppressed", reason=reason, **about),
    ]


@pytest.mark.parametrize(
    ("result", "name", "state", "more"),
    [
        ("delivered", "NotificationDelivered", "delivered", {"attempts": 4}),
        ("refused", "NotificationUndeliverable", "undeliverable", {"reason": "refused", "attempts": 4}),
        ("gone", "NotificationSuppressed", "suppressed", {"reason": "endpoint_disabled"}),
    ],
)
def test_how_a_message_ended_is_told_whole(result: Any, name: str, state: str, more: dict[str, Any]) -> None:
    asked = replace(message("requested", None)[0], attempts=3)
    known = replace(ENGLISH, notifications={asked.notification_id: asked, NotificationId("other"): asked})
    decision = notifier.decide(
        Channels(("log",)), known, Attempted(builders.ACCOUNT, asked.notification_id, result), AT
    )
    assert [said(fact) for fact in decision.events] == [fact_of(asked, name, **more)]
    assert (decision.outcome, decision.reason) == ("applied", "")
    after = decision.state.notifications[asked.notification_id]
    ended = {"state": state, "attempts": 4, "next_attempt_at": None, "ended_at": NOW}
    assert after == replace(asked, **ended)  # type: ignore[arg-type]
    assert decision.state.notifications["other"] == asked
    assert decision.state.disabled == ({"log"} if result == "gone" else set())


@pytest.mark.parametrize(
    ("attempts", "after", "wait"), [(1, 0, 5), (2, 0, 300), (9, 0, 86_400), (1, 6, 6), (2, 299, 300), (10, 0, None)]
)
def test_the_same_message_waits_the_same_after_an_upgrade(attempts: int, after: int, wait: int | None) -> None:
    asked = replace(message("requested", None)[0], notification_id=NotificationId("n1"), attempts=attempts)
    again = retry_at(asked, NOW, after)
    assert again == (None if wait is None else NOW + timedelta(seconds=wait * (1 + 0.2 * SPREAD_OF_N1)))


def test_e10_a_reference_told_with_another_amount_is_a_conflict_and_two_references_of_one_amount_are_two() -> None:
    pipe = Pipe().open(100_000, principal=90_000)
    pipe.repay(10_000, ref="a")
    pipe.repay(10_000, ref="b", at=FRIDAY + timedelta(minutes=2))
    assert (pipe.account.available_minor, pipe.debt.principal_minor) == (30_000, 70_000)
    books, debt = pipe.account, pipe.debt
    conflict = only(pipe.repay(20_000, ref="a", at=FRIDAY + timedelta(minutes=4)), RepaymentConflicted)
    assert (conflict.differs, conflict.repayment_id) == (("amount_minor",), rid("a"))
    assert pipe.outcomes[-1] == ("repayment-ingest", "conflict")
    assert (pipe.account, pipe.debt) == (books, debt), "what does not say the same is never taken for it"
