"""Objectives of the lag ledger: who is owed what by when, and how it ends, once (lag 3.1 and 6)."""

from datetime import timedelta

import pytest

from schemas.event import Event
from schemas.notification import NotificationRequested
from schemas.restoration import CreditRestored
from services.lag_monitor.model import Journey, Promise, Tally
from services.metrics.catalogue import BY_NAME, NOTIFICATION_LAG, OUTCOMES, REPAYMENTS, SLA_OUTCOMES
from tests import builders
from tests.unit.given import ALL_HELD, FRIDAY, Pipe, all_of, china, profiles, rid
from tests.unit.test_lag_ledger import LATER, observed


def owed(events: list[Event], ref: str = "r1") -> dict[tuple[str, int], Promise]:
    return {(str(slo), n): promise for (slo, n), promise in observed(events)[rid(ref)].promises.items()}


def verdicts(events: list[Event], ref: str = "r1") -> dict[tuple[str, int], str | None]:
    return {at: promise.outcome for at, promise in owed(events, ref).items()}


def delivered(pipe: Pipe, seconds: float, of: int = 0) -> Event:
    """Return the delivery of a message asked for in ``pipe``, so long after."""
    asked = all_of(pipe.events, NotificationRequested)[of]
    told = {"notification_id": asked.notification_id, "channel": asked.channel, "repayment_id": asked.repayment_id}
    at = asked.occurred_at + timedelta(seconds=seconds)
    return builders.notification_delivered(**told, occurred_at=at, caused_by=asked.caused_by)


def test_a_clear_repayment_is_owed_a_decision_both_clear_promises_and_a_message() -> None:
    pipe = Pipe().open(600_000, principal=550_000)
    pipe.repay(500_000)
    found = owed(pipe.events)
    settled_at = FRIDAY + timedelta(seconds=2)
    deadlines = {at: promise.deadline_at - settled_at for at, promise in found.items()}
    assert deadlines == {
        ("decided_60s", 0): timedelta(seconds=60),
        ("low_risk_5s", 1): timedelta(seconds=5),
        ("low_risk_60s", 1): timedelta(seconds=60),
        ("notify_60s", 1): timedelta(seconds=60),
    }
    assert verdicts(pipe.events) == dict.fromkeys(found, "met") | {("notify_60s", 1): None}


def test_a_hold_is_owed_its_first_date_and_an_extension_changes_nothing_of_it() -> None:
    pipe = Pipe(profiles(ALL_HELD)).open(600_000, principal=550_000)
    pipe.repay(500_000, rail="direct_debit")
    first = owed(pipe.events)["hold_promise", 1].deadline_at
    pipe.take(builders.hold_extended(repayment_id=rid("r1"), tranche=1, until=china("2026-11-25")), china("2026-11-23"))
    assert owed(pipe.events)["hold_promise", 1].deadline_at == first
    pipe.pass_until(LATER)
    assert verdicts(pipe.events)["hold_promise", 1] == "breached"
    assert ("low_risk_5s", 1) not in owed(pipe.events)


def test_a_hold_that_ends_on_its_date_is_met() -> None:
    pipe = Pipe().open(600_000, principal=550_000)
    pipe.repay(500_000, rail="direct_debit")
    pipe.pass_until(LATER)
    found = verdicts(pipe.events)
    assert (found["hold_promise", 2], found["hold_promise", 3]) == ("met", "met")


def test_where_anything_is_held_nothing_is_owed_within_seconds() -> None:
    pipe = Pipe().open(600_000, principal=550_000)
    pipe.repay(500_000, rail="direct_debit")
    assert not [slo for slo, _ in owed(pipe.events) if slo.startswith("low_risk")]


def test_a_parked_part_s_promise_is_void_and_the_thaw_s_is_no_objective() -> None:
    pipe = Pipe(profiles(ALL_HELD)).open(600_000, principal=550_000)
    pipe.repay(500_000, rail="direct_debit")
    pipe.status("frozen", now=china("2026-11-23"))
    pipe.pass_until(china("2026-11-25"))
    pipe.status("active", now=china("2026-11-26"))
    assert verdicts(pipe.events)["hold_promise", 1] == "void"
    assert ("low_risk_60s", 1) not in owed(pipe.events)
    counted = observed(pipe.events)[rid("r1")].tallies
    assert Tally(SLA_OUTCOMES.name, ("hold_promise", "void")) not in counted


def test_what_is_held_again_by_a_thaw_is_owed_its_date() -> None:
    pipe = Pipe(profiles(ALL_HELD)).open(600_000, principal=550_000)
    pipe.status("frozen", now=FRIDAY)
    pipe.repay(500_000, rail="direct_debit")
    assert ("hold_promise", 1) not in owed(pipe.events)
    pipe.status("active", now=china("2026-11-23"))
    assert verdicts(pipe.events)["hold_promise", 1] is None
    pipe.pass_until(LATER)
    assert verdicts(pipe.events)["hold_promise", 1] == "met"


def test_a_return_voids_what_was_promised_of_it() -> None:
    pipe = Pipe(profiles(ALL_HELD)).open(600_000, principal=550_000)
    pipe.repay(500_000, rail="direct_debit")
    pipe.give_back(500_000, rail="direct_debit")
    assert verdicts(pipe.events)["hold_promise", 1] == "void"


@pytest.mark.parametrize(("seconds", "verdict"), [(59, "met"), (61, "breached")])
def test_a_message_counts_from_the_restoration_of_the_same_commit(seconds: int, verdict: str) -> None:
    pipe = Pipe().open(600_000, principal=550_000)
    pipe.repay(500_000)
    events = [*pipe.events, delivered(pipe, seconds)]
    assert verdicts(events)["notify_60s", 1] == verdict
    counted = observed(events)[rid("r1")].tallies
    assert Tally(NOTIFICATION_LAG.name, ("log",), seconds * 1000) in counted
    assert Tally("credit_notifications_total", ("log", "restored", "delivered")) in counted


def test_a_message_about_another_commit_tells_nothing_of_this_one() -> None:
    pipe = Pipe().open(600_000, principal=550_000)
    pipe.repay(500_000, rail="direct_debit")
    pipe.pass_until(LATER)
    events = [*pipe.events, delivered(pipe, 1)]
    found = verdicts(events)
    assert [found["notify_60s", n] for n in (1, 2, 3)] == ["met", None, None]


def test_who_cannot_be_reached_is_owed_no_message() -> None:
    pipe = Pipe().open(600_000, principal=550_000)
    pipe.repay(500_000)
    (asked,) = all_of(pipe.events, NotificationRequested)
    named = {"notification_id": asked.notification_id, "channel": asked.channel, "repayment_id": asked.repayment_id}
    gone = builders.notification_suppressed(**named, occurred_at=asked.occurred_at, caused_by=asked.caused_by)
    assert verdicts([*pipe.events, gone])["notify_60s", 1] == "void"


def counted(events: list[Event], ref: str = "r1") -> list[tuple[str, ...]]:
    return [t.labels for t in observed(events)[rid(ref)].tallies if t.metric == OUTCOMES.name]


def test_each_part_is_counted_by_how_it_ended() -> None:
    pipe = Pipe().open(600_000, principal=550_000)
    pipe.repay(500_000, rail="direct_debit")
    assert counted(pipe.events) == [("restored", "none")]
    pipe.give_back(500_000, rail="direct_debit")
    back = "RETURNED_INSUFFICIENT_FUNDS"
    assert counted(pipe.events) == [("restored", "none"), ("returned", back), ("returned", back), ("reversed", back)]


def test_a_closing_lets_parts_lapse_and_what_comes_after_it_restores_nothing() -> None:
    pipe = Pipe(profiles(ALL_HELD)).open(600_000, principal=550_000)
    pipe.repay(500_000, rail="direct_debit")
    pipe.status("closed")
    pipe.repay(1_000, ref="r2")
    assert counted(pipe.events) == [("lapsed", "none")]
    assert counted(pipe.events, "r2") == [("nothing_to_restore", "ACCOUNT_CLOSED")]


def test_a_repayment_is_counted_once_its_tier_is_known_or_never_will_be() -> None:
    def repayments(journey: Journey) -> list[tuple[str, ...]]:
        return [tally.labels for tally in journey.tallies if tally.metric == REPAYMENTS.name]

    pipe = Pipe().open(600_000, principal=550_000)
    pipe.repay(500_000)
    pipe.repay(500, ref="foreign", currency="USD")
    pipe.repay(500, ref="failed", status="pending")
    pipe.take(builders.repayment_failed(external_ref="failed", amount_minor=500, rail="wallet"))
    found = observed(pipe.events)
    assert repayments(found[rid("r1")]) == [("unknown", builders.SOURCE)]
    assert repayments(found[rid("foreign")]) == [("unknown", builders.SOURCE)]
    assert repayments(found[rid("failed")]) == []


def test_a_repayment_date_ahead_of_the_broker_is_a_clock_that_was_clamped() -> None:
    received = builders.repayment_received(trail=builders.trail(through="ingest")[1:])
    journey = observed([received])[builders.REPAYMENT]
    assert [t.labels for t in journey.tallies] == [("billing",)]
    assert observed([builders.repayment_received()])[builders.REPAYMENT].tallies == ()


def test_ten_thousand_repayments_are_counted_under_labels_of_the_catalogue() -> None:
    restored = builders.credit_restored()
    events: list[Event] = [
        builders.repayment_received(),
        builders.risk_assessed(),
        restored,
        builders.notification_requested(caused_by=restored.caused_by),
        builders.notification_delivered(),
    ]
    counted: set[tuple[str, tuple[str, ...]]] = set()
    for n in range(10_000):
        named = {"repayment_id": rid(str(n)), "account_id": f"acct_{n}"}
        told = observed([event.model_copy(update=named) for event in events])
        counted |= {(tally.metric, tally.labels) for journey in told.values() for tally in journey.tallies}
    assert {name for name, _ in counted} >= {REPAYMENTS.name, OUTCOMES.name, SLA_OUTCOMES.name, NOTIFICATION_LAG.name}
    assert not [
        (name, labels)
        for name, labels in counted
        if labels not in BY_NAME[name].label_sets({"source": (builders.SOURCE,)})
    ]


def test_questions_are_counted_by_topics_that_are_known() -> None:
    for topic, label in (("when", "when"), ("my dog", "other")):
        event = builders.feedback_received(topic=topic.replace(" ", "_"))
        (journey,) = observed([event]).values()
        assert [t.labels for t in journey.tallies] == [(label,)]


def test_restored_and_told_name_the_same_commit() -> None:
    pipe = Pipe().open(600_000, principal=550_000)
    pipe.repay(500_000)
    (restored,) = all_of(pipe.events, CreditRestored)
    (asked,) = all_of(pipe.events, NotificationRequested)
    assert restored.caused_by == asked.caused_by
