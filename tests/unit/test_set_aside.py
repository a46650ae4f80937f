"""What `otb dlq` says of a record set aside: what a parked one waits for, by the reason its service gave."""

from collections.abc import Callable

import pytest

from schemas.event import Event
from schemas.topics import TOPIC_OF
from services.cli.dlq import Aside, verdict_of
from services.decision import Decision
from services.limit_release import domain as limit_release
from services.limit_release.model import Account as Credit
from services.limit_release.model import State
from services.notifier import domain as notifier
from services.risk_scoring import domain as risk_scoring
from services.risk_scoring.model import Account
from services.runtime.codec import headers_to_bytes
from services.settlement import domain as settlement
from services.settlement.model import Account as Debtor
from tests import builders
from tests.contract.records import record_of
from tests.unit.given import FRIDAY, moment, profiles

NOW = moment(FRIDAY)
RETURN = builders.repayment_returned(finality="provisional", reallocated=(), occurred_at=FRIDAY)
APPROVED = builders.hold_release_approved(occurred_at=FRIDAY)
RECEIVED, VERDICT, RESTORED = builders.repayment_received(), builders.risk_assessed(), builders.credit_restored()
ITS_ACCOUNT, ITS_REPAYMENT = "it waits for that account", "it waits for the repayment it names"


def said(service: str, event: Event, reason: str, kind: str = "parked") -> str:
    record = record_of(event)
    row = {"kind": kind, "topic": TOPIC_OF[type(event)].name, "reason": reason}
    kept = {"key": record.key, "value": record.value, "headers": headers_to_bytes(record.headers)}
    found = verdict_of(Aside(service, {**row, **kept}))
    assert found.readable
    return found.words


def scored(event: Event) -> Decision[Account]:
    return risk_scoring.decide(profiles(), Account(builders.ACCOUNT), event, NOW)


def owed(event: Event) -> Decision[Debtor]:
    return settlement.decide(profiles(), Debtor(builders.ACCOUNT), event, NOW)


def released(event: Event) -> Decision[State]:
    return limit_release.decide(profiles(), State(Credit(builders.ACCOUNT)), event, NOW)


def told(event: Event) -> Decision[notifier.Account]:
    return notifier.decide(notifier.Channels(("log",)), notifier.Account(builders.ACCOUNT), event, NOW)


@pytest.mark.parametrize(
    ("service", "event", "decide", "words"),
    [
        ("risk-scoring", RETURN, scored, ITS_REPAYMENT),
        ("risk-scoring", APPROVED, scored, ITS_REPAYMENT),
        ("settlement", RECEIVED, owed, ITS_ACCOUNT),
        ("limit-release", VERDICT, released, ITS_ACCOUNT),
        ("notifier", RESTORED, told, ITS_ACCOUNT),
    ],
)
def test_a_parked_record_says_what_it_waits_for(
    service: str, event: Event, decide: Callable[[Event], Decision[object]], words: str
) -> None:
    decision = decide(event)
    assert decision.outcome == "parked"
    named = f"can be read as {type(event).__name__} of {event.account_id}"
    assert said(service, event, str(decision.reason)) == f"{named}; {words}"


def test_a_parked_record_that_was_refused_when_it_came_back_says_why_and_a_dead_letter_would_be_handled() -> None:
    named = f"can be read as RepaymentReceived of {builders.ACCOUNT}"
    refused = f"{named}; it is tried again by itself; it was refused last: currency_mismatch"
    assert said("settlement", RECEIVED, "currency_mismatch") == refused
    assert said("settlement", RECEIVED, "currency_mismatch", "dead_letter") == f"{named}: it would be handled"
