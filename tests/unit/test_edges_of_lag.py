"""What the observer keeps of each event, whole: every instant, amount and word, and which word it lets be."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from schemas.event import Event
from schemas.ids import PROBE_ACCOUNT
from schemas.reasons import Reason
from services.decision import Decision
from services.lag_monitor.domain import decide
from services.lag_monitor.model import Fact, Journey, Notice, Part, Promise, Restored, Standing, Tally
from tests import builders
from tests.unit.given import moment

ID, ACCOUNT, AT = builders.REPAYMENT, builders.ACCOUNT, builders.REPAID_AT
TOLD_AT = AT + timedelta(seconds=2)
MINUTE = timedelta(seconds=60)
CAUSE = "c" * 32
QUEUE = "system_delay.processing"


def tell(state: Journey, event: Event) -> Decision[Journey]:
    return decide(None, state, event, moment(event.occurred_at + MINUTE, reported_at=event.occurred_at))


def heard(*events: Event, state: Journey | None = None) -> Journey:
    known = state or Journey(ID)
    for event in events:
        known = tell(known, event).state
    return known


def ignored(state: Journey, event: Event) -> bool:
    """Tell whether an event leaves a journey as it is, and is said to."""
    told = tell(state, event)
    return told.state is state and told.outcome == "ignored"


def part(number: int = 1, **known: Any) -> Part:
    usual = {"amount_minor": 100_000, "state": "promised", "cause": QUEUE, "since": TOLD_AT}
    return Part(number, **{**usual, **known})


def owes(promise: Promise) -> dict[Any, Promise]:
    return {(promise.slo, promise.tranche): promise}


def after(days: int) -> datetime:
    return AT + timedelta(days=days)


ABOUT: dict[str, Any] = {
    "account_id": ACCOUNT,
    "source": builders.SOURCE,
    "rail": "direct_debit",
    "amount_minor": 500_000,
    "currency": "CNY",
    "repaid_at": AT,
}
TAKEN = builders.repayment_received()
"""Taken in at 14:00:01.223."""
SETTLED = builders.repayment_settled()
LATE = builders.promise_made(tranche=2, basis="hold", promised_by=after(4), amount_minor=200_000)
HELD = builders.hold_placed(reasons=(Reason.HOLD_RAIL_REVERSIBLE,))
PARKED = builders.restoration_parked()
DONE = builders.credit_restored(caused_by=CAUSE)
LAST = builders.credit_restored(
    caused_by=CAUSE, record=builders.decision_record(held=(), decided_at=DONE.restored_at, parked_minor=0)
)
"""Nothing of its repayment waits any more."""


def test_a_report_says_what_is_repaid_and_the_one_that_it_succeeded_is_the_last() -> None:
    pending = builders.repayment_reported(status="pending")
    first = heard(pending)
    assert first == Journey(ID, **ABOUT, reported="pending", reported_at=AT)
    assert ignored(first, builders.repayment_reported(status="pending", occurred_at=after(1)))
    done = builders.repayment_reported(occurred_at=after(1))
    second = heard(done, state=first)
    assert second == replace(first, reported="succeeded", reported_at=after(1))
    assert ignored(second, builders.repayment_reported(status="pending", occurred_at=after(2)))
    assert ignored(second, builders.repayment_reported(occurred_at=after(2)))


def test_what_was_taken_in_stands_whatever_a_report_says_beside_it() -> None:
    taken = heard(TAKEN)
    assert taken == Journey(ID, **ABOUT, received="succeeded", received_at=TAKEN.occurred_at)
    other = builders.repayment_reported(amount_minor=1, rail="card", currency="JPY", repaid_at=after(-1))
    assert heard(other, state=taken) == replace(taken, reported="succeeded", reported_at=after(-1))


def test_a_pending_report_s_trail_is_kept_for_the_one_that_says_succeeded() -> None:
    pending = builders.repayment_received(status="pending")
    first = heard(pending)
    assert first == Journey(ID, **ABOUT, received="pending", received_at=pending.occurred_at, pending=pending.trail)
    second = heard(TAKEN, state=first)
    assert second == replace(first, received="succeeded", received_at=TAKEN.occurred_at)


@pytest.mark.parametrize(
    ("status", "through", "clamped"),
    [("succeeded", 1, True), ("succeeded", 0, False), ("pending", 1, False), ("failed", 1, False)],
)
def test_a_clock_was_clamped_where_a_success_has_no_stretch_of_its_report(
    status: str, through: int, clamped: bool
) -> None:
    taken = heard(builders.repayment_received(status=status, trail=TAKEN.trail[through:]))
    assert taken.tallies == ((Tally("credit_clock_skew_clamped_total", ("billing",)),) if clamped else ())


def test_what_is_settled_is_owed_a_decision_in_a_minute_and_may_be_returned_until_it_is_final() -> None:
    owed = owes(Promise("decided_60s", 0, SETTLED.settled_at + MINUTE))
    plain = Journey(ID, ACCOUNT, repaid_at=AT, settled_at=SETTLED.settled_at, promises=owed)
    assert heard(SETTLED) == replace(plain, returnable_until=SETTLED.final_on)
    assert heard(builders.repayment_settled(finality="final")) == plain


def test_a_rejected_repayment_is_over_for_its_reason_and_counted_as_one_of_no_tier() -> None:
    over = heard(builders.repayment_rejected())
    assert over == Journey(ID, ACCOUNT, outcome="rejected", reason=Reason.REPORTED_FAILED)
    (counted,) = heard(TAKEN, state=over).tallies
    assert counted == Tally("credit_repayments_total", ("unknown", builders.SOURCE))


def test_the_first_verdict_says_tier_and_whether_all_is_clear_a_later_one_nothing() -> None:
    verdict = builders.risk_assessed()
    known = heard(verdict)
    owed = owes(Promise("decided_60s", 0, verdict.settled_at + MINUTE))
    when: dict[str, Any] = {"settled_at": verdict.settled_at, "assessed_at": verdict.occurred_at}
    when |= {"tallies": (Tally("credit_assessed_repayments_total", ("medium", "direct_debit", "held")),)}
    assert known == Journey(ID, ACCOUNT, repaid_at=AT, **when, tier="medium", clear=False, promises=owed)
    assert heard(builders.risk_assessed(outcome="clear")).clear is True
    assert ignored(known, builders.risk_assessed(revision=1, tier="A"))


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        ({"outcome": "clear", "tier": "A", "rail": "wallet"}, ("low", "wallet", "at_once")),
        ({"outcome": "observe", "tier": "E"}, ("high", "direct_debit", "held")),
        ({"outcome": "refer", "tier": "unknown", "rail": "pigeon"}, ("unknown", "unknown", "held")),
    ],
)
def test_l16_a_first_verdict_counts_once_as_given_back_at_once_or_held(
    changes: dict[str, Any], labels: tuple[str, ...]
) -> None:
    known = heard(builders.risk_assessed(**changes))
    assert known.tallies == (Tally("credit_assessed_repayments_total", labels),)
    assert heard(builders.risk_assessed(**changes), state=known).tallies == known.tallies, "told again"
    nothing = builders.risk_assessed(**changes, restorable_minor=0, tranches=())
    assert heard(nothing).tallies == (), "there was no credit to hold"
    assert heard(builders.risk_assessed(**changes, account_id=PROBE_ACCOUNT)).tallies == (), "nobody waits for it"


def test_the_first_promise_is_kept_and_a_revised_one_or_another_is_not() -> None:
    made = builders.promise_made()
    first = heard(made)
    promised = part(promised_by=made.promised_by, basis="clear")
    assert first == Journey(ID, ACCOUNT, decided_at=TOLD_AT, parts={1: promised})
    assert ignored(first, builders.promise_made(promised_by=after(1)))
    assert ignored(Journey(ID), builders.promise_made(revision=1))
    later = heard(builders.promise_made(tranche=2, occurred_at=after(1)), state=first)
    assert later.decided_at == TOLD_AT, "the first decision is when it was decided"
    assert later.parts[2] == part(2, since=after(1), promised_by=made.promised_by, basis="clear")


def test_of_what_was_parked_without_a_promise_only_a_hold_is_promised() -> None:
    parked = heard(builders.restoration_parked(tranche=2))
    held = heard(LATE, state=parked)
    assert held.parts[2] == part(2, amount_minor=200_000, promised_by=after(4), basis="hold")
    assert held.promises == {("hold_promise", 2): Promise("hold_promise", 2, after(4))}
    clear = builders.promise_made(tranche=2, basis="clear")
    assert ignored(parked, clear)
    promised_first = heard(LATE, builders.restoration_parked(tranche=2))
    assert ignored(promised_first, builders.promise_made(tranche=2, basis="hold", promised_by=after(9)))


@pytest.mark.parametrize(
    ("reasons", "of_record", "cause"),
    [
        ((Reason.HOLD_RAIL_REVERSIBLE,), (Reason.HOLD_RAIL_REVERSIBLE,), "risk_observation.risk_hold"),
        ((Reason.HOLD_UNDER_REVIEW,), (Reason.HOLD_RAIL_REVERSIBLE,), "risk_observation.manual_review"),
        ((Reason.HOLD_RAIL_REVERSIBLE,), (Reason.HOLD_UNDER_REVIEW,), "risk_observation.manual_review"),
    ],
)
def test_a_hold_waits_until_its_date_for_the_rail_or_for_a_person(
    reasons: tuple[Reason, ...], of_record: tuple[Reason, ...], cause: str
) -> None:
    held = builders.hold_placed(reasons=reasons, record=builders.decision_record(reasons=of_record))
    waits = part(2, amount_minor=200_000, state="held", cause=cause, until=builders.FIRST_HOLD_UNTIL)
    known = heard(held)
    assert known == Journey(ID, ACCOUNT, repaid_at=AT, decided_at=TOLD_AT, parts={2: waits})
    assert known.standing == Standing("release", waits.cause, TOLD_AT, builders.FIRST_HOLD_UNTIL)


def test_what_is_parked_has_no_date_and_keeps_what_was_promised_of_it() -> None:
    promised = heard(builders.promise_made(tranche=1, basis="hold", promised_by=after(4)))
    held = heard(builders.hold_placed(tranche=1, until=after(4)), state=promised)
    later = builders.restoration_parked(occurred_at=after(1), amount_minor=90_000)
    parked = heard(later, state=held)
    frozen: dict[str, Any] = {"state": "parked", "cause": "account_standing.frozen", "since": after(1)}
    assert heard(later).decided_at == after(1), "to park it is to decide on it"
    assert parked.parts == {1: part(amount_minor=90_000, promised_by=after(4), basis="hold", **frozen)}
    assert (parked.account_id, parked.repaid_at, parked.decided_at) == (ACCOUNT, AT, TOLD_AT)
    assert (parked.promises["hold_promise", 1].outcome, parked.promises["hold_promise", 1].over_at) == (
        "void",
        after(1),
    )


def restored(event: Any = DONE) -> Journey:
    """Return what is known of a repayment of which a part was restored before anything else was heard."""
    at = event.restored_at
    back = part(state="restored", since=at, restored_at=at, caused_by=CAUSE)
    told = Restored(1, 100_000, "CNY", AT, at, event.trail)
    owed = owes(Promise("notify_60s", 1, at + MINUTE))
    counted = (Tally("credit_outcomes_total", ("restored", "none")),)
    when: dict[str, Any] = {"repaid_at": AT, "decided_at": at}
    return Journey(ID, ACCOUNT, **when, parts={1: back}, unplaced=(told,), promises=owed, tallies=counted)


def test_a_part_is_restored_once_and_the_last_one_ends_the_journey() -> None:
    assert heard(DONE) == restored()
    assert ignored(restored(), builders.credit_restored(restored_at=after(1), amount_minor=7))
    assert heard(LAST) == replace(restored(), outcome="restored", reason=Reason.RELEASE_WITHIN_CAP)


def test_a_journey_goes_on_while_anything_is_held_or_parked_by_the_record_or_by_what_was_heard() -> None:
    parked = builders.decision_record(held=(), decided_at=DONE.restored_at, parked_minor=1)
    assert heard(builders.credit_restored(record=parked)).outcome is None
    assert heard(HELD, LAST).outcome is None
    assert heard(builders.restoration_parked(tranche=2), LAST).outcome is None


def test_nothing_to_restore_ends_it_for_its_reason_and_a_return_first_as_returned() -> None:
    none = builders.nothing_to_restore()
    when: dict[str, Any] = {"repaid_at": AT, "decided_at": none.occurred_at}
    why = Reason.PAID_FEES_AND_INTEREST
    counted = (Tally("credit_outcomes_total", ("nothing_to_restore", why)),)
    assert heard(none) == Journey(ID, ACCOUNT, **when, outcome="nothing_to_restore", reason=why, tallies=counted)
    back = heard(builders.nothing_to_restore(reason=Reason.RETURNED))
    assert (back.outcome, back.reason) == ("returned", Reason.RETURNED)
    odd = heard(builders.nothing_to_restore(reason=Reason.DELAY_SYSTEM))
    assert odd.tallies == (Tally("credit_outcomes_total", ("nothing_to_restore", "other")),)


def test_what_waited_lapses_with_its_account_part_by_part() -> None:
    waits = heard(HELD, builders.restoration_parked(tranche=3))
    closed = builders.nothing_to_restore(reason=Reason.ACCOUNT_CLOSED)
    over = heard(closed, state=waits)
    at: dict[str, Any] = {"state": "lapsed", "since": closed.occurred_at, "until": None}
    assert over == replace(
        waits,
        parts={number: replace(waits.parts[number], **at) for number in (2, 3)},
        tallies=(Tally("credit_outcomes_total", ("lapsed", "none")),) * 2,
        outcome="lapsed",
        reason=Reason.ACCOUNT_CLOSED,
    )


def test_a_return_takes_back_what_was_restored_and_ends_what_waits() -> None:
    before = heard(DONE, HELD)
    back = builders.restoration_reversed(occurred_at=after(1))
    taken = heard(back, state=before)
    why = Reason.RETURNED_INSUFFICIENT_FUNDS
    counted = [Tally("credit_outcomes_total", (how, why)) for how in ("returned", "reversed")]
    assert taken == replace(
        before,
        parts={
            1: replace(before.parts[1], state="reversed", since=after(1)),
            2: replace(before.parts[2], state="returned", since=after(1), until=None),
        },
        tallies=(*before.tallies, *counted),
        outcome="restored",
        reason=why,
    )
    alone = heard(back)
    assert alone == Journey(ID, ACCOUNT, repaid_at=AT, decided_at=after(1), outcome="returned", reason=why)


def test_an_end_is_told_once() -> None:
    over = heard(builders.repayment_rejected())
    assert heard(builders.restoration_reversed(), state=over).outcome == "rejected"
    assert heard(builders.restoration_reversed(), state=over).reason == Reason.REPORTED_FAILED


ASKED = builders.notification_requested(caused_by=CAUSE, waits=(("system_delay.kafka_queue", TOLD_AT),))
NOTICE = Notice(
    *(ASKED.notification_id, CAUSE, "webhook", "restored", "requested", TOLD_AT, TOLD_AT),
    (("system_delay.kafka_queue", TOLD_AT),),
)


def test_a_message_is_followed_from_its_request_to_its_first_end() -> None:
    asked = heard(ASKED)
    counted = Tally("credit_notifications_total", ("webhook", "restored", "requested"))
    assert asked == Journey(ID, ACCOUNT, notices={NOTICE.notification_id: NOTICE}, tallies=(counted,))
    assert ignored(asked, ASKED)
    assert ignored(Journey(ID), builders.notification_delivered()), "an end is of a message that was asked for"
    gone = heard(builders.notification_undeliverable(occurred_at=after(1)), state=asked)
    assert gone.notices == {NOTICE.notification_id: replace(NOTICE, state="undeliverable", at=after(1))}
    assert gone.tallies[1:] == (Tally("credit_notifications_total", ("webhook", "restored", "undeliverable")),)
    assert ignored(gone, builders.notification_delivered(occurred_at=after(2))), "it ended"


@pytest.mark.parametrize(
    ("end", "became"),
    [
        (builders.notification_delivered, "delivered"),
        (builders.notification_undeliverable, "undeliverable"),
        (builders.notification_suppressed, "suppressed"),
    ],
)
def test_each_end_of_a_message_has_its_word(end: Any, became: str) -> None:
    (notice,) = heard(ASKED, end()).notices.values()
    assert notice.state == became


def test_a_restored_part_is_a_fact_once_its_tier_and_what_was_taken_in_are_known() -> None:
    verdict = builders.risk_assessed()
    assert heard(DONE, verdict).facts == heard(DONE, TAKEN).facts == ()
    pending = builders.repayment_received(status="pending")
    assert heard(DONE, verdict, pending).facts == ()
    for order in ((DONE, verdict, TAKEN), (TAKEN, DONE, verdict), (verdict, TAKEN, DONE)):
        known = heard(*order)
        (fact,) = known.facts
        assert fact == Fact(restored().unplaced[0], "medium", "direct_debit", fact.lag)
        assert (known.unplaced, fact.lag.milliseconds, fact.lag.unattributed_ms) == ((), 1_300, 0)
        again = heard(builders.feedback_received(), state=known)
        assert again.facts == known.facts, "written once"


def test_a_repayment_that_succeeded_is_counted_once_under_its_tier() -> None:
    verdict = builders.risk_assessed()
    counted = Tally("credit_repayments_total", ("medium", builders.SOURCE))
    known = heard(TAKEN, verdict)
    assert (known.counted, known.tallies[1:]) == (True, (counted,))
    assert heard(HELD, state=known).tallies.count(counted) == 1
    assert (heard(TAKEN).counted, heard(TAKEN).tallies, heard(verdict).counted) == (False, (), False)
    assert heard(builders.repayment_received(status="failed"), verdict).counted is False


def test_a_question_is_counted_beside_what_was_counted_before() -> None:
    asked = heard(builders.feedback_received(topic="when"), builders.feedback_received(topic="weather"))
    assert asked.tallies == (Tally("credit_feedback_total", ("when",)), Tally("credit_feedback_total", ("other",)))


def of_probe(**changes: Any) -> dict[str, Any]:
    return {"account_id": PROBE_ACCOUNT, **changes}


def test_of_a_probe_its_sending_its_way_round_and_its_loss_are_counted_once_each() -> None:
    sent = heard(builders.repayment_reported(**of_probe()))
    assert sent.tallies == (Tally("credit_probe_sent_total", ()),)
    assert sent.promises == {("probe_60s", 1): Promise("probe_60s", 1, AT + MINUTE)}
    verdict = builders.risk_assessed(**of_probe())
    known = heard(builders.repayment_received(**of_probe()), verdict, state=sent)
    assert known.tallies == sent.tallies
    back = heard(builders.credit_restored(**of_probe()), state=known)
    assert back.tallies == (*sent.tallies, Tally("credit_probe_roundtrip_seconds", (), 1_300))
    assert heard(builders.restoration_reversed(**of_probe()), state=back).tallies == back.tallies
    late = builders.credit_restored(**of_probe(restored_at=AT + MINUTE + timedelta(milliseconds=1)))
    assert Tally("credit_probe_lost_total", ()) in heard(late, state=known).tallies


def test_what_nobody_reported_was_not_sent() -> None:
    assert heard(builders.repayment_received(**of_probe())).tallies == ()
