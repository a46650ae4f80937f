"""Sections 3.2 and 7 of the rule book: reviews, revisions, and what becomes of a promise (R17, R19, R23, R27)."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from schemas.event import Event, lag_by_cause, milliseconds_between
from schemas.reasons import Reason
from schemas.restoration import (
    CreditRestored,
    HoldPlaced,
    HoldReleased,
    NothingToRestore,
    PromiseMade,
    RestorationDelayed,
    RestorationParked,
)
from schemas.risk import Tranche
from services.decision import Decision, TimerFired
from services.limit_release.domain import DECISION_DUE, HOLD_DUE, PROMISE_DUE, decide
from services.limit_release.holds import timer_of
from services.limit_release.model import LANE, State, TrancheState
from tests import builders
from tests.unit.given import FRIDAY, Pipe, all_of, check_ledger, check_trail, china, moment, only, profiles, rid

TUESDAY, NEXT_FRIDAY = china("2026-11-24", "09:00"), china("2026-11-27", "09:00")
SLACK = timedelta(seconds=60)
R1 = rid("r1")


def held() -> Pipe:
    """Run Case A up to its first decision: 100000 restored, 200000 until Tuesday, 200000 until Friday."""
    pipe = Pipe().open(600_000, principal=550_000)
    pipe.repay(500_000, rail="direct_debit")
    return pipe


def extend(pipe: Pipe, until: datetime = NEXT_FRIDAY, *, now: datetime = FRIDAY, **changes: Any) -> list[Event]:
    return pipe.take(builders.hold_extended(repayment_id=R1, until=until, **changes), now)


def approve(pipe: Pipe, amount: int | None = None, *, now: datetime = FRIDAY, **changes: Any) -> list[Event]:
    event = builders.hold_release_approved(repayment_id=R1, amount_minor=amount, **changes)
    return pipe.take(event, now)


def outcome(pipe: Pipe, event: Event) -> tuple[str, str]:
    decision: Decision[State] = decide(pipe.policy, pipe.credit, event, moment(pipe.now))
    if decision.outcome == "stale":
        assert decision.state == pipe.credit
        assert (decision.events, decision.timers) == ((), ())
    return decision.outcome, decision.reason


# ---- a reviewer releases ------------------------------------------------------------------------------------


def test_a_reviewer_ends_a_hold_early() -> None:
    pipe = held()
    facts = approve(pipe, now=FRIDAY + timedelta(hours=1))
    assert only(facts, HoldReleased).reason is Reason.RELEASE_REVIEWED
    restored = only(facts, CreditRestored)
    assert (restored.tranche, restored.amount_minor, restored.available_credit_minor) == (2, 200_000, 350_000)
    check_trail(restored, restored.restored_at)
    assert pipe.account.journals[-1].kind == "RELEASE"
    later = pipe.pass_until(TUESDAY + SLACK)
    assert not all_of(later, CreditRestored), "its own date finds nothing to restore"


def test_e05_a_part_released_is_a_tranche_of_its_own_and_the_sum_is_kept() -> None:
    pipe = held()
    facts = approve(pipe, 50_000)
    restored = only(facts, CreditRestored)
    assert (restored.tranche, restored.amount_minor, restored.available_credit_minor) == (4, 50_000, 200_000)
    promise, hold = only(facts, PromiseMade), only(facts, HoldPlaced)
    assert (promise.tranche, promise.amount_minor, promise.promised_by) == (4, 50_000, TUESDAY + SLACK)
    assert (hold.tranche, hold.amount_minor, hold.until) == (2, 150_000, TUESDAY)
    assert {n: t.amount_minor for n, t in pipe.repayment("r1").tranches.items()} == {
        1: 100_000,
        2: 150_000,
        3: 200_000,
        4: 50_000,
    }
    restored = only(pipe.pass_until(TUESDAY), CreditRestored)
    assert (restored.tranche, restored.amount_minor) == (2, 150_000)


def test_e05_two_partial_releases_never_give_more_than_was_held() -> None:
    pipe = held()
    first = approve(pipe, 150_000, reason="a")
    second = approve(pipe, 150_000, reason="b")
    assert [e.amount_minor for e in all_of((*first, *second), CreditRestored)] == [150_000, 50_000]
    assert pipe.repayment("r1").part("held") == 200_000
    assert outcome(pipe, builders.hold_release_approved(repayment_id=R1)) == ("stale", "not_held")


def test_a_hold_in_too_many_parts_is_not_split_again() -> None:
    pipe = held()
    for n in range(96):
        approve(pipe, 1, reason=f"reason-{n}")
    assert max(pipe.repayment("r1").tranches) == 99
    again = builders.hold_release_approved(repayment_id=R1, amount_minor=1)
    assert outcome(pipe, again) == ("stale", "too_many_parts")


@pytest.mark.parametrize("amount", [None, 50_000])
def test_r23_a_release_approved_while_frozen_waits_for_the_thaw(amount: int | None) -> None:
    pipe = held()
    pipe.status("frozen", "overdue")
    facts = approve(pipe, amount, now=FRIDAY + timedelta(hours=1))
    parked = only(facts, RestorationParked)
    assert (parked.amount_minor, parked.reason) == (amount or 200_000, Reason.ACCOUNT_OVERDUE)
    restored = only(pipe.status("active", now=FRIDAY + timedelta(hours=2)), CreditRestored)
    assert restored.amount_minor == (amount or 200_000)
    split = lag_by_cause(restored.repaid_at, restored.trail)
    assert split["release", "account_standing.frozen"] == 3_600_000


def test_a_review_of_what_is_not_held_changes_nothing() -> None:
    pipe = held()
    for event in (
        builders.hold_release_approved(repayment_id=R1, tranche=1),
        builders.hold_release_approved(repayment_id=R1, tranche=9),
        builders.hold_release_approved(repayment_id=rid("other")),
        builders.hold_extended(repayment_id=R1, tranche=1),
        builders.hold_extended(repayment_id=rid("other")),
    ):
        assert outcome(pipe, event) == ("stale", "not_held")


# ---- a reviewer extends -------------------------------------------------------------------------------------


def test_an_extension_is_a_later_revision_told_before_the_old_date_passes() -> None:
    pipe = held()
    facts = extend(pipe, now=TUESDAY - timedelta(hours=1))
    promise, hold = only(facts, PromiseMade), only(facts, HoldPlaced)
    assert (promise.tranche, promise.revision, promise.promised_by) == (2, 1, NEXT_FRIDAY + SLACK)
    assert (hold.until, hold.record.moved) == (NEXT_FRIDAY, (2, TUESDAY))
    assert hold.record.reasons[0] is Reason.HOLD_UNDER_REVIEW
    assert hold.occurred_at < TUESDAY


def test_extending_never_turns_a_broken_promise_into_a_kept_one() -> None:
    pipe = held()
    extend(pipe)
    facts = pipe.pass_until(NEXT_FRIDAY)
    delayed = only(facts, RestorationDelayed)
    assert (delayed.tranche, delayed.promised_by) == (2, TUESDAY + SLACK)
    assert delayed.cause == "risk_observation.manual_review"
    assert (delayed.record.outcome, delayed.record.late_minor) == ("delayed", 200_000)
    assert delayed.record.reasons == (Reason.DELAY_REVIEW,)
    late = next(event for event in all_of(facts, CreditRestored) if event.tranche == 2)
    assert (late.restored_at, late.promised_by) == (NEXT_FRIDAY, TUESDAY + SLACK)
    split = lag_by_cause(late.repaid_at, late.trail)
    assert split["release", "risk_observation.manual_review"] == milliseconds_between(TUESDAY, NEXT_FRIDAY)
    assert split["release", "risk_observation.risk_hold"] == milliseconds_between(FRIDAY, TUESDAY) - 2_000
    check_trail(late, late.restored_at)


def test_an_extension_missed_through_an_outage_is_still_the_reviews_delay() -> None:
    pipe = held()
    extend(pipe)
    facts = pipe.sleep_until(NEXT_FRIDAY + timedelta(minutes=5))
    causes = {event.tranche: event.cause for event in all_of(facts, RestorationDelayed)}
    assert causes == {2: "risk_observation.manual_review", 3: "system_delay.processing"}


@pytest.mark.parametrize(
    ("until", "now", "reason"),
    [
        (NEXT_FRIDAY, TUESDAY, "date_passed"),
        (TUESDAY, FRIDAY, "not_later"),
        (TUESDAY - timedelta(days=1), FRIDAY, "not_later"),
        (china("2026-12-07", "09:00"), FRIDAY, "beyond_the_longest_hold"),
    ],
)
def test_an_extension_is_refused_by_its_date(until: datetime, now: datetime, reason: str) -> None:
    pipe = held()
    pipe.now = now
    assert outcome(pipe, builders.hold_extended(repayment_id=R1, until=until)) == ("stale", reason)


def test_a_hold_is_extended_at_most_as_often_as_the_profile_allows() -> None:
    pipe = held()
    extend(pipe, TUESDAY + timedelta(days=1))
    again = builders.hold_extended(repayment_id=R1, until=NEXT_FRIDAY)
    assert outcome(pipe, again) == ("stale", "extended_before")
    pipe.policy = profiles({"promise.extensions_max": 2})
    extend(pipe)
    assert (pipe.repayment("r1").tranches[2].extensions, pipe.repayment("r1").tranches[2].promises) == (2, 3)


def test_an_extended_hold_may_still_be_released_early_and_keep_its_promise() -> None:
    pipe = held()
    extend(pipe)
    restored = only(approve(pipe, now=TUESDAY - timedelta(hours=1)), CreditRestored)
    assert restored.restored_at < restored.promised_by == TUESDAY + SLACK
    assert not all_of(pipe.pass_until(TUESDAY + SLACK), RestorationDelayed)


# ---- a newer verdict ----------------------------------------------------------------------------------------


def revised(*parts: tuple[int, int, datetime], revision: int = 1, **changes: Any) -> Event:
    tranches = tuple(Tranche(n, amount, at, Reason.RELEASE_VERIFIED_ACCOUNT) for n, amount, at in parts)
    values = {"repayment_id": R1, "tranches": tranches, "reasons": (Reason.RELEASE_VERIFIED_ACCOUNT,)}
    return builders.risk_assessed(revision=revision, **values, **changes)


def test_a_newer_verdict_restores_what_is_due_now_and_moves_the_rest_to_earlier_dates() -> None:
    pipe = held()
    sooner = TUESDAY + timedelta(days=1)
    facts = pipe.take(revised((1, 100_000, FRIDAY), (2, 200_000, FRIDAY), (3, 200_000, sooner)), FRIDAY)
    assert only(facts, HoldReleased).reason is Reason.RELEASE_VERIFIED_ACCOUNT
    assert (only(facts, CreditRestored).tranche, only(facts, CreditRestored).available_credit_minor) == (2, 350_000)
    promise, hold = only(facts, PromiseMade), only(facts, HoldPlaced)
    assert (promise.tranche, promise.revision, promise.promised_by) == (3, 1, sooner + SLACK)
    assert (hold.until, hold.record.moved) == (sooner, (3, NEXT_FRIDAY))
    restored = only(pipe.pass_until(sooner), CreditRestored)
    assert (restored.restored_at, restored.promised_by) == (sooner, NEXT_FRIDAY + SLACK)


def test_a_newer_verdict_never_moves_a_date_later() -> None:
    pipe = held()
    later = revised((2, 200_000, NEXT_FRIDAY), (3, 200_000, NEXT_FRIDAY), (7, 1, FRIDAY))
    assert outcome(pipe, later) == ("stale", "not_earlier")


def test_an_older_verdict_than_the_one_taken_is_stale() -> None:
    pipe = held()
    pipe.take(revised((3, 200_000, TUESDAY), revision=2))
    assert outcome(pipe, revised((2, 200_000, FRIDAY), revision=1)) == ("stale", "assessed_before")
    pipe.give_back(500_000, rail="direct_debit")
    assert outcome(pipe, revised((2, 200_000, FRIDAY), revision=3)) == ("stale", "assessed_before")


def test_a_newer_verdict_while_frozen_parks_what_is_due_and_brings_parked_dates_forward() -> None:
    pipe = held()
    pipe.status("frozen")
    facts = pipe.take(revised((2, 200_000, FRIDAY)))
    assert only(facts, RestorationParked).amount_minor == 200_000
    pipe = Pipe().open(600_000, principal=550_000)
    pipe.status("frozen")
    pipe.repay(500_000, rail="direct_debit")
    assert not all_of(pipe.take(revised((3, 200_000, TUESDAY))), PromiseMade)
    facts = pipe.status("active")
    assert [hold.until for hold in all_of(facts, HoldPlaced)] == [TUESDAY, TUESDAY]


# ---- the decision itself is owed ----------------------------------------------------------------------------


def undecided(restorable: int = 30_000) -> Pipe:
    """Settle a repayment while risk-scoring is down."""
    pipe = Pipe().open(200_000, principal=120_000)
    settled = builders.repayment_settled(
        repayment_id=R1, amount_minor=30_000, rail="wallet", restorable_minor=restorable, settled_at=FRIDAY
    )
    decision = decide(pipe.policy, pipe.credit, settled, moment(FRIDAY))
    assert not decision.events
    pipe.credit = decision.state
    pipe.timers |= {timer.key: timer for timer in decision.timers}
    return pipe


def clear(seconds: float, **changes: Any) -> Event:
    now = FRIDAY + timedelta(seconds=seconds)
    tranches = (Tranche(1, 30_000, now, Reason.RELEASE_FINAL_RAIL),)
    values = {"rail": "wallet", "reasons": (Reason.RELEASE_FINAL_RAIL,), "restorable_minor": 30_000}
    return builders.risk_assessed(
        **{"repayment_id": R1, "amount_minor": 30_000, "settled_at": FRIDAY, "tranches": tranches, **values, **changes}
    )


def assess(pipe: Pipe, seconds: float, **changes: Any) -> list[Event]:
    pipe.now = FRIDAY + timedelta(seconds=seconds)
    decision = decide(pipe.policy, pipe.credit, clear(seconds, **changes), moment(pipe.now))
    pipe.credit = decision.state
    check_ledger(pipe.account)
    return list(decision.events)


def test_r27_a_clear_repayment_restored_15_seconds_late_was_told_late_once_at_60_seconds() -> None:
    pipe = undecided()
    at_60 = pipe.pass_until(FRIDAY + timedelta(seconds=60))
    delayed = only(at_60, RestorationDelayed)
    assert (delayed.tranche, delayed.cause) == (1, "system_delay.processing")
    assert delayed.occurred_at == delayed.promised_by == FRIDAY + timedelta(seconds=60)
    assert (delayed.record.outcome, delayed.record.late_minor) == ("delayed", 30_000)
    assert delayed.record.available_credit_minor == 80_000
    facts = assess(pipe, 75)
    assert not all_of(facts, RestorationDelayed)
    restored = only(facts, CreditRestored)
    assert restored.restored_at - restored.promised_by == timedelta(seconds=15)
    assert only(facts, PromiseMade).promised_by == FRIDAY + timedelta(seconds=60)
    assert restored.record.version == 2


def test_r27_a_decision_late_through_our_own_outage_is_told_with_its_credit() -> None:
    pipe = undecided()
    pipe.timers.clear()
    facts = assess(pipe, 75)
    assert [type(event) for event in facts] == [PromiseMade, RestorationDelayed, CreditRestored]
    assert only(facts, RestorationDelayed).promised_by == FRIDAY + timedelta(seconds=60)


def test_r27_a_decision_in_time_is_asked_for_and_nothing_is_told() -> None:
    pipe = undecided()
    assert not all_of(assess(pipe, 1), RestorationDelayed)
    assert pipe.pass_until(FRIDAY + timedelta(minutes=2)) == []


def test_what_gives_nothing_back_owes_no_decision_and_no_promise() -> None:
    assert not undecided(0).timers
    pipe = undecided()
    pipe.credit = decide(
        pipe.policy, pipe.credit, builders.account_status_changed(status="closed"), moment(FRIDAY)
    ).state
    assert pipe.pass_until(FRIDAY + timedelta(minutes=2)) == []
    assert only(assess(pipe, 130), NothingToRestore).reason is Reason.ACCOUNT_CLOSED


def test_a_verdict_or_a_return_before_its_settlement_leaves_nothing_owed() -> None:
    for first in (clear(1), builders.repayment_returned(repayment_id=R1, reallocated=())):
        pipe = Pipe().open(200_000, principal=120_000)
        state = decide(pipe.policy, pipe.credit, first, moment(FRIDAY)).state
        settled = builders.repayment_settled(repayment_id=R1, settled_at=FRIDAY)
        after = decide(pipe.policy, state, settled, moment(FRIDAY))
        assert (after.state, after.timers, after.reason) == (state, (), "no_decision_owed")


def test_two_clear_parts_of_a_late_decision_are_each_told_once() -> None:
    pipe = undecided()
    pipe.pass_until(FRIDAY + timedelta(seconds=60))
    two = tuple(Tranche(n, 15_000, FRIDAY, Reason.RELEASE_FINAL_RAIL) for n in (1, 2))
    facts = assess(pipe, 75, tranches=two)
    assert [event.tranche for event in all_of(facts, RestorationDelayed)] == [2]
    assert [event.tranche for event in all_of(facts, CreditRestored)] == [1, 2]


# ---- the timers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [HOLD_DUE, PROMISE_DUE, DECISION_DUE])
def test_e15_a_timer_that_fires_twice_has_one_effect(kind: str) -> None:
    pipe = undecided() if kind == DECISION_DUE else held()
    timer = next(timer for timer in pipe.timers.values() if timer.kind == kind)
    fired, at = TimerFired(builders.ACCOUNT, timer), moment(timer.due_at + timedelta(seconds=1))
    once = decide(pipe.policy, pipe.credit, fired, at)
    assert once.outcome == "applied"
    twice = decide(pipe.policy, once.state, fired, at)
    if kind == DECISION_DUE:
        assert [type(event) for event in once.events] == [RestorationDelayed]
        assert once.state.repayments[R1].late
    assert (twice.outcome, twice.state, twice.events) == ("stale", once.state, ())


def test_a_promise_told_late_is_not_told_again_when_the_credit_comes() -> None:
    pipe = held()
    timers = {timer.key: timer for timer in pipe.timers.values()}
    promise = timers[f"promise_due:{R1}:2"]
    late = moment(promise.due_at + timedelta(seconds=1))
    told = decide(pipe.policy, pipe.credit, TimerFired(builders.ACCOUNT, promise), late)
    assert only(told.events, RestorationDelayed).record.reasons == (Reason.DELAY_SYSTEM,)
    hold = timers[f"hold_due:{R1}:2"]
    done = decide(pipe.policy, told.state, TimerFired(builders.ACCOUNT, hold), late)
    assert [type(event) for event in done.events] == [HoldReleased, CreditRestored]
    assert only(done.events, CreditRestored).restored_at > only(done.events, CreditRestored).promised_by


def test_r19_a_thaw_restores_the_repayment_and_frees_what_the_freeze_hid() -> None:
    pipe = Pipe().open(200_000, principal=150_000)
    pipe.status("frozen", "overdue")
    assert (pipe.account.available_minor, pipe.account.shown(spendable=False)) == (50_000, 0)
    facts = assess(pipe, 0, amount_minor=25_000, restorable_minor=24_000, tranches=(
        Tranche(1, 24_000, FRIDAY, Reason.RELEASE_FINAL_RAIL),
    ))  # fmt: skip
    assert only(facts, RestorationParked).amount_minor == 24_000
    restored = only(pipe.status("active", now=FRIDAY + timedelta(days=1)), CreditRestored)
    assert (restored.amount_minor, restored.available_credit_minor) == (24_000, 74_000)
    assert (restored.record.available_before_minor, restored.record.other_minor) == (0, 0)
    assert restored.reason is Reason.ACCOUNT_ACTIVE_AGAIN


def test_r23_a_suspended_promise_is_replaced_by_a_new_one_at_the_thaw() -> None:
    pipe = held()
    pipe.status("frozen", "overdue_elsewhere")
    assert only(pipe.pass_until(TUESDAY), RestorationParked).tranche == 2
    thaw = TUESDAY + timedelta(seconds=30)
    facts = pipe.status("active", now=thaw)
    promise = only(facts, PromiseMade)
    assert (promise.revision, promise.basis, promise.promised_by) == (1, "clear", thaw + timedelta(seconds=60))
    assert only(facts, CreditRestored).promised_by == promise.promised_by
    assert not all_of(pipe.pass_until(TUESDAY + timedelta(hours=1)), RestorationDelayed)


def test_a_hold_for_a_look_waits_for_a_person() -> None:
    pipe = Pipe().open(200_000, principal=120_000)
    tranches = (Tranche(1, 30_000, TUESDAY, Reason.HOLD_UNDER_REVIEW),)
    assess(pipe, 0, outcome="refer", tranches=tranches, reasons=(Reason.HOLD_UNDER_REVIEW,))
    timer = TimerFired(builders.ACCOUNT, timer_of(pipe.credit, pipe.repayment("r1").tranches[1], HOLD_DUE))
    restored = only(decide(pipe.policy, pipe.credit, timer, moment(TUESDAY)).events, CreditRestored)
    assert restored.cause == "risk_observation.manual_review"


# ---- the lane -----------------------------------------------------------------------------------------------

STATES: tuple[TrancheState, ...] = ("held", "parked", "restored", "voided", "reversed", "lapsed")


@pytest.mark.parametrize("before", STATES)
@pytest.mark.parametrize("after", STATES)
def test_a_tranche_moves_along_the_lane_only(before: TrancheState, after: TrancheState) -> None:
    tranche = replace(held().repayment("r1").tranches[2], state=before)
    if (before, after) in LANE:
        assert tranche.to(after).state == after
    else:
        with pytest.raises(ValueError, match=f"cannot go from {before} to {after}"):
            tranche.to(after)


def test_the_ends_of_the_lane_are_ends() -> None:
    assert {before for before, _ in LANE} == {"held", "parked", "lapsed", "restored"}
