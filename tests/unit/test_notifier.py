"""notifier: one message a decision, repayment and channel; tried to an end."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from schemas.account import Language
from schemas.event import Event
from schemas.ids import EventId, derived_id
from schemas.notification import (
    Channel,
    NotificationDelivered,
    NotificationRequested,
    NotificationSuppressed,
    NotificationUndeliverable,
)
from schemas.reasons import Reason
from schemas.restoration import MovedPart
from services.decision import Decision
from services.notifier.domain import (
    JITTER,
    RETRY_SECONDS,
    Account,
    Attempted,
    Channels,
    Notification,
    Result,
    decide,
    notification_id,
)
from services.wording import limit_text
from tests import builders
from tests.unit.given import FRIDAY, all_of, check_fact, moment, only

LOG = Channels(("log",))
BOTH = Channels(("log", "webhook"))
CAUSE = EventId("cause_1")
KNOWN = Account(builders.ACCOUNT, "en", "Asia/Shanghai")
ALL_HELD_RECORD = builders.decision_record(outcome="held", restored_minor=0)
EXTENDED_RECORD = builders.decision_record(
    version=2, outcome="held", restored_minor=0, moved=MovedPart(3, builders.FIRST_HOLD_UNTIL), faster=()
)


def told(*events: Event, channels: Channels = LOG, state: Account = KNOWN) -> Decision[Account]:
    decision = Decision(state)
    facts: list[Event] = []
    for event in events:
        decision = decide(channels, decision.state, event, moment(FRIDAY))
        facts += decision.events
        for fact in decision.events:
            check_fact(fact)
    return Decision(decision.state, tuple(facts), outcome=decision.outcome, reason=decision.reason)


def tried(state: Account, result: Result, *, channel: Channel = "log", after: int = 0) -> Decision[Account]:
    message = next(n for n in state.notifications.values() if n.channel == channel)
    event = Attempted(builders.ACCOUNT, message.notification_id, result, after)
    return decide(LOG, state, event, moment(FRIDAY))


def message_of(state: Account) -> Notification:
    (message,) = state.notifications.values()
    return message


@pytest.mark.parametrize(
    ("event", "template"),
    [
        (builders.credit_restored(), "restored"),
        (builders.hold_placed(), "restored"),
        (builders.hold_placed(record=ALL_HELD_RECORD), "held"),
        (builders.nothing_to_restore(), "nothing_to_restore"),
        (builders.restoration_parked(), "parked"),
        (builders.restoration_delayed(), "delayed"),
        (builders.restoration_reversed(), "reversed"),
        (builders.hold_placed(record=EXTENDED_RECORD), "moved"),
        (builders.limit_increase_decided(), "limit_review"),
    ],
)
def test_each_decision_is_told_by_its_template(event: Event, template: str) -> None:
    decision = told(event)
    fact = only(decision.events, NotificationRequested)
    assert (fact.template, fact.channel, fact.language) == (template, "log", "en")
    message = message_of(decision.state)
    assert (message.state, message.next_attempt_at, message.attempts) == ("requested", FRIDAY, 0)
    assert message.text


def test_a_second_event_of_the_same_commit_asks_for_nothing() -> None:
    events = [builders.credit_restored(caused_by=CAUSE), builders.hold_placed(caused_by=CAUSE)]
    decision = told(*events)
    assert len(decision.events) == 1
    assert (decision.outcome, decision.reason) == ("stale", "told_before")


def test_another_cause_or_another_repayment_is_another_message() -> None:
    first = builders.credit_restored(caused_by=CAUSE)
    later = builders.credit_restored(caused_by=EventId("cause_2"))
    other = builders.credit_restored(caused_by=CAUSE, repayment_id="another")
    assert len(told(first, later, other).state.notifications) == 3


def test_every_channel_has_its_own_message() -> None:
    decision = told(builders.credit_restored(), channels=BOTH)
    assert [fact.channel for fact in all_of(decision.events, NotificationRequested)] == ["log", "webhook"]
    assert len(decision.state.notifications) == 2


def test_a_channel_added_later_is_asked_for_alone() -> None:
    event = builders.credit_restored()
    decision = told(event, channels=BOTH, state=told(event).state)
    assert only(decision.events, NotificationRequested).channel == "webhook"


def test_e13_an_account_not_known_yet_is_parked_and_woken() -> None:
    new = Account(builders.ACCOUNT)
    assert told(builders.credit_restored(), state=new) == Decision(new, outcome="parked", reason=Reason.ACCOUNT_UNKNOWN)
    opened = decide(LOG, new, builders.account_opened(language="zh-CN"), moment(FRIDAY))
    assert opened.wakes
    assert (opened.state.language, opened.state.timezone) == ("zh-CN", "Asia/Shanghai")


@pytest.mark.parametrize("event", [builders.promise_made(), builders.hold_released()])
def test_what_is_no_message_is_ignored(event: Event) -> None:
    assert told(event).outcome == "ignored"


def test_the_message_keeps_the_version_it_tells_and_the_fact_says_it() -> None:
    decision = told(builders.hold_placed(record=EXTENDED_RECORD))
    assert only(decision.events, NotificationRequested).record_version == 2
    assert message_of(decision.state).record_version == 2


@pytest.mark.parametrize("language", ["zh-CN", "en"])
def test_case_b_is_told_in_the_customers_language_and_about_no_repayment(language: Language) -> None:
    event = builders.limit_increase_decided()
    decision = told(event, state=replace(KNOWN, language=language))
    fact = only(decision.events, NotificationRequested)
    assert (fact.template, fact.repayment_id, fact.caused_by) == ("limit_review", None, event.caused_by)
    message = message_of(decision.state)
    assert message.text == limit_text(event, language=language)
    assert (message.repayment_id, message.record_version) == (None, 1)
    again = told(event, state=decision.state)
    assert (again.events, again.outcome, again.reason) == ((), "stale", "told_before")


def test_r27_a_missed_promise_is_told_once_and_the_true_time_when_the_credit_is_back() -> None:
    delayed = builders.restoration_delayed(caused_by=EventId("promise_due"))
    back_at = builders.REPAID_AT + timedelta(seconds=76)
    record = builders.decision_record(
        version=2,
        decided_at=back_at,
        promised_by=builders.REPAID_AT + timedelta(seconds=61),
        held=(),
        reasons=(Reason.RELEASE_TIMER,),
        faster=(),
    )
    restored = builders.credit_restored(caused_by=EventId("hold_due"), record=record)
    decision = told(delayed, delayed, restored)
    late, back = decision.state.notifications.values()
    assert (late.template, back.template) == ("delayed", "restored")
    assert "promised by Fri 20 Nov at 22:01:01 and is not back yet; we are sorry." in late.text
    assert "Why: we are slower than we promised." in late.text
    promised = "We had promised it by Fri 20 Nov at 22:01:01, and it is back since Fri 20 Nov at 22:01:16; we are sorry"
    assert promised in back.text
    assert "the date we gave you has come" not in back.text


def test_l10_a_correction_follows_the_restored_message_as_a_message_of_its_own() -> None:
    restored = builders.credit_restored(caused_by=CAUSE)
    taken_back = builders.restoration_reversed(caused_by=EventId("returned"))
    first, second = told(restored, taken_back).state.notifications.values()
    assert (first.template, second.template) == ("restored", "reversed")
    assert second.text.startswith("Correction: ")


def test_an_extension_tells_the_new_date_beside_the_old_one() -> None:
    message = message_of(told(builders.hold_placed(record=EXTENDED_RECORD)).state)
    assert (
        "The date of CN¥2,000.00 has moved: it comes back on Fri 27 Nov at 09:00, not on Tue 24 Nov at 09:00."
        in message.text
    )


def test_a_delivered_message_is_over() -> None:
    decision = tried(told(builders.credit_restored()).state, "delivered")
    assert message_of(decision.state).ended_at == FRIDAY
    assert only(decision.events, NotificationDelivered).attempts == 1
    assert message_of(decision.state).next_attempt_at is None
    again = tried(decision.state, "retry")
    assert (again.outcome, again.reason, again.state) == ("stale", "over_before", decision.state)


def test_a_message_s_id_is_of_the_commit_the_repayment_and_the_channel_it_is_about() -> None:
    restored, review = builders.credit_restored(), builders.limit_increase_decided()
    named = derived_id("notification", restored.caused_by, builders.REPAYMENT, "log")
    assert notification_id(restored, "log") == named
    assert notification_id(review, "log") == derived_id("notification", review.caused_by, "", "log")


def test_a_try_at_an_unknown_message_is_stale() -> None:
    stray = Attempted(builders.ACCOUNT, notification_id(builders.credit_restored(), "log"), "delivered")
    assert decide(LOG, KNOWN, stray, moment(FRIDAY)).outcome == "stale"


def test_a_refused_message_is_undeliverable() -> None:
    decision = tried(told(builders.credit_restored()).state, "refused")
    fact = only(decision.events, NotificationUndeliverable)
    assert (fact.reason, fact.attempts) == ("refused", 1)
    assert message_of(decision.state).state == "undeliverable"


def test_a_wait_is_up_to_a_fifth_longer_and_never_shorter() -> None:
    waits = []
    for n in range(200):
        tried_at = message_of(tried(told(builders.credit_restored(caused_by=f"{n:032x}")).state, "retry").state)
        assert tried_at.next_attempt_at is not None
        waits.append((tried_at.next_attempt_at - FRIDAY).total_seconds())
    assert 5 <= min(waits) < 5.05
    assert 5.95 < max(waits) <= 6


def test_tries_follow_the_schedule_and_end() -> None:
    state = told(builders.credit_restored()).state
    waits: list[float] = []
    for _ in RETRY_SECONDS:
        decision = tried(state, "retry")
        state = decision.state
        next_at = message_of(state).next_attempt_at
        assert next_at is not None
        assert (decision.outcome, decision.reason, decision.events) == ("applied", "retry", ())
        waits.append((next_at - FRIDAY).total_seconds())
    for wait, seconds in zip(waits, RETRY_SECONDS, strict=True):
        assert seconds <= wait <= seconds * (1 + JITTER)
    rule = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]
    assert [round(5 * wait / waits[0]) for wait in waits] == rule, "a message's waits are all as much longer"
    assert all(shorter < longer for shorter, longer in pairwise(waits))
    last = tried(state, "retry")
    fact = only(last.events, NotificationUndeliverable)
    assert (fact.reason, fact.attempts) == ("attempts_exhausted", len(RETRY_SECONDS) + 1)


def test_the_jitter_depends_on_the_message_alone() -> None:
    state = told(builders.credit_restored()).state
    assert tried(state, "retry") == tried(state, "retry")


def test_an_endpoint_that_asks_for_a_longer_wait_gets_it() -> None:
    state = tried(told(builders.credit_restored()).state, "retry", after=3_600).state
    next_at = message_of(state).next_attempt_at
    assert next_at is not None
    assert next_at >= FRIDAY + timedelta(hours=1)


def test_an_endpoint_that_is_gone_is_disabled_and_later_messages_are_suppressed() -> None:
    asked = told(builders.credit_restored(caused_by=CAUSE), channels=BOTH).state
    gone = tried(asked, "gone", channel="webhook")
    assert only(gone.events, NotificationSuppressed).reason == "endpoint_disabled"
    assert gone.state.disabled == {"webhook"}
    later = told(builders.credit_restored(caused_by=EventId("cause_2")), channels=BOTH, state=gone.state)
    assert [fact.channel for fact in all_of(later.events, NotificationRequested)] == ["log", "webhook"]
    assert only(later.events, NotificationSuppressed).channel == "webhook"
    states = [(n.channel, n.state, n.next_attempt_at) for n in later.state.notifications.values()]
    assert states[-2:] == [("log", "requested", FRIDAY), ("webhook", "suppressed", None)]
