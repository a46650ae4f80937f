"""limit-release: what an input changes of the waits and their records, and why it changes nothing."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from schemas.event import DerivedEvent, Event
from schemas.ids import event_id
from schemas.reasons import Reason
from schemas.restoration import CreditRestored, HoldPlaced, PromiseMade, RestorationDelayed, RestorationParked
from schemas.risk import RiskAssessed
from schemas.risk import Tranche as Part
from services.decision import Decision, Malformed, Timer, TimerFired
from services.limit_release.domain import DECISION_DUE, HOLD_DUE, PROMISE_DUE, decide
from services.limit_release.model import Account, Journal, State, Tranche
from services.policy import Profiles
from tests import builders
from tests.unit.given import ALL_HELD, FRIDAY, Pipe, all_of, china, moment, only, profiles

TUESDAY = china("2026-11-24", "09:00")
OPENED = builders.account_opened(credit_limit_minor=600_000)
BOUGHT = builders.purchase_posted(amount_minor=550_000)
POLICY = profiles({"promise.clear_seconds": 90, "promise.hold_slack_seconds": 120})
SPENDABLE = profiles({"credit_balance_spendable": True})
R = builders.REPAYMENT


def after(*events: Event | TimerFired, policy: Profiles = POLICY, now: Any = FRIDAY) -> Decision[State]:
    decision = Decision(State(Account(builders.ACCOUNT)))
    for event in events:
        decision = decide(policy, decision.state, event, moment(now))
    return decision


def fired(kind: str, number: int, at: Any = FRIDAY, ref: str = R) -> TimerFired:
    return TimerFired(builders.ACCOUNT, Timer(builders.ACCOUNT, kind, ref, number, at))


def limited(hour: int) -> Event:
    at = FRIDAY + timedelta(hours=hour)
    return builders.credit_limit_changed(credit_limit_minor=600_000 - hour, occurred_at=at)


def standing(status: str, hour: int) -> Event:
    return builders.account_status_changed(status=status, occurred_at=FRIDAY + timedelta(hours=hour))


@pytest.mark.parametrize(
    ("events", "outcome", "reason"),
    [
        ((BOUGHT,), "parked", Reason.ACCOUNT_UNKNOWN),
        ((OPENED, OPENED), "stale", "opened_before"),
        ((OPENED, builders.authorisation_placed(), builders.authorisation_placed()), "stale", "authorised_before"),
        ((OPENED, BOUGHT, BOUGHT), "stale", "booked_before"),
        ((OPENED, fired(HOLD_DUE, 1)), "stale", "over_before"),
        ((OPENED, BOUGHT, builders.risk_assessed(), fired(HOLD_DUE, 9)), "stale", "over_before"),
        ((OPENED, BOUGHT, builders.risk_assessed(), fired(HOLD_DUE, 2)), "stale", "not_due"),
        ((OPENED, limited(2), limited(1)), "stale", "older_limit"),
        ((OPENED, standing("frozen", 2), standing("active", 1)), "stale", "older_status"),
        ((OPENED, builders.contact_point_changed()), "ignored", ""),
    ],
)
def test_what_changes_nothing_says_why(events: tuple[Event, ...], outcome: str, reason: str) -> None:
    decision = after(*events)
    assert (decision.outcome, decision.reason) == (outcome, reason)
    assert decision.state == (after(*events[:-1]).state if events[:-1] else State(Account(builders.ACCOUNT)))


def test_an_opened_account_wakes_what_waits_for_it_and_follows_the_profiles_word_on_the_balance() -> None:
    opened = after(OPENED, policy=SPENDABLE)
    assert (opened.wakes, opened.state.account.spendable) == (True, True)
    assert opened.state.account.journals == (Journal("OPEN", OPENED.event_id, available_minor=600_000),)
    changed = decide(profiles(), opened.state, BOUGHT, moment(FRIDAY)).state.account
    assert (changed.spendable, changed.used_debt_minor) == (False, 550_000)
    with pytest.raises(Malformed) as refused:
        after(OPENED, builders.purchase_posted(currency="USD"))
    assert str(refused.value) == "currency_mismatch"


def test_charges_under_total_are_booked_by_their_own_name() -> None:
    charge = builders.charges_accrued(penalty_minor=1, fee_minor=2, interest_minor=3)
    account = after(OPENED, charge, policy=profiles({"limit_basis": "TOTAL"})).state.account
    assert account.journals[-1] == Journal("CHARGE", charge.event_id, available_minor=-6, used_debt_minor=6)


def test_every_fact_names_what_caused_it_and_a_verdicts_record_the_inputs_of_that_verdict() -> None:
    verdict = builders.risk_assessed(inputs_digest="a" * 32)
    told = after(OPENED, BOUGHT, verdict)
    assert {fact.caused_by for fact in all_of(told.events, DerivedEvent)} == {verdict.event_id}
    assert {hold.record.inputs_digest for hold in all_of(told.events, HoldPlaced)} == {"a" * 32}
    timer = fired(HOLD_DUE, 2, TUESDAY)
    ended = only(decide(POLICY, told.state, timer, moment(TUESDAY)).events, CreditRestored)
    assert ended.caused_by == event_id("TimerFired", f"hold_due:{R}:2")
    assert ended.record.inputs_digest is None


def test_r24_a_replay_that_makes_a_repayment_credit_balance_lets_it_pay_debt_under_the_replays_name() -> None:
    part = Part(1, 500_000, FRIDAY, Reason.RELEASE_FINAL_RAIL)
    moved = builders.repayments_reallocated(reallocated=((R, -10_000, 10_000),))
    account = after(OPENED, BOUGHT, builders.risk_assessed(tranches=(part,)), moved).state.account
    assert account.journals[-2:] == (
        Journal("REALLOCATE", f"{moved.event_id}:{R}", available_minor=-10_000, used_debt_minor=10_000),
        Journal("ABSORB", moved.event_id, available_minor=10_000, used_debt_minor=-10_000),
    )


def held() -> Pipe:
    pipe = Pipe(POLICY).open(600_000, principal=550_000)
    pipe.repay(500_000, rail="direct_debit")
    return pipe


def test_what_was_assessed_and_restored_is_kept_as_it_was_said() -> None:
    pipe = held()
    repayment, verdict = pipe.repayment("r1"), only(pipe.events, RiskAssessed)
    assert (repayment.clear_seconds, repayment.hold_slack_seconds) == (90, 120)
    assert (repayment.faster, repayment.revision) == (verdict.faster, 0)
    assert verdict.faster
    restored = only(pipe.events, CreditRestored)
    assert restored.record.promised_by == restored.promised_by == restored.restored_at + timedelta(seconds=90)
    assert (repayment.tranches[1].restored_at, repayment.tranches[1].delayed) == (restored.restored_at, False)
    assert {timer.account_id for timer in pipe.timers.values()} == {builders.ACCOUNT}
    later = only(pipe.pass_until(TUESDAY), CreditRestored)
    assert later.record.promised_by == later.promised_by == TUESDAY + timedelta(seconds=120)
    assert pipe.repayment("r1").tranches[2].restored_at == TUESDAY


def test_a_missed_promise_is_told_with_its_date_once() -> None:
    pipe = held()
    ref, late = pipe.repayment("r1").repayment_id, TUESDAY + timedelta(seconds=120)
    told = decide(POLICY, pipe.credit, fired(PROMISE_DUE, 2, late, ref), moment(late))
    assert only(told.events, RestorationDelayed).record.promised_by == late
    again = decide(POLICY, told.state, fired(PROMISE_DUE, 2, late, ref), moment(late))
    assert (again.outcome, again.reason) == ("stale", "told_before")


def test_r27_a_decision_is_owed_by_a_date_and_missed_once() -> None:
    settled = builders.repayment_settled(credit_balance_minor=7, amount_minor=500_007)
    decision = after(OPENED, BOUGHT, settled)
    due_at = settled.settled_at + timedelta(seconds=90)
    assert decision.timers == (Timer(builders.ACCOUNT, DECISION_DUE, R, 0, due_at),)
    owed = decision.state.repayments[R]
    assert (owed.repaid_at, owed.credit_balance_minor) == (settled.repaid_at, 7)
    moved = builders.repayments_reallocated(reallocated=((R, -10_000, 0),))
    state = decide(POLICY, decision.state, moved, moment(FRIDAY)).state
    late = decide(POLICY, state, fired(DECISION_DUE, 0, due_at), moment(due_at))
    record = only(late.events, RestorationDelayed).record
    assert (record.promised_by, record.late_minor, record.repaid_at) == (due_at, 490_000, settled.repaid_at)
    again = decide(POLICY, late.state, fired(DECISION_DUE, 0, due_at), moment(due_at))
    assert (again.outcome, again.reason) == ("stale", "decided_before")


def test_what_is_closed_is_owed_nothing_and_what_waits_lapses() -> None:
    closed = builders.account_status_changed(status="closed")
    assert after(OPENED, BOUGHT, closed, builders.repayment_settled()).reason == "no_decision_owed"
    lapsed = after(OPENED, BOUGHT, closed, builders.risk_assessed()).state.repayments[R].tranches
    assert lapsed == {1: Tranche(R, 1, 500_000, "lapsed", FRIDAY, Reason.ACCOUNT_CLOSED, FRIDAY)}
    pipe = held()
    pipe.status("closed")
    reasons = {tranche.reason for tranche in pipe.repayment("r1").tranches.values() if tranche.state == "lapsed"}
    assert reasons == {Reason.ACCOUNT_CLOSED}


def test_what_is_parked_at_once_has_its_first_promise_at_the_thaw() -> None:
    pipe = Pipe(POLICY).open(600_000, principal=550_000)
    pipe.status("frozen", "overdue")
    record = all_of(pipe.repay(500_000, rail="direct_debit"), RestorationParked)[0].record
    assert (record.outcome, record.reasons[0], record.parked_minor) == ("parked", Reason.ACCOUNT_OVERDUE, 500_000)
    assert {tranche.promises for tranche in pipe.repayment("r1").tranches.values()} == {0}
    promises = all_of(pipe.status("active", now=FRIDAY + timedelta(hours=3)), PromiseMade)
    assert [promise.revision for promise in promises] == [0, 0, 0]


@pytest.mark.parametrize("waits", ["r1", "r2"])
def test_r23_a_thaw_restores_what_waits_whichever_repayment_it_is_and_leaves_the_others_alone(waits: str) -> None:
    pipe = Pipe(POLICY).open(600_000, principal=550_000)
    (other,) = {"r1", "r2"} - {waits}
    pipe.repay(10_000, ref=other)
    pipe.status("frozen")
    pipe.repay(20_000, ref=waits)
    before = pipe.repayment(other)
    assert not all_of(pipe.status("frozen", "overdue"), CreditRestored), "still frozen, for another reason"
    assert only(pipe.status("active"), CreditRestored).amount_minor == 20_000
    assert pipe.repayment(other) == before


def test_r23_what_a_thaw_frees_is_told_with_what_it_restores_and_not_with_what_it_only_holds_again() -> None:
    pipe = Pipe(profiles(ALL_HELD)).open(600_000, principal=550_000)
    pipe.status("frozen")
    pipe.repay(10_000, ref="held", rail="direct_debit")
    pipe.repay(20_000, ref="back")
    facts = pipe.status("active")
    restored, again = only(facts, CreditRestored).record, only(facts, HoldPlaced).record
    assert (restored.available_before_minor, restored.available_credit_minor, restored.together) == (0, 70_000, None)
    assert (again.available_before_minor, again.available_credit_minor, again.together) == (70_000, 70_000, None)
    assert (restored.other_minor, again.other_minor) == (0, 0)


def test_a_newer_verdict_is_kept_with_what_it_pinned() -> None:
    newer = builders.risk_assessed(
        revision=1, reasons=(Reason.RELEASE_VERIFIED_ACCOUNT,), faster=("within_cap",), policy_version="p@2",
        model_version="m-2", calendar_version="c@2",
        tranches=(Part(2, 200_000, FRIDAY + timedelta(hours=1), Reason.RELEASE_VERIFIED_ACCOUNT),),
    )  # fmt: skip
    kept = after(OPENED, BOUGHT, builders.risk_assessed(), newer).state.repayments[R]
    assert (kept.revision, kept.reasons, kept.faster) == (1, newer.reasons, newer.faster)
    assert (kept.policy_version, kept.model_version, kept.calendar_version) == ("p@2", "m-2", "c@2")
    assert (kept.tranches[2].until, kept.tranches[2].promises) == (FRIDAY + timedelta(hours=1), 2)


def test_of_a_newer_verdict_what_is_due_now_is_restored_and_what_is_earlier_is_promised_anew() -> None:
    soon = FRIDAY + timedelta(hours=1)
    parts = (Part(2, 200_000, FRIDAY, Reason.RELEASE_VERIFIED_ACCOUNT), Part(3, 200_000, soon, Reason.RELEASE_TIMER))
    told = after(OPENED, BOUGHT, builders.risk_assessed(), builders.risk_assessed(revision=1, tranches=parts))
    restored, hold = only(told.events, CreditRestored), only(told.events, HoldPlaced)
    assert (restored.tranche, restored.amount_minor, restored.available_credit_minor) == (2, 200_000, 250_000)
    assert (hold.tranche, hold.until, only(told.events, PromiseMade).tranche) == (3, soon, 3)
    assert (hold.record.available_before_minor, hold.record.other_minor) == (250_000, 0), "told with the restoration"
    assert [(timer.kind, timer.number, timer.due_at) for timer in told.timers] == [(HOLD_DUE, 3, soon)]


@pytest.mark.parametrize(("seconds", "delayed"), [(120, 0), (121, 1)])
def test_a_promise_is_kept_to_its_last_instant(seconds: int, delayed: int) -> None:
    pipe = held()
    pipe.timers = {key: timer for key, timer in pipe.timers.items() if timer.kind == HOLD_DUE}
    facts = pipe.sleep_until(TUESDAY + timedelta(seconds=seconds))
    assert len(all_of(facts, CreditRestored)) == 1
    assert len(all_of(facts, RestorationDelayed)) == delayed
    assert pipe.repayment("r1").tranches[2].delayed is bool(delayed)


def test_a_promise_without_slack_is_broken_by_us_at_its_very_instant() -> None:
    state = after(OPENED, BOUGHT, builders.risk_assessed(hold_slack_seconds=0)).state
    until = builders.FIRST_HOLD_UNTIL
    told = only(decide(POLICY, state, fired(PROMISE_DUE, 2, until), moment(until)).events, RestorationDelayed)
    assert (told.cause, told.record.reasons) == ("system_delay.processing", (Reason.DELAY_SYSTEM,))


def test_r23_a_hold_that_is_parked_says_why_and_its_new_promise_is_not_the_broken_one() -> None:
    pipe = held()
    pipe.status("frozen", "overdue")
    pipe.timers = {key: timer for key, timer in pipe.timers.items() if timer.number == 2}
    late = TUESDAY + timedelta(seconds=120)
    assert only(pipe.pass_until(late), RestorationParked).record.reasons == (Reason.ACCOUNT_OVERDUE,)
    assert pipe.repayment("r1").tranches[2].delayed
    assert not all_of(pipe.status("active", now=late), RestorationDelayed)
    assert pipe.repayment("r1").tranches[2].delayed is False


def approved(pipe: Pipe, amount: int) -> Decision[State]:
    event = builders.hold_release_approved(repayment_id=pipe.repayment("r1").repayment_id, amount_minor=amount)
    return decide(POLICY, pipe.credit, event, moment(pipe.now))


def test_e05_a_part_of_an_extended_hold_is_promised_for_the_first_time_and_all_of_it_is_no_part() -> None:
    pipe = held()
    r1 = pipe.repayment("r1").repayment_id
    pipe.take(builders.hold_extended(repayment_id=r1, until=china("2026-11-25", "09:00")))
    part = approved(pipe, 50_000)
    assert (only(part.events, PromiseMade).tranche, only(part.events, PromiseMade).revision) == (4, 0)
    assert only(part.events, HoldPlaced).record == only(part.events, CreditRestored).record
    whole = approved(pipe, 200_000)
    assert (only(whole.events, CreditRestored).tranche, len(whole.state.repayments[r1].tranches)) == (2, 3)


def test_r23_a_part_approved_while_frozen_is_parked_and_its_promise_is_asked_for() -> None:
    pipe = held()
    pipe.status("frozen")
    part = approved(pipe, 50_000)
    r1, by = pipe.repayment("r1").repayment_id, TUESDAY + timedelta(seconds=120)
    assert part.timers == (Timer(builders.ACCOUNT, PROMISE_DUE, r1, 4, by),)
    assert part.state.repayments[r1].tranches[4].state == "parked"


@pytest.mark.parametrize(("seconds", "reason"), [(0, ""), (1, "beyond_the_longest_hold")])
def test_a_hold_is_extended_to_the_longest_one_and_no_further(seconds: int, reason: str) -> None:
    pipe = held()
    rules = POLICY.of("default")
    last = rules.banking_day(FRIDAY) + timedelta(days=rules.hold["REVERSIBLE"].max_calendar_days)
    until = rules.release_at(last) + timedelta(seconds=seconds)
    event = builders.hold_extended(repayment_id=pipe.repayment("r1").repayment_id, until=until)
    assert decide(POLICY, pipe.credit, event, moment(FRIDAY)).reason == reason


@pytest.mark.parametrize(("late_ms", "delayed"), [(0, 0), (1, 1)])
def test_what_is_restored_at_once_keeps_its_promise_to_the_last_instant(late_ms: int, delayed: int) -> None:
    verdict = builders.risk_assessed(clear_seconds=90)
    by = verdict.settled_at + timedelta(seconds=90)
    now = by + timedelta(milliseconds=late_ms)
    told = after(OPENED, BOUGHT, verdict, now=now)
    assert (only(told.events, CreditRestored).promised_by, len(all_of(told.events, RestorationDelayed))) == (
        by,
        delayed,
    )
    assert told.state.repayments[R].tranches[1].delayed is bool(delayed)


def test_what_is_restored_is_told_before_what_is_held_whichever_part_it_is() -> None:
    parts = (
        Part(1, 400_000, TUESDAY, Reason.HOLD_RAIL_REVERSIBLE),
        Part(2, 100_000, FRIDAY, Reason.RELEASE_WITHIN_CAP),
    )
    told = after(OPENED, BOUGHT, builders.risk_assessed(tranches=parts)).events
    assert [type(fact) for fact in told] == [PromiseMade, PromiseMade, CreditRestored, HoldPlaced]
    assert [fact.tranche for fact in all_of(told, PromiseMade)] == [2, 1]


def test_a_thaw_writes_one_record_of_what_it_gives_back() -> None:
    pipe = Pipe(profiles()).open(600_000, principal=550_000)
    pipe.status("frozen")
    pipe.repay(10_000)
    pipe.status("active")
    assert [record.outcome for record in pipe.repayment("r1").records] == ["parked", "restored"]


def test_what_is_held_again_tells_the_newest_of_many_records() -> None:
    pipe = Pipe(profiles(ALL_HELD)).open(600_000, principal=550_000)
    pipe.status("frozen")
    pipe.repay(10_000, rail="direct_debit")
    known = pipe.repayment("r1")
    state = pipe.credit.put(replace(known, records=known.records * 2))
    told = decide(pipe.policy, state, builders.account_status_changed(status="active"), moment(pipe.now))
    records = told.state.repayments[known.repayment_id].records
    assert (only(told.events, HoldPlaced).record, len(records)) == (records[-1], 3)
